//! A word that tells peers whether their store lives, without a system call.
//!
//! The store's thread holds a robust mutex in memory that its peers may read. The kernel goes through the robust mutexes
//! of every thread that ends, for whatever reason, and takes its number out of them. So while the number is there,
//! the store is. No peer ever locks or waits here.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, align_of, size_of};
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::gettid;

use super::mapping::Mapping;
use crate::error::{Error, Result};

/// The part of the mutex's first word where the kernel keeps the number of the thread that holds it.
const OWNER: u32 = 0x3fff_ffff;

/// Whether there is an owner, by the first word of the mutex.
#[inline]
pub(super) fn owner_is_alive(word: u32) -> bool {
    word & OWNER != 0
}

/// While it lives, and its thread does, peers see that the store is there.
///
/// It stays in the thread that made it: only that one can unlock the mutex.
#[derive(Debug)]
pub struct StoreAlive {
    mutex: *mut libc::pthread_mutex_t,
    /// The C library keeps the mutex in a list until it is unlocked, so it must not be unmapped before.
    _mapping: Arc<Mapping>,
    _stays: PhantomData<*mut ()>,
}

impl StoreAlive {
    /// Makes a mutex at `offset` of the mapping, and holds it in this thread. Nobody else writes there.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there is no room, [`Error::InvalidArgument`] when the mapping is read-only or `offset` is
    /// not a multiple of 64, [`Error::Io`] when a call fails, [`Error::Unsupported`] when the C library's mutex does not
    /// begin with the number of its thread, which peers look for.
    pub fn hold(mapping: &Arc<Mapping>, offset: u64) -> Result<Self> {
        if !offset.is_multiple_of(64) {
            return Err(Error::InvalidArgument(format!(
                "a mutex cannot lie at byte {offset}, which is not 64 times n"
            )));
        }
        const { assert!(size_of::<libc::pthread_mutex_t>() <= 64 && align_of::<libc::pthread_mutex_t>() <= 64) };
        let mutex: *mut libc::pthread_mutex_t = mapping.address_mut(offset, 64)?.cast();
        // SAFETY: it is 64 bytes of a mapping, aligned, that nobody else writes and that we keep mapped.
        unsafe { initialize(mutex) }?;
        // SAFETY: it was initialized just now.
        check("pthread_mutex_lock", unsafe { libc::pthread_mutex_lock(mutex) })?;
        let held = Self { mutex, _mapping: mapping.clone(), _stays: PhantomData };
        held.check_owner()?;
        Ok(held)
    }

    /// The word must be what peers take it for.
    fn check_owner(&self) -> Result<()> {
        // SAFETY: the mutex is at least four bytes, mapped, and changes only when this thread unlocks it or ends.
        let word = unsafe { self.mutex.cast::<u32>().read_volatile() };
        if word & OWNER == gettid().as_raw() as u32 {
            return Ok(());
        }
        let text = format!("a mutex of this C library begins with {word:#x}, not with its thread {}", gettid());
        Err(Error::Unsupported(text))
    }
}

impl Drop for StoreAlive {
    /// Peers see that the store is gone.
    fn drop(&mut self) {
        // SAFETY: this thread holds it, as the value cannot be sent to another.
        unsafe { libc::pthread_mutex_unlock(self.mutex) };
    }
}

/// Makes a robust mutex for several processes.
///
/// # Safety
/// There must be room for it at `mutex`, aligned and mapped for writing.
unsafe fn initialize(mutex: *mut libc::pthread_mutex_t) -> Result<()> {
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: `attributes` has room for them.
    check("pthread_mutexattr_init", unsafe { libc::pthread_mutexattr_init(attributes) })?;
    // SAFETY: the attributes are initialized; the caller answers for the mutex.
    let made = unsafe {
        check(
            "pthread_mutexattr_setpshared",
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED),
        )
        .and_then(|()| {
            let robust = libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST);
            check("pthread_mutexattr_setrobust", robust)
        })
        .and_then(|()| check("pthread_mutex_init", libc::pthread_mutex_init(mutex, attributes)))
    };
    // SAFETY: they are initialized, and not used afterwards.
    unsafe { libc::pthread_mutexattr_destroy(attributes) };
    made
}

fn check(call: &str, result: libc::c_int) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::io(call, Errno::from_raw(result).into())) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::shm::segment::Segment;

    const OFFSET: u64 = 192;

    fn page() -> (Arc<Mapping>, Mapping) {
        let segment = Segment::create("alive", 4096).unwrap();
        let writable = Mapping::read_write(segment.as_fd(), 4096).unwrap();
        (Arc::new(writable), Mapping::read_only(segment.as_fd(), 4096).unwrap())
    }

    fn is_alive(seen: &Mapping) -> bool {
        let mut word = [0; 4];
        seen.read(OFFSET, &mut word).unwrap();
        owner_is_alive(u32::from_le_bytes(word))
    }

    #[test]
    fn it_is_seen_while_it_is_held() {
        let (mapping, seen) = page();
        assert!(!is_alive(&seen));
        let alive = StoreAlive::hold(&mapping, OFFSET).unwrap();
        assert!(is_alive(&seen));
        drop(alive);
        assert!(!is_alive(&seen));
        let again = StoreAlive::hold(&mapping, OFFSET).unwrap();
        assert!(is_alive(&seen));
        drop(again);
    }

    #[test]
    fn the_end_of_its_thread_is_enough() {
        let (mapping, seen) = page();
        std::thread::spawn(move || std::mem::forget(StoreAlive::hold(&mapping, OFFSET).unwrap())).join().unwrap();
        // The kernel goes through a thread's robust mutexes before it tells those who join it.
        assert!(!is_alive(&seen));
    }

    #[test]
    fn places_that_will_not_do_are_named() {
        let (mapping, seen) = page();
        for offset in [8, 4096 - 8] {
            let error = StoreAlive::hold(&mapping, offset).unwrap_err().to_string();
            assert!(error.contains(&offset.to_string()), "{error}");
        }
        assert!(matches!(StoreAlive::hold(&mapping, 4096), Err(Error::Protocol(_))));
        assert!(matches!(StoreAlive::hold(&Arc::new(seen), 0), Err(Error::InvalidArgument(_))));
    }
}
