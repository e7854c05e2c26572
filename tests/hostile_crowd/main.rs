//! Peers in great numbers that lie, stall, flood and leave. Old Plasma's store died of one wrong byte from anybody, blocked for
//! all while one frame was incomplete, and kept what nobody read. Here whoever does nothing wrong is served throughout, and
//! nothing is left when the others are gone: no descriptor, no byte of an object, no memory.
//!
//! `make soak` plays more of each (docs/testing.md).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod frames;
mod healthy;
#[path = "../support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use frames::{conversation, cut_off, damage, random_frame, say_in_threads};
use healthy::{Rest, beside_healthy_peers};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use plasma_store::protocol::frame::{Dialect, encode};
use plasma_store::protocol::{Reply, Request};
use support::{Daemon, Random, RawPeer, Watchdog, eventually, id, process, progress, times};

const MEBIBYTE: u64 = 1 << 20;

/// Many connections that say what `each` makes up, and leave without listening.
fn attack_with(what: &str, count: u64, each: impl Fn(&mut Random) -> Vec<u8> + Sync) {
    let mut daemon = Daemon::start(16 * MEBIBYTE);
    let rest = Rest::of(&mut daemon);
    let socket = daemon.socket();
    beside_healthy_peers(&daemon, &format!("{count} {what}"), || say_in_threads(&socket, count, each));
    rest.check(&mut daemon);
}

#[test]
fn random_frames_are_survived() {
    let _watchdog = Watchdog::new("random_frames_are_survived");
    attack_with("random frames", times(100_000, 1_000_000), random_frame);
}

#[test]
fn damaged_frames_are_survived() {
    let _watchdog = Watchdog::new("damaged_frames_are_survived");
    attack_with("damaged frames", times(100_000, 1_000_000), |random| {
        conversation(random, |random, frame| damage(random, frame))
    });
}

#[test]
fn frames_without_an_end_are_survived() {
    let _watchdog = Watchdog::new("frames_without_an_end_are_survived");
    attack_with("frames without an end", times(10_000, 100_000), |random| conversation(random, cut_off));
}

/// Lets this process have as many descriptors as it may, and those it starts.
fn raise_descriptor_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(most >= 3000, "these tests need 3000 descriptors; the hard limit (ulimit -Hn) is {most}");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

#[test]
fn half_a_frame_keeps_nobody_else_waiting_and_can_still_be_completed() {
    let _watchdog = Watchdog::new("half_a_frame_keeps_nobody_else_waiting_and_can_still_be_completed");
    raise_descriptor_limit();
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&mut daemon);
    let mut slow: Vec<(RawPeer, Vec<u8>)> = Vec::new();
    for n in 0..450 {
        let mut peer = RawPeer::old(&daemon.socket());
        let frame = peer.frame(&Request::Contains { id: id(1) });
        let cut = 1 + n % (frame.len() - 1);
        peer.stream.write_all(&frame[..cut]).unwrap();
        slow.push((peer, frame[cut..].to_vec()));
    }
    // And some that announce much and send little.
    let announced = encode(Dialect::Plasma, 9, 0, &vec![0; 60 << 20]);
    let liars: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    liars.iter().for_each(|mut liar| liar.write_all(&announced[..1000]).unwrap());
    beside_healthy_peers(&daemon, "500 connections with half a frame", || {
        for (peer, rest) in &mut slow {
            for byte in rest {
                peer.stream.write_all(&[*byte]).unwrap();
            }
            assert_eq!(peer.next(), Some(Reply::Contains { id: id(1), present: false }));
        }
    });
    drop((slow, liars));
    rest.check(&mut daemon);
}

/// Sends a request over and over, reading nothing, until the store does not take any more. Returns how often.
fn flood(peer: &mut RawPeer, request: &Request) -> u64 {
    peer.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut stuck) = (0, 0);
    while stuck < 50 {
        let frame = peer.frame(request);
        let mut rest = &frame[..];
        while !rest.is_empty() && stuck < 50 {
            match peer.stream.write(rest) {
                Ok(count) => (rest, stuck) = (&rest[count..], 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stuck += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("{error}"),
            }
        }
        sent += u64::from(rest.is_empty());
        if !rest.is_empty() && rest.len() < frame.len() {
            // Half a frame is in the socket: the rest has to follow when there is room.
            peer.stream.set_nonblocking(false).unwrap();
            let (mut stream, rest) = (peer.stream.try_clone().unwrap(), rest.to_vec());
            std::thread::spawn(move || stream.write_all(&rest));
            sent += 1;
        }
    }
    peer.stream.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_peer_that_reads_no_answers_costs_little_and_gets_them_all_in_the_end() {
    let _watchdog = Watchdog::new("a_peer_that_reads_no_answers_costs_little_and_gets_them_all_in_the_end");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&mut daemon);
    let mut maker = RawPeer::native(&daemon.socket());
    (0..100).for_each(|n| maker.put(id(n), 10));
    let memory = process::memory(daemon.pid());
    let all: Vec<_> = (0..100).map(id).collect();
    for request in [Request::List, Request::Get { ids: all, timeout_ms: 0 }] {
        let mut flooders: Vec<RawPeer> = (0..4).map(|_| RawPeer::native(&daemon.socket())).collect();
        let mut sent = Vec::new();
        beside_healthy_peers(&daemon, "peers that read no answers", || {
            sent = flooders.iter_mut().map(|peer| flood(peer, &request)).collect();
        });
        let grown = process::memory(daemon.pid()).saturating_sub(memory);
        assert!(grown <= 16 * MEBIBYTE, "the daemon's memory grew by {grown} bytes");
        for (peer, sent) in flooders.iter_mut().zip(sent) {
            (0..sent).for_each(|_| assert!(peer.next().is_some()));
            assert!(sent > 5, "only {sent} requests fitted");
        }
    }
    drop(maker);
    rest.check(&mut daemon);
}

#[test]
fn a_descriptor_that_cannot_be_sent_yet_waits_without_work() {
    let _watchdog = Watchdog::new("a_descriptor_that_cannot_be_sent_yet_waits_without_work");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&mut daemon);
    let mut peer = RawPeer::old(&daemon.socket());
    let sent = flood(&mut peer, &Request::Contains { id: id(1) });
    let create =
        Request::CreateAndSeal { id: id(1), evict_if_full: true, data: vec![7; 10], metadata: vec![], digest: [0; 8] };
    let get = Request::Get { ids: vec![id(1)], timeout_ms: -1 };
    let frames = [peer.frame(&create), peer.frame(&get)].concat();
    let mut stream = peer.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || stream.write_all(&frames).unwrap());
    // Once it has done what can be done, it does nothing.
    eventually(|| {
        let before = process::time(daemon.pid());
        std::thread::sleep(Duration::from_millis(300));
        process::time(daemon.pid()) == before
    });
    (0..sent).for_each(|_| assert_eq!(peer.next(), Some(Reply::Contains { id: id(1), present: false })));
    assert!(matches!(peer.next(), Some(Reply::CreateAndSeal { outcome: Ok(()) })));
    assert!(matches!(peer.next(), Some(Reply::Get { locations, .. }) if locations.len() == 1));
    assert_eq!(peer.descriptors.len(), 1);
    sending.join().unwrap();
    drop(peer);
    rest.check(&mut daemon);
}

#[test]
fn many_connections_in_a_row_and_at_once() {
    let _watchdog = Watchdog::new("many_connections_in_a_row_and_at_once");
    raise_descriptor_limit();
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&mut daemon);
    for n in 0..times(1000, 10_000) {
        let mut peer = RawPeer::old(&daemon.socket());
        assert!(!peer.contains(id(n)));
    }
    beside_healthy_peers(&daemon, "1000 connections at once", || {
        let mut peers: Vec<RawPeer> = (0..1000).map(|_| RawPeer::native(&daemon.socket())).collect();
        for (n, peer) in (0..).zip(&mut peers) {
            peer.put(id(n), 100);
        }
        peers.iter_mut().rev().for_each(|peer| assert!(peer.contains(id(250))));
    });
    rest.check(&mut daemon);
}

/// Sends bytes with twenty descriptors that nobody asked for.
fn send_with_descriptors(peer: &RawPeer, bytes: &[u8], descriptor: RawFd) {
    let rights = [ControlMessage::ScmRights(&[descriptor; 20])];
    let sent = sendmsg::<()>(peer.stream.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::empty(), None);
    assert_eq!(sent, Ok(bytes.len()));
}

#[test]
fn descriptors_sent_to_the_store_do_not_stay_there() {
    let _watchdog = Watchdog::new("descriptors_sent_to_the_store_do_not_stay_there");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&mut daemon);
    let count = times(300, 50_000);
    let file = File::open("/dev/null").unwrap();
    beside_healthy_peers(&daemon, &format!("{} descriptors nobody asked for", 40 * count), || {
        let mut peers = [RawPeer::old(&daemon.socket()), RawPeer::native(&daemon.socket())];
        peers.iter_mut().for_each(|peer| assert!(!peer.contains(id(1))));
        for n in 0..count {
            for peer in &mut peers {
                let frame = peer.frame(&Request::Contains { id: id(1) });
                send_with_descriptors(peer, &frame, file.as_raw_fd());
                assert_eq!(peer.next(), Some(Reply::Contains { id: id(1), present: false }));
            }
            progress(n, count, "floods of descriptors");
        }
        // A rest that never comes, with descriptors too.
        let frame = peers[0].frame(&Request::Contains { id: id(1) });
        send_with_descriptors(&peers[0], &frame[..20], file.as_raw_fd());
        let held = process::descriptors(daemon.pid());
        assert!(held < 40, "the daemon has {held} descriptors");
    });
    rest.check(&mut daemon);
}
