//! A peer's side of the index. Whatever the words say, nothing here panics or reads outside them.

use super::encoding::{EMPTY, IdWords, State, chain, index_in, location};
use super::layout::{
    AT_ALIVE, AT_CAPACITY, AT_DATA_SIZE, AT_ID, AT_KEY, AT_MAGIC, AT_METADATA_SIZE, AT_NONCE, AT_OFFSET, AT_SLEEPING,
    AT_STATE, AT_TABLE_NUMBER, AT_UNINDEXED, AT_VERSION, DESCRIPTOR_WORDS, Geometry, HEADER_WORDS, MAGIC, Parts,
    SLEEP_BITS, VERSION,
};
use super::table::in_use;
use crate::error::{Error, Result};
use crate::object::{Location, ObjectId};
use crate::shm::store_alive::owner_is_alive;
use crate::shm::sync::{AtomicU64, Ordering, Step, fence, taken};
use crate::shm::words::Words;

/// Reads an index that a store writes. Any number of threads may use one.
#[derive(Debug)]
pub struct IndexReader {
    parts: Parts,
    /// What never changes, as it was when this was made: a damaged header moves nothing.
    capacity: usize,
    key: [u64; 2],
    nonce: u64,
}

/// What a search is for.
#[derive(Clone, Copy, Debug)]
pub(in crate::shm) struct Wanted {
    id: IdWords,
    hash: u64,
}

/// How a search ended that found no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shm) enum Absent {
    /// There was a moment during the search when no such object was sealed.
    Missing,
    /// The index cannot tell.
    Unknown,
    /// The table was replaced meanwhile; search again.
    Replaced,
}

impl IndexReader {
    /// Reads the header of an index.
    ///
    /// # Errors
    /// [`Error::Protocol`] naming what is not as it should be.
    pub fn attach(words: &Words<AtomicU64>) -> Result<Self> {
        let header = words.part(0..HEADER_WORDS)?;
        let word = |at: usize| header.all()[at].load(Ordering::Acquire);
        if (word(AT_MAGIC), word(AT_VERSION)) != (MAGIC, VERSION) {
            let text =
                format!("not an index of version {VERSION}: {:#x}, version {}", word(AT_MAGIC), word(AT_VERSION));
            return Err(Error::Protocol(text));
        }
        let number = |at: usize| u32::try_from(word(at)).unwrap_or(u32::MAX);
        let geometry = Geometry::new(number(AT_CAPACITY)).map_err(|error| Error::Protocol(error.to_string()))?;
        Ok(Self {
            parts: Parts::new(words, geometry)?,
            capacity: geometry.capacity(),
            key: [word(AT_KEY), word(AT_KEY + 1)],
            nonce: word(AT_NONCE),
        })
    }

    /// Tells this store from others before and after it.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Objects that the index can name, and so the pins that a peer needs.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the store still runs; what it wrote stays readable when not. After its death this takes some
    /// milliseconds to tell.
    #[inline]
    pub fn store_is_alive(&self) -> bool {
        owner_is_alive(self.parts.header(AT_ALIVE).load(Ordering::Relaxed) as u32)
    }

    #[inline]
    pub(in crate::shm) fn wanted(&self, id: &ObjectId) -> Wanted {
        let id = IdWords::new(id);
        Wanted { id, hash: id.hash(self.key) }
    }

    /// Offers `visit` the descriptors that may name the object, until it takes one.
    #[inline(always)]
    pub(in crate::shm) fn search<T>(
        &self,
        wanted: &Wanted,
        mut visit: impl FnMut(usize) -> Option<T>,
    ) -> Result<T, Absent> {
        let number = self.parts.header(AT_TABLE_NUMBER).load(Ordering::Acquire);
        let table = in_use(&self.parts, number);
        for slot in chain(wanted.hash, table.len()) {
            let slot = table[slot].load(Ordering::Acquire);
            if slot == EMPTY {
                return Err(self.absent(number));
            }
            let candidate = index_in(slot, wanted.hash).filter(|index| *index < self.capacity);
            if let Some(taken) = candidate.and_then(&mut visit) {
                return Ok(taken);
            }
        }
        Err(Absent::Unknown)
    }

    /// What an empty slot in table `number` means.
    fn absent(&self, number: u64) -> Absent {
        fence(Ordering::Acquire);
        if taken(Step::MissCheck) && self.parts.header(AT_TABLE_NUMBER).load(Ordering::Relaxed) != number {
            return Absent::Replaced;
        }
        match self.parts.header(AT_UNINDEXED).load(Ordering::Relaxed) {
            0 => Absent::Missing,
            _ => Absent::Unknown,
        }
    }

    /// Asks for the slot with which a search begins.
    #[inline(always)]
    pub(in crate::shm) fn prefetch_slot(&self, wanted: &Wanted) {
        let table = &self.parts.tables[self.parts.header(AT_TABLE_NUMBER).load(Ordering::Relaxed) as usize & 1];
        table.prefetch(wanted.hash as usize & (table.all().len() - 1));
    }

    /// The descriptor in the slot with which a search begins, which is most often the right one.
    #[inline(always)]
    pub(in crate::shm) fn likely(&self, wanted: &Wanted) -> Option<usize> {
        let table = in_use(&self.parts, self.parts.header(AT_TABLE_NUMBER).load(Ordering::Relaxed));
        let slot = table[wanted.hash as usize & (table.len() - 1)].load(Ordering::Relaxed);
        index_in(slot, wanted.hash).filter(|index| *index < self.capacity)
    }

    /// Asks for a descriptor's line.
    #[inline(always)]
    pub(in crate::shm) fn prefetch(&self, index: usize) {
        self.parts.descriptors.prefetch(index * DESCRIPTOR_WORDS);
    }

    #[inline]
    pub(in crate::shm) fn state(&self, index: usize) -> State {
        State(self.parts.descriptor(index, AT_STATE).load(Ordering::SeqCst))
    }

    /// Whether a descriptor names the object. Only true for good while it is pinned and was gettable since.
    #[inline]
    pub(in crate::shm) fn is_of(&self, index: usize, Wanted { id: IdWords(id), .. }: &Wanted) -> bool {
        let word = |at: usize| self.parts.descriptor(index, AT_ID + at).load(Ordering::Relaxed);
        !taken(Step::CompareId) || (word(0) == id[0] && word(1) == id[1] && word(2) as u32 == id[2] as u32)
    }

    /// Where a descriptor's object is, under the same conditions.
    #[inline]
    pub(in crate::shm) fn location(&self, index: usize) -> Location {
        let word = |at: usize| self.parts.descriptor(index, at).load(Ordering::Relaxed);
        location(word(AT_ID + 2) >> 32, word(AT_OFFSET), word(AT_DATA_SIZE), word(AT_METADATA_SIZE))
    }

    /// How the store sleeps, as a number of [`Sleep`](super::encoding::Sleep).
    #[inline]
    pub(in crate::shm) fn sleep(&self) -> u64 {
        Self::sleep_in(self.nap())
    }

    /// How the store sleeps, as [`nap`](Self::nap) says.
    #[inline]
    pub(in crate::shm) fn sleep_in(nap: u64) -> u64 {
        nap & ((1 << SLEEP_BITS) - 1)
    }

    /// The same, with how often it has gone to sleep.
    #[inline]
    pub(in crate::shm) fn nap(&self) -> u64 {
        self.parts.header(AT_SLEEPING).load(Ordering::SeqCst)
    }
}
