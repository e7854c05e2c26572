//! Objects that native peers get without asking: the index in shared memory, and what its readers hold.
//!
//! Every sealed object whose bytes are here is in the index, as far as there is room. Nothing leaves it, and no memory is used
//! again, while a reader holds the object; the store finds that out by looking, and is told of it by a kick when it waits for it.

use crate::error::Result;
use crate::object::ObjectId;
use crate::shm::pins::store::SharedIndex;
use crate::shm::sync::AtomicU32;
use crate::shm::words::Words;
use crate::store::engine::{Engine, Now};
use crate::store::objects::{Indexed, Object};
use crate::store::peers::PeerId;
use crate::store::space::Pages;

impl<P: Pages> Engine<P> {
    /// The same store with an index, which is empty.
    #[must_use]
    pub fn with_index(mut self, index: SharedIndex) -> Self {
        self.index = Some(index);
        self
    }

    /// From now on a native peer may read the index; it was not told of it before. Its pins are here.
    ///
    /// # Errors
    /// [`crate::error::Error::Protocol`] when there are too few.
    pub fn add_reader(&mut self, peer: PeerId, pins: &Words<AtomicU32>) -> Result<()> {
        self.index.as_mut().map_or(Ok(()), |index| index.add_peer(peer, pins))
    }

    /// A peer is gone, with all that it read.
    pub(super) fn remove_reader(&mut self, peer: PeerId) {
        self.index.iter_mut().for_each(|index| index.remove_peer(peer));
        self.look_at_readers();
    }

    /// A reader has let go of something that the store waits for, or may have.
    pub fn look_at_readers(&mut self) {
        for id in self.index.as_mut().map(SharedIndex::reclaim_doomed).unwrap_or_default() {
            if let Some(object) = self.objects.get_mut(&id) {
                object.entry = Indexed::None;
                self.unheld(id);
            }
        }
        self.queue_may_move = true;
    }

    /// A deleted object goes if nobody reads it any more, before somebody is told of it.
    pub(super) fn settle(&mut self, id: ObjectId) {
        if self.objects.get(&id).is_some_and(|object| matches!(object.entry, Indexed::Doomed)) {
            self.look_at_readers();
        }
    }

    /// Whether deleted objects were still here that nobody reads any more. They are gone now.
    pub(super) fn some_are_gone(&mut self) -> bool {
        let before = self.space.used();
        self.look_at_readers();
        self.space.used() < before
    }

    /// The plumbing is about to sleep. `false`: it must not, as there is something to do. After `true` readers kick when they let
    /// go of what the store waits for. [`Engine::woke`] is to be called afterwards in both cases.
    pub fn may_sleep(&mut self, now: Now) -> bool {
        let waits_for_room = !self.queue.is_empty() || !self.uncopied.is_empty();
        let Some(index) = &mut self.index else { return true };
        if !index.may_sleep(waits_for_room) {
            self.look_at_readers();
            return false;
        }
        if waits_for_room {
            // Looked at once more now that nobody lets go without a kick.
            self.queue_may_move = true;
            self.serve_those_who_wait(now);
        }
        !self.has_work() && self.effects.is_empty()
    }

    /// The plumbing does not sleep any more.
    pub fn woke(&mut self) {
        self.index.iter_mut().for_each(SharedIndex::woke);
    }

    /// Enters a sealed object, whose bytes are here, into the index.
    pub(super) fn enter(&mut self, id: ObjectId) {
        let (Some(index), Some(object)) = (&mut self.index, self.objects.get_mut(&id)) else { return };
        if matches!(object.entry, Indexed::None) {
            object.entry = index.index().insert(&id, object.location()).map_or(Indexed::LeftOut, Indexed::Here);
        }
    }

    /// Takes an object out of the index, unless somebody reads it. Returns whether nobody can any more.
    pub(super) fn withdraw(&mut self, id: ObjectId) -> bool {
        let (Some(index), Some(object)) = (&mut self.index, self.objects.get_mut(&id)) else { return true };
        object.entry = match std::mem::take(&mut object.entry) {
            Indexed::Here(descriptor) => index.evict(descriptor).map_or_else(Indexed::Here, |()| Indexed::None),
            other => without_place(index, other),
        };
        matches!(object.entry, Indexed::None)
    }

    /// Drops an object that no peer holds by the socket, now or when nobody reads it any more. Returns whether it is gone.
    pub(super) fn drop_unread(&mut self, id: ObjectId) -> bool {
        let Some(object) = self.objects.get_mut(&id) else { return true };
        if let Some(index) = &mut self.index {
            object.entry = match std::mem::take(&mut object.entry) {
                Indexed::Here(descriptor) => {
                    if index.delete(descriptor) {
                        Indexed::None
                    } else {
                        Indexed::Doomed
                    }
                }
                other => without_place(index, other),
            };
        }
        object.doomed = matches!(object.entry, Indexed::Doomed);
        match object.doomed {
            false => self.drop_object(id),
            true if object.owner.is_none() => drop(self.unlist(id)),
            true => {}
        }
        !self.objects.contains(&id)
    }

    /// Whether anybody can read without asking.
    pub(super) fn has_readers(&self) -> bool {
        self.index.as_ref().is_some_and(|index| index.peers() > 0)
    }

    /// An object was deleted and goes when whoever holds it by the socket lets go: who sees it in the index has to ask.
    pub(super) fn mark_doomed(&mut self, id: ObjectId) {
        let entry = self.objects.get(&id).map(|object| &object.entry);
        if let (Some(index), Some(Indexed::Here(descriptor))) = (&mut self.index, entry) {
            index.doom(descriptor);
        }
    }

    /// How many peers read an object.
    pub(super) fn readers(&self, object: &Object) -> u32 {
        match (&self.index, &object.entry) {
            (Some(index), Indexed::Here(descriptor)) => index.readers(descriptor),
            (_, Indexed::Doomed) => 1,
            _ => 0,
        }
    }

    /// Whether an object should not be evicted now: somebody reads it, or has since this was last asked.
    pub(super) fn is_wanted(&mut self, id: ObjectId) -> bool {
        match (&mut self.index, self.objects.get(&id).map(|object| &object.entry)) {
            (Some(index), Some(Indexed::Here(descriptor))) => index.was_used(descriptor) || index.is_held(descriptor),
            _ => false,
        }
    }

    /// Bytes of the objects that a peer reads.
    pub(super) fn read_bytes(&self, peer: PeerId) -> u64 {
        let Some(index) = &self.index else { return 0 };
        let is_read = |object: &&Object| match object.entry {
            Indexed::Here(ref descriptor) => index.is_held_by(peer, descriptor),
            _ => false,
        };
        self.objects.values().filter(is_read).map(Object::size).sum()
    }
}

/// An entry that has no place in the index, when its object leaves it.
fn without_place(index: &mut SharedIndex, entry: Indexed) -> Indexed {
    match entry {
        Indexed::LeftOut => {
            index.index().forget_unindexed();
            Indexed::None
        }
        other => other,
    }
}
