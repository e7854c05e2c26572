//! Several messages at once, which are copied: one wake for all of them, and for Python one call.
#![forbid(unsafe_code)]

use crate::client::ring::held::Purpose;
use crate::client::ring::{Inner, TensorRing, header_of};
use crate::error::Result;
use crate::shm::shared::ring::{Handle, Header, Take};
use crate::tensor::layout::Layout;

/// Slots that one call has at a time.
const AT_ONCE: usize = 64;

impl TensorRing {
    /// Publishes a copy of a tensor: `fill` is given where its elements go, row-major.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire) and [`publish`](Self::publish); what `fill` says.
    pub fn put(&self, layout: &Layout, timeout_ms: i64, fill: impl FnOnce(*mut u8) -> Result<()>) -> Result<()> {
        let inner = &self.inner;
        let header = header_of(inner.message_layout(Some(layout))?);
        inner.ring.check_header(&header)?;
        let handle = inner.acquire(timeout_ms)?;
        let filled = inner.filled(handle, fill);
        match filled {
            Ok(()) => inner.publish(handle, &header),
            Err(error) => inner.give_back(handle, Purpose::Write).and(Err(error)),
        }
    }

    /// Publishes copies of so many messages, each of the ring's type and shape; `fill` is given the number of a message and where it
    /// goes. Returns how many were published, with the reason if they are fewer.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where each message has a type and shape of its own.
    pub fn put_many(
        &self,
        count: usize,
        timeout_ms: i64,
        mut fill: impl FnMut(usize, *mut u8) -> Result<()>,
    ) -> Result<(usize, Result<()>)> {
        let layout = self.fixed_layout()?;
        let mut done = 0;
        while done < count {
            let most = (count - done).min(AT_ONCE);
            match self.inner.put_some(layout, most, timeout_ms, |index, place| fill(done + index, place)) {
                (some, Ok(())) => done += some,
                (some, error) => return Ok((done + some, error)),
            }
        }
        Ok((done, Ok(())))
    }

    /// Takes copies of so many messages at most: waits for the first, and takes with it what is there. `read` is given the number of a
    /// message and where it lies. Returns how many.
    ///
    /// # Errors
    /// As for [`take`](Self::take); [`Error::InvalidArgument`] where each message has a type and shape of its own.
    pub fn take_many(
        &self,
        most: usize,
        timeout_ms: i64,
        mut read: impl FnMut(usize, *const u8) -> Result<()>,
    ) -> Result<usize> {
        let inner = &self.inner;
        self.fixed_layout()?;
        if most == 0 {
            return Ok(0);
        }
        let mut next = Some(self.found(inner.take(timeout_ms))?);
        let mut done = 0;
        while let Some(handle) = next.take() {
            let is_read = inner.place(handle, Purpose::Read).and_then(|place| read(done, place.cast_const()));
            inner.give_back(handle, Purpose::Read)?;
            is_read?;
            done += 1;
            // An error is the next call's, which gets it at once: these are read.
            if done < most
                && let Ok(Take::Message(handle)) = inner.try_take()
            {
                next = Some(handle);
            }
        }
        Ok(done)
    }
}

impl Inner {
    fn place(&self, handle: Handle, purpose: Purpose) -> Result<*mut u8> {
        self.guard(handle, Some(purpose))?;
        Ok(self.address(handle.slot()))
    }

    fn filled(&self, handle: Handle, fill: impl FnOnce(*mut u8) -> Result<()>) -> Result<()> {
        let filled = self.place(handle, Purpose::Write).and_then(fill);
        self.guard(handle, None).and(filled)
    }

    /// Waits for one slot and takes those with it that are free.
    fn put_some(
        &self,
        layout: &Layout,
        most: usize,
        timeout_ms: i64,
        mut fill: impl FnMut(usize, *mut u8) -> Result<()>,
    ) -> (usize, Result<()>) {
        let header = header_of(layout);
        let mut messages = Vec::with_capacity(most);
        let mut outcome = Ok(());
        while outcome.is_ok() && messages.len() < most {
            let acquired = match messages.len() {
                0 => self.acquire(timeout_ms).map(Some),
                _ => self.acquired_at_once(),
            };
            outcome = match acquired {
                Ok(Some(handle)) => {
                    let filled = self.filled(handle, |place| fill(messages.len(), place));
                    match filled {
                        Ok(()) => messages.push((handle, header)),
                        Err(_) => drop(self.give_back(handle, Purpose::Write)),
                    }
                    filled
                }
                Ok(None) => break,
                Err(error) => Err(error),
            };
        }
        let (published, last) = self.publish_all(&messages);
        (published, last.and(outcome))
    }

    fn publish_all(&self, messages: &[(Handle, Header<'_>)]) -> (usize, Result<()>) {
        let (mut done, mut crowded, mut outcome) = (0, None, Ok(()));
        while outcome.is_ok()
            && let Some(left) = messages.get(done..).filter(|left| !left.is_empty())
        {
            let (published, next) = self.ring.publish_many(left);
            done += published;
            outcome = self.goes_on(next, &mut crowded);
        }
        // The first of them may be free already, and then is not given back again.
        messages.iter().skip(done).for_each(|(handle, _)| drop(self.ring.abandon(*handle)));
        (done, outcome)
    }
}
