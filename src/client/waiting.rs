//! Waiting for one object that is not sealed yet, by a bell in shared memory: the store rings it and nothing else happens; the
//! object is then got as if it had been there all along.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::client::buffer::Buffer;
use crate::client::reading::Read;
use crate::client::submit::{Ring, SLICE, Whose};
use crate::client::{Client, GetOptions, NO_BYTES};
use crate::crash::{self, Point};
use crate::error::Result;
use crate::object::ObjectId;
use crate::shm::ring::record::Record;

/// How a wait by a bell ended.
pub(super) enum Waited<'a> {
    /// With the object, or without it when its time was over.
    Ended(Option<Buffer>),
    /// The store has to be asked, for so many milliseconds, -1 for no limit; before the bell is given back, with which a hold may go.
    Ask(i64, Option<Bell<'a>>),
}

/// A bell while its thread has it.
pub(super) struct Bell<'a> {
    client: &'a Client,
    ring: &'a Ring,
    number: usize,
}

impl Client {
    /// Waits for an object that is not there.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or what the connection says.
    pub(super) fn wait_by_bell(&self, id: ObjectId, timeout_ms: i64, options: GetOptions) -> Result<Waited<'_>> {
        let interrupts = self.connection.interrupts();
        let end = u64::try_from(timeout_ms).ok().and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let ring = self.connection.ring().filter(|ring| !ring.is_crowded());
        let bell = ring.and_then(|ring| ring.seats.take().map(|number| Bell { client: self, ring, number }));
        let Some(bell) = bell else { return Ok(Waited::Ask(timeout_ms, None)) };
        let doze = bell.ring.bell(bell.number);
        let old = doze.now();
        let want = Record::Want { id, bell: bell.number as u64 };
        self.connection.submit(bell.ring, Whose::Nobodys, |_| want, NO_BYTES)?;
        crash::at(Point::WantSubmitted);
        let is_rung = || (doze.now() != old).then_some(());
        if bell.ring.spin_until(is_rung).is_none() {
            while doze.now() == old {
                self.connection.check_interrupted(interrupts, false)?;
                let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return self.read(id, options.private).map(|read| Waited::Ended(read.into_buffer()));
                }
                let was_signalled = doze.begin(old) && doze.sleep(old, left.min(SLICE));
                if doze.now() == old {
                    self.connection.check_interrupted(interrupts, was_signalled)?;
                    self.connection.check_alive()?;
                }
            }
        }
        crash::at(Point::BellHeard);
        // The store holds it until the bell is given back.
        match self.read_held(id, options.private)? {
            Read::Buffer(buffer) => {
                crash::at(Point::BellKept);
                Ok(Waited::Ended(Some(buffer)))
            }
            // Somewhere else than in the index.
            _ => Ok(Waited::Ask(remaining(timeout_ms, end), Some(bell))),
        }
    }
}

/// Milliseconds that are left, rounded up; -1 for no limit.
fn remaining(timeout_ms: i64, end: Option<Instant>) -> i64 {
    let Some(end) = end else { return timeout_ms.min(-1) };
    let left = end.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    i64::try_from(left.as_millis()).unwrap_or(i64::MAX)
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        let unwant = Record::Unwant { bell: self.number as u64 };
        // Fails only when the store is gone, and everything it was to ring with it.
        let _ = self.client.connection.submit(self.ring, Whose::Nobodys, |_| unwant, NO_BYTES);
        self.ring.end_waiting(self.number);
        self.ring.seats.give_back(self.number);
    }
}
