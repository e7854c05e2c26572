//! What an external store adds to the rules: evicted objects go there, and a get brings them back.
//!
//! An evicted object is written first, and gives its room up when that has succeeded; meanwhile it is got, held and deleted as
//! ever. Who needs the room waits in line, and only they. The external store itself is worked by a thread of the plumbing: jobs
//! go to it in order, and what became of one is told by its number.

use std::collections::VecDeque;

use foldhash::{HashMap, HashSet};

use crate::error::Result;
use crate::object::{Location, ObjectId};
use crate::protocol::{InlineObject, Refused, Reply};
use crate::store::engine::creation::{Growing, Lack, Purpose, out_of_memory};
use crate::store::engine::room::Evicted;
use crate::store::engine::{Asker, Effect, Engine, Now};
use crate::store::leases::{self, Producer};
use crate::store::objects::Residence;
use crate::store::peers::PeerId;
use crate::store::queue::NewObject;
use crate::store::space::{Pages, Place};

/// Bytes that one peer's requests may bring along while they wait for room: as many as one frame has at most.
const MAX_CARRIED: u64 = 64 << 20;

/// Something for the external store to do. Its jobs are done in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// By which the end of a put or a get is told.
    pub number: u64,
    /// Of what.
    pub id: ObjectId,
    /// What.
    pub work: Work,
}

/// What a job does. The bytes of a location are left alone until the job's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Write the bytes that lie here.
    Put(Location),
    /// Read the bytes to here.
    Get(Location),
    /// Forget them. Nobody waits for that.
    Delete,
}

/// What the engine remembers of an external store.
#[derive(Debug, Default)]
pub(super) struct External {
    pub(super) is_there: bool,
    next_job: u64,
    /// Puts and gets whose end was not told yet.
    pub(super) moves: HashMap<u64, Move>,
    /// Bytes that are free when the puts succeed.
    pub(super) leaving: u64,
    /// Who waits for those, first come first served.
    pub(super) line: VecDeque<Stalled>,
    /// Bytes that those in line need.
    pub(super) promised: u64,
    evictions: Vec<Eviction>,
    turn: Turn,
}

/// What is asked again when room has come, or has not.
#[derive(Debug, Default)]
enum Turn {
    /// Nothing: a request is new, and comes behind those in line.
    #[default]
    New,
    /// The first in line.
    Again,
    /// The first in line, after a write failed for this reason: it makes nobody go any more.
    Failed(String),
}

/// An object on its way out or in.
#[derive(Debug)]
pub(super) struct Move {
    id: ObjectId,
    /// Bytes of an object on its way out; 0 of one on its way in, as what has no bytes never leaves.
    pub(super) leaving: u64,
    /// Where the bytes lie of an object that was deleted on its way out.
    pub(super) orphan: Option<Place>,
}

/// One in line.
#[derive(Debug)]
pub(super) struct Stalled {
    bytes: u64,
    what: What,
}

/// What goes on when its turn comes.
#[derive(Debug)]
pub(super) enum What {
    /// A create, from its beginning.
    Create { asker: Asker, new: NewObject, wait_ms: i64, now: Now },
    /// Objects that came whole with their request, from the beginning.
    Whole { asker: Asker, objects: Vec<InlineObject>, is_batch: bool, evict: bool, now: Now },
    /// An object that has no room yet, or not all its pages.
    Growing(Growing),
}

/// An evict request whose objects are being written.
#[derive(Debug)]
struct Eviction {
    asker: Asker,
    freed: u64,
    jobs: HashSet<u64>,
}

/// How room for somebody comes.
pub(super) enum Relief {
    /// There is more than before.
    Now,
    /// When writes have succeeded that are under way.
    Later,
    /// It does not.
    None,
}

impl What {
    fn carried(&self) -> u64 {
        match self {
            Self::Whole { objects, .. } => objects.iter().map(InlineObject::size).sum(),
            _ => 0,
        }
    }

    fn asker(&self) -> Asker {
        match self {
            Self::Create { asker, .. } | Self::Whole { asker, .. } => *asker,
            Self::Growing(growing) => growing.asker,
        }
    }

    /// Whether it ends with this peer.
    fn ends_with(&self, peer: PeerId) -> bool {
        match self {
            Self::Growing(growing) => growing.ends_with(peer),
            _ => self.asker().peer == peer,
        }
    }
}

impl<P: Pages> Engine<P> {
    /// The same store with an external one behind it.
    #[must_use]
    pub fn with_external_store(mut self) -> Self {
        self.external.is_there = true;
        // What was evicted can still be got.
        self.index.iter_mut().for_each(|index| index.index().is_never_complete());
        self
    }

    /// A job has ended. Nothing happens for a number that is not open.
    pub fn job_done(&mut self, number: u64, outcome: Result<()>) {
        let Some(moved) = self.external.moves.remove(&number) else { return };
        let failure = outcome.as_ref().err().map(ToString::to_string);
        if moved.leaving == 0 {
            return match failure {
                None => self.is_back(moved.id),
                Some(failure) => self.stays_away(moved.id, &failure),
            };
        }
        let freed = self.has_left(moved, failure.as_deref());
        self.answer_evictions(number, freed);
        self.next_in_line(failure.map_or(Turn::Again, Turn::Failed));
    }

    /// Evicts for a peer that asked for just that, and answers when the bytes are free.
    pub(super) fn evict_for(&mut self, asker: Asker, bytes: u64) {
        let Evicted { freed, jobs } = self.evict(bytes);
        match jobs.is_empty() {
            true => self.reply(asker, Reply::Evict { bytes: freed }),
            false => self.external.evictions.push(Eviction { asker, freed, jobs: jobs.into_iter().collect() }),
        }
    }

    fn answer_evictions(&mut self, number: u64, freed: u64) {
        for eviction in &mut self.external.evictions {
            eviction.freed += if eviction.jobs.remove(&number) { freed } else { 0 };
        }
        let done: Vec<_> = self.external.evictions.extract_if(.., |eviction| eviction.jobs.is_empty()).collect();
        done.into_iter().for_each(|done| self.reply(done.asker, Reply::Evict { bytes: done.freed }));
    }

    /// Evicts an object that is in no list any more. Returns the job that has to succeed before its room is free.
    pub(super) fn send_away(&mut self, id: ObjectId) -> Option<u64> {
        let object = self.objects.get(&id)?;
        if object.saved {
            self.leave(id);
            return None;
        }
        let (leaving, location) = (object.size(), object.location());
        let job = self.order(id, Work::Put(location));
        self.external.moves.insert(job, Move { id, leaving, orphan: None });
        self.external.leaving += leaving;
        self.objects.get_mut(&id)?.residence = Residence::Leaving(job);
        Some(job)
    }

    /// Gives up an object's room. Returns how many bytes that were.
    fn leave(&mut self, id: ObjectId) -> u64 {
        self.drop_copy(id);
        let Some(object) = self.objects.get_mut(&id) else { return 0 };
        let bytes = object.size_here();
        object.residence = Residence::Away;
        self.space.release(object.place.take(), bytes);
        self.queue_may_move = true;
        bytes
    }

    /// An object was written, or was not. Returns the bytes that are free now.
    fn has_left(&mut self, moved: Move, failure: Option<&str>) -> u64 {
        self.external.leaving -= moved.leaving;
        if moved.orphan.is_some() {
            self.space.release(moved.orphan, moved.leaving);
            self.queue_may_move = true;
            return moved.leaving;
        }
        let Some(object) = self.objects.get_mut(&moved.id) else { return 0 };
        object.residence = Residence::Here;
        // It may move for old clients now.
        self.queue_may_move |= !self.uncopied.is_empty();
        object.saved = failure.is_none();
        if object.saved && object.holders == 0 && !object.pinned && self.withdraw(moved.id) {
            return self.leave(moved.id);
        }
        if let Some(failure) = failure {
            log::warn!("object {} was not written to the external store, and stays: {failure}", moved.id);
        }
        // At the young end, so that one that cannot be written does not keep the others from going.
        self.unheld(moved.id);
        0
    }

    /// Keeps the room of an object that is deleted until nobody reads it any more.
    pub(super) fn orphan(&mut self, job: u64, place: Option<Place>) {
        if let Some(moved) = self.external.moves.get_mut(&job) {
            moved.orphan = place;
        }
    }

    /// Brings an object back for those who wait for it, unless it comes already.
    pub(super) fn bring_back(&mut self, asker: Asker, id: ObjectId) {
        let away = self.objects.get_mut(&id).filter(|object| object.residence == Residence::Away);
        if let Some(object) = away.filter(|_| self.waiters.is_awaited(id)) {
            object.residence = Residence::Returning;
            self.place(Growing::new(asker, id, true, Purpose::Return));
        }
    }

    /// Finds room for an object that has none yet, and goes on with its pages.
    fn place(&mut self, growing: Growing) {
        let Some(object) = self.objects.get(&growing.id).filter(|object| object.place.is_none()) else {
            return self.grow(growing);
        };
        let bytes = object.size();
        let producer = object.immutable.then_some(Producer::Once(leases::NOBODY));
        match self.reserve(growing.asker.peer, bytes, growing.evict, producer) {
            Ok(place) => {
                let object = self.objects.get_mut(&growing.id);
                object.into_iter().for_each(|object| object.place = place);
                self.grow(growing);
            }
            Err(Lack::Later) => self.stall(bytes, What::Growing(growing)),
            Err(Lack::Full) => {
                let why = self.describe_full(bytes);
                self.stays_away(growing.id, &why);
            }
        }
    }

    /// All pages are there for an object that returns.
    pub(super) fn fetch(&mut self, id: ObjectId, location: Location) {
        let job = self.order(id, Work::Get(location));
        self.external.moves.insert(job, Move { id, leaving: 0, orphan: None });
    }

    fn is_back(&mut self, id: ObjectId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let filled = object.place.filter(|_| object.immutable).map(|place| self.space.make_readable(place));
        match filled {
            None | Some(Ok(true)) => object.residence = Residence::Here,
            Some(Ok(false)) => return self.stays_away(id, "somebody can write it"),
            Some(Err(error)) => return self.stays_away(id, &error.to_string()),
        }
        self.enter(id);
        self.gather(id);
        self.hand_out(id);
        self.unheld(id);
    }

    /// An object could not be brought back. The gets that wait for it end as if their time were over: nobody knows when another
    /// try would succeed.
    pub(super) fn stays_away(&mut self, id: ObjectId, why: &str) {
        log::warn!("object {id} stays in the external store: {why}");
        self.leave(id);
        self.waiters.give_up(id).into_iter().for_each(|get| self.answer_get(get));
        self.unheld(id);
    }

    pub(super) fn order(&mut self, id: ObjectId, work: Work) -> u64 {
        let number = self.external.next_job;
        self.external.next_job += 1;
        self.effects.push(Effect::External(Job { number, id, work }));
        number
    }

    /// Makes objects go for `missing` bytes over the limit, as far as writes that are under way will not do; if any have to, as
    /// many bytes as `goal` says.
    pub(super) fn relieve(&mut self, missing: u64, goal: impl FnOnce(&Self, u64) -> u64) -> Relief {
        match missing.saturating_sub(self.external.leaving.saturating_sub(self.promised())) {
            0 => Relief::Later,
            more if self.can_evict(more) => self.make_go(goal(self, more)),
            _ => Relief::None,
        }
    }

    /// The same where bytes are free but not in one piece, or have no memory: any object that goes may help.
    pub(super) fn relieve_somehow(&mut self) -> Relief {
        match self.external.leaving {
            0 if self.can_evict(1) => self.make_go(1),
            0 => Relief::None,
            _ => Relief::Later,
        }
    }

    fn make_go(&mut self, bytes: u64) -> Relief {
        if matches!(self.external.turn, Turn::Failed(_)) {
            return Relief::None;
        }
        match self.evict(bytes).freed {
            0 => Relief::Later,
            _ => Relief::Now,
        }
    }

    /// Bytes that those before the one who asks now wait for.
    fn promised(&self) -> u64 {
        if self.was_in_line() { 0 } else { self.external.promised }
    }

    /// Bytes that are free and must stay so, as what is being written is not enough for those before.
    pub(super) fn kept(&self) -> u64 {
        self.promised().saturating_sub(self.external.leaving)
    }

    /// Whether the one who asks now has waited in line.
    pub(super) fn was_in_line(&self) -> bool {
        !matches!(self.external.turn, Turn::New)
    }

    /// What else there is to say about room that did not come.
    pub(super) fn why_no_room(&self) -> String {
        match &self.external.turn {
            Turn::Failed(failure) => format!("; the external store failed: {failure}"),
            _ => String::new(),
        }
    }

    /// Puts somebody in line; who was at its head before stays there.
    pub(super) fn stall(&mut self, bytes: u64, what: What) {
        self.external.promised += bytes;
        let stalled = Stalled { bytes, what };
        match self.external.turn {
            Turn::New => self.external.line.push_back(stalled),
            _ => self.external.line.push_front(stalled),
        }
    }

    /// The same for a request that brings bytes along.
    ///
    /// # Errors
    /// When too many wait already.
    pub(super) fn stall_whole(&mut self, what: What) -> Result<(), Refused> {
        let bytes = what.carried();
        let Some(peer) = self.peers.get_mut(&what.asker().peer) else { return Ok(()) };
        if peer.carried > 0 && peer.carried + bytes > MAX_CARRIED {
            return Err(out_of_memory(format!("{} bytes of this client's wait for room already", peer.carried)));
        }
        peer.carried += bytes;
        self.stall(bytes, what);
        Ok(())
    }

    /// Serves those in line until one has to wait on.
    fn next_in_line(&mut self, turn: Turn) {
        self.external.turn = turn;
        while let Some(Stalled { bytes, what }) = self.external.line.pop_front() {
            self.external.promised -= bytes;
            if let Some(peer) = self.peers.get_mut(&what.asker().peer) {
                peer.carried -= what.carried();
            }
            let behind = self.external.line.len();
            match what {
                What::Create { asker, new, wait_ms, now } => self.create(asker, new, wait_ms, now),
                What::Whole { asker, objects, is_batch, evict, now } => {
                    self.create_whole(asker, objects, is_batch, evict, now);
                }
                What::Growing(growing) => self.place(growing),
            }
            if self.external.line.len() > behind {
                break;
            }
        }
        self.external.turn = Turn::New;
    }

    /// Takes a create out of the line. Returns whether it was there.
    pub(super) fn cancel_in_line(&mut self, asker: Asker) -> bool {
        let is_it = |stalled: &Stalled| matches!(stalled.what, What::Create { asker: its, .. } if its == asker);
        let Some(place) = self.external.line.iter().position(is_it) else { return false };
        let cancelled = self.external.line.remove(place);
        self.external.promised -= cancelled.map_or(0, |stalled| stalled.bytes);
        true
    }

    /// Takes a peer that is gone out of the line.
    pub(super) fn leave_line(&mut self, peer: PeerId) {
        self.external.evictions.retain(|eviction| eviction.asker.peer != peer);
        self.external.line.retain(|stalled| !stalled.what.ends_with(peer));
        self.external.promised = self.external.line.iter().map(|stalled| stalled.bytes).sum();
    }
}
