//! A store that is four fifths full for a long time: objects of all sizes come and go, by old and native clients and as streams, and
//! somebody is killed all the time. Memory and speed must stay as they are.
//!
//! `make test` plays until some were killed. `make soak` plays for `PLASMA_SOAK_MINUTES` (10), kills one a second, and tells the figures
//! of each minute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use plasma_store::client::{Client, CreateOptions, GetOptions, Stats};
use plasma_store::error::Error;
use plasma_store::object::ObjectId;
use plasma_store::protocol::{Reply, Request};
use support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, is_soaking, process, report};

const MEBIBYTE: u64 = 1 << 20;
const LEAST: u64 = 64;
/// What a slot's process is.
const KINDS: [Kind; 6] = [Kind::Puts, Kind::Fills, Kind::Streams, Kind::Old, Kind::Puts, Kind::Old];
const PUT: CreateOptions = CreateOptions { no_evict: false, ttl_ms: 0, wait_ms: 0, immutable: false, name: None };
const GET: GetOptions = GetOptions { private: false, no_ask: false };
/// Of the lists of all objects that somebody looks at, each is good for so many steps.
const STEPS_PER_LIST: u64 = 50;
/// Objects of a stream that are under way.
const FLUSHED_AT_ONCE: u64 = 32;
/// An old client reads what others have to copy for it, so it reads no more than this.
const MOST_FOR_OLD: u64 = MEBIBYTE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Puts whole objects.
    Puts,
    /// Creates, fills, seals or aborts.
    Fills,
    /// Puts without waiting.
    Streams,
    /// A client of Plasma 11.
    Old,
}

/// How a process that plays is connected.
enum Link {
    Native(Client),
    Old(Box<RawPeer>, Option<OwnedFd>),
}

/// The name of an object, whose bytes follow from it: who made it, and a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    slot: u8,
    process: u32,
    number: u32,
    size: u64,
}

impl Name {
    fn id(self) -> ObjectId {
        let mut bytes = [0; 20];
        bytes[0] = self.slot;
        bytes[1..5].copy_from_slice(&self.process.to_le_bytes());
        bytes[5..9].copy_from_slice(&self.number.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.size.to_le_bytes());
        ObjectId::new(bytes)
    }

    fn of(id: &ObjectId) -> Self {
        let bytes = id.as_bytes();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let size = u64::from_le_bytes(bytes[9..17].try_into().unwrap());
        Self { slot: bytes[0], process: word(1), number: word(5), size }
    }

    /// Begins with the name, and is one byte from there on.
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![self.filling(); self.size as usize];
        bytes[..20].copy_from_slice(self.id().as_bytes());
        bytes
    }

    fn filling(self) -> u8 {
        (self.number.wrapping_mul(31) ^ self.process ^ u32::from(self.slot) << 3) as u8
    }

    /// Looks at the name, the last byte, and some in between.
    fn check(self, size: u64, read: impl Fn(u64, &mut [u8])) {
        assert_eq!(size, self.size);
        let mut name = [0; 20];
        read(0, &mut name);
        assert_eq!(&name, self.id().as_bytes(), "{self:?} begins with other bytes");
        let places = (0..16).map(|n| 20 + (size - 21) * n / 16).chain([size - 1]);
        for place in places {
            let mut byte = [0];
            read(place, &mut byte);
            assert_eq!(byte[0], self.filling(), "{self:?} has another byte at {place}");
        }
    }
}

/// Who plays in one slot.
struct Player {
    slot: u8,
    kind: Kind,
    link: Link,
    random: Random,
    counters: File,
    counted: [u64; 2],
    number: u32,
    /// What lies in the store by this slot, also from those who were killed here.
    own: Vec<Name>,
    /// Objects of anybody's, some of which have gone since.
    seen: VecDeque<Name>,
    most: u64,
    /// A slot has this much at most: all together then have some four fifths of the store, as room is made before it is needed.
    budget: u64,
}

impl Player {
    fn new(socket: &Path, slot: u8, counters: &Path, capacity: u64) -> Self {
        let kind = KINDS[usize::from(slot)];
        let link = match kind {
            Kind::Old => Link::Old(Box::new(RawPeer::old(socket)), None),
            _ => Link::Native(connect(socket)),
        };
        let counters = File::options().read(true).write(true).open(counters).unwrap();
        let counted = [counter(&counters, slot, 0), counter(&counters, slot, 1)];
        let random = Random(u64::from(std::process::id()) << 8 | u64::from(slot));
        let (most, budget) = (capacity / 16, capacity / 50 * 49 / KINDS.len() as u64);
        let mut player = Self {
            slot,
            kind,
            link,
            random,
            counters,
            counted,
            number: 0,
            own: Vec::new(),
            seen: VecDeque::new(),
            most,
            budget,
        };
        player.own = player.list().into_iter().filter(|name| name.slot == slot).collect();
        player
    }

    fn list(&mut self) -> Vec<Name> {
        let objects = match &mut self.link {
            Link::Native(client) => client.list().unwrap(),
            Link::Old(peer, _) => match peer.ask(&Request::List) {
                Reply::List { objects } => objects,
                other => panic!("{other:?}"),
            },
        };
        objects.iter().map(|info| Name::of(&info.id)).collect()
    }

    /// For ever.
    fn play(&mut self) -> ! {
        for step in 0.. {
            if step % STEPS_PER_LIST == 0 {
                self.seen = self.list().into();
            }
            let size = self.random.size(LEAST, self.most);
            self.make_room(size);
            self.number += 1;
            let name = Name { slot: self.slot, process: std::process::id(), number: self.number, size };
            if self.make(name) {
                self.own.push(name);
                self.count(size);
            }
            self.read();
        }
        unreachable!("a number has an end")
    }

    /// Deletes objects of this slot, any of them, until its share is not exceeded.
    fn make_room(&mut self, size: u64) {
        let mut used: u64 = self.own.iter().map(|name| name.size).sum();
        while used + size > self.budget && !self.own.is_empty() {
            let name = self.own.swap_remove(self.random.below(self.own.len() as u64) as usize);
            used -= name.size;
            match &mut self.link {
                // Who reads it, or was faster, changes nothing for us.
                Link::Native(client) => drop(client.delete(&[name.id()]).unwrap()),
                Link::Old(peer, _) => drop(peer.ask(&Request::Delete { ids: vec![name.id()] })),
            }
        }
    }

    /// Whether there was room for it.
    fn make(&mut self, name: Name) -> bool {
        let outcome = match (&mut self.link, self.kind) {
            (Link::Old(peer, segment), _) => return make_as_old(peer, segment, name),
            (Link::Native(client), Kind::Fills) => fill(client, name, self.random.below(8) == 0),
            (Link::Native(client), Kind::Streams) => stream(client, name, self.number),
            (Link::Native(client), _) => client.put(name.id(), &name.bytes(), b"", PUT).map(|()| true),
        };
        match outcome {
            Ok(is_there) => is_there,
            Err(Error::StoreFull(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&mut self) {
        let Some(name) = self.seen.pop_front() else { return };
        match &mut self.link {
            Link::Native(client) => {
                let Some(got) = client.get_one(name.id(), 0, GET).unwrap() else { return };
                name.check(got.size(), |place, bytes| got.read(place, bytes).unwrap());
            }
            Link::Old(peer, segment) if name.size <= MOST_FOR_OLD => read_as_old(peer, segment, name),
            Link::Old(..) => {}
        }
    }

    fn count(&mut self, size: u64) {
        self.counted[0] += 1;
        self.counted[1] += size;
        for (which, value) in self.counted.into_iter().enumerate() {
            self.counters.write_all_at(&value.to_le_bytes(), place_of(self.slot, which as u64)).unwrap();
        }
    }
}

fn place_of(slot: u8, which: u64) -> u64 {
    16 * u64::from(slot) + 8 * which
}

/// Objects (0) or bytes (1) that were made in a slot.
fn counter(counters: &File, slot: u8, which: u64) -> u64 {
    let mut bytes = [0; 8];
    counters.read_exact_at(&mut bytes, place_of(slot, which)).unwrap();
    u64::from_le_bytes(bytes)
}

fn fill(client: &Client, name: Name, gives_up: bool) -> Result<bool, Error> {
    let buffer = client.create(name.id(), name.size, b"", PUT)?;
    buffer.write(0, &name.bytes())?;
    drop(buffer);
    if gives_up {
        return client.abort(name.id()).map(|()| false);
    }
    client.seal(name.id()).map(|()| true)
}

fn stream(client: &Client, name: Name, number: u32) -> Result<bool, Error> {
    client.put_async(name.id(), &name.bytes(), b"", PUT)?;
    if u64::from(number).is_multiple_of(FLUSHED_AT_ONCE) {
        for (_, error) in client.flush()? {
            assert!(matches!(error, Error::StoreFull(_)), "{error}");
        }
    }
    Ok(true)
}

fn make_as_old(peer: &mut RawPeer, segment: &mut Option<OwnedFd>, name: Name) -> bool {
    let Ok(location) = peer.create(name.id(), name.size as i64) else { return false };
    write_at(segment.get_or_insert_with(|| peer.descriptors.pop_front().unwrap()), location.offset, &name.bytes());
    peer.seal(name.id()).unwrap();
    peer.release(name.id());
    true
}

fn write_at(segment: &OwnedFd, offset: u64, bytes: &[u8]) {
    File::from(segment.try_clone().unwrap()).write_all_at(bytes, offset).unwrap();
}

fn read_as_old(peer: &mut RawPeer, segment: &mut Option<OwnedFd>, name: Name) {
    let Reply::Get { locations, .. } = peer.ask(&Request::Get { ids: vec![name.id()], timeout_ms: 0 }) else {
        panic!("no answer to a get")
    };
    let Some(location) = locations[0] else { return };
    let segment = segment.get_or_insert_with(|| peer.descriptors.pop_front().unwrap());
    let file = File::from(segment.try_clone().unwrap());
    name.check(location.data_size, |place, bytes| file.read_exact_at(bytes, location.offset + place).unwrap());
    peer.release(name.id());
}

/// No test, but what the test below starts: who plays in a slot until it is killed.
#[test]
fn part() {
    let Some(socket) = std::env::var_os("PLASMA_TEST_SOCKET").map(PathBuf::from) else { return };
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let said = |name: &str| std::env::var(name).unwrap();
    let (slot, capacity) = (said("PLASMA_TEST_SLOT").parse().unwrap(), said("PLASMA_TEST_CAPACITY").parse().unwrap());
    Player::new(&socket, slot, Path::new(&said("PLASMA_TEST_COUNTERS")), capacity).play()
}

/// Everybody who plays, and the store.
struct Game {
    daemon: Daemon,
    capacity: u64,
    players: Vec<Child>,
    directory: tempfile::TempDir,
    counters: File,
    kills: u64,
    /// The longest that a question for the figures took.
    slowest: Cell<Duration>,
    /// One of ours who only looks at the figures.
    watcher: Client,
}

impl Game {
    fn new(capacity: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let counters = File::options().create_new(true).read(true).write(true).open(directory.path().join("counters"));
        let counters = counters.unwrap();
        counters.set_len(place_of(KINDS.len() as u8, 0)).unwrap();
        let daemon = Daemon::start(capacity);
        let watcher = connect(&daemon.socket());
        let mut game = Self {
            daemon,
            capacity,
            players: Vec::new(),
            directory,
            counters,
            kills: 0,
            slowest: Cell::default(),
            watcher,
        };
        game.players = (0..KINDS.len() as u8).map(|slot| game.start(slot)).collect();
        game
    }

    fn start(&self, slot: u8) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "part", "--nocapture", "--test-threads=1"]);
        command.env("PLASMA_TEST_SOCKET", self.daemon.socket()).env("PLASMA_TEST_SLOT", slot.to_string());
        command.env("PLASMA_TEST_COUNTERS", self.directory.path().join("counters"));
        command.env("PLASMA_TEST_CAPACITY", self.capacity.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Kills who plays in a slot, and has the next one play there.
    fn kill(&mut self, slot: usize) {
        self.check_alive();
        let player = &mut self.players[slot];
        player.kill().unwrap();
        player.wait().unwrap();
        self.players[slot] = self.start(slot as u8);
        self.kills += 1;
    }

    /// Nobody ended but those who were killed.
    fn check_alive(&mut self) {
        for (slot, player) in self.players.iter_mut().enumerate() {
            assert_eq!(player.try_wait().unwrap(), None, "{:?} in slot {slot} ended", KINDS[slot]);
        }
    }

    /// Objects (0) or bytes (1) that were made so far.
    fn made(&self, which: u64) -> u64 {
        (0..KINDS.len() as u8).map(|slot| counter(&self.counters, slot, which)).sum()
    }

    fn stats(&self) -> Stats {
        let begin = Instant::now();
        let stats = self.watcher.stats().unwrap();
        self.slowest.set(self.slowest.get().max(begin.elapsed()));
        // Two segments of the longest kind: what moves is there twice.
        let most = self.capacity + self.capacity / 8 + MEBIBYTE + 2 * (self.capacity / 16 + 2 * MEBIBYTE);
        assert!(stats.allocated_bytes <= most, "{stats:?}");
        assert!(stats.used_bytes <= self.capacity, "{stats:?}");
        stats
    }

    /// Ends all, after which there must be nothing but what they sealed.
    fn end(mut self) {
        self.check_alive();
        for player in &mut self.players {
            player.kill().unwrap();
            player.wait().unwrap();
        }
        eventually(|| self.stats().clients == 1 && self.stats().retired_bytes == 0);
        let pid = self.daemon.pid();
        let mut peer = RawPeer::old(&self.daemon.socket());
        assert!(peer.check_nothing_is_held() > 0);
        peer.ask(&Request::Evict { bytes: u64::MAX });
        peer.put(ObjectId::new([9; 20]), self.capacity as i64);
        eventually(|| {
            // The pool may be at work.
            let stats = self.watcher.stats().unwrap();
            stats.retired_bytes == 0 && process::segment_bytes(pid).is_none_or(|bytes| bytes == stats.allocated_bytes)
        });
        peer.ask(&Request::Delete { ids: vec![ObjectId::new([9; 20])] });
        assert_eq!(peer.check_rest(), 0);
        drop(peer);
        self.daemon.check_healthy();
    }
}

/// The figures of a minute.
struct Minute {
    objects: u64,
    bytes: u64,
    used: f64,
    memory: u64,
    /// Processor time that the daemon took, in hundredths of a second.
    time: u64,
}

/// Plays for a minute with a kill each second. Says what it was like.
fn minute(game: &mut Game, random: &mut Random, number: u64) -> Minute {
    let (objects, bytes, time) = (game.made(0), game.made(1), process::time(game.daemon.pid()));
    let (mut used, mut most_retired, mut most_allocated) = (Vec::new(), 0, 0);
    let begin = Instant::now();
    for second in 1..=60 {
        std::thread::sleep((begin + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
        game.kill(random.below(KINDS.len() as u64) as usize);
        let stats = game.stats();
        used.push(stats.used_bytes as f64 / game.capacity as f64);
        most_retired = most_retired.max(stats.retired_bytes);
        most_allocated = most_allocated.max(stats.allocated_bytes);
    }
    let memory = process::memory(game.daemon.pid());
    let minute = Minute {
        objects: game.made(0) - objects,
        bytes: game.made(1) - bytes,
        used: used.iter().sum::<f64>() / used.len() as f64,
        memory,
        time: process::time(game.daemon.pid()) - time,
    };
    let descriptors = process::descriptors(game.daemon.pid());
    report(&format!(
        "minute {number}: {} objects, {} MiB made, {:.0}% used, at most {} MiB allocated and {} MiB retired, the daemon's own \
         memory {} KiB, {descriptors} descriptors, its processor time {} ms, the slowest answer after {} ms",
        minute.objects,
        minute.bytes >> 20,
        100.0 * minute.used,
        most_allocated >> 20,
        most_retired >> 20,
        memory >> 10,
        10 * minute.time,
        game.slowest.take().as_millis(),
    ));
    minute
}

fn mean(minutes: &[Minute], figure: impl Fn(&Minute) -> f64) -> f64 {
    minutes.iter().map(figure).sum::<f64>() / minutes.len() as f64
}

/// The last third is as the first was, without its first minute.
fn check_flat(minutes: &[Minute]) {
    let Some((_, settled)) = minutes.split_first().filter(|(_, settled)| settled.len() >= 3) else { return };
    let third = settled.len() / 3;
    let (first, last) = (&settled[..third], &settled[settled.len() - third..]);
    // Bytes a minute would tell how busy the machine is with other things.
    let cost = |minute: &Minute| minute.time as f64 / minute.bytes as f64;
    let [before, after] = [first, last].map(|minutes| mean(minutes, cost));
    assert!(after < 2.0 * before, "{after} hundredths of a second for a byte, and {before} at first");
    let [before, after] = [first, last].map(|minutes| mean(minutes, |minute| minute.memory as f64));
    assert!(after < before + 16.0 * MEBIBYTE as f64, "{after} bytes of the daemon's own memory, and {before} at first");
    let used = mean(settled, |minute| minute.used);
    assert!((0.6..=0.95).contains(&used), "{used} of the store was used");
}

#[test]
fn a_store_stays_as_it_is_for_a_long_time_although_clients_are_killed() {
    let minutes = std::env::var("PLASMA_SOAK_MINUTES").map_or(10, |minutes| minutes.parse().unwrap());
    let limit = Duration::from_secs(600 + 90 * minutes);
    let _watchdog = Watchdog::lasting("a_store_stays_as_it_is_for_a_long_time_although_clients_are_killed", limit);
    let mut random = Random(11);
    if is_soaking() {
        let mut game = Game::new(1024 * MEBIBYTE);
        let played: Vec<_> = (1..=minutes).map(|number| minute(&mut game, &mut random, number)).collect();
        check_flat(&played);
        report(&format!("{minutes} minutes, {} clients killed", game.kills));
        return game.end();
    }
    let mut game = Game::new(64 * MEBIBYTE);
    for _ in 0..40 {
        let slot = random.below(KINDS.len() as u64) as usize;
        let made = counter(&game.counters, slot as u8, 0);
        eventually(|| {
            game.check_alive();
            game.stats();
            counter(&game.counters, slot as u8, 0) > made + 30
        });
        game.kill(slot);
    }
    game.end();
}
