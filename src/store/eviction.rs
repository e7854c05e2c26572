//! Which objects may go, and in what order: sealed, held by nobody and not pinned, least recently released first.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::object::ObjectId;

/// Where an object stands in the order: lower goes first.
pub type Age = u64;

/// Objects that may be evicted, oldest first.
#[derive(Debug, Default)]
pub struct LeastRecentlyUsed {
    by_age: BTreeMap<Age, ObjectId>,
    next: Age,
    bytes: u64,
    /// Objects evicted from it so far.
    pub evictions: u64,
    /// Their bytes.
    pub bytes_evicted: u64,
}

impl LeastRecentlyUsed {
    /// Puts an object of `size` bytes at the young end. The age it returns takes it out again.
    pub fn insert(&mut self, id: ObjectId, size: u64) -> Age {
        let age = self.next;
        self.next += 1;
        self.bytes += size;
        self.by_age.insert(age, id);
        age
    }

    /// Counts an object that is about to be evicted.
    pub fn count_eviction(&mut self, bytes: u64) {
        self.evictions += 1;
        self.bytes_evicted += bytes;
    }

    /// Takes an object of `size` bytes out: it is in use again, or gone.
    pub fn remove(&mut self, age: Age, size: u64) {
        if self.by_age.remove(&age).is_some() {
            self.bytes -= size;
        }
    }

    /// Bytes of the objects in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The objects in the order in which they would go.
    pub fn oldest_first(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.by_age.values().copied()
    }
}
