//! Subscriptions of old clients: the one descriptor that the store takes from a peer, and what is written to it.
//!
//! In old Plasma a second subscription put the stream out of step and ended the store, a socket closed twice cut off
//! somebody else's connection, a full one ended the store, and events for a subscriber that did not read piled up for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::SndBuf;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt};
use plasma_store::protocol::notification::{self, Event};
use plasma_store::protocol::{InlineObject, Reply, Request};
use support::{Daemon, RawPeer, Watchdog, id};

/// Subscribes as old clients do: the request, then a byte with the socket.
fn subscribe(peer: &mut RawPeer, descriptors: &[BorrowedFd<'_>]) {
    peer.send(&Request::Subscribe);
    send_descriptors(peer, descriptors);
}

fn send_descriptors(peer: &RawPeer, descriptors: &[BorrowedFd<'_>]) {
    let raw: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    let rights: Vec<_> = if raw.is_empty() { vec![] } else { vec![ControlMessage::ScmRights(&raw)] };
    let byte = [std::io::IoSlice::new(&[0x14])];
    sendmsg::<()>(peer.stream.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None).unwrap();
}

/// The events of the next frame.
fn next_frame(socket: &mut UnixStream) -> Vec<Event> {
    let mut frame = vec![0; 8];
    socket.read_exact(&mut frame).unwrap();
    let length = u64::from_le_bytes(frame[..8].try_into().unwrap());
    frame.resize(8 + length as usize, 0);
    socket.read_exact(&mut frame[8..]).unwrap();
    notification::decode(&frame).unwrap().unwrap().0.events
}

fn put_inline(peer: &mut RawPeer, name: u64) {
    let request =
        Request::CreateAndSeal { id: id(name), evict_if_full: true, data: vec![1], metadata: vec![], digest: [1; 8] };
    assert!(matches!(peer.ask(&request), Reply::CreateAndSeal { outcome: Ok(()) }));
}

fn sealed(name: u64) -> Vec<Event> {
    vec![Event::Sealed { id: id(name), data_size: 1, metadata_size: 0, digest: [1; 8] }]
}

#[test]
fn events_are_told_in_their_order_and_answers_go_on() {
    let _watchdog = Watchdog::new("events_are_told_in_their_order_and_answers_go_on");
    let daemon = Daemon::start(1 << 20);
    let (mut subscriber, mut maker) = (RawPeer::old(&daemon.socket()), RawPeer::old(&daemon.socket()));
    put_inline(&mut maker, 1);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    subscribe(&mut subscriber, &[theirs.as_fd()]);
    drop(theirs);
    assert_eq!(next_frame(&mut ours), sealed(1));
    put_inline(&mut maker, 2);
    assert!(matches!(maker.ask(&Request::Delete { ids: vec![id(1)] }), Reply::Delete { .. }));
    assert_eq!(next_frame(&mut ours), sealed(2));
    assert_eq!(next_frame(&mut ours), [Event::Deleted { id: id(1) }]);
    assert!(matches!(subscriber.ask(&Request::Contains { id: id(2) }), Reply::Contains { present: true, .. }));
    drop(subscriber);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the store closes its end with the connection");
}

#[test]
fn a_request_and_its_descriptor_may_come_in_one_piece_with_the_next_request() {
    let _watchdog = Watchdog::new("a_request_and_its_descriptor_may_come_in_one_piece_with_the_next_request");
    let daemon = Daemon::start(1 << 20);
    let mut peer = RawPeer::old(&daemon.socket());
    for round in 0..100 {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        // The second subscription of a connection changes nothing, and keeps the stream in step.
        subscribe(&mut peer, &[theirs.as_fd()]);
        peer.send(&Request::Contains { id: id(1) });
        assert!(matches!(peer.next(), Some(Reply::Contains { present: false, .. })));
        if round == 0 {
            put_inline(&mut peer, 100);
            assert_eq!(next_frame(&mut ours), sealed(100));
            std::mem::forget(ours);
        }
    }
}

#[test]
fn what_is_no_socket_ends_that_connection_and_stays_nowhere() {
    let _watchdog = Watchdog::new("what_is_no_socket_ends_that_connection_and_stays_nowhere");
    let mut daemon = Daemon::start(1 << 20);
    let before = daemon.descriptors_at_rest();
    let file = File::open("/dev/null").unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    for descriptors in
        [vec![], vec![file.as_fd()], vec![datagram.as_fd()], vec![one.as_fd(), other.as_fd()], vec![one.as_fd(); 200]]
    {
        let mut peer = RawPeer::old(&daemon.socket());
        subscribe(&mut peer, &descriptors);
        peer.expect_end();
    }
    assert_eq!(daemon.descriptors_at_rest(), before);
    daemon.check_healthy();
}

#[test]
fn a_subscriber_that_closes_its_socket_keeps_its_connection() {
    let _watchdog = Watchdog::new("a_subscriber_that_closes_its_socket_keeps_its_connection");
    let daemon = Daemon::start(1 << 20);
    let (mut subscriber, mut maker) = (RawPeer::old(&daemon.socket()), RawPeer::old(&daemon.socket()));
    let (ours, theirs) = UnixStream::pair().unwrap();
    subscribe(&mut subscriber, &[theirs.as_fd()]);
    drop((ours, theirs));
    for name in 1..100 {
        put_inline(&mut maker, name);
    }
    // It may subscribe anew, and is told of everything there is.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    subscribe(&mut subscriber, &[theirs.as_fd()]);
    let mut told = 0;
    while told < 99 {
        told += next_frame(&mut ours).len();
    }
}

#[test]
fn a_socket_that_its_subscriber_closed_is_closed_once_here() {
    let _watchdog = Watchdog::new("a_socket_that_its_subscriber_closed_is_closed_once_here");
    let daemon = Daemon::start(1 << 20);
    let mut maker = RawPeer::old(&daemon.socket());
    for round in 0..50 {
        let mut subscriber = RawPeer::old(&daemon.socket());
        let (ours, theirs) = UnixStream::pair().unwrap();
        subscribe(&mut subscriber, &[theirs.as_fd()]);
        assert!(!subscriber.contains(id(1)));
        drop((ours, theirs));
        put_inline(&mut maker, 1000 + round);
        // One of these has the number that the socket had.
        let mut others: Vec<_> = (0..3).map(|_| RawPeer::old(&daemon.socket())).collect();
        others.iter_mut().for_each(|other| assert!(!other.contains(id(1))));
        drop(subscriber);
        put_inline(&mut maker, 2000 + round);
        others.iter_mut().for_each(|other| assert!(other.contains(id(2000 + round))));
    }
}

#[test]
fn a_slow_subscriber_is_told_everything_in_the_end() {
    let _watchdog = Watchdog::new("a_slow_subscriber_is_told_everything_in_the_end");
    let daemon = Daemon::start(1 << 20);
    let (mut subscriber, mut maker) = (RawPeer::old(&daemon.socket()), RawPeer::old(&daemon.socket()));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // As little room as there can be: most frames are written in pieces.
    setsockopt(&theirs, SndBuf, &1).unwrap();
    subscribe(&mut subscriber, &[theirs.as_fd()]);
    assert!(!subscriber.contains(id(1)));
    (0..2000).for_each(|name| put_inline(&mut maker, name));
    (0..2000).for_each(|name| assert_eq!(next_frame(&mut ours), sealed(name)));
}

/// Whether the other side has closed this socket, read or not.
fn hung_up(socket: &UnixStream) -> bool {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).unwrap();
    polled[0].revents().unwrap().contains(PollFlags::POLLHUP)
}

#[test]
fn a_subscriber_that_reads_nothing_costs_a_bound_and_is_dropped() {
    let name = "a_subscriber_that_reads_nothing_costs_a_bound_and_is_dropped";
    let _watchdog = Watchdog::lasting(name, std::time::Duration::from_secs(600));
    let daemon = Daemon::start(1 << 20);
    let (mut subscriber, mut maker) = (RawPeer::old(&daemon.socket()), RawPeer::old(&daemon.socket()));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    subscribe(&mut subscriber, &[theirs.as_fd()]);
    drop(theirs);
    let batch = |round: u32| {
        let object = |index: u32| {
            let id = id(u64::from(round) << 32 | u64::from(index));
            InlineObject { id, data: vec![], metadata: vec![], digest: [0; 8] }
        };
        let objects: Vec<_> = (0..10_000).map(object).collect();
        let ids = objects.iter().map(|object| object.id).collect();
        (Request::CreateAndSealBatch { objects, evict_if_full: true }, Request::Delete { ids })
    };
    // Each round tells of 20 000 events, more than 2 MB; the bound is 64 MiB.
    for round in 0.. {
        if hung_up(&ours) {
            break;
        }
        let (create, delete) = batch(round);
        assert!(matches!(maker.ask(&create), Reply::CreateAndSealBatch { outcome: Ok(()), .. }));
        assert!(matches!(maker.ask(&delete), Reply::Delete { .. }));
    }
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 64 << 20, "what was read after the end: {} bytes", rest.len());
    assert!(!subscriber.contains(id(1)), "its connection lives on");
}
