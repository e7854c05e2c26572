//! A peer's side of the pins: get and release without a system call.

use std::fmt;
use std::hint;
use std::num::NonZeroU32;

use super::{COUNT, MOST_HOLDS, ONE_GET};
use crate::crash::{self, Point};
use crate::error::Result;
use crate::object::{Location, ObjectId};
use crate::shm::index::encoding::{Sleep, Stage, State};
use crate::shm::index::reader::{Absent, IndexReader, Wanted};
use crate::shm::sync::{AtomicU32, AtomicU64, Ordering, Step, order_of, taken, total_order};
use crate::shm::words::Words;

/// How often a search begins again because the table was replaced, an object is tried again that the store is about to
/// evict, and its state is looked at meanwhile. Some microseconds in all; then the store is asked.
const PATIENCE: usize = if cfg!(loom) { 2 } else { 16 };

/// Places of an index of 24 MiB.
const LARGE: usize = 1 << 18;

/// How many gets ahead of its own a descriptor is asked for, and twice as many the slot that names it.
const AHEAD: usize = 6;

/// What a get found.
#[derive(Debug)]
pub enum Lookup<Found = Held> {
    /// The object. It stays where it is until the pin goes back.
    Found(Found),
    /// There was a moment during the call when no such object was sealed.
    Missing,
    /// The index cannot tell, so the store must.
    AskStore,
}

/// A hold on one object, to be given to [`Peer::release`] of the peer that made it. One that is lost keeps the object
/// until the peer's connection ends. One word, for those who keep many.
#[derive(Debug)]
#[must_use]
pub struct Held(
    /// The descriptor's number plus one, and [`DOOMED`].
    NonZeroU32,
);

/// Far above the number of any descriptor: there are at most 2^20.
const DOOMED: u32 = 1 << 31;

impl Held {
    #[inline]
    pub(in crate::shm) fn new(index: usize, state: State) -> Self {
        let doomed = if state.stage() == Stage::Doomed { DOOMED } else { 0 };
        Self(NonZeroU32::MIN.saturating_add(index as u32) | doomed)
    }

    #[inline]
    fn index(&self) -> usize {
        ((self.0.get() & !DOOMED) - 1) as usize
    }

    /// Whether it was deleted when it was pinned. The store may not know yet that others have let go of it.
    #[inline]
    pub fn is_doomed(&self) -> bool {
        self.0.get() & DOOMED != 0
    }
}

/// A process that gets objects, with its pins. Its threads may share one.
///
/// A forked child must use neither [`hold`](Self::hold) nor [`release`](Self::release): the pins are its parent's. Who
/// owns a peer asks a [`ForkToken`](crate::shm::fork_token::ForkToken) first.
pub struct Peer {
    index: IndexReader,
    pins: Words<AtomicU32>,
    kick: Box<dyn Fn() + Send + Sync>,
    /// In which of its naps the store was last woken from here.
    woken: AtomicU64,
}

/// What became of the attempt to pin a candidate.
enum Attempt {
    Pinned(State),
    /// It is not the object, or not any more.
    Other,
    /// It may be the object, which the store may be about to evict.
    Condemned,
    /// The process holds it too often.
    TooMany,
}

impl Peer {
    /// A peer of the store that writes `index`, with `pins` that no other process writes. `kick` wakes the store; it is
    /// called when the store sleeps and waits for an object that is not held any more, and may be called too often.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there are fewer pins than the index has descriptors, [`Error::InvalidArgument`] when
    /// they are read-only.
    pub fn new(index: IndexReader, pins: Words<AtomicU32>, kick: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let pins = pins.part(0..index.capacity())?.for_writing()?;
        Ok(Self { index, pins, kick: Box::new(kick), woken: AtomicU64::new(u64::MAX) })
    }

    /// The index.
    pub fn index(&self) -> &IndexReader {
        &self.index
    }

    /// Looks for a sealed object and pins it. What a get hands from function to function fits registers, which makes it a third
    /// faster than one that brings the location along; that is also why all of it is inlined.
    #[inline(always)]
    pub fn hold(&self, id: &ObjectId) -> Lookup {
        match self.find(id) {
            Lookup::Found((index, state)) => Lookup::Found(Held::new(index, state)),
            Lookup::Missing => Lookup::Missing,
            Lookup::AskStore => Lookup::AskStore,
        }
    }

    /// Whether the index is so large that processors' caches rarely have what a get needs, so that it is worth to
    /// [look ahead](Self::look_ahead): among few objects that makes gets 3% slower, among a million twice as fast.
    pub fn is_large(&self) -> bool {
        self.index.capacity() >= LARGE
    }

    /// Asks for what the `at`-th of several gets in a row does not yet need but those after it do: each waits for its pin, so they
    /// would not ask by themselves.
    #[inline(always)]
    pub fn look_ahead(&self, ids: &[ObjectId], at: usize) {
        if let Some(id) = ids.get(at + 2 * AHEAD) {
            self.index.prefetch_slot(&self.index.wanted(id));
        }
        let near = ids.get(at + AHEAD).and_then(|id| self.index.likely(&self.index.wanted(id)));
        if let Some(index) = near {
            self.index.prefetch(index);
            self.pins.prefetch(index);
        }
    }

    /// Where a held object is, as the store said. Nobody has checked that it lies inside a segment.
    #[inline]
    pub fn location(&self, held: &Held) -> Location {
        self.index.location(held.index())
    }

    /// The same; which descriptor it is, and its state as it was pinned.
    #[inline(always)]
    pub(in crate::shm) fn find(&self, id: &ObjectId) -> Lookup<(usize, State)> {
        if !self.index.store_is_alive() {
            return Lookup::AskStore;
        }
        let wanted = self.index.wanted(id);
        for _ in 0..PATIENCE {
            match self.index.search(&wanted, |index| self.visit(index, &wanted)) {
                Ok(lookup) => return lookup,
                Err(Absent::Missing) => return Lookup::Missing,
                Err(Absent::Unknown) => return Lookup::AskStore,
                Err(Absent::Replaced) => {}
            }
        }
        Lookup::AskStore
    }

    /// Wakes the store if it sleeps, after something was written that it is to see; once is enough each time it sleeps.
    #[inline]
    pub fn wake_store(&self) {
        let nap = self.index.nap();
        if IndexReader::sleep_in(nap) != Sleep::Awake as u64 && self.woken.swap(nap, Ordering::SeqCst) != nap {
            (self.kick)();
        }
    }

    /// Gives a pin back.
    #[inline]
    pub fn release(&self, held: Held) {
        self.unpin(held.index());
    }

    /// Tries one candidate. `None` when the search must go on.
    #[inline(always)]
    fn visit(&self, index: usize, wanted: &Wanted) -> Option<Lookup<(usize, State)>> {
        for _ in 0..PATIENCE {
            match self.pin(index, wanted) {
                Attempt::Pinned(state) => return Some(Lookup::Found((index, state))),
                Attempt::Other => return None,
                Attempt::TooMany => break,
                // Not missing: the store may find it held, and then it stays.
                Attempt::Condemned => self.wait_for_verdict(index),
            }
        }
        Some(Lookup::AskStore)
    }

    /// Waits a little without a pin, which would be in the store's way.
    fn wait_for_verdict(&self, index: usize) {
        for _ in 0..PATIENCE {
            if self.index.state(index).stage() != Stage::Condemned {
                return;
            }
            pause();
        }
    }

    #[inline(always)]
    fn pin(&self, index: usize, wanted: &Wanted) -> Attempt {
        let too_early = (!taken(Step::PinFirst)).then(|| self.index.state(index));
        let old = add_one_get(&self.pins.all()[index]);
        total_order(Step::PinBarrier);
        crash::at(Point::Pinned);
        let state = too_early.unwrap_or_else(|| self.index.state(index));
        let attempt = self.judge(index, state, wanted, old & COUNT);
        if !matches!(attempt, Attempt::Pinned(_)) {
            self.unpin(index);
        }
        attempt
    }

    /// What a descriptor is that was pinned before its state was read.
    #[inline(always)]
    fn judge(&self, index: usize, state: State, wanted: &Wanted, holds: u32) -> Attempt {
        if holds >= MOST_HOLDS {
            Attempt::TooMany
        } else if state.stage() == Stage::Condemned {
            Attempt::Condemned
        } else if state.is_gettable() && self.index.is_of(index, wanted) {
            Attempt::Pinned(state)
        } else {
            Attempt::Other
        }
    }

    #[inline]
    fn unpin(&self, index: usize) {
        let old = self.pins.all()[index].fetch_sub(1, order_of(Step::ReleaseOrder, Ordering::SeqCst));
        total_order(Step::KickBarrier);
        crash::at(Point::Unpinned);
        if old & COUNT == 1 && self.is_awaited(index) {
            (self.kick)();
        }
    }

    /// Whether the store sleeps and waits for this object to be held no more.
    #[inline]
    fn is_awaited(&self, index: usize) -> bool {
        match self.index.sleep() {
            sleep if sleep == Sleep::Awake as u64 => false,
            sleep => sleep == Sleep::UntilRoom as u64 || self.index.state(index).stage() == Stage::Doomed,
        }
    }
}

#[cfg(not(plasma_mutant))]
fn add_one_get(word: &AtomicU32) -> u32 {
    word.fetch_add(ONE_GET, Ordering::SeqCst)
}

/// Without the barrier, for a test: what follows may be read before others see the pin.
#[cfg(plasma_mutant)]
fn add_one_get(word: &AtomicU32) -> u32 {
    let old = word.load(Ordering::Relaxed);
    word.store(old.wrapping_add(ONE_GET), Ordering::Relaxed);
    old
}

/// Lets others go on.
fn pause() {
    #[cfg(loom)]
    loom::thread::yield_now();
    hint::spin_loop();
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("index", &self.index).field("pins", &self.pins).finish_non_exhaustive()
    }
}
