//! The store's figures and batches, from a client's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::os::fd::OwnedFd;

use nix::sys::stat::fstat;
use plasma_store::client::{Client, CreateOptions, GetOptions, PutItem, Stats};
use plasma_store::error::Error;
use plasma_store::metadata::Trailer;
use plasma_store::protocol::{Reply, Request};
use plasma_store::store::{Store, StoreOptions};
use support::{Daemon, RawPeer, Watchdog, connect, eventually, id, process, put, store};

const MEBIBYTE: u64 = 1 << 20;

#[test]
fn figures_are_those_of_what_was_done() {
    let _watchdog = Watchdog::new("figures_are_those_of_what_was_done");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    let empty = client.stats().unwrap();
    assert_eq!((empty.capacity, empty.used_bytes, empty.objects, empty.clients), (MEBIBYTE, 0, 0, 1));
    assert!(empty.largest_free_extent >= MEBIBYTE);
    put(&client, id(1), &[1; 1000]);
    put(&client, id(2), &[2; 2000]);
    let held = client.get(&[id(1), id(9), id(1)], 0, GetOptions::default()).unwrap();
    let unsealed = client.create(id(3), 4000, b"meta", CreateOptions::default()).unwrap();
    assert_eq!(client.evict(1).unwrap(), 2000);
    let stats = client.stats().unwrap();
    assert_eq!((stats.used_bytes, stats.held_bytes), (5004, 5004));
    assert_eq!((stats.objects, stats.sealed_objects, stats.held_objects), (2, 1, 2));
    // Nobody asked for what is in the index, nor for what is seen not to be there.
    assert_eq!((stats.creates, stats.gets, stats.hits, stats.misses), (3, 0, 0, 0));
    assert_eq!((stats.evictions, stats.evicted_bytes), (1, 2000));
    assert!(stats.allocated_bytes >= stats.used_bytes && stats.segments == 1);
    drop((held, unsealed));
    client.abort(id(3)).unwrap();
    eventually(|| client.stats().unwrap().held_bytes == 0);

    let waiter = connect(store.socket());
    std::thread::scope(|scope| {
        let get = scope.spawn(|| waiter.get(&[id(5)], -1, GetOptions::default()));
        eventually(|| client.stats().unwrap().waiting_gets == 1);
        let subscription = waiter.subscribe(Default::default()).unwrap();
        let stats = client.stats().unwrap();
        assert_eq!((stats.clients, stats.subscriptions, stats.gets, stats.misses), (2, 1, 1, 1));
        put(&client, id(5), b"");
        assert!(get.join().unwrap().unwrap()[0].is_some());
        drop(subscription);
    });
}

#[test]
fn a_batch_is_there_whole() {
    let _watchdog = Watchdog::new("a_batch_is_there_whole");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    // Bytes of the user's that look like a trailer of ours.
    let confusing = Trailer::default().encode();
    let contents: Vec<(Vec<u8>, &[u8])> = vec![
        (b"data".to_vec(), b"metadata"),
        (vec![], b""),
        (vec![7; 10_000], confusing.as_slice()),
        (vec![], b"only metadata"),
    ];
    let items: Vec<_> = (0..)
        .zip(&contents)
        .map(|(name, (data, metadata))| PutItem { id: id(name), data, metadata, name: None })
        .collect();
    client.put_batch(&items, CreateOptions::default()).unwrap();
    client.put_batch(&[], CreateOptions::default()).unwrap();
    for PutItem { id, data, metadata, .. } in items {
        let buffer = client.get(&[id], 0, GetOptions::default()).unwrap().remove(0).unwrap();
        let mut found = vec![0; buffer.size() as usize];
        buffer.read(0, &mut found).unwrap();
        // SAFETY: readable for so many bytes while the buffer lives, by its own promise.
        let user = unsafe { std::slice::from_raw_parts(buffer.metadata(), buffer.metadata_size() as usize) };
        assert_eq!((found.as_slice(), user), (data, metadata));
    }
}

#[test]
fn a_batch_that_cannot_be_is_not_there_at_all() {
    let _watchdog = Watchdog::new("a_batch_that_cannot_be_is_not_there_at_all");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put(&client, id(1), &[1; 600_000]);
    let half = vec![2; 500_000];
    let item = |name, data| PutItem { id: id(name), data, metadata: b"", name: None };
    let put_batch = |items: &[PutItem<'_>]| client.put_batch(items, CreateOptions::default());
    let one_exists = put_batch(&[item(2, b""), item(1, b"")]).unwrap_err();
    assert!(matches!(&one_exists, Error::ObjectExists(taken) if *taken == id(1)), "{one_exists}");
    let twice = put_batch(&[item(2, b""), item(3, b""), item(2, b"")]).unwrap_err();
    assert!(matches!(&twice, Error::ObjectExists(taken) if *taken == id(2)), "{twice}");
    let too_much = put_batch(&[item(2, &half), item(3, &half), item(4, &half)]).unwrap_err();
    assert!(matches!(&too_much, Error::StoreFull(text) if text.contains("1500000") && text.contains("1048576")));
    let no_evict = CreateOptions { no_evict: true, ..CreateOptions::default() };
    let full = client.put_batch(&[item(2, &half)], no_evict).unwrap_err();
    assert!(matches!(&full, Error::StoreFull(text) if text.contains("used 600000")), "{full}");
    for times in [CreateOptions { ttl_ms: 7, ..no_evict }, CreateOptions { wait_ms: 7, ..no_evict }] {
        let refused = client.put_batch(&[item(2, b"")], times).unwrap_err();
        assert!(matches!(&refused, Error::Unsupported(text) if text.contains('7')), "{refused}");
    }
    let names: Vec<_> = client.list().unwrap().into_iter().map(|info| info.id).collect();
    assert_eq!(names, [id(1)], "nothing was made, and nothing was evicted for it");
    put_batch(&[item(2, &half), item(3, &half)]).unwrap();
    assert_eq!(client.stats().unwrap().evictions, 1);

    let large = vec![0; 33 << 20];
    let refused = put_batch(&[item(5, &large), item(6, &large)]).unwrap_err();
    assert!(matches!(&refused, Error::InvalidArgument(text) if text.contains("69206016") && text.contains("67108864")));
    let nearly = vec![0; (64 << 20) - 10];
    let refused = put_batch(&[item(5, &nearly)]).unwrap_err();
    assert!(matches!(&refused, Error::InvalidArgument(text) if text.contains("67108864")), "{refused}");
    assert!(client.contains(id(2)).unwrap(), "and the connection lives on");
}

#[test]
fn objects_beyond_the_index_are_asked_for() {
    let _watchdog = Watchdog::new("objects_beyond_the_index_are_asked_for");
    let options = StoreOptions { capacity: MEBIBYTE, indexed_objects: Some(3), ..StoreOptions::default() };
    let store = Store::start(&options).unwrap();
    let client = connect(store.socket());
    let asked = || client.stats().unwrap().gets;
    let get = |n| client.get(&[id(n)], 0, GetOptions::default()).unwrap()[0].is_some();
    (1..=3).for_each(|n| put(&client, id(n), b"indexed"));
    assert!((1..=3).all(get) && !get(9) && asked() == 0);
    put(&client, id(4), b"not indexed");
    assert!((1..=3).all(get) && asked() == 0);
    assert!(get(4) && !get(9) && client.contains(id(4)).unwrap() && !client.contains(id(9)).unwrap());
    assert_eq!(asked(), 2, "what is not in the index may still be there");
    assert!(client.delete(&[id(4)]).unwrap()[0].is_ok());
    assert!(!get(4) && !get(9) && asked() == 2);
    assert!(client.delete(&[id(1)]).unwrap()[0].is_ok());
    put(&client, id(5), b"indexed again");
    assert!(get(5) && !get(1) && asked() == 2);
}

/// Bytes of memory behind a descriptor.
fn memory_of(descriptor: &OwnedFd) -> u64 {
    u64::try_from(fstat(descriptor).unwrap().st_blocks).unwrap() * 512
}

/// Figures of a store, when they are those of the kernel for what it has open: the pool may be at work.
fn figures_of(daemon: &Daemon, client: &Client) -> Stats {
    let mut stats = client.stats().unwrap();
    eventually(|| {
        let open = process::segment_bytes(daemon.pid());
        stats = client.stats().unwrap();
        open.is_none_or(|bytes| bytes == stats.allocated_bytes)
    });
    stats
}

#[test]
fn all_memory_is_in_the_figures_as_the_kernel_counts_it() {
    let _watchdog = Watchdog::new("all_memory_is_in_the_figures_as_the_kernel_counts_it");
    let daemon = Daemon::start(64 * MEBIBYTE);
    if process::segment_bytes(daemon.pid()).is_none() {
        println!("SKIPPED: only root sees which files a daemon has open");
        return;
    }
    let client = connect(&daemon.socket());
    let empty = figures_of(&daemon, &client);
    assert_eq!((empty.used_bytes, empty.retired_bytes, empty.allocated_bytes), (0, 0, empty.pool_bytes));

    // Of a live object, in a segment of one who is there.
    let producer = connect(&daemon.socket());
    put(&producer, id(1), &vec![1; 3 << 20]);
    put(&client, id(2), b"small");
    RawPeer::old(&daemon.socket()).put(id(3), 700_000);
    assert!(figures_of(&daemon, &client).allocated_bytes >= 3 << 20);

    // Of one who died with an object that it had not sealed.
    let mut dying = RawPeer::pulling(&daemon.socket());
    let place = dying.create(id(4), 5 << 20).unwrap();
    assert!(figures_of(&daemon, &client).used_bytes > 8 << 20);
    dying.send(&Request::Segment { segment: place.segment, writable: true });
    drop(dying);
    eventually(|| client.stats().unwrap().clients == 2);
    let stats = figures_of(&daemon, &client);
    assert!(stats.used_bytes < 4 << 20 && stats.retired_bytes == 0, "{stats:?}");

    // Of a segment where nothing lies any more, and that somebody has who does not give it back.
    let mut keeper = RawPeer::pulling(&daemon.socket());
    let segment = keeper.place(id(1)).segment;
    keeper.release(id(1));
    assert!(matches!(keeper.ask(&Request::Segment { segment, writable: false }), Reply::Segment { outcome: Ok(_) }));
    let kept = keeper.descriptors.pop_front().unwrap();
    assert!(producer.delete(&[id(1)]).unwrap()[0].is_ok());
    drop(producer);
    eventually(|| client.stats().unwrap().retired_bytes > 0);
    let stats = figures_of(&daemon, &client);
    assert_eq!(stats.retired_bytes, memory_of(&kept), "{stats:?}");
    assert!(stats.retired_bytes >= 3 << 20);
    drop(keeper);
    eventually(|| client.stats().unwrap().retired_bytes == 0);
}
