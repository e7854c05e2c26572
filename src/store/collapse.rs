//! The thread that gathers large objects in huge pages once they are sealed.
//!
//! Whoever maps such an object afterwards, or has it mapped already, does so with one entry for 2 MiB instead of 512. It takes
//! no privilege, and nothing fails when it does not work: then objects stay where they are.
//!
//! It begins a while after the seal. Who waited for an object reads it right then, and would be slowed down by what moves it; an
//! object that is gone by then has cost nothing.
//!
//! Pages are moved in pieces of 2 MiB that lie in one object, so that all of a piece has memory: the kernel would fill holes with
//! memory that nobody counts. Therefore who gives memory back says so before ([`Collapser::forget`]). The bytes themselves are never
//! touched here; a peer that gives pages back or cuts a file short cannot make this thread take a SIGBUS.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::shm::mapping::HUGE_PAGE;
use crate::store::filling::collapse;
use crate::transport::stream::SharedDescriptor;
use crate::transport::threads::spawn_without_signals;

/// Most pieces that wait: 8 GiB. What has waited longest is left as it is, then.
const MAX_WAITING: u64 = 4096;

/// How long the pieces of a store wait after the seal.
pub const DELAY: Duration = Duration::from_millis(500);

/// How much longer they wait at most while others come: until the next have their memory and bytes, the processor is theirs.
const MOST_MORE: Duration = Duration::from_millis(4500);

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Bytes that lie in huge pages now, or did already.
    pub bytes: u64,
    /// Pieces that the kernel left as they were.
    pub failures: u64,
}

/// A running thread. Dropping this ends it when its piece is done, which takes some milliseconds.
#[derive(Debug)]
pub struct Collapser {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with those who give it work.
#[derive(Debug, Default)]
struct Desk {
    delay: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Piece>,
    in_hand: Option<Place>,
    /// When nothing will have come for as long as pieces wait.
    calm_at: Option<Instant>,
    is_over: bool,
    done: Done,
}

/// Where a piece begins. Files are told apart by the number that the caller gives them.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: i32,
    offset: u64,
}

struct Piece {
    place: Place,
    /// Not before this time.
    due: Instant,
    /// A file that everybody else has let go of is not kept for this.
    file: Weak<dyn AsFd + Send + Sync>,
}

impl Collapser {
    /// Starts the thread. Pieces wait this long at least.
    ///
    /// # Errors
    /// [`Error::Io`] when there is none.
    pub fn start(delay: Duration) -> Result<Self> {
        let desk = Arc::new(Desk { delay, ..Desk::default() });
        let theirs = desk.clone();
        let thread = spawn_without_signals("plasma-collapse", move || theirs.work())?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Gathers what lies in `range` of a file, in pieces, when there is time for it. All of the range must have memory.
    pub fn give(&self, segment: i32, file: &SharedDescriptor, range: Range<u64>) {
        let end = range.end - range.end % HUGE_PAGE;
        let first = range.start.checked_next_multiple_of(HUGE_PAGE).unwrap_or(end);
        let first = first.max(end.saturating_sub(MAX_WAITING * HUGE_PAGE));
        let due = Instant::now() + self.desk.delay;
        let mut state = self.desk.lock();
        if state.is_over {
            return;
        }
        state.calm_at = Some(due);
        for offset in (first..end).step_by(HUGE_PAGE as usize) {
            if state.waiting.len() as u64 >= MAX_WAITING {
                state.waiting.pop_front();
            }
            state.waiting.push_back(Piece { place: Place { segment, offset }, due, file: Arc::downgrade(file) });
        }
        self.desk.changed.notify_all();
    }

    /// Leaves `range` alone from here on. If one of its pieces is in hand, this waits until that is done.
    pub fn forget(&self, segment: i32, range: &Range<u64>) {
        let mut state = self.desk.lock();
        state.waiting.retain(|piece| !piece.place.meets(segment, range));
        drop(self.desk.wait_for(state, segment, range));
    }

    /// Does `work` while no piece of a file is in hand; whoever looks for other users of its pages would find this thread, and wait.
    pub fn keep_off(&self, segment: i32, work: impl FnOnce()) {
        let state = self.desk.wait_for(self.desk.lock(), segment, &(0..u64::MAX));
        work();
        drop(state);
    }

    /// What was done so far.
    pub fn done(&self) -> Done {
        self.desk.lock().done
    }
}

impl Drop for Collapser {
    fn drop(&mut self) {
        self.desk.lock().is_over = true;
        self.desk.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that gathers objects in huge pages panicked");
        }
        let Done { bytes, failures } = self.done();
        log::debug!("{bytes} bytes were gathered in huge pages; {failures} times the kernel could not");
    }
}

impl Desk {
    fn work(&self) {
        while let Some(piece) = self.next() {
            let outcome = piece.file.upgrade().map(|file| piece.place.collapse(&file));
            self.put_down(outcome);
        }
    }

    /// Waits until a piece is due and takes it; `None` when all is over.
    fn next(&self) -> Option<Piece> {
        let mut state = self.lock();
        while !state.is_over {
            let left = state.due().map(|due| due.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.wait(state),
                Some(left) if left > Duration::ZERO => self.wait_at_most(state, left),
                Some(_) => {
                    let piece = state.waiting.pop_front();
                    state.in_hand = piece.as_ref().map(|piece| piece.place);
                    return piece;
                }
            };
        }
        None
    }

    /// Notes how it went; `None` when the file was gone. Where the first piece is refused for good, all are.
    fn put_down(&self, outcome: Option<Result<()>>) {
        let mut state = self.lock();
        state.in_hand = None;
        match outcome {
            None => {}
            Some(Ok(())) => state.done.bytes += HUGE_PAGE,
            Some(Err(error)) => {
                if state.done == Done::default() && is_for_good(&error) {
                    log::info!("objects are not gathered in huge pages, which nothing else depends on: {error}");
                    state.is_over = true;
                    state.waiting.clear();
                }
                state.done.failures += 1;
            }
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what is in hand is none of this range.
    fn wait_for<'a>(&self, state: MutexGuard<'a, State>, segment: i32, range: &Range<u64>) -> MutexGuard<'a, State> {
        let busy = |state: &mut State| state.in_hand.is_some_and(|place| place.meets(segment, range));
        self.changed.wait_while(state, busy).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_at_most<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When the first piece is to be gathered: when its time has come, and no others have come for as long, or not too late.
    fn due(&self) -> Option<Instant> {
        let due = self.waiting.front()?.due;
        Some(self.calm_at.map_or(due, |calm| calm.min(due + MOST_MORE).max(due)))
    }
}

impl Place {
    /// Whether something of the piece here lies in a range.
    fn meets(&self, segment: i32, range: &Range<u64>) -> bool {
        self.segment == segment && self.offset < range.end && range.start < self.offset + HUGE_PAGE
    }

    fn collapse(&self, file: &SharedDescriptor) -> Result<()> {
        collapse(file, self.offset..self.offset + HUGE_PAGE)
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(f)
    }
}

/// Whether the kernel, or this kind of file, knows no such thing.
fn is_for_good(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.raw_os_error() == Some(Errno::EINVAL as i32))
}

#[cfg(test)]
mod tests;
