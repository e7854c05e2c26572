//! Watches: one descriptor for many objects, which can be read when one of them is sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use plasma_store::client::{Client, CreateOptions, GetOptions};
use plasma_store::error::Error;
use plasma_store::object::ObjectId;
use plasma_store::protocol::{Reply, Request};
use plasma_store::shm::ring::files::open_ring;
use plasma_store::shm::ring::record::Record;
use plasma_store::shm::ring::submitter::Submitter;
use plasma_store::shm::ring::{ALL_BELLS, BELLS};
use support::{Daemon, RawPeer, Watchdog, connect, eventually, id, process, put, store};

const MEBIBYTE: u64 = 1 << 20;
const SEEN: GetOptions = GetOptions { private: false, no_ask: true };

fn can_be_read(client: &Client, patience: PollTimeout) -> bool {
    let mut polled = [PollFd::new(client.watch_descriptor().unwrap(), PollFlags::POLLIN)];
    poll(&mut polled, patience).unwrap() == 1
}

/// Waits until there is something to tell, and takes all of it.
fn told(client: &Client) -> Vec<ObjectId> {
    assert!(can_be_read(client, PollTimeout::NONE));
    let mut told = client.rung(1000).unwrap();
    told.sort();
    told
}

fn watched(client: &Client) -> u64 {
    client.stats().unwrap().waiting_gets
}

fn put_small(client: &Client, name: u64) {
    client.put(id(name), b"small", b"", CreateOptions::default()).unwrap();
}

#[test]
fn whoever_watches_is_told_once_of_each_object_that_is_sealed() {
    let _watchdog = Watchdog::new("whoever_watches_is_told_once_of_each_object_that_is_sealed");
    let store = store(MEBIBYTE);
    let (client, other) = (connect(store.socket()), connect(store.socket()));
    put_small(&other, 1);
    client.watch(&[id(1), id(2), id(3), id(4), id(3)]).unwrap();
    assert_eq!(told(&client), [id(1)], "what is there already");
    assert!(client.get_one(id(1), 0, SEEN).unwrap().is_some() && client.get_one(id(2), -1, SEEN).unwrap().is_none());
    assert_eq!(watched(&other), 3);
    put_small(&other, 5);
    put(&other, id(2), b"created and sealed");
    assert_eq!(told(&client), [id(2)]);
    client.unwatch(&[id(3), id(9)]).unwrap();
    eventually(|| watched(&other) == 1);
    put_small(&other, 3);
    put_small(&other, 4);
    assert_eq!(told(&client), [id(4)]);
    assert!(!can_be_read(&client, PollTimeout::ZERO) && client.rung(9).unwrap().is_empty());
    // What went before anybody looked can be watched again.
    other.delete(&[id(4)]).unwrap();
    client.watch(&[id(4)]).unwrap();
    eventually(|| watched(&other) == 1);
    put_small(&other, 4);
    assert_eq!(told(&client), [id(4)]);
    client.watch(&[id(6)]).unwrap();
    eventually(|| watched(&other) == 1);
    drop(client);
    eventually(|| watched(&other) == 0);
}

#[test]
fn more_than_the_store_lists_at_once_are_all_told() {
    let _watchdog = Watchdog::new("more_than_the_store_lists_at_once_are_all_told");
    let store = store(16 * MEBIBYTE);
    let (client, other) = (connect(store.socket()), connect(store.socket()));
    let all: Vec<_> = (0..3000).map(id).collect();
    client.watch(&all).unwrap();
    let still = id(5000);
    client.watch(&[still]).unwrap();
    eventually(|| watched(&other) == 3001);
    (0..3000).for_each(|n| other.put_async(id(n), b"x", b"", CreateOptions::default()).unwrap());
    assert!(other.flush().unwrap().is_empty());
    let mut told = Vec::new();
    loop {
        let some = client.rung(100).unwrap();
        told.extend_from_slice(&some);
        if some.len() < 100 {
            break;
        }
    }
    assert!(all.iter().all(|id| told.contains(id)), "{} of 3000", told.len());
    assert!(told.contains(&still), "it may have been any, so all are told");
    eventually(|| watched(&other) == 0);
    client.watch(&[still]).unwrap();
    put_small(&other, 5000);
    eventually(|| client.rung(9).unwrap() == [still]);
}

#[test]
fn the_end_of_the_store_can_be_read_after_what_came_before() {
    let _watchdog = Watchdog::new("the_end_of_the_store_can_be_read_after_what_came_before");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    client.watch(&[id(1), id(2)]).unwrap();
    put_small(&client, 1);
    assert!(can_be_read(&client, PollTimeout::NONE));
    drop(store);
    assert_eq!(client.rung(9).unwrap(), [id(1)]);
    for _ in 0..2 {
        assert!(can_be_read(&client, PollTimeout::NONE));
        assert!(matches!(client.rung(9), Err(Error::Disconnected(_))));
    }
    assert!(matches!(client.watch(&[id(3)]), Err(Error::Disconnected(_))));
}

/// A peer that writes its ring by itself, with its door.
struct Writer {
    peer: RawPeer,
    submitter: Submitter,
    _door: OwnedFd,
    number: u64,
}

impl Writer {
    fn new(socket: &Path) -> Self {
        let mut peer = RawPeer::pulling(socket);
        assert_eq!(peer.ask(&Request::Ring { mapped: false }), Reply::Ring { outcome: Ok(true) });
        let files: Vec<_> = peer.descriptors.drain(..).collect();
        let [submissions, outcomes, door] = <[OwnedFd; 3]>::try_from(files).unwrap();
        let (submitter, ..) = open_ring(&submissions, &outcomes).unwrap();
        assert_eq!(peer.ask(&Request::Ring { mapped: true }), Reply::Ring { outcome: Ok(false) });
        Self { peer, submitter, _door: door, number: 0 }
    }

    fn submit(&mut self, record: &Record) {
        self.submitter.submit(self.number, record);
        self.number += 1;
        // Whatever comes by the socket has the store look.
        self.peer.contains(id(0));
    }
}

#[test]
fn a_peer_that_never_listens_at_its_door_keeps_nobody_waiting() {
    let _watchdog = Watchdog::new("a_peer_that_never_listens_at_its_door_keeps_nobody_waiting");
    let daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    put_small(&client, 1);
    let mut deaf = Writer::new(&daemon.socket());
    // Far more knocks than a socket takes.
    for bell in (BELLS..ALL_BELLS).step_by(16) {
        deaf.submit(&Record::Want { id: id(1), bell: bell as u64 });
    }
    assert_eq!(deaf.submitter.rung_since(0), (None, deaf.number));
    let (last, count) = deaf.submitter.rung_since(deaf.number - 2);
    assert_eq!(
        (last.unwrap(), count),
        ([ALL_BELLS - 32, ALL_BELLS - 16].map(|bell| bell as u64).to_vec(), deaf.number)
    );
    put_small(&client, 2);
    assert!(client.contains(id(2)).unwrap());
    let before = process::descriptors(daemon.pid());
    drop(deaf);
    eventually(|| process::descriptors(daemon.pid()) < before);
}

#[test]
fn a_bell_that_no_peer_has_ends_whoever_wants_it() {
    let _watchdog = Watchdog::new("a_bell_that_no_peer_has_ends_whoever_wants_it");
    let daemon = Daemon::start(MEBIBYTE);
    for record in [Record::Want { id: id(1), bell: ALL_BELLS as u64 }, Record::Unwant { bell: u64::MAX }] {
        let mut writer = Writer::new(&daemon.socket());
        writer.submitter.submit(0, &record);
        assert_eq!(writer.peer.try_ask(&Request::Contains { id: id(0) }), None);
    }
    put_small(&connect(&daemon.socket()), 1);
}
