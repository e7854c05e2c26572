//! Who reads what is for all: a table of places, each with the position from which on its reader reads.

use super::geometry::{AT_CHANGES, AT_JOINED, AT_READERS, MOST_READERS};
use super::packed::{Place, State};
use super::{FREED, Ring, deaths};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
#[cfg(test)]
use crate::shm::shared::control::Tag;
use crate::shm::sync::{Ordering, Step, total_order};

/// One who reads all messages.
#[derive(Debug)]
pub struct Reader {
    place: usize,
    /// The position that it reads next.
    pub(super) next: u64,
}

impl Reader {
    pub(super) fn bit(&self) -> u64 {
        1 << self.place
    }
}

impl Ring {
    /// Becomes a reader of everything that is published from now on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when messages of this ring are for one; [`Error::Busy`] when there are as many readers as can be;
    /// [`Error::Corrupt`] when the ring's words are.
    pub fn join(&self) -> Result<Reader> {
        if !self.is_broadcast() {
            return Err(Error::InvalidArgument("a message of this ring is for one: take it".into()));
        }
        let full = || Error::Busy(format!("the ring has {MOST_READERS} readers already, and no more can be"));
        let place = (0..MOST_READERS).find(|place| self.claim(*place)).ok_or_else(full)?;
        crash::at(Point::PlaceCounted);
        let next = self.end_of_line()?;
        self.word(AT_JOINED + place).store(next, Ordering::SeqCst);
        crash::at(Point::JoinNoted);
        deaths::may_die();
        self.set_place(place, Place::Taken(self.tag));
        Ok(Reader { place, next })
    }

    fn claim(&self, place: usize) -> bool {
        let old = self.place(place);
        let is_free = match old {
            Place::Empty => true,
            Place::Changing(tag) | Place::Taken(tag) => self.is_dead(tag),
        };
        is_free && self.change_place(place, old, Place::Changing(self.tag))
    }

    /// Reads no more. What it has taken, it has no more.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the ring's words are.
    pub fn leave(&self, reader: Reader) -> Result<()> {
        self.set_place(reader.place, Place::Changing(self.tag));
        crash::at(Point::LeaveBegun);
        total_order(Step::LeaveBarrier);
        for slot in 0..self.geometry.slots() as u32 {
            let now = self.state(slot)?;
            if now.state == State::Shown {
                self.clear(slot, now, |_| reader.bit());
                crash::at(Point::LeaveCleared);
            }
        }
        self.set_place(reader.place, Place::Empty);
        crash::at(Point::LeaveCounted);
        self.control.alarm(FREED).notify_all();
        Ok(())
    }

    /// Those whom a message that is published now is for.
    pub(super) fn all_readers(&self) -> u64 {
        self.places(|place| matches!(place, Place::Taken(_)))
    }

    /// The places of one participant.
    #[cfg(test)]
    pub(super) fn places_of(&self, tag: Tag) -> u64 {
        self.places(|place| place == Place::Taken(tag))
    }

    pub(super) fn places(&self, is_wanted: impl Fn(Place) -> bool) -> u64 {
        (0..MOST_READERS).filter(|place| is_wanted(self.place(*place))).fold(0, |bits, place| bits | 1 << place)
    }

    /// How often somebody came or left.
    pub(super) fn readers_changes(&self) -> u64 {
        self.word(AT_CHANGES).load(Ordering::SeqCst)
    }

    fn place(&self, place: usize) -> Place {
        self.step();
        Place::decode(self.word(AT_READERS + place).load(Ordering::SeqCst))
    }

    fn set_place(&self, place: usize, new: Place) {
        self.step();
        self.word(AT_READERS + place).store(new.encode(), Ordering::SeqCst);
        match new {
            Place::Changing(_) => crash::at(Point::PlaceGivenUp),
            Place::Taken(_) => crash::at(Point::PlaceTaken),
            Place::Empty => crash::at(Point::PlaceEmptied),
        }
        self.count_change();
    }

    fn change_place(&self, place: usize, old: Place, new: Place) -> bool {
        let word = self.word(AT_READERS + place);
        let done = word.compare_exchange(old.encode(), new.encode(), Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if done {
            match new {
                Place::Empty => crash::at(Point::DeadPlaceEmptied),
                _ => crash::at(Point::PlaceClaimed),
            }
            self.count_change();
        }
        done
    }

    fn count_change(&self) {
        deaths::may_die();
        self.word(AT_CHANGES).fetch_add(1, Ordering::SeqCst);
        deaths::may_die();
    }

    pub(super) fn clear_dead_places(&self) {
        for place in 0..MOST_READERS {
            let old = self.place(place);
            if let Place::Changing(tag) | Place::Taken(tag) = old
                && self.is_dead(tag)
            {
                self.change_place(place, old, Place::Empty);
            }
        }
    }
}
