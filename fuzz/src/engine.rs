//! The store's rules, played by bytes: several peers, old and native, that ask for anything in any order, while time
//! passes and memory runs short.
//!
//! After every step the bytes used are those of the objects, no two objects overlap, subscribers were told of exactly the
//! sealed ones, and every answer answers a request that was open. At the end, when everyone is gone, nothing is held. In half
//! of the games evicted objects go to an external store, which is slow and fails: they are listed and got as ever.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use plasma_store::error::{Error, Result};
use plasma_store::object::{Location, ObjectId, ObjectInfo, ObjectState};
use plasma_store::protocol::native::{ABILITY_REQUEST_NUMBERS, ABILITY_SEGMENTS};
use plasma_store::protocol::notification::Event;
use plasma_store::protocol::{Dialect, InlineObject, Reply, Request, ShareAction, Stats};
use plasma_store::shm::ring::files::{NewRing, open_ring};
use plasma_store::shm::ring::grants::Grantee;
use plasma_store::store::engine::{Asker, Effect, Engine, Job, NewObject, Now, SubscriptionId, WholeObject, Work};
use plasma_store::store::grants::Grant;
use plasma_store::store::leases::Producer;
use plasma_store::store::space::{Pages, Place, SHARED_SEGMENT, segment_length};
use plasma_store::store::stock::{Kind, default_pool};

/// What a store may hold: so little that everything evicts, what tests use, and more than one slice of pages.
const LIMITS: [u64; 4] = [10_000, 100_000, 1 << 20, 64 << 20];
const ACTIONS: [ShareAction; 6] = [
    ShareAction::Begin { keep: false },
    ShareAction::Begin { keep: true },
    ShareAction::Join,
    ShareAction::Leave,
    ShareAction::Freeze,
    ShareAction::Ask,
];
const NAMES: u8 = 12;
/// Objects that may be immutable at once.
const MOST_FOR_ONE: u64 = 6;
const MOST_PEERS: usize = 6;
/// Long work ends. Every slice either allocates pages or evicts.
const MOST_SLICES: u32 = 100_000;
/// Message types of the two answers that may come late.
const CREATE_REPLY: i64 = 2;
const GET_REPLY: i64 = 10;
/// Threads of a peer that wait for an object.
const BELLS: u8 = 4;
/// The answer that the plumbing gives.
const SUBSCRIBE_REPLY: i64 = 1021;

/// The input, read byte by byte; zeros behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn bytes(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn id(&mut self) -> ObjectId {
        ObjectId::new([self.byte() % NAMES; 20])
    }

    fn ids(&mut self) -> Vec<ObjectId> {
        (0..self.byte() % 6).map(|_| self.id()).collect()
    }

    fn size(&mut self) -> i64 {
        let small = i64::from(self.byte());
        match self.byte() % 8 {
            0 | 1 => small,
            2 | 3 => small << 6,
            4 => small << 10,
            5 => small << 20,
            6 => self.pick(&[9_999, 10_000, 100_000, 1 << 20, 64 << 20, (64 << 20) + 1]),
            _ => self.pick(&[-1, i64::MAX, i64::MIN, i64::MAX - 1]),
        }
    }

    fn inline_object(&mut self) -> InlineObject {
        let (data, metadata) = (usize::from(self.byte()) * 16, usize::from(self.byte() % 16));
        InlineObject { id: self.id(), data: vec![7; data], metadata: vec![8; metadata], digest: [9; 8] }
    }

    fn request(&mut self) -> Request {
        match self.byte() % 36 {
            0..3 => self.create(0, 0),
            3..5 => {
                let ttl_ms = self.pick(&[0, 1, 50, u64::MAX]);
                let wait_ms = self.pick(&[-1, 0, 1, 50, -7, i64::MAX, i64::MIN]);
                self.create(ttl_ms, wait_ms)
            }
            5..8 => Request::Seal { id: self.id(), digest: [self.byte(); 8] },
            8..10 => Request::Get { ids: self.ids(), timeout_ms: self.pick(&[-1, 0, 1, 50, -7, i64::MAX, i64::MIN]) },
            10..12 => Request::Release { id: self.id() },
            12 => Request::Abort { id: self.id() },
            13 => Request::Delete { ids: self.ids() },
            14 => Request::Contains { id: self.id() },
            15 => Request::List,
            16 => Request::Evict { bytes: self.size().cast_unsigned() },
            17 => Request::RefreshLru { ids: self.ids() },
            18 => Request::Cancel { number: self.number() },
            19 => {
                let InlineObject { id, data, metadata, digest } = self.inline_object();
                Request::CreateAndSeal { id, evict_if_full: self.flag(), data, metadata, digest }
            }
            20 => {
                let objects = (0..self.byte() % 4).map(|_| self.inline_object()).collect();
                Request::CreateAndSealBatch { objects, evict_if_full: self.flag() }
            }
            21 => Request::SetOptions { client_name: format!("client {}", self.byte()), quota: self.size() },
            22 => self.pick(&[Self::SUBSCRIBE, Self::DEBUG, Self::GOODBYE])(),
            23 => Request::Connect { abilities: self.byte().into() },
            24 => Request::Pin { ids: self.ids(), pinned: self.flag() },
            25 => Request::CancelCreate { number: self.number(), id: self.id() },
            26 => Request::NativeSubscribe { skip_existing: self.flag() },
            27 => Request::Stats,
            28 => Request::Index { mapped: self.flag() },
            29 => Request::Segment { segment: i32::from(self.byte()) - 1, writable: self.flag() },
            31 => Request::Ring { mapped: self.flag() },
            30 => Request::Retired { returned: vec![self.byte().into(), self.byte().into()] },
            32..36 => Request::Share { id: self.id(), action: self.pick(&ACTIONS) },
            _ => self.create(0, 0),
        }
    }

    fn create(&mut self, ttl_ms: u64, wait_ms: i64) -> Request {
        let (id, data_size, metadata_size) = (self.id(), self.size(), i64::from(self.byte()));
        let (evict_if_full, rarely) = (self.flag(), self.byte());
        let (device_num, immutable) = (i32::from(rarely == 255), rarely % 8 == 1);
        Request::Create { id, data_size, metadata_size, evict_if_full, device_num, ttl_ms, wait_ms, immutable }
    }

    const SUBSCRIBE: fn() -> Request = || Request::Subscribe;
    const DEBUG: fn() -> Request = || Request::GetDebugString;
    const GOODBYE: fn() -> Request = || Request::Disconnect;

    /// A request as it came over the wire, if it is one.
    fn wire_request(&mut self) -> Option<Request> {
        let (kind, length) = (u16::from_le_bytes([self.byte(), self.byte()]), self.byte());
        Request::decode(kind.into(), self.bytes(length.into())).ok()
    }

    /// Few, so that peers repeat them.
    fn number(&mut self) -> u64 {
        (self.byte() % 16).into()
    }
}

/// What game and pages tell each other.
#[derive(Default)]
struct Orders {
    /// This many allocations fail from now on.
    failures: Cell<u8>,
    /// Where something was written since the last look.
    writes: RefCell<Vec<Write>>,
    /// Length of each lease that was not dropped.
    leases: RefCell<BTreeMap<i32, u64>>,
    /// Those of them that are for one object, with whether nobody can write there any more.
    for_one: RefCell<BTreeMap<i32, bool>>,
    /// Which participants live of those that several share.
    lives: RefCell<BTreeMap<i32, BTreeSet<u32>>>,
    /// Files that are made ready for leases to come, and how often one was asked for.
    prepared: RefCell<Vec<Kind>>,
    asked: Cell<u32>,
}

/// Bytes of a segment that were written.
struct Write {
    segment: i32,
    bytes: Range<u64>,
    /// Where they came from, when the store copied them: a segment, and where in it.
    source: Option<(i32, u64)>,
}

impl Orders {
    fn begin(&self, segment: i32, len: u64, producer: Producer) {
        assert_eq!(self.leases.borrow_mut().insert(segment, len), None);
        if matches!(producer, Producer::Once(_)) {
            self.for_one.borrow_mut().insert(segment, false);
        }
    }

    fn is_immutable(&self, segment: i32) -> bool {
        self.for_one.borrow().get(&segment).copied().unwrap_or(false)
    }
}

impl Write {
    /// Takes it as written nowhere when it touches this place.
    fn spare(&mut self, place: &Location) {
        if self.bytes.start < end(place) && place.offset < self.bytes.end {
            self.bytes = 0..0;
        }
    }
}

/// Pages that are only counted, and that run out when told to.
struct CountedPages {
    orders: Rc<Orders>,
    backed: u64,
    pool_bytes: u64,
}

impl Pages for CountedPages {
    fn allocate(&mut self, segment: i32, range: Range<u64>) -> Result<()> {
        assert!(segment == SHARED_SEGMENT || self.orders.leases.borrow()[&segment] >= range.end);
        assert!(!self.orders.is_immutable(segment));
        if let Some(left) = self.orders.failures.get().checked_sub(1) {
            self.orders.failures.set(left);
            return Err(Error::io("fallocate", std::io::ErrorKind::StorageFull.into()));
        }
        self.backed += if segment == SHARED_SEGMENT { length(&range) } else { 0 };
        Ok(())
    }

    fn punch(&mut self, range: Range<u64>) -> Result<()> {
        self.backed = self.backed.checked_sub(length(&range)).expect("pages are given back once");
        Ok(())
    }

    fn write(&mut self, segment: i32, offset: u64, bytes: &[u8]) -> Result<()> {
        let bytes = offset..offset + bytes.len() as u64;
        assert!(!self.orders.for_one.borrow().contains_key(&segment));
        self.orders.writes.borrow_mut().push(Write { segment, bytes, source: None });
        Ok(())
    }

    fn copy(&mut self, from: i32, bytes: Range<u64>, to: i32, offset: u64) -> Result<()> {
        assert!(self.orders.leases.borrow()[&from] >= bytes.end);
        assert!(!self.orders.for_one.borrow().contains_key(&to));
        let (source, bytes) = (Some((from, bytes.start)), offset..offset + bytes.end - bytes.start);
        self.orders.writes.borrow_mut().push(Write { segment: to, bytes, source });
        Ok(())
    }

    fn can_lease(&self) -> bool {
        true
    }

    fn lease(&mut self, segment: i32, len: u64, producer: Producer) -> Result<()> {
        self.orders.begin(segment, len, producer);
        Ok(())
    }

    fn pool_bytes(&self) -> u64 {
        self.pool_bytes
    }

    fn prepare(&mut self, kind: Kind) -> bool {
        self.orders.prepared.borrow_mut().push(kind);
        true
    }

    fn lease_prepared(&mut self, segment: i32, kind: Kind, producer: Producer) -> Result<bool> {
        self.orders.asked.set(self.orders.asked.get() + 1);
        match self.orders.asked.get() % 4 {
            0 => return Ok(false),
            1 => self.drop_prepared(kind),
            _ => {
                self.drop_prepared(kind);
                self.orders.begin(segment, kind.len, producer);
                return Ok(true);
            }
        }
        Err(Error::io("open", std::io::ErrorKind::QuotaExceeded.into()))
    }

    fn drop_prepared(&mut self, kind: Kind) {
        let mut prepared = self.orders.prepared.borrow_mut();
        let index = prepared.iter().position(|other| *other == kind).expect("what was ordered is given up once");
        prepared.swap_remove(index);
    }

    fn make_readable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<()> {
        assert!(backed.iter().all(|range| range.end <= self.orders.leases.borrow()[&segment]));
        assert!(!self.orders.for_one.borrow().contains_key(&segment));
        Ok(())
    }

    fn most_for_one(&self) -> u64 {
        MOST_FOR_ONE
    }

    fn make_immutable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<bool> {
        assert!(backed.iter().all(|range| range.end <= self.orders.leases.borrow()[&segment]));
        assert!(!self.orders.is_immutable(segment), "it is asked for once");
        // Now and then somebody can still write there.
        self.orders.asked.set(self.orders.asked.get() + 1);
        let is_done = !self.orders.asked.get().is_multiple_of(3);
        let before = self.orders.for_one.borrow_mut().insert(segment, is_done);
        assert!(before.is_some(), "others lie there");
        Ok(is_done)
    }

    fn share(&mut self, segment: i32) -> Result<()> {
        assert!(self.orders.for_one.borrow().get(&segment) == Some(&false));
        assert!(self.orders.lives.borrow_mut().insert(segment, BTreeSet::new()).is_none(), "it is shared once");
        Ok(())
    }

    fn turn_life(&mut self, segment: i32, participant: u32) {
        let mut shared = self.orders.lives.borrow_mut();
        let living = shared.get_mut(&segment).expect("it is shared");
        if !living.insert(participant) {
            living.remove(&participant);
        }
    }

    fn end_sharing(&mut self, segment: i32) {
        let living = self.orders.lives.borrow_mut().remove(&segment).expect("it is shared");
        assert!(living.is_empty(), "{living:?} are not told that nobody is there");
    }

    fn end_lease(&mut self, segment: i32) {
        assert!(self.orders.leases.borrow().contains_key(&segment));
    }

    fn drop_lease(&mut self, segment: i32) {
        assert!(self.orders.leases.borrow_mut().remove(&segment).is_some());
        self.orders.for_one.borrow_mut().remove(&segment);
    }
}

fn length(range: &Range<u64>) -> u64 {
    assert!(
        range.start < range.end && range.start.is_multiple_of(4096) && range.end.is_multiple_of(4096),
        "{range:?} are no pages"
    );
    range.end - range.start
}

/// Requests that wait for an answer, by who asked and the answer's message type. Peers may repeat numbers.
type Open = BTreeMap<(Asker, i64), u32>;

struct Game {
    engine: Engine<CountedPages>,
    limit: u64,
    orders: Rc<Orders>,
    now: Now,
    /// Looks on, and holds nothing.
    observer: u64,
    peers: Vec<u64>,
    open: Open,
    /// Where objects are: as was said, and asked again for those that were copied.
    places: BTreeMap<ObjectId, Location>,
    /// Peers that let go of something while a get of theirs waits: they may be told where it was before it went.
    careless: BTreeSet<u64>,
    /// Objects that were copied, and may have moved since.
    restless: BTreeSet<ObjectId>,
    /// What is sealed.
    sealed: BTreeSet<ObjectId>,
    /// There is an external store; with what it was given to do, in that order, and what it has.
    has_external: bool,
    jobs: VecDeque<Job>,
    jobs_seen: usize,
    stored: BTreeMap<ObjectId, u64>,
    /// By subscription: whose it is, and the objects that it knows of.
    told: BTreeMap<SubscriptionId, (u64, BTreeSet<ObjectId>)>,
    /// Which bells of whom are to be rung for what.
    wanted: BTreeMap<(u64, u64), ObjectId>,
    /// Peers with rings, and the room that they were granted at some time.
    grantees: BTreeMap<u64, Grantee>,
    granted: BTreeMap<(u64, u64), Place>,
    /// Objects that a subscription knows of which begins without being told.
    skipped: BTreeSet<ObjectId>,
    answers: u64,
}

impl Game {
    fn new(limit: u64, has_external: bool) -> Self {
        let orders = Rc::new(Orders::default());
        let pages = CountedPages { orders: orders.clone(), backed: 0, pool_bytes: default_pool(limit) };
        let mut engine = Engine::new(limit, pages).unwrap();
        if has_external {
            engine = engine.with_external_store();
        }
        let observer = engine.connect();
        let now = Now { instant: Instant::now(), unix_seconds: 1_000_000_000 };
        let (peers, open, places, careless, restless, sealed, told, skipped, jobs, stored) = Default::default();
        let (wanted, grantees, granted, answers) = Default::default();
        // It can be told of every place.
        let abilities = ABILITY_REQUEST_NUMBERS | ABILITY_SEGMENTS;
        engine.handle(Asker { peer: observer, number: 0 }, Request::Connect { abilities }, now);
        engine.take_effects();
        Self {
            engine,
            limit,
            orders,
            now,
            observer,
            peers,
            open,
            places,
            careless,
            restless,
            sealed,
            has_external,
            jobs,
            jobs_seen: 0,
            stored,
            told,
            wanted,
            grantees,
            granted,
            skipped,
            answers,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 24 {
            0 if self.peers.len() < MOST_PEERS => self.peers.push(self.engine.connect()),
            1 if self.peers.len() < MOST_PEERS => {
                let peer = self.engine.connect();
                self.peers.push(peer);
                // Those that have segments of their own, and those that have not.
                let more = if script.flag() { ABILITY_SEGMENTS } else { 0 };
                self.ask(Asker { peer, number: 0 }, Request::Connect { abilities: ABILITY_REQUEST_NUMBERS | more });
            }
            2 => drop(self.peer(script).map(|peer| self.disconnect(peer))),
            3 => self.pass(Duration::from_millis(script.byte().into())),
            4 => self.orders.failures.set(script.byte()),
            5 => self.engine.work(self.now),
            6 => {
                let asker = self.asker(script);
                asker.zip(script.wire_request()).into_iter().for_each(|(asker, request)| self.ask(asker, request));
            }
            7 => {
                let index = usize::from(script.byte()) % self.told.len().max(1);
                if let Some(id) = self.told.keys().nth(index).copied() {
                    self.engine.unsubscribe(id);
                    self.told.remove(&id);
                }
            }
            8 => self.end_job(!script.byte().is_multiple_of(4)),
            23 => {
                let asker = self.asker(script);
                asker.into_iter().for_each(|asker| self.submit(asker, script));
            }
            _ => {
                let asker = self.asker(script);
                asker.into_iter().for_each(|asker| self.ask(asker, script.request()));
            }
        }
    }

    fn peer(&self, script: &mut Script<'_>) -> Option<u64> {
        let index = usize::from(script.byte());
        (!self.peers.is_empty()).then(|| self.peers[index % self.peers.len()])
    }

    fn asker(&self, script: &mut Script<'_>) -> Option<Asker> {
        self.peer(script).map(|peer| Asker { peer, number: script.number() })
    }

    fn ask(&mut self, asker: Asker, request: Request) {
        let silent = matches!(
            request,
            Request::Disconnect
                | Request::Release { .. }
                | Request::Subscribe
                | Request::Cancel { .. }
                | Request::CancelCreate { .. }
        );
        if !silent {
            // The type of an answer follows that of its request.
            *self.open.entry((asker, request.encode().0 + 1)).or_default() += 1;
        }
        let is_waiting = |(open, kind): &(Asker, i64)| open.peer == asker.peer && *kind == GET_REPLY;
        if matches!(request, Request::Release { .. }) && self.open.keys().any(is_waiting) {
            self.careless.insert(asker.peer);
        }
        self.skipped = match request {
            // Each step begins when all is told, and what is sealed is known.
            Request::NativeSubscribe { skip_existing: true } => self.sealed.clone(),
            _ => BTreeSet::new(),
        };
        if let Request::CreateAndSealBatch { objects, .. } = &request {
            // The first of them may evict a sealed object, whose name the next one takes.
            let names = objects.iter().map(|object| object.id).filter(|id| self.sealed.contains(id));
            names.for_each(|id| _ = self.places.remove(&id));
        }
        self.engine.handle(asker, request, self.now);
    }

    /// What only records ask for.
    fn submit(&mut self, asker: Asker, script: &mut Script<'_>) {
        let (id, bell) = (script.id(), u64::from(script.byte() % BELLS));
        match script.byte() % 8 {
            0 | 1 => {
                self.wanted.insert((asker.peer, bell), id);
                self.engine.want(asker.peer, bell, id);
            }
            2 => {
                self.wanted.remove(&(asker.peer, bell));
                self.engine.unwant(asker.peer, bell);
            }
            3 => {
                self.careless.insert(asker.peer);
                let _ = self.engine.seal_and_release(asker.peer, id, self.now);
            }
            4 => self.let_in(asker.peer),
            5 => {
                let size = script.size().cast_unsigned();
                if let Some(Grant { number, place }) = self.engine.grant(asker.peer, size) {
                    assert!(place.segment != SHARED_SEGMENT && place.extent.len >= size);
                    self.granted.insert((asker.peer, number), place);
                }
            }
            6 => self.put(asker, id, script),
            _ => self.publish(asker, id, script),
        }
    }

    /// A peer has a ring, and can be granted room.
    fn let_in(&mut self, peer: u64) {
        let (ring, outcomes) = NewRing::create().unwrap();
        let submissions = ring.submissions.as_fd().try_clone_to_owned().unwrap();
        let (_, grantee, _) = open_ring(&submissions, &outcomes).unwrap();
        if self.grantees.insert(peer, grantee).is_none() {
            self.engine.add_grantee(peer, ring.collect().unwrap().1);
        }
    }

    /// A peer puts a small object. Who does not wait is answered only when it is refused.
    fn put(&mut self, asker: Asker, id: ObjectId, script: &mut Script<'_>) {
        let data = vec![7; usize::from(script.byte()) << (script.byte() % 3 * 4)];
        let metadata = vec![8; usize::from(script.byte() % 16)];
        let (evict, is_awaited) = (script.flag(), script.flag() || self.has_external);
        let (kind, _) = Reply::CreateAndSealBatch { outcome: Ok(()), id: None }.encode(Dialect::Native);
        let before = self.open.get(&(asker, kind)).copied().unwrap_or(0);
        self.open.insert((asker, kind), before + 1);
        self.engine.look_ahead([id].into_iter());
        let object = WholeObject { id, data: &data, metadata: &metadata, digest: [0; 8] };
        self.engine.put(asker, object, evict, is_awaited, self.now);
        self.settle();
        if !is_awaited && self.open.get(&(asker, kind)).is_some_and(|open| *open > before) {
            self.open.insert((asker, kind), before);
            self.open.retain(|_, open| *open > 0);
            self.answers += 1;
        }
    }

    /// A peer puts an object into room that it has or has not.
    fn publish(&mut self, asker: Asker, id: ObjectId, script: &mut Script<'_>) {
        let number = 1 + u64::from(script.byte() % 16);
        if script.flag() && !self.grantees.get(&asker.peer).is_some_and(|grantee| grantee.begin(number)) {
            return;
        }
        let (data_size, metadata_size) = (script.size().cast_unsigned() % (1 << 40), u64::from(script.byte()));
        let new = NewObject { id, data_size, metadata_size, evict: script.flag(), ttl_ms: 0, immutable: false };
        if self.engine.publish_granted(asker, number, new, self.now).is_ok() {
            let place = self.granted.remove(&(asker.peer, number)).expect("it was granted that");
            assert!(data_size + metadata_size <= place.extent.len);
            let (segment, offset) = (place.segment, place.extent.offset);
            self.places.insert(id, Location { segment, offset, data_size, metadata_size });
        }
    }

    fn disconnect(&mut self, peer: u64) {
        self.peers.retain(|other| *other != peer);
        self.open.retain(|(asker, _), _| asker.peer != peer);
        self.told.retain(|_, (subscriber, _)| *subscriber != peer);
        self.wanted.retain(|(waiting, _), _| *waiting != peer);
        self.grantees.remove(&peer);
        self.engine.disconnect(peer);
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.unix_seconds += i64::from(time.subsec_millis().is_multiple_of(2));
        self.engine.expire(self.now);
        assert!(self.engine.next_deadline().is_none_or(|next| next > self.now.instant), "a deadline was missed");
    }

    /// Does what the plumbing does with the effects. Returns what the observer was told.
    fn settle(&mut self) -> Vec<Reply> {
        let mut observed = Vec::new();
        while let effects @ [_, ..] = &*self.engine.take_effects() {
            for effect in effects {
                match effect {
                    Effect::Reply { to, reply } if to.peer == self.observer => observed.push(reply.clone()),
                    Effect::Reply { to, reply } => self.answered(*to, reply),
                    Effect::Subscribe { asker, id } => self.subscribed(*asker, *id),
                    Effect::Index { asker, mapped } => self.answered(*asker, &Reply::Index { outcome: Ok(!mapped) }),
                    Effect::Submit { asker, mapped } => self.answered(*asker, &Reply::Ring { outcome: Ok(!mapped) }),
                    Effect::Wake { peer, bell } => {
                        assert!(self.wanted.remove(&(*peer, *bell)).is_some(), "bell {bell} of {peer} for nothing");
                    }
                    Effect::Segment { asker, segment, writable } => {
                        let is_whole = self.orders.for_one.borrow().get(segment).is_none_or(|done| done != writable);
                        assert!(is_whole, "segment {segment} is lent before its seal, or to be written after it");
                        let len = self.orders.leases.borrow().get(segment).copied();
                        let len = len.or((*segment == SHARED_SEGMENT).then_some(self.limit));
                        self.answered(*asker, &Reply::Segment { outcome: Ok(len.expect("what is lent is there")) });
                    }
                    Effect::Share { asker, shared } => {
                        let reply = Reply::Share { outcome: Ok(shared.clone()) };
                        self.answered(*asker, &reply);
                    }
                    Effect::Ring { peer } => assert!(self.peers.contains(peer), "a bell of nobody"),
                    Effect::Notify { to, events } => self.notified(to, events),
                    Effect::External(job) => self.ordered(*job),
                    Effect::Gather { location } => self.check_place(location),
                    Effect::Close { .. } => {}
                }
            }
            for effect in effects {
                if let Effect::Close { peer, .. } = effect {
                    assert_ne!(*peer, self.observer);
                    self.disconnect(*peer);
                }
            }
        }
        observed
    }

    /// The plumbing answers native subscribers; to old ones there is no answer.
    fn subscribed(&mut self, asker: Asker, id: SubscriptionId) {
        let before = self.told.insert(id, (asker.peer, std::mem::take(&mut self.skipped)));
        assert!(before.is_none(), "subscription {id} has begun twice");
        if self.open.contains_key(&(asker, SUBSCRIBE_REPLY)) {
            self.answered(asker, &Reply::NativeSubscribe { outcome: Ok(()) });
        }
    }

    fn answered(&mut self, to: Asker, reply: &Reply) {
        self.answers += 1;
        let (kind, _) = reply.encode(Dialect::Native);
        let open = self.open.get_mut(&(to, kind)).unwrap_or_else(|| panic!("nobody asked for {reply:?} to {to:?}"));
        *open -= 1;
        if *open == 0 {
            self.open.remove(&(to, kind));
        }
        match reply {
            Reply::Create { outcome: Ok(place), .. } if self.orders.is_immutable(place.segment) => {
                panic!("{place:?} cannot be filled")
            }
            Reply::Create { id, outcome: Ok(place), .. } => {
                self.check_place(place);
                self.places.insert(*id, *place);
                // What was written there before was not written over it.
                let mut writes = self.orders.writes.borrow_mut();
                writes.iter_mut().filter(|write| write.segment == place.segment).for_each(|write| write.spare(place));
            }
            Reply::Get { ids, locations, .. } => {
                assert_eq!(ids.len(), locations.len());
                let for_one = self.orders.for_one.borrow();
                let is_open = |place: &Location| for_one.get(&place.segment) == Some(&false);
                assert!(!locations.iter().flatten().any(is_open), "somebody could still write what was got");
                let is_told_truly = !self.careless.contains(&to.peer);
                locations.iter().flatten().filter(|_| is_told_truly).for_each(|place| self.check_place(place));
            }
            _ => {}
        }
    }

    fn ordered(&mut self, job: Job) {
        assert!(self.has_external, "{job:?} for nobody");
        if let Work::Put(place) | Work::Get(place) = job.work {
            self.check_place(&place);
        }
        self.jobs.push_back(job);
    }

    /// The external store comes to the end of its oldest job.
    fn end_job(&mut self, succeeds: bool) {
        let Some(job) = self.jobs.pop_front() else { return };
        self.jobs_seen = self.jobs_seen.saturating_sub(1);
        match job.work {
            Work::Put(place) if succeeds => drop(self.stored.insert(job.id, end(&place) - place.offset)),
            Work::Put(_) => {}
            Work::Get(place) => {
                assert!(!self.orders.is_immutable(place.segment));
                assert_eq!(self.stored.get(&job.id), Some(&(end(&place) - place.offset)), "{job:?}");
                self.places.insert(job.id, place);
            }
            Work::Delete => drop(self.stored.remove(&job.id)),
        }
        let failure = || Error::io("write", std::io::ErrorKind::StorageFull.into());
        self.engine.job_done(job.number, if succeeds { Ok(()) } else { Err(failure()) });
    }

    fn notified(&mut self, to: &[SubscriptionId], events: &[Event]) {
        for subscriber in to {
            let (_, told) = self.told.get_mut(subscriber).expect("a subscriber is told");
            for event in events {
                let news = match event {
                    Event::Sealed { id, .. } => told.insert(*id),
                    Event::Deleted { id } => told.remove(id),
                };
                assert!(news, "{event:?} is no news");
            }
        }
    }

    fn check_place(&self, place: &Location) {
        assert!(place.segment > 0 && place.offset.is_multiple_of(64), "{place:?}");
        let length = match place.segment {
            SHARED_SEGMENT => segment_length(self.limit).unwrap(),
            lease => self.orders.leases.borrow()[&lease],
        };
        assert!(end(place) <= length, "{place:?} is outside of the segment");
    }

    /// What the store says of itself fits together.
    fn check(&mut self) {
        self.settle();
        let asker = Asker { peer: self.observer, number: 0 };
        self.engine.handle(asker, Request::List, self.now);
        self.engine.handle(asker, Request::GetDebugString, self.now);
        self.engine.handle(asker, Request::Stats, self.now);
        let observed = self.settle();
        let [Reply::List { objects }, Reply::DebugString(text), Reply::Stats(stats)] = &observed[..] else {
            panic!("{observed:?}")
        };
        let sizes: BTreeMap<_, _> = objects.iter().map(|info| (info.id, info.data_size + info.metadata_size)).collect();
        assert_eq!(sizes.len(), objects.len(), "an object is listed twice");
        let used = figure(text, "allocated bytes: ");
        // Copies for old clients count as well.
        let counted = sizes.values().sum::<u64>() + stats.copied_bytes;
        assert!(self.has_external || counted == used, "{used} bytes used, those of objects and copies {counted}");
        self.check_stats(stats, objects, used);
        assert!(used <= self.limit, "{used} bytes in a store of {}", self.limit);
        // With an external store, only what is held is surely where it was said to be.
        let has_place = |info: &&ObjectInfo| !self.has_external || info.ref_count > 0;
        let here: BTreeSet<_> = objects.iter().filter(has_place).map(|info| info.id).collect();
        self.places.retain(|id, _| here.contains(id));
        let writes = self.take_writes();
        self.look_where_they_are(objects);
        let moving = self.jobs.iter().filter_map(|job| match job.work {
            Work::Put(place) | Work::Get(place) if self.places.get(&job.id) != Some(&place) => Some((job.id, place)),
            _ => None,
        });
        let moving: Vec<_> = moving.collect();
        let moving = moving.iter().map(|(id, place)| (id, place));
        let has_bytes = |(_, place): &(&ObjectId, &Location)| end(place) > place.offset;
        let mut places: Vec<_> = self.places.iter().chain(moving).filter(has_bytes).collect();
        places.sort_by_key(|(_, place)| (place.segment, place.offset));
        let apart =
            |two: &[(&ObjectId, &Location)]| two[0].1.segment != two[1].1.segment || end(two[0].1) <= two[1].1.offset;
        assert!(places.windows(2).all(apart), "objects overlap: {places:?}");
        assert!(self.places.iter().all(|(id, place)| place.data_size + place.metadata_size == sizes[id]));
        for (Write { segment, bytes: written, .. }, copied) in writes {
            let spared = |place: &Location| {
                place.segment != segment || written.end <= place.offset || end(place) <= written.start
            };
            // An object that came with its request may go in the same step.
            let is_new = |id: &ObjectId| self.jobs.range(self.jobs_seen..).any(|job| job.id == *id);
            let all_spared = places.iter().all(|(id, place)| spared(place) || is_new(id) || copied.contains(id));
            assert!(all_spared, "{written:?} was written over one of {places:?}");
        }
        self.jobs_seen = self.jobs.len();
        // What came whole with its request, and was refused, left nothing behind.
        let is_new = |info: &&ObjectInfo| info.state == ObjectState::Created && !self.places.contains_key(&info.id);
        assert!(objects.iter().filter(is_new).count() as u64 <= self.creating(), "nobody creates one of {objects:?}");
        let sealed = objects.iter().filter(|info| info.state == ObjectState::Sealed).map(|info| info.id);
        self.sealed = sealed.collect();
        assert!(self.wanted.values().all(|id| !self.sealed.contains(id)), "nobody rang for one of {:?}", self.wanted);
        let (told, sealed) = (&self.told, &self.sealed);
        assert!(told.values().all(|(_, told)| told == sealed), "{told:?} were told instead of {sealed:?}");
    }

    /// What was written since the last look; where that was a copy, of which object: one of those that lay there since then.
    /// These may have moved.
    fn take_writes(&mut self) -> Vec<(Write, BTreeSet<ObjectId>)> {
        let lay_at = |(segment, offset): (i32, u64)| {
            let lay = move |place: &Location| place.segment == segment && (place.offset..end(place)).contains(&offset);
            self.places.iter().filter(move |(_, place)| lay(place)).map(|(id, _)| *id)
        };
        let copied = |write: &Write| write.source.into_iter().flat_map(lay_at).collect();
        let writes: Vec<_> = self.orders.writes.take().into_iter().map(|write| (copied(&write), write)).collect();
        self.restless.extend(writes.iter().flat_map(|(copied, _)| copied));
        writes.into_iter().map(|(copied, write)| (write, copied)).collect()
    }

    /// Asks where objects are that may have moved. Nothing else changes, as all of them are here.
    fn look_where_they_are(&mut self, objects: &[ObjectInfo]) {
        let sealed = objects.iter().filter(|info| info.state == ObjectState::Sealed).map(|info| info.id);
        let sealed: BTreeSet<_> = sealed.filter(|id| self.places.contains_key(id)).collect();
        self.restless.retain(|id| sealed.contains(id));
        let asker = Asker { peer: self.observer, number: 0 };
        for id in self.restless.clone() {
            self.engine.handle(asker, Request::Get { ids: vec![id], timeout_ms: 0 }, self.now);
            self.engine.handle(asker, Request::Release { id }, self.now);
            match &self.settle()[..] {
                [Reply::Get { locations, .. }] => drop(self.places.insert(id, locations[0].expect("it is here"))),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The figures are those of the objects, and agree with what was seen from outside.
    fn check_stats(&self, stats: &Stats, objects: &[ObjectInfo], used: u64) {
        let size = |info: &ObjectInfo| info.data_size + info.metadata_size;
        let held = || objects.iter().filter(|info| info.ref_count > 0);
        let sealed = objects.iter().filter(|info| info.state == ObjectState::Sealed);
        assert_eq!((stats.capacity, stats.used_bytes), (self.limit, used));
        assert_eq!((stats.held_objects, stats.held_bytes), (held().count() as u64, held().map(size).sum()));
        assert_eq!((stats.objects, stats.sealed_objects), (objects.len() as u64, sealed.count() as u64));
        let pinned = objects.iter().filter(|info| info.pinned).map(size).sum();
        assert_eq!((stats.pinned_bytes, stats.subscriptions), (pinned, self.told.len() as u64));
        // The observer is connected, too.
        assert_eq!(stats.clients, self.peers.len() as u64 + 1);
    }

    /// Creates that are not answered yet.
    fn creating(&self) -> u64 {
        self.open.iter().filter(|((_, kind), _)| *kind == CREATE_REPLY).map(|(_, count)| u64::from(*count)).sum()
    }

    /// Lets everything come to its end.
    fn end(&mut self) {
        self.work();
        self.pass(Duration::from_secs(1));
        self.check();
        self.cancel_creates();
        self.finish_jobs();
        assert!(self.open.keys().all(|(_, kind)| *kind == GET_REPLY), "no answer to {:?}", self.open);
        while let Some(&peer) = self.peers.last() {
            self.disconnect(peer);
            self.work();
            self.check();
        }
        self.engine.handle(Asker { peer: self.observer, number: 0 }, Request::Evict { bytes: u64::MAX }, self.now);
        self.finish_jobs();
        // Pins outlive everybody.
        let ids = (0..NAMES).map(|name| ObjectId::new([name; 20])).collect();
        self.engine.handle(Asker { peer: self.observer, number: 0 }, Request::Delete { ids }, self.now);
        assert_eq!(self.settle().len(), 1);
        self.finish_jobs();
        self.engine.handle(Asker { peer: self.observer, number: 0 }, Request::GetDebugString, self.now);
        let observed = self.settle();
        let [Reply::DebugString(text)] = &observed[..] else { panic!("{observed:?}") };
        assert_eq!(*self.orders.for_one.borrow(), BTreeMap::new());
        assert_eq!(figure(text, "allocated bytes: "), 0, "somebody who is gone still holds something: {text}");
        // Memory that lies free is given back, some at a time.
        for _ in 0..10 {
            self.pass(Duration::from_secs(10));
        }
        assert!(!self.engine.has_work() && self.engine.next_deadline().is_none());
    }

    /// Cancels what may still wait for room; the name matters only for creates that were answered.
    fn cancel_creates(&mut self) {
        let open = self.open.iter().filter(|((_, kind), _)| *kind == CREATE_REPLY);
        let open: Vec<_> = open.flat_map(|((asker, _), count)| vec![*asker; *count as usize]).collect();
        for asker in open {
            let cancel = Request::CancelCreate { number: asker.number, id: ObjectId::new([NAMES; 20]) };
            self.engine.handle(Asker { number: 0, ..asker }, cancel, self.now);
        }
        self.work();
        self.check();
    }

    /// The external store does all that it is given.
    fn finish_jobs(&mut self) {
        self.check();
        while !self.jobs.is_empty() {
            self.end_job(true);
            self.work();
            self.check();
        }
    }

    fn work(&mut self) {
        for _ in 0..MOST_SLICES {
            if !self.engine.has_work() {
                return;
            }
            self.engine.work(self.now);
            // What one slice wrote to, the next one may give to an object.
            self.settle();
        }
        panic!("the engine still has work after {MOST_SLICES} slices");
    }
}

fn end(place: &Location) -> u64 {
    place.offset + place.data_size + place.metadata_size
}

/// A figure of the debug string. The store's own come before anything that a peer can name.
fn figure(text: &str, key: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().parse().unwrap()
}

/// The first byte chooses the store's limit, and whether there is an external store; then one step after the other, until the bytes are used up.
pub fn engine(data: &[u8]) -> bool {
    let mut script = Script(data);
    let choice = script.byte();
    let mut game = Game::new(LIMITS[usize::from(choice) % LIMITS.len()], choice >= 128);
    while !script.0.is_empty() {
        game.step(&mut script);
        game.check();
    }
    game.end();
    game.answers > 0
}
