//! Processes that die at a named point: a client, a participant of a ring, or the store, at each of them, by abort and by SIGKILL. What is left must be
//! what the others need and nothing else.
//!
//! The points are built in by `--cfg crash_points` only (`src/crash.rs`); in other builds there is nothing to play here, and what is
//! left is a look at the list. How to run it is in `docs/testing.md`. `PLASMA_CRASH_ONLY=RecordWritten` plays points of that name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg_attr(not(crash_points), allow(dead_code, reason = "no process dies in this build"))]

mod list;
mod locks;
mod peers;
mod play;
mod rings;
mod stores;
#[path = "../support/mod.rs"]
mod support;

use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::Signal;
use plasma_store::crash::{Point, Side};
use support::{Random, id, times};

const MEBIBYTE: u64 = 1 << 20;
const CAPACITY: u64 = 16 * MEBIBYTE;

/// How a process ends at a point, as the point is told, and as its parent sees it.
const ENDS: [(&str, Signal); 2] = [("abort", Signal::SIGABRT), KILL];
const KILL: (&str, Signal) = ("kill", Signal::SIGKILL);
/// A process dies at a point when it comes by for the first time, or for one of the next.
const MOST_HITS: u64 = 4;

/// One death: where, at which hit, and how.
#[derive(Debug)]
struct Death {
    point: Point,
    hit: u64,
    by: &'static str,
    signal: Signal,
}

impl Death {
    /// Has a program die like this.
    fn order(&self, command: &mut Command) {
        command.env("PLASMA_CRASH", format!("{:?} {} {}", self.point, self.hit, self.by));
    }

    /// Fails when it ended otherwise, or has never come to that point.
    fn check(&self, status: ExitStatus) {
        use std::os::unix::process::ExitStatusExt;
        let Self { point, hit, .. } = self;
        assert_eq!(status.signal(), Some(self.signal as i32), "{point:?}, hit {hit}: {status}");
    }

    /// Waits for the end.
    fn expect(&self, child: &mut Child) {
        self.check(child.wait().unwrap());
    }
}

/// Whether a point is to be played.
fn is_chosen(point: &Point) -> bool {
    std::env::var("PLASMA_CRASH_ONLY").map_or(true, |only| only == format!("{point:?}"))
}

/// All deaths of one side.
fn deaths(side: Side) -> impl Iterator<Item = Death> {
    let points =
        Point::ALL.iter().filter(move |(_, theirs)| *theirs == side).map(|(point, _)| *point).filter(is_chosen);
    let mut random = Random(7);
    points.flat_map(move |point| {
        let seed = random.next();
        ENDS.into_iter().flat_map(move |(by, signal)| {
            let mut random = Random(seed ^ signal as u64);
            (0..times(2, 100)).map(move |_| Death { point, hit: 1 + random.below(MOST_HITS), by, signal })
        })
    })
}

/// Bytes by which an object is known again.
fn pattern(n: u64, size: u64) -> Vec<u8> {
    (0..size).map(|at| (at ^ at >> 8).wrapping_mul(2 * n + 1) as u8).collect()
}
