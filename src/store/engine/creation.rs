//! How objects come into being: filled later by their creator, or whole with the request.

use std::collections::HashSet;

use crate::error::Error;
use crate::object::{Location, ObjectId, ObjectState};
use crate::protocol::{InlineObject, Refusal, Refused, Reply};
use crate::shm::arena::Extent;
use crate::store::engine::external::{Relief, What};
use crate::store::engine::{Asker, Engine, Now};
use crate::store::objects::{Object, Residence};
use crate::store::peers::PeerId;
use crate::store::queue::NewObject;
use crate::store::space::{NoRoom, Pages, Populated};

/// An object whose pages are still being allocated.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) asker: Asker,
    pub(super) id: ObjectId,
    pub(super) evict: bool,
    pub(super) purpose: Purpose,
}

/// What comes when all pages are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The answer to a create.
    Create,
    /// The bytes, from the external store.
    Return,
}

impl Growing {
    /// Whether it ends with this peer. An object that returns does so for everybody.
    pub(super) fn ends_with(&self, peer: PeerId) -> bool {
        self.purpose == Purpose::Create && self.asker.peer == peer
    }
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// It comes when objects have been written to the external store.
    Later,
    /// It may come when somebody lets go of something.
    Full,
}

/// Why objects that came whole were not made.
pub(super) enum Stop {
    /// Room comes when objects have been written to the external store.
    Later,
    /// For good.
    Refused(Refused),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
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
        let is_its_turn = !waits || self.queue.is_empty() || self.was_in_line();
        match if is_its_turn { self.begin_at_once(asker, new, now) } else { Err(Lack::Full) } {
            Ok(()) => self.grow(Growing { asker, id, evict, purpose: Purpose::Create }),
            Err(Lack::Later) => self.stall(new.size(), What::Create { asker, new, wait_ms, now }),
            Err(Lack::Full) if waits => self.park(asker, new, wait_ms, now),
            Err(Lack::Full) => {
                let refused = self.full(asker.peer, new.size(), now);
                self.answer_create(asker, id, Err(refused));
            }
        }
    }

    /// Whether the object can be made once there is room.
    pub(super) fn check(&mut self, peer: PeerId, new: &NewObject, now: Now) -> Result<(), Refused> {
        let NewObject { id, evict, .. } = *new;
        if self.objects.contains_key(&id) {
            return Err(exists(id));
        }
        let size = new.size();
        if let Some(quota) = self.quota_below(peer, size).filter(|_| evict) {
            return Err(out_of_memory(format!(
                "an object of {size} bytes is larger than the client's quota of {quota}"
            )));
        }
        if size > self.space.limit() { Err(self.full(peer, size, now)) } else { Ok(()) }
    }

    /// Makes objects whose bytes came with the request, and answers it.
    pub(super) fn create_whole(
        &mut self,
        asker: Asker,
        objects: Vec<InlineObject>,
        is_batch: bool,
        evict: bool,
        now: Now,
    ) {
        let (outcome, id) = match self.create_sealed(asker, &objects, evict, now) {
            Ok(()) => (Ok(()), None),
            Err((Stop::Refused(refused), id)) => (Err(refused), id),
            Err((Stop::Later, _)) => match self.stall_whole(What::Whole { asker, objects, is_batch, evict, now }) {
                Ok(()) => return,
                Err(refused) => (Err(refused), None),
            },
        };
        match is_batch {
            true => self.reply(asker, Reply::CreateAndSealBatch { outcome, id }),
            false => {
                let outcome = outcome.map_err(|refused| refused.refusal);
                self.reply(asker, Reply::CreateAndSeal { outcome });
            }
        }
    }

    /// Makes such objects: all of them, or none. Nobody holds them afterwards.
    ///
    /// What stops it comes with the object that was refused, where it was one.
    fn create_sealed(
        &mut self,
        asker: Asker,
        objects: &[InlineObject],
        evict: bool,
        now: Now,
    ) -> Result<(), (Stop, Option<ObjectId>)> {
        let peer = asker.peer;
        self.check_names(peer, objects, evict, now)?;
        self.check_room(peer, objects, evict, now).map_err(|stop| (stop, None))?;
        let mut made = Vec::with_capacity(objects.len());
        for object in objects {
            if let Err(stop) = self.make(asker, object, evict, now) {
                made.into_iter().for_each(|id| self.forget_unsealed(peer, id));
                return Err((stop, Some(object.id)));
            }
            made.push(object.id);
        }
        for object in objects {
            // It was made just now, by this peer.
            let _ = self.mark_sealed(peer, object.id, object.digest, now);
        }
        self.counted.creates += made.len() as u64;
        self.publish(&made);
        made.into_iter().for_each(|id| self.release(peer, id));
        Ok(())
    }

    /// Whether each of them can be made once there is room, and has a name of its own.
    fn check_names(
        &mut self,
        peer: PeerId,
        objects: &[InlineObject],
        evict: bool,
        now: Now,
    ) -> Result<(), (Stop, Option<ObjectId>)> {
        let mut names = HashSet::with_capacity(objects.len());
        for object in objects {
            let outcome = match names.insert(object.id) {
                true => self.check(peer, &whole(object, evict), now),
                false => Err(exists(object.id)),
            };
            outcome.map_err(|refused| (refused.into(), Some(object.id)))?;
        }
        Ok(())
    }

    /// Refuses what cannot succeed as a whole before the first of them evicts others. With an external store, finds room for all:
    /// else each would wait on its own, and those before it would be made again every time.
    fn check_room(&mut self, peer: PeerId, objects: &[InlineObject], evict: bool, now: Now) -> Result<(), Stop> {
        let bytes = objects.iter().map(InlineObject::size).sum();
        if self.external.is_there {
            let extent = self.reserve(peer, bytes, evict).map_err(|lack| self.stop(lack, peer, bytes, now))?;
            self.space.release(extent, bytes);
            return Ok(());
        }
        let missing = (self.space.used() + bytes).saturating_sub(self.space.limit());
        // A client with a quota makes room among its own objects, too.
        let has_quota = self.peers.get(&peer).is_some_and(|peer| peer.quota.is_some());
        if missing == 0 || has_quota || evict && self.can_evict(missing) {
            return Ok(());
        }
        let Refused { refusal, detail } = self.full(peer, bytes, now);
        Err(Refused { refusal, detail: format!("{} objects together: {detail}", objects.len()) }.into())
    }

    /// Makes one object and fills it; it is not sealed yet. A message bounds its size, so this is not done in slices.
    fn make(&mut self, asker: Asker, object: &InlineObject, evict: bool, now: Now) -> Result<(), Stop> {
        let (peer, new) = (asker.peer, whole(object, evict));
        self.check(peer, &new, now)?;
        self.begin_at_once(asker, new, now).map_err(|lack| self.stop(lack, peer, new.size(), now))?;
        let filled = self.populate_whole(object.id, evict).and_then(|extent| {
            let Some(extent) = extent else { return Ok(()) };
            let write = |engine: &mut Self| {
                engine.space.write(extent, 0, &object.data)?;
                engine.space.write(extent, object.data.len() as u64, &object.metadata)
            };
            write(self).map_err(|error: Error| out_of_memory(error.to_string()).into())
        });
        filled.inspect_err(|_| self.forget_unsealed(peer, object.id))
    }

    fn stop(&mut self, lack: Lack, peer: PeerId, size: u64, now: Now) -> Stop {
        match lack {
            Lack::Later => Stop::Later,
            Lack::Full => Stop::Refused(self.full(peer, size, now)),
        }
    }

    fn populate_whole(&mut self, id: ObjectId, evict: bool) -> Result<Option<Extent>, Stop> {
        let Some(object) = self.objects.get_mut(&id) else { return Ok(None) };
        object.populated = true;
        let Some(extent) = object.extent else { return Ok(None) };
        loop {
            match self.space.populate(extent) {
                Ok(Populated::Whole) => return Ok(Some(extent)),
                Ok(Populated::InPart) => {}
                Err(error) => match self.relieve_pages(evict) {
                    Relief::Now => {}
                    Relief::Later => return Err(Stop::Later),
                    Relief::None => return Err(out_of_memory(error.to_string()).into()),
                },
            }
        }
    }

    /// Enters an object that was checked, held by its creator, in room that has no pages yet.
    pub(super) fn begin(&mut self, asker: Asker, new: NewObject, now: Now) -> Result<(), Lack> {
        let NewObject { id, data_size, metadata_size, evict, ttl_ms } = new;
        let peer = asker.peer;
        if evict {
            self.make_room_in_quota(peer, new.size());
        }
        let extent = self.reserve(peer, new.size(), evict)?;
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
            residence: Residence::Here,
            saved: false,
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
    pub(super) fn reserve(&mut self, peer: PeerId, size: u64, evict: bool) -> Result<Option<Extent>, Lack> {
        loop {
            let relief = match self.space.reserve(size, self.kept()) {
                Ok(extent) => return Ok(extent),
                Err(_) if !evict => Relief::None,
                Err(NoRoom::OverLimit(missing)) => self.relieve(peer, missing),
                Err(NoRoom::Fragmented) => self.relieve_somehow(),
            };
            match relief {
                Relief::Now => {}
                Relief::Later => return Err(Lack::Later),
                Relief::None => return Err(Lack::Full),
            }
        }
    }

    /// Allocates the next pages of a new object, and answers when all are there or none are to be had.
    pub(super) fn grow(&mut self, growing: Growing) {
        let Growing { asker, id, evict, purpose } = growing;
        let Some(object) = self.objects.get_mut(&id) else { return };
        let populated = object.extent.map_or(Ok(Populated::Whole), |extent| self.space.populate(extent));
        match populated {
            Ok(Populated::Whole) => {
                object.populated = true;
                let location = object.location();
                match purpose {
                    Purpose::Create => self.answer_create(asker, id, Ok(location)),
                    Purpose::Return => self.fetch(id, location),
                }
            }
            Ok(Populated::InPart) => self.growing.push_back(growing),
            Err(error) => match self.relieve_pages(evict) {
                Relief::Now => self.growing.push_back(growing),
                Relief::Later => self.stall(0, What::Growing(growing)),
                Relief::None => self.give_up(&growing, error.to_string()),
            },
        }
    }

    fn relieve_pages(&mut self, evict: bool) -> Relief {
        if evict { self.relieve_somehow() } else { Relief::None }
    }

    /// There are no pages.
    fn give_up(&mut self, growing: &Growing, why: String) {
        let Growing { asker, id, .. } = *growing;
        match growing.purpose {
            Purpose::Create => {
                self.forget_unsealed(asker.peer, id);
                self.answer_create(asker, id, Err(out_of_memory(why)));
            }
            Purpose::Return => self.stays_away(id, &why),
        }
    }

    pub(super) fn answer_create(&mut self, asker: Asker, id: ObjectId, outcome: Result<Location, Refused>) {
        self.counted.creates += u64::from(outcome.is_ok());
        self.reply(asker, Reply::Create { id, outcome, segment: None });
    }
}

fn exists(id: ObjectId) -> Refused {
    Refused { refusal: Refusal::ObjectExists, detail: format!("object {id} already exists") }
}

/// What an object is that came whole.
fn whole(object: &InlineObject, evict: bool) -> NewObject {
    let (data_size, metadata_size) = (object.data.len() as u64, object.metadata.len() as u64);
    NewObject { id: object.id, data_size, metadata_size, evict, ttl_ms: 0 }
}

pub(super) fn out_of_memory(detail: String) -> Refused {
    Refused { refusal: Refusal::OutOfMemory, detail }
}
