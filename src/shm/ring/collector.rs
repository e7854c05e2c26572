//! The store's side of a ring. Whatever the peer's words say, nothing here panics or reads outside them.

use super::doze::{change, wake};
use super::record::{Outcome, Record, RecordWords, UNAWAITED};
use super::{
    AT_ASLEEP, AT_AWAITED, AT_BELLS, AT_LAST_RUNG, AT_RECORDS, AT_RUNG, AT_SERVED, AT_SLEEPERS, AT_TAIL, BELLS,
    LAST_RUNG, LINE, OUTCOME_WORDS, PEER_WORDS, RECORD_WORDS, SLOTS, STORE_WORDS,
};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::shm::sync::{AtomicU64, Ordering, Step, taken};
use crate::shm::words::Words;

/// A ring as the store sees it.
#[derive(Debug)]
pub struct Collector {
    peers: Words<AtomicU64>,
    own: Words<AtomicU64>,
    /// Records taken.
    head: u64,
    /// How many the peer was told are served.
    served: u64,
}

/// A record that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub number: u64,
    /// What it says.
    pub record: Record,
    /// Whether the peer looks for its outcome however it ends. If not it needs one only when it is refused, and that before
    /// [`Collector::served`] says that it was served.
    pub is_awaited: bool,
}

impl Collector {
    /// A new ring: `peers` the peer alone writes, `own` this process alone.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there are too few words, [`Error::InvalidArgument`] when `own` is read-only.
    pub fn new(peers: &Words<AtomicU64>, own: &Words<AtomicU64>) -> Result<Self> {
        let own = own.part(0..STORE_WORDS)?.for_writing()?;
        Ok(Self { peers: peers.part(0..PEER_WORDS)?, own, head: 0, served: 0 })
    }

    /// Whether there is a record to take. A store that is about to sleep asks once more after it has said so.
    #[inline]
    pub fn has_more(&self) -> bool {
        taken(Step::RecordCheck) && self.peers.all()[AT_TAIL].load(Ordering::SeqCst) != self.head
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the peer claims more records than there can be, or one says nothing that is known.
    pub fn take(&mut self) -> Result<Option<Taken>> {
        let tail = self.peers.all()[AT_TAIL].load(Ordering::SeqCst);
        let waiting = tail.wrapping_sub(self.head);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > SLOTS as u64 {
            return Err(Error::Protocol(format!("it has submitted {waiting} records; {SLOTS} can be under way")));
        }
        let number = self.head;
        let mut words = self.copy_of(number);
        self.head += 1;
        let kind = words[0];
        words[0] &= !UNAWAITED;
        let unknown = || Error::Protocol(format!("record {number} is of no known kind: {kind:#x}"));
        let record = Record::decode(&words).ok_or_else(unknown)?;
        Ok(Some(Taken { number, record, is_awaited: kind & UNAWAITED == 0 }))
    }

    /// Gives back records that were taken and not served, from this number on: they are taken again later.
    pub fn put_back(&mut self, number: u64) {
        self.head = number;
    }

    /// How many records there were when the peer last submitted one, as far as that can be.
    pub fn submitted(&self) -> u64 {
        let waiting = self.peers.all()[AT_TAIL].load(Ordering::SeqCst).wrapping_sub(self.head);
        self.head + waiting.min(SLOTS as u64)
    }

    /// How many were taken.
    pub fn taken(&self) -> u64 {
        self.head
    }

    fn copy_of(&self, number: u64) -> RecordWords {
        let at = AT_RECORDS + number as usize % SLOTS * RECORD_WORDS;
        let mut copy = RecordWords::default();
        copy.iter_mut().zip(&self.peers.all()[at..]).for_each(|(copy, word)| *copy = word.load(Ordering::Relaxed));
        copy
    }

    /// Says what became of a record, and wakes who sleeps until then.
    pub fn done(&self, number: u64, outcome: &Outcome) {
        let slot = number as usize % SLOTS;
        let words = &self.own.all()[slot * OUTCOME_WORDS..][..OUTCOME_WORDS];
        for (word, value) in words[1..].iter().zip(outcome.encode()) {
            word.store(value, Ordering::Relaxed);
        }
        crash::at(Point::OutcomeBegun);
        let asleep = &self.peers.all()[AT_RECORDS + slot * RECORD_WORDS + AT_ASLEEP];
        if change(&words[0], number + 1, asleep) != 0 {
            crash::at(Point::OutcomeWritten);
            wake(&words[0]);
        }
    }

    /// Says that everything was served that was taken, but for the last `left` records and those that are awaited. Wakes who sleeps
    /// until then.
    pub fn served(&mut self, left: u64) {
        let served = self.head.saturating_sub(left);
        if served == self.served {
            return;
        }
        self.served = served;
        let word = &self.own.all()[AT_SERVED];
        if (1..=served).contains(&change(word, served, &self.peers.all()[AT_AWAITED])) {
            wake(word);
        }
    }

    /// Rings a bell. A number that is no bell's does nothing.
    pub fn ring(&self, bell: usize) {
        if bell >= BELLS {
            return;
        }
        let word = &self.own.all()[AT_BELLS + bell * LINE];
        let next = word.load(Ordering::Relaxed).wrapping_add(1);
        if change(word, next, &self.peers.all()[AT_SLEEPERS + bell]) != 0 {
            crash::at(Point::BellRung);
            wake(word);
        }
    }

    /// Lists a bell that no thread sleeps by. Who polls for it is to be told.
    pub fn list(&self, bell: u64) {
        let words = self.own.all();
        let count = words[AT_RUNG].load(Ordering::Relaxed);
        words[AT_LAST_RUNG + count as usize % LAST_RUNG].store(bell, Ordering::Release);
        words[AT_RUNG].store(count.wrapping_add(1), Ordering::Release);
    }
}
