//! Requests that come through shared memory. They are the same requests as those of the socket, and the same rules serve them; an answer goes
//! back the way that its request came.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::object::{Location, ObjectId};
use crate::protocol::{Refusal, Reply, Request};
use crate::shm::one_writer::OneWriter;
use crate::shm::ring::collector::{Collector, Taken};
use crate::shm::ring::files::{NewRing, Staging};
use crate::shm::ring::record::{Outcome, Record};
use crate::shm::ring::{ALL_BELLS, BELLS, MOST_STAGED};
use crate::store::engine::{Asker, Now, WholeObject};
use crate::store::grants::Grant;
use crate::store::peers::PeerId;
use crate::store::queue::NewObject;
use crate::store::server::{READ_SIZE, Server, now};
use crate::store::space::Place;
use crate::store::subscription::socket_pair;
use crate::transport::fork_guard::{Guarded, without_fork};
use crate::transport::knock::knock;
use crate::transport::stream::SharedDescriptor;

/// Added to a record's number, where a request's number is meant: its answer goes to the ring.
const BY_RING: u64 = 1 << 63;
/// Added as well, where nobody looks for the outcome if the record is not refused.
const UNAWAITED: u64 = 1 << 62;
/// Records of one peer that are served before the others have their turn.
const RECORDS_PER_TURN: usize = 32;
/// How long records are served, if there are so many, before sockets and long work have their turn. A single record may take longer.
const RINGS_TURN: Duration = Duration::from_micros(100);
/// The clock is looked at after so many small puts and the like, or one record of another kind, which may take long.
const RECORDS_PER_LOOK: u32 = 8;
/// Bytes of a small put.
const SMALL: u64 = 4096;

const _: () = assert!(MOST_STAGED <= READ_SIZE as u64, "what is read from a socket and what is staged share a buffer");

/// A ring that was given to a peer, which may not have mapped it.
#[derive(Debug)]
pub(super) struct Invited {
    files: Arc<Guarded<NewRing>>,
    door: Guarded<OwnedFd>,
}

/// The ring of a peer that submits.
#[derive(Debug)]
struct Ring {
    peer: PeerId,
    collector: Collector,
    staging: Staging,
    /// A put that may wait for the external store: what was submitted after it must not overtake it.
    unfinished: Option<u64>,
    /// How many records are served before what came by the socket after them, while that waits.
    owed: Option<u64>,
    /// What the peer polls, where it waits by no thread. It is only written to.
    door: Guarded<OwnedFd>,
}

/// All of them, by their peers' numbers, and whose was served last.
#[derive(Debug, Default)]
pub(super) struct Rings {
    all: Vec<Ring>,
    last: PeerId,
}

impl Rings {
    fn place(&self, peer: PeerId) -> Result<usize, usize> {
        self.all.binary_search_by_key(&peer, |ring| ring.peer)
    }

    fn add(&mut self, ring: Ring) {
        if let Err(place) = self.place(ring.peer) {
            self.all.insert(place, ring);
        }
    }

    fn ring_of(&self, peer: PeerId) -> Option<&Ring> {
        self.place(peer).ok().and_then(|place| self.all.get(place))
    }

    fn of(&self, peer: PeerId) -> Option<&Collector> {
        self.ring_of(peer).map(|ring| &ring.collector)
    }

    fn of_mut(&mut self, peer: PeerId) -> Option<&mut Ring> {
        self.place(peer).ok().and_then(|place| self.all.get_mut(place))
    }

    /// Where the next one is that has something to serve: each peer has its turn.
    fn next_place(&self) -> Option<usize> {
        let after = self.all.partition_point(|ring| ring.peer <= self.last);
        (after..self.all.len()).chain(0..after).find(|place| self.all.get(*place).is_some_and(Ring::has_more))
    }

    /// A peer is gone.
    pub(super) fn remove(&mut self, peer: PeerId) {
        if let Ok(place) = self.place(peer) {
            self.all.remove(place);
        }
    }

    /// Whether any peer has submitted more.
    pub(super) fn have_more(&self) -> bool {
        self.all.iter().any(Ring::has_more)
    }
}

impl AsFd for NewRing {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        OneWriter::as_fd(&self.submissions)
    }
}

/// Whether a number is a record's, which no frame may have.
pub(super) fn is_by_ring(number: u64) -> bool {
    number & BY_RING != 0
}

impl Server {
    /// A native peer wants a ring, or has mapped what it was given for that.
    pub(super) fn serve_submissions(&mut self, asker: Asker, mapped: bool) {
        let files = match mapped {
            false => self.offer_ring(asker.peer).map(Some),
            true => self.open_ring(asker.peer).map(|()| None),
        };
        let outcome = files.as_ref().map(Option::is_some).map_err(ToString::to_string);
        self.send_with(asker, Reply::Ring { outcome }, files.into_iter().flatten().flatten());
    }

    fn offer_ring(&mut self, peer: PeerId) -> Result<[SharedDescriptor; 3]> {
        let has_none = self.rings.of(peer).is_none();
        let connection = self.connections.get_mut(&peer).filter(|connection| has_none && connection.ring.is_none());
        let connection = connection.ok_or_else(|| Error::Protocol("it has asked for a ring before".into()))?;
        let (files, outcomes) = Guarded::open_with(NewRing::create)?;
        let (files, outcomes) = (Arc::new(files), Guarded::open(|| Ok(outcomes))?);
        let (door, theirs) = socket_pair()?;
        crash::at(Point::RingMade);
        connection.ring = Some(Invited { files: files.clone(), door });
        Ok([files, Arc::new(outcomes), Arc::new(theirs)])
    }

    fn open_ring(&mut self, peer: PeerId) -> Result<()> {
        let invited = self.connections.get_mut(&peer).and_then(|connection| connection.ring.take());
        let Some(Invited { files, door }) = invited else {
            return Err(Error::Protocol("it was not given a ring, or has opened it".into()));
        };
        let (collector, grantor, staging) = without_fork(|| files.collect())?;
        crash::at(Point::RingOpened);
        self.engine.add_grantee(peer, grantor);
        self.rings.add(Ring { peer, collector, staging, unfinished: None, owed: None, door });
        Ok(())
    }

    /// Serves some records of one peer after the other for a short time. Returns whether there were any.
    pub(super) fn serve_rings(&mut self) -> bool {
        let mut now = now();
        let (end, mut were_any) = (now.instant + RINGS_TURN, false);
        while now.instant < end
            && let Some(ring) = self.rings.next_place().and_then(|place| self.rings.all.get(place))
        {
            self.rings.last = ring.peer;
            self.serve_ring(self.rings.last, RECORDS_PER_TURN, now, end);
            now = self::now();
            were_any = true;
        }
        were_any
    }

    /// Serves what a peer submitted before it sent what comes by the socket. Returns whether that was all; else the time is over.
    pub(super) fn catch_up(&mut self, peer: PeerId, now: Now, end: Instant) -> bool {
        loop {
            let Ok(place) = self.rings.place(peer) else { return true };
            let Some(ring) = self.rings.all.get_mut(place) else { return true };
            let left = ring.still_owed();
            if left == 0 || Instant::now() >= end {
                return left == 0;
            }
            self.serve_ring(peer, left.min(RECORDS_PER_TURN), now, end);
        }
    }

    /// Serves at most so many records, and fewer when the time is over.
    fn serve_ring(&mut self, peer: PeerId, most: usize, now: Now, end: Instant) {
        let mut batch = mem::take(&mut self.batch);
        let outcome = self.take_records(peer, most, &mut batch);
        let served = self.serve_batch(peer, &batch, now, end);
        let is_whole = !matches!(served, Ok(count) if count < batch.len());
        batch.clear();
        self.batch = batch;
        self.apply_effects();
        self.rings.of_mut(peer).into_iter().for_each(Ring::tell_served);
        // What was not served is taken again, and looked at again then.
        if let Err(error) = served.and(if is_whole { outcome } else { Ok(()) }) {
            self.end(peer, Some(&error.to_string()));
        }
    }

    /// Serves one record at least. The rest is put back when the time is over. Returns how many were served.
    fn serve_batch(&mut self, peer: PeerId, batch: &[Taken], now: Now, end: Instant) -> Result<usize> {
        let mut weight = 0;
        for (count, taken) in batch.iter().enumerate() {
            if weight >= RECORDS_PER_LOOK {
                weight = 0;
                if Instant::now() >= end {
                    self.rings.of_mut(peer).into_iter().for_each(|ring| ring.put_back(taken.number));
                    return Ok(count);
                }
            }
            self.serve_record(peer, taken, now)?;
            crash::at(Point::RecordServed);
            weight += weight_of(&taken.record);
        }
        Ok(batch.len())
    }

    /// Takes records that can be served one after the other, and has what that needs come near the processor.
    fn take_records(&mut self, peer: PeerId, most: usize, batch: &mut Vec<Taken>) -> Result<()> {
        let Some(ring) = self.rings.of_mut(peer) else { return Ok(()) };
        let mut outcome = Ok(());
        while batch.len() < most && ring.unfinished.is_none() {
            match ring.collector.take() {
                Ok(Some(taken)) => {
                    crash::at(Point::RecordTaken);
                    let may_wait = self.external.is_some() && matches!(taken.record, Record::Put { .. });
                    ring.unfinished = may_wait.then_some(taken.number);
                    batch.push(taken);
                }
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.engine.look_ahead(batch.iter().filter_map(|taken| match taken.record {
            Record::Put { id, .. } => Some(id),
            _ => None,
        }));
        outcome
    }

    fn serve_record(&mut self, peer: PeerId, taken: &Taken, now: Now) -> Result<()> {
        if self.rings.of(peer).is_none() {
            // What it submitted before ended it.
            return Ok(());
        }
        let unawaited = if taken.is_awaited { 0 } else { UNAWAITED };
        let asker = Asker { peer, number: taken.number | unawaited | BY_RING };
        match meaning(&taken.record)? {
            Meaning::Put(put) => return self.put(asker, &put, taken.is_awaited, now),
            Meaning::Request(request) => {
                self.engine.handle(asker, request, now);
                return Ok(());
            }
            Meaning::Whole(whole, next) => {
                self.serve_whole(asker, whole, next, now);
                return Ok(());
            }
            Meaning::Unanswered(request) => self.engine.handle(asker, request, now),
            Meaning::Want(bell, id) => self.engine.want(peer, bell, id),
            Meaning::Unwant(bell) => self.engine.unwant(peer, bell),
        }
        self.complete(asker, &Outcome::default());
        Ok(())
    }

    /// Stores an object whose bytes are staged. They may change meanwhile, so they are copied before they are looked at.
    fn put(&mut self, asker: Asker, put: &Put, is_awaited: bool, now: Now) -> Result<()> {
        let Put { id, data_size, metadata_size, staged, evict } = *put;
        let Some(ring) = self.rings.ring_of(asker.peer) else { return Ok(()) };
        let size = (data_size + metadata_size) as usize;
        let bytes = self.scratch.get_mut(..size).unwrap_or_default();
        ring.staging.read(staged, bytes)?;
        let (data, metadata) = bytes.split_at(data_size as usize);
        let whole = WholeObject { id, data, metadata, digest: [0; 8] };
        // With an external store what was submitted behind it waits for its end.
        self.engine.put(asker, whole, evict, is_awaited || self.external.is_some(), now);
        Ok(())
    }

    /// An object is whole. Who put it may be granted room for the next one.
    fn serve_whole(&mut self, asker: Asker, whole: Whole, next: u64, now: Now) {
        let outcome = match whole {
            Whole::Sealed(id) => self.engine.seal(asker.peer, id, [0; 8], now),
            Whole::SealedAndReleased(id) => self.engine.seal_and_release(asker.peer, id, now),
            Whole::Granted(number, new) => self.engine.publish_granted(asker, number, new, now),
        };
        let granted = outcome.is_ok().then(|| self.engine.grant(asker.peer, next)).flatten();
        // Everyone who waits for the object is told before.
        self.apply_effects();
        self.complete(asker, &outcome.map_or_else(refused, |()| granted.map_or_else(Outcome::default, grant_outcome)));
    }

    /// Answers a record.
    pub(super) fn complete(&mut self, to: Asker, outcome: &Outcome) {
        if let Some(ring) = self.rings.of_mut(to.peer) {
            ring.done(to.number & !(BY_RING | UNAWAITED), to.number & UNAWAITED == 0, outcome);
        }
    }

    /// Rings a peer's bell.
    pub(super) fn wake(&self, peer: PeerId, bell: u64) {
        let Some(ring) = self.rings.ring_of(peer) else { return };
        match usize::try_from(bell) {
            Ok(bell) if bell < BELLS => ring.collector.ring(bell),
            _ => ring.list(bell),
        }
    }
}

impl Ring {
    /// Whether there is something to serve now.
    fn has_more(&self) -> bool {
        self.unfinished.is_none() && self.collector.has_more()
    }

    /// How many records are to be served before what came by the socket after them.
    fn still_owed(&mut self) -> usize {
        let owed = *self.owed.get_or_insert_with(|| self.collector.submitted());
        let left = if self.has_more() { owed.saturating_sub(self.collector.taken()) } else { 0 };
        self.owed = self.owed.filter(|_| left > 0);
        left as usize
    }

    /// The time was over before this record.
    fn put_back(&mut self, number: u64) {
        self.collector.put_back(number);
        self.unfinished = self.unfinished.filter(|unfinished| *unfinished < number);
    }

    fn done(&mut self, number: u64, is_awaited: bool, outcome: &Outcome) {
        if is_awaited || outcome.refusal != 0 {
            self.collector.done(number, outcome);
        }
        if self.unfinished.take_if(|unfinished| *unfinished == number).is_some() {
            self.tell_served();
        }
    }

    /// Tells the peer how many records were served: all that were taken, but for one that is not finished.
    fn tell_served(&mut self) {
        self.collector.served(u64::from(self.unfinished.is_some()));
    }

    /// Tells a peer that waits by no thread.
    fn list(&self, bell: u64) {
        self.collector.list(bell);
        crash::at(Point::WatchListed);
        knock(&self.door);
    }
}

/// What a record asks the rules for.
enum Meaning {
    Put(Put),
    Request(Request),
    /// An object is whole, and room for one of so many bytes is wanted.
    Whole(Whole, u64),
    /// A request that has no answer, so its record is done when it was made.
    Unanswered(Request),
    Want(u64, ObjectId),
    Unwant(u64),
}

/// An object that comes whole: its data and right behind them its metadata are staged. Together they are not too many.
struct Put {
    id: ObjectId,
    data_size: u64,
    metadata_size: u64,
    staged: u64,
    evict: bool,
}

/// An object that its peer has filled.
enum Whole {
    Sealed(ObjectId),
    SealedAndReleased(ObjectId),
    /// In room of this number.
    Granted(u64, NewObject),
}

/// What a record says.
fn meaning(record: &Record) -> Result<Meaning> {
    Ok(match *record {
        Record::Put { id, data_size, metadata_size, staged, evict } => {
            check_staged(data_size, metadata_size)?;
            Meaning::Put(Put { id, data_size, metadata_size, staged, evict })
        }
        Record::Create { id, data_size, metadata_size, evict, ttl_ms } => Meaning::Request(Request::Create {
            id,
            data_size: data_size.cast_signed(),
            metadata_size: metadata_size.cast_signed(),
            evict_if_full: evict,
            device_num: 0,
            ttl_ms,
            wait_ms: 0,
            immutable: false,
        }),
        Record::Seal { id, release: false, next } => Meaning::Whole(Whole::Sealed(id), next),
        Record::Seal { id, release: true, next } => Meaning::Whole(Whole::SealedAndReleased(id), next),
        Record::Publish { id, data_size, metadata_size, evict, granted, next } => {
            if data_size.checked_add(metadata_size).is_none() {
                return Err(Error::Protocol(format!("an object of {data_size} + {metadata_size} bytes cannot be")));
            }
            let new = NewObject { id, data_size, metadata_size, evict, ttl_ms: 0, immutable: false };
            Meaning::Whole(Whole::Granted(granted, new), next)
        }
        Record::Abort { id } => Meaning::Request(Request::Abort { id }),
        Record::Release { id } => Meaning::Unanswered(Request::Release { id }),
        Record::Delete { id } => Meaning::Request(Request::Delete { ids: vec![id] }),
        Record::Want { id, bell } => Meaning::Want(known_bell(bell)?, id),
        Record::Unwant { bell } => Meaning::Unwant(known_bell(bell)?),
    })
}

/// How soon to look at the clock after a record of this kind, as a share of [`RECORDS_PER_LOOK`].
fn weight_of(record: &Record) -> u32 {
    match record {
        Record::Put { data_size, metadata_size, .. } if data_size.saturating_add(*metadata_size) <= SMALL => 1,
        Record::Release { .. } | Record::Want { .. } | Record::Unwant { .. } => 1,
        _ => RECORDS_PER_LOOK,
    }
}

/// A peer has so many bells, and with them wants, at most.
fn known_bell(bell: u64) -> Result<u64> {
    match bell < ALL_BELLS as u64 {
        true => Ok(bell),
        false => Err(Error::Protocol(format!("it wants bell {bell}; a peer has {ALL_BELLS}"))),
    }
}

/// So many bytes may be staged for one object.
fn check_staged(data_size: u64, metadata_size: u64) -> Result<()> {
    if data_size.checked_add(metadata_size).is_none_or(|size| size > MOST_STAGED) {
        let text = format!("an object of {data_size} + {metadata_size} bytes is staged; {MOST_STAGED} can be");
        return Err(Error::Protocol(text));
    }
    Ok(())
}

/// What an answer says in a ring. What else there is to say is said when the request is made by the socket.
pub(super) fn outcome_of(reply: &Reply) -> Outcome {
    let done = |outcome: Result<(), Refusal>| outcome.map_or_else(refused, |()| Outcome::default());
    match reply {
        Reply::Create { outcome: Ok(location), .. } => Outcome { refusal: 0, location: *location },
        Reply::Create { outcome: Err(why), .. } | Reply::CreateAndSealBatch { outcome: Err(why), .. } => {
            refused(why.refusal)
        }
        Reply::Abort { outcome, .. } => done(*outcome),
        Reply::Delete { outcomes, .. } => done(outcomes.first().copied().unwrap_or(Err(Refusal::ObjectNotFound))),
        _ => Outcome::default(),
    }
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome { refusal: refusal.code(), location: Location::default() }
}

fn grant_outcome(Grant { number, place }: Grant) -> Outcome {
    let Place { segment, extent } = place;
    let location = Location { segment, offset: extent.offset, data_size: extent.len, metadata_size: number };
    Outcome { refusal: 0, location }
}
