//! Threads of ours in a process that belongs to others.
#![forbid(unsafe_code)]

use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::error::{Error, Result};

/// Starts a thread with all signals blocked: those of the host are for the host's own threads, which may have blocked them to
/// wait for them. A new thread has the mask of the one that starts it, so there is no moment without.
///
/// # Errors
/// [`Error::Io`].
pub fn spawn_without_signals<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(Error::from_errno("sigprocmask"))?;
    let thread = Builder::new().name(name.into()).spawn(work);
    before.thread_set_mask().map_err(Error::from_errno("sigprocmask"))?;
    thread.map_err(|error| Error::io(format!("start of the thread {name}"), error))
}
