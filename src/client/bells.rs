//! Bells of threads that wait for something other than an answer. An interrupt rings all of them, from a signal handler too, so
//! there is no lock: their number is fixed, and a bell that was made stays until the connection goes.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};

/// As many as an integer has bits.
const BELLS: usize = u64::BITS as usize;

/// Which of 64 places threads have, a bit for each. No lock, so that a signal handler can look.
#[derive(Debug, Default)]
pub struct Seats(AtomicU64);

impl Seats {
    /// A place for the calling thread, until it is given back. `None` when all are taken.
    pub fn take(&self) -> Option<usize> {
        let lowest_free = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lowest_free).ok()?;
        Some(before.trailing_ones() as usize)
    }

    /// Another thread may have it from here on.
    pub fn give_back(&self, seat: usize) {
        self.0.fetch_and(!(1 << seat), Ordering::SeqCst);
    }

    /// Those that are taken.
    pub fn taken(&self) -> impl Iterator<Item = usize> {
        let taken = self.0.load(Ordering::SeqCst);
        (0..BELLS).filter(move |seat| taken & 1 << seat != 0)
    }
}

/// The bells of one connection.
#[derive(Debug)]
pub struct Bells {
    seats: Seats,
    bells: [OnceLock<EventFd>; BELLS],
}

/// A bell while one thread has it.
#[derive(Debug)]
pub struct Bell<'a> {
    bells: &'a Bells,
    index: usize,
}

impl Bells {
    /// None are made yet.
    pub fn new() -> Self {
        Self { seats: Seats::default(), bells: [const { OnceLock::new() }; BELLS] }
    }

    /// A silent bell. Whoever rings all of them from now on rings it as well.
    ///
    /// # Errors
    /// [`Error::Busy`] when so many threads have one already; [`Error::Io`].
    pub fn take(&self) -> Result<Bell<'_>> {
        let busy = || Error::Busy(format!("{BELLS} threads wait for events of this client already"));
        let bell = Bell { bells: self, index: self.seats.take().ok_or_else(busy)? };
        bell.make_silent()?;
        // Whoever interrupts counts first and rings then; whoever waits makes its bell first and looks at the count then. With
        // this one of the two sees what the other did.
        fence(Ordering::SeqCst);
        Ok(bell)
    }

    /// Rings every bell that was made. Async-signal-safe.
    pub fn ring_all(&self) {
        fence(Ordering::SeqCst);
        self.bells.iter().filter_map(OnceLock::get).for_each(ring);
    }
}

impl Bell<'_> {
    fn slot(&self) -> Option<&OnceLock<EventFd>> {
        self.bells.bells.get(self.index)
    }

    /// Makes it at its first use; at a later one it may have been rung for somebody else.
    fn make_silent(&self) -> Result<()> {
        match self.slot().map(|slot| (slot, slot.get())) {
            Some((slot, None)) => drop(slot.set(new_bell()?)),
            Some((_, Some(bell))) => drop(bell.read()),
            None => {}
        }
        Ok(())
    }

    /// To wait for it.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.slot().and_then(OnceLock::get).map(AsFd::as_fd)
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.bells.seats.give_back(self.index);
    }
}

/// A bell that was not rung.
pub(super) fn new_bell() -> Result<EventFd> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(Error::from_errno("eventfd"))
}

/// Async-signal-safe.
pub(super) fn ring(bell: &EventFd) {
    // Fails only when the bell has been rung 2^64 times and is therefore ringing.
    let _ = bell.write(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_rung(bell: &Bell<'_>) -> bool {
        let mut polled = [nix::poll::PollFd::new(bell.descriptor().unwrap(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn all_are_rung_and_a_new_owner_finds_silence() {
        let bells = Bells::new();
        let (one, other) = (bells.take().unwrap(), bells.take().unwrap());
        bells.ring_all();
        assert!(is_rung(&one) && is_rung(&other));
        drop(one);
        assert!(!is_rung(&bells.take().unwrap()) && is_rung(&other));
    }

    #[test]
    fn there_are_64_and_what_is_given_back_can_be_had_again() {
        let bells = Bells::new();
        let mut taken: Vec<_> = (0..BELLS).map(|_| bells.take().unwrap()).collect();
        assert!(bells.take().unwrap_err().to_string().contains("64 threads"));
        drop(taken.remove(17));
        drop(bells.take().unwrap());
    }
}
