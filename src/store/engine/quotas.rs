//! Quotas: memory that a client reserves for what it creates.
//!
//! Objects that a client with a quota creates are its own: they wait in its list, also while in use, and nobody else's create
//! evicts them. What does not fit its quota takes from its own oldest: those in use, or pinned, are demoted to the
//! objects of all, the others evicted. When the client leaves, all are.

use crate::object::ObjectId;
use crate::protocol::Refusal;
use crate::store::engine::Engine;
use crate::store::eviction::LeastRecentlyUsed;
use crate::store::objects::Object;
use crate::store::peers::PeerId;
use crate::store::space::Pages;

/// Of the store's limit, this many tenths are never granted.
const TENTHS_FOR_ALL: u64 = 3;

/// What a client was granted.
#[derive(Debug)]
pub(in crate::store) struct Quota {
    /// Bytes that it may fill.
    pub(in crate::store) limit: u64,
    /// Bytes of its objects.
    pub(in crate::store) used: u64,
    /// Its objects.
    pub(in crate::store) objects: LeastRecentlyUsed,
}

impl<P: Pages> Engine<P> {
    /// Names a client, and grants it a quota: once, and while enough of the store is left for all.
    pub(super) fn set_options(&mut self, peer: PeerId, name: String, quota: i64) -> Result<(), Refusal> {
        let left = self.space.limit() - self.granted();
        let limit = u64::try_from(quota).ok();
        let Some(peer) = self.peers.get_mut(&peer) else { return Err(Refusal::OutOfMemory) };
        peer.name = name;
        let keeps = |granted: &u64| {
            left.checked_sub(*granted).is_some_and(|rest| rest * 10 >= self.space.limit() * TENTHS_FOR_ALL)
        };
        match limit.filter(keeps) {
            Some(limit) if peer.quota.is_none() => {
                peer.quota = Some(Quota { limit, used: 0, objects: LeastRecentlyUsed::default() });
                Ok(())
            }
            _ => Err(Refusal::OutOfMemory),
        }
    }

    /// Bytes of the store that are granted.
    pub(super) fn granted(&self) -> u64 {
        self.peers.values().filter_map(|peer| peer.quota.as_ref()).map(|quota| quota.limit).sum()
    }

    /// The client's quota, when no object of `size` bytes fits into it.
    pub(super) fn quota_below(&self, peer: PeerId, size: u64) -> Option<u64> {
        let quota = self.peers.get(&peer)?.quota.as_ref()?;
        (size > quota.limit).then_some(quota.limit)
    }

    /// Makes room for `size` bytes among the client's own objects, if it has a quota.
    pub(super) fn make_room_in_quota(&mut self, peer: PeerId, size: u64) {
        let Some(quota) = self.peers.get(&peer).and_then(|peer| peer.quota.as_ref()) else { return };
        let mut missing = (quota.used + size).saturating_sub(quota.limit);
        let mut victims = Vec::new();
        for id in quota.objects.oldest_first() {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(self.objects.get(&id).map_or(0, Object::size));
            victims.push(id);
        }
        victims.into_iter().for_each(|id| self.demote_or_evict(id));
    }

    fn demote_or_evict(&mut self, id: ObjectId) {
        match self.objects.get(&id) {
            // Counted like an eviction, as old Plasma counts it.
            Some(object) if object.holders > 0 || object.pinned => {
                let (owner, size) = (object.owner, object.size());
                self.list_of(owner).count_eviction(size);
                self.disown(id);
            }
            _ => drop(self.evict_one(id)),
        }
    }

    /// Makes a new object the client's own, if it has a quota.
    pub(super) fn own(&mut self, peer: PeerId, id: ObjectId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let Some(quota) = self.peers.get_mut(&peer).and_then(|peer| peer.quota.as_mut()) else { return };
        quota.used += object.size();
        object.owner = Some(peer);
        self.list(id);
    }

    /// Makes an object nobody's own; it is in no list then.
    pub(super) fn disown(&mut self, id: ObjectId) {
        self.unlist(id);
        let Some(object) = self.objects.get_mut(&id) else { return };
        let Some(owner) = object.owner.take() else { return };
        if let Some(quota) = self.peers.get_mut(&owner).and_then(|peer| peer.quota.as_mut()) {
            quota.used -= object.size();
        }
    }

    /// A client leaves: its objects become everybody's, oldest first.
    pub(super) fn end_quota(&mut self, peer: PeerId) {
        let Some(quota) = self.peers.get(&peer).and_then(|peer| peer.quota.as_ref()) else { return };
        let objects: Vec<_> = quota.objects.oldest_first().collect();
        for id in objects {
            self.disown(id);
            self.list_if_idle(id);
        }
    }
}
