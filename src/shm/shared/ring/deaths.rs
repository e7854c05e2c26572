//! Where a participant may die: behind every step that others can see. In ordinary builds nothing of this is there.

/// Does nothing.
#[cfg(not(all(test, not(loom))))]
#[inline(always)]
pub(super) const fn may_die() {}

#[cfg(all(test, not(loom)))]
pub(super) use simulated::{Died, die_after, may_die};

#[cfg(all(test, not(loom)))]
mod simulated {
    use std::cell::Cell;
    use std::panic::resume_unwind;

    thread_local! {
        /// How many steps the thread has left.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// What a thread unwinds with that dies.
    #[derive(Debug)]
    pub struct Died;

    /// This thread dies behind so many steps more, or does not.
    pub fn die_after(steps: Option<u32>) {
        LEFT.set(steps);
    }

    #[inline]
    pub fn may_die() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                resume_unwind(Box::new(Died));
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }
}
