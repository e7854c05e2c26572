//! How long objects live beside their holders: pins, which no eviction gets past, and times that end them.
//!
//! A pin is a flag on the object, not a count and nobody's own: it outlives whoever set it, and anybody takes it away. It keeps
//! an object from eviction and from nothing else: a delete, or the end of its time, is what somebody asked for.

use std::time::{Duration, Instant};

use crate::object::ObjectId;
use crate::protocol::Refusal;
use crate::store::engine::Engine;
use crate::store::space::Pages;

impl<P: Pages> Engine<P> {
    /// Pins sealed objects, or unpins them: all of them, or none. One entry for each id.
    pub(super) fn pin(&mut self, ids: &[ObjectId], pinned: bool) -> Vec<Result<(), Refusal>> {
        let check = |id: &ObjectId| match self.objects.get(id) {
            None => Err(Refusal::ObjectNotFound),
            Some(object) if !object.is_sealed() => Err(Refusal::ObjectNotSealed),
            Some(_) => Ok(()),
        };
        let outcomes: Vec<_> = ids.iter().map(check).collect();
        if outcomes.iter().all(Result::is_ok) {
            ids.iter().for_each(|id| self.set_pinned(*id, pinned));
        }
        outcomes
    }

    fn set_pinned(&mut self, id: ObjectId, pinned: bool) {
        let Some(object) = self.objects.get_mut(&id).filter(|object| object.pinned != pinned) else { return };
        object.pinned = pinned;
        let (size, owner) = (object.size(), object.owner);
        if !pinned {
            self.pinned_bytes -= size;
            self.list_if_idle(id);
        } else {
            self.pinned_bytes += size;
            if owner.is_none() {
                self.unlist(id);
            }
        }
    }

    /// From now on the time of a sealed object runs, if it has one. A time beyond all time is none.
    pub(super) fn start_time(&mut self, id: ObjectId, now: Instant) {
        let Some(object) = self.objects.get_mut(&id).filter(|object| object.ttl_ms > 0) else { return };
        object.expires = now.checked_add(Duration::from_millis(object.ttl_ms));
        self.expiries.extend(object.expires.map(|expires| (expires, id)));
    }

    /// Deletes objects whose time is over; those in use go when they are released.
    pub(super) fn end_times(&mut self, now: Instant) {
        while let Some((_, id)) = self.expiries.first().copied().filter(|(expires, _)| *expires <= now) {
            self.forget_time(id);
            // In use is no failure: it is doomed.
            let _ = self.delete(id);
        }
    }

    /// Takes an object out of those whose time runs.
    pub(super) fn forget_time(&mut self, id: ObjectId) {
        if let Some(expires) = self.objects.get_mut(&id).and_then(|object| object.expires.take()) {
            self.expiries.remove(&(expires, id));
        }
    }
}
