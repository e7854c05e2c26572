//! Pins, times to live, and creates that wait for room, over real sockets: the rules themselves are tested with the engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nix::unistd::getpid;
use plasma_store::client::{Client, CreateOptions, WritableBuffer};
use plasma_store::error::{Error, Result};
use plasma_store::protocol::Request;
use support::{Daemon, RawPeer, Watchdog, connect, eventually, id, put, store};

const CAPACITY: u64 = 100_000;
const WAITING: CreateOptions = CreateOptions { no_evict: false, ttl_ms: 0, wait_ms: -1, immutable: false, name: None };

/// Fills the store with an unsealed object.
fn fill(client: &Client) -> WritableBuffer {
    client.create(id(1), CAPACITY, b"", CreateOptions::default()).unwrap()
}

/// What a create in a full store is told.
fn full(client: &Client, size: u64) -> String {
    match client.create(id(99), size, b"", CreateOptions::default()) {
        Err(Error::StoreFull(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// Waits until so many creates wait.
fn until_waiting(client: &Client, count: u64) {
    let expected = format!("creates that wait for room: {count}");
    eventually(|| full(client, CAPACITY).ends_with(&expected));
}

#[test]
fn a_create_waits_until_there_is_room_and_keeps_no_other_call_waiting() {
    let _watchdog = Watchdog::new("a_create_waits_until_there_is_room_and_keeps_no_other_call_waiting");
    let store = store(CAPACITY);
    let (client, holder) = (connect(store.socket()), connect(store.socket()));
    let buffer = fill(&holder);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.create(id(2), 1000, b"", WAITING).map(drop));
        until_waiting(&client, 1);
        assert!(!client.contains(id(2)).unwrap());
        drop(buffer);
        holder.abort(id(1)).unwrap();
        waiting.join().unwrap().unwrap();
    });
    client.seal(id(2)).unwrap();
    assert!(holder.contains(id(2)).unwrap());
}

#[test]
fn the_time_to_wait_is_at_least_as_long_as_asked() {
    let _watchdog = Watchdog::new("the_time_to_wait_is_at_least_as_long_as_asked");
    let store = store(CAPACITY);
    let client = connect(store.socket());
    let _buffer = fill(&client);
    for wait_ms in [1, 30] {
        let start = std::time::Instant::now();
        let error = client.create(id(2), 1, b"", CreateOptions { wait_ms, ..WAITING }).unwrap_err();
        assert!(matches!(&error, Error::StoreFull(text) if text.contains("1 bytes does not fit")), "{error}");
        assert!(start.elapsed().as_millis() >= wait_ms as u128);
    }
    // Waiting for what can never be would have no end.
    assert!(full(&client, CAPACITY + 1).contains("100001"));
    assert!(matches!(client.create(id(2), CAPACITY + 1, b"", WAITING), Err(Error::StoreFull(_))));
    for (options, number) in
        [(CreateOptions { wait_ms: -2, ..WAITING }, "-2"), (CreateOptions { ttl_ms: -7, ..WAITING }, "-7")]
    {
        let error = client.create(id(2), 1, b"", options).unwrap_err();
        assert!(matches!(&error, Error::InvalidArgument(text) if text.contains(number)), "{error}");
    }
}

#[test]
fn who_waits_for_room_and_leaves_makes_way() {
    let _watchdog = Watchdog::new("who_waits_for_room_and_leaves_makes_way");
    let store = store(CAPACITY);
    let client = connect(store.socket());
    let _buffer = client.create(id(1), 900, b"", CreateOptions::default()).unwrap();
    let mut first = RawPeer::native(store.socket());
    first.send(&Request::Create {
        id: id(2),
        data_size: CAPACITY as i64,
        metadata_size: 0,
        evict_if_full: true,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: -1,
        immutable: false,
    });
    until_waiting(&client, 1);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| client.create(id(3), 10, b"", WAITING).map(drop));
        until_waiting(&client, 2);
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn an_interrupted_create_leaves_nothing_behind_even_when_it_was_just_served() {
    let _watchdog = Watchdog::new("an_interrupted_create_leaves_nothing_behind_even_when_it_was_just_served");
    let store = store(CAPACITY);
    let (client, holder) = (connect(store.socket()), connect(store.socket()));
    for round in 0..300 {
        drop(fill(&holder));
        let outcome: Result<WritableBuffer> = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| client.create(id(2), CAPACITY, b"", WAITING));
            until_waiting(&holder, 1);
            // Both happen at about the same time, now one a little earlier, now the other.
            let free = scope.spawn(|| holder.abort(id(1)).unwrap());
            (0..round % 40).for_each(|_| std::hint::spin_loop());
            client.interrupt();
            free.join().unwrap();
            waiting.join().unwrap()
        });
        match outcome {
            Ok(buffer) => drop(buffer),
            // Not a trace of it, although the store may have made it meanwhile.
            Err(Error::Interrupted) => {
                drop(client.create(id(2), CAPACITY, b"", CreateOptions::default()).unwrap());
            }
            Err(error) => panic!("{error}"),
        }
        client.abort(id(2)).unwrap();
    }
    assert!(client.list().unwrap().is_empty());
}

#[test]
fn interrupts_end_all_creates_that_wait() {
    let _watchdog = Watchdog::new("interrupts_end_all_creates_that_wait");
    let store = store(CAPACITY);
    let (client, holder) = (connect(store.socket()), connect(store.socket()));
    let buffer = fill(&holder);
    let client = &client;
    std::thread::scope(|scope| {
        let create = |n| move || client.create(id(n), 1000, b"", WAITING).map(drop);
        let waiting: Vec<_> = (2..8).map(|n| scope.spawn(create(n))).collect();
        until_waiting(&holder, 6);
        client.interrupt();
        let outcomes = waiting.into_iter().map(|thread| thread.join().unwrap());
        assert!(outcomes.into_iter().all(|outcome| matches!(outcome, Err(Error::Interrupted))));
    });
    eventually(|| !full(&holder, 1).contains("wait for room"));
    drop(buffer);
    holder.abort(id(1)).unwrap();
    assert!(client.list().unwrap().is_empty());
}

#[test]
fn the_end_of_a_time_wakes_a_store_that_sleeps() {
    let _watchdog = Watchdog::new("the_end_of_a_time_wakes_a_store_that_sleeps");
    let store = store(CAPACITY);
    let client = connect(store.socket());
    client.put(id(1), &vec![7; 90_000], b"", CreateOptions { ttl_ms: 300, ..CreateOptions::default() }).unwrap();
    // Nobody says anything any more: only the end of the other one lets this one in.
    drop(client.create(id(2), 90_000, b"", CreateOptions { no_evict: true, ..WAITING }).unwrap());
    assert!(!client.contains(id(1)).unwrap());
}

#[test]
fn pinned_objects_stay_until_they_are_unpinned() {
    let _watchdog = Watchdog::new("pinned_objects_stay_until_they_are_unpinned");
    let store = store(CAPACITY);
    let (client, maker, other) = (connect(store.socket()), connect(store.socket()), connect(store.socket()));
    put(&maker, id(1), &vec![1; 60_000]);
    maker.pin(&[id(1)], true).unwrap();
    drop(maker);
    assert!(client.list().unwrap().remove(0).pinned);
    assert_eq!(other.evict(u64::MAX).unwrap(), 0);
    assert!(full(&other, 50_000).contains("60000 cannot be evicted (60000 are pinned)"));
    let _unsealed = client.create(id(2), 10, b"", CreateOptions::default()).unwrap();
    assert!(matches!(client.pin(&[id(1), id(2), id(3)], false), Err(Error::ObjectNotSealed(name)) if name == id(2)));
    assert!(matches!(client.pin(&[id(3)], true), Err(Error::ObjectNotFound(name)) if name == id(3)));
    assert_eq!(other.evict(u64::MAX).unwrap(), 0, "nothing was unpinned");
    other.pin(&[id(1)], false).unwrap();
    assert_eq!(other.evict(u64::MAX).unwrap(), 60_000);
}

#[test]
fn a_full_store_names_who_holds_most_and_tells_the_log_of_old_clients_too() {
    let _watchdog = Watchdog::new("a_full_store_names_who_holds_most_and_tells_the_log_of_old_clients_too");
    let log = tempfile::NamedTempFile::new().unwrap();
    let daemon = Daemon::start_with(CAPACITY, |command| {
        command.stderr(log.reopen().unwrap());
    });
    let holder = connect(&daemon.socket());
    let _buffer = fill(&holder);
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    let who = format!("process {} ({})", getpid(), comm.trim_end());
    let mut old = RawPeer::old(&daemon.socket());
    assert!(old.create(id(2), 500).is_err());
    let expected = format!("store full for {who}: an object of 500 bytes");
    eventually(|| std::fs::read_to_string(log.path()).unwrap().contains(&expected));
    let text = full(&holder, 700);
    assert!(text.ends_with(&format!("{who} holds most: {CAPACITY} bytes")), "{text}");
}
