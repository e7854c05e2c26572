//! How much of `-m` can be used, and how much memory that takes. Old Plasma's allocator lost room to fragments until a
//! half-empty store was full, and memory that was once touched never came back. Here more than 95 % of the limit holds
//! objects, of one size or of many, also after long churn; and memory follows what is stored.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use plasma_store::client::{Client, CreateOptions};
use plasma_store::error::Error;
use plasma_store::object::ObjectId;
use plasma_store::store::Store;
use support::{Random, RawPeer, Watchdog, connect, id, store};

const MEBIBYTE: u64 = 1 << 20;
const LEAST: u64 = 1 << 10;
const MOST: u64 = 8 << 20;

/// What is in a store, as its only user knows it.
struct Contents<'s> {
    store: &'s Store,
    client: Client,
    memory: &'s MemoryOfOneStore,
    objects: Vec<(ObjectId, u64)>,
    used: u64,
    next: u64,
}

/// The store's segments, of which the kernel knows how much memory they have. The store is in this process, and is the only one
/// there as long as this lives.
struct MemoryOfOneStore(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl MemoryOfOneStore {
    fn new() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        Self(ONE.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn bytes(&self) -> u64 {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let path = entry.unwrap().path();
            let names = ["/memfd:plasma_store (deleted)", "/memfd:plasma_lease (deleted)"];
            let is_ours = |target: &Path| names.iter().any(|name| target == Path::new(name));
            if std::fs::read_link(&path).is_ok_and(|target| is_ours(&target)) {
                // Closed meanwhile, perhaps.
                let metadata = std::fs::metadata(&path).ok();
                files.extend(metadata.map(|metadata| (metadata.ino(), metadata.blocks() * 512)));
            }
        }
        files.values().sum()
    }
}

impl<'s> Contents<'s> {
    fn new(store: &'s Store, memory: &'s MemoryOfOneStore) -> Self {
        Self { store, client: connect(store.socket()), memory, objects: Vec::new(), used: 0, next: 0 }
    }

    fn limit(&self) -> u64 {
        self.client.capacity()
    }

    /// Puts an object without asking anybody else to go; whether there was room.
    fn put(&mut self, size: u64) -> bool {
        let name = id(self.next);
        self.next += 1;
        let buffer =
            match self.client.create(name, size, b"", CreateOptions { no_evict: true, ..CreateOptions::default() }) {
                Ok(buffer) => buffer,
                Err(Error::StoreFull(text)) => {
                    assert!(text.contains(&size.to_string()), "{text}");
                    return false;
                }
                Err(error) => panic!("{error}"),
            };
        assert_eq!(buffer.data() as usize % 64, 0, "data begins at a multiple of 64");
        // The last byte is there: no hole, and no other object.
        buffer.write(size - 1, &[1]).unwrap();
        self.client.seal(name).unwrap();
        self.objects.push((name, size));
        self.used += size;
        self.check_memory();
        true
    }

    fn delete(&mut self, index: usize) {
        let (name, size) = self.objects.swap_remove(index);
        self.client.delete(&[name]).unwrap().remove(0).unwrap();
        self.used -= size;
    }

    /// Memory taken is bounded, whatever was stored before. An eighth is for what lies free in pieces, and another for objects that
    /// are being moved at this moment.
    fn check_memory(&self) {
        let bytes = self.memory.bytes();
        let bound = self.limit() + self.limit() / 4 + 2 * MEBIBYTE;
        assert!(bytes <= bound, "{bytes} bytes of memory where {bound} are allowed");
    }

    /// Puts objects of random sizes until not even a small one fits. Returns how many of a hundred bytes are used.
    fn fill(&mut self, random: &mut Random) -> u64 {
        let mut size = random.size(LEAST, MOST);
        while size >= LEAST {
            size = if self.put(size) { random.size(LEAST, MOST) } else { size / 2 };
        }
        assert_eq!(self.used, RawPeer::old(self.store.socket()).figure("allocated bytes"));
        self.used * 100 / self.limit()
    }
}

#[test]
fn objects_of_one_size_fill_a_store() {
    let _watchdog = Watchdog::new("objects_of_one_size_fill_a_store");
    for size in [64, 1000, 4096, 64 << 10, (64 << 10) + 1, 1_000_000] {
        let memory = MemoryOfOneStore::new();
        let store = store(if size < 1000 { 200_000 } else { 32 * MEBIBYTE });
        let mut contents = Contents::new(&store, &memory);
        while contents.put(size) {}
        let percent = contents.used * 100 / contents.limit();
        assert!(percent > 95, "{percent} % of the store hold objects of {size} bytes");
    }
}

#[test]
fn objects_of_mixed_sizes_fill_a_store_before_and_after_churn() {
    let _watchdog = Watchdog::new("objects_of_mixed_sizes_fill_a_store_before_and_after_churn");
    let memory = MemoryOfOneStore::new();
    let store = store(128 * MEBIBYTE);
    let mut contents = Contents::new(&store, &memory);
    let mut random = Random(7);
    let percent = contents.fill(&mut random);
    assert!(percent > 95, "{percent} % at first");
    for round in 0..15 {
        // Now a tenth goes, now nearly all.
        let keep = contents.objects.len() as u64 * (9 - round % 3 * 4) / 10;
        while contents.objects.len() as u64 > keep {
            let index = random.below(contents.objects.len() as u64);
            contents.delete(index as usize);
        }
        let percent = contents.fill(&mut random);
        assert!(percent > 95, "{percent} % in round {round}");
    }
    assert!(contents.next > 1000, "that was little churn: {} creates", contents.next);
}

#[test]
fn eviction_makes_room_for_whatever_fits() {
    let _watchdog = Watchdog::new("eviction_makes_room_for_whatever_fits");
    let memory = MemoryOfOneStore::new();
    let store = store(32 * MEBIBYTE);
    let client = connect(store.socket());
    let mut random = Random(3);
    for n in 0..1500 {
        let size = random.size(LEAST, MOST);
        client.create(id(n), size, b"", CreateOptions::default()).unwrap().write(size - 1, &[1]).unwrap();
        client.seal(id(n)).unwrap();
        assert!(memory.bytes() <= 42 * MEBIBYTE, "{} bytes of memory", memory.bytes());
    }
}

#[test]
fn a_store_of_ten_thousand_bytes_works() {
    let _watchdog = Watchdog::new("a_store_of_ten_thousand_bytes_works");
    let _memory = MemoryOfOneStore::new();
    let store = store(10_000);
    let client = connect(store.socket());
    assert_eq!(client.capacity(), 10_000);
    for n in 0..50 {
        let size = 1 + n * 199;
        client
            .create(id(n), size, b"meta", CreateOptions::default())
            .unwrap()
            .write(0, &vec![1; size as usize])
            .unwrap();
        client.seal(id(n)).unwrap();
    }
}

#[test]
fn an_object_of_exactly_the_capacity_fits_and_one_more_byte_does_not() {
    let _watchdog = Watchdog::new("an_object_of_exactly_the_capacity_fits_and_one_more_byte_does_not");
    let _memory = MemoryOfOneStore::new();
    for capacity in [1, 10_000, 1_000_000, 64 * MEBIBYTE] {
        let store = store(capacity);
        let client = connect(store.socket());
        let error = client.create(id(1), capacity, b"m", CreateOptions::default()).unwrap_err().to_string();
        assert!(error.contains(&capacity.to_string()) && error.contains(&(capacity + 1).to_string()), "{error}");
        let buffer = client.create(id(1), capacity, b"", CreateOptions::default()).unwrap();
        buffer.write(capacity - 1, &[9]).unwrap();
        client.seal(id(1)).unwrap();
        drop(buffer);
        // It goes for the next one, as a whole.
        client.create(id(2), capacity - 1, b"m", CreateOptions::default()).unwrap();
        assert!(!client.contains(id(1)).unwrap());
    }
}
