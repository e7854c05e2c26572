//! Sleeping until a word changes. Who changes it makes a system call only when somebody sleeps.
//!
//! The sleeper says in a word of its own that it is about to sleep and then looks at the other's word once more; the other changes its
//! word and then looks whether somebody sleeps. One of the two always sees what the other did.

use std::time::Duration;

use crate::shm::sync::{AtomicU64, Ordering, Step, taken, total_order};

/// The waiting side's view: the word that changes, and its own.
#[derive(Clone, Copy, Debug)]
pub struct Doze<'a> {
    pub(super) word: &'a AtomicU64,
    pub(super) asleep: &'a AtomicU64,
    /// What the own word is while somebody sleeps: not 0.
    pub(super) mark: u64,
}

impl Doze<'_> {
    /// The word as it is.
    #[inline]
    pub fn now(&self) -> u64 {
        self.word.load(Ordering::SeqCst)
    }

    /// From now on whoever changes the word wakes. `false`: it has changed from `old` already, so nobody must sleep.
    pub fn begin(&self, old: u64) -> bool {
        if taken(Step::DozeFirst) {
            self.asleep.swap(self.mark, Ordering::SeqCst);
            total_order(Step::DozeBarrier);
        }
        self.now() == old
    }

    /// Sleeps while the word is `old`, for at most this long, after [`begin`](Self::begin) said so. May end early for no reason.
    /// Returns whether a signal handler has run.
    #[cfg(not(loom))]
    pub fn sleep(&self, old: u64, at_most: Duration) -> bool {
        crate::shm::futex::wait(self.word, old as u32, at_most)
    }

    /// A model has no futex. It asks [`begin`](Self::begin) whether it would sleep, and at the end whether somebody was to wake it.
    #[cfg(loom)]
    pub fn sleep(&self, _: u64, _: Duration) -> bool {
        loom::thread::yield_now();
        false
    }

    /// Wakes those who sleep here although the word has not changed. Async-signal-safe.
    pub fn shake(&self) {
        wake(self.word);
    }
}

/// Changes a word to `new`. Returns the mark of who may sleep until it does, and is then to be woken; 0 when nobody does.
#[inline]
pub(super) fn change(word: &AtomicU64, new: u64, asleep: &AtomicU64) -> u64 {
    let order = if taken(Step::DoneOrder) { Ordering::SeqCst } else { Ordering::Relaxed };
    word.swap(new, order);
    total_order(Step::DoneBarrier);
    asleep.load(Ordering::SeqCst)
}

/// Wakes who sleeps until a word changes.
pub(super) fn wake(word: &AtomicU64) {
    #[cfg(not(loom))]
    crate::shm::futex::wake_all(word);
    #[cfg(loom)]
    crate::shm::models::woken(word);
}
