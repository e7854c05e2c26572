//! A hundred thousand random requests of several peers, against a second engine written without looking at the first:
//! plain maps, linear searches, no memory. Same answers, same bytes used, and the invariants after every step.
//!
//! Every run plays the same requests; `PLASMA_MODEL_SEED` plays others, and `PLASMA_MODEL_GAMES` more.

use std::collections::BTreeMap;

use super::*;
use crate::object::ObjectInfo;
use crate::store::space::SHARED_SEGMENT;

const LIMIT: u64 = 100_000;
const NAMES: u64 = 24;

/// An answer as far as the model can know it: what was found, not where.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Create(Asker, u8, Option<Refusal>),
    Seal(Asker, u8, Option<Refusal>),
    Abort(Asker, u8, Option<Refusal>),
    Get(Asker, Vec<u8>, Vec<Option<u64>>),
    Delete(Asker, Vec<Option<Refusal>>),
    Contains(Asker, bool),
    List(Asker, BTreeMap<u8, (bool, u64, u32, bool)>),
    Pin(Asker, Vec<Option<Refusal>>),
    Evict(Asker, u64),
    Refreshed(Asker),
    Closed(PeerId),
}

#[derive(Debug)]
struct Thing {
    size: u64,
    created_by: Asker,
    sealed: bool,
    doomed: bool,
    pinned: bool,
    immutable: bool,
    ttl: u64,
    end: Option<u64>,
    holds: BTreeMap<PeerId, u32>,
}

#[derive(Debug)]
struct Wait {
    asker: Asker,
    names: Vec<u8>,
    found: BTreeMap<u8, u64>,
    deadline: Option<u64>,
}

/// A create, as far as it matters here.
#[derive(Clone, Debug)]
struct Wish {
    asker: Asker,
    name: u8,
    size: u64,
    evict: bool,
    immutable: bool,
    ttl: u64,
    deadline: Option<u64>,
}

#[derive(Debug, Default)]
struct Model {
    native: BTreeMap<PeerId, bool>,
    things: BTreeMap<u8, Thing>,
    /// Names that may be evicted, oldest first.
    order: Vec<u8>,
    waits: Vec<Wait>,
    /// Creates that wait for room, in the order of asking.
    queue: Vec<Wish>,
    /// Bytes that others took since the first in the queue became the first.
    passed: u64,
    /// There can be immutable objects; somebody can write them just now, and how many seals of whom came while that was so.
    can_lease: bool,
    is_mapped: bool,
    refused: BTreeMap<PeerId, u32>,
    clock: u64,
    answers: Vec<Answer>,
}

impl Model {
    fn used(&self) -> u64 {
        self.things.values().map(|thing| thing.size).sum()
    }

    fn hold(&mut self, name: u8, peer: PeerId) {
        let count = self.things.get_mut(&name).unwrap().holds.entry(peer).or_insert(0);
        *count = if self.native[&peer] { *count + 1 } else { 1 };
        self.order.retain(|other| *other != name);
    }

    /// Takes holds away: `all` of them, or one.
    fn unhold(&mut self, name: u8, peer: PeerId, all: bool) {
        let Some(thing) = self.things.get_mut(&name) else { return };
        let Some(count) = thing.holds.get_mut(&peer) else { return };
        *count -= 1;
        if all || *count == 0 {
            thing.holds.remove(&peer);
            if thing.holds.is_empty() && thing.doomed {
                self.things.remove(&name);
            } else if thing.holds.is_empty() && !thing.pinned {
                self.order.push(name);
            }
        }
    }

    fn evict(&mut self, goal: u64) -> u64 {
        let mut freed = 0;
        while freed < goal && !self.order.is_empty() {
            freed += self.things.remove(&self.order.remove(0)).unwrap().size;
        }
        freed
    }

    /// Makes the object if there is room for it.
    fn make(&mut self, wish: &Wish) -> bool {
        let missing = (self.used() + wish.size).saturating_sub(LIMIT);
        if missing > 0 {
            let evictable: u64 = self.order.iter().map(|name| self.things[name].size).sum();
            if !wish.evict || evictable < missing {
                return false;
            }
            self.evict(if self.native[&wish.asker.peer] { missing } else { missing.max(LIMIT / 5) });
        }
        let (size, created_by, ttl) = (wish.size, wish.asker, wish.ttl);
        let thing = Thing {
            size,
            created_by,
            ttl,
            sealed: false,
            doomed: false,
            pinned: false,
            immutable: wish.immutable,
            end: None,
            holds: BTreeMap::new(),
        };
        self.things.insert(wish.name, thing);
        self.hold(wish.name, wish.asker.peer);
        true
    }

    /// Why nothing can ever come of it.
    fn hopeless(&self, wish: &Wish) -> Option<Refusal> {
        match self.things.contains_key(&wish.name) {
            true => Some(Refusal::ObjectExists),
            false if wish.size > LIMIT => Some(Refusal::OutOfMemory),
            false => (wish.immutable && !self.can_lease).then_some(Refusal::Unsupported),
        }
    }

    fn create(&mut self, wish: Wish, waits: bool) {
        if let Some(refusal) = self.hopeless(&wish) {
            return self.answers.push(Answer::Create(wish.asker, wish.name, Some(refusal)));
        }
        let pinned: u64 = self.things.values().filter(|thing| thing.pinned).map(|thing| thing.size).sum();
        let kept = self
            .queue
            .first()
            .is_some_and(|first| wish.size > 0 && first.size + pinned <= LIMIT && self.passed + wish.size > LIMIT);
        if (self.queue.is_empty() || !waits) && !kept && self.make(&wish) {
            self.passed += if self.queue.is_empty() { 0 } else { wish.size };
            self.answers.push(Answer::Create(wish.asker, wish.name, None));
        } else if waits {
            self.queue.push(wish);
        } else {
            self.answers.push(Answer::Create(wish.asker, wish.name, Some(Refusal::OutOfMemory)));
        }
    }

    /// Takes a create out of the queue.
    fn unqueue(&mut self, at: usize) -> Wish {
        self.passed = if at == 0 { 0 } else { self.passed };
        self.queue.remove(at)
    }

    /// Serves those who wait for room, while the first one can be.
    fn serve(&mut self) {
        while let Some(first) = self.queue.first().cloned() {
            let refusal = self.hopeless(&first);
            if refusal.is_none() && !self.make(&first) {
                return;
            }
            self.unqueue(0);
            self.answers.push(Answer::Create(first.asker, first.name, refusal));
        }
    }

    fn cancel_create(&mut self, asker: Asker, name: u8) {
        if let Some(at) = self.queue.iter().position(|wish| wish.asker == asker) {
            let wish = self.unqueue(at);
            self.answers.push(Answer::Create(asker, wish.name, Some(Refusal::OutOfMemory)));
        } else if self.things.get(&name).is_some_and(|thing| !thing.sealed && thing.created_by == asker) {
            self.things.remove(&name);
        }
    }

    fn pin(&mut self, names: &[u8], pinned: bool) -> Vec<Option<Refusal>> {
        let refusal = |name: &u8| match self.things.get(name) {
            None => Some(Refusal::ObjectNotFound),
            Some(thing) => (!thing.sealed).then_some(Refusal::ObjectNotSealed),
        };
        let refusals: Vec<_> = names.iter().map(refusal).collect();
        for name in names.iter().filter(|_| refusals.iter().all(Option::is_none)) {
            let thing = self.things.get_mut(name).unwrap();
            if pinned {
                self.order.retain(|other| other != name);
            } else if thing.pinned && thing.holds.is_empty() {
                self.order.push(*name);
            }
            thing.pinned = pinned;
        }
        refusals
    }

    fn seal(&mut self, asker: Asker, name: u8) -> Option<Refusal> {
        let Some(thing) = self.things.get_mut(&name) else { return Some(Refusal::ObjectNotFound) };
        if thing.sealed {
            return Some(Refusal::ObjectAlreadySealed);
        }
        if thing.created_by.peer != asker.peer {
            return Some(Refusal::ObjectNotFound);
        }
        if thing.immutable && thing.size > 0 && self.is_mapped {
            let refused = self.refused.entry(asker.peer).or_default();
            *refused += 1;
            if *refused > 100 {
                self.answers.push(Answer::Closed(asker.peer));
            }
            return Some(Refusal::StillWritable);
        }
        thing.sealed = true;
        thing.end = (thing.ttl > 0).then(|| self.clock.saturating_add(thing.ttl));
        let size = thing.size;
        for at in 0..self.waits.len() {
            // A peer that gave back what it was not told of yet is told where it was, and does not hold it.
            if self.waits[at].names.contains(&name) && !self.waits[at].found.contains_key(&name) {
                self.waits[at].found.insert(name, size);
                self.hold(name, self.waits[at].asker.peer);
            }
        }
        self.answer_waits(|wait| wait.names.iter().all(|name| wait.found.contains_key(name)));
        None
    }

    fn answer_waits(&mut self, ready: impl Fn(&Wait) -> bool) {
        let (done, left) = std::mem::take(&mut self.waits).into_iter().partition(|wait| ready(wait));
        self.waits = left;
        let done: Vec<Wait> = done;
        for wait in done {
            let found = wait.names.iter().map(|name| wait.found.get(name).copied()).collect();
            self.answers.push(Answer::Get(wait.asker, wait.names, found));
        }
    }

    fn get(&mut self, asker: Asker, names: Vec<u8>, timeout: i64) {
        let mut found = BTreeMap::new();
        for name in &names {
            if !found.contains_key(name) && self.things.get(name).is_some_and(|thing| thing.sealed) {
                found.insert(*name, self.things[name].size);
                self.hold(*name, asker.peer);
            }
        }
        let complete = names.iter().all(|name| found.contains_key(name));
        let deadline = (timeout >= 0).then(|| self.clock + timeout as u64);
        self.waits.push(Wait { asker, names, found, deadline });
        if complete || timeout == 0 || timeout < -1 {
            self.answer_waits(|wait| wait.asker == asker);
        }
    }

    fn delete(&mut self, name: u8) -> Option<Refusal> {
        let Some(thing) = self.things.get_mut(&name) else { return Some(Refusal::ObjectNotFound) };
        if thing.holds.is_empty() {
            self.things.remove(&name);
            self.order.retain(|other| *other != name);
            return None;
        }
        thing.doomed = true;
        Some(if thing.sealed { Refusal::ObjectInUse } else { Refusal::ObjectNotSealed })
    }

    fn disconnect(&mut self, peer: PeerId) {
        self.native.remove(&peer);
        while let Some(at) = self.queue.iter().position(|wish| wish.asker.peer == peer) {
            self.unqueue(at);
        }
        self.waits.retain(|wait| wait.asker.peer != peer);
        self.things.retain(|_, thing| thing.sealed || thing.created_by.peer != peer);
        let held: Vec<u8> = self.things.iter().filter(|(_, t)| t.holds.contains_key(&peer)).map(|(n, _)| *n).collect();
        held.into_iter().for_each(|name| self.unhold(name, peer, true));
    }

    fn handle(&mut self, asker: Asker, request: &Request) {
        let name = |id: &ObjectId| id.as_bytes()[0];
        let answer = match request {
            Request::Create { id, data_size, metadata_size, evict_if_full, device_num, ttl_ms, wait_ms, immutable } => {
                if *device_num != 0 || *data_size < 0 || *metadata_size < 0 {
                    return self.answers.push(Answer::Create(asker, name(id), Some(Refusal::OutOfMemory)));
                }
                let size = *data_size as u64 + *metadata_size as u64;
                let deadline = (*wait_ms >= 0).then(|| self.clock + *wait_ms as u64);
                let waits = self.native[&asker.peer] && (*wait_ms == -1 || *wait_ms > 0);
                let (evict, ttl, immutable) = (*evict_if_full, *ttl_ms, *immutable);
                let wish = Wish { asker, name: name(id), size, evict, immutable, ttl, deadline };
                return self.create(wish, waits);
            }
            Request::CancelCreate { number, id } => {
                return self.cancel_create(Asker { number: *number, ..asker }, name(id));
            }
            Request::Pin { ids, pinned } => {
                Answer::Pin(asker, self.pin(&ids.iter().map(name).collect::<Vec<_>>(), *pinned))
            }
            Request::Seal { id, .. } => Answer::Seal(asker, name(id), self.seal(asker, name(id))),
            Request::Abort { id } => {
                let refusal = match self.things.get(&name(id)) {
                    Some(thing) if thing.sealed => Some(Refusal::ObjectAlreadySealed),
                    Some(thing) if thing.created_by.peer == asker.peer => None,
                    _ => Some(Refusal::ObjectNotFound),
                };
                if refusal.is_none() {
                    self.things.remove(&name(id));
                } else if !self.native[&asker.peer] {
                    return self.answers.push(Answer::Closed(asker.peer));
                }
                Answer::Abort(asker, name(id), refusal)
            }
            Request::Get { ids, timeout_ms } => return self.get(asker, ids.iter().map(name).collect(), *timeout_ms),
            Request::Release { id } => {
                if self.things.get(&name(id)).is_some_and(|thing| thing.sealed) {
                    self.unhold(name(id), asker.peer, false);
                }
                return;
            }
            Request::Delete { ids } => Answer::Delete(asker, ids.iter().map(|id| self.delete(name(id))).collect()),
            Request::Contains { id } => {
                Answer::Contains(asker, self.things.get(&name(id)).is_some_and(|thing| thing.sealed))
            }
            Request::List => {
                let info = |(name, thing): (&u8, &Thing)| {
                    (*name, (thing.sealed, thing.size, thing.holds.len() as u32, thing.pinned))
                };
                Answer::List(asker, self.things.iter().map(info).collect())
            }
            Request::Evict { bytes } => Answer::Evict(asker, self.evict(*bytes)),
            Request::RefreshLru { ids } => {
                for name in ids.iter().map(name) {
                    if self.order.contains(&name) {
                        self.order.retain(|other| *other != name);
                        self.order.push(name);
                    }
                }
                Answer::Refreshed(asker)
            }
            Request::Cancel { number } => {
                let asker = Asker { number: *number, ..asker };
                return self.answer_waits(|wait| wait.asker == asker);
            }
            other => panic!("{other:?}"),
        };
        self.answers.push(answer);
    }

    fn pass(&mut self, milliseconds: u64) {
        self.clock += milliseconds;
        let now = self.clock;
        // In the order of their times; a stable sort keeps those of one time in the order of asking.
        self.waits.sort_by_key(|wait| wait.deadline.unwrap_or(u64::MAX));
        self.answer_waits(|wait| wait.deadline.is_some_and(|deadline| deadline <= now));
        self.waits.sort_by_key(|wait| wait.asker.number);
        let is_over = |thing: &Thing| thing.end.is_some_and(|end| end <= now);
        let over: Vec<u8> = self.things.iter().filter(|(_, thing)| is_over(thing)).map(|(name, _)| *name).collect();
        for name in over {
            self.things.get_mut(&name).unwrap().end = None;
            self.delete(name);
        }
        let deadline = |wish: &Wish| wish.deadline.unwrap_or(u64::MAX);
        while let Some(wish) = self.queue.iter().min_by_key(|wish| (deadline(wish), wish.asker.number)).cloned() {
            if deadline(&wish) > now {
                return;
            }
            self.unqueue(self.queue.iter().position(|other| other.asker == wish.asker).unwrap());
            self.create(wish, false);
        }
    }
}

/// An effect in the model's words.
fn simplify(effect: Effect) -> Answer {
    let name = |id: ObjectId| id.as_bytes()[0];
    let Effect::Reply { to, reply } = effect else {
        let Effect::Close { peer, .. } = effect else { unreachable!() };
        return Answer::Closed(peer);
    };
    match reply {
        Reply::Create { id, outcome, .. } => Answer::Create(to, name(id), outcome.err().map(|refused| refused.refusal)),
        Reply::Seal { id, outcome } => Answer::Seal(to, name(id), outcome.err()),
        Reply::Abort { id, outcome } => Answer::Abort(to, name(id), outcome.err()),
        Reply::Get { ids, locations, .. } => {
            let sizes = locations.iter().map(|at| at.map(|at| at.data_size + at.metadata_size)).collect();
            Answer::Get(to, ids.into_iter().map(name).collect(), sizes)
        }
        Reply::Delete { outcomes, .. } => Answer::Delete(to, outcomes.into_iter().map(Result::err).collect()),
        Reply::Contains { present, .. } => Answer::Contains(to, present),
        Reply::List { objects } => {
            let state = |info: &ObjectInfo| info.state == ObjectState::Sealed;
            let info = |info: ObjectInfo| {
                (name(info.id), (state(&info), info.data_size + info.metadata_size, info.ref_count, info.pinned))
            };
            Answer::List(to, objects.into_iter().map(info).collect())
        }
        Reply::Evict { bytes } => Answer::Evict(to, bytes),
        Reply::RefreshLru => Answer::Refreshed(to),
        Reply::Pin { outcomes } => Answer::Pin(to, outcomes.into_iter().map(Result::err).collect()),
        other => panic!("{other:?}"),
    }
}

/// SplitMix64: any seed is a good one.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    fn name(&mut self) -> ObjectId {
        id(self.below(NAMES) as u8)
    }

    fn names(&mut self, most: u64) -> Vec<ObjectId> {
        (0..=self.below(most)).map(|_| self.name()).collect()
    }

    fn size(&mut self) -> i64 {
        match self.below(20) {
            0 => 0,
            1 => -1 - self.below(1000) as i64,
            2 => (LIMIT + self.below(3)) as i64 - 1,
            _ => self.below(30_000) as i64,
        }
    }

    fn request(&mut self, last_number: u64) -> Request {
        match self.below(100) {
            0..25 => Request::Create {
                id: self.name(),
                data_size: self.size(),
                metadata_size: if self.below(4) == 0 { self.size() } else { 0 },
                evict_if_full: self.below(4) > 0,
                device_num: i32::from(self.below(50) == 0),
                ttl_ms: [0, 0, 0, 1, 30, u64::MAX][self.below(6) as usize],
                wait_ms: [0, 0, 0, -1, -3, 1, 40, 200][self.below(8) as usize],
                immutable: self.below(4) == 0,
            },
            25..45 => Request::Seal { id: self.name(), digest: [0; 8] },
            45..60 => {
                let timeout_ms = [-1, 0, 5, 50, -3][self.below(5) as usize];
                Request::Get { ids: self.names(4), timeout_ms }
            }
            60..80 => Request::Release { id: self.name() },
            80..84 => Request::Delete { ids: self.names(2) },
            84 => Request::Pin { ids: self.names(1), pinned: self.below(3) == 0 },
            85 => Request::CancelCreate { number: last_number.saturating_sub(self.below(6)), id: self.name() },
            86..89 => Request::Abort { id: self.name() },
            89..92 => Request::Contains { id: self.name() },
            92..94 => Request::List,
            94 => Request::Evict { bytes: self.below(40_000) },
            95 => Request::RefreshLru { ids: self.names(3) },
            _ => Request::Cancel { number: last_number.saturating_sub(self.below(30)) },
        }
    }
}

/// Both sides, and the peers that are connected to both.
struct Match {
    lab: Lab,
    model: Model,
    random: Random,
    peers: Vec<PeerId>,
    /// Native peers have segments of their own. There are no old ones then: copies for those count, and the model has none.
    has_leases: bool,
}

impl Match {
    fn new(seed: u64, has_leases: bool) -> Self {
        let lab = lab(LIMIT);
        lab.pages.0.borrow_mut().can_lease = has_leases;
        let model = Model { can_lease: has_leases, ..Model::default() };
        let mut game = Self { lab, model, random: Random(seed), peers: Vec::new(), has_leases };
        (0..3).for_each(|_| game.connect());
        game
    }

    fn connect(&mut self) {
        let native = self.random.below(2) == 0 || self.has_leases;
        let peer = if native { self.lab.native() } else { self.lab.old() };
        self.model.native.insert(peer, native);
        self.peers.push(peer);
    }

    fn disconnect(&mut self, peer: PeerId) {
        self.peers.retain(|other| *other != peer);
        self.lab.engine.disconnect(peer);
        let before = self.model.order.len();
        self.model.disconnect(peer);
        // In what order the objects of one peer become free is nobody's business; which ones do, is.
        let order: Vec<u8> = self.lab.engine.evictable.oldest_first().map(|id| id.as_bytes()[0]).collect();
        let sorted = |names: &[u8]| BTreeMap::from_iter(names.iter().map(|name| (*name, ())));
        assert_eq!(order[..before], self.model.order[..before]);
        assert_eq!(sorted(&order), sorted(&self.model.order));
        self.model.order = order;
    }

    fn step(&mut self) {
        match self.random.below(200) {
            0..2 if self.peers.len() < 6 => self.connect(),
            2 if self.peers.len() > 2 => {
                let peer = self.peers[self.random.below(self.peers.len() as u64) as usize];
                self.disconnect(peer);
            }
            3 => {
                self.model.is_mapped = self.random.below(4) == 0;
                self.lab.pages.0.borrow_mut().is_mapped = self.model.is_mapped;
            }
            4..20 => {
                let time = self.random.below(20);
                self.lab.pass(time);
                self.model.pass(time);
            }
            _ => {
                let peer = self.peers[self.random.below(self.peers.len() as u64) as usize];
                let request = self.random.request(self.lab.next_number);
                let asker = self.lab.send(peer, request.clone());
                self.model.handle(asker, &request);
            }
        }
        self.serve();
    }

    /// Lets those who wait for room have what there is.
    fn serve(&mut self) {
        self.lab.work();
        self.model.serve();
    }

    /// Compares everything. A peer that was cut off is gone on both sides.
    fn compare(&mut self) {
        let answers: Vec<Answer> = self.lab.effects().into_iter().map(simplify).collect();
        assert_eq!(answers, std::mem::take(&mut self.model.answers));
        assert_eq!(self.lab.used(), self.model.used());
        let objects = &self.lab.engine.objects;
        assert!(
            objects
                .values()
                .filter_map(|object| object.place)
                .all(|place| (place.segment != SHARED_SEGMENT) == self.has_leases)
        );
        for answer in answers {
            if let Answer::Closed(peer) = answer {
                self.disconnect(peer);
                self.serve();
                self.compare();
            }
        }
    }
}

fn play(seed: u64, steps: u64, has_leases: bool) {
    let mut game = Match::new(seed, has_leases);
    for step in 0..steps {
        if game.peers.len() < 2 {
            game.connect();
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            game.step();
            game.compare();
        }));
        if let Err(panic) = outcome {
            eprintln!("at step {step} of seed {seed}, with leases: {has_leases}");
            std::panic::resume_unwind(panic);
        }
    }
    while let Some(peer) = game.peers.last().copied() {
        game.disconnect(peer);
        game.serve();
        game.compare();
    }
    let last = game.lab.native();
    game.lab.ask(last, Request::Evict { bytes: u64::MAX });
    game.lab.check();
    // What is left over has no bytes: a goal of bytes is reached before them.
    assert_eq!(game.lab.used(), 0);
}

/// `PLASMA_MODEL_GAMES=10` plays a million requests, in a minute or two.
fn play_all(has_leases: bool) {
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let first_seed = number("PLASMA_MODEL_SEED", 2024);
    for seed in first_seed..first_seed + number("PLASMA_MODEL_GAMES", 1) {
        play(seed, 100_000, has_leases);
    }
}

#[test]
fn the_engine_does_what_the_model_does() {
    play_all(false);
}

#[test]
fn the_engine_does_what_the_model_does_with_segments_for_each_producer() {
    play_all(true);
}
