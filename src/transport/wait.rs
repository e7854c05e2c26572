//! Waiting for descriptors, and what ends a wait from outside: a signal, or a descriptor that the thread named for it.
//!
//! A signal alone is not enough. One that comes while the thread is awake, because it hands out answers of others for
//! example, ends no system call, and nobody remembers it. A byte in a pipe that a signal handler wrote stays until it is read.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

thread_local! {
    static WAKE: Cell<Option<RawFd>> = const { Cell::new(None) };
}

/// What ended a wait before its time, other than what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// A signal handler ran in this thread.
    Signal,
    /// The thread's wake descriptor can be read.
    WakeDescriptor,
}

impl Interruption {
    /// Whether it ends a call, of a client for which signals do that or do not.
    pub fn ends(self, return_on_signal: bool) -> bool {
        self == Self::WakeDescriptor || return_on_signal
    }
}

/// What came of a wait.
#[derive(Debug)]
pub struct Waited<const N: usize> {
    /// Which of the descriptors have something to read, or are at their end.
    pub readable: [bool; N],
    /// What ended it from outside, if that happened.
    pub interruption: Option<Interruption>,
}

/// From now on interruptible waits of this thread end when `descriptor` can be read. `None` ends that.
///
/// # Safety
/// The descriptor stays open until another, or none, is set.
pub unsafe fn set_wake_descriptor(descriptor: Option<RawFd>) {
    WAKE.set(descriptor);
}

/// Whether the thread's wake descriptor can be read.
pub fn is_woken() -> bool {
    WAKE.get().is_some() && wait([], Some(Instant::now()), true).interruption == Some(Interruption::WakeDescriptor)
}

/// Waits until one of the descriptors can be read, the deadline has come, or a signal handler has run; if `interruptible`,
/// also until the thread's wake descriptor can be read.
pub fn wait<const N: usize>(on: [BorrowedFd<'_>; N], deadline: Option<Instant>, interruptible: bool) -> Waited<N> {
    // SAFETY: whoever set it promised that it stays open.
    let wake = WAKE.get().filter(|_| interruptible).map(|raw| unsafe { BorrowedFd::borrow_raw(raw) });
    let watched = on.iter().chain(&wake);
    let mut polled: Vec<_> = watched.map(|descriptor| PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)).collect();
    let outcome = poll(&mut polled, timeout_until(deadline));
    let is_ready = |index: usize| outcome.is_ok() && polled.get(index).and_then(PollFd::any) == Some(true);
    let interruption = match outcome {
        Err(Errno::EINTR) => Some(Interruption::Signal),
        _ => is_ready(N).then_some(Interruption::WakeDescriptor),
    };
    Waited { readable: std::array::from_fn(is_ready), interruption }
}

/// Rounded up, so that nobody wakes before the time.
fn timeout_until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left.min(Duration::from_secs(3600))).unwrap_or(PollTimeout::ZERO)
}
