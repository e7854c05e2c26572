//! The peer's side of a ring: records in, outcomes out. Who uses it takes care that one thread at a time submits, and that a
//! slot is not used again before its outcome was read.

use super::doze::Doze;
use super::record::{Outcome, Record, RecordWords, UNAWAITED};
use super::{
    AT_ASLEEP, AT_AWAITED, AT_BELLS, AT_LAST_RUNG, AT_RECORDS, AT_RUNG, AT_SERVED, AT_SLEEPERS, AT_TAIL, LAST_RUNG,
    LINE, OUTCOME_WORDS, PEER_WORDS, RECORD_WORDS, SLOTS, STORE_WORDS,
};
use crate::error::Result;
use crate::shm::sync::{AtomicU64, Ordering, Step, order_of, total_order};
use crate::shm::words::Words;

/// A ring as its peer sees it.
#[derive(Debug)]
pub struct Submitter {
    own: Words<AtomicU64>,
    stores: Words<AtomicU64>,
}

impl Submitter {
    /// A new ring: `own` this process alone writes, `stores` the store alone.
    ///
    /// # Errors
    /// [`crate::error::Error::Protocol`] when there are too few words, [`crate::error::Error::InvalidArgument`] when `own` is
    /// read-only.
    pub fn new(own: &Words<AtomicU64>, stores: &Words<AtomicU64>) -> Result<Self> {
        Ok(Self { own: own.part(0..PEER_WORDS)?.for_writing()?, stores: stores.part(0..STORE_WORDS)? })
    }

    /// Writes record `number`, for the store to see at once. Numbers go up by one from 0, and the slot is free.
    pub fn submit(&self, number: u64, record: &Record) {
        self.own.all()[Self::place(number) + AT_ASLEEP].store(0, Ordering::Relaxed);
        self.write(number, record.encode());
    }

    /// The same for a record that has an outcome only if it is refused: [`served`](Self::served) tells that it is done.
    pub fn submit_unawaited(&self, number: u64, record: &Record) {
        let mut words = record.encode();
        words[0] |= UNAWAITED;
        self.write(number, words);
    }

    fn place(number: u64) -> usize {
        AT_RECORDS + number as usize % SLOTS * RECORD_WORDS
    }

    fn write(&self, number: u64, words: RecordWords) {
        for (word, value) in self.own.all()[Self::place(number)..].iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.own.all()[AT_TAIL].swap(number + 1, order_of(Step::SubmitOrder, Ordering::SeqCst));
        total_order(Step::SubmitBarrier);
    }

    /// So many records were served. Of those that nobody awaits an outcome is there from here on, if they were refused.
    #[inline]
    pub fn served(&self) -> u64 {
        self.stores.all()[AT_SERVED].load(Ordering::SeqCst)
    }

    /// What became of record `number`, if it is done.
    #[inline]
    pub fn outcome(&self, number: u64) -> Option<Outcome> {
        let at = number as usize % SLOTS * OUTCOME_WORDS;
        let words = &self.stores.all()[at..at + OUTCOME_WORDS];
        (words[0].load(Ordering::SeqCst) == number + 1).then(|| {
            let mut copy = [0; 5];
            copy.iter_mut().zip(&words[1..]).for_each(|(copy, word)| *copy = word.load(Ordering::Relaxed));
            Outcome::decode(copy)
        })
    }

    /// To sleep until record `number` is done.
    pub fn until_done(&self, number: u64) -> Doze<'_> {
        let slot = number as usize % SLOTS;
        Doze {
            word: &self.stores.all()[slot * OUTCOME_WORDS],
            asleep: &self.own.all()[Self::place(number) + AT_ASLEEP],
            mark: 1,
        }
    }

    /// To sleep until so many records are served. One thread at a time does so.
    pub fn until_served(&self, count: u64) -> Doze<'_> {
        Doze { word: &self.stores.all()[AT_SERVED], asleep: &self.own.all()[AT_AWAITED], mark: count }
    }

    /// The thread that waited until records were served does so no more.
    pub fn end_awaiting(&self) {
        self.own.all()[AT_AWAITED].store(0, Ordering::Relaxed);
    }

    /// To sleep until a bell, which is below [`BELLS`](super::BELLS), is rung.
    pub fn until_rung(&self, bell: usize) -> Doze<'_> {
        let asleep = &self.own.all()[AT_SLEEPERS + bell];
        Doze { word: &self.stores.all()[AT_BELLS + bell * LINE], asleep, mark: 1 }
    }

    /// The thread that waited for a bell does so no more.
    pub fn end_waiting(&self, bell: usize) {
        self.own.all()[AT_SLEEPERS + bell].store(0, Ordering::Relaxed);
    }

    /// The bells without a thread that were rung since so many were, and how many were by now. `None` when they are more than are
    /// listed: then it may have been any.
    pub fn rung_since(&self, before: u64) -> (Option<Vec<u64>>, u64) {
        let words = self.stores.all();
        let count = words[AT_RUNG].load(Ordering::Acquire);
        let are_listed = |count: u64| count.wrapping_sub(before) < LAST_RUNG as u64;
        if !are_listed(count) {
            return (None, count);
        }
        let place = |number: u64| &words[AT_LAST_RUNG + number as usize % LAST_RUNG];
        let listed = (before..count).map(|number| place(number).load(Ordering::Acquire)).collect();
        // Whoever reads what the store has written over sees at least the count from before that.
        let is_whole = are_listed(words[AT_RUNG].load(Ordering::Acquire));
        (is_whole.then_some(listed), count)
    }
}
