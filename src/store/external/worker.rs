//! The thread that works an external store, so that the store's own thread never waits for it.
//!
//! Jobs wait in a queue that the rules bound: every put and get has room in the segment, and every delete was an object. What
//! became of them comes back in another, and a bell in the event loop rings.
#![forbid(unsafe_code)]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use crate::error::{Error, Result};
use crate::shm::segment::Segment;
use crate::store::engine::{Job, Work};
use crate::store::external::{Contents, ExternalStore};
use crate::transport::fork_guard::Guarded;
use crate::transport::threads::spawn_without_signals;

/// How long the end of the store waits for a call that is under way.
const PATIENCE: Duration = Duration::from_secs(2);

/// The end of a put or a get: its number, and how it went.
pub type Done = (u64, Result<()>);

/// A running thread. Dropping this ends it, without what still waits in its queue.
pub struct Worker {
    jobs: Option<Sender<Order>>,
    done: Receiver<Done>,
    bell: Arc<Guarded<EventFd>>,
    is_over: Arc<AtomicBool>,
    /// Nothing ever comes; it breaks when the thread ends.
    alive: Receiver<()>,
}

/// A job, and the segment that it reads or writes.
type Order = (Job, Arc<Guarded<Segment>>);

/// What the thread has.
struct Workplace {
    store: Box<dyn ExternalStore>,
    jobs: Receiver<Order>,
    done: Sender<Done>,
    bell: Arc<Guarded<EventFd>>,
    is_over: Arc<AtomicBool>,
}

impl Worker {
    /// Starts the thread for `store`, which rings `bell` when something is done.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no thread.
    pub fn start(store: Box<dyn ExternalStore>, bell: Arc<Guarded<EventFd>>) -> Result<Self> {
        let ((jobs, to_do), (finished, done)) = (channel(), channel());
        let is_over = Arc::new(AtomicBool::new(false));
        let (life, alive) = channel();
        let place = Workplace { store, jobs: to_do, done: finished, bell: bell.clone(), is_over: is_over.clone() };
        spawn_without_signals("plasma-external", move || {
            place.work();
            drop(life);
        })?;
        Ok(Self { jobs: Some(jobs), done, bell, is_over, alive })
    }

    /// What rings when [`Worker::done`] has something.
    pub fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// Queues a job about an object in this segment.
    pub fn give(&self, job: Job, segment: Arc<Guarded<Segment>>) {
        if self.jobs.as_ref().is_none_or(|jobs| jobs.send((job, segment)).is_err()) {
            log::error!("the thread of the external store is gone");
        }
    }

    /// What is done since the last call.
    pub fn done(&self) -> Vec<Done> {
        // First the bell: what comes after this rings it again.
        let _ = self.bell.read();
        self.done.try_iter().collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.jobs = None;
        if self.alive.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            log::warn!("a call of the external store has not ended within {PATIENCE:?}, and is left to itself");
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Workplace {
    fn work(mut self) {
        while let Ok((job, segment)) = self.jobs.recv() {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| self.call(job, &segment)));
            let outcome = outcome.unwrap_or_else(|_| Err(Error::Unsupported("the external store panicked".into())));
            match (job.work, outcome) {
                (Work::Delete, Ok(())) => {}
                (Work::Delete, Err(error)) => {
                    log::warn!("object {} is left in the external store: {error}", job.id);
                }
                (_, outcome) => self.tell((job.number, outcome)),
            }
        }
    }

    fn call(&mut self, job: Job, segment: &Segment) -> Result<()> {
        match job.work {
            Work::Put(location) => self.store.put(job.id, &Contents::new(segment, location)),
            Work::Get(location) => self.store.get(job.id, &Contents::new(segment, location)),
            Work::Delete => self.store.delete(job.id),
        }
    }

    /// The loop may be over; then nobody has to know.
    fn tell(&self, done: Done) {
        if self.done.send(done).is_ok()
            && let Err(errno) = self.bell.write(1)
        {
            log::error!("the end of a job of the external store could not be told: {errno}");
        }
    }
}
