//! The peer's side of a ring: records in, outcomes out. Who uses it takes care that one thread at a time submits, and that a
//! slot is not used again before its outcome was read.

use super::doze::Doze;
use super::record::{Outcome, Record};
use super::{
    AT_ASLEEP, AT_BELLS, AT_LAST_RUNG, AT_RECORDS, AT_RUNG, AT_SLEEPERS, AT_TAIL, LAST_RUNG, LINE, OUTCOME_WORDS,
    PEER_WORDS, RECORD_WORDS, SLOTS, STORE_WORDS,
};
use crate::crash::{self, Point};
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
        let at = AT_RECORDS + number as usize % SLOTS * RECORD_WORDS;
        for (word, value) in self.own.all()[at..].iter().zip(record.encode()) {
            word.store(value, Ordering::Relaxed);
        }
        crash::at(Point::RecordBegun);
        self.own.all()[at + AT_ASLEEP].store(0, Ordering::Relaxed);
        crash::at(Point::RecordWritten);
        self.own.all()[AT_TAIL].swap(number + 1, order_of(Step::SubmitOrder, Ordering::SeqCst));
        total_order(Step::SubmitBarrier);
        crash::at(Point::RecordSubmitted);
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
            asleep: &self.own.all()[AT_RECORDS + slot * RECORD_WORDS + AT_ASLEEP],
        }
    }

    /// To sleep until a bell, which is below [`BELLS`](super::BELLS), is rung.
    pub fn until_rung(&self, bell: usize) -> Doze<'_> {
        Doze { word: &self.stores.all()[AT_BELLS + bell * LINE], asleep: &self.own.all()[AT_SLEEPERS + bell] }
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
