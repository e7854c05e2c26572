//! All read all messages: each reader those that were published since it came.
//!
//! A message has a bit for each reader that has not begun to read it, and one for each that reads it now. Whoever clears the last one
//! frees the slot. A reader has a place in a table, which is its bit, and goes along the line by itself.

use super::geometry::{AT_JOINED, AT_POSITION, MOST_READERS};
use super::line::Tries;
use super::packed::{Cell, Generation, Place, Readers, SlotWord, State};
use super::readers::Reader;
use super::{ABORTED, CLOSED, FREED, Handle, Ring, Take};
use crate::crash::{self, Point};
use crate::error::Result;
use crate::shm::sync::{Ordering, Step, taken};

impl Ring {
    /// The next message for a reader, if there is one. What was dropped meanwhile it does not get.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the ring's words are.
    pub fn try_read(&self, reader: &mut Reader) -> Result<Take> {
        let mut tries = Tries::default();
        loop {
            let flags = self.flags();
            if flags & ABORTED != 0 {
                return Ok(Take::Aborted);
            }
            match self.cell_at(reader.next).1 {
                Cell::Before if flags & CLOSED != 0 => {
                    self.place_end()?;
                    // Then it is there, or the messages before it are.
                    tries.again("place of a reader", reader.next)?;
                }
                Cell::Before => return Ok(Take::Nothing),
                Cell::End => return Ok(Take::End),
                Cell::Other => {
                    // It was left behind: all before the head is over.
                    reader.next = reader.next.wrapping_add(1).max(self.see_head());
                    tries.again("place of a reader", reader.next)?;
                }
                Cell::Message(slot, generation) => {
                    reader.next = reader.next.wrapping_add(1);
                    if self.begin_to_read(self.check(slot)?, generation, reader.bit()) {
                        return Ok(Take::Message(Handle { slot, generation }));
                    }
                }
            }
        }
    }

    fn begin_to_read(&self, slot: u32, generation: Generation, bit: u64) -> bool {
        loop {
            let now = self.readers(slot);
            let is_other = now.generation != generation && taken(Step::CompareGeneration);
            if is_other || now.pending & bit == 0 {
                return false;
            }
            let reads = Readers { pending: now.pending & !bit, holding: now.holding | bit, ..now };
            if self.turn_readers(slot, now, reads) {
                crash::at(Point::ReadBegun);
                return true;
            }
        }
    }

    /// Is done with a message that a reader has.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the reader does not have it any more; [`Error::Corrupt`] when the ring's words are.
    pub fn release_read(&self, reader: &Reader, handle: Handle) -> Result<()> {
        let slot = self.check(handle.slot)?;
        let now = self.state(slot)?;
        let holds = self.readers(slot).holding & reader.bit() != 0;
        if now.state != State::Shown || now.generation != handle.generation || !holds {
            return Err(self.stale(handle));
        }
        if self.clear(slot, now, |_| reader.bit()) {
            crash::at(Point::ReadFreed);
            self.control.alarm(FREED).notify_one();
        }
        Ok(())
    }

    /// Clears bits of a message, and frees the slot if those were the last ones. Returns whether it did.
    pub(super) fn clear(&self, slot: u32, now: SlotWord, bits: impl Fn(Readers) -> u64) -> bool {
        loop {
            let old = self.readers(slot);
            if old.generation != now.generation {
                return false;
            }
            let new = old.without(bits(old));
            if new == old || self.turn_readers(slot, old, new) {
                match new.are_done() {
                    true => crash::at(Point::LastBitCleared),
                    false => crash::at(Point::BitCleared),
                }
                return new.are_done() && self.turn(slot, now, SlotWord::free(now.generation));
            }
        }
    }

    /// The oldest message that nobody reads now, to write in its slot.
    pub(super) fn drop_unread(&self) -> Result<Option<Handle>> {
        let mut tries = Tries::default();
        let mut position = self.see_head();
        loop {
            match self.cell_at(position).1 {
                Cell::Before | Cell::End => return Ok(None),
                Cell::Other => {
                    position = self.see_head();
                    tries.again("head", position)?;
                }
                Cell::Message(slot, generation) => {
                    if let Some(handle) = self.drop_from(self.check(slot)?, generation)? {
                        return Ok(Some(handle));
                    }
                    position = position.wrapping_add(1);
                }
            }
        }
    }

    fn drop_from(&self, slot: u32, generation: Generation) -> Result<Option<Handle>> {
        let (now, readers) = (self.state(slot)?, self.readers(slot));
        let is_there = now.state == State::Shown && now.generation == generation && readers.generation == generation;
        if !is_there || readers.holding != 0 || !self.turn_readers(slot, readers, readers.without(readers.pending)) {
            return Ok(None);
        }
        crash::at(Point::BitsDropped);
        let handle = Handle { slot, generation: generation.next() };
        let is_got = self.turn(slot, now, self.mine(State::Writing, handle));
        crash::at(Point::OldestDropped);
        Ok(is_got.then_some(handle))
    }

    /// The line is full of what somebody holds, or of what the dead left. Where the oldest may be dropped, who has not begun to read the
    /// very oldest does not get it.
    pub(super) fn make_room(&self) -> Result<()> {
        self.repair_now()?;
        if !self.is_broadcast() || !self.geometry.settings().drops_oldest {
            return Ok(());
        }
        if let Cell::Message(slot, generation) = self.cell_at(self.see_head()).1 {
            let now = self.state(self.check(slot)?)?;
            if now.state == State::Shown
                && now.generation == generation
                && self.clear(slot, now, |readers| readers.pending)
            {
                self.control.alarm(FREED).notify_one();
            }
        }
        Ok(())
    }

    /// A message that is shown to all, as far as its publisher or readers are gone. Returns whether its slot is free now.
    pub(super) fn repair_shown_to_all(&self, slot: u32, now: SlotWord) -> Result<bool> {
        let position = self.position_of(slot, now.generation);
        let unplaced = position.is_none() && self.is_dead(now.owner) && taken(Step::LookInLine);
        Ok(self.clear(slot, now, |readers| {
            if unplaced && readers.holding == 0 {
                return readers.pending;
            }
            // Where somebody holds it, it has had a position, which the slot still tells.
            let tells = || self.slot_word(slot, AT_POSITION).load(Ordering::Relaxed);
            let position = position.or_else(|| (readers.holding != 0).then(tells));
            (readers.pending | readers.holding) & !self.readers_at(position)
        }))
    }

    /// Those who read what has this position: who was there before.
    fn readers_at(&self, position: Option<u64>) -> u64 {
        let came_later = |place: usize| {
            let joined = self.word(AT_JOINED + place).load(Ordering::SeqCst);
            position.is_some_and(|position| position.wrapping_sub(joined).cast_signed() < 0)
        };
        let all = self.places(|place| matches!(place, Place::Taken(tag) if !self.is_dead(tag)));
        (0..MOST_READERS).filter(|place| !came_later(*place)).fold(0, |bits, place| bits | 1 << place) & all
    }
}
