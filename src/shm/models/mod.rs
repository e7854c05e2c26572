//! Model checks: loom runs index, pins and ring, the real code, in the orders in which a few threads can (all those with at
//! most three interruptions, or two where there are three threads), also as only weakly ordered processors would. Every step that orders something is also left
//! out once, which must be noticed.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --profile loom --lib --target-dir target/loom shm::models`

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom::cell::UnsafeCell;
use loom::thread;

use super::index::encoding::IdWords;
use super::index::layout::{Geometry, alive_word};
use super::index::reader::IndexReader;
use super::index::writer::{Descriptor, IndexWriter};
use super::pins::peer::{Held, Lookup, Peer};
use super::pins::store::SharedIndex;
use super::ring::collector::{Collector, Taken};
use super::ring::doze::Doze;
use super::ring::record::{Outcome, Record};
use super::ring::submitter::Submitter;
use super::sync::{AtomicU64, Ordering, Step};
use super::words::Words;
use crate::object::{Location, ObjectId};

pub(super) mod futex;
mod grants;
mod kick;
mod pin;
mod ring;
mod shared;
mod shared_ring;
mod table;

const KEY: [u64; 2] = [3, 5];

thread_local! {
    /// The step that is left out. loom runs all threads of a model in the thread of its test.
    static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
    /// How often somebody was woken in the run of a model that is under way.
    static WAKES: Cell<usize> = const { Cell::new(0) };
}

/// What stands for waking those who sleep until a word changes.
pub(super) fn woken(_: &AtomicU64) {
    WAKES.set(WAKES.get() + 1);
}

/// Whether `step` is taken, in the model that runs.
///
/// loom lets no other thread run between a release and the fence behind it, so that the fence would do the release's
/// work. It is left out together with that.
pub(super) fn taken(step: Step) -> bool {
    let Some(left_out) = LEFT_OUT.get() else { return true };
    let with_it = match left_out {
        Step::ReleaseOrder => Some(Step::KickBarrier),
        Step::SubmitOrder => Some(Step::SubmitBarrier),
        Step::DoneOrder => Some(Step::DoneBarrier),
        Step::UnlockOrder | Step::SlotOrder | Step::CellOrder | Step::ReadersOrder => Some(Step::AlarmBarrier),
        _ => None,
    };
    left_out != step && with_it != Some(step)
}

/// The model holds as the code is, and not without any one of the steps. It has two threads.
fn check(model: fn(), steps: &[Step]) {
    assert!(runs(model, 3, None), "the model does not hold");
    for step in steps {
        assert!(!runs(model, 3, Some(*step)), "nobody noticed that {step:?} was left out");
    }
}

/// The same for a model of three threads, which has many more orders.
fn check_three(model: fn()) {
    assert!(runs(model, 2, None), "the model does not hold");
}

/// Whether the model runs without a panic or a data race, in every order with at most so many interruptions.
fn runs(model: fn(), interruptions: usize, left_out: Option<Step>) -> bool {
    LEFT_OUT.set(left_out);
    let mut loom = loom::model::Builder::new();
    loom.preemption_bound = Some(interruptions);
    loom.max_branches = 10_000;
    let outcome = catch_unwind(AssertUnwindSafe(|| loom.check(model)));
    LEFT_OUT.set(None);
    outcome.is_ok()
}

/// A store's index and its words. Memory is made anew for each run of a model.
struct Store {
    shared: SharedIndex,
    words: Words<AtomicU64>,
}

impl Store {
    fn new(capacity: u32) -> Self {
        let geometry = Geometry::new(capacity).unwrap();
        let words = Words::private(geometry.words());
        alive_word(&words).store(1, Ordering::Relaxed);
        Self { shared: SharedIndex::new(IndexWriter::create(words.clone(), geometry, 7, KEY).unwrap()), words }
    }

    /// A peer, and whether it has kicked.
    fn peer(&mut self) -> (Peer, Arc<AtomicBool>) {
        let index = IndexReader::attach(&self.words).unwrap();
        let pins = Words::private(index.capacity());
        self.shared.add_peer(self.shared.peers() as u64, &pins).unwrap();
        let kicked = Arc::new(AtomicBool::new(false));
        let kick = kicked.clone();
        (Peer::new(index, pins, move || kick.store(true, std::sync::atomic::Ordering::Relaxed)).unwrap(), kicked)
    }

    /// Enters the `n`-th id, whose location says `n` too.
    fn insert(&mut self, n: u64) -> Descriptor {
        let location = Location { segment: 1, offset: n, data_size: n, metadata_size: n };
        self.shared.index().insert(&id(n), location).unwrap()
    }
}

/// The `n`-th of the ids that all begin their search in the same slot of a small table.
fn id(n: u64) -> ObjectId {
    let ids = (0u64..).map(|number| {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        ObjectId::new(bytes)
    });
    ids.filter(|id| IdWords::new(id).hash(KEY) % 8 == 0).nth(n as usize).unwrap()
}

/// The bytes of an object, where loom reports every write that meets a read.
struct Bytes(UnsafeCell<u64>);

// SAFETY: that no two threads use the cell in ways that conflict is what loom checks.
unsafe impl Sync for Bytes {}
// SAFETY: as above.
unsafe impl Send for Bytes {}

impl Bytes {
    fn new(value: u64) -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(value)))
    }

    fn read(&self) -> u64 {
        // SAFETY: loom panics if anybody writes meanwhile.
        self.0.with(|value| unsafe { *value })
    }

    fn write(&self, new: u64) {
        // SAFETY: loom panics if anybody reads or writes meanwhile.
        self.0.with_mut(|value| unsafe { *value = new });
    }
}

#[test]
fn every_step_is_left_out_somewhere() {
    let ring = [ring::RECORD_STEPS, ring::SLEEP_STEPS, ring::DOZE_STEPS].concat();
    let steps = [pin::STEPS, kick::STEPS, table::REBUILD_STEPS, table::REUSE_STEPS, &ring, grants::USE_STEPS].concat();
    let shared = [shared::ALARM_STEPS, shared::LOCK_STEPS, shared::VERSION_STEPS].concat();
    let rings = [shared_ring::LIFE_STEPS, shared_ring::LATE_STEPS, shared_ring::END_STEPS].concat();
    let rings = [&rings[..], shared_ring::DEATH_STEPS, shared_ring::READER_STEPS].concat();
    let steps = [steps, shared, rings].concat();
    // Fifty-one: the last of them is the highest number.
    assert_eq!((0..=Step::LeaveBarrier as usize).filter(|n| steps.iter().any(|s| *s as usize == *n)).count(), 51);
}
