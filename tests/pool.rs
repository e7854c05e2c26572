//! Memory that is ready before anybody needs it: a first object finds it there, others come after it, and a store that is full
//! has all of it for its objects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use plasma_store::client::{Client, CreateOptions};
use plasma_store::store::{Store, StoreOptions};
use support::{Watchdog, connect, eventually, id};

const MEBIBYTE: u64 = 1 << 20;
const CAPACITY: u64 = 512 * MEBIBYTE;
/// The longest file that a store of this size has ready.
const LARGE: u64 = 32 * MEBIBYTE;
const NO_EVICTION: CreateOptions =
    CreateOptions { no_evict: true, ttl_ms: 0, wait_ms: 0, immutable: false, name: None };

fn pooled(client: &Client) -> u64 {
    client.stats().unwrap().pool_bytes
}

/// Bytes of memory in files for leases that this process has, each once, and how many of these files there are.
fn in_files() -> (u64, usize) {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let leases = open.filter(|path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("plasma_lease")));
    let mut files: Vec<_> =
        leases.filter_map(|path| fs::metadata(path).ok()).map(|m| (m.ino(), m.blocks() * 512)).collect();
    files.sort_unstable();
    files.dedup_by_key(|(inode, _)| *inode);
    (files.iter().map(|(_, bytes)| bytes).sum(), files.len())
}

/// Creates, fills and seals an object.
fn put(client: &Client, number: u64, size: u64) {
    let buffer = client.create(id(number), size, b"", NO_EVICTION).unwrap();
    buffer.write(size / 2, &number.to_le_bytes()).unwrap();
    client.seal(id(number)).unwrap();
}

#[test]
fn memory_is_there_before_it_is_needed_and_comes_again_and_is_all_for_objects_in_the_end() {
    let _watchdog = Watchdog::new("memory_is_there_before_it_is_needed");
    let store = Store::start(&StoreOptions { capacity: CAPACITY, ..StoreOptions::default() }).unwrap();
    let client = connect(store.socket());
    let whole = pooled(&client);
    assert!((LARGE..=CAPACITY / 8).contains(&whole), "{whole}");
    eventually(|| in_files().0 == whole);
    // What the first object lies in was there.
    let files = in_files().1;
    let buffer = client.create(id(0), LARGE, b"", NO_EVICTION).unwrap();
    assert_eq!(client.stats().unwrap().allocated_bytes - pooled(&client), LARGE);
    buffer.write(0, b"first").unwrap();
    client.seal(id(0)).unwrap();
    // The next is made ready.
    eventually(|| pooled(&client) == whole && in_files() == (whole + LARGE, files + 1));
    for number in 1..CAPACITY / LARGE {
        put(&client, number, LARGE);
    }
    let stats = client.stats().unwrap();
    assert_eq!((stats.used_bytes, stats.evictions), (CAPACITY, 0));
    assert!(stats.allocated_bytes <= CAPACITY + CAPACITY / 8 + MEBIBYTE, "{}", stats.allocated_bytes);
    drop(buffer);
    drop(client);
    let client = connect(store.socket());
    let numbers: Vec<_> = (0..CAPACITY / LARGE).map(id).collect();
    client.delete(&numbers).unwrap();
    eventually(|| pooled(&client) == whole && in_files().0 == whole);
    store.stop().unwrap();
    assert_eq!(in_files(), (0, 0));
}

#[test]
fn a_pool_that_cannot_be_is_refused_and_none_is_none() {
    let with = |pool| StoreOptions { capacity: CAPACITY, pool: Some(pool), ..StoreOptions::default() };
    let error = Store::start(&with(CAPACITY + 1)).unwrap_err().to_string();
    assert!(error.contains(&(CAPACITY + 1).to_string()) && error.contains(&CAPACITY.to_string()), "{error}");
    for pool in [0, MEBIBYTE] {
        let store = Store::start(&with(pool)).unwrap();
        let client = connect(store.socket());
        assert_eq!((pooled(&client), client.stats().unwrap().allocated_bytes), (0, 0));
    }
    let small = support::store(64 * MEBIBYTE - 1);
    assert_eq!(pooled(&connect(small.socket())), 0);
}
