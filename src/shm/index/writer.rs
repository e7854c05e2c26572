//! The store's side of the index.

use super::encoding::{IdWords, Sleep, Stage, State};
use super::layout::{
    AT_CAPACITY, AT_DATA_SIZE, AT_ID, AT_KEY, AT_MAGIC, AT_METADATA_SIZE, AT_NONCE, AT_OFFSET, AT_SLEEPING, AT_STATE,
    AT_UNINDEXED, AT_VERSION, DESCRIPTOR_WORDS, Geometry, MAGIC, Parts, SLEEP_BITS, VERSION,
};
use super::table::Table;
use crate::error::Result;
use crate::object::{Location, ObjectId};
use crate::shm::sync::{AtomicU64, Ordering, Step, order_of, total_order};
use crate::shm::words::Words;

/// The place of one object in the index, from [`IndexWriter::insert`] until it is freed. There is one such value per
/// object, so nothing is freed twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor(u32);

impl Descriptor {
    /// Its number, which peers' pins go by.
    pub fn index(&self) -> usize {
        self.0 as usize
    }
}

/// Writes an index. There is one, and one thread uses it at a time.
#[derive(Debug)]
pub struct IndexWriter {
    parts: Parts,
    table: Table,
    key: [u64; 2],
    /// The free descriptors; the last is taken next, as its line is the warmest.
    free: Vec<u32>,
    unindexed: u64,
    /// How often the store has gone to sleep.
    naps: u64,
}

impl IndexWriter {
    /// Makes an empty index in `words`, which must be zero. `nonce` tells this store from others before and after it;
    /// `key` is random.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there are too few words for `geometry`, [`Error::InvalidArgument`] when they are
    /// read-only.
    pub fn create(words: Words<AtomicU64>, geometry: Geometry, nonce: u64, key: [u64; 2]) -> Result<Self> {
        let parts = Parts::new(&words.for_writing()?, geometry)?;
        let capacity = geometry.capacity();
        let first_line = [
            (AT_VERSION, VERSION),
            (AT_NONCE, nonce),
            (AT_CAPACITY, capacity as u64),
            (AT_KEY, key[0]),
            (AT_KEY + 1, key[1]),
            (AT_MAGIC, MAGIC),
        ];
        for (at, value) in first_line {
            parts.header(at).store(value, Ordering::Release);
        }
        let free = (0..capacity as u32).rev().collect();
        Ok(Self { parts, table: Table::new(capacity), key, free, unindexed: 0, naps: 0 })
    }

    /// Enters a sealed object whose bytes are complete. `None` when there is no room for it: then gets of anything that
    /// is not in the index go to the store, until [`forget_unindexed`](Self::forget_unindexed) was called as often.
    ///
    /// The id must not be in the index.
    pub fn insert(&mut self, id: &ObjectId, location: Location) -> Option<Descriptor> {
        let inserted = self.enter(id, location);
        if inserted.is_none() {
            self.count_unindexed(1);
        }
        inserted
    }

    /// Asks for the slot that a name is about to be entered in.
    pub fn look_ahead(&self, id: &ObjectId) {
        self.table.look_ahead(&self.parts, IdWords::new(id).hash(self.key));
    }

    /// From now on what is not in the index may still be in the store, which has to be asked.
    pub fn is_never_complete(&mut self) {
        self.count_unindexed(1);
    }

    /// An object that had no room in the index is gone.
    pub fn forget_unindexed(&mut self) {
        self.count_unindexed(-1);
    }

    /// Sealed objects that are not in the index.
    pub fn unindexed(&self) -> u64 {
        self.unindexed
    }

    /// Objects in the index.
    pub fn len(&self) -> usize {
        self.capacity() - self.free.len()
    }

    /// Whether no object is in the index.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Objects that it can hold.
    pub fn capacity(&self) -> usize {
        self.parts.descriptors.all().len() / DESCRIPTOR_WORDS
    }

    /// Renews the hash table. [`insert`](Self::insert) does so when it is due.
    pub fn rebuild(&mut self) {
        let (parts, key, unindexed) = (&self.parts, self.key, &mut self.unindexed);
        // What finds no slot stays, for it may be pinned, and counts as not indexed before the new table is seen.
        let lost = |_| {
            *unindexed += 1;
            parts.header(AT_UNINDEXED).store(*unindexed, Ordering::Release);
        };
        self.table.rebuild(parts, |index| id_words(parts, index).hash(key), lost);
    }

    /// The object that a descriptor names.
    pub fn id(&self, descriptor: &Descriptor) -> ObjectId {
        id_words(&self.parts, descriptor.index()).id()
    }

    /// What peers are told of a descriptor.
    pub fn state(&self, descriptor: &Descriptor) -> State {
        State(self.parts.descriptor(descriptor.index(), AT_STATE).load(Ordering::Relaxed))
    }

    /// From here on nobody begins to use the object. Returns what it was, for [`restore`](Self::restore).
    pub(in crate::shm) fn condemn(&mut self, descriptor: &Descriptor) -> Stage {
        let state = self.state(descriptor);
        let word = self.parts.descriptor(descriptor.index(), AT_STATE);
        word.swap(state.with(Stage::Condemned).0, Ordering::SeqCst);
        total_order(Step::CondemnBarrier);
        state.stage()
    }

    /// Undoes [`condemn`](Self::condemn): somebody holds it.
    pub(in crate::shm) fn restore(&mut self, descriptor: &Descriptor, stage: Stage) {
        let state = self.state(descriptor).with(stage);
        self.parts.descriptor(descriptor.index(), AT_STATE).store(state.0, Ordering::SeqCst);
    }

    /// A condemned object that nobody holds leaves the index.
    pub(in crate::shm) fn free(&mut self, descriptor: Descriptor) {
        let index = descriptor.index();
        if !self.table.remove(&self.parts, index) {
            self.count_unindexed(-1);
        }
        let next = State::new(self.state(&descriptor).generation() + 1, Stage::Free);
        self.parts.descriptor(index, AT_STATE).store(next.0, Ordering::Release);
        self.free.push(descriptor.0);
    }

    /// Says whether the store sleeps, so that peers know whether to wake it.
    pub(in crate::shm) fn set_sleep(&mut self, sleep: Sleep) {
        self.naps += u64::from(sleep != Sleep::Awake);
        self.parts.header(AT_SLEEPING).swap(self.naps << SLEEP_BITS | sleep as u64, Ordering::SeqCst);
        total_order(Step::SleepBarrier);
    }

    fn enter(&mut self, id: &ObjectId, location: Location) -> Option<Descriptor> {
        if self.table.is_worn(&self.parts) {
            self.rebuild();
        }
        let index = *self.free.last()?;
        let words = IdWords::new(id);
        let slot = self.table.free_slot(&self.parts, words.hash(self.key))?;
        self.publish(index as usize, words, location);
        self.table.enter(&self.parts, slot, words.hash(self.key), index as usize);
        self.free.pop();
        Some(Descriptor(index))
    }

    fn publish(&self, index: usize, IdWords([first, second, third]): IdWords, location: Location) {
        let segment = u64::from(location.segment as u32);
        let fields = [
            (AT_ID, first),
            (AT_ID + 1, second),
            (AT_ID + 2, third | segment << 32),
            (AT_OFFSET, location.offset),
            (AT_DATA_SIZE, location.data_size),
            (AT_METADATA_SIZE, location.metadata_size),
        ];
        for (at, value) in fields {
            self.parts.descriptor(index, at).store(value, Ordering::Relaxed);
        }
        let word = self.parts.descriptor(index, AT_STATE);
        let state = State(word.load(Ordering::Relaxed)).with(Stage::Sealed);
        word.store(state.0, order_of(Step::PublishOrder, Ordering::Release));
    }

    fn count_unindexed(&mut self, change: i64) {
        self.unindexed = self.unindexed.saturating_add_signed(change);
        self.parts.header(AT_UNINDEXED).store(self.unindexed, Ordering::Release);
    }
}

/// The id in a descriptor that is not being written.
fn id_words(parts: &Parts, index: usize) -> IdWords {
    let mut words = [0; 3];
    for (at, word) in words.iter_mut().enumerate() {
        *word = parts.descriptor(index, AT_ID + at).load(Ordering::Relaxed);
    }
    words[2] &= u64::from(u32::MAX);
    IdWords(words)
}
