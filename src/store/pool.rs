//! The thread that makes files with memory ready before anybody needs them.
//!
//! New memory has to be cleared, which takes longer than to fill it with an object. So files for leases to come lie ready here, with
//! memory throughout and in huge pages where that can be, and are made anew while their successors' bytes are still being copied.
//! What is to be ready, and whether there may be memory for it, is the ledger's business (`stock`). Nothing depends on
//! this thread: what is not ready is made without it.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::crash::{self, Point};
use crate::error::Result;
use crate::shm::mapping::HUGE_PAGE;
use crate::shm::one_writer::OneWriter;
use crate::store::filling::{Filler, collapse, whole_pieces};
use crate::store::space::SLICE;
use crate::store::stock::Kind;
use crate::transport::fork_guard::Guarded;
use crate::transport::threads::spawn_without_signals;

/// After what time it is tried again when there was no memory.
const PAUSE: Duration = Duration::from_secs(5);
/// How long nobody must have taken a file before those that are left are gathered in huge pages, as that may take long.
const CALM: Duration = Duration::from_secs(1);

/// The file of a lease.
pub type LeaseFile = Arc<Guarded<OneWriter>>;

/// Makes one of `len` bytes, without memory.
///
/// # Errors
/// As for [`OneWriter::create_sparse`].
pub fn new_file(len: u64) -> Result<LeaseFile> {
    Ok(Arc::new(Guarded::open(|| OneWriter::create_sparse("plasma_lease", len))?))
}

/// A running thread. Dropping this ends it when its piece is done, which takes some milliseconds.
#[derive(Debug)]
pub struct Pool {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with those who order files and take them.
#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    next_number: u64,
    /// The entry that the thread is at.
    in_hand: Option<u64>,
    last_taken: Option<Instant>,
    /// There was no memory: not before this time.
    not_before: Option<Instant>,
    is_over: bool,
}

/// A file that was ordered.
#[derive(Debug)]
struct Entry {
    number: u64,
    kind: Kind,
    /// None before its turn.
    file: Option<LeaseFile>,
    /// Up to where it has memory.
    backed: u64,
    /// Up to where that lies in huge pages, or cannot.
    gathered: u64,
}

/// A piece of work.
#[derive(Debug)]
struct Job {
    number: u64,
    len: u64,
    file: Option<LeaseFile>,
    range: Range<u64>,
    /// It has memory already.
    is_backed: bool,
}

/// How far a job came.
#[derive(Debug)]
struct Outcome {
    file: Option<LeaseFile>,
    range: Range<u64>,
    is_gathered: bool,
}

impl Pool {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] when there is none.
    pub fn start() -> Result<Self> {
        let desk = Arc::<Desk>::default();
        let theirs = desk.clone();
        let thread = spawn_without_signals("plasma-pool", move || theirs.work())?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Has a file made ready.
    pub fn order(&self, kind: Kind) {
        let mut state = self.desk.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.entries.push(Entry { number, kind, file: None, backed: 0, gathered: 0 });
        self.desk.changed.notify_all();
    }

    /// A file of this kind that is ready, if there is one.
    pub fn take(&self, kind: Kind) -> Option<LeaseFile> {
        let mut state = self.desk.lock();
        state.last_taken = Some(Instant::now());
        let ready = state.entries.iter().filter(|entry| entry.kind == kind && entry.backed == kind.backed);
        let number = ready.max_by_key(|entry| entry.gathered)?.number;
        self.desk.remove(state, number)
    }

    /// One file of this kind that was ordered is not wanted any more. Its memory is free when this returns.
    pub fn cancel(&self, kind: Kind) {
        let state = self.desk.lock();
        let ordered = state.entries.iter().filter(|entry| entry.kind == kind);
        if let Some(number) = ordered.min_by_key(|entry| entry.backed).map(|entry| entry.number) {
            drop(self.desk.remove(state, number));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.desk.lock().is_over = true;
        self.desk.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that makes memory ready panicked");
        }
    }
}

impl Desk {
    fn work(&self) {
        let mut filler = Filler::default();
        while let Some(job) = self.next() {
            let (number, outcome) = (job.number, job.run(&mut filler));
            crash::at(Point::PoolFileReady);
            self.put_down(number, outcome);
        }
    }

    /// Waits until there is something to do; `None` when all is over.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            state = match state.choose(now) {
                Ok(job) => {
                    state.in_hand = Some(job.number);
                    crash::at(Point::PoolFileBegun);
                    return Some(job);
                }
                Err(Some(time)) => {
                    let left = time.saturating_duration_since(now);
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                Err(None) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        None
    }

    fn put_down(&self, number: u64, outcome: Result<Outcome>) {
        let mut state = self.lock();
        match outcome {
            Ok(outcome) => state.note(number, outcome),
            Err(error) => {
                log::info!("no memory is made ready for now: {error}");
                state.not_before = Instant::now().checked_add(PAUSE);
            }
        }
        state.in_hand = None;
        self.changed.notify_all();
    }

    /// Takes an entry away from the thread, and its file when that has put it down.
    fn remove(&self, mut state: MutexGuard<'_, State>, number: u64) -> Option<LeaseFile> {
        let index = state.entries.iter().position(|entry| entry.number == number)?;
        let entry = state.entries.swap_remove(index);
        let is_in_hand = |state: &mut State| state.in_hand == Some(number);
        drop(self.changed.wait_while(state, is_in_hand).unwrap_or_else(PoisonError::into_inner));
        entry.file
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What to do next, or when to look again: what is not ready comes first, then what can be gathered.
    fn choose(&self, now: Instant) -> Result<Job, Option<Instant>> {
        if let Some(time) = self.not_before.filter(|time| now < *time) {
            return Err(Some(time));
        }
        if let Some(entry) = self.entries.iter().find(|entry| entry.backed < entry.kind.backed) {
            let range = entry.backed..entry.kind.backed.min(entry.backed + SLICE);
            return Ok(entry.job(range, false));
        }
        let entry = self.entries.iter().find(|entry| entry.gathered < entry.kind.backed).ok_or(None)?;
        match self.last_taken.and_then(|taken| taken.checked_add(CALM)).filter(|time| now < *time) {
            Some(time) => Err(Some(time)),
            None => Ok(entry.job(entry.gathered..entry.kind.backed.min(entry.gathered + HUGE_PAGE), true)),
        }
    }

    /// Notes how far an entry came, if it is still there.
    fn note(&mut self, number: u64, Outcome { file, range, is_gathered }: Outcome) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) else { return };
        entry.file = file;
        entry.backed = entry.backed.max(range.end);
        if is_gathered && entry.gathered == range.start {
            entry.gathered = range.end;
        }
    }
}

impl Entry {
    fn job(&self, range: Range<u64>, is_backed: bool) -> Job {
        Job { number: self.number, len: self.kind.len, file: self.file.clone(), range, is_backed }
    }
}

impl Job {
    fn run(self, filler: &mut Filler) -> Result<Outcome> {
        let Self { len, file, range, is_backed, .. } = self;
        let file = file.map_or_else(|| new_file(len), Ok)?;
        let is_gathered = if is_backed {
            // What cannot be gathered stays as it is.
            let _ = collapse(&file, whole_pieces(&range));
            true
        } else {
            filler.fill(&file, range.clone())?
        };
        Ok(Outcome { file: Some(file), range, is_gathered })
    }
}

#[cfg(test)]
mod tests;
