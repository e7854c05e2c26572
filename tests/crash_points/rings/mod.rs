//! A participant of a ring dies at each step, beside others who go on: of their messages none is lost or doubled, in the end all slots
//! are free, and the ring ends.
//!
//! - `scenes`: for each point who comes by and what was before; `part`: what the one does who dies;
//! - `message`: what goes round; `ledger`: whether it comes out even.

mod ledger;
pub mod message;
mod part;
mod scenes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};

use plasma_store::client::ring::{Delivery, RingOptions, TensorRing};
use plasma_store::client::{Client, CreateOptions};
use plasma_store::crash::{Point, Side};
use plasma_store::error::Error;
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;

use crate::support::{Daemon, Random, Watchdog, connect, eventually, progress, report, times};
use crate::{CAPACITY, Death, KILL, id, is_chosen};
use ledger::{Dead, Ledger};
use message::{BEHIND_PRODUCER, WORDS};
use part::{Journal, Order, PAUSE, Part};
pub use scenes::PLAIN;
use scenes::{Beside, Mode, Scene, scenes};

/// Who lives on: so many on each side. Their numbers as producers begin at 1; 0 is the one who made the ring.
const SIDES: usize = 2;
/// Numbers of those who die, as producers.
const FIRST_DEAD: u64 = 100;
/// How many messages each producer sends behind a death.
const MORE: u64 = 12;
const SLOTS: u64 = 4;

/// A ring of so many slots for whole messages.
pub fn options(mode: Mode, slots: u64) -> RingOptions<'static> {
    let Mode { delivery, drops_oldest } = mode;
    let layout = Layout::row_major(DType::from_dlpack(1, 64, 1).unwrap(), vec![WORDS as i64]).unwrap();
    let (layout, create) = (Some(layout), CreateOptions::default());
    RingOptions {
        slots,
        slot_bytes: 0,
        layout,
        delivery,
        drops_oldest,
        is_guarded: false,
        keep: false,
        acquire_ms: -1,
        create,
    }
}

/// A store, and those who live.
struct Stage {
    daemon: Daemon,
    owner: Client,
    sides: [[Client; SIDES]; 2],
}

/// One ring, its survivors, and what they are told.
struct Play<'a> {
    scene: &'a Scene,
    /// Those have died who were to.
    is_over: AtomicBool,
    /// Somebody who lives has found something wrong.
    has_failed: AtomicBool,
}

/// Whether that ends a ring for everybody.
fn is_the_end(error: &Error) -> bool {
    matches!(error, Error::Closed(_) | Error::Aborted(_))
}

impl Play<'_> {
    /// Does something at once, or when the others have died.
    fn await_turn(&self, is_beside: bool) {
        eventually(|| is_beside || self.is_over.load(SeqCst));
    }

    fn pause(&self) {
        if self.scene.are_slow && !self.is_over.load(SeqCst) {
            thread::sleep(PAUSE);
        }
    }

    /// Publishes until the others have died, and some more. Returns how many.
    fn produce(&self, ring: &TensorRing, producer: u64) -> u64 {
        let _alarmed = Alarmed(self, ring);
        self.await_turn(matches!(self.scene.beside, Beside::Both | Beside::Producers));
        let (mut sent, mut more) = (0, MORE);
        while more > 0 {
            match message::put(ring, producer << BEHIND_PRODUCER | sent, -1) {
                Ok(()) => sent += 1,
                Err(error) if is_the_end(&error) => return sent,
                Err(error) => panic!("{:?}: {error}", self.scene),
            }
            more -= u64::from(self.is_over.load(SeqCst));
            self.pause();
        }
        sent
    }

    /// Takes until the end. Returns what it got.
    fn consume(&self, ring: &TensorRing) -> Vec<u64> {
        let _alarmed = Alarmed(self, ring);
        self.await_turn(matches!(self.scene.beside, Beside::Both | Beside::Consumers));
        let mut got = Vec::new();
        loop {
            let slot = match ring.take(-1) {
                Ok(slot) => slot,
                Err(error) if is_the_end(&error) => return got,
                Err(error) => panic!("{:?}: {error}", self.scene),
            };
            got.push(message::read(slot.data));
            self.pause();
            ring.release(slot.token).unwrap();
        }
    }

    /// All slots come back, and whoever wants them all has them. Then the ring ends.
    fn settle(&self, ring: &TensorRing, slots: u64) {
        let ends = [Some(self.scene.part), self.scene.before.map(|(_, part, _)| part)];
        if ends.contains(&Some(Part::Abort)) {
            return;
        }
        eventually(|| ring.counts().unwrap() == (slots, 0) || self.has_failed.load(SeqCst));
        if !ends.contains(&Some(Part::Close)) {
            let all: Vec<_> = (0..slots).map(|_| ring.acquire(0).unwrap()).collect();
            assert!(matches!(ring.acquire(0), Err(Error::Timeout(0))), "there is one slot more");
            all.iter().for_each(|slot| ring.abandon(slot.token).unwrap());
        }
        ring.close().unwrap();
    }
}

/// Ends the ring for all when one fails, so that none waits for that one.
struct Alarmed<'a>(&'a Play<'a>, &'a TensorRing);

impl Drop for Alarmed<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.has_failed.store(true, SeqCst);
            self.0.is_over.store(true, SeqCst);
            let _ = self.1.abort();
        }
    }
}

fn joined<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

impl Stage {
    fn new() -> Self {
        let daemon = Daemon::start(CAPACITY);
        let client = || connect(&daemon.socket());
        let (owner, sides) = (client(), [[client(), client()], [client(), client()]]);
        Self { daemon, owner, sides }
    }

    /// Handles of all who live. Where all read, those who are to read do from now on.
    fn open(&self, name: u64, mode: Mode) -> [[TensorRing; SIDES]; 2] {
        let rings =
            self.sides.each_ref().map(|side| side.each_ref().map(|client| client.ring_open(id(name), 0).unwrap()));
        if mode.delivery == Delivery::Broadcast {
            rings[1].iter().for_each(|ring| assert!(matches!(ring.take(0), Err(Error::Timeout(0)))));
        }
        rings
    }

    /// Has those die who are to in a scene, one after the other.
    fn die(&self, scene: &Scene, name: u64, random: &mut Random) -> Vec<Dead> {
        let (socket, journals) = (self.daemon.socket(), tempfile::tempdir().unwrap());
        let last = (scene.point, scene.part, scene.hits);
        let numbers = FIRST_DEAD + random.below(1000)..;
        let all = scene.before.into_iter().map(|before| (before, false)).chain([(last, scene.is_slow)]);
        let die = |(((point, part, hits), is_slow), producer): ((_, bool), u64)| {
            let journal = journals.path().join(producer.to_string());
            let (by, signal) = KILL;
            let death = Death { point, hit: 1 + random.below(hits), by, signal };
            Order { socket: &socket, ring: name, part, is_slow, producer, journal: journal.clone() }.carry_out(&death);
            Dead { point, part, producer, said: Journal::read(&journal) }
        };
        all.zip(numbers).map(die).collect()
    }

    /// Plays a scene once, with names from this one on. Returns how many died, and what the ledger told.
    fn play(&self, scene: &Scene, round: u64, name: u64) -> [u64; 4] {
        let mut random = Random(name);
        let mode = scene.modes[round as usize % scene.modes.len()];
        let is_small = scene.beside != Beside::Nobody && scene.part != Part::Close;
        let slots = if is_small { 2 + random.below(3) } else { SLOTS };
        let ring = self.owner.ring_create(id(name), &options(mode, slots)).unwrap();
        let [producers, consumers] = &self.open(name, mode);
        let play = &Play { scene, is_over: AtomicBool::new(false), has_failed: AtomicBool::new(false) };
        (0..scene.filled).for_each(|number| message::put(&ring, number, 0).unwrap());
        let ledger = thread::scope(|scope| {
            let _alarmed = Alarmed(play, &ring);
            let produces = |(ring, number)| scope.spawn(move || (number, play.produce(ring, number)));
            let sending = producers.iter().zip(1..).map(produces).collect();
            let getting = consumers.iter().map(|ring| scope.spawn(|| play.consume(ring))).collect();
            let dead = self.die(scene, name, &mut random);
            play.is_over.store(true, SeqCst);
            let mut sent: BTreeMap<_, _> = joined(sending).into_iter().collect();
            sent.insert(0, scene.filled);
            play.settle(&ring, slots);
            Ledger { mode, sent, got: joined(getting), dead }
        });
        let [came, lost, dropped] = if scene.part == Part::Abort { [0; 3] } else { ledger.check() };
        [ledger.dead.len() as u64, came, lost, dropped]
    }

    /// Nobody is left but those who live, and nothing of a ring is when they have gone.
    fn check(&self) {
        let living = 1 + 2 * SIDES as u64;
        eventually(|| self.owner.stats().unwrap().clients == living);
        eventually(|| self.owner.stats().unwrap().objects == 0);
    }
}

#[test]
fn every_step_of_a_ring_has_a_scene() {
    for (point, _) in Point::ALL.iter().filter(|(_, side)| *side == Side::Participant) {
        assert!(scenes().any(|scene| scene.point == *point), "nobody dies at {point:?}");
    }
}

#[cfg_attr(crash_points, test)]
fn a_participant_that_dies_at_any_step_of_a_ring_costs_others_no_message_and_no_slot() {
    let _watchdog = Watchdog::new("a_participant_that_dies_at_any_step_of_a_ring_costs_others_no_message_and_no_slot");
    let mut stage = Stage::new();
    let rounds = times(4, 100);
    let all: Vec<_> = scenes().filter(|scene| is_chosen(&scene.point)).collect();
    let names = (1..).step_by(2);
    let mut sums = [0; 4];
    let plays = all.iter().flat_map(|scene| (0..rounds).map(move |round| (scene, round)));
    for (played, ((scene, round), name)) in plays.zip(names).enumerate() {
        println!("{scene:?}, round {round}, {name}");
        let told = stage.play(scene, round, name);
        stage.check();
        sums.iter_mut().zip(told).for_each(|(sum, told)| *sum += told);
        progress(played as u64 + 1, all.len() as u64 * rounds, "deaths in rings");
    }
    stage.daemon.check_healthy();
    let [dead, came, lost, dropped] = sums;
    report(&format!(
        "{dead} participants of rings were killed, {rounds} times in each of {} scenes: {came} messages came, {lost} went with who had taken \
         them, {dropped} were dropped where that was chosen; no other was lost, none came twice, all slots came back",
        all.len()
    ));
}
