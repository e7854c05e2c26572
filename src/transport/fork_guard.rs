//! Descriptors that a forked child must not keep.
//!
//! A store may live inside a host process, and hosts fork. A child that inherits the listening socket keeps its
//! address alive after the store has gone; one that inherits a connection keeps the client from ever seeing a
//! hang-up; one that inherits the memory keeps it. `CLOEXEC` helps only those that go on to `exec`. So the store's
//! descriptors are noted here, and a `pthread_atfork` handler closes them in the child before `fork` returns there.
//!
//! Handlers run for `fork`. `vfork` and `posix_spawn` do not run them and need none: what they start goes on to `exec`.
//! A raw `clone` does not run them either and does leak the descriptors.
//!
//! What runs in the child may use only what is async-signal-safe, as other threads may have held any lock at the moment
//! of the fork. Hence static memory, atomics, and a lock that the handlers take before and release after the fork.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Descriptor numbers that can be guarded: 0 up to this. A bitmap of a fixed size needs no memory in the child.
const LIMIT: usize = 65536;

/// One bit per descriptor number: it is guarded.
static GUARDED: [AtomicU64; LIMIT / 64] = [const { AtomicU64::new(0) }; LIMIT / 64];
/// How many forks lie between the first process and this one. Two processes of one line never share a number.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// The handlers are installed. Written under the lock.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// Process id of the lock's holder, 0 when it is free.
static HOLDER: AtomicI32 = AtomicI32::new(0);

/// Something that owns one descriptor, which forked children of this process do not get.
///
/// A child that drops its copy of such a value closes nothing: its handler did that, and the number may since
/// belong to something else of the child's. For the same reason a child must not use it.
#[derive(Debug)]
pub struct Guarded<T: AsFd> {
    owner: ManuallyDrop<T>,
    /// The generation of the process that guards it.
    generation: u64,
}

impl<T: AsFd> Guarded<T> {
    /// Opens a descriptor and guards it, with no fork in between that could leak it.
    ///
    /// A fork on another thread waits until `open` is done, so `open` must not block (no `accept` on a blocking socket).
    /// It must not fork, and not open or drop guarded descriptors itself: either would wait for itself.
    ///
    /// # Errors
    /// Those of `open`; [`Error::Io`] when the handlers cannot be installed or when the descriptor's number is too high
    /// to be guarded: it is closed then.
    pub fn open(open: impl FnOnce() -> Result<T>) -> Result<Self> {
        Self::open_with(|| Ok((open()?, ()))).map(|(guarded, ())| guarded)
    }

    /// The same where something else comes with the descriptor.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with<U>(open: impl FnOnce() -> Result<(T, U)>) -> Result<(Self, U)> {
        let _no_fork = NoFork::begin();
        install_handlers()?;
        let (owner, other) = open()?;
        let fd = owner.as_fd().as_raw_fd();
        let Some((word, bit)) = place(fd) else {
            let text = format!("guarding descriptor {fd}, of which only {LIMIT} can be");
            return Err(Error::io(text, nix::errno::Errno::EMFILE.into()));
        };
        word.fetch_or(bit, Ordering::Relaxed);
        Ok((Self { owner: ManuallyDrop::new(owner), generation: GENERATION.load(Ordering::Relaxed) }, other))
    }

    /// Whether this process made it; in a forked child the descriptor is closed.
    pub fn is_ours(&self) -> bool {
        self.generation == GENERATION.load(Ordering::Relaxed)
    }
}

impl<T: AsFd> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.owner
    }
}

impl<T: AsFd> AsFd for Guarded<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.owner.as_fd()
    }
}

impl<T: AsFd> Drop for Guarded<T> {
    fn drop(&mut self) {
        // Forgetting the number and closing it are one step: a fork in between would leak the descriptor, and in the
        // other order would close whatever another thread had got under the same number meanwhile. The last descriptor
        // of a large segment takes a while to close (about 0.1 s per GiB), and forks wait for that.
        let _no_fork = NoFork::begin();
        if !self.is_ours() {
            return;
        }
        if let Some((word, bit)) = place(self.owner.as_fd().as_raw_fd()) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
        // SAFETY: this is the only place that drops it, and `self` is gone afterwards.
        unsafe { ManuallyDrop::drop(&mut self.owner) };
    }
}

/// Does `work` with no fork of another thread in between. What holds for the argument of [`Guarded::open`] holds for it.
///
/// # Errors
/// Those of `work`; [`Error::Io`] when the handlers cannot be installed.
pub fn without_fork<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _no_fork = NoFork::begin();
    install_handlers()?;
    work()
}

/// Where `fd` is noted, if its number is not too high.
fn place(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let fd = usize::try_from(fd).ok()?;
    Some((GUARDED.get(fd / 64)?, 1 << (fd % 64)))
}

/// While this lives, no other thread gets through a `fork`.
///
/// A spin lock, as it must be released in a child that has none of the parent's other threads. It is held for a few
/// system calls, and by a fork for as long as that takes.
struct NoFork;

impl NoFork {
    fn begin() -> Self {
        lock();
        Self
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        unlock();
    }
}

fn lock() {
    // SAFETY: `getpid` cannot fail.
    let own = unsafe { libc::getpid() };
    let mut seen = 0;
    while let Err(holder) = HOLDER.compare_exchange(seen, own, Ordering::Acquire, Ordering::Relaxed) {
        // A holder in another process is one that forked off before the handlers were there, or by a raw `clone`. Its
        // copy in this process will never let go, so the lock is taken from it.
        seen = if holder == own { 0 } else { holder };
        std::thread::yield_now();
    }
}

fn unlock() {
    HOLDER.store(0, Ordering::Release);
}

/// Installs the handlers, once for this process and its children. The caller holds the lock.
fn install_handlers() -> Result<()> {
    if INSTALLED.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: the three functions are static, take nothing and keep to what is allowed in them.
    let error = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    if error != 0 {
        return Err(Error::io("pthread_atfork", std::io::Error::from_raw_os_error(error)));
    }
    INSTALLED.store(true, Ordering::Relaxed);
    Ok(())
}

extern "C" fn before_fork() {
    lock();
}

extern "C" fn in_parent() {
    unlock();
}

/// Closes what the parent guards. Runs before `fork` returns in the child, on its only thread.
extern "C" fn in_child() {
    for (index, word) in GUARDED.iter().enumerate() {
        let mut bits = word.swap(0, Ordering::Relaxed);
        while bits != 0 {
            let fd = index * 64 + bits.trailing_zeros() as usize;
            // SAFETY: the number was guarded at the moment of the fork, so it is the child's copy of a descriptor whose
            // [`Guarded`] will not close it: the generation changes below.
            unsafe { libc::close(fd as RawFd) };
            bits &= bits - 1;
        }
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
    unlock();
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use nix::fcntl::OFlag;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork, pipe2};
    use std::os::fd::OwnedFd;

    use super::*;

    /// Forks a child that runs `work` and exits with its result. `work` must do only what is safe after a fork of a
    /// process with threads: no allocation, no lock but ours, no panic.
    fn start_child(work: impl FnOnce() -> i32) -> Pid {
        // SAFETY: the child calls `work`, which keeps to the rule above, `alarm` and `_exit`.
        match unsafe { fork() }.unwrap() {
            // SAFETY: both are async-signal-safe; the alarm ends a child that hangs.
            ForkResult::Child => unsafe {
                libc::alarm(60);
                libc::_exit(work())
            },
            ForkResult::Parent { child } => child,
        }
    }

    fn exit_code(child: Pid) -> i32 {
        match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        }
    }

    fn is_open(fd: RawFd) -> bool {
        // SAFETY: asks about a number, whatever it is.
        unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
    }

    fn is_guarded(fd: RawFd) -> bool {
        place(fd).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// A pipe whose writing end is guarded: its reading end tells when nobody has the writing end any more.
    fn guarded_pipe() -> (OwnedFd, Guarded<OwnedFd>) {
        let mut reader = None;
        let writer = Guarded::<OwnedFd>::open(|| {
            let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC).map_err(Error::from_errno("pipe2"))?;
            reader = Some(read_end);
            Ok(write_end)
        });
        (reader.unwrap(), writer.unwrap())
    }

    fn hangs_up(reader: &OwnedFd) -> bool {
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::empty())];
        // Generous, as a `Command` in another test holds a copy between its own fork and exec.
        poll(&mut fds, PollTimeout::from(10_000u16)).unwrap() == 1
    }

    #[test]
    fn a_child_does_not_get_what_is_guarded() {
        let (reader, writer) = guarded_pipe();
        let (read_fd, write_fd) = (reader.as_raw_fd(), writer.as_fd().as_raw_fd());
        let child = start_child(|| {
            i32::from(is_open(write_fd)) + 2 * i32::from(!is_open(read_fd)) + 4 * i32::from(is_guarded(write_fd))
        });
        assert_eq!(exit_code(child), 0);
        assert_eq!(nix::unistd::write(&writer, b"x"), Ok(1));
        assert!(is_guarded(write_fd));
    }

    #[test]
    fn a_living_child_does_not_delay_a_hang_up() {
        let (reader, writer) = guarded_pipe();
        // SAFETY: `pause` is async-signal-safe.
        let child = start_child(|| unsafe { libc::pause() });
        drop(writer);
        let hung_up = hangs_up(&reader);
        kill(child, Signal::SIGKILL).unwrap();
        waitpid(child, None).unwrap();
        assert!(hung_up);
    }

    #[test]
    fn a_child_that_drops_its_copy_closes_nothing_of_its_own() {
        let (reader, writer) = guarded_pipe();
        let fd = writer.as_fd().as_raw_fd();
        let child = start_child(move || {
            // The child puts something of its own, guarded too, under the number that its parent's value holds.
            let own = Guarded::<OwnedFd>::open(|| {
                // SAFETY: `dup2` is async-signal-safe, the number was closed by the handler, and the result is owned
                // here only.
                unsafe {
                    libc::dup2(reader.as_raw_fd(), fd);
                    Ok(std::os::fd::FromRawFd::from_raw_fd(fd))
                }
            });
            drop(writer);
            let kept = is_open(fd) && is_guarded(fd);
            drop(own);
            i32::from(!kept) + 2 * i32::from(is_open(fd)) + 4 * i32::from(is_guarded(fd))
        });
        assert_eq!(exit_code(child), 0);
    }

    #[test]
    fn grandchildren_are_guarded_too() {
        let (reader, _writer) = guarded_pipe();
        let child = start_child(|| {
            // SAFETY: as for `dup2` above.
            let own = Guarded::<OwnedFd>::open(|| unsafe {
                Ok(std::os::fd::FromRawFd::from_raw_fd(libc::dup(reader.as_raw_fd())))
            });
            let Ok(own) = own else { return 9 };
            let fd = own.as_fd().as_raw_fd();
            // SAFETY: this process has one thread, and the grandchild only asks and exits.
            match unsafe { libc::fork() } {
                // SAFETY: `_exit` is async-signal-safe.
                0 => unsafe { libc::_exit(i32::from(is_open(fd))) },
                grandchild => {
                    let mut status = -1;
                    // SAFETY: `status` is ours.
                    unsafe { libc::waitpid(grandchild, &raw mut status, 0) };
                    status
                }
            }
        });
        assert_eq!(exit_code(child), 0);
    }

    #[test]
    fn dropping_closes_and_forgets() {
        let (reader, writer) = guarded_pipe();
        drop(writer);
        assert!(hangs_up(&reader));
    }

    #[test]
    fn a_failure_to_open_is_passed_on_and_leaves_no_lock() {
        assert!(matches!(Guarded::<OwnedFd>::open(|| Err(Error::Interrupted)), Err(Error::Interrupted)));
        drop(guarded_pipe());
    }

    #[test]
    fn a_number_too_high_to_be_noted_is_an_error() {
        use nix::sys::resource::{Resource, getrlimit};
        if getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 <= LIMIT as u64 {
            assert!(place(LIMIT as RawFd).is_none() && place(LIMIT as RawFd - 1).is_some());
            return;
        }
        let (reader, _writer) = guarded_pipe();
        let opened = Guarded::<OwnedFd>::open(|| {
            // SAFETY: the result is owned here only.
            match unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LIMIT as RawFd) } {
                -1 => Err(Error::io("fcntl", Errno::last().into())),
                // SAFETY: as above.
                fd => Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }),
            }
        });
        assert!(opened.unwrap_err().to_string().contains("65536"));
        assert!(!is_open(LIMIT as RawFd));
    }

    #[test]
    fn the_lock_of_a_process_that_is_not_here_is_taken_over() {
        let child = start_child(|| {
            HOLDER.store(1, Ordering::Relaxed); // as a raw `clone` would leave it
            let opened = Guarded::<OwnedFd>::open(|| Err(Error::Interrupted)).is_err();
            i32::from(!opened || HOLDER.load(Ordering::Relaxed) != 0)
        });
        assert_eq!(exit_code(child), 0);
    }

    #[test]
    fn no_fork_falls_between_opening_and_guarding_or_forgetting_and_closing() {
        let forked = AtomicBool::new(false);
        let mut children = Vec::new();
        // Each child lives on until the end, so a descriptor that leaks into one shows as a hang-up that does not come.
        let all_hung_up = std::thread::scope(|scope| {
            let opener = scope.spawn(|| {
                while !forked.load(Ordering::Relaxed) {
                    let (reader, writer) = guarded_pipe();
                    drop(writer);
                    if !hangs_up(&reader) {
                        return false;
                    }
                }
                true
            });
            for _ in 0..100 {
                // SAFETY: `pause` is async-signal-safe.
                children.push(start_child(|| unsafe { libc::pause() }));
            }
            forked.store(true, Ordering::Relaxed);
            opener.join().unwrap()
        });
        for child in children {
            kill(child, Signal::SIGKILL).unwrap();
            waitpid(child, None).unwrap();
        }
        assert!(all_hung_up);
    }
}
