//! Tests here wait for others, and those may never come.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// While it lives, the whole test program is aborted when a test is stuck.
pub struct Watchdog(#[allow(dead_code, reason = "dropping it ends the watch")] Sender<()>);

impl Watchdog {
    /// Watches the test of this name for a minute.
    pub fn new(name: &'static str) -> Self {
        Self::lasting(name, Duration::from_secs(60))
    }

    /// The same, for tests that are slow by design.
    pub fn lasting(name: &'static str, time: Duration) -> Self {
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
