//! Threads that are sent signals while they wait.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

extern "C" fn do_nothing(_: i32) {}

/// From now on SIGUSR1 does nothing but end system calls.
pub fn catch_signals() {
    let action = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

/// A thread that can be sent signals once it said who it is, and still when it has ended.
#[derive(Default)]
pub struct Signalled(AtomicI32);

impl Signalled {
    pub fn enter(&self) {
        self.0.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
    }

    pub fn signal(&self) {
        let thread = self.0.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: `tgkill` takes numbers only; that of a thread which has ended is an error.
            unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR1) };
        }
    }

    /// Whether it has entered and sleeps now.
    pub fn sleeps(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.0.load(Ordering::SeqCst)));
        stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('S'))
    }
}
