//! The rules, one by one, by calling the engine: no socket, no clock, and pages that are only counted.
#![forbid(unsafe_code)]

mod create;
mod delete;
mod external;
mod get;
mod grants;
mod immutable;
mod inline;
mod leases;
mod lifetimes;
mod model;
mod pages;
mod peers;
mod pool;
mod quotas;
mod readers;
mod sharing;
mod subscribers;
mod waiting;
mod wants;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use super::*;
use crate::error::Error;
use crate::object::Location;
use crate::protocol::Refused;
use crate::store::leases::Producer;
use crate::store::space::{Place, SHARED_SEGMENT};
use crate::store::stock::Kind;

/// What the pages under test were asked for, and when they are to fail.
#[derive(Debug, Default)]
struct Ledger {
    /// Bytes with memory, as asked for.
    backed: u64,
    /// Calls to `allocate` so far.
    calls: u64,
    /// `allocate` fails from the call with this number on, this many times.
    failures: Range<u64>,
    /// The segment has all its memory from the start, and is so long.
    fixed_length: Option<u64>,
    /// Bytes that came with requests, and where they went.
    written: Vec<(u64, Vec<u8>)>,
    /// Whether producers have segments of their own: their keys, and how much memory each has.
    can_lease: bool,
    leases: BTreeMap<i32, u64>,
    /// Those of them that are for one object, and those that nobody can write any more; how many there may be, and whether somebody has
    /// them mapped for writing.
    for_one: BTreeSet<i32>,
    immutable: BTreeSet<i32>,
    most_for_one: Option<u64>,
    is_mapped: bool,
    /// How often the life of which participant turned, in each segment that several write.
    lives: BTreeMap<i32, BTreeMap<u32, u64>>,
    /// Bytes that may be made ready, what is in order, and whether that is ready.
    pool_bytes: u64,
    prepared: Vec<Kind>,
    is_ready: bool,
    /// What was copied: from which segment and bytes, and to where.
    copied: Vec<(i32, Range<u64>, i32, u64)>,
}

#[derive(Clone, Debug, Default)]
struct FakePages(Rc<RefCell<Ledger>>);

impl Pages for FakePages {
    fn allocate(&mut self, segment: i32, range: Range<u64>) -> Result<()> {
        let mut ledger = self.0.borrow_mut();
        assert!(!ledger.immutable.contains(&segment));
        ledger.calls += 1;
        if ledger.failures.contains(&ledger.calls) {
            return Err(Error::io("fallocate", nix::errno::Errno::ENOSPC.into()));
        }
        let length = range.end - range.start;
        ledger.backed += length;
        ledger.leases.entry(segment).and_modify(|backed| *backed += length);
        Ok(())
    }

    fn punch(&mut self, range: Range<u64>) -> Result<()> {
        self.0.borrow_mut().backed -= range.end - range.start;
        Ok(())
    }

    fn write(&mut self, _: i32, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.borrow_mut().written.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn copy(&mut self, from: i32, bytes: Range<u64>, to: i32, offset: u64) -> Result<()> {
        self.0.borrow_mut().copied.push((from, bytes, to, offset));
        Ok(())
    }

    fn fixed_length(&self) -> Option<u64> {
        self.0.borrow().fixed_length
    }

    fn can_lease(&self) -> bool {
        self.0.borrow().can_lease
    }

    fn lease(&mut self, segment: i32, _: u64, producer: Producer) -> Result<()> {
        let mut ledger = self.0.borrow_mut();
        assert!(ledger.leases.insert(segment, 0).is_none());
        ledger.note(segment, producer);
        Ok(())
    }

    fn pool_bytes(&self) -> u64 {
        self.0.borrow().pool_bytes
    }

    fn prepare(&mut self, kind: Kind) -> bool {
        let mut ledger = self.0.borrow_mut();
        ledger.backed += kind.backed;
        ledger.prepared.push(kind);
        true
    }

    fn lease_prepared(&mut self, segment: i32, kind: Kind, producer: Producer) -> Result<bool> {
        let mut ledger = self.0.borrow_mut();
        if !ledger.is_ready {
            return Ok(false);
        }
        let index = ledger.prepared.iter().position(|prepared| *prepared == kind).expect("it was ordered");
        ledger.prepared.swap_remove(index);
        assert!(ledger.leases.insert(segment, kind.backed).is_none());
        ledger.note(segment, producer);
        Ok(true)
    }

    fn drop_prepared(&mut self, kind: Kind) {
        let mut ledger = self.0.borrow_mut();
        let index = ledger.prepared.iter().position(|prepared| *prepared == kind).expect("it was ordered");
        ledger.prepared.swap_remove(index);
        ledger.backed -= kind.backed;
    }

    fn make_readable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<()> {
        let bytes = backed.iter().map(|range| range.end - range.start).sum();
        assert_eq!(self.0.borrow().leases.get(&segment), Some(&bytes));
        assert!(!self.0.borrow().for_one.contains(&segment));
        Ok(())
    }

    fn most_for_one(&self) -> u64 {
        self.0.borrow().most_for_one.unwrap_or(u64::MAX)
    }

    fn make_immutable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<bool> {
        let mut ledger = self.0.borrow_mut();
        let bytes = backed.iter().map(|range| range.end - range.start).sum();
        assert_eq!(ledger.leases.get(&segment), Some(&bytes));
        assert!(ledger.for_one.contains(&segment));
        if ledger.is_mapped {
            return Ok(false);
        }
        assert!(ledger.immutable.insert(segment), "it is asked for once");
        Ok(true)
    }

    fn share(&mut self, segment: i32) -> Result<()> {
        let mut ledger = self.0.borrow_mut();
        assert!(ledger.for_one.contains(&segment) && !ledger.immutable.contains(&segment));
        assert!(ledger.lives.insert(segment, BTreeMap::new()).is_none(), "it is shared once");
        Ok(())
    }

    fn turn_life(&mut self, segment: i32, participant: u32) {
        let mut ledger = self.0.borrow_mut();
        let lives = ledger.lives.get_mut(&segment).expect("it is shared");
        *lives.entry(participant).or_default() += 1;
    }

    fn end_sharing(&mut self, segment: i32) {
        let lives = self.0.borrow_mut().lives.remove(&segment).expect("it is shared");
        assert!(lives.values().all(|life| life % 2 == 0), "{lives:?} is told that nobody is there");
    }

    fn end_lease(&mut self, segment: i32) {
        assert!(self.0.borrow().leases.contains_key(&segment));
    }

    fn drop_lease(&mut self, segment: i32) {
        let mut ledger = self.0.borrow_mut();
        let backed = ledger.leases.remove(&segment);
        ledger.backed -= backed.expect("a lease is dropped once");
        ledger.for_one.remove(&segment);
        ledger.immutable.remove(&segment);
    }
}

impl Ledger {
    fn note(&mut self, segment: i32, producer: Producer) {
        if matches!(producer, Producer::Once(_)) {
            self.for_one.insert(segment);
        }
    }
}

/// An engine, what its pages were asked for, and a clock that stands still until it is moved.
struct Lab {
    engine: Engine<FakePages>,
    pages: FakePages,
    now: Now,
    next_number: u64,
    /// What was to be gathered in huge pages so far.
    gathered: Vec<Location>,
}

fn lab(limit: u64) -> Lab {
    let pages = FakePages::default();
    let engine = Engine::new(limit, pages.clone()).unwrap();
    Lab::new(engine, pages)
}

/// The `n`-th object's name.
fn id(n: u8) -> ObjectId {
    ObjectId::new([n; 20])
}

fn ids(names: &[u8]) -> Vec<ObjectId> {
    names.iter().copied().map(id).collect()
}

fn create_of(name: u8, data_size: i64, metadata_size: i64) -> Request {
    Request::Create {
        id: id(name),
        data_size,
        metadata_size,
        evict_if_full: true,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    }
}

impl Lab {
    fn new(engine: Engine<FakePages>, pages: FakePages) -> Self {
        let now = Now { instant: Instant::now(), unix_seconds: 1_000_000_000 };
        Self { engine, pages, now, next_number: 1, gathered: Vec::new() }
    }

    fn old(&mut self) -> PeerId {
        self.engine.connect()
    }

    fn native(&mut self) -> PeerId {
        let peer = self.engine.connect();
        let replies = self.ask(peer, Request::Connect { abilities: u64::MAX });
        let capacity = self.engine.space.limit() as i64;
        assert_eq!(replies, [Reply::Connect { capacity, abilities: ABILITIES }]);
        peer
    }

    /// Hands a request in; the number it got.
    fn send(&mut self, peer: PeerId, request: Request) -> Asker {
        let asker = Asker { peer, number: self.next_number };
        self.next_number += 1;
        self.engine.handle(asker, request, self.now);
        asker
    }

    /// All effects since the last call, in their order, without those that only make objects faster. The invariants hold at every
    /// such point.
    fn effects(&mut self) -> Vec<Effect> {
        self.check();
        let mut effects = self.engine.take_effects();
        effects.retain(|effect| match effect {
            Effect::Gather { location } => {
                self.gathered.push(*location);
                false
            }
            _ => true,
        });
        effects
    }

    /// The replies since the last call, to anybody; nobody was cut off.
    fn replies(&mut self) -> Vec<Reply> {
        let reply = |effect| match effect {
            Effect::Reply { reply, .. } => reply,
            other => panic!("no reply: {other:?}"),
        };
        self.effects().into_iter().map(reply).collect()
    }

    /// Hands a request in, does all long work, and returns what was answered.
    fn ask(&mut self, peer: PeerId, request: Request) -> Vec<Reply> {
        self.send(peer, request);
        self.work();
        self.replies()
    }

    /// Hands a request in that ends the connection; why it did.
    fn ask_and_be_closed(&mut self, peer: PeerId, request: Request) -> String {
        self.send(peer, request);
        match self.effects().as_slice() {
            [Effect::Close { peer: closed, reason }] if *closed == peer => reason.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn work(&mut self) {
        while self.engine.has_work() {
            self.engine.work(self.now);
        }
    }

    fn create_with(&mut self, peer: PeerId, request: Request) -> Result<Location, Refused> {
        match self.ask(peer, request).as_slice() {
            [Reply::Create { outcome, segment: None, .. }] => outcome.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, peer: PeerId, name: u8, size: i64) -> Result<Location, Refused> {
        self.create_with(peer, create_of(name, size, 0))
    }

    fn seal(&mut self, peer: PeerId, name: u8) -> Result<(), Refusal> {
        match self.ask(peer, Request::Seal { id: id(name), digest: [name; 8] }).as_slice() {
            [Reply::Seal { outcome, .. }] => *outcome,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, peer: PeerId, name: u8) {
        assert_eq!(self.ask(peer, Request::Release { id: id(name) }), []);
    }

    /// Creates, seals and lets go: the object may be evicted then.
    fn put(&mut self, peer: PeerId, name: u8, size: i64) {
        self.create(peer, name, size).unwrap();
        self.seal(peer, name).unwrap();
        self.release(peer, name);
    }

    /// Which of these objects a get found; `None` when it waits.
    fn get(&mut self, peer: PeerId, names: &[u8], timeout_ms: i64) -> Option<Vec<bool>> {
        match self.ask(peer, Request::Get { ids: ids(names), timeout_ms }).as_slice() {
            [] => None,
            [reply] => Some(found_in(reply, names)),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, peer: PeerId, names: &[u8]) -> Vec<Result<(), Refusal>> {
        match self.ask(peer, Request::Delete { ids: ids(names) }).as_slice() {
            [Reply::Delete { ids: answered, outcomes }] if *answered == ids(names) => outcomes.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn contains(&mut self, peer: PeerId, name: u8) -> bool {
        match self.ask(peer, Request::Contains { id: id(name) }).as_slice() {
            [Reply::Contains { present, .. }] => *present,
            other => panic!("{other:?}"),
        }
    }

    /// The names of all objects, sealed or not, in order.
    fn names(&mut self) -> Vec<u8> {
        let mut names: Vec<u8> = self.engine.objects.iter().map(|(id, _)| id.as_bytes()[0]).collect();
        names.sort_unstable();
        names
    }

    fn holders(&self, name: u8) -> u32 {
        self.engine.objects[&id(name)].holders
    }

    fn used(&self) -> u64 {
        self.engine.space.used()
    }

    /// A figure of the debug string.
    fn figure(&self, key: &str) -> u64 {
        let text = self.engine.describe();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(": ").trim_end_matches('%').parse().unwrap()
    }

    /// Moves the clock and lets what is due happen.
    fn pass(&mut self, milliseconds: u64) {
        self.now.instant += Duration::from_millis(milliseconds);
        self.now.unix_seconds += (milliseconds / 1000) as i64;
        self.engine.expire(self.now);
    }

    /// Lets so much time pass that all memory is given back that lies free.
    fn calm_down(&mut self) {
        self.pass(0);
        for _ in 0..1000 {
            let Some(next) = self.engine.next_deadline() else { return };
            self.pass(next.duration_since(self.now.instant).as_millis() as u64);
        }
    }

    /// What must be true between any two requests.
    fn check(&self) {
        let engine = &self.engine;
        let live: u64 = engine.objects.values().map(|object| object.size_here() + object.copy_size()).sum();
        let moves = &engine.external.moves;
        let orphans: u64 = moves.values().filter(|moved| moved.orphan.is_some()).map(|moved| moved.leaving).sum();
        assert_eq!(live + orphans, engine.space.used(), "bytes used are those of the objects");
        assert_eq!(moves.values().map(|moved| moved.leaving).sum::<u64>(), engine.external.leaving);
        assert!(engine.external.line.is_empty() || engine.external.leaving > 0, "somebody waits for nothing");
        assert!(engine.space.used() <= engine.space.limit());
        assert!(engine.space.backed() == self.pages.0.borrow().backed, "the books of pages are right");
        let prepared = self.pages.0.borrow().prepared.iter().map(|kind| kind.backed).sum::<u64>();
        assert_eq!(engine.space.pooled(), prepared, "the books of the pool are right");
        let orphans = moves.values().filter_map(|moved| moved.orphan);
        let copies = engine.objects.values().filter_map(|object| object.copy.as_ref()?.place);
        let places = engine.objects.values().filter_map(|object| object.place);
        let granted = engine.space.leases().all_granted().map(|grant| grant.place);
        let mut places: Vec<_> = places.chain(copies).chain(orphans).chain(granted).collect();
        let lying = places.iter().filter(|place| place.segment != SHARED_SEGMENT).map(|place| place.extent.len);
        assert_eq!(lying.sum::<u64>(), engine.space.leases().taken_bytes(), "what is taken is somebody's");
        places.sort_by_key(|place| (place.segment, place.extent.offset));
        let disjoint = |two: &[Place]| {
            two[0].segment != two[1].segment || two[0].extent.offset + two[0].extent.len <= two[1].extent.offset
        };
        assert!(places.windows(2).all(disjoint), "objects overlap");
        for (id, object) in engine.objects.iter() {
            let held_by = engine.peers.values().filter(|peer| peer.held.contains_key(id)).count();
            let is_copied_now = object.copy.as_ref().is_some_and(|copy| !copy.is_ready);
            assert_eq!(object.holders as usize, held_by + usize::from(is_copied_now), "holders of {id}");
            let held_by = object.holders;
            let listed = match object.residence {
                Residence::Here => {
                    object.owner.is_some() || object.is_sealed() && held_by == 0 && !object.pinned && !object.doomed
                }
                Residence::Leaving(_) => false,
                Residence::Away | Residence::Returning => {
                    assert!(object.is_sealed() && object.saved && held_by == 0, "{id} is away");
                    false
                }
            };
            assert_eq!(object.age.is_some(), listed, "{id} is in the order of eviction, or not");
            let is_returning = object.residence == Residence::Returning;
            let is_read = engine.readers(object) > 0;
            assert!(!object.doomed || held_by > 0 || is_returning || is_read, "{id} should be gone");
            let unsealed_of = engine.peers.iter().filter(|(_, peer)| peer.unsealed.contains(id)).map(|(peer, _)| *peer);
            let expected = (!object.is_sealed() && object.shared.is_none()).then_some(object.created_by.peer);
            let sharing = engine.peers.values().filter(|peer| peer.sharing.contains_key(id));
            let is_shared = object.shared.is_some();
            assert_eq!(sharing.count() as u32, if is_shared { object.holders } else { 0 }, "who shares {id}");
            assert!(unsealed_of.eq(expected), "whose unsealed object {id} is");
        }
        let held = engine.peers.values().flat_map(|peer| peer.held.iter());
        assert!(held.clone().all(|(id, _)| engine.objects.contains(id)), "a hold on nothing");
        assert!(held.clone().all(|(_, count)| *count > 0));
        for peer in engine.peers.values() {
            let bytes = peer.held.keys().map(|id| engine.objects[id].size()).sum::<u64>();
            assert_eq!(peer.held_bytes, bytes, "bytes that a peer holds");
        }
        let pinned = engine.objects.values().filter(|object| object.pinned);
        assert_eq!(engine.pinned_bytes, pinned.map(Object::size).sum::<u64>());
        let ends = engine.objects.iter().filter_map(|(id, object)| Some((object.expires?, *id)));
        assert_eq!(engine.expiries, ends.collect());
        let listed = |owner| {
            let mut ids: Vec<_> = engine.objects.iter().filter(|(_, object)| object.owner == owner).collect();
            ids.retain(|(_, object)| object.age.is_some());
            (ids.len(), ids.iter().map(|(_, object)| object.size()).sum::<u64>())
        };
        assert_eq!((engine.evictable.oldest_first().count(), engine.evictable.bytes()), listed(None));
        for (peer, quota) in engine.peers.iter().filter_map(|(peer, state)| Some((peer, state.quota.as_ref()?))) {
            assert_eq!((quota.objects.oldest_first().count(), quota.used), listed(Some(*peer)), "quota of peer {peer}");
            assert_eq!(quota.objects.bytes(), quota.used);
        }
        let ledger = self.pages.0.borrow();
        for object in engine.objects.values() {
            let segment = object.place.map(|place| place.segment);
            let is_for_one = segment.is_some_and(|segment| ledger.for_one.contains(&segment));
            assert_eq!(is_for_one, object.immutable && segment.is_some(), "an immutable object lies alone");
            let is_immutable = segment.is_some_and(|segment| ledger.immutable.contains(&segment));
            let is_filled = object.is_sealed() && object.residence != Residence::Returning;
            assert_eq!(is_immutable, is_for_one && is_filled, "nobody writes what is sealed");
        }
        assert_eq!(ledger.for_one.len() as u64, engine.space.leases().count_for_one());
        let owners: HashSet<_> = engine.objects.values().filter_map(|object| object.owner).collect();
        assert!(owners.iter().all(|owner| engine.peers[owner].quota.is_some()), "an owner without a quota");
    }

    /// Nothing is left of anything.
    fn check_empty(&mut self) {
        assert_eq!(self.effects().len(), 0);
        assert_eq!((self.used(), self.engine.objects.len()), (0, 0));
        assert_eq!((self.figure("allocated bytes"), self.figure("pinned bytes")), (0, 0));
        assert!(self.engine.waiters.is_empty() && self.engine.growing.is_empty() && self.engine.queue.is_clean());
        assert!(self.engine.external.moves.is_empty() && self.engine.external.line.is_empty());
        assert_eq!(self.engine.external.promised, 0);
        self.calm_down();
        assert_eq!(self.engine.next_deadline(), None);
    }
}

/// Which of `names` a get's answer has.
fn found_in(reply: &Reply, names: &[u8]) -> Vec<bool> {
    match reply {
        Reply::Get { ids: answered, locations, segments } if *answered == ids(names) && segments.is_empty() => {
            assert_eq!(locations.len(), names.len());
            locations.iter().map(Option::is_some).collect()
        }
        other => panic!("{other:?}"),
    }
}
