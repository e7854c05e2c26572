//! Room that a producer has before it asks for it: extents of its own segments, which nobody else could use, with memory.
//!
//! What it puts next it fills in there by itself, and tells the store then. Such room counts as free: it is taken back when memory is short, when
//! nobody has put anything for a while, and when the producer wants room of another size, but for what it is just filling.
#![forbid(unsafe_code)]

use crate::shm::ring::GRANTS;
use crate::shm::ring::grants::Grantor;
use crate::store::space::Place;

/// Room that one peer was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it is called in records; never 0, and never again that of another of this peer.
    pub number: u64,
    /// Where it is.
    pub place: Place,
}

/// All room that one peer was granted.
#[derive(Debug)]
pub(super) struct Grants {
    grantor: Grantor,
    standing: [Option<Grant>; GRANTS],
    last: u64,
}

impl Grants {
    /// None yet.
    pub(super) fn new(grantor: Grantor) -> Self {
        Self { grantor, standing: [None; GRANTS], last: 0 }
    }

    /// A number for the next grant; `None` when there are as many as can be.
    pub(super) fn next_number(&self) -> Option<u64> {
        (1..=GRANTS as u64).map(|ahead| self.last + ahead).find(|number| self.get(*number % GRANTS as u64).is_none())
    }

    fn get(&self, slot: u64) -> Option<Grant> {
        self.standing.get(slot as usize).copied().flatten()
    }

    /// Grants room.
    pub(super) fn add(&mut self, grant: Grant) {
        self.last = grant.number;
        if let Some(slot) = self.standing.get_mut(grant.number as usize % GRANTS) {
            *slot = Some(grant);
            self.grantor.grant(grant.number);
        }
    }

    /// The room of this number.
    pub(super) fn of_number(&self, number: u64) -> Option<Grant> {
        self.get(number % GRANTS as u64).filter(|grant| grant.number == number)
    }

    /// It becomes an object's, or is free.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(slot) = self.standing.get_mut(number as usize % GRANTS) {
            slot.take_if(|grant| grant.number == number);
        }
    }

    /// Takes back what is not in use.
    pub(super) fn take_back(&mut self) -> Vec<Place> {
        let idle = |slot: &mut Option<Grant>| slot.take_if(|grant| self.grantor.revoke(grant.number));
        self.standing.iter_mut().filter_map(idle).map(|grant| grant.place).collect()
    }

    #[cfg(test)]
    pub(super) fn standing(&self) -> impl Iterator<Item = Grant> {
        self.standing.into_iter().flatten()
    }

    /// All of it, of a peer that is gone.
    pub(super) fn into_places(self) -> impl Iterator<Item = Place> {
        self.standing.into_iter().flatten().map(|grant| grant.place)
    }
}
