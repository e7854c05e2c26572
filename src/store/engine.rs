//! The rules of the store: a request comes in with who asked and what time it is, effects come out.
//!
//! Nothing here knows a socket, a descriptor or a clock, so every rule can be tested by calling it. Old clients and native
//! ones are told apart only where the old protocol promises something that costs the others: see [`Peer::native`].
#![forbid(unsafe_code)]

mod compaction;
mod copies;
mod creation;
mod external;
mod figures;
mod granting;
mod idle;
mod lending;
mod lifetimes;
mod quotas;
mod readers;
mod room;
mod sharing;
mod subscribers;
mod waiting;
mod wants;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt, HashSet};

use crate::crash::{self, Point};
use crate::error::Result;
use crate::object::{Location, ObjectId, ObjectState};
use crate::protocol::native::{
    ABILITY_INDEX, ABILITY_REQUEST_NUMBERS, ABILITY_RING, ABILITY_SEGMENTS, ABILITY_SHARING,
};
use crate::protocol::notification::Event;
use crate::protocol::{InlineObject, Refusal, Reply, Request, Shared};
use crate::shm::mapping::HUGE_PAGE;
use crate::shm::pins::store::SharedIndex;
use crate::store::engine::compaction::Compaction;
pub use crate::store::engine::creation::WholeObject;
use crate::store::engine::creation::{Growing, Sizes};
use crate::store::engine::external::External;
pub use crate::store::engine::external::{Job, Work};
use crate::store::engine::figures::Counted;
pub(in crate::store) use crate::store::engine::quotas::Quota;
pub use crate::store::engine::subscribers::SubscriptionId;
use crate::store::engine::wants::Wants;
use crate::store::eviction::LeastRecentlyUsed;
use crate::store::objects::{Object, Residence};
use crate::store::peers::{Peer, PeerId};
pub use crate::store::queue::NewObject;
use crate::store::queue::Queue;
use crate::store::space::{Pages, Space};
use crate::store::table::Objects;
pub use crate::store::waiters::Asker;
use crate::store::waiters::{Load, Waiters, WaitingGet};

/// What one peer may have waiting, so that it cannot take the store's own memory; a peer that asks for more is none of ours.
const MAX_WAITING: Load = Load { gets: 1 << 16, ids: 1 << 20 };

/// What a native peer may use.
const ABILITIES: u64 = ABILITY_REQUEST_NUMBERS | ABILITY_INDEX | ABILITY_SEGMENTS | ABILITY_RING | ABILITY_SHARING;

/// So many seals of one peer may come while somebody can still write its object.
const MAX_REFUSED_SEALS: u32 = 100;

/// What time it is, for rules that count it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For timeouts.
    pub instant: Instant,
    /// For what users are shown: seconds since 1970.
    pub unix_seconds: i64,
}

/// What the plumbing has to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send this answer.
    Reply {
        /// To whom.
        to: Asker,
        /// What. Segments are left for the plumbing to fill in.
        reply: Reply,
    },
    /// Begin a subscription. A native asker is to be answered, with a descriptor.
    Subscribe {
        /// Who asked.
        asker: Asker,
        /// What it is called from now on.
        id: SubscriptionId,
    },
    /// Tell subscribers what happened at once.
    Notify {
        /// Whom.
        to: Vec<SubscriptionId>,
        /// What.
        events: Vec<Event>,
    },
    /// Give this to the external store, behind what it was given before. The end is told by [`Engine::job_done`].
    External(Job),
    /// Serve a native peer that wants to get objects without asking, or has mapped what it was given for that.
    Index {
        /// Who.
        asker: Asker,
        /// Which of the two.
        mapped: bool,
    },
    /// Gather this object in huge pages, when there is time: it is large, and stays as it is.
    Gather {
        /// Where its bytes are.
        location: Location,
    },
    /// Serve a native peer that wants to submit requests through shared memory, or has mapped what it was given for that.
    Submit {
        /// Who.
        asker: Asker,
        /// Which of the two.
        mapped: bool,
    },
    /// Ring a bell of a native peer: an object that it waits for may be there.
    Wake {
        /// Whose.
        peer: PeerId,
        /// Which, as the peer said.
        bell: u64,
    },
    /// Answer a native peer that takes part in a shared object from now on, with the descriptor of its control file.
    Share {
        /// Who asked.
        asker: Asker,
        /// What it is told.
        shared: Shared,
    },
    /// Send a native peer the descriptor of a segment, with the answer.
    Segment {
        /// Who asked.
        asker: Asker,
        /// Its key.
        segment: i32,
        /// To write it, or to read it.
        writable: bool,
    },
    /// Ring a native peer's bell: it has segments to let go of.
    Ring {
        /// Whose.
        peer: PeerId,
    },
    /// Close this connection: the peer broke the protocol in a way that has no answer.
    Close {
        /// Whose.
        peer: PeerId,
        /// For the log.
        reason: String,
    },
}

/// The state of a store.
#[derive(Debug)]
pub struct Engine<P> {
    objects: Objects,
    space: Space<P>,
    evictable: LeastRecentlyUsed,
    peers: HashMap<PeerId, Peer>,
    waiters: Waiters,
    wants: Wants,
    growing: VecDeque<Growing>,
    /// A segment that is being emptied.
    compaction: Option<Compaction>,
    compaction_has_failed: bool,
    /// Objects with copies, those that were made first before the others.
    copied: VecDeque<ObjectId>,
    /// Objects that old clients wait for, and for which there is no room where those could map it.
    uncopied: VecDeque<ObjectId>,
    queue: Queue,
    /// Something has changed since the first in the queue was last tried, so that it may be served now, or never.
    queue_may_move: bool,
    /// When nothing will have come or gone for a while.
    idle_at: Option<Instant>,
    /// Objects whose time runs, by when they end.
    expiries: BTreeSet<(Instant, ObjectId)>,
    /// Bytes of pinned objects.
    pinned_bytes: u64,
    /// When the log was last told that the store is full.
    full_logged: Option<Instant>,
    /// How many bytes which peer held when that was last looked at.
    holds_most: (Option<Instant>, Option<(u64, PeerId)>),
    external: External,
    index: Option<SharedIndex>,
    subscribers: BTreeMap<SubscriptionId, PeerId>,
    next_subscription: SubscriptionId,
    counted: Counted,
    effects: Vec<Effect>,
    next_peer: PeerId,
}

impl<P: Pages> Engine<P> {
    /// An empty store of `limit` bytes of data and metadata in `pages`.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] for a limit that cannot be.
    pub fn new(limit: u64, pages: P) -> Result<Self> {
        Ok(Self {
            objects: Objects::default(),
            space: Space::new(limit, pages)?,
            evictable: LeastRecentlyUsed::default(),
            peers: HashMap::new(),
            waiters: Waiters::default(),
            wants: Wants::default(),
            growing: VecDeque::new(),
            compaction: None,
            compaction_has_failed: false,
            copied: VecDeque::new(),
            uncopied: VecDeque::new(),
            queue: Queue::default(),
            queue_may_move: false,
            idle_at: None,
            expiries: BTreeSet::new(),
            pinned_bytes: 0,
            full_logged: None,
            holds_most: (None, None),
            external: External::default(),
            index: None,
            subscribers: BTreeMap::new(),
            next_subscription: 0,
            counted: Counted::default(),
            effects: Vec::new(),
            next_peer: 0,
        })
    }

    /// Somebody connected.
    pub fn connect(&mut self) -> PeerId {
        let peer = self.next_peer;
        self.next_peer += 1;
        self.peers.insert(peer, Peer::default());
        peer
    }

    /// Says what people are told of a peer when it is in the way of others, such as `process 42 (trainer)`.
    pub fn name_process(&mut self, peer: PeerId, process: String) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.process = process;
        }
    }

    /// A connection ended, however it did: takes back everything the peer held or left unfinished.
    pub fn disconnect(&mut self, peer: PeerId) {
        self.waiters.forget(peer);
        self.wants.forget(peer);
        self.queue.forget(peer);
        self.queue_may_move = true;
        self.growing.retain(|growing| !growing.ends_with(peer));
        self.leave_line(peer);
        self.subscribers.retain(|_, subscriber| *subscriber != peer);
        self.end_quota(peer);
        let Some(left) = self.peers.remove(&peer) else { return };
        crash::at(Point::PeerForgotten);
        for id in left.unsealed {
            self.drop_object(id);
        }
        for (id, participant) in left.sharing {
            self.participant_left(id, participant);
        }
        for id in left.held.into_keys() {
            self.holder_left(id, left.pulls);
        }
        self.remove_reader(peer);
        self.space.peer_left(peer);
        self.clear_up();
    }

    /// What has to be done since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let to_tell = self.space.leases_mut().take_to_tell();
        self.effects.extend(to_tell.into_iter().map(|peer| Effect::Ring { peer }));
        std::mem::take(&mut self.effects)
    }

    /// When [`Engine::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let end = self.expiries.first().map(|(end, _)| *end);
        [self.waiters.next_deadline(), self.queue.next_deadline(), end, self.idle_at].into_iter().flatten().min()
    }

    /// Ends what has lasted its time: gets that wait, objects, and creates that wait, which are tried once more. Gives memory back that
    /// nobody has needed for a while.
    pub fn expire(&mut self, now: Now) {
        while let Some(get) = self.waiters.expired(now.instant) {
            self.answer_get(get);
        }
        self.end_times(now.instant);
        while let Some(create) = self.queue.expired(now.instant) {
            self.queue_may_move = true;
            self.create(create.asker, create.new, 0, now);
        }
        self.look_if_idle(now.instant);
    }

    /// Whether [`Engine::work`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.growing.is_empty()
            || self.compaction.is_some()
            || self.queue_may_move && !(self.queue.is_empty() && self.uncopied.is_empty())
    }

    /// Does one slice of long work, so that large creates delay nobody else for long, and serves one create that waits.
    pub fn work(&mut self, now: Now) {
        if let Some(growing) = self.growing.pop_front() {
            self.grow(growing);
        }
        self.compact_on();
        self.serve_those_who_wait(now);
        self.space.restock();
    }

    /// Tries again what had no room, if something has changed.
    fn serve_those_who_wait(&mut self, now: Now) {
        if self.queue_may_move {
            self.copy_those_that_wait();
        }
        match self.queue.is_empty() {
            true => self.queue_may_move = false,
            false => self.serve_first(now),
        }
    }

    /// Serves one request.
    pub fn handle(&mut self, asker: Asker, request: Request, now: Now) {
        if !self.peers.contains_key(&asker.peer) {
            return;
        }
        match request {
            Request::Connect { abilities } => self.greet(asker, abilities),
            Request::Disconnect => self.close(asker.peer, "it said goodbye".into()),
            Request::Create { id, data_size, metadata_size, evict_if_full, device_num, ttl_ms, wait_ms, immutable } => {
                let sizes = Sizes { data: data_size, metadata: metadata_size, device_num };
                match sizes.of_object(id, evict_if_full, ttl_ms, immutable) {
                    Ok(new) => self.create(asker, new, wait_ms, now),
                    Err(refused) => self.answer_create(asker, id, Err(refused)),
                }
            }
            Request::CreateAndSeal { id, evict_if_full, data, metadata, digest } => {
                let object = InlineObject { id, data, metadata, digest };
                self.create_whole(asker, vec![object], false, evict_if_full, now);
            }
            Request::CreateAndSealBatch { objects, evict_if_full } => {
                self.create_whole(asker, objects, true, evict_if_full, now);
            }
            Request::Seal { id, digest } => {
                let outcome = self.seal(asker.peer, id, digest, now);
                self.reply(asker, Reply::Seal { id, outcome });
            }
            Request::Abort { id } => self.abort(asker, id),
            Request::Get { ids, timeout_ms } => self.get(asker, ids, timeout_ms, now),
            Request::Release { id } => self.release(asker.peer, id),
            Request::Delete { ids } => {
                let outcomes = ids.iter().map(|id| self.delete(*id)).collect();
                self.reply(asker, Reply::Delete { ids, outcomes });
            }
            Request::Contains { id } => {
                self.settle(id);
                let present = self.objects.get(&id).is_some_and(Object::is_sealed);
                self.reply(asker, Reply::Contains { id, present });
            }
            Request::List => self.list_all(asker),
            Request::Cancel { number } => {
                if let Some(get) = self.waiters.cancel(Asker { number, ..asker }) {
                    self.answer_get(get);
                }
            }
            Request::CancelCreate { number, id } => self.cancel_create(Asker { number, ..asker }, id),
            Request::Index { mapped } if self.is_native(asker.peer) => {
                self.effects.push(Effect::Index { asker, mapped })
            }
            Request::Ring { mapped } if self.is_native(asker.peer) => {
                self.effects.push(Effect::Submit { asker, mapped })
            }
            Request::Segment { segment, writable } => self.lend(asker, segment, writable),
            Request::Share { id, action } => self.share(asker, id, action, now),
            Request::Retired { returned } => self.take_returned(asker, &returned),
            Request::Subscribe => self.subscribe(asker),
            Request::NativeSubscribe { skip_existing } => self.subscribe_native(asker, skip_existing),
            other => self.steer(asker, other),
        }
    }

    /// Seals an object, and has its creator let go of it if that was done: else the hold may be another's of the same peer.
    ///
    /// # Errors
    /// As it is refused.
    pub fn seal_and_release(&mut self, peer: PeerId, id: ObjectId, now: Now) -> Result<(), Refusal> {
        self.seal(peer, id, [0; 8], now)?;
        self.release(peer, id);
        Ok(())
    }

    fn list_all(&mut self, asker: Asker) {
        self.look_at_readers();
        let objects = self.objects.iter().map(|(id, object)| object.info(*id, self.readers(object))).collect();
        self.reply(asker, Reply::List { objects });
    }

    fn is_native(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.native)
    }

    /// Serves the requests that steer the store rather than move objects.
    fn steer(&mut self, asker: Asker, request: Request) {
        self.look_at_readers();
        let reply = match request {
            Request::Evict { bytes } => return self.evict_for(asker, bytes),
            Request::RefreshLru { ids } => {
                ids.iter().for_each(|id| self.refresh(*id));
                Reply::RefreshLru
            }
            Request::Pin { ids, pinned } => Reply::Pin { outcomes: self.pin(&ids, pinned) },
            Request::GetDebugString => Reply::DebugString(self.describe()),
            Request::Stats => Reply::Stats(self.stats()),
            Request::SetOptions { client_name, quota } => {
                Reply::SetOptions { outcome: self.set_options(asker.peer, client_name, quota) }
            }
            other => return self.close(asker.peer, format!("this store does not serve {}", other.name())),
        };
        self.reply(asker, reply);
    }

    fn greet(&mut self, asker: Asker, abilities: u64) {
        let abilities = match abilities & ABILITY_REQUEST_NUMBERS {
            0 => 0,
            _ => abilities & ABILITIES,
        };
        let Some(peer) = self.peers.get_mut(&asker.peer) else { return };
        if peer.native {
            return self.close(asker.peer, "it said hello twice".into());
        }
        // As an old client it holds copies.
        let held = peer.held.len();
        if held > 0 {
            return self.close(asker.peer, format!("it said hello when it held {held} objects"));
        }
        peer.native = abilities & ABILITY_REQUEST_NUMBERS != 0;
        peer.pulls = abilities & ABILITY_SEGMENTS != 0;
        let capacity = i64::try_from(self.space.limit()).unwrap_or(i64::MAX);
        self.reply(asker, Reply::Connect { capacity, abilities });
    }

    /// Only the creator seals, and only once. Everyone who waits is answered before the creator is.
    ///
    /// # Errors
    /// As it is refused.
    pub fn seal(&mut self, peer: PeerId, id: ObjectId, digest: [u8; 8], now: Now) -> Result<(), Refusal> {
        let object = self.objects.get(&id).ok_or(Refusal::ObjectNotFound)?;
        if object.is_sealed() {
            return Err(Refusal::ObjectAlreadySealed);
        }
        if object.created_by.peer != peer || !object.populated {
            return Err(Refusal::ObjectNotFound);
        }
        match object.place.map_or(Ok(true), |place| self.space.make_readable(place)) {
            Ok(true) => {}
            Ok(false) => return Err(self.still_writable(peer)),
            Err(error) => {
                self.close(peer, format!("its segment cannot be made readable: {error}"));
                return Err(Refusal::OutOfMemory);
            }
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.unsealed.remove(&id);
        }
        self.mark_sealed(id, digest, now);
        self.publish(iter::once(id));
        Ok(())
    }

    /// The kernel does not let an object become immutable. Where a device has pages of it the kernel waits for that, and so does the
    /// store; nobody may have it wait again and again.
    fn still_writable(&mut self, peer: PeerId) -> Refusal {
        let refused = self.peers.get_mut(&peer).map_or(0, |state| {
            state.refused_seals += 1;
            state.refused_seals
        });
        if refused > MAX_REFUSED_SEALS {
            self.close(peer, format!("{refused} of its seals came while somebody could still write the object"));
        }
        Refusal::StillWritable
    }

    fn mark_sealed(&mut self, id: ObjectId, digest: [u8; 8], now: Now) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.state = ObjectState::Sealed;
        object.digest = digest;
        object.construct_duration = now.unix_seconds.saturating_sub(object.create_time).max(0);
        self.start_time(id, now.instant);
        crash::at(Point::ObjectSealed);
    }

    /// Tells subscribers of objects that were just sealed, and then those who wait for them.
    fn publish(&mut self, ids: impl Iterator<Item = ObjectId> + Clone) {
        ids.clone().for_each(|id| self.enter(id));
        ids.clone().for_each(|id| self.gather(id));
        self.announce(|engine| {
            let found = ids.clone().filter_map(|id| engine.objects.get(&id).map(|object| (id, object)));
            found.map(|(id, object)| object.sealed_event(id)).collect()
        });
        ids.for_each(|id| self.hand_out(id));
    }

    /// Has an object gathered in huge pages that may have a whole one.
    fn gather(&mut self, id: ObjectId) {
        let large = self.objects.get(&id).filter(|object| object.size_here() >= HUGE_PAGE);
        self.effects.extend(large.map(|object| Effect::Gather { location: object.location() }));
    }

    /// Gives an object to those who wait for it.
    fn hand_out(&mut self, id: ObjectId) {
        self.ring_for(id);
        let Some(object) = self.objects.get(&id).filter(|_| self.waiters.is_awaited(id)) else { return };
        let peers = &self.peers;
        let pulls = |peer| peers.get(&peer).is_some_and(|peer| peer.pulls);
        let (holders, complete) = self.waiters.sealed(id, |peer| object.location_for(pulls(peer)));
        holders.into_iter().for_each(|peer| self.hold(peer, id));
        complete.into_iter().for_each(|get| self.answer_get(get));
        self.copy(id);
    }

    fn abort(&mut self, asker: Asker, id: ObjectId) {
        let outcome = match self.objects.get(&id) {
            Some(object) if object.is_sealed() => Err(Refusal::ObjectAlreadySealed),
            Some(object) if object.created_by.peer == asker.peer && object.populated => Ok(()),
            _ => Err(Refusal::ObjectNotFound),
        };
        if outcome.is_err() && !self.is_native(asker.peer) {
            return self.close(asker.peer, format!("it aborted object {id}, which it is not creating"));
        }
        if outcome.is_ok() {
            self.forget_unsealed(asker.peer, id);
        }
        self.reply(asker, Reply::Abort { id, outcome });
    }

    fn get(&mut self, asker: Asker, ids: Vec<ObjectId>, timeout_ms: i64, now: Now) {
        ids.iter().for_each(|id| self.settle(*id));
        let pulls = self.peers.get(&asker.peer).is_some_and(|peer| peer.pulls);
        let mut found = HashMap::with_capacity(ids.len());
        let mut missing = HashSet::default();
        for id in &ids {
            match (self.objects.get(id).and_then(|object| object.location_for(pulls)), found.entry(*id)) {
                (Some(location), Entry::Vacant(entry)) => {
                    entry.insert(location);
                    self.hold(asker.peer, *id);
                }
                (_, Entry::Vacant(_)) => drop(missing.insert(*id)),
                (_, Entry::Occupied(_)) => {}
            }
        }
        self.counted.get(found.len(), missing.len());
        let waits = timeout_ms == -1 || timeout_ms > 0;
        if !waits {
            // What is in the external store, or has to be copied, is there, so it is waited for all the same.
            missing.retain(|id| self.is_sealed(*id));
        }
        if missing.is_empty() {
            let locations = ids.iter().map(|id| found.get(id).copied()).collect();
            return self.reply(asker, Reply::Get { ids, locations, segments: Vec::new() });
        }
        let load = self.waiters.load_of(asker.peer);
        if load.gets >= MAX_WAITING.gets || load.ids + ids.len() > MAX_WAITING.ids {
            let text =
                format!("it has {} gets waiting for {} ids, and one more for {}", load.gets, load.ids, ids.len());
            return self.close(asker.peer, text);
        }
        let patience = u64::try_from(timeout_ms).ok().filter(|_| waits).map(Duration::from_millis);
        let deadline = patience.and_then(|patience| now.instant.checked_add(patience));
        let missing: Vec<_> = missing.into_iter().collect();
        let there: Vec<_> = missing.iter().copied().filter(|id| self.is_sealed(*id)).collect();
        self.waiters.park(asker, ids, found, &missing, deadline);
        for id in there {
            self.bring_back(asker, id);
            self.copy(id);
        }
    }

    fn is_sealed(&self, id: ObjectId) -> bool {
        self.objects.get(&id).is_some_and(Object::is_sealed)
    }

    fn answer_get(&mut self, get: WaitingGet) {
        let locations = get.locations();
        self.reply(get.asker, Reply::Get { ids: get.ids, locations, segments: Vec::new() });
    }

    /// Releasing what is not held, or what is not sealed yet, changes nothing.
    fn release(&mut self, peer: PeerId, id: ObjectId) {
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        let size = self.objects.get(&id).map_or(0, Object::size);
        let is_in_hand = peer.unsealed.contains(&id) || peer.sharing.contains_key(&id);
        if !is_in_hand && peer.release(id, size) {
            let pulls = peer.pulls;
            self.holder_left(id, pulls);
        }
    }

    fn delete(&mut self, id: ObjectId) -> Result<(), Refusal> {
        self.settle(id);
        self.stop_moving(id);
        let object = self.objects.get_mut(&id).ok_or(Refusal::ObjectNotFound)?;
        object.doomed = object.holders > 0 || object.residence == Residence::Returning;
        match (object.is_sealed(), object.doomed) {
            (_, false) if self.drop_unread(id) => {}
            (true, _) => {
                self.mark_doomed(id);
                return Err(Refusal::ObjectInUse);
            }
            (false, _) => return Err(Refusal::ObjectNotSealed),
        }
        Ok(())
    }

    /// Moves an object to the young end of the list that it is in; others have no place to move.
    fn refresh(&mut self, id: ObjectId) {
        if self.unlist(id) {
            self.list(id);
        }
    }

    fn hold(&mut self, peer: PeerId, id: ObjectId) {
        let (Some(peer), Some(object)) = (self.peers.get_mut(&peer), self.objects.get_mut(&id)) else { return };
        if peer.hold(id, object.size()) {
            object.holders += 1;
            object.copy.iter_mut().filter(|_| !peer.pulls).for_each(|copy| copy.holders += 1);
            if object.owner.is_none() {
                self.unlist(id);
            }
        }
    }

    /// One peer less holds this object: one that can map every segment, or an old one.
    fn holder_left(&mut self, id: ObjectId, pulls: bool) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.copy.iter_mut().filter(|_| !pulls).for_each(|copy| copy.holders -= 1);
        object.holders -= 1;
        // The copying itself may be the only holder left.
        self.queue_may_move |= !self.uncopied.is_empty();
        self.unheld(id);
    }

    /// What nobody holds goes if it is to go, else it may be evicted.
    fn unheld(&mut self, id: ObjectId) {
        self.compaction_has_failed = false;
        let Some(object) = self.objects.get(&id).filter(|object| object.holders == 0) else { return };
        match (object.doomed, object.shared) {
            (true, _) => drop(self.drop_unread(id)),
            (false, Some(false)) => self.drop_object(id),
            (false, Some(true)) => {}
            (false, None) => self.list_if_idle(id),
        }
    }

    /// Undoes a create.
    fn forget_unsealed(&mut self, peer: PeerId, id: ObjectId) {
        let size = self.objects.get(&id).map_or(0, Object::size);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.unsealed.remove(&id);
            peer.end_hold(id, size);
        }
        self.drop_object(id);
    }

    /// Removes an object and gives its memory back. Nobody holds it any more.
    fn drop_object(&mut self, id: ObjectId) {
        self.disown(id);
        self.forget_time(id);
        self.drop_copy(id);
        self.compaction_has_failed = false;
        let Some(object) = self.objects.remove(&id) else { return };
        crash::at(Point::ObjectRemoved);
        if let Some(place) = object.place.filter(|_| object.shared.is_some()) {
            self.space.end_sharing(place);
        }
        match object.residence {
            Residence::Leaving(job) => self.orphan(job, object.place),
            _ => self.space.release(object.place, object.size_here()),
        }
        if object.saved || matches!(object.residence, Residence::Leaving(_)) {
            self.order(id, Work::Delete);
        }
        self.pinned_bytes -= if object.pinned { object.size() } else { 0 };
        self.queue_may_move = true;
        if object.is_sealed() {
            self.announce(|_| vec![Event::Deleted { id }]);
        }
    }

    fn reply(&mut self, to: Asker, reply: Reply) {
        self.effects.push(Effect::Reply { to, reply });
    }

    fn close(&mut self, peer: PeerId, reason: String) {
        self.effects.push(Effect::Close { peer, reason });
    }
}

#[cfg(test)]
mod tests;
