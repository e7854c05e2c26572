//! How objects come into being: filled later by their creator, or whole with the request.

use std::collections::HashSet;

use crate::error::Result;
use crate::object::{Location, ObjectId, ObjectState};
use crate::protocol::{InlineObject, Refusal, Refused, Reply};
use crate::shm::arena::Extent;
use crate::store::engine::{Asker, Engine, Now};
use crate::store::objects::Object;
use crate::store::peers::PeerId;
use crate::store::space::{NoRoom, Pages, Populated};

/// A create whose pages are still being allocated.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) asker: Asker,
    id: ObjectId,
    evict: bool,
}

/// Sizes as a peer sent them.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) data: i64,
    pub(super) metadata: i64,
    pub(super) device_num: i32,
}

impl Sizes {
    /// Data and metadata bytes, or a sentence that names what was wrong.
    fn checked(self) -> Result<(u64, u64), String> {
        if self.device_num != 0 {
            return Err(format!("this store has host memory only, not device {}", self.device_num));
        }
        match (u64::try_from(self.data), u64::try_from(self.metadata)) {
            (Ok(data), Ok(metadata)) => Ok((data, metadata)),
            _ => Err(format!("an object of {} data and {} metadata bytes cannot be", self.data, self.metadata)),
        }
    }
}

impl<P: Pages> Engine<P> {
    pub(super) fn create(&mut self, asker: Asker, id: ObjectId, sizes: Sizes, evict: bool, now: Now) {
        match self.begin(asker.peer, id, sizes, evict, now) {
            Ok(()) => self.grow(Growing { asker, id, evict }),
            Err(refused) => self.answer_create(asker, id, Err(refused)),
        }
    }

    /// Makes objects whose bytes came with the request: all of them, or none. Nobody holds them afterwards.
    ///
    /// A refusal comes with the object that was refused, where it was one.
    pub(super) fn create_sealed(
        &mut self,
        peer: PeerId,
        objects: Vec<InlineObject>,
        evict: bool,
        now: Now,
    ) -> Result<(), (Refused, Option<ObjectId>)> {
        self.check_batch(peer, &objects, evict)?;
        let mut made = Vec::with_capacity(objects.len());
        for object in &objects {
            if let Err(refused) = self.make(peer, object, evict, now) {
                made.into_iter().for_each(|id| self.forget_unsealed(peer, id));
                return Err((refused, Some(object.id)));
            }
            made.push(object.id);
        }
        for object in &objects {
            // Each was made above by this peer and is populated, so nothing is refused here.
            let sealed = self.mark_sealed(peer, object.id, object.digest, now);
            sealed.map_err(|refusal| (Refused { refusal, detail: String::new() }, Some(object.id)))?;
        }
        self.counted.creates += made.len() as u64;
        self.publish(&made);
        made.into_iter().for_each(|id| self.release(peer, id));
        Ok(())
    }

    /// Refuses what cannot succeed as a whole, before its first objects evict others.
    fn check_batch(
        &self,
        peer: PeerId,
        objects: &[InlineObject],
        evict: bool,
    ) -> Result<(), (Refused, Option<ObjectId>)> {
        let mut ids = HashSet::with_capacity(objects.len());
        let taken = objects.iter().find(|object| self.objects.contains_key(&object.id) || !ids.insert(object.id));
        if let Some(taken) = taken {
            return Err((exists(taken.id), Some(taken.id)));
        }
        let size: u64 = objects.iter().map(|object| (object.data.len() + object.metadata.len()) as u64).sum();
        let (used, limit) = (self.space.used(), self.space.limit());
        let missing = (used + size).saturating_sub(limit);
        // A client with a quota makes room among its own objects, too.
        let has_quota = self.peers.get(&peer).is_some_and(|peer| peer.quota.is_some());
        if missing > 0 && !has_quota && !(evict && self.can_evict(missing)) {
            let count = objects.len();
            let detail = format!("{count} objects of {size} bytes together do not fit: capacity {limit}, used {used}");
            return Err((out_of_memory(detail), None));
        }
        Ok(())
    }

    /// Makes one object and fills it; it is not sealed yet. A message bounds its size, so this is not done in slices.
    fn make(&mut self, peer: PeerId, object: &InlineObject, evict: bool, now: Now) -> Result<(), Refused> {
        let size_of = |bytes: &[u8]| i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let sizes = Sizes { data: size_of(&object.data), metadata: size_of(&object.metadata), device_num: 0 };
        self.begin(peer, object.id, sizes, evict, now)?;
        let filled = self.populate_whole(object.id, evict).and_then(|extent| {
            let Some(extent) = extent else { return Ok(()) };
            self.space.write(extent, 0, &object.data)?;
            self.space.write(extent, object.data.len() as u64, &object.metadata)
        });
        filled.map_err(|error| {
            self.forget_unsealed(peer, object.id);
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

    /// Enters a new object, held by its creator, in room that has no pages yet.
    fn begin(&mut self, peer: PeerId, id: ObjectId, sizes: Sizes, evict: bool, now: Now) -> Result<(), Refused> {
        if self.objects.contains_key(&id) {
            return Err(exists(id));
        }
        let (data_size, metadata_size) = sizes.checked().map_err(out_of_memory)?;
        if evict {
            self.make_room_in_quota(peer, data_size + metadata_size).map_err(out_of_memory)?;
        }
        let extent = self.reserve(peer, data_size + metadata_size, evict)?;
        let object = Object {
            extent,
            data_size,
            metadata_size,
            state: ObjectState::Created,
            populated: false,
            creator: peer,
            owner: None,
            holders: 0,
            doomed: false,
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
        Ok(())
    }

    /// Finds room, evicting objects if that is allowed and if it helps.
    fn reserve(&mut self, peer: PeerId, size: u64, evict: bool) -> Result<Option<Extent>, Refused> {
        loop {
            let goal = match self.space.reserve(size) {
                Ok(extent) => return Ok(extent),
                Err(NoRoom::OverLimit(missing)) if self.can_evict(missing) => self.eviction_goal(peer, missing),
                Err(NoRoom::Fragmented) if size <= self.space.limit() => 1,
                Err(_) => return Err(out_of_memory(self.space.describe(size))),
            };
            if !evict || !self.can_evict(1) || self.evict(goal) == 0 {
                return Err(out_of_memory(self.space.describe(size)));
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

    fn answer_create(&mut self, asker: Asker, id: ObjectId, outcome: Result<Location, Refused>) {
        self.counted.creates += u64::from(outcome.is_ok());
        self.reply(asker, Reply::Create { id, outcome, segment: None });
    }
}

fn exists(id: ObjectId) -> Refused {
    Refused { refusal: Refusal::ObjectExists, detail: format!("object {id} already exists") }
}

fn out_of_memory(detail: String) -> Refused {
    Refused { refusal: Refusal::OutOfMemory, detail }
}
