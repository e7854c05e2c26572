//! How objects come into being: filled later by their creator, or whole with the request.

use crate::error::Result;
use crate::object::{Location, ObjectId, ObjectState};
use crate::protocol::{InlineObject, Refusal, Refused, Reply};
use crate::shm::arena::Extent;
use crate::store::engine::{Asker, Engine, Now};
use crate::store::objects::Object;
use crate::store::peers::PeerId;
use crate::store::queue::NewObject;
use crate::store::space::{NoRoom, Pages, Populated};

/// A create whose pages are still being allocated.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) asker: Asker,
    pub(super) id: ObjectId,
    pub(super) evict: bool,
}

/// Sizes as a peer sent them.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) data: i64,
    pub(super) metadata: i64,
    pub(super) device_num: i32,
}

impl Sizes {
    /// The object that is to have these sizes, or a sentence that names what is wrong with them.
    pub(super) fn of_object(self, id: ObjectId, evict: bool, ttl_ms: u64) -> Result<NewObject, Refused> {
        if self.device_num != 0 {
            return Err(out_of_memory(format!("this store has host memory only, not device {}", self.device_num)));
        }
        match (u64::try_from(self.data), u64::try_from(self.metadata)) {
            (Ok(data_size), Ok(metadata_size)) => Ok(NewObject { id, data_size, metadata_size, evict, ttl_ms }),
            _ => {
                let text = format!("an object of {} data and {} metadata bytes cannot be", self.data, self.metadata);
                Err(out_of_memory(text))
            }
        }
    }
}

impl<P: Pages> Engine<P> {
    pub(super) fn create(&mut self, asker: Asker, new: NewObject, wait_ms: i64, now: Now) {
        let NewObject { id, evict, .. } = new;
        if let Err(refused) = self.check(asker.peer, &new, now) {
            return self.answer_create(asker, id, Err(refused));
        }
        let waits = self.may_wait(asker.peer, wait_ms);
        let is_its_turn = !waits || self.queue.is_empty();
        if is_its_turn && self.begin_at_once(asker, new, now) {
            self.grow(Growing { asker, id, evict });
        } else if waits {
            self.park(asker, new, wait_ms, now);
        } else {
            let refused = self.full(asker.peer, new.size(), now);
            self.answer_create(asker, id, Err(refused));
        }
    }

    /// Whether the object can be made once there is room.
    pub(super) fn check(&mut self, peer: PeerId, new: &NewObject, now: Now) -> Result<(), Refused> {
        let NewObject { id, evict, .. } = *new;
        if self.objects.contains_key(&id) {
            return Err(Refused { refusal: Refusal::ObjectExists, detail: format!("object {id} already exists") });
        }
        let size = new.size();
        if let Some(quota) = self.quota_below(peer, size).filter(|_| evict) {
            return Err(out_of_memory(format!(
                "an object of {size} bytes is larger than the client's quota of {quota}"
            )));
        }
        if size > self.space.limit() { Err(self.full(peer, size, now)) } else { Ok(()) }
    }

    /// Makes objects whose bytes came with the request: all of them, or none. Nobody holds them afterwards.
    pub(super) fn create_sealed(
        &mut self,
        asker: Asker,
        objects: Vec<InlineObject>,
        evict: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        let peer = asker.peer;
        let mut made = Vec::with_capacity(objects.len());
        for object in &objects {
            if let Err(refused) = self.make(asker, object, evict, now) {
                made.into_iter().for_each(|id| self.forget_unsealed(peer, id));
                return Err(refused.refusal);
            }
            made.push(object.id);
        }
        for object in &objects {
            self.mark_sealed(peer, object.id, object.digest, now)?;
        }
        self.publish(&made);
        made.into_iter().for_each(|id| self.release(peer, id));
        Ok(())
    }

    /// Makes one object and fills it; it is not sealed yet. A message bounds its size, so this is not done in slices.
    fn make(&mut self, asker: Asker, object: &InlineObject, evict: bool, now: Now) -> Result<(), Refused> {
        let (data_size, metadata_size) = (object.data.len() as u64, object.metadata.len() as u64);
        let new = NewObject { id: object.id, data_size, metadata_size, evict, ttl_ms: 0 };
        self.check(asker.peer, &new, now)?;
        if !self.begin_at_once(asker, new, now) {
            return Err(self.full(asker.peer, new.size(), now));
        }
        let filled = self.populate_whole(object.id, evict).and_then(|extent| {
            let Some(extent) = extent else { return Ok(()) };
            self.space.write(extent, 0, &object.data)?;
            self.space.write(extent, object.data.len() as u64, &object.metadata)
        });
        filled.map_err(|error| {
            self.forget_unsealed(asker.peer, object.id);
            out_of_memory(error.to_string())
        })
    }

    fn populate_whole(&mut self, id: ObjectId, evict: bool) -> Result<Option<Extent>> {
        let Some(object) = self.objects.get_mut(&id) else { return Ok(None) };
        object.populated = true;
        let Some(extent) = object.extent else { return Ok(None) };
        loop {
            match self.space.populate(extent) {
                Ok(Populated::Whole) => return Ok(Some(extent)),
                Ok(Populated::InPart) => {}
                Err(_) if evict && self.can_evict(1) && self.evict(1) > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Enters an object that was checked, held by its creator, in room that has no pages yet. Returns whether there was room.
    pub(super) fn begin(&mut self, asker: Asker, new: NewObject, now: Now) -> bool {
        let NewObject { id, data_size, metadata_size, evict, ttl_ms } = new;
        let peer = asker.peer;
        if evict {
            self.make_room_in_quota(peer, new.size());
        }
        let Some(extent) = self.reserve(peer, new.size(), evict) else { return false };
        let object = Object {
            extent,
            data_size,
            metadata_size,
            state: ObjectState::Created,
            populated: false,
            created_by: asker,
            owner: None,
            holders: 0,
            doomed: false,
            pinned: false,
            ttl_ms,
            expires: None,
            age: None,
            create_time: now.unix_seconds,
            construct_duration: -1,
            digest: [0; 8],
        };
        self.objects.insert(id, object);
        self.own(peer, id);
        self.hold(peer, id);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.unsealed.insert(id);
        }
        true
    }

    /// Finds room, evicting objects if that is allowed and if it helps.
    fn reserve(&mut self, peer: PeerId, size: u64, evict: bool) -> Option<Option<Extent>> {
        loop {
            let goal = match self.space.reserve(size) {
                Ok(extent) => return Some(extent),
                Err(NoRoom::OverLimit(missing)) if self.can_evict(missing) => self.eviction_goal(peer, missing),
                Err(NoRoom::Fragmented) => 1,
                Err(NoRoom::OverLimit(_)) => return None,
            };
            if !evict || !self.can_evict(1) || self.evict(goal) == 0 {
                return None;
            }
        }
    }

    /// Allocates the next pages of a new object, and answers when all are there or none are to be had.
    pub(super) fn grow(&mut self, growing: Growing) {
        let Growing { asker, id, evict } = growing;
        let Some(object) = self.objects.get_mut(&id) else { return };
        let populated = object.extent.map_or(Ok(Populated::Whole), |extent| self.space.populate(extent));
        match populated {
            Ok(Populated::Whole) => {
                object.populated = true;
                let location = object.location();
                self.answer_create(asker, id, Ok(location));
            }
            Ok(Populated::InPart) => self.growing.push_back(growing),
            Err(_) if evict && self.can_evict(1) && self.evict(1) > 0 => self.growing.push_back(growing),
            Err(error) => {
                self.forget_unsealed(asker.peer, id);
                self.answer_create(asker, id, Err(out_of_memory(error.to_string())));
            }
        }
    }

    pub(super) fn answer_create(&mut self, asker: Asker, id: ObjectId, outcome: Result<Location, Refused>) {
        self.reply(asker, Reply::Create { id, outcome, segment: None });
    }
}

pub(super) fn out_of_memory(detail: String) -> Refused {
    Refused { refusal: Refusal::OutOfMemory, detail }
}
