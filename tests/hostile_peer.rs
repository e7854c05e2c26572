//! Peers that break the protocol, one rule at a time. Old Plasma's store died of one wrong byte from anybody; each of those
//! days is a test here. The daemon must close the connection of whoever breaks the protocol, and serve everybody else.
//! Those who come in great numbers are in `hostile_crowd`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use plasma_store::protocol::frame::{Dialect, encode};
use plasma_store::protocol::{Refusal, Reply, Request};
use support::{Daemon, RawPeer, Watchdog, eventually, id, process, store};

const MEBIBYTE: u64 = 1 << 20;

#[test]
fn lengths_and_versions_that_cannot_be_end_that_connection() {
    let _watchdog = Watchdog::new("lengths_and_versions_that_cannot_be_end_that_connection");
    let daemon = Daemon::start(MEBIBYTE);
    let mut witness = RawPeer::old(&daemon.socket());
    let headers = [[0, 9, -1], [0, 9, i64::MIN], [0, 9, i64::MAX], [0, 9, (64 << 20) + 1], [1, 17, 0], [-1, 17, 0]];
    for words in headers {
        let mut peer = RawPeer::old(&daemon.socket());
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        peer.stream.write_all(&header).unwrap();
        peer.expect_end();
    }
    for words in [[0, 17, 0, 1], [1, 17, -1, 1], [2, 17, 0, 1]] {
        let mut peer = RawPeer::native(&daemon.socket());
        let header: Vec<u8> = words.iter().flat_map(|word: &i64| word.to_le_bytes()).collect();
        peer.stream.write_all(&header).unwrap();
        peer.expect_end();
    }
    assert!(!witness.contains(id(1)));
}

#[test]
fn the_log_says_for_what_a_connection_was_closed() {
    let _watchdog = Watchdog::new("the_log_says_for_what_a_connection_was_closed");
    let log = tempfile::NamedTempFile::new().unwrap();
    let daemon = Daemon::start_with(MEBIBYTE, |command| {
        command.stderr(log.reopen().unwrap());
    });
    for words in [[0, 9, -1234], [77_001, 17, 0], [0, 88_002, 0]] {
        let mut peer = RawPeer::old(&daemon.socket());
        let header: Vec<u8> = words.iter().flat_map(|word: &i64| word.to_le_bytes()).collect();
        peer.stream.write_all(&header).unwrap();
        peer.expect_end();
    }
    for number in ["-1234", "77001", "88002"] {
        eventually(|| {
            let said = std::fs::read_to_string(log.path()).unwrap();
            said.lines().filter(|line| line.contains(number)).count() == 1
        });
    }
}

#[test]
fn defect_1_what_is_wrong_in_a_message_ends_its_sender_only() {
    let _watchdog = Watchdog::new("defect_1_what_is_wrong_in_a_message_ends_its_sender_only");
    let daemon = Daemon::start(MEBIBYTE);
    let mut witness = RawPeer::old(&daemon.socket());
    witness.create(id(1), 10).unwrap();
    // Types that are none, or not a client's to send, or not served.
    for message_type in [-1, 2, 12, 20, 24, 25, 27, 36, 99, i64::MAX] {
        for mut peer in [RawPeer::old(&daemon.socket()), RawPeer::native(&daemon.socket())] {
            let frame = encode(peer.dialect, message_type, 5, &[]);
            peer.stream.write_all(&frame).unwrap();
            peer.expect_end();
        }
    }
    let (seal, mut body) = Request::Seal { id: id(1), digest: [9; 8] }.encode();
    let digest = body.windows(12).rposition(|bytes| bytes == [8, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]).unwrap();
    body[digest] = 7;
    let mut peer = RawPeer::old(&daemon.socket());
    peer.stream.write_all(&encode(Dialect::Plasma, seal, 0, &body)).unwrap();
    peer.expect_end();
    // Wrong ids and sizes have answers.
    let mut peer = RawPeer::old(&daemon.socket());
    assert_eq!(peer.seal(id(77)), Err(Refusal::ObjectNotFound));
    peer.release(id(77));
    peer.release(id(1));
    assert_eq!(peer.create(id(2), -1).unwrap_err().refusal, Refusal::OutOfMemory);
    assert_eq!(peer.create(id(2), i64::MIN).unwrap_err().refusal, Refusal::OutOfMemory);
    peer.send(&Request::Abort { id: id(1) });
    peer.expect_end();
    assert_eq!(witness.seal(id(1)), Ok(()));
}

#[test]
fn defects_3_and_4_duplicates_are_waited_for_and_waiting_gets_may_be_left() {
    let _watchdog = Watchdog::new("defects_3_and_4_duplicates_are_waited_for_and_waiting_gets_may_be_left");
    let mut daemon = Daemon::start(MEBIBYTE);
    let (mut maker, mut reader) = (RawPeer::old(&daemon.socket()), RawPeer::old(&daemon.socket()));
    maker.put(id(1), 10);
    reader.send(&Request::Get { ids: vec![id(1), id(1), id(2)], timeout_ms: -1 });
    reader.send(&Request::Get { ids: vec![id(2), id(2)], timeout_ms: -1 });
    assert!(!reader.contains(id(2)), "the gets wait, and the contains is answered first");
    let mut leaver = RawPeer::old(&daemon.socket());
    (0..3).for_each(|_| leaver.send(&Request::Get { ids: vec![id(2), id(3)], timeout_ms: -1 }));
    leaver.contains(id(1));
    drop(leaver);
    maker.put(id(2), 10);
    for length in [3, 2] {
        match reader.next() {
            Some(Reply::Get { locations, .. }) => assert!(locations.len() == length && !locations.contains(&None)),
            other => panic!("{other:?}"),
        }
    }
    daemon.check_healthy();
}

#[test]
fn defects_5_and_6_a_failing_create_evicts_nobody_and_no_mark_outlives_its_object() {
    let _watchdog = Watchdog::new("defects_5_and_6_a_failing_create_evicts_nobody_and_no_mark_outlives_its_object");
    let daemon = Daemon::start(MEBIBYTE);
    let mut peer = RawPeer::old(&daemon.socket());
    peer.put(id(1), 1000);
    assert_eq!(peer.create(id(2), MEBIBYTE as i64 + 1).unwrap_err().refusal, Refusal::OutOfMemory);
    assert!(peer.contains(id(1)));
    peer.create(id(3), 10).unwrap();
    let reply = peer.ask(&Request::Delete { ids: vec![id(3)] });
    assert_eq!(reply, Reply::Delete { ids: vec![id(3)], outcomes: vec![Err(Refusal::ObjectNotSealed)] });
    assert!(matches!(peer.ask(&Request::Abort { id: id(3) }), Reply::Abort { .. }));
    peer.put(id(3), 10);
    assert_eq!(peer.get(&[id(3)]), [true]);
    peer.release(id(3));
    assert!(peer.contains(id(3)));
}

#[test]
fn defects_17_and_18_pinned_bytes_return_to_zero_and_only_creators_seal() {
    let _watchdog = Watchdog::new("defects_17_and_18_pinned_bytes_return_to_zero_and_only_creators_seal");
    let daemon = Daemon::start(MEBIBYTE);
    let (mut maker, mut other) = (RawPeer::native(&daemon.socket()), RawPeer::old(&daemon.socket()));
    maker.create(id(1), 100).unwrap();
    maker.create(id(2), 100).unwrap();
    assert_eq!(other.seal(id(1)), Err(Refusal::ObjectNotFound));
    assert_eq!(other.figure("pinned bytes"), 200);
    maker.ask(&Request::Abort { id: id(2) });
    maker.seal(id(1)).unwrap();
    maker.ask(&Request::Delete { ids: vec![id(1)] });
    maker.create(id(3), 100).unwrap();
    maker.release(id(1));
    assert!(!maker.contains(id(1)));
    drop(maker);
    eventually(|| other.figure("allocated bytes") == 0);
    assert_eq!(other.figure("pinned bytes"), 0);
}

/// Descriptors of this process, with what they stand for, that a program which it starts would get.
fn inheritable() -> Vec<(i32, PathBuf)> {
    let numbers =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let named = numbers.filter_map(|number| {
        let number: i32 = number.parse().unwrap();
        // SAFETY: it only reads a number, and one that is closed by now is an error.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        (flags != -1 && flags & libc::FD_CLOEXEC == 0).then_some((number, target))
    });
    named.collect()
}

#[test]
fn defect_20_programs_that_a_store_starts_get_none_of_its_descriptors() {
    let _watchdog = Watchdog::new("defect_20_programs_that_a_store_starts_get_none_of_its_descriptors");
    let inherited = inheritable();
    // One in this process: nobody but root may look at those of a daemon.
    let store = store(MEBIBYTE);
    let mut peer = RawPeer::old(store.socket());
    peer.put(id(1), 10);
    let mut reader = RawPeer::native(store.socket());
    assert_eq!(reader.ask(&Request::Index { mapped: false }), Reply::Index { outcome: Ok(true) });
    assert!(matches!(reader.ask(&Request::NativeSubscribe { skip_existing: false }), Reply::NativeSubscribe { .. }));
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    assert!(
        open.filter(|target| target.starts_with("/memfd:plasma_store (deleted)")).count() >= 2,
        "the store's and ours"
    );
    assert_eq!(inheritable(), inherited);
}

#[test]
fn without_descriptors_left_the_daemon_refuses_and_neither_spins_nor_ends() {
    let _watchdog = Watchdog::new("without_descriptors_left_the_daemon_refuses_and_neither_spins_nor_ends");
    let mut daemon = Daemon::start_with(MEBIBYTE, |command| {
        // SAFETY: `setrlimit` is async-signal-safe.
        unsafe { command.pre_exec(|| setrlimit(Resource::RLIMIT_NOFILE, 64, 64).map_err(Into::into)) };
    });
    let mut first = RawPeer::native(&daemon.socket());
    first.put(id(1), 10);
    let mut crowd: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    assert!(first.contains(id(1)));
    let before = process::time(daemon.pid());
    std::thread::sleep(Duration::from_secs(1));
    let spent = process::time(daemon.pid()) - before;
    assert!(spent < 50, "{spent} hundredths of a second of work while nothing happened");
    // The first ones are served, the last ones were told that they are not.
    assert_eq!(crowd[199].read(&mut [0; 8]).unwrap_or(0), 0);
    assert!(first.contains(id(1)));
    drop(crowd);
    drop(first);
    daemon.descriptors_at_rest();
    daemon.check_healthy();
}

#[test]
fn native_peers_break_their_rules_too() {
    let _watchdog = Watchdog::new("native_peers_break_their_rules_too");
    let daemon = Daemon::start(MEBIBYTE);
    let mut twice = RawPeer::native(&daemon.socket());
    twice.send(&Request::Connect { abilities: 1 });
    twice.expect_end();
    let mut peer = RawPeer::native(&daemon.socket());
    for number in [0, 1, 5, u64::MAX] {
        peer.send(&Request::Cancel { number });
    }
    assert!(!peer.contains(id(1)), "a cancel of nothing is nothing");
    peer.put(id(1), 10);
    for _ in 0..20_000 {
        peer.release(id(1));
        peer.release(id(2));
    }
    assert_eq!(peer.get(&[id(1)]), [true]);
    let mut witness = RawPeer::native(&daemon.socket());
    let reply = witness.ask(&Request::Delete { ids: vec![id(1)] });
    assert_eq!(reply, Reply::Delete { ids: vec![id(1)], outcomes: vec![Err(Refusal::ObjectInUse)] });
}

#[test]
fn defect_7_the_segments_key_stays_and_its_descriptor_comes_once_to_each() {
    let _watchdog = Watchdog::new("defect_7_the_segments_key_stays_and_its_descriptor_comes_once_to_each");
    let daemon = Daemon::start(MEBIBYTE);
    let mut keys = BTreeSet::new();
    for round in 0..20 {
        let mut peer = RawPeer::old(&daemon.socket());
        // Each time all memory is given back, once the store has noticed that the one before is gone.
        eventually(|| peer.figure("pinned bytes") == 0);
        peer.ask(&Request::Evict { bytes: u64::MAX });
        for n in 0..3 {
            let name = id(10 * round + n);
            keys.insert(peer.create(name, 300_000).unwrap().segment);
            peer.seal(name).unwrap();
            match peer.ask(&Request::Get { ids: vec![name], timeout_ms: -1 }) {
                Reply::Get { segments, .. } => keys.extend(segments.iter().map(|segment| segment.key)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(peer.descriptors.len(), 1);
    }
    assert_eq!(keys.len(), 1, "{keys:?}");
}

#[test]
fn defect_16_whoever_writes_everywhere_spoils_bytes_of_objects_and_nothing_else() {
    let _watchdog = Watchdog::new("defect_16_whoever_writes_everywhere_spoils_bytes_of_objects_and_nothing_else");
    let mut daemon = Daemon::start(MEBIBYTE);
    let mut vandal = RawPeer::old(&daemon.socket());
    (0..20).for_each(|n| vandal.put(id(n), 10_000));
    let memory = File::from(vandal.descriptors.pop_front().unwrap());
    let length = memory.metadata().unwrap().len();
    let noise = vec![0xff; MEBIBYTE as usize];
    (0..length.div_ceil(MEBIBYTE)).for_each(|n| {
        let end = (length - n * MEBIBYTE).min(MEBIBYTE) as usize;
        memory.write_all_at(&noise[..end], n * MEBIBYTE).unwrap();
    });
    let mut peer = RawPeer::old(&daemon.socket());
    assert_eq!(peer.check_rest(), 200_000);
    let deleted = peer.ask(&Request::Delete { ids: (0..20).map(id).collect() });
    assert!(matches!(deleted, Reply::Delete { outcomes, .. } if outcomes.iter().all(Result::is_ok)));
    peer.put(id(100), MEBIBYTE as i64);
    assert_eq!(peer.check_rest(), MEBIBYTE);
    daemon.check_healthy();
}
