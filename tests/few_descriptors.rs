//! A client that may open 64 descriptors uses any number of segments: it closes each as soon as it is mapped. The limit is that
//! of the whole process, so this test is alone in its program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::{Daemon, RawPeer, Watchdog, connect, id, process, put};

const DESCRIPTORS: u64 = 64;
const SEGMENTS: u64 = 200;

#[test]
fn a_client_with_64_descriptors_maps_200_segments() {
    let _watchdog = Watchdog::new("a_client_with_64_descriptors_maps_200_segments");
    let daemon = Daemon::start(64 << 20);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, most).unwrap();
    // What each of them leaves lies in a segment that it alone wrote.
    for n in 0..SEGMENTS {
        put(&connect(&daemon.socket()), id(n), &[n as u8; 100]);
    }
    let client = connect(&daemon.socket());
    let before = process::descriptors(std::process::id());
    let all: Vec<_> = (0..SEGMENTS).map(id).collect();
    let got = client.get(&all, 0, Default::default()).unwrap();
    for (n, buffer) in (0..SEGMENTS).zip(&got) {
        let mut bytes = [0; 100];
        buffer.as_ref().unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [n as u8; 100]);
    }
    assert_eq!(process::descriptors(std::process::id()), before, "descriptors of mapped segments are closed");
    let mut peer = RawPeer::pulling(&daemon.socket());
    let segments: Vec<i32> = all.iter().map(|id| peer.place(*id).segment).collect();
    assert!(segments.windows(2).all(|two| two[0] != two[1]), "{segments:?}");
    // It writes as well: objects too large for one segment of its own.
    for n in 0..10 {
        put(&client, id(SEGMENTS + n), &vec![7; 3 << 20]);
    }
    assert_eq!(
        process::descriptors(std::process::id()),
        before + 2,
        "the peer's socket, and the door of the ring that this client writes by"
    );
}
