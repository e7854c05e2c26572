//! Who goes when there is no room: the lists that objects wait in for that, and what is taken from them.

use crate::object::ObjectId;
use crate::store::engine::Engine;
use crate::store::eviction::LeastRecentlyUsed;
use crate::store::objects::Object;
use crate::store::peers::PeerId;
use crate::store::space::Pages;

impl<P: Pages> Engine<P> {
    /// Whether evicting everything that may go would free this many bytes; if not, nothing should go in vain.
    pub(super) fn can_evict(&self, bytes: u64) -> bool {
        let mut left = bytes;
        self.evictable.oldest_first().any(|id| {
            left = left.saturating_sub(self.objects.get(&id).map_or(0, Object::size));
            left == 0
        })
    }

    /// For an old client a fifth of the store at least, as it always was; for the others what is needed.
    pub(super) fn eviction_goal(&self, peer: PeerId, missing: u64) -> u64 {
        match self.peers.get(&peer) {
            Some(peer) if peer.native => missing,
            _ => missing.max(self.space.limit() / 5),
        }
    }

    /// Evicts at least `bytes` bytes, oldest objects first, or everything that may go. Returns the bytes freed.
    pub(super) fn evict(&mut self, bytes: u64) -> u64 {
        let mut freed = 0;
        let mut victims = Vec::new();
        for id in self.evictable.oldest_first() {
            if freed >= bytes {
                break;
            }
            freed += self.objects.get(&id).map_or(0, Object::size);
            victims.push(id);
        }
        victims.into_iter().for_each(|id| self.evict_one(id));
        freed
    }

    /// Evicts an object from the list that it is in.
    pub(super) fn evict_one(&mut self, id: ObjectId) {
        if let Some((owner, size)) = self.objects.get(&id).map(|object| (object.owner, object.size())) {
            self.list_of(owner).count_eviction(size);
            self.counted.eviction(size);
            self.drop_object(id);
        }
    }

    /// Puts an object at the young end of its list: its owner's, or that of all who have none.
    pub(super) fn list(&mut self, id: ObjectId) {
        let Some(owner) = self.objects.get(&id).map(|object| object.owner) else { return };
        let age = self.list_of(owner).insert(id);
        if let Some(object) = self.objects.get_mut(&id) {
            object.age = Some(age);
        }
    }

    /// Takes an object out of the list that it is in. Returns whether it was in one.
    pub(super) fn unlist(&mut self, id: ObjectId) -> bool {
        let taken = self.objects.get_mut(&id).and_then(|object| Some((object.owner, object.age.take()?)));
        let Some((owner, age)) = taken else { return false };
        self.list_of(owner).remove(age);
        true
    }

    pub(super) fn list_of(&mut self, owner: Option<PeerId>) -> &mut LeastRecentlyUsed {
        let quota = owner.and_then(|owner| self.peers.get_mut(&owner)?.quota.as_mut());
        quota.map_or(&mut self.evictable, |quota| &mut quota.objects)
    }
}
