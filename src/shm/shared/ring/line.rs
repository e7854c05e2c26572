//! The order of messages: cells, in which each message that is published has the next position, and the end behind the last one.
//!
//! Who finds the tail or the head behind the cells moves it on, whoever was to do so; so nobody waits for anybody.

use super::geometry::{AT_HEAD, AT_POSITION, AT_TAIL};
use super::packed::{Cell, Generation, State};
use super::{Ring, deaths};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::shm::sync::{Ordering, Step, order_of, taken};

/// So often somebody may find that others were faster, before the words must be wrong.
const MOST_TRIES: u32 = 1 << 12;

/// What became of a message that was to get a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    InLine,
    Ended,
    Crowded,
}

/// Counts how often somebody came late.
#[derive(Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Once more.
    pub fn again(&mut self, what: &str, position: u64) -> Result<()> {
        self.0 += 1;
        if self.0 > MOST_TRIES {
            return Err(Error::Corrupt(format!("the {what} of a ring is {position}, and its cell says otherwise")));
        }
        Ok(())
    }
}

impl Ring {
    /// What the cell for a position says.
    #[inline]
    pub(super) fn cell_at(&self, position: u64) -> (u64, Cell) {
        self.step();
        let word = self.word(self.geometry.cell(position)).load(Ordering::Acquire);
        (word, Cell::decode(word, position, self.geometry.cells()))
    }

    fn change_cell(&self, position: u64, from: u64, to: u64) -> bool {
        self.step();
        let order = order_of(Step::CellOrder, Ordering::SeqCst);
        let cell = self.word(self.geometry.cell(position));
        let done = cell.compare_exchange(from, to, order, Ordering::Relaxed).is_ok();
        deaths::may_die();
        done
    }

    /// Moves the head or the tail on from a position, if nobody has.
    #[inline]
    pub(super) fn pass(&self, at: usize, position: u64) {
        self.step();
        let next = position.wrapping_add(1);
        let _ = self.word(at).compare_exchange(position, next, Ordering::SeqCst, Ordering::Relaxed);
        deaths::may_die();
    }

    /// Moves the tail on for whoever has filled the cell there.
    fn help_tail(&self, tail: u64) {
        self.pass(AT_TAIL, tail);
        crash::at(Point::TailHelped);
    }

    /// Gives a slot that is shown the next position. This is the moment of its publication.
    pub(super) fn line_up(&self, slot: u32, generation: Generation) -> Result<Placed> {
        let cells = self.geometry.cells();
        let mut tries = Tries::default();
        loop {
            let tail = self.word(AT_TAIL).load(Ordering::Acquire);
            if !self.has_room(tail)? {
                return Ok(Placed::Crowded);
            }
            self.slot_word(slot, AT_POSITION).store(tail, Ordering::Relaxed);
            crash::at(Point::PositionNoted);
            match self.cell_at(tail) {
                (_, Cell::End) => return Ok(Placed::Ended),
                (_, Cell::Message(..)) => self.help_tail(tail),
                (_, Cell::Other) => tries.again("tail", tail)?,
                (old, Cell::Before) => {
                    if self.change_cell(tail, old, Cell::message(slot, generation, tail, cells)) {
                        crash::at(Point::CellFilled);
                        self.pass(AT_TAIL, tail);
                        crash::at(Point::TailMoved);
                        return Ok(Placed::InLine);
                    }
                }
            }
        }
    }

    /// Puts the end behind the last message, if it is not there.
    pub(super) fn place_end(&self) -> Result<()> {
        let mut tries = Tries::default();
        loop {
            let tail = self.word(AT_TAIL).load(Ordering::Acquire);
            match self.cell_at(tail) {
                (_, Cell::End) => return Ok(()),
                (_, Cell::Message(..)) => self.help_tail(tail),
                (_, Cell::Other) => tries.again("tail", tail)?,
                (old, Cell::Before) => {
                    if self.change_cell(tail, old, Cell::end(tail, self.geometry.cells())) {
                        crash::at(Point::EndPlaced);
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The first position that has no message yet.
    pub(super) fn end_of_line(&self) -> Result<u64> {
        let mut tries = Tries::default();
        loop {
            let tail = self.word(AT_TAIL).load(Ordering::Acquire);
            match self.cell_at(tail) {
                (_, Cell::End | Cell::Before) => return Ok(tail),
                (_, Cell::Message(..)) => self.help_tail(tail),
                (_, Cell::Other) => tries.again("tail", tail)?,
            }
        }
    }

    /// Whether a message can have this position, and one cell is left for the end. What stood in the cell before is over then.
    fn has_room(&self, tail: u64) -> Result<bool> {
        let is_in = |head: u64| (tail.wrapping_sub(head).cast_signed()) < self.geometry.cells().cast_signed() - 1;
        if is_in(self.seen_head()) || is_in(self.see_head()) {
            return Ok(true);
        }
        self.pass_what_is_over()?;
        if is_in(self.see_head()) {
            return Ok(true);
        }
        self.make_room()?;
        self.pass_what_is_over()?;
        Ok(is_in(self.see_head()))
    }

    /// Moves the head on over everything that nobody will take any more.
    pub(super) fn pass_what_is_over(&self) -> Result<()> {
        let mut tries = Tries::default();
        loop {
            let head = self.word(AT_HEAD).load(Ordering::Acquire);
            match self.cell_at(head).1 {
                Cell::Message(slot, generation) if self.is_over(slot, generation)? => {
                    self.pass(AT_HEAD, head);
                    crash::at(Point::HeadPassed);
                }
                Cell::Other => tries.again("head", head)?,
                _ => return Ok(()),
            }
        }
    }

    /// Whether nobody will take what stands in a cell.
    pub(super) fn is_over(&self, slot: u32, generation: Generation) -> Result<bool> {
        let slot = self.check(slot)?;
        let now = self.state(slot)?;
        let is_other = now.generation != generation && taken(Step::CompareGeneration);
        if now.state != State::Shown || is_other {
            return Ok(true);
        }
        if !self.is_broadcast() {
            return Ok(false);
        }
        let readers = self.readers(slot);
        Ok(readers.generation != generation || readers.pending == 0)
    }

    /// Whether a slot that is shown has got a position, and which.
    pub(super) fn position_of(&self, slot: u32, generation: Generation) -> Option<u64> {
        let position = self.slot_word(slot, AT_POSITION).load(Ordering::Relaxed);
        let is_there = self.cell_at(position).1 == Cell::Message(slot, generation);
        is_there.then_some(position)
    }
}
