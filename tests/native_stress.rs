//! Index and pins between real processes: readers that get and release and are killed at any moment, a store that evicts,
//! deletes, reuses and rebuilds under them.
//!
//! `make test` plays a short game. The whole one, and the same with the one barrier of a get left out, which must be
//! noticed: docs/testing.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::env;
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plasma_store::object::{Location, ObjectId};
use plasma_store::shm::index::layout::{ALIVE_OFFSET, Geometry};
use plasma_store::shm::index::reader::IndexReader;
use plasma_store::shm::index::writer::{Descriptor, IndexWriter};
use plasma_store::shm::mapping::Mapping;
use plasma_store::shm::one_writer::OneWriter;
use plasma_store::shm::pins::peer::{Held, Lookup, Peer};
use plasma_store::shm::pins::store::SharedIndex;
use plasma_store::shm::segment::Segment;
use plasma_store::shm::store_alive::StoreAlive;
use plasma_store::shm::words::Words;
use support::{Random, Watchdog, eventually, id};

/// Objects that the index can name, and places for their bytes.
const CAPACITY: usize = 16;
/// Ids that come and go; those below [`PERMANENT`] only come.
const IDS: u64 = 40;
const PERMANENT: u64 = 4;
const OBJECT: u64 = 1024;
const READERS: usize = 3;
/// How many pins a reader holds at once.
const HOLDS: usize = 2;
/// What a reader writes elsewhere before each get, in this much memory of its own. A processor lets its reads overtake
/// writes that wait for slow memory, unless there is a barrier; this keeps many waiting, so that a missing one shows.
const WRITES: u64 = 24;
const ELSEWHERE: usize = 64 << 20;

/// How much is played.
struct Goals {
    gets: u64,
    recycled: u64,
    kills: u64,
}

fn is_whole() -> bool {
    env::var("PLASMA_STRESS").is_ok_and(|size| size == "whole")
}

fn goals() -> Goals {
    match is_whole() {
        true => Goals { gets: 100_000_000, recycled: 1_000_000, kills: 1_000 },
        false => Goals { gets: 100_000, recycled: 5_000, kills: 10 },
    }
}

/// A page in which the processes of a game tell each other how far they are. Each reader has a line of it.
struct Report(Mapping);

const STOP: usize = 0;
const ATTACHED: usize = 0;
const GO: usize = 1;
const GETS: usize = 2;
const FOUND: usize = 3;
const ASKED: usize = 4;
const VIOLATIONS: usize = 5;
const KICKS: usize = 6;

impl Report {
    fn new(fd: BorrowedFd<'_>) -> Self {
        Self(Mapping::read_write(fd, 4096).unwrap())
    }

    /// Word `at` of a reader's line.
    fn of(&self, reader: usize, at: usize) -> &AtomicU64 {
        let word = self.0.address_mut((64 * (reader + 1) + 8 * at) as u64, 8).unwrap();
        // SAFETY: it is an aligned word of a mapping that lives as long as `self`, and all use it as an atomic.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    fn stop(&self) -> &AtomicU64 {
        let word = self.0.address_mut(8 * STOP as u64, 8).unwrap();
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    fn sum(&self, at: usize) -> u64 {
        (0..READERS).map(|reader| self.of(reader, at).load(Ordering::Relaxed)).sum()
    }
}

fn geometry() -> Geometry {
    Geometry::new(CAPACITY as u32).unwrap()
}

/// This test program once more, as another process that runs the named test in a role, with these descriptors.
fn spawn(test: &str, role: &str, descriptors: &[BorrowedFd<'_>]) -> Child {
    // These do not close when the child starts; they do here when this returns.
    let inherited: Vec<OwnedFd> = descriptors.iter().map(|fd| nix::unistd::dup(fd).unwrap()).collect();
    let numbers: Vec<String> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test]).env("PLASMA_TEST_ROLE", role).env("PLASMA_TEST_FDS", numbers.join(" "));
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// In a process that [`spawn`] made: its role and its descriptors.
fn role() -> Option<(String, Vec<OwnedFd>)> {
    let role = env::var("PLASMA_TEST_ROLE").ok()?;
    let numbers = env::var("PLASMA_TEST_FDS").unwrap();
    let numbers = numbers.split(' ').map(|number| number.parse().unwrap());
    // SAFETY: `spawn` left these open for this process, and they are taken once.
    Some((role, numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()))
}

/// A reader: gets, looks at the bytes, holds for a while, looks again and releases, until it is stopped or killed.
fn read(number: usize, descriptors: &[OwnedFd]) {
    let [index, data, pins, report] = descriptors else { panic!("four descriptors") };
    let report = Arc::new(Report::new(report.as_fd()));
    let index = Arc::new(Mapping::read_only(index, geometry().bytes()).unwrap());
    let pins = Arc::new(Mapping::read_write(pins, 4 * CAPACITY as u64).unwrap());
    let reader = IndexReader::attach(&Words::of_mapping(&index, 0, geometry().words()).unwrap()).unwrap();
    let kicks = report.clone();
    let kick = move || {
        kicks.of(number, KICKS).fetch_add(1, Ordering::Relaxed);
    };
    let peer = Peer::new(reader, Words::of_mapping(&pins, 0, CAPACITY).unwrap(), kick).unwrap();
    let data = Mapping::read_only(data, CAPACITY as u64 * OBJECT).unwrap();
    report.of(number, ATTACHED).store(1, Ordering::Release);
    eventually(|| report.of(number, GO).load(Ordering::Acquire) == 1);
    let mut random = Random(std::process::id().into());
    let mut held: [Option<(u64, Held)>; HOLDS] = Default::default();
    let mut elsewhere = vec![0u64; ELSEWHERE / 8];
    let parent = parent_id();
    for turn in 0u64.. {
        // Should the test program be killed, its readers end too.
        if report.stop().load(Ordering::Relaxed) != 0 || (turn % 4096 == 0 && parent_id() != parent) {
            break;
        }
        let wanted = random.below(IDS);
        let count = |at| {
            report.of(number, at).fetch_add(1, Ordering::Relaxed);
        };
        count(GETS);
        let place = &mut held[random.below(HOLDS as u64) as usize];
        if let Some((id, pin)) = place.take() {
            if !is_intact(&data, id, peer.location(&pin)) {
                count(VIOLATIONS);
            }
            peer.release(pin);
        }
        let wanted_id = id(wanted);
        (0..WRITES).for_each(|n| elsewhere[random.below(ELSEWHERE as u64 / 8) as usize] = black_box(n));
        match peer.hold(&wanted_id) {
            Lookup::Found(pin) => {
                count(if is_intact(&data, wanted, peer.location(&pin)) { FOUND } else { VIOLATIONS });
                *place = Some((wanted, pin));
            }
            Lookup::Missing if wanted >= PERMANENT => {}
            Lookup::Missing => count(VIOLATIONS),
            Lookup::AskStore => count(ASKED),
        }
    }
    held.into_iter().flatten().for_each(|(_, pin)| peer.release(pin));
}

/// Whether what was got is the object, and its bytes are what the store wrote when it made it.
fn is_intact(data: &Mapping, wanted: u64, Location { offset, metadata_size: stamp, .. }: Location) -> bool {
    let mut bytes = [0; OBJECT as usize];
    data.read(offset, &mut bytes).unwrap();
    stamp % IDS == wanted && bytes.chunks_exact(8).all(|word| word == stamp.to_le_bytes())
}

/// What the store knows of one id.
enum Known {
    Absent,
    /// Sealed, with the place of its bytes.
    Here(Descriptor, u64),
    Doomed(u64),
}

struct Store {
    shared: SharedIndex,
    index: OwnedFd,
    data: (Mapping, OwnedFd),
    report: (Report, Segment),
    known: Vec<Known>,
    free_places: Vec<u64>,
    stamps: u64,
    recycled: u64,
    readers: Vec<Child>,
    random: Random,
    _alive: StoreAlive,
}

impl Store {
    fn new() -> Self {
        let (index, index_fd) = OneWriter::create("index", geometry().bytes()).unwrap().write_here().unwrap();
        let index = Arc::new(index);
        let words = Words::of_mapping(&index, 0, geometry().words()).unwrap();
        let report = Segment::create("report", 4096).unwrap();
        let mut store = Self {
            shared: SharedIndex::new(IndexWriter::create(words, geometry(), 1, [17, 19]).unwrap()),
            index: index_fd,
            data: OneWriter::create("data", CAPACITY as u64 * OBJECT).unwrap().write_here().unwrap(),
            report: (Report::new(report.as_fd()), report),
            known: (0..IDS).map(|_| Known::Absent).collect(),
            free_places: (0..CAPACITY as u64).collect(),
            stamps: 0,
            recycled: 0,
            readers: Vec::new(),
            random: Random(4),
            _alive: StoreAlive::hold(&index, ALIVE_OFFSET).unwrap(),
        };
        (0..PERMANENT).for_each(|n| store.enter(n));
        (0..READERS).for_each(|number| {
            let reader = store.start_reader(number);
            store.readers.push(reader);
        });
        store
    }

    fn start_reader(&mut self, number: usize) -> Child {
        let pins = OneWriter::create("pins", 4 * CAPACITY as u64).unwrap();
        for at in [ATTACHED, GO] {
            self.report.0.of(number, at).store(0, Ordering::Relaxed);
        }
        let descriptors = [self.index.as_fd(), self.data.1.as_fd(), pins.as_fd(), self.report.1.as_fd()];
        let child = spawn("readers_see_whole_objects_and_nothing_is_lost", &number.to_string(), &descriptors);
        eventually(|| self.report.0.of(number, ATTACHED).load(Ordering::Acquire) == 1);
        let seen = Mapping::read_only(pins.written_by_peer().unwrap(), 4 * CAPACITY as u64).unwrap();
        let words = Words::of_mapping(&Arc::new(seen), 0, CAPACITY).unwrap();
        self.shared.add_peer(number as u64, &words).unwrap();
        self.report.0.of(number, GO).store(1, Ordering::Release);
        child
    }

    /// Ends a reader wherever it is, and starts another.
    fn kill_reader(&mut self, number: usize) {
        self.readers[number].kill().unwrap();
        self.readers[number].wait().unwrap();
        self.shared.remove_peer(number as u64);
        self.readers[number] = self.start_reader(number);
    }

    fn enter(&mut self, n: u64) {
        let Some(place) = self.free_places.pop() else { return };
        self.stamps += 1;
        let stamp = self.stamps * IDS + n;
        let bytes: Vec<u8> = stamp.to_le_bytes().into_iter().cycle().take(OBJECT as usize).collect();
        self.data.0.write(place * OBJECT, &bytes).unwrap();
        let location = Location { segment: 1, offset: place * OBJECT, data_size: OBJECT, metadata_size: stamp };
        self.known[n as usize] = Known::Here(self.shared.index().insert(&id(n), location).unwrap(), place);
    }

    /// Changes something about one id.
    fn play(&mut self) {
        let n = PERMANENT + self.random.below(IDS - PERMANENT);
        match std::mem::replace(&mut self.known[n as usize], Known::Absent) {
            Known::Absent => self.enter(n),
            Known::Here(descriptor, place) if self.random.below(4) == 0 => {
                if self.shared.delete(descriptor) {
                    self.recycle(place);
                } else {
                    self.known[n as usize] = Known::Doomed(place);
                }
            }
            Known::Here(descriptor, place) => match self.shared.evict(descriptor) {
                Ok(()) => self.recycle(place),
                Err(held) => self.known[n as usize] = Known::Here(held, place),
            },
            doomed @ Known::Doomed(_) => self.known[n as usize] = doomed,
        }
        match self.random.below(1000) {
            0 => self.shared.index().rebuild(),
            1..10 => self.reclaim_doomed(),
            // It only pretends to sleep, so that readers kick.
            10..20 => _ = self.shared.may_sleep(false),
            20..30 => self.shared.woke(),
            _ => {}
        }
    }

    fn reclaim_doomed(&mut self) {
        for gone in self.shared.reclaim_doomed() {
            let n = u64::from_le_bytes(gone.as_bytes()[..8].try_into().unwrap());
            let known = std::mem::replace(&mut self.known[n as usize], Known::Absent);
            let Known::Doomed(place) = known else { panic!("{gone} was not doomed") };
            self.recycle(place);
        }
    }

    fn recycle(&mut self, place: u64) {
        self.recycled += 1;
        self.free_places.push(place);
    }

    /// Ends the readers, who give back what they hold, and then takes everything out of the index.
    fn end(&mut self) {
        self.report.0.stop().store(1, Ordering::Relaxed);
        for reader in &mut self.readers {
            assert!(reader.wait().unwrap().success());
        }
        self.reclaim_doomed();
        for known in std::mem::take(&mut self.known) {
            match known {
                Known::Here(descriptor, _) => self.shared.evict(descriptor).expect("nobody holds it any more"),
                Known::Doomed(_) => panic!("a deleted object stayed"),
                Known::Absent => {}
            }
        }
        assert!(self.shared.index().is_empty());
    }
}

#[test]
fn readers_see_whole_objects_and_nothing_is_lost() {
    if let Some((number, descriptors)) = role() {
        return read(number.parse().unwrap(), &descriptors);
    }
    let _watchdog = Watchdog::lasting("stress", Duration::from_secs(if is_whole() { 3 * 3600 } else { 300 }));
    let (goals, mut store, mut kills) = (goals(), Store::new(), 0);
    loop {
        (0..1000).for_each(|_| store.play());
        let gets = store.report.0.sum(GETS);
        // A game's kills are spread over its gets, so that they meet readers at work.
        if kills < goals.kills && gets / (goals.gets / goals.kills) > kills {
            let number = store.random.below(READERS as u64) as usize;
            store.kill_reader(number);
            kills += 1;
        }
        let is_over = gets >= goals.gets && store.recycled >= goals.recycled && kills >= goals.kills;
        // With the barrier left out a whole game lasts until that is noticed.
        let is_noticed = cfg!(plasma_mutant) && store.report.0.sum(VIOLATIONS) > 0;
        if is_noticed || (is_over && !(cfg!(plasma_mutant) && is_whole())) {
            break;
        }
    }
    store.end();
    let sum = |at| store.report.0.sum(at);
    println!(
        "{} gets, {} found, {} asked, {} recycled, {kills} killed, {} kicks, {} violations",
        sum(GETS),
        sum(FOUND),
        sum(ASKED),
        store.recycled,
        sum(KICKS),
        sum(VIOLATIONS)
    );
    assert!(sum(FOUND) > 0);
    if !cfg!(plasma_mutant) {
        assert_eq!(sum(VIOLATIONS), 0);
    }
}

#[test]
fn the_death_of_a_store_is_seen_by_a_load() {
    if let Some((_, descriptors)) = role() {
        return be_a_store(&descriptors[0]);
    }
    let _watchdog = Watchdog::new("death");
    let file = OneWriter::create("index", geometry().bytes()).unwrap();
    let mut child = spawn("the_death_of_a_store_is_seen_by_a_load", "store", &[file.as_fd()]);
    let mapping = Arc::new(Mapping::read_only(file.as_fd(), geometry().bytes()).unwrap());
    let words = Words::of_mapping(&mapping, 0, geometry().words()).unwrap();
    eventually(|| IndexReader::attach(&words).is_ok_and(|reader| reader.store_is_alive()));
    let reader = IndexReader::attach(&words).unwrap();
    let pins = OneWriter::create("pins", 4 * CAPACITY as u64).unwrap().write_here().unwrap().0;
    let peer = Peer::new(reader, Words::of_mapping(&Arc::new(pins), 0, CAPACITY).unwrap(), || {}).unwrap();
    let Lookup::Found(pin) = peer.hold(&id(1)) else { panic!("it was entered before the store said that it lives") };
    child.kill().unwrap();
    eventually(|| matches!(peer.hold(&id(1)), Lookup::AskStore));
    assert!(!peer.index().store_is_alive());
    assert_eq!(peer.location(&pin).data_size, 5);
    peer.release(pin);
    child.wait().unwrap();
}

/// Enters one object, says that it lives, and waits to be killed.
fn be_a_store(index: &OwnedFd) {
    let mapping = Arc::new(Mapping::read_write(index, geometry().bytes()).unwrap());
    let words = Words::of_mapping(&mapping, 0, geometry().words()).unwrap();
    let mut writer = IndexWriter::create(words, geometry(), 1, [1, 2]).unwrap();
    let location = Location { segment: 1, offset: 0, data_size: 5, metadata_size: 0 };
    let _entered = writer.insert(&ObjectId::new(*id(1).as_bytes()), location).unwrap();
    let _alive = StoreAlive::hold(&mapping, ALIVE_OFFSET).unwrap();
    // Should nobody kill it, the end of the test program that started it is its end as well.
    let parent = parent_id();
    eventually(|| parent_id() != parent);
}
