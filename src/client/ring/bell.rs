//! A descriptor that can be read when a take is worth a try, for event loops.
//!
//! A thread sleeps where takes sleep, and rings when there is a message. Then it waits until somebody tried and found nothing.
#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use crate::client::bells::{new_bell, ring};
use crate::client::lock;
use crate::client::ring::Inner;
use crate::crash::{self, Point};
use crate::error::Result;
use crate::shm::shared::ring::PUBLISHED;
use crate::transport::threads::spawn_without_signals;

/// How long the thread sleeps at most before it looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(100);

/// The descriptor, and the thread that rings.
#[derive(Debug)]
pub(super) struct RingBell {
    desk: Arc<Desk>,
    inner: Weak<Inner>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Desk {
    descriptor: EventFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The thread looks for a message.
    Listening,
    /// It has rung.
    Rung,
    /// Nobody wants to know any more.
    Over,
}

impl RingBell {
    /// Starts listening.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start(inner: &Arc<Inner>) -> Result<Self> {
        let desk =
            Arc::new(Desk { descriptor: new_bell()?, state: Mutex::new(State::Listening), changed: Condvar::new() });
        let (theirs, inner) = (desk.clone(), Arc::downgrade(inner));
        let of_thread = inner.clone();
        let thread = spawn_without_signals("plasma-ring", move || theirs.work(&of_thread))?;
        Ok(Self { desk, inner, thread: Some(thread) })
    }

    pub fn descriptor(&self) -> i32 {
        self.desk.descriptor.as_raw_fd()
    }

    /// Somebody looked and found nothing.
    pub fn listen(&self) {
        let mut state = lock(&self.desk.state);
        if *state == State::Rung {
            // It counts from 0 again; that it was 0 is no harm.
            let _ = self.desk.descriptor.read();
            *state = State::Listening;
            self.desk.changed.notify_all();
        }
    }
}

impl Drop for RingBell {
    fn drop(&mut self) {
        *lock(&self.desk.state) = State::Over;
        self.desk.changed.notify_all();
        // It may sleep where takes do.
        self.inner.upgrade().into_iter().for_each(|inner| inner.shared.member.control().alarm(PUBLISHED).notify_all());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of a ring's descriptor panicked");
        }
    }
}

impl Desk {
    fn work(&self, inner: &Weak<Inner>) {
        loop {
            let state = *lock(&self.state);
            match (state, inner.upgrade()) {
                (_, None) => return,
                // It may have been the only one who was woken for a message.
                (State::Over, Some(inner)) => return inner.shared.member.control().alarm(PUBLISHED).notify_one(),
                (State::Listening, Some(inner)) => self.listen(&inner),
                (State::Rung, Some(_)) => self.await_change(),
            }
        }
    }

    /// Rings if a take is worth a try, also for an error that it would tell.
    fn listen(&self, inner: &Inner) {
        let alarm = inner.shared.member.control().alarm(PUBLISHED);
        let is_worth_it = || inner.is_worth_a_take() || inner.shared.member.connection().check_alive().is_err();
        if !is_worth_it() {
            let since = alarm.begin();
            if !is_worth_it() {
                // Who ends this says so before it rings.
                if *lock(&self.state) == State::Listening {
                    alarm.sleep(since, SLICE);
                }
                return;
            }
        }
        let mut state = lock(&self.state);
        if *state == State::Listening {
            *state = State::Rung;
            ring(&self.descriptor);
        }
        drop(state);
        crash::at(Point::PollRung);
        // Another may sleep for the same message, and be the one who takes it.
        alarm.notify_one();
    }

    fn await_change(&self) {
        let state = lock(&self.state);
        drop(
            self.changed
                .wait_timeout_while(state, SLICE, |state| *state == State::Rung)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}
