//! Acquiring and taking with patience: a look, some looks without sleep, and then sleep until an alarm rings.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::client::lock;
use crate::client::ring::{AS_CREATED, Inner};
use crate::client::submit::awake_for;
use crate::error::{Error, Result};
use crate::shm::shared::ring::{Acquire, FREED, Handle, PUBLISHED, Take};

/// So long at least a wait stays awake in any case: about what it costs two processes that one sleeps and is woken.
const GLANCES: Duration = Duration::from_micros(5);
/// A line that is full is passed on in less. Where it stays so for that long, its words are wrong.
const MOST_CROWDED: Duration = Duration::from_secs(2);

impl Inner {
    pub(super) fn acquire(&self, timeout_ms: i64) -> Result<Handle> {
        self.check_usable()?;
        let timeout_ms = if timeout_ms == AS_CREATED { self.acquire_ms } else { timeout_ms };
        if let Some(handle) = self.acquired_at_once()? {
            return Ok(handle);
        }
        let look = || self.acquired(self.ring.acquire_or_repair()?);
        self.wait(FREED, timeout_ms, || self.acquired_at_once(), look)
    }

    /// A message, and where everybody reads all, the next one of this process.
    pub(super) fn take(&self, timeout_ms: i64) -> Result<Handle> {
        self.check_usable()?;
        self.join_readers()?;
        if let Some(handle) = self.taken(self.try_take()?)? {
            return Ok(handle);
        }
        self.wait(PUBLISHED, timeout_ms, || self.taken(self.try_take()?), || self.taken(self.take_or_repair()?))
    }

    /// Where everybody reads all, this process does from now on.
    pub(super) fn join_readers(&self) -> Result<()> {
        let mut reader = lock(&self.reader);
        if self.is_broadcast() && reader.is_none() {
            *reader = Some(self.ring.join()?);
        }
        Ok(())
    }

    pub(super) fn try_take(&self) -> Result<Take> {
        match lock(&self.reader).as_mut() {
            Some(reader) => self.ring.try_read(reader),
            None => self.ring.try_take(),
        }
    }

    fn take_or_repair(&self) -> Result<Take> {
        match self.try_take()? {
            Take::Nothing if self.ring.repair()? => self.try_take(),
            found => Ok(found),
        }
    }

    /// Whether a take would find anything, or tell that something is wrong.
    pub(super) fn is_worth_a_take(&self) -> bool {
        let _ = self.ring.repair();
        self.ring.is_worth_a_take(lock(&self.reader).as_ref()).unwrap_or(true)
    }

    /// A slot, if one is free now.
    pub(super) fn acquired_at_once(&self) -> Result<Option<Handle>> {
        self.acquired(self.ring.try_acquire()?)
    }

    fn acquired(&self, found: Acquire) -> Result<Option<Handle>> {
        match found {
            Acquire::Slot(handle) | Acquire::Dropped(handle) => Ok(Some(handle)),
            Acquire::Nothing => Ok(None),
            Acquire::Closed => Err(Error::Closed(self.id())),
            Acquire::Aborted => Err(Error::Aborted(self.id())),
        }
    }

    pub(super) fn taken(&self, found: Take) -> Result<Option<Handle>> {
        match found {
            Take::Message(handle) => Ok(Some(handle)),
            Take::Nothing => Ok(None),
            Take::End => Err(Error::Closed(self.id())),
            Take::Aborted => Err(Error::Aborted(self.id())),
        }
    }

    /// Glances for a while, longer where the connection is to stay awake, and then looks, which also repairs, before each sleep.
    fn wait(
        &self,
        alarm: usize,
        timeout_ms: i64,
        glance: impl Fn() -> Result<Option<Handle>>,
        look: impl Fn() -> Result<Option<Handle>>,
    ) -> Result<Handle> {
        let member = &self.shared.member;
        let (alarm, limit) = (member.control().alarm(alarm), member.limit(timeout_ms)?);
        let awake = member.connection().spin().max(GLANCES).min(limit.left());
        if timeout_ms != 0
            && let Some(found) = awake_for(awake, || limit.check_interrupted().and_then(|()| glance()).transpose())
        {
            return found;
        }
        alarm.wait(look, |was_signalled| {
            if timeout_ms == -1 && self.held.all_are_of_this_thread() {
                return Err(self.waits_for_itself());
            }
            limit.allow(was_signalled)
        })
    }

    fn waits_for_itself(&self) -> Error {
        let slots = self.ring.geometry().settings().slots;
        Error::Busy(format!("this thread has all {slots} slots of ring {}, and waits for one without limit", self.id()))
    }

    /// A millisecond, or until a slot is free; who publishes notes since when there is no room in line.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there has been none for too long.
    pub(super) fn let_others_finish(&self, since: &mut Option<Instant>) -> Result<()> {
        if since.get_or_insert_with(Instant::now).elapsed() > MOST_CROWDED {
            let text = format!("ring {} has had no room in line for {} s", self.id(), MOST_CROWDED.as_secs());
            return Err(Error::Corrupt(text));
        }
        let alarm = self.shared.member.control().alarm(FREED);
        alarm.sleep(alarm.begin(), Duration::from_millis(1));
        // The slot that is free now is for somebody else.
        alarm.notify_one();
        Ok(())
    }
}
