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
    // SAFETY: the kernel takes the address as a name and touches nothing.
    unsafe { libc::syscall(libc::SYS_futex, lower_half(word), libc::FUTEX_WAKE, i32::MAX) };
}

fn lower_half(word: &AtomicU64) -> *const u32 {
    word.as_ptr().cast_const().cast()
}
