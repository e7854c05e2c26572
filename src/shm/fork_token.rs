//! Is this still the process that made a handle?
//!
//! A forked child has a copy of every handle of its parent, connections included. If it used or dropped them as its
//! own, both would talk on one socket and the child would give up what the parent still holds; and finalisers of
//! interpreters do run in children. So every handle carries a [`ForkToken`] and asks it first.
//!
//! The answer must cost nothing on the way to a sealed object, hence no `getpid`: one private page is marked
//! `MADV_WIPEONFORK`. It holds a random number, which is zero in a new child, so a load and a comparison tell.
//! A thread, and a `vfork` child, share the memory and count as the same process.

use std::num::NonZeroUsize;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use libc::c_void;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use super::segment::page_size;
use crate::error::{Error, Result};

/// The first word of the page, null until the first token is asked for; then the same for the life of the process.
///
/// Not a `OnceLock`: a fork in the middle of its initialisation would leave the child waiting for a thread that is not
/// there. Here the child finds null or a complete page.
static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// The mark of the process that asked for it.
#[derive(Clone, Copy, Debug)]
pub struct ForkToken {
    word: &'static AtomicU64,
    value: u64,
}

impl ForkToken {
    /// The token of this process. The first call in a process, a forked child included, makes it up.
    ///
    /// # Errors
    /// [`Error::Io`] when the page or the random number cannot be had.
    pub fn current() -> Result<Self> {
        let word = word()?;
        let value = word.load(Ordering::Relaxed);
        if value != 0 {
            return Ok(Self { word, value });
        }
        let fresh = getrandom::u64().map_err(|error| Error::io("getrandom", error.into()))?.max(1);
        // Of several threads that get here at once one wins, and all take its number.
        let value = match word.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(winner) => winner,
        };
        Ok(Self { word, value })
    }

    /// Whether the calling process is the one that asked for this token. No system call.
    ///
    /// Relaxed is enough: the number changes by a fork only, which is no race, and it guards no other memory.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.value
    }
}

/// The word, making its page if this is the first call.
fn word() -> Result<&'static AtomicU64> {
    let mut word = WORD.load(Ordering::Acquire);
    if word.is_null() {
        let fresh = new_page()?;
        word = match WORD.compare_exchange(ptr::null_mut(), fresh.as_ptr().cast(), Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => fresh.as_ptr().cast(),
            Err(winner) => {
                // SAFETY: this page was made above and nobody else has seen its address.
                unsafe { munmap(fresh, page_size()? as usize) }.map_err(Error::from_errno("munmap"))?;
                winner
            }
        };
    }
    // SAFETY: it is the start of a page that is readable, writable and never unmapped again, aligned for any word, and
    // used as an `AtomicU64` only. A fork zeroes it before the child runs, which is a valid value too.
    Ok(unsafe { &*word })
}

/// One private page of zeros that a forked child sees zeroed again.
fn new_page() -> Result<ptr::NonNull<c_void>> {
    let size = page_size()? as usize;
    let len = NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: without MAP_FIXED the kernel chooses an address that is free.
    let page = unsafe { mmap_anonymous(None, len, protection, MapFlags::MAP_PRIVATE) }
        .map_err(|errno| Error::io(format!("mmap of {size} bytes"), errno.into()))?;
    // SAFETY: the advice is about a page of our own; it changes what a child sees, nothing here.
    if let Err(errno) = unsafe { madvise(page, size, MmapAdvise::MADV_WIPEONFORK) } {
        // SAFETY: nobody else has seen the page.
        let _ = unsafe { munmap(page, size) };
        return Err(Error::io("madvise(MADV_WIPEONFORK)", errno.into()));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// Runs `check` in a forked child and returns its exit code. The child must do only what is safe after a fork of a
    /// process with threads: no allocation, no lock, no panic.
    fn in_child(check: impl FnOnce() -> u8) -> i32 {
        // SAFETY: the child calls `check`, which keeps to the rule above, `alarm` and `_exit`.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // SAFETY: both are async-signal-safe; the alarm ends a child that hangs.
                unsafe {
                    libc::alarm(30);
                    libc::_exit(i32::from(check()))
                }
            }
            ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, code) => code,
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn a_process_keeps_its_token() {
        let tokens: Vec<ForkToken> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| ForkToken::current().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let first = ForkToken::current().unwrap();
        assert!(first.is_current() && first.value != 0);
        assert!(tokens.iter().all(|token| token.is_current() && token.value == first.value));
    }

    #[test]
    fn a_child_is_another_process() {
        let token = ForkToken::current().unwrap();
        assert_eq!(in_child(|| u8::from(token.is_current())), 0);
        assert!(token.is_current());
    }

    #[test]
    fn a_child_gets_a_token_of_its_own() {
        let parents = ForkToken::current().unwrap();
        let code = in_child(|| match (ForkToken::current(), ForkToken::current()) {
            (Ok(first), Ok(second)) if parents.is_current() || first.value != second.value => 2,
            (Ok(first), Ok(_)) if first.is_current() && first.value != parents.value => 0,
            _ => 3,
        });
        assert_eq!(code, 0);
        assert!(parents.is_current());
    }
}
