//! Sleeping in the kernel until another process changes a word of shared memory.

use std::time::Duration;

use nix::errno::Errno;

use super::sync::AtomicU64;

/// Sleeps while the lower half of `word` is `old`, for at most this long. Also ends for a signal, or for no reason; the caller
/// looks at the word. Returns whether a signal handler has run.
pub fn wait(word: &AtomicU64, old: u32, at_most: Duration) -> bool {
    let timeout =
        libc::timespec { tv_sec: at_most.as_secs().cast_signed(), tv_nsec: i64::from(at_most.subsec_nanos()) };
    // SAFETY: the address is that of four mapped bytes, the lower half of the word on the machines that this crate compiles for, and
    // the kernel only reads them and the time.
    let outcome =
        unsafe { libc::syscall(libc::SYS_futex, lower_half(word), libc::FUTEX_WAIT, old, &raw const timeout) };
    outcome == -1 && Errno::last() == Errno::EINTR
}

/// Wakes everybody who sleeps on the word. Async-signal-safe.
pub fn wake_all(word: &AtomicU64) {
    wake(word, i32::MAX);
}

/// Wakes so many of those who sleep on the word, if there are as many. Returns how many.
pub fn wake(word: &AtomicU64, most: i32) -> i64 {
    // SAFETY: the kernel takes the address as a name and touches nothing.
    unsafe { libc::syscall(libc::SYS_futex, lower_half(word), libc::FUTEX_WAKE, most) }
}

/// Has the kernel add to the lower half of the word and wake everybody who sleeps on it. Where the memory cannot be had that is an
/// error, and never a signal.
///
/// # Errors
/// `EFAULT` then.
pub fn add_and_wake_all(word: &AtomicU64, number: u32) -> Result<(), Errno> {
    // Addition to the second address, which is the first as well; none are woken there, whatever its value was.
    let operation = libc::FUTEX_OP(libc::FUTEX_OP_ADD, number.cast_signed(), libc::FUTEX_OP_CMP_EQ, 0);
    let at = lower_half(word);
    // SAFETY: the kernel checks the addresses; the word is an atomic, which others may change.
    let outcome = unsafe { libc::syscall(libc::SYS_futex, at, libc::FUTEX_WAKE_OP, i32::MAX, 0usize, at, operation) };
    Errno::result(outcome).map(drop)
}

fn lower_half(word: &AtomicU64) -> *const u32 {
    word.as_ptr().cast_const().cast()
}
