//! What participants had who are gone comes back. Anybody may do this at any time, also several at once: each step is one
//! compare-and-swap from what was left.

use std::sync::atomic::Ordering as LocalOrdering;

use super::geometry::{AT_CHANGES, Delivery};
use super::packed::{Generation, SlotWord, State};
use super::{AT_FLAGS, Acquire, FREED, ORPHANED, PUBLISHED, Ring, Take};
use crate::crash::{self, Point};
use crate::error::Result;
use crate::shm::shared::control::Tag;
use crate::shm::shared::{FIRST_LIFE, MOST_PARTICIPANTS};
use crate::shm::sync::{Ordering, Step, taken};

impl Ring {
    /// As [`try_acquire`](Self::try_acquire), and where nothing is free, again when something could be repaired. This is what to look with
    /// before sleep.
    ///
    /// # Errors
    /// As there.
    pub fn acquire_or_repair(&self) -> Result<Acquire> {
        let found = self.try_acquire()?;
        if found == Acquire::Nothing && self.repair()? { self.try_acquire() } else { Ok(found) }
    }

    /// The same for [`try_take`](Self::try_take).
    ///
    /// # Errors
    /// As there.
    pub fn take_or_repair(&self) -> Result<Take> {
        let found = self.try_take()?;
        if found == Take::Nothing && self.repair()? { self.try_take() } else { Ok(found) }
    }

    /// Gives back what the dead had, if anybody came or went since this participant did so last. Returns whether there was something.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] when the ring's words are.
    pub fn repair(&self) -> Result<bool> {
        let changes = self.changes();
        if self.repaired.load(LocalOrdering::Relaxed) == changes {
            return Ok(false);
        }
        let outcome = self.repair_now()?;
        self.repaired.store(changes, LocalOrdering::Relaxed);
        Ok(outcome)
    }

    /// The same, whoever came or went.
    pub(in crate::shm) fn repair_now(&self) -> Result<bool> {
        let (mut freed, mut orphans) = (0, 0);
        if self.is_broadcast() {
            self.clear_dead_places();
        }
        for slot in 0..self.geometry.slots() as u32 {
            let now = self.state(slot)?;
            match now.state {
                State::Free => {}
                State::Shown if self.is_broadcast() => freed += u64::from(self.repair_shown_to_all(slot, now)?),
                _ if !self.is_dead(now.owner) => {}
                State::Reading if self.geometry.settings().delivery == Delivery::AtLeastOnce => orphans += 1,
                State::Shown if self.is_placed(slot, now.generation) => {}
                _ => {
                    freed += u64::from(self.turn(slot, now, SlotWord::free(now.generation)));
                    crash::at(Point::DeadSlotFreed);
                }
            }
        }
        if freed > 0 {
            crash::at(Point::DeadSlotFreed);
            self.control.alarm(FREED).notify_all();
        }
        if orphans > 0 {
            self.control.word(AT_FLAGS).fetch_or(ORPHANED, Ordering::SeqCst);
            crash::at(Point::OrphansTold);
            self.control.alarm(PUBLISHED).notify_all();
        }
        Ok(freed + orphans > 0)
    }

    fn is_placed(&self, slot: u32, generation: Generation) -> bool {
        taken(Step::LookInLine) && self.position_of(slot, generation).is_some()
    }

    /// Whether somebody had something and is gone.
    pub(super) fn is_dead(&self, owner: Tag) -> bool {
        if !taken(Step::AskLife) {
            return owner != self.tag;
        }
        owner != self.tag && !self.control.is_alive(owner)
    }

    /// A number that changes whenever somebody comes or goes: of numbers that only grow, the sum.
    fn changes(&self) -> u64 {
        let lives = (0..MOST_PARTICIPANTS as usize).map(|number| self.control.word(FIRST_LIFE + number));
        let sum = lives.fold(0, |sum: u64, life| sum.wrapping_add(life.load(Ordering::SeqCst)));
        // Whoever looks for the first time finds another number than this.
        sum.wrapping_add(self.word(AT_CHANGES).load(Ordering::SeqCst)).wrapping_add(1)
    }
}
