//! Threads of native peers that wait for an object, each by a bell: a number that the peer chose and the plumbing rings.
//!
//! A bell says only that it is worth to look again. Nobody holds anything for it, so a peer that is gone leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use crate::object::ObjectId;
use crate::store::engine::{Effect, Engine};
use crate::store::peers::PeerId;
use crate::store::space::Pages;

/// A bell of a peer.
type Bell = (PeerId, u64);

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Wants {
    by_object: HashMap<ObjectId, BTreeSet<Bell>>,
    by_bell: BTreeMap<Bell, ObjectId>,
}

impl Wants {
    /// Adds a bell that is to be rung for nothing else.
    fn add(&mut self, bell: Bell, id: ObjectId) {
        self.by_object.entry(id).or_default().insert(bell);
        self.by_bell.insert(bell, id);
    }

    /// How many wait.
    pub(super) fn count(&self) -> u64 {
        self.by_bell.len() as u64
    }

    fn remove(&mut self, bell: Bell) {
        let Some(id) = self.by_bell.remove(&bell) else { return };
        let Some(bells) = self.by_object.get_mut(&id) else { return };
        bells.remove(&bell);
        if bells.is_empty() {
            self.by_object.remove(&id);
        }
    }

    /// Everybody who waits for an object, and does so no more.
    fn take(&mut self, id: ObjectId) -> BTreeSet<Bell> {
        let bells = if self.by_object.is_empty() { None } else { self.by_object.remove(&id) };
        bells
            .into_iter()
            .flatten()
            .inspect(|bell| {
                self.by_bell.remove(bell);
            })
            .collect()
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, peer: PeerId) {
        while let Some((bell, _)) = self.by_bell.range((peer, 0)..=(peer, u64::MAX)).next() {
            self.remove(*bell);
        }
    }
}

impl<P: Pages> Engine<P> {
    /// A peer's bell is to be rung when the object is sealed; at once when it is already, since there may be more to say of it.
    pub fn want(&mut self, peer: PeerId, bell: u64, id: ObjectId) {
        self.settle(id);
        let is_there = self.is_sealed(id);
        self.counted.get(usize::from(is_there), usize::from(!is_there));
        // Whatever it was to be rung for before.
        self.wants.remove((peer, bell));
        match is_there {
            true => self.effects.push(Effect::Wake { peer, bell }),
            false => self.wants.add((peer, bell), id),
        }
    }

    /// A peer's bell is not to be rung any more.
    pub fn unwant(&mut self, peer: PeerId, bell: u64) {
        self.wants.remove((peer, bell));
    }

    /// Rings for an object that was sealed.
    pub(super) fn ring_for(&mut self, id: ObjectId) {
        let bells = self.wants.take(id);
        self.effects.extend(bells.into_iter().map(|(peer, bell)| Effect::Wake { peer, bell }));
    }
}
