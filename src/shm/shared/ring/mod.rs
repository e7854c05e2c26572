//! A ring: slots of memory that go round between those who fill them and those who read them. `docs/shared-memory.md` tells how it works.
//!
//! - [`geometry`]: what a ring is and where everything lies; `packed`: what several things are in one word.
//! - `slots`: a slot is acquired, and published or given up; `header`: what a message says of itself.
//! - `line`: the order of messages, and its end; `fifo`: one takes each message; `broadcast`: all read it,
//!   and `readers` says who those are.
//! - `repair`: what the dead had comes back.
//!
//! Nothing here blocks. Whoever finds nothing waits by an alarm of the control file and looks again: [`PUBLISHED`] for who
//! takes, [`FREED`] for who acquires. Every transition is one compare-and-swap, so wherever a participant dies the rest goes on.
//!
//! All words may be written by all participants. What is read is checked: an impossible word is an error, and never an access outside.
#![forbid(unsafe_code)]

mod broadcast;
mod deaths;
mod fifo;
pub mod geometry;
mod header;
mod line;
mod packed;
mod readers;
mod repair;
mod slots;
#[cfg(not(loom))]
#[cfg(test)]
mod stress;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64 as Local, Ordering as LocalOrdering};

use super::control::{Control, Tag};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::shm::sync::{AtomicU64, Ordering, Step, order_of};
use crate::shm::words::Words;

use geometry::{AT_HEAD, AT_SLOT_READERS, AT_STATE, AT_TAIL, Delivery, Geometry, Settings};
pub use header::{Described, Header};
pub use packed::Generation;
use packed::{Readers, SlotWord, State};
pub use readers::Reader;

/// The alarm of those who wait for a message.
pub const PUBLISHED: usize = 0;
/// The alarm of those who wait for a free slot.
pub const FREED: usize = 1;

/// In the control file: what holds for the whole ring.
const AT_FLAGS: usize = 32;
const CLOSED: u64 = 1;
const ABORTED: u64 = 2;
/// Somebody died who had taken something.
const ORPHANED: u64 = 4;

/// A ring as one participant sees it. Its threads may share it.
#[derive(Debug)]
pub struct Ring {
    words: Words<AtomicU64>,
    control: Control,
    tag: Tag,
    geometry: Geometry,
    /// Where the search for a free slot begins.
    hint: Local,
    /// The head as it once was.
    head_seen: Local,
    /// Who had come and gone when this participant repaired last.
    repaired: Local,
}

/// A slot that somebody has, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    slot: u32,
    generation: Generation,
}

impl Handle {
    /// Bits of a token.
    pub const TOKEN_BITS: u32 = 36;

    /// The slot's number.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// It as a number, by which callers name it.
    pub fn token(self) -> u64 {
        u64::from(self.slot) | self.generation.bits() << 16
    }

    /// What a number names, of which the lower bits count.
    pub fn of_token(token: u64) -> Self {
        Self { slot: (token & 0xFFFF) as u32, generation: Generation::of_low_bits(token >> 16) }
    }
}

/// What an acquire found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// A slot to write.
    Slot(Handle),
    /// The same, which had a message that nobody will get any more.
    Dropped(Handle),
    /// Nothing is free. Wait for [`FREED`].
    Nothing,
    /// The ring is closed.
    Closed,
    /// The ring is aborted.
    Aborted,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// It is there for who takes or reads.
    Published,
    /// The ring is closed. The slot is free.
    Closed,
    /// The ring is aborted. The slot is free.
    Aborted,
    /// The line is full of what participants left who are gone. The slot is still the caller's; wait for [`FREED`], a few
    /// milliseconds at most, and try again.
    Crowded,
}

/// What a take found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// A message to read.
    Message(Handle),
    /// None is there. Wait for [`PUBLISHED`].
    Nothing,
    /// The ring is closed, and everything was taken that was published before.
    End,
    /// The ring is aborted.
    Aborted,
}

impl Ring {
    /// Makes a ring in words that nobody uses yet, for whoever has this tag.
    ///
    /// # Errors
    /// As for [`Geometry::new`]; [`Error::Protocol`] when there are too few words; [`Error::InvalidArgument`] when they are read-only.
    pub fn create(words: &Words<AtomicU64>, settings: Settings, control: Control, tag: Tag) -> Result<Self> {
        Self::prepare(words, settings)?;
        Self::new(words, Geometry::new(settings)?, control, tag)
    }

    /// The same for others to attach to. The control file's words are as they were made.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn prepare(words: &Words<AtomicU64>, settings: Settings) -> Result<()> {
        let geometry = Geometry::new(settings)?;
        let words = words.part(0..geometry.words())?.for_writing()?;
        words.all().iter().for_each(|word| word.store(0, Ordering::Relaxed));
        [AT_HEAD, AT_TAIL].into_iter().for_each(|at| words.all()[at].store(geometry.cells(), Ordering::Relaxed));
        geometry.write(&words);
        crash::at(Point::SlotsPrepared);
        Ok(())
    }

    /// The ring that somebody made in these words, in an object of so many bytes. There may be more words than are the ring's.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the number that cannot be.
    pub fn attach(words: &Words<AtomicU64>, object_bytes: u64, control: Control, tag: Tag) -> Result<Self> {
        Self::new(words, Geometry::read(words, object_bytes)?, control, tag)
    }

    fn new(words: &Words<AtomicU64>, geometry: Geometry, control: Control, tag: Tag) -> Result<Self> {
        let words = words.part(0..geometry.words())?.for_writing()?;
        Ok(Self {
            words,
            control,
            tag,
            geometry,
            hint: Local::new(0),
            head_seen: Local::new(0),
            repaired: Local::new(0),
        })
    }

    /// What the ring is, and where everything lies.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The control file, with the alarms.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Nothing is published from now on. Who takes gets what was published before, and then the end.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the ring's words are.
    pub fn close(&self) -> Result<()> {
        self.control.word(AT_FLAGS).fetch_or(CLOSED, Ordering::SeqCst);
        crash::at(Point::CloseSaid);
        deaths::may_die();
        let outcome = self.place_end();
        self.wake_all();
        outcome
    }

    /// Everybody is to stop now.
    pub fn abort(&self) {
        self.control.word(AT_FLAGS).fetch_or(ABORTED, Ordering::SeqCst);
        crash::at(Point::AbortSaid);
        self.wake_all();
    }

    /// Whether nothing more can be published.
    pub fn is_closed(&self) -> bool {
        self.flags() & (CLOSED | ABORTED) != 0
    }

    /// Whether everybody is to stop.
    pub fn is_aborted(&self) -> bool {
        self.flags() & ABORTED != 0
    }

    fn flags(&self) -> u64 {
        self.step();
        self.control.word(AT_FLAGS).load(Ordering::SeqCst)
    }

    fn wake_all(&self) {
        [PUBLISHED, FREED].into_iter().for_each(|alarm| self.control.alarm(alarm).notify_all());
    }

    fn is_broadcast(&self) -> bool {
        self.geometry.settings().delivery == Delivery::Broadcast
    }

    /// loom looks only for the last one who used a word, and misses the one before where somebody loads a word and then changes it. So in
    /// a model all steps are steps on one word as well, which orders nothing.
    #[inline(always)]
    fn step(&self) {
        #[cfg(loom)]
        self.control.word(AT_FLAGS + 1).fetch_add(1, Ordering::Relaxed);
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words.all()[at]
    }

    /// A word of a slot that there is.
    fn slot_word(&self, slot: u32, at: usize) -> &AtomicU64 {
        self.word(self.geometry.slot(slot as usize) + at)
    }

    fn state(&self, slot: u32) -> Result<SlotWord> {
        self.step();
        SlotWord::decode(slot as usize, self.slot_word(slot, AT_STATE).load(Ordering::Acquire))
    }

    fn readers(&self, slot: u32) -> Readers {
        self.step();
        Readers::decode(self.slot_word(slot, AT_SLOT_READERS).load(Ordering::Acquire))
    }

    /// One step of a slot's life. Whether it was as expected, and no other has made one.
    #[inline]
    fn turn(&self, slot: u32, from: SlotWord, to: SlotWord) -> bool {
        self.step();
        let word = self.slot_word(slot, AT_STATE);
        let order =
            if to.state == State::Free { order_of(Step::SlotOrder, Ordering::SeqCst) } else { Ordering::SeqCst };
        let done = word.compare_exchange(from.encode(), to.encode(), order, Ordering::Relaxed).is_ok();
        deaths::may_die();
        done
    }

    fn turn_readers(&self, slot: u32, from: Readers, to: Readers) -> bool {
        self.step();
        let word = self.slot_word(slot, AT_SLOT_READERS);
        let order = order_of(Step::ReadersOrder, Ordering::SeqCst);
        let done = word.compare_exchange(from.encode(), to.encode(), order, Ordering::Relaxed).is_ok();
        deaths::may_die();
        done
    }

    /// The slot's word while this participant has it in that state.
    fn mine(&self, state: State, handle: Handle) -> SlotWord {
        SlotWord::new(state, self.tag, handle.generation)
    }

    fn stale(&self, handle: Handle) -> Error {
        Error::InvalidArgument(format!("slot {} is not the caller's any more", handle.slot))
    }

    /// The handle of another process may name a slot that is not there.
    fn check(&self, slot: u32) -> Result<u32> {
        let slots = self.geometry.slots();
        if (slot as usize) < slots {
            return Ok(slot);
        }
        Err(Error::Corrupt(format!("a ring of {slots} slots names slot {slot}")))
    }

    fn seen_head(&self) -> u64 {
        self.head_seen.load(LocalOrdering::Relaxed)
    }

    fn see_head(&self) -> u64 {
        let head = self.word(AT_HEAD).load(Ordering::Acquire);
        self.head_seen.store(head, LocalOrdering::Relaxed);
        head
    }
}
