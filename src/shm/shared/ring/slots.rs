//! A slot is acquired, and published or given up.

use std::sync::atomic::Ordering as LocalOrdering;

use super::geometry::AT_SLOT_READERS;
use super::line::Placed;
use super::packed::{Readers, SlotWord, State};
use super::{ABORTED, Acquire, CLOSED, FREED, Handle, Header, PUBLISHED, Publish, Ring};
use crate::crash::{self, Point};
use crate::error::Result;
use crate::shm::sync::{Ordering, Step, total_order};

impl Ring {
    /// A slot to write, if there is one.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] when the ring's words are.
    pub fn try_acquire(&self) -> Result<Acquire> {
        match self.flags() {
            flags if flags & ABORTED != 0 => return Ok(Acquire::Aborted),
            flags if flags & CLOSED != 0 => return Ok(Acquire::Closed),
            _ => {}
        }
        if let Some(handle) = self.acquire_free()? {
            return Ok(Acquire::Slot(handle));
        }
        if !self.geometry.settings().drops_oldest {
            return Ok(Acquire::Nothing);
        }
        let oldest = if self.is_broadcast() { self.drop_unread()? } else { self.drop_untaken()? };
        Ok(oldest.map_or(Acquire::Nothing, Acquire::Dropped))
    }

    fn acquire_free(&self) -> Result<Option<Handle>> {
        let slots = self.geometry.slots() as u32;
        let hint = self.hint.load(LocalOrdering::Relaxed) as u32;
        for slot in (hint..slots).chain(0..hint.min(slots)) {
            let now = self.state(slot)?;
            if now.state != State::Free {
                continue;
            }
            let handle = Handle { slot, generation: now.generation.next() };
            if self.turn(slot, now, self.mine(State::Writing, handle)) {
                crash::at(Point::SlotAcquired);
                let next = if slot + 1 == slots { 0 } else { slot + 1 };
                self.hint.store(u64::from(next), LocalOrdering::Relaxed);
                return Ok(Some(handle));
            }
        }
        Ok(None)
    }

    /// Gives up a slot that was acquired.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] when it is not the caller's any more.
    pub fn abandon(&self, handle: Handle) -> Result<()> {
        self.give_back(handle, State::Writing)
    }

    /// A slot that the caller has in this state becomes free.
    pub(super) fn give_back(&self, handle: Handle, state: State) -> Result<()> {
        let slot = self.check(handle.slot)?;
        if !self.turn(slot, self.mine(state, handle), SlotWord::free(handle.generation)) {
            return Err(self.stale(handle));
        }
        crash::at(Point::SlotFreed);
        self.control.alarm(FREED).notify_one();
        Ok(())
    }

    /// Publishes what was written.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] when the header cannot be, or the slot is not the caller's any more;
    /// [`crate::error::Error::Corrupt`] when the ring's words are.
    pub fn publish(&self, handle: Handle, header: &Header<'_>) -> Result<Publish> {
        let outcome = self.publish_silently(handle, header)?;
        if outcome == Publish::Published {
            self.tell_published(1);
        }
        Ok(outcome)
    }

    /// Publishes several, in this order, and wakes at the end. Returns how many were published, and what became of the next one.
    pub fn publish_many(&self, messages: &[(Handle, Header<'_>)]) -> (usize, Result<Publish>) {
        let mut published = 0;
        let mut outcome = Ok(Publish::Published);
        for (handle, header) in messages {
            outcome = self.publish_silently(*handle, header);
            if !matches!(outcome, Ok(Publish::Published)) {
                break;
            }
            published += 1;
        }
        self.tell_published(published);
        (published, outcome)
    }

    fn tell_published(&self, count: usize) {
        match count {
            0 => {}
            1 if !self.is_broadcast() => self.control.alarm(PUBLISHED).notify_one(),
            _ => self.control.alarm(PUBLISHED).notify_all(),
        }
    }

    fn publish_silently(&self, handle: Handle, header: &Header<'_>) -> Result<Publish> {
        let slot = self.check(handle.slot)?;
        self.check_header(header)?;
        let writing = self.mine(State::Writing, handle);
        if self.state(slot)? != writing {
            return Err(self.stale(handle));
        }
        if self.flags() & ABORTED != 0 {
            return self.give_back(handle, State::Writing).map(|()| Publish::Aborted);
        }
        crash::at(Point::MessageFilled);
        self.write_header(slot, header);
        crash::at(Point::HeaderWritten);
        let changes = if self.is_broadcast() { self.readers_changes() } else { 0 };
        if self.is_broadcast() && !self.address(handle) {
            return self.publish_to_nobody(handle);
        }
        let shown = self.mine(State::Shown, handle);
        if !self.turn(slot, writing, shown) {
            return Err(self.stale(handle));
        }
        crash::at(Point::SlotShown);
        match self.line_up(slot, handle.generation)? {
            Placed::InLine => self.look_after(slot, shown, changes),
            Placed::Ended => self.withdraw(handle, SlotWord::free(handle.generation), Publish::Closed),
            Placed::Crowded => self.withdraw(handle, writing, Publish::Crowded),
        }
    }

    /// A message for all is published. Who has left since it was addressed will not read it.
    fn look_after(&self, slot: u32, shown: SlotWord, changes: u64) -> Result<Publish> {
        if self.is_broadcast() {
            total_order(Step::LeaveBarrier);
            if self.readers_changes() != changes && self.repair_shown_to_all(slot, shown)? {
                self.control.alarm(FREED).notify_one();
            }
        }
        Ok(Publish::Published)
    }

    /// Says who is to read the message. `false`: nobody is.
    fn address(&self, handle: Handle) -> bool {
        let readers = Readers { pending: self.all_readers(), holding: 0, generation: handle.generation };
        self.slot_word(handle.slot, AT_SLOT_READERS).store(readers.encode(), Ordering::SeqCst);
        crash::at(Point::MessageAddressed);
        !readers.are_done()
    }

    fn publish_to_nobody(&self, handle: Handle) -> Result<Publish> {
        self.give_back(handle, State::Writing)?;
        Ok(if self.is_closed() { Publish::Closed } else { Publish::Published })
    }

    /// What was shown is in no cell, and is not published after all.
    fn withdraw(&self, handle: Handle, to: SlotWord, outcome: Publish) -> Result<Publish> {
        if !self.turn(handle.slot, self.mine(State::Shown, handle), to) {
            // All readers have left for whom it was.
            let is_free = if outcome == Publish::Closed { outcome } else { Publish::Published };
            return if self.is_broadcast() { Ok(is_free) } else { Err(self.stale(handle)) };
        }
        if to.state == State::Free {
            crash::at(Point::SlotWithdrawn);
            self.control.alarm(FREED).notify_one();
        }
        Ok(outcome)
    }

    /// How many slots are free, and how many have messages that nobody has taken.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] when the ring's words are.
    pub fn counts(&self) -> Result<(u64, u64)> {
        let (mut free, mut shown) = (0, 0);
        for slot in 0..self.geometry.slots() as u32 {
            let now = self.state(slot)?;
            free += u64::from(now.state == State::Free);
            let is_untaken = !self.is_broadcast() || self.readers(slot).pending != 0;
            shown += u64::from(now.state == State::Shown && is_untaken);
        }
        Ok((free, shown))
    }

    /// How many slots this participant has itself.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] when the ring's words are.
    #[cfg(test)]
    pub fn held_by_me(&self) -> Result<u64> {
        let places = self.places_of(self.tag);
        let mut held = 0;
        for slot in 0..self.geometry.slots() as u32 {
            let now = self.state(slot)?;
            let is_held = match now.state {
                State::Free => false,
                State::Writing | State::Reading => now.owner == self.tag,
                State::Shown => self.is_broadcast() && self.readers(slot).holding & places != 0,
            };
            held += u64::from(is_held);
        }
        Ok(held)
    }
}
