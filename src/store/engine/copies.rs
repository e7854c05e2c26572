//! Copies for old clients. They map segments for writing, so they cannot have one that only its producer writes: what lies in such a
//! segment is copied into the shared one when the first of them asks for it.
//!
//! A copy counts as the object does, and stays until room is needed: then copies that nobody holds go before everything else. Where
//! there is no room for a copy, the object moves, as soon as nobody reads it; where that cannot be either, others are evicted, or
//! whoever asked waits. While it is being copied an object is held.

use crate::object::ObjectId;
use crate::store::engine::creation::{Growing, Purpose};
use crate::store::engine::external::Relief;
use crate::store::engine::{Asker, Engine};
use crate::store::leases;
use crate::store::objects::{Object, Residence, SecondPlace};
use crate::store::space::{NoRoom, Pages, Place, SLICE};

/// Nobody in particular: a copy is made for all old clients.
pub(super) const NOBODY: Asker = Asker { peer: leases::NOBODY, number: 0 };

impl<P: Pages> Engine<P> {
    /// Copies an object that somebody waits for and could have if there were a copy.
    pub(super) fn copy(&mut self, id: ObjectId) {
        let awaited = self.waiters.is_awaited(id);
        let object = self.objects.get_mut(&id).filter(|object| awaited && object.is_at_hand() && object.is_leased());
        let Some(object) = object.filter(|object| object.copy.is_none()) else { return };
        object.copy = Some(Box::new(SecondPlace { place: None, moves: false, is_ready: false, holders: 0 }));
        self.hold_to_copy(id);
        self.find_room(id);
    }

    /// An object that is being copied is held, though by no peer.
    pub(super) fn hold_to_copy(&mut self, id: ObjectId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.holders += 1;
        if object.owner.is_none() {
            self.unlist(id);
        }
    }

    /// Tries again where there was no room, or a reader in the way.
    pub(super) fn copy_those_that_wait(&mut self) {
        for id in std::mem::take(&mut self.uncopied) {
            let has_place = self.copy_of(id).map(|copy| copy.place.is_some());
            match has_place {
                Some(true) => self.finish_move(id),
                Some(false) if self.waiters.is_awaited(id) => self.find_room(id),
                Some(false) => self.end_copying(id),
                None => {}
            }
        }
    }

    fn copy_of(&self, id: ObjectId) -> Option<&SecondPlace> {
        self.objects.get(&id).and_then(|object| object.copy.as_deref())
    }

    fn find_room(&mut self, id: ObjectId) {
        let Some(size) = self.objects.get(&id).map(Object::size) else { return };
        loop {
            let lack = match self.space.reserve(size, self.kept(), None) {
                Ok(place) => return self.begin_copy(id, place, false),
                Err(lack) => lack,
            };
            if self.some_are_gone() || self.drop_idle_copy() {
                continue;
            }
            if self.is_in_the_way_of_nobody(id) {
                return self.begin_move(id, size);
            }
            let relief = match lack {
                NoRoom::OverLimit(missing) => self.relieve(missing, |_, more| more),
                NoRoom::Fragmented | NoRoom::NoSegment => self.relieve_somehow(),
            };
            if !matches!(relief, Relief::Now) {
                return self.has_no_room(id);
            }
        }
    }

    /// Whether nobody but the copying itself holds or reads an object, and it may move. An external store reads what it is given to write.
    fn is_in_the_way_of_nobody(&self, id: ObjectId) -> bool {
        let is_here = |object: &Object| object.residence == Residence::Here && !object.immutable;
        let is_free = |object: &Object| object.holders == 1 && is_here(object);
        self.objects.get(&id).is_some_and(|object| is_free(object) && self.readers(object) == 0)
    }

    fn begin_move(&mut self, id: ObjectId, size: u64) {
        match self.space.reserve_move(size, None) {
            Some(place) => {
                self.space.allow(size);
                self.begin_copy(id, Some(place), true);
            }
            None => self.has_no_room(id),
        }
    }

    fn begin_copy(&mut self, id: ObjectId, place: Option<Place>, moves: bool) {
        if let Some(copy) = self.objects.get_mut(&id).and_then(|object| object.copy.as_mut()) {
            (copy.place, copy.moves) = (place, moves);
        }
        self.growing.push_back(Growing::new(NOBODY, id, true, Purpose::Copy));
    }

    /// There is no room, or no memory: tried again when something goes, as long as somebody waits.
    pub(super) fn has_no_room(&mut self, id: ObjectId) {
        if self.is_compacted(id) {
            return self.end_copying(id);
        }
        log::warn!("object {id} waits for room where old clients can map it");
        self.give_up_place(id);
        self.uncopied.push_back(id);
    }

    /// Copies the next bytes into pages that are there.
    pub(super) fn copy_on(&mut self, growing: Growing) {
        let Growing { id, copied, .. } = growing;
        let Some(object) = self.objects.get(&id) else { return };
        let places = object.place.zip(object.copy.as_ref().and_then(|copy| copy.place));
        let end = object.size().min(copied + SLICE);
        let is_last = end == object.size();
        match places.map_or(Ok(()), |(from, to)| self.space.copy(from, to, copied..end)) {
            Ok(()) if is_last => self.has_copied(id),
            Ok(()) => self.growing.push_back(Growing { copied: end, ..growing }),
            Err(error) => {
                log::error!("object {id} was not copied for old clients: {error}");
                self.end_copying(id);
                self.waiters.give_up(id).into_iter().for_each(|get| self.answer_get(get));
            }
        }
    }

    fn has_copied(&mut self, id: ObjectId) {
        let Some(copy) = self.objects.get_mut(&id).and_then(|object| object.copy.as_mut()) else { return };
        if copy.moves {
            return self.finish_move(id);
        }
        copy.is_ready = true;
        self.copied.push_back(id);
        self.hand_out(id);
        self.holder_left(id, true);
    }

    /// The object lies where its copy is from now on, unless somebody reads it where it is.
    fn finish_move(&mut self, id: ObjectId) {
        if !self.is_in_the_way_of_nobody(id) {
            return self.cannot_move_now(id);
        }
        // Until the index has the new place, nobody may conclude that there is no such object.
        self.index.iter_mut().for_each(|index| index.index().is_never_complete());
        if self.withdraw(id) {
            if let Some(object) = self.objects.get_mut(&id) {
                let moved = object.copy.take();
                let before = std::mem::replace(&mut object.place, moved.and_then(|copy| copy.place));
                let size = object.size();
                self.space.release(before, 0);
                self.end_allowance(id, size);
            }
            self.enter(id);
            self.has_moved(id, true);
            self.hand_out(id);
            self.holder_left(id, true);
        } else {
            self.cannot_move_now(id);
        }
        self.index.iter_mut().for_each(|index| index.index().forget_unindexed());
    }

    /// Somebody reads it. An old client waits until nobody does; there is no need to wait with a compaction.
    fn cannot_move_now(&mut self, id: ObjectId) {
        match self.is_compacted(id) {
            true => self.end_copying(id),
            false => self.uncopied.push_back(id),
        }
    }

    /// No copy is made; who waits for it waits on.
    fn end_copying(&mut self, id: ObjectId) {
        self.drop_copy(id);
        self.holder_left(id, true);
        self.has_moved(id, false);
        self.copy(id);
    }

    /// Memory for both places of an object is not needed any more. With a compaction it ends with that.
    fn end_allowance(&mut self, id: ObjectId, size: u64) {
        if !self.is_compacted(id) {
            self.space.disallow(size);
        }
    }

    /// Gives back the room of a copy.
    fn give_up_place(&mut self, id: ObjectId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let (size, bytes) = (object.size(), object.copy_size());
        let Some(copy) = &mut object.copy else { return };
        let place = copy.place.take();
        if std::mem::take(&mut copy.moves) {
            self.end_allowance(id, size);
        }
        self.space.release(place, bytes);
        self.queue_may_move |= place.is_some();
    }

    /// Gives up a copy, if there is one.
    pub(super) fn drop_copy(&mut self, id: ObjectId) {
        self.give_up_place(id);
        if self.objects.get_mut(&id).and_then(|object| object.copy.take()).is_some() {
            self.copied.retain(|copied| *copied != id);
            self.uncopied.retain(|uncopied| *uncopied != id);
        }
    }

    /// Gives up the oldest copy that nobody holds. Returns whether there was one.
    pub(super) fn drop_idle_copy(&mut self) -> bool {
        let is_idle = |id: &&ObjectId| self.copy_of(**id).is_some_and(|copy| copy.holders == 0);
        let idle = self.copied.iter().find(is_idle).copied();
        idle.into_iter().for_each(|id| self.drop_copy(id));
        idle.is_some()
    }
}
