//! Which word of the index means what. All words are little-endian `u64`.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::object::{Location, ObjectId};
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
/// How many segments can be named as retired.
pub(super) const AT_RETIRED: usize = 4;
pub(super) const AT_KEY: usize = 5;
/// How often the hash table was replaced; the lowest bit tells which of the two is in use.
pub(super) const AT_TABLE_NUMBER: usize = 8;
/// How many sealed objects are not in the index.
pub(super) const AT_UNINDEXED: usize = 9;
pub(super) const AT_RETIRE_EPOCH: usize = 10;
/// Not 0 while the store sleeps. On a line of its own, as it changes often.
pub(super) const AT_SLEEPING: usize = 16;
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
/// How many segments it can name as retired at most.
pub const MOST_RETIRED: u32 = 1 << 12;
/// How many slots of the hash table a search looks at.
pub const PROBE_LIMIT: usize = 64;

/// How large the parts of an index are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    capacity: u32,
    retired: u32,
}

impl Geometry {
    /// For `capacity` objects, and `retired` segments on their way out at a time.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming a number that is out of bounds.
    pub fn new(capacity: u32, retired: u32) -> Result<Self> {
        if !(1..=MOST_OBJECTS).contains(&capacity) {
            let text = format!("an index holds 1 to {MOST_OBJECTS} objects, not {capacity}");
            return Err(Error::InvalidArgument(text));
        }
        if retired > MOST_RETIRED {
            let text = format!("an index names at most {MOST_RETIRED} retired segments, not {retired}");
            return Err(Error::InvalidArgument(text));
        }
        Ok(Self { capacity, retired })
    }

    /// Objects the index can name.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Retired segments it can name.
    pub fn retired(&self) -> usize {
        self.retired as usize
    }

    /// Slots of each of the two hash tables: a power of two, at least twice the capacity.
    pub(super) fn slots(&self) -> usize {
        (2 * self.capacity()).next_power_of_two()
    }

    fn retired_range(&self) -> Range<usize> {
        HEADER_WORDS..HEADER_WORDS + self.retired()
    }

    fn descriptor_range(&self) -> Range<usize> {
        let start = self.retired_range().end.next_multiple_of(DESCRIPTOR_WORDS);
        start..start + self.capacity() * DESCRIPTOR_WORDS
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
    /// Keys of segments, 0 where there is none.
    pub retired: Words<AtomicU64>,
    pub descriptors: Words<AtomicU64>,
    pub tables: [Words<AtomicU64>; 2],
}

impl Parts {
    pub fn new(words: &Words<AtomicU64>, geometry: Geometry) -> Result<Self> {
        Ok(Self {
            header: words.part(0..HEADER_WORDS)?,
            retired: words.part(geometry.retired_range())?,
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

/// How far a descriptor has come. Only the store says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It names nothing.
    Free = 0,
    /// It names a sealed object.
    Sealed = 1,
    /// The same, and the object goes when nobody holds it any more.
    Doomed = 2,
    /// Nobody may begin to use it. It becomes free or, when somebody held it already, what it was.
    Condemned = 3,
}

/// The state word of a descriptor: how far it is, and how many objects it has named before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub(super) u64);

impl State {
    /// In this stage, in this generation.
    pub fn new(generation: u64, stage: Stage) -> Self {
        Self(generation << 8 | stage as u64)
    }

    /// The stage. A number that means nothing is taken for free, which nobody uses.
    pub fn stage(self) -> Stage {
        match self.0 & 0xff {
            1 => Stage::Sealed,
            2 => Stage::Doomed,
            3 => Stage::Condemned,
            _ => Stage::Free,
        }
    }

    /// Objects that the descriptor has named before; 56 bits, which do not run out.
    pub fn generation(self) -> u64 {
        self.0 >> 8
    }

    /// Whether a get may have it.
    pub fn is_gettable(self) -> bool {
        matches!(self.stage(), Stage::Sealed | Stage::Doomed)
    }

    /// The same generation in another stage.
    pub(super) fn with(self, stage: Stage) -> Self {
        Self::new(self.generation(), stage)
    }
}

/// A slot of the hash table that never named anything, or whose place nobody needs to pass.
pub(super) const EMPTY: u64 = 0;
/// A slot that a search must pass: its entry was removed.
pub(super) const TOMBSTONE: u64 = u64::MAX;
const TAG: u64 = 0xffff << 48;

/// The slot of descriptor `index` for an object with this hash: the hash's upper 16 bits, the index plus one.
pub(super) fn entry(hash: u64, index: usize) -> u64 {
    hash & TAG | (index as u64 + 1)
}

/// The descriptor in a slot, if the slot may be of an object with this hash. It may also be any number.
pub(super) fn index_in(slot: u64, hash: u64) -> Option<usize> {
    let may_be = slot != EMPTY && slot != TOMBSTONE && (slot ^ hash) & TAG == 0;
    may_be.then(|| ((slot & !TAG) as usize).wrapping_sub(1))
}

/// The slots in which to look for a hash, in this order, in a table of `slots`, which is a power of two.
pub(super) fn chain(hash: u64, slots: usize) -> impl Iterator<Item = usize> {
    let first = hash as usize;
    (0..PROBE_LIMIT.min(slots)).map(move |step| first.wrapping_add(step) & (slots - 1))
}

/// An id as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shm) struct IdWords(pub [u64; 3]);

impl IdWords {
    pub fn new(id: &ObjectId) -> Self {
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(id.as_bytes().chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        Self(words)
    }

    pub fn id(&self) -> ObjectId {
        let mut bytes = [0; 20];
        for (bytes, word) in bytes.chunks_mut(8).zip(self.0) {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
        ObjectId::new(bytes)
    }

    /// Where the table has it. The key keeps ids from being made to collide by those who cannot see it; the limit of
    /// the search bounds what the others can do.
    pub fn hash(&self, key: [u64; 2]) -> u64 {
        let [first, second, third] = self.0;
        let mixed = fold(first ^ key[0], second ^ key[1]);
        fold(mixed ^ third ^ key[1], 0x9e37_79b9_7f4a_7c15 ^ key[0])
    }
}

/// The two halves of the product, so that each bit of the factors counts.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// The words of a location but for the segment's key, which lies behind the id.
pub(super) fn location(segment: u64, offset: u64, data_size: u64, metadata_size: u64) -> Location {
    Location { segment: segment as u32 as i32, offset, data_size, metadata_size }
}
