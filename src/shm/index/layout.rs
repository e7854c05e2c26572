//! Which word of the index means what. All words are little-endian `u64`.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::shm::sync::AtomicU64;
use crate::shm::words::Words;

/// The first word: "PLSMIDX1".
pub const MAGIC: u64 = u64::from_le_bytes(*b"PLSMIDX1");
/// The second word. Readers refuse another version.
pub const VERSION: u64 = 1;

/// Words of the header, by line of 64 bytes. The first line never changes.
pub const HEADER_WORDS: usize = 32;
pub(super) const AT_MAGIC: usize = 0;
pub(super) const AT_VERSION: usize = 1;
pub(super) const AT_NONCE: usize = 2;
pub(super) const AT_CAPACITY: usize = 3;
pub(super) const AT_KEY: usize = 4;
/// How often the hash table was replaced; the lowest bit tells which of the two is in use.
pub(super) const AT_TABLE_NUMBER: usize = 8;
/// How many sealed objects are not in the index.
pub(super) const AT_UNINDEXED: usize = 9;
/// How the store sleeps, in the lowest bits, which are 0 while it does not; how often it has gone to sleep, above them. On a line of its
/// own, as it changes often.
pub(super) const AT_SLEEPING: usize = 16;
pub(super) const SLEEP_BITS: u32 = 2;
/// Where the mutex of [`StoreAlive`](crate::shm::store_alive::StoreAlive) lies, in the last line.
pub(super) const AT_ALIVE: usize = 24;
/// The same in bytes from the start of the index.
pub const ALIVE_OFFSET: u64 = 8 * AT_ALIVE as u64;

/// Words of a descriptor: one line of 64 bytes, so that a get touches one.
pub(super) const DESCRIPTOR_WORDS: usize = 8;
pub(super) const AT_STATE: usize = 0;
/// Three words; the upper half of the last is the segment's key.
pub(super) const AT_ID: usize = 1;
pub(super) const AT_OFFSET: usize = 4;
pub(super) const AT_DATA_SIZE: usize = 5;
pub(super) const AT_METADATA_SIZE: usize = 6;

/// How many objects an index can name: at least one, and at most this many.
pub const MOST_OBJECTS: u32 = 1 << 20;
/// How many slots of the hash table a search looks at.
pub const PROBE_LIMIT: usize = 64;

/// How large the parts of an index are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    capacity: u32,
}

impl Geometry {
    /// For `capacity` objects.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming a number that is out of bounds.
    pub fn new(capacity: u32) -> Result<Self> {
        if !(1..=MOST_OBJECTS).contains(&capacity) {
            let text = format!("an index holds 1 to {MOST_OBJECTS} objects, not {capacity}");
            return Err(Error::InvalidArgument(text));
        }
        Ok(Self { capacity })
    }

    /// Objects the index can name.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Slots of each of the two hash tables: a power of two, at least twice the capacity.
    pub(super) fn slots(&self) -> usize {
        (2 * self.capacity()).next_power_of_two()
    }

    fn descriptor_range(&self) -> Range<usize> {
        HEADER_WORDS..HEADER_WORDS + self.capacity() * DESCRIPTOR_WORDS
    }

    fn table_range(&self, number: usize) -> Range<usize> {
        let start = self.descriptor_range().end + number * self.slots();
        start..start + self.slots()
    }

    /// Words of the whole index.
    pub fn words(&self) -> usize {
        self.table_range(1).end
    }

    /// Bytes of the whole index.
    pub fn bytes(&self) -> u64 {
        8 * self.words() as u64
    }
}

/// The parts of an index. All have the lengths that the geometry says.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub header: Words<AtomicU64>,
    pub descriptors: Words<AtomicU64>,
    pub tables: [Words<AtomicU64>; 2],
}

impl Parts {
    pub fn new(words: &Words<AtomicU64>, geometry: Geometry) -> Result<Self> {
        Ok(Self {
            header: words.part(0..HEADER_WORDS)?,
            descriptors: words.part(geometry.descriptor_range())?,
            tables: [words.part(geometry.table_range(0))?, words.part(geometry.table_range(1))?],
        })
    }

    /// One word of the header, by one of the constants above.
    pub fn header(&self, at: usize) -> &AtomicU64 {
        &self.header.all()[at]
    }

    /// One word of descriptor `index`, which is below the capacity.
    pub fn descriptor(&self, index: usize, at: usize) -> &AtomicU64 {
        &self.descriptors.all()[index * DESCRIPTOR_WORDS + at]
    }
}

/// The word that tells whether the store is alive, where no thread holds a mutex there.
#[cfg(test)]
pub(in crate::shm) fn alive_word(words: &Words<AtomicU64>) -> &AtomicU64 {
    &words.all()[AT_ALIVE]
}
