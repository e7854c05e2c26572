//! Who goes when there is no room: the lists that objects wait in for that, and what is taken from them.

use crate::object::ObjectId;
use crate::store::engine::Engine;
use crate::store::eviction::LeastRecentlyUsed;
use crate::store::objects::{Object, Residence};
use crate::store::peers::PeerId;
use crate::store::space::Pages;

/// What was evicted.
pub(super) struct Evicted {
    /// Bytes that are free.
    pub(super) freed: u64,
    /// The writes of the others, to the external store.
    pub(super) jobs: Vec<u64>,
}

impl<P: Pages> Engine<P> {
    /// Whether evicting everything that may go would free this many bytes; if not, nothing should go in vain.
    pub(super) fn can_evict(&self, bytes: u64) -> bool {
        self.evictable.bytes() >= bytes
    }

    /// For an old client a fifth of the store at least, as it always was; for the others what is needed.
    pub(super) fn eviction_goal(&self, peer: PeerId, missing: u64) -> u64 {
        match self.peers.get(&peer) {
            Some(peer) if peer.native => missing,
            _ => missing.max(self.space.limit() / 5),
        }
    }

    /// Evicts at least `bytes` bytes, oldest objects first, or everything that may go.
    pub(super) fn evict(&mut self, bytes: u64) -> Evicted {
        let mut chosen = 0;
        let mut victims = Vec::new();
        for id in self.evictable.oldest_first() {
            if chosen >= bytes {
                break;
            }
            let size = self.objects.get(&id).map_or(0, Object::size);
            chosen += size;
            victims.push((id, size));
        }
        let mut evicted = Evicted { freed: 0, jobs: Vec::new() };
        for (id, size) in victims {
            match self.evict_one(id) {
                Some(job) => evicted.jobs.push(job),
                None => evicted.freed += size,
            }
        }
        evicted
    }

    /// Evicts an object from the list that it is in. Returns the job that has to succeed before its room is free, if there is
    /// an external store to write it to.
    pub(super) fn evict_one(&mut self, id: ObjectId) -> Option<u64> {
        let (owner, size) = self.objects.get(&id).map(|object| (object.owner, object.size()))?;
        if self.external.is_there && size == 0 {
            // Nothing would be gained.
            return None;
        }
        self.list_of(owner).count_eviction(size);
        self.counted.eviction(size);
        if self.external.is_there {
            self.disown(id);
            return self.send_away(id);
        }
        self.drop_object(id);
        None
    }

    /// Puts an object at the young end of its list: its owner's, or that of all who have none.
    pub(super) fn list(&mut self, id: ObjectId) {
        let Some((owner, size)) = self.objects.get(&id).map(|object| (object.owner, object.size())) else { return };
        let age = self.list_of(owner).insert(id, size);
        if let Some(object) = self.objects.get_mut(&id) {
            object.age = Some(age);
        }
        self.queue_may_move = true;
    }

    /// Puts an object that is nobody's own into the list of all, if it may be evicted now.
    pub(super) fn list_if_idle(&mut self, id: ObjectId) {
        let is_idle = |object: &Object| {
            object.is_sealed() && object.residence == Residence::Here && object.holders == 0 && !object.pinned
        };
        if self.objects.get(&id).is_some_and(|object| object.owner.is_none() && is_idle(object)) {
            self.list(id);
        }
    }

    /// Takes an object out of the list that it is in. Returns whether it was in one.
    pub(super) fn unlist(&mut self, id: ObjectId) -> bool {
        let Some(object) = self.objects.get_mut(&id) else { return false };
        let (owner, size) = (object.owner, object.size());
        let Some(age) = object.age.take() else { return false };
        self.list_of(owner).remove(age, size);
        true
    }

    pub(super) fn list_of(&mut self, owner: Option<PeerId>) -> &mut LeastRecentlyUsed {
        let quota = owner.and_then(|owner| self.peers.get_mut(&owner)?.quota.as_mut());
        quota.map_or(&mut self.evictable, |quota| &mut quota.objects)
    }
}
