//! Requests through shared memory: written into this client's ring, where the store finds them. While the store is awake submitting takes no
//! system call, else one to wake it.
//!
//! One thread writes at a time. Who waits for what became of a record sleeps on that record alone. Records that nobody waits for have
//! an outcome only if they were refused; that they are done the store says of many at once. They are looked through by whoever needs
//! room, in their order, since their places are used again in that order; those that were refused are kept until somebody asks
//! ([`Connection::flush`]).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::bells::Seats;
use crate::client::connection::{Connection, Patience};
use crate::client::granted::{Room, Rooms};
use crate::client::watching::Watches;
use crate::client::{lock, refused, unexpected};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::protocol::{Refusal, Reply, Request};
use crate::shm::ring::doze::Doze;
use crate::shm::ring::files::{Staging, open_ring};
use crate::shm::ring::record::{Outcome, Record};
use crate::shm::ring::submitter::Submitter;
use crate::shm::ring::{SLOTS, STAGING_BYTES};

/// How long a thread sleeps before it looks whether the store is there at all.
pub(super) const SLICE: Duration = Duration::from_millis(100);
/// How often a thread that stays awake looks before it lets others run.
const SPINS: usize = 256;
/// Objects that could not be stored and that are kept for the next flush; of more nobody is told.
const MOST_FAILED: usize = 1 << 16;
/// Staged objects begin at a new line.
const STAGED_ALIGNMENT: u64 = 64;

/// A client's ring.
pub struct Ring {
    submitter: Submitter,
    staging: Staging,
    writing: Mutex<Writing>,
    /// For each place the number, plus one, of the last record whose outcome was read by who waited for it.
    taken: Vec<AtomicU64>,
    /// How long a thread that waits stays awake.
    spin: Duration,
    /// Which bells threads of this process wait by.
    pub(super) seats: Seats,
    pub(super) watches: Watches,
    pub(super) rooms: Rooms,
}

/// What whoever writes next has to know.
#[derive(Debug, Default)]
struct Writing {
    /// The number of the next record.
    next: u64,
    under_way: VecDeque<UnderWay>,
    /// Staged bytes, counted from the beginning: written, and done with.
    staged: u64,
    unstaged: u64,
    failed: Vec<(ObjectId, Error)>,
}

impl Writing {
    /// Takes room for so many bytes, and says where they go, if a record has a place and they have room.
    fn take_room(&mut self, len: u64) -> Option<u64> {
        let after = match (self.staged % STAGING_BYTES, len) {
            (_, 0) => self.staged,
            (at, _) if at + len <= STAGING_BYTES => self.staged + len,
            // It would not lie in one piece.
            (at, _) => self.staged + STAGING_BYTES - at + len,
        };
        let has_room = self.under_way.len() < SLOTS && after - self.unstaged <= STAGING_BYTES;
        has_room.then(|| {
            self.staged = after.next_multiple_of(STAGED_ALIGNMENT);
            (after - len) % STAGING_BYTES
        })
    }
}

/// A record whose place is not free yet.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    number: u64,
    whose: Whose,
    /// Staged bytes, its own included.
    staged: u64,
}

/// Who is interested in what becomes of a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    /// A thread waits for it.
    Waited,
    /// Whoever flushes, if the object is refused. It comes whole, so there is nothing else to say of it.
    Put(ObjectId),
    /// Whoever flushes, if the object is refused; and there may be room for the next.
    Flushed(ObjectId),
    /// The same, of an object in room that was granted.
    Published(ObjectId, Room),
    /// Nobody.
    Nobodys,
}

impl Ring {
    /// Asks the store for a ring.
    pub(super) fn open(connection: &Connection, spin: Duration) -> Result<Self> {
        let patience = Patience::of_get(0);
        let (reply, descriptors) = connection.call_with_descriptors(&Request::Ring { mapped: false }, patience)?;
        let Ok([submissions, outcomes, door]) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return Err(not_given(reply));
        };
        crash::at(Point::RingGiven);
        let (submitter, grantee, staging) = open_ring(&submissions, &outcomes)?;
        crash::at(Point::RingMapped);
        match connection.call(&Request::Ring { mapped: true }, patience)? {
            Reply::Ring { outcome: Ok(false) } => {}
            other => return Err(not_given(other)),
        }
        let taken = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        let (watches, rooms) = (Watches::new(door), Rooms::new(grantee));
        Ok(Self { submitter, staging, writing: Mutex::default(), taken, spin, seats: Seats::default(), watches, rooms })
    }

    /// To sleep until a bell is rung.
    pub(super) fn bell(&self, bell: usize) -> Doze<'_> {
        self.submitter.until_rung(bell)
    }

    /// The thread that waited for a bell does so no more.
    pub(super) fn end_waiting(&self, bell: usize) {
        self.submitter.end_waiting(bell);
    }

    /// The bells without a thread that were rung since so many were, and how many were by now; `None` when it may have been any.
    pub(super) fn rung_since(&self, before: u64) -> (Option<Vec<u64>>, u64) {
        self.submitter.rung_since(before)
    }

    /// Ends the sleep of all threads that wait by a bell. Async-signal-safe.
    pub(super) fn shake(&self) {
        self.seats.taken().for_each(|bell| self.bell(bell).shake());
    }

    /// Whether so much is under way that whoever submits may soon have to wait: the store is slow, or stopped.
    pub(super) fn is_crowded(&self) -> bool {
        let mut writing = self.lock();
        self.reap(&mut writing);
        writing.under_way.len() > SLOTS / 2
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        lock(&self.writing)
    }

    /// What became of a record that somebody waits for; its place is free then.
    fn take(&self, number: u64) -> Option<Outcome> {
        let outcome = self.submitter.outcome(number)?;
        crash::at(Point::OutcomeRead);
        self.leave(number);
        Some(outcome)
    }

    /// Nobody waits for a record any more.
    fn leave(&self, number: u64) {
        if let Some(taken) = self.taken.get(number as usize % SLOTS) {
            taken.store(number + 1, Ordering::Release);
        }
    }

    fn was_taken(&self, number: u64) -> bool {
        self.taken.get(number as usize % SLOTS).is_some_and(|taken| taken.load(Ordering::Acquire) > number)
    }

    /// Begins to use room that was granted for so many bytes, also with outcomes that nobody has looked at yet.
    pub(super) fn take_room(&self, size: u64) -> Option<Room> {
        self.rooms.take(size).or_else(|| {
            self.reap(&mut self.lock());
            self.rooms.take(size)
        })
    }

    /// What became of an object that somebody flushes for.
    fn note(&self, writing: &mut Writing, id: ObjectId, outcome: &Outcome) {
        self.rooms.keep(outcome);
        if writing.failed.len() < MOST_FAILED {
            writing.failed.extend(judged(outcome).err().map(|refusal| (id, refused(id, refusal))));
        }
    }

    /// Frees the places of records that are done, in their order.
    fn reap(&self, writing: &mut Writing) {
        let served = self.submitter.served();
        while let Some(UnderWay { number, whose, staged }) = writing.under_way.front().copied() {
            if whose.is_unawaited() && number >= served {
                return;
            }
            match (self.submitter.outcome(number), whose) {
                (_, Whose::Waited) if !self.was_taken(number) => return,
                (None, Whose::Flushed(_) | Whose::Published(..)) => return,
                (Some(outcome), Whose::Put(id) | Whose::Flushed(id)) => self.note(writing, id, &outcome),
                (Some(outcome), Whose::Published(id, room)) => {
                    if outcome.refusal != 0 {
                        self.rooms.put_back(room);
                    }
                    self.note(writing, id, &outcome);
                }
                _ => {}
            }
            writing.unstaged = staged;
            writing.under_way.pop_front();
        }
    }
}

impl Whose {
    /// Whether the store says of many such records at once that they are done, and has an outcome only for those that it refuses.
    fn is_unawaited(self) -> bool {
        matches!(self, Self::Put(_) | Self::Nobodys)
    }
}

/// Whether a record was done. A refusal that is not known is one all the same.
pub(super) fn judged(outcome: &Outcome) -> Result<(), Refusal> {
    match outcome.refusal {
        0 => Ok(()),
        code => Err(Refusal::from_code(code).unwrap_or(Refusal::OutOfMemory)),
    }
}

impl Connection {
    /// Submits a record, with the bytes of its object if it has some. Returns its number. May wait for room.
    ///
    /// # Errors
    /// [`Error::Disconnected`]. The bytes are at most [`MOST_STAGED`](crate::shm::ring::MOST_STAGED).
    pub(super) fn submit(
        &self,
        ring: &Ring,
        whose: Whose,
        record: impl FnOnce(u64) -> Record,
        bytes: [&[u8]; 2],
    ) -> Result<u64> {
        self.settle_cancelled()?;
        let len = bytes.iter().map(|bytes| bytes.len() as u64).sum();
        let mut writing = ring.lock();
        let at = self.wait_for_room(ring, &mut writing, len)?;
        let [data, metadata] = bytes;
        ring.staging.write(at, data)?;
        if !metadata.is_empty() {
            ring.staging.write(at + data.len() as u64, metadata)?;
        }
        crash::at(Point::BytesStaged);
        let number = writing.next;
        writing.next += 1;
        let staged = writing.staged;
        writing.under_way.push_back(UnderWay { number, whose, staged });
        match whose.is_unawaited() {
            true => ring.submitter.submit_unawaited(number, &record(at)),
            false => ring.submitter.submit(number, &record(at)),
        }
        drop(writing);
        self.reader().into_iter().for_each(|reader| reader.wake_store());
        Ok(number)
    }

    /// Waits until a record has a place and its bytes have room. Returns where they go.
    fn wait_for_room(&self, ring: &Ring, writing: &mut Writing, len: u64) -> Result<u64> {
        if let Some(at) = writing.take_room(len) {
            return Ok(at);
        }
        loop {
            // What is done may still be in the way.
            ring.reap(writing);
            if let Some(at) = writing.take_room(len) {
                return Ok(at);
            }
            // Half of them, so that neither side waits for the other again at once.
            self.wait_until_done(ring, writing, writing.under_way.len() / 2)?;
        }
    }

    /// Waits until so many records, and the one behind them, are done. Frees the places of those whose outcomes were read.
    fn wait_until_done(&self, ring: &Ring, writing: &mut Writing, before: usize) -> Result<()> {
        let Some(&UnderWay { number, whose, .. }) = writing.under_way.get(before) else { return Ok(()) };
        if whose.is_unawaited() {
            let is_served = || (ring.submitter.served() > number).then_some(());
            let waited = self.stay(ring, ring.submitter.until_served(number + 1), is_served);
            ring.submitter.end_awaiting();
            waited?;
        } else {
            self.stay(ring, ring.submitter.until_done(number), || ring.submitter.outcome(number))?;
        }
        let first = writing.under_way.front().map(|first| first.number);
        ring.reap(writing);
        if writing.under_way.front().map(|first| first.number) == first {
            // Whoever waits for it has not read it yet.
            thread::yield_now();
        }
        Ok(())
    }

    /// Submits a record and waits for what becomes of it.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub(super) fn submit_and_wait(
        &self,
        ring: &Ring,
        record: impl FnOnce(u64) -> Record,
        bytes: [&[u8]; 2],
    ) -> Result<Outcome> {
        let number = self.submit(ring, Whose::Waited, record, bytes)?;
        let outcome = self.stay(ring, ring.submitter.until_done(number), || ring.take(number));
        outcome.inspect_err(|_| ring.leave(number))
    }

    /// Waits until `done` has something, which comes with a change of the word.
    fn stay<T>(&self, ring: &Ring, doze: Doze<'_>, done: impl Fn() -> Option<T>) -> Result<T> {
        if let Some(done) = ring.spin_until(&done) {
            return Ok(done);
        }
        loop {
            let old = doze.now();
            if let Some(done) = done() {
                return Ok(done);
            }
            if doze.begin(old) {
                doze.sleep(old, SLICE);
            }
            if let Some(done) = done() {
                return Ok(done);
            }
            self.check_alive()?;
        }
    }

    /// Waits until everything that was submitted is done. Returns the objects that are not there, with the reasons.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Disconnected`].
    pub(super) fn flush(&self) -> Result<Vec<(ObjectId, Error)>> {
        if !self.is_usable() {
            return Err(Error::Forked);
        }
        let Some(ring) = self.present_ring() else { return Ok(Vec::new()) };
        let mut writing = ring.lock();
        let end = writing.next;
        while writing.under_way.front().is_some_and(|first| first.number < end) {
            let last = writing.under_way.len() - 1;
            self.wait_until_done(ring, &mut writing, last)?;
        }
        Ok(mem::take(&mut writing.failed))
    }
}

impl Ring {
    /// Stays awake for a while, as far as that is wanted, but lets others run.
    pub(super) fn spin_until<T>(&self, done: impl Fn() -> Option<T>) -> Option<T> {
        awake_for(self.spin, done)
    }
}

/// Looks at least once, and for so long again and again, but lets others run.
pub(super) fn awake_for<T>(spin: Duration, done: impl Fn() -> Option<T>) -> Option<T> {
    if spin.is_zero() {
        return done();
    }
    let begin = Instant::now();
    loop {
        for _ in 0..SPINS {
            if let Some(done) = done() {
                return Some(done);
            }
            std::hint::spin_loop();
        }
        if begin.elapsed() >= spin {
            return None;
        }
        thread::yield_now();
    }
}

fn not_given(reply: Reply) -> Error {
    match reply {
        Reply::Ring { outcome: Err(why) } => Error::Unsupported(format!("the store gives no ring: {why}")),
        other => unexpected(&other),
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("writing", &self.writing).finish_non_exhaustive()
    }
}
