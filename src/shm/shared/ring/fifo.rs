//! Each message is taken by one, the oldest first.

use super::geometry::{AT_HEAD, Delivery};
use super::line::Tries;
use super::packed::{Cell, Generation, SlotWord, State};
use super::{ABORTED, AT_FLAGS, CLOSED, Handle, ORPHANED, Reader, Ring, Take};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::shm::sync::{Ordering, Step, taken};

/// The oldest message, if somebody else was not faster.
enum Oldest {
    Got(Handle),
    None,
    End,
}

impl Ring {
    /// Takes the oldest message, if there is one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when all read all messages of this ring; [`Error::Corrupt`] when the ring's words are.
    pub fn try_take(&self) -> Result<Take> {
        if self.is_broadcast() {
            return Err(Error::InvalidArgument("all messages of this ring are for all: join as a reader".into()));
        }
        let flags = self.flags();
        if flags & ABORTED != 0 {
            return Ok(Take::Aborted);
        }
        if flags & ORPHANED != 0
            && let Some(handle) = self.take_orphan()?
        {
            return Ok(Take::Message(handle));
        }
        self.take_in_line(flags & CLOSED != 0)
    }

    fn take_in_line(&self, is_closed: bool) -> Result<Take> {
        match self.oldest(|generation| SlotWord::new(State::Reading, self.tag, generation))? {
            Oldest::Got(handle) => Ok(Take::Message(handle)),
            Oldest::None if is_closed && taken(Step::EndInLine) => {
                // Whoever closed it may have died before the end was there.
                self.place_end()?;
                self.take_in_line(false)
            }
            Oldest::None if !is_closed => Ok(Take::Nothing),
            Oldest::None | Oldest::End => Ok(self.take_orphan()?.map_or(Take::End, Take::Message)),
        }
    }

    /// Whether a take would find anything but nothing; one of others may be faster.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the ring's words are.
    pub fn is_worth_a_take(&self, reader: Option<&Reader>) -> Result<bool> {
        if self.is_closed() || self.flags() & ORPHANED != 0 {
            return Ok(true);
        }
        let next = reader.map_or_else(|| self.word(AT_HEAD).load(Ordering::Acquire), |reader| reader.next);
        Ok(!matches!(self.cell_at(next).1, Cell::Before))
    }

    /// Is done with a message that was taken.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is not the caller's any more.
    pub fn release(&self, handle: Handle) -> Result<()> {
        self.give_back(handle, State::Reading)
    }

    /// The oldest message's slot, to write in it.
    pub(super) fn drop_untaken(&self) -> Result<Option<Handle>> {
        let found = self.oldest(|generation| SlotWord::new(State::Writing, self.tag, generation.next()))?;
        Ok(if let Oldest::Got(handle) = found { Some(handle) } else { None })
    }

    /// Turns the oldest message's slot to what is said.
    fn oldest(&self, to: impl Fn(Generation) -> SlotWord) -> Result<Oldest> {
        let mut tries = Tries::default();
        loop {
            let head = self.word(AT_HEAD).load(Ordering::Acquire);
            let (slot, generation) = match self.cell_at(head).1 {
                Cell::Before => return Ok(Oldest::None),
                Cell::End => return Ok(Oldest::End),
                Cell::Message(slot, generation) => (slot, generation),
                Cell::Other => {
                    tries.again("head", head)?;
                    continue;
                }
            };
            let got = self.turn_shown(slot, generation, &to)?;
            if taken(Step::HelpHead) || got.is_some() {
                self.pass(AT_HEAD, head);
            }
            match got {
                Some(_) => crash::at(Point::HeadMoved),
                None => crash::at(Point::HeadHelped),
            }
            if let Some(handle) = got {
                return Ok(Oldest::Got(handle));
            }
        }
    }

    fn turn_shown(
        &self,
        slot: u32,
        generation: Generation,
        to: impl Fn(Generation) -> SlotWord,
    ) -> Result<Option<Handle>> {
        if self.is_over(slot, generation)? {
            return Ok(None);
        }
        let now = self.state(slot)?;
        let to = to(now.generation);
        let may = now.state == State::Shown && (now.generation == generation || !taken(Step::CompareGeneration));
        if !may || !self.turn(slot, now, to) {
            return Ok(None);
        }
        match to.state {
            State::Reading => crash::at(Point::MessageTaken),
            _ => crash::at(Point::OldestDropped),
        }
        Ok(Some(Handle { slot, generation: to.generation }))
    }

    /// What somebody had taken who died.
    fn take_orphan(&self) -> Result<Option<Handle>> {
        if self.geometry.settings().delivery != Delivery::AtLeastOnce {
            return Ok(None);
        }
        self.control.word(AT_FLAGS).fetch_and(!ORPHANED, Ordering::SeqCst);
        crash::at(Point::OrphansUntold);
        for slot in 0..self.geometry.slots() as u32 {
            let now = self.state(slot)?;
            if now.state != State::Reading || !self.is_dead(now.owner) {
                continue;
            }
            let handle = Handle { slot, generation: now.generation.next() };
            if !taken(Step::TakeAnew) || self.turn(slot, now, self.mine(State::Reading, handle)) {
                crash::at(Point::OrphanTaken);
                // There may be more.
                self.control.word(AT_FLAGS).fetch_or(ORPHANED, Ordering::SeqCst);
                return Ok(Some(handle));
            }
        }
        Ok(None)
    }
}
