//! Threads of native peers that wait for an object, each by a bell: a number that the peer chose and the plumbing rings.
//!
//! A bell says only that it is worth to look again. For a thread that sleeps by its bell the object is held from the seal on until the
//! thread wants it no more: else one that is deleted right afterwards would be gone before the thread has looked. For those who
//! only watch nobody holds anything.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use crate::object::ObjectId;
use crate::shm::ring::BELLS;
use crate::store::engine::{Effect, Engine};
use crate::store::objects::Object;
use crate::store::peers::PeerId;
use crate::store::space::Pages;

/// A bell of a peer.
type Bell = (PeerId, u64);

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Wants {
    by_object: HashMap<ObjectId, BTreeSet<Bell>>,
    by_bell: BTreeMap<Bell, ObjectId>,
    /// What is held for bells that were rung.
    held: BTreeMap<Bell, ObjectId>,
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
        let bells = self.by_object.remove(&id).unwrap_or_default();
        for bell in &bells {
            self.by_bell.remove(bell);
        }
        bells
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, peer: PeerId) {
        while let Some((bell, _)) = self.by_bell.range((peer, 0)..=(peer, u64::MAX)).next() {
            self.remove(*bell);
        }
        // The holds themselves go with all others of the peer.
        self.held.retain(|(holder, _), _| *holder != peer);
    }
}

impl<P: Pages> Engine<P> {
    /// A peer's bell is to be rung when the object is sealed; at once when it is already, since there may be more to say of it.
    pub fn want(&mut self, peer: PeerId, bell: u64, id: ObjectId) {
        if self.peers.get(&peer).is_some_and(|peer| !peer.pulls) {
            // It would hold what lies where it cannot map it, and only copies are counted for such a peer.
            return self.close(peer, "it waits by a bell and has not said that it asks for segments".into());
        }
        self.settle(id);
        let is_there = self.is_sealed(id);
        self.counted.get(usize::from(is_there), usize::from(!is_there));
        // Whatever it was to be rung for before.
        self.unwant(peer, bell);
        match is_there {
            true => self.ring_bell((peer, bell), id),
            false => self.wants.add((peer, bell), id),
        }
    }

    /// A peer's bell is not to be rung any more, and nothing is held for it.
    pub fn unwant(&mut self, peer: PeerId, bell: u64) {
        self.wants.remove((peer, bell));
        if let Some(id) = self.wants.held.remove(&(peer, bell)) {
            self.release(peer, id);
        }
    }

    /// Rings for an object that was sealed.
    pub(super) fn ring_for(&mut self, id: ObjectId) {
        // Most objects are sealed when nobody waits for anything.
        if !self.wants.by_object.is_empty() {
            self.wants.take(id).into_iter().for_each(|bell| self.ring_bell(bell, id));
        }
    }

    fn ring_bell(&mut self, (peer, bell): Bell, id: ObjectId) {
        if bell < BELLS as u64 && self.objects.get(&id).is_some_and(Object::is_at_hand) {
            self.hold(peer, id);
            self.wants.held.insert((peer, bell), id);
        }
        self.effects.push(Effect::Wake { peer, bell });
    }
}
