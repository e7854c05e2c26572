//! How objects come into being: filled later by their creator, or whole with the request.

use std::slice;

use foldhash::HashSet;

use crate::crash::{self, Point};
use crate::error::Error;
use crate::object::{Location, ObjectId, ObjectState};
use crate::protocol::{InlineObject, Refusal, Refused, Reply};
use crate::store::engine::external::{Relief, What};
use crate::store::engine::{Asker, Engine, Now};
use crate::store::leases::Producer;
use crate::store::objects::{Indexed, Object, Residence};
use crate::store::peers::PeerId;
use crate::store::queue::NewObject;
use crate::store::space::{NoRoom, Pages, Place, Populated, Space};

/// An object whose pages are still being allocated.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) asker: Asker,
    pub(super) id: ObjectId,
    pub(super) evict: bool,
    pub(super) purpose: Purpose,
    /// Bytes that were copied so far.
    pub(super) copied: u64,
}

/// What comes when all pages are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The answer to a create.
    Create,
    /// The bytes, from the external store.
    Return,
    /// The bytes, from where the object lies.
    Copy,
}

impl Growing {
    /// Begins with the first page.
    pub(super) fn new(asker: Asker, id: ObjectId, evict: bool, purpose: Purpose) -> Self {
        Self { asker, id, evict, purpose, copied: 0 }
    }

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

/// An object whose bytes are at hand.
#[derive(Clone, Copy, Debug)]
pub struct WholeObject<'a> {
    /// Its name.
    pub id: ObjectId,
    /// Its data.
    pub data: &'a [u8],
    /// Its metadata.
    pub metadata: &'a [u8],
    /// Its digest, which nobody checks.
    pub digest: [u8; 8],
}

impl WholeObject<'_> {
    /// The object that is to be made of it.
    fn new_object(&self, evict: bool) -> NewObject {
        let (data_size, metadata_size) = (self.data.len() as u64, self.metadata.len() as u64);
        NewObject { id: self.id, data_size, metadata_size, evict, ttl_ms: 0, immutable: false }
    }

    fn size(&self) -> u64 {
        (self.data.len() + self.metadata.len()) as u64
    }

    /// The same with bytes of its own, for one that has to wait.
    fn to_inline(self) -> InlineObject {
        let Self { id, data, metadata, digest } = self;
        InlineObject { id, data: data.to_vec(), metadata: metadata.to_vec(), digest }
    }
}

impl<'a> From<&'a InlineObject> for WholeObject<'a> {
    fn from(object: &'a InlineObject) -> Self {
        let InlineObject { id, data, metadata, digest } = object;
        Self { id: *id, data, metadata, digest: *digest }
    }
}

/// Why objects that came whole were not made, and which of them it was, where it was one.
pub(super) type NotMade = (Stop, Option<ObjectId>);

/// The reason alone.
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
    pub(super) fn of_object(
        self,
        id: ObjectId,
        evict: bool,
        ttl_ms: u64,
        immutable: bool,
    ) -> Result<NewObject, Refused> {
        if self.device_num != 0 {
            return Err(out_of_memory(format!("this store has host memory only, not device {}", self.device_num)));
        }
        match (u64::try_from(self.data), u64::try_from(self.metadata)) {
            (Ok(data_size), Ok(metadata_size)) => {
                Ok(NewObject { id, data_size, metadata_size, evict, ttl_ms, immutable })
            }
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
        let producer = self.producer(asker.peer, new.immutable);
        match if is_its_turn { self.begin_at_once(asker, new, producer, now) } else { Err(Lack::Full) } {
            Ok(()) => {
                self.give_to_creator(asker.peer, &new);
                self.grow(Growing::new(asker, id, evict, Purpose::Create));
            }
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
        if self.objects.contains(&id) {
            self.settle(id);
            if self.objects.contains(&id) {
                return Err(exists(id));
            }
        }
        let size = new.size();
        if let Some(quota) = self.quota_below(peer, size).filter(|_| evict) {
            return Err(out_of_memory(format!(
                "an object of {size} bytes is larger than the client's quota of {quota}"
            )));
        }
        if size > self.space.limit() {
            return Err(self.full(peer, size, now));
        }
        if new.immutable { self.check_immutable(peer) } else { Ok(()) }
    }

    /// Whether there can be a segment for one object that nobody can write.
    fn check_immutable(&self, peer: PeerId) -> Result<(), Refused> {
        let pulls = self.peers.get(&peer).is_some_and(|peer| peer.pulls);
        if !pulls || !self.space.pages().can_lease() {
            let whose = if pulls { "a store with a directory (-d) or huge pages (-h)" } else { "an old client" };
            let detail = format!("{whose} cannot have objects that are immutable for the kernel");
            return Err(Refused { refusal: Refusal::Unsupported, detail });
        }
        self.space.may_have_one_more().map_err(|(count, most)| {
            out_of_memory(format!(
                "{count} objects are immutable for the kernel, each with a descriptor of the store's; {most} may be"
            ))
        })
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
        let whole: Vec<_> = objects.iter().map(WholeObject::from).collect();
        match self.create_sealed(asker, &whole, evict, now) {
            Err((Stop::Later, _)) => self.put_later(asker, objects, is_batch, evict, now),
            outcome => self.answer_whole(asker, is_batch, outcome),
        }
    }

    /// Makes one object of bytes that are at hand. The answer is that of a batch, and where it was made there is none if nobody waits
    /// for one.
    pub fn put(&mut self, asker: Asker, object: WholeObject<'_>, evict: bool, is_awaited: bool, now: Now) {
        match self.create_sealed(asker, slice::from_ref(&object), evict, now) {
            Ok(()) if !is_awaited => {}
            Err((Stop::Later, _)) => self.put_later(asker, vec![object.to_inline()], true, evict, now),
            outcome => self.answer_whole(asker, true, outcome),
        }
    }

    /// Objects of these names are about to be put: what is looked up for each is asked for now, all at once.
    pub fn look_ahead(&mut self, ids: impl Iterator<Item = ObjectId> + Clone) {
        if let Some(index) = &mut self.index {
            ids.clone().for_each(|id| index.index().look_ahead(&id));
        }
        self.objects.look_ahead(ids);
    }

    /// What was put waits for the external store.
    fn put_later(&mut self, asker: Asker, objects: Vec<InlineObject>, is_batch: bool, evict: bool, now: Now) {
        if let Err(refused) = self.stall_whole(What::Whole { asker, objects, is_batch, evict, now }) {
            self.answer_whole(asker, is_batch, Err((refused.into(), None)));
        }
    }

    fn answer_whole(&mut self, asker: Asker, is_batch: bool, outcome: Result<(), NotMade>) {
        let (outcome, id) = match outcome {
            Err((Stop::Refused(refused), id)) => (Err(refused), id),
            Err((Stop::Later, _)) | Ok(()) => (Ok(()), None),
        };
        let reply = match is_batch {
            true => Reply::CreateAndSealBatch { outcome, id },
            false => Reply::CreateAndSeal { outcome: outcome.map_err(|refused| refused.refusal) },
        };
        self.reply(asker, reply);
    }

    /// Makes such objects: all of them, or none. Nobody holds them afterwards.
    fn create_sealed(
        &mut self,
        asker: Asker,
        objects: &[WholeObject<'_>],
        evict: bool,
        now: Now,
    ) -> Result<(), NotMade> {
        let peer = asker.peer;
        self.check_names(peer, objects, evict, now)?;
        self.check_room(peer, objects, evict, now).map_err(|stop| (stop, None))?;
        let ids = || objects.iter().map(|object| object.id);
        for (made, object) in objects.iter().enumerate() {
            if let Err(stop) = self.make(asker, object, evict, now) {
                ids().take(made).for_each(|id| self.drop_object(id));
                return Err((stop, Some(object.id)));
            }
        }
        for object in objects {
            self.mark_sealed(object.id, object.digest, now);
        }
        self.hand_over(ids());
        Ok(())
    }

    /// Objects that were made whole and are sealed now are everybody's.
    pub(super) fn hand_over(&mut self, made: impl ExactSizeIterator<Item = ObjectId> + Clone) {
        self.counted.creates += made.len() as u64;
        self.publish(made.clone());
        made.for_each(|id| self.holder_left(id, true));
    }

    /// Whether each of them can be made once there is room, and has a name of its own.
    fn check_names(&mut self, peer: PeerId, objects: &[WholeObject<'_>], evict: bool, now: Now) -> Result<(), NotMade> {
        let mut names = HashSet::default();
        for object in objects {
            let outcome = match objects.len() == 1 || names.insert(object.id) {
                true => self.check(peer, &object.new_object(evict), now),
                false => Err(exists(object.id)),
            };
            outcome.map_err(|refused| (refused.into(), Some(object.id)))?;
        }
        Ok(())
    }

    /// Refuses what cannot succeed as a whole before the first of them evicts others. With an external store, finds room for all:
    /// else each would wait on its own, and those before it would be made again every time.
    fn check_room(&mut self, peer: PeerId, objects: &[WholeObject<'_>], evict: bool, now: Now) -> Result<(), Stop> {
        let bytes = objects.iter().map(WholeObject::size).sum();
        if self.external.is_there {
            let place = self.reserve(peer, bytes, evict, None).map_err(|lack| self.stop(lack, peer, bytes, now))?;
            self.space.release(place, bytes);
            return Ok(());
        }
        let missing = |engine: &Self| (engine.space.used() + bytes).saturating_sub(engine.space.limit());
        while missing(self) > 0 && self.drop_idle_copy() {}
        let missing = missing(self);
        // A client with a quota makes room among its own objects, too.
        let has_quota = self.peers.get(&peer).is_some_and(|peer| peer.quota.is_some());
        if missing == 0 || has_quota || evict && self.can_evict(missing) {
            return Ok(());
        }
        let Refused { refusal, detail } = self.full(peer, bytes, now);
        Err(Refused { refusal, detail: format!("{} objects together: {detail}", objects.len()) }.into())
    }

    /// Makes one object that was checked, and fills it; it is not sealed yet. A message bounds its size, so this is not done in
    /// slices.
    fn make(&mut self, asker: Asker, object: &WholeObject<'_>, evict: bool, now: Now) -> Result<(), Stop> {
        let (peer, new) = (asker.peer, object.new_object(evict));
        let producer = self.producer(peer, false).map(|_| Producer::Store);
        self.begin_at_once(asker, new, producer, now).map_err(|lack| self.stop(lack, peer, new.size(), now))?;
        let filled = self.populate_whole(object.id, evict).and_then(|place| {
            let Some(place) = place else { return Ok(()) };
            let write = |engine: &mut Self| {
                engine.space.write(place, 0, object.data)?;
                crash::at(Point::BytesCopied);
                engine.space.write(place, object.data.len() as u64, object.metadata)
            };
            write(self).map_err(|error: Error| out_of_memory(error.to_string()).into())
        });
        filled.inspect_err(|_| self.drop_object(object.id))
    }

    fn stop(&mut self, lack: Lack, peer: PeerId, size: u64, now: Now) -> Stop {
        match lack {
            Lack::Later => Stop::Later,
            Lack::Full => Stop::Refused(self.full(peer, size, now)),
        }
    }

    fn populate_whole(&mut self, id: ObjectId, evict: bool) -> Result<Option<Place>, Stop> {
        let Some(object) = self.objects.get_mut(&id) else { return Ok(None) };
        object.populated = true;
        let Some(place) = object.place else { return Ok(None) };
        loop {
            match self.space.populate(place) {
                Ok(Populated::Whole) => return Ok(Some(place)),
                Ok(Populated::InPart) => {}
                Err(error) => match self.relieve_pages(evict) {
                    Relief::Now => self.finish_compaction(),
                    Relief::Later => return Err(Stop::Later),
                    Relief::None => return Err(out_of_memory(error.to_string()).into()),
                },
            }
        }
    }

    /// Enters an object that was checked, in room that has no pages yet. As long as it is being made it has a holder, who is no
    /// peer unless it is [given](Self::give_to_creator) to one.
    pub(super) fn begin(
        &mut self,
        asker: Asker,
        new: NewObject,
        producer: Option<Producer>,
        now: Now,
    ) -> Result<(), Lack> {
        if new.evict {
            self.make_room_in_quota(asker.peer, new.size());
        }
        let place = self.reserve(asker.peer, new.size(), new.evict, producer)?;
        crash::at(Point::RoomReserved);
        self.enter_new(asker, new, place, now);
        Ok(())
    }

    /// The same where its room is reserved.
    pub(super) fn enter_new(&mut self, asker: Asker, new: NewObject, place: Option<Place>, now: Now) {
        let NewObject { id, data_size, metadata_size, ttl_ms, immutable, .. } = new;
        let object = Object {
            place,
            copy: None,
            data_size,
            metadata_size,
            state: ObjectState::Created,
            populated: false,
            created_by: asker,
            owner: None,
            holders: 1,
            doomed: false,
            pinned: false,
            ttl_ms,
            immutable,
            shared: None,
            expires: None,
            age: None,
            create_time: now.unix_seconds,
            construct_duration: -1,
            digest: [0; 8],
            residence: Residence::Here,
            entry: Indexed::None,
            saved: false,
        };
        self.objects.insert(id, object);
        self.own(asker.peer, id);
    }

    /// A new object is held by its creator, who is to fill it.
    pub(super) fn give_to_creator(&mut self, peer: PeerId, new: &NewObject) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.hold(new.id, new.size());
            peer.unsealed.insert(new.id);
        }
    }

    /// Finds room, evicting objects if that is allowed and if it helps.
    pub(super) fn reserve(
        &mut self,
        peer: PeerId,
        size: u64,
        evict: bool,
        producer: Option<Producer>,
    ) -> Result<Option<Place>, Lack> {
        self.reserve_with(peer, evict, |space, kept| space.reserve(size, kept, producer))
    }

    /// The same for room that is found in another way, of which so many bytes are kept from this one.
    pub(super) fn reserve_with(
        &mut self,
        peer: PeerId,
        evict: bool,
        find: impl Fn(&mut Space<P>, u64) -> Result<Option<Place>, NoRoom>,
    ) -> Result<Option<Place>, Lack> {
        loop {
            let kept = self.kept();
            let relief = match find(&mut self.space, kept) {
                Ok(place) => return Ok(place),
                Err(NoRoom::NoSegment) => Relief::None,
                Err(_) if self.some_are_gone() || self.drop_idle_copy() => Relief::Now,
                Err(_) if !evict => Relief::None,
                Err(NoRoom::OverLimit(missing)) => {
                    self.relieve(missing, |engine, more| engine.eviction_goal(peer, more))
                }
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
        let Growing { id, evict, .. } = growing;
        let Some(object) = self.objects.get(&id) else { return };
        let place = match growing.purpose {
            Purpose::Copy => object.copy.as_ref().and_then(|copy| copy.place),
            _ => object.place,
        };
        let moves = object.copy.as_ref().is_some_and(|copy| copy.moves);
        let populated = place.map(|place| match moves {
            true => self.space.populate_for_move(place),
            false => self.space.populate(place),
        });
        match populated.unwrap_or(Ok(Populated::Whole)) {
            Ok(Populated::Whole) => self.has_grown(growing),
            Ok(Populated::InPart) => self.growing.push_back(growing),
            // What moves to make room waits for none.
            Err(error) if self.is_compacted(id) => self.give_up(&growing, error.to_string()),
            Err(error) => match self.relieve_pages(evict) {
                Relief::Now => self.growing.push_back(growing),
                Relief::Later => self.stall(0, What::Growing(growing)),
                Relief::None => self.give_up(&growing, error.to_string()),
            },
        }
    }

    /// All pages are there.
    fn has_grown(&mut self, growing: Growing) {
        let Growing { asker, id, purpose, .. } = growing;
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.populated = true;
        let location = object.location();
        match purpose {
            Purpose::Create => self.answer_create(asker, id, Ok(location)),
            Purpose::Return => self.fetch(id, location),
            Purpose::Copy => self.copy_on(growing),
        }
    }

    fn relieve_pages(&mut self, evict: bool) -> Relief {
        match evict {
            _ if self.drop_idle_copy() || self.compact() => Relief::Now,
            true => self.relieve_somehow(),
            false => Relief::None,
        }
    }

    /// Who writes what this peer creates, if nobody else may.
    pub(super) fn producer(&self, peer: PeerId, immutable: bool) -> Option<Producer> {
        let producer = if immutable { Producer::Once(peer) } else { Producer::Peer(peer) };
        self.peers.get(&peer).filter(|state| state.pulls).map(|_| producer)
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
            Purpose::Copy => self.has_no_room(id),
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

pub(super) fn out_of_memory(detail: String) -> Refused {
    Refused { refusal: Refusal::OutOfMemory, detail }
}
