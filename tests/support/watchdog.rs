//! Tests here wait for others, and those may never come.

use std::env;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// While it lives, the whole test program is aborted when a test is stuck.
pub struct Watchdog(#[allow(dead_code, reason = "dropping it ends the watch")] Sender<()>);

impl Watchdog {
    /// Watches the test of this name for five minutes: a machine with other work makes seconds minutes.
    pub fn new(name: &'static str) -> Self {
        Self::lasting(name, Duration::from_secs(300))
    }

    /// The same, for tests that are slow by design.
    pub fn lasting(name: &'static str, time: Duration) -> Self {
        let time = if env::var_os("PLASMA_SOAK").is_some() { time.max(Duration::from_secs(3600)) } else { time };
        let (alive, watched) = channel::<()>();
        std::thread::spawn(move || {
            if watched.recv_timeout(time) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {name} is stuck for {time:?}");
                std::process::abort();
            }
        });
        Self(alive)
    }
}

/// Waits until `done` says so; how long is the watchdog's business.
pub fn eventually(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(2));
    }
}
