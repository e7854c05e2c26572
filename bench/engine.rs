//! What the store's rules cost: requests given to the engine in this process, with real segments and index, and no socket.
//!
//! `cargo run --release --example engine_speed [MIB [INDEXED [READERS]]]`: bytes of the store, places in its index, peers that may
//! read there. Prints nanoseconds for each request of each kind, the median of many rounds.
#![allow(clippy::unwrap_used, reason = "a program that measures ends when something is wrong")]

use std::time::Instant;

use plasma_store::object::ObjectId;
use plasma_store::protocol::native::{ABILITY_INDEX, ABILITY_REQUEST_NUMBERS, ABILITY_SEGMENTS};
use plasma_store::protocol::{InlineObject, Request};
use plasma_store::shm::pins::files::IndexFile;
use plasma_store::store::StoreOptions;
use plasma_store::store::engine::{Asker, Effect, Engine, Now};
use plasma_store::store::segments::Segments;

/// Requests whose time is taken together.
const ROUND: u64 = 1024;
/// Bytes of each object.
const SIZE: usize = 64;
/// Requests whose effects are taken together, as a turn of the store's loop does.
const TURN: usize = 32;

/// A kind of request and what makes the one for an object.
type Step = (&'static str, fn(u64) -> Request);

/// An engine with one native client.
struct Lab {
    engine: Engine<Segments>,
    asker: Asker,
    now: Now,
}

impl Lab {
    fn new(mib: u64, indexed: u32, readers: u64) -> Self {
        let options = StoreOptions { capacity: mib << 20, ..StoreOptions::default() };
        let (file, index, _descriptor) = IndexFile::create(indexed).unwrap();
        let segments = Segments::new(&options).unwrap();
        let mut engine = Engine::new(options.capacity, segments).unwrap().with_index(index);
        for _ in 0..readers {
            let reader = engine.connect();
            let pins = file.pins_of_peer(&file.new_pins().unwrap().written_by_peer().unwrap()).unwrap();
            engine.add_reader(reader, &pins).unwrap();
        }
        let asker = Asker { peer: engine.connect(), number: 0 };
        let mut lab = Self { engine, asker, now: Now { instant: Instant::now(), unix_seconds: 1 } };
        let abilities = ABILITY_REQUEST_NUMBERS | ABILITY_INDEX | ABILITY_SEGMENTS;
        lab.serve(vec![Request::Connect { abilities }]);
        lab
    }

    /// Serves requests that were made before. Returns the nanoseconds that it took.
    fn serve(&mut self, requests: Vec<Request>) -> u64 {
        let count = requests.len();
        let begin = Instant::now();
        requests.into_iter().for_each(|request| self.engine.handle(self.asker, request, self.now));
        let effects = self.engine.take_effects();
        let time = begin.elapsed().as_nanos() as u64;
        let is_answer = |effect: &Effect| matches!(effect, Effect::Reply { .. });
        assert!(effects.iter().all(is_answer) && effects.len() <= count);
        time
    }

    /// Serves a round of requests from object `first` on, some at a time. Returns the nanoseconds of each.
    fn round(&mut self, first: u64, request: impl Fn(u64) -> Request) -> u64 {
        let turns = (first..first + ROUND).step_by(TURN);
        turns.map(|start| self.serve((start..start + TURN as u64).map(&request).collect())).sum::<u64>() / ROUND
    }

    /// Serves rounds of requests for the objects from the `first` on. Prints the median.
    fn rounds(&mut self, what: &str, count: u64, first: u64, request: impl Fn(u64) -> Request) {
        let starts = (first..first + count * ROUND).step_by(ROUND as usize);
        let times = starts.map(|start| self.round(start, &request)).collect();
        report(what, times);
    }

    /// Serves each kind of request for a thousand objects before the next one.
    fn lives(&mut self, count: u64, steps: &[Step]) {
        let mut times = vec![Vec::new(); steps.len()];
        for round in 0..count {
            for (times, (_, request)) in times.iter_mut().zip(steps) {
                times.push(self.round(u64::MAX / 2 + round * ROUND, request));
            }
        }
        steps.iter().zip(times).for_each(|((what, _), times)| report(what, times));
    }
}

fn report(what: &str, mut times: Vec<u64>) {
    let mean = times.iter().sum::<u64>() / times.len() as u64;
    times.sort_unstable();
    println!("{what:34} {:6} ns, mean {mean}", times[times.len() / 2]);
}

/// The `n`-th object's name, as random as those that programs make.
fn id(n: u64) -> ObjectId {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&(mixed ^ mixed >> 29).to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    ObjectId::new(bytes)
}

fn put(n: u64) -> Request {
    let object = InlineObject { id: id(n), data: vec![n as u8; SIZE], metadata: Vec::new(), digest: [0; 8] };
    Request::CreateAndSealBatch { objects: vec![object], evict_if_full: true }
}

fn create(n: u64) -> Request {
    Request::Create {
        id: id(n),
        data_size: SIZE as i64,
        metadata_size: 0,
        evict_if_full: true,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    }
}

fn seal(n: u64) -> Request {
    Request::Seal { id: id(n), digest: [0; 8] }
}

fn release(n: u64) -> Request {
    Request::Release { id: id(n) }
}

fn delete(n: u64) -> Request {
    Request::Delete { ids: vec![id(n)] }
}

fn get(n: u64) -> Request {
    Request::Get { ids: vec![id(n)], timeout_ms: 0 }
}

fn main() {
    let given: Vec<u64> = std::env::args().skip(1).map(|number| number.parse().unwrap()).collect();
    let [mib, indexed, readers] =
        [(0, 64), (1, 65536), (2, 1)].map(|(at, usual)| given.get(at).copied().unwrap_or(usual));
    println!("a store of {mib} MiB, an index of {indexed}, {readers} readers");
    let mut lab = Lab::new(mib, indexed as u32, readers);
    let rounds = (mib << 20) / SIZE as u64 / ROUND;
    lab.lives(100, &[("empty store: put", put), ("get", get), ("release", release), ("delete", delete)]);
    let steps: [Step; 4] = [("create", create), ("seal", seal), ("release", release), ("delete", delete)];
    lab.lives(100, &steps);
    lab.lives(100, &[("create", create), ("abort", |n| Request::Abort { id: id(n) })]);
    lab.rounds("put until full", rounds, 0, put);
    lab.lives(100, &[("full store: put", put), ("delete", delete)]);
    lab.lives(100, &steps);
    lab.rounds("put, evicting", rounds, rounds * ROUND, put);
}
