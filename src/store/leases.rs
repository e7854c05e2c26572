//! Segments that one producer writes and everybody else may only read, and which of them who has mapped.
//!
//! The kernel keeps such a segment from all other writers, the store included, so no page of one can be given back while the
//! segment lives: its free room waits for the same producer. A segment where nothing lies is *retired* when its producer is
//! gone, or when memory is short: the store lets go of it, and those who mapped it are told to. Its memory is free when the last
//! of them has. Who does not let go gets no further segments from some point on.
//!
//! An object that nobody is to write after its seal, its producer included, has a segment for itself: then the kernel can be asked to
//! refuse every writer. It goes with its object.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use foldhash::HashMap;

use crate::error::Error;
use crate::shm::ring::MOST_GRANTED;
use crate::shm::ring::grants::Grantor;
use crate::store::grants::{Grant, Grants};
use crate::store::peers::PeerId;
use crate::store::space::{Place, Region, SHARED_SEGMENT};

/// Length of a producer's first segment, in bytes; every next one is twice as long.
pub(super) const FIRST_LENGTH: u64 = 2 << 20;
/// How long they become at most, and which share of the store's limit: memory for a whole segment may be needed twice, to move what
/// lies there.
const MOST_LENGTH: u64 = 64 << 20;
const MOST_SHARE: u64 = 16;
/// Segments for one object are so many bytes long, or a multiple; that is whole pages on every machine.
const ONE_STEP: u64 = 64 << 10;

/// Who writes a leased segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Producer {
    /// A client.
    Peer(PeerId),
    /// The store itself: for objects whose bytes came with the request.
    Store,
    /// A client, for one object that nobody can write once it is sealed; nothing else ever lies there. [`NOBODY`] where the bytes come
    /// from an external store.
    Once(PeerId),
    /// Several clients, which share such an object before it is sealed.
    Several,
}

/// No client: none ever has this number.
pub const NOBODY: PeerId = PeerId::MAX;

/// One segment.
#[derive(Debug)]
struct Lease {
    region: Region,
    /// `None` when it is gone: nothing new is put here.
    producer: Option<Producer>,
    /// It is being emptied, or is for one object: nothing new is put here, either.
    is_closed: bool,
    /// It is for one object, which nobody can write once it is sealed.
    is_for_one: bool,
    /// Nobody else can map it for writing any more.
    is_readable: bool,
    /// Peers that were given its descriptor.
    lent_to: BTreeSet<PeerId>,
}

impl Lease {
    fn is_empty(&self) -> bool {
        self.region.arena.is_empty()
    }
}

/// A segment that is no more than somebody's mapping.
#[derive(Debug)]
struct Retired {
    bytes: u64,
    lent_to: BTreeSet<PeerId>,
}

/// What one producer has.
#[derive(Debug)]
struct Own {
    next_length: u64,
    /// What was created last lies where memory was before.
    recycles: bool,
    segments: Vec<OwnSegment>,
}

/// One of them.
#[derive(Debug)]
struct OwnSegment {
    key: i32,
    /// Its longest free extent, so that full segments are passed without a look at them.
    room: u64,
}

impl Own {
    /// Says how long the longest free extent of a segment is now.
    fn set_room(&mut self, segment: i32, room: u64) {
        // Keys only grow, and so they are in order.
        if let Ok(at) = self.segments.binary_search_by_key(&segment, |own| own.key) {
            self.segments[at].room = room;
        }
    }
}

/// All segments but the shared one.
#[derive(Debug)]
pub struct Leases {
    leases: BTreeMap<i32, Lease>,
    retired: BTreeMap<i32, Retired>,
    /// How many of the leases are for one object.
    for_one: u64,
    /// Bytes of memory behind the leases.
    backed: u64,
    producers: HashMap<Producer, Own>,
    /// Room that peers have ahead. It is taken in the arenas.
    grants: HashMap<PeerId, Grants>,
    /// Peers that have not been told of a segment they are to let go of.
    to_tell: BTreeSet<PeerId>,
    next_key: i32,
    most_length: u64,
}

impl Leases {
    /// None, in a store with this limit.
    pub(super) fn new(limit: u64) -> Self {
        let most_length = (limit / MOST_SHARE).next_multiple_of(FIRST_LENGTH).clamp(FIRST_LENGTH, MOST_LENGTH);
        Self {
            leases: BTreeMap::new(),
            retired: BTreeMap::new(),
            for_one: 0,
            backed: 0,
            producers: HashMap::default(),
            grants: HashMap::default(),
            to_tell: BTreeSet::new(),
            next_key: SHARED_SEGMENT + 1,
            most_length,
        }
    }

    /// How long segments become, but for those with an object that is longer.
    pub(super) fn most_length(&self) -> u64 {
        self.most_length
    }

    /// Room in one of a producer's segments, in the oldest where there is some.
    pub(super) fn allocate(&mut self, producer: Producer, size: u64) -> Option<Place> {
        let Own { segments, recycles, .. } = self.producers.get_mut(&producer)?;
        segments.iter_mut().filter(|own| own.room >= size).find_map(|own| {
            let lease = self.leases.get_mut(&own.key).filter(|lease| !lease.is_closed)?;
            let extent = lease.region.arena.allocate(size)?;
            own.room = lease.region.arena.largest_free();
            *recycles = lease.region.backing.has_all(extent.offset..extent.offset + extent.len);
            Some(Place { segment: own.key, extent })
        })
    }

    /// Takes back what [`Leases::allocate`] gave.
    ///
    /// # Errors
    /// As for [`crate::shm::arena::Arena::free`].
    pub(super) fn free(&mut self, Place { segment, extent }: Place) -> Result<(), Error> {
        let Some(lease) = self.leases.get_mut(&segment) else { return Ok(()) };
        lease.region.arena.free(extent)?;
        self.note_room(segment);
        Ok(())
    }

    /// The free extents of a segment have changed.
    fn note_room(&mut self, segment: i32) {
        let Some(lease) = self.leases.get(&segment) else { return };
        if let Some(own) = lease.producer.and_then(|producer| self.producers.get_mut(&producer)) {
            own.set_room(segment, lease.region.arena.largest_free());
        }
    }

    /// From now on a peer can have room ahead.
    pub fn add_grantee(&mut self, peer: PeerId, grantor: Grantor) {
        self.grants.entry(peer).or_insert_with(|| Grants::new(grantor));
    }

    /// Whether a peer can be granted room of this size now. What it does not use of more than it can have is taken back for that.
    pub(super) fn can_grant(&mut self, peer: PeerId, size: u64) -> bool {
        let has_number = |leases: &Self| leases.grants.get(&peer).is_some_and(|grants| grants.next_number().is_some());
        (1..=MOST_GRANTED).contains(&size) && (has_number(self) || self.take_back_from(peer) && has_number(self))
    }

    /// Whether what a peer created last lies where memory was before.
    pub(super) fn recycles(&self, peer: PeerId) -> bool {
        self.producers.get(&Producer::Peer(peer)).is_some_and(|own| own.recycles)
    }

    /// Undoes what an allocation says of what a peer creates, as it was for a grant.
    pub(super) fn set_recycles(&mut self, peer: PeerId, recycles: bool) {
        self.producers.get_mut(&Producer::Peer(peer)).into_iter().for_each(|own| own.recycles = recycles);
    }

    /// Grants a peer room that was allocated for it.
    pub(super) fn grant(&mut self, peer: PeerId, place: Place) -> Option<Grant> {
        let grants = self.grants.get_mut(&peer)?;
        let grant = Grant { number: grants.next_number()?, place };
        grants.add(grant);
        Some(grant)
    }

    /// Room that a peer was granted.
    pub(super) fn granted(&self, peer: PeerId, number: u64) -> Option<Grant> {
        self.grants.get(&peer)?.of_number(number)
    }

    /// The first `size` bytes of such room become an object's, and the rest is free.
    pub(super) fn use_granted(&mut self, peer: PeerId, number: u64, size: u64) -> Option<Place> {
        let grants = self.grants.get_mut(&peer)?;
        let Place { segment, extent } = grants.of_number(number)?.place;
        let lease = self.leases.get_mut(&segment)?;
        let extent = lease.region.arena.shrink(extent, size).ok()?;
        grants.remove(number);
        self.note_room(segment);
        Some(Place { segment, extent })
    }

    /// Takes back what all peers have ahead and do not use.
    pub(super) fn take_back(&mut self) {
        let idle: Vec<_> = self.grants.values_mut().flat_map(Grants::take_back).collect();
        idle.into_iter().for_each(|place| self.free_own(place));
    }

    /// The same of one peer. Returns whether there was some.
    pub(super) fn take_back_from(&mut self, peer: PeerId) -> bool {
        let idle = self.grants.get_mut(&peer).map(Grants::take_back).unwrap_or_default();
        let was_some = !idle.is_empty();
        idle.into_iter().for_each(|place| self.free_own(place));
        was_some
    }

    /// All room that peers have ahead.
    #[cfg(test)]
    pub(super) fn all_granted(&self) -> impl Iterator<Item = Grant> {
        self.grants.values().flat_map(Grants::standing)
    }

    /// Bytes that are taken, of all segments.
    #[cfg(test)]
    pub(super) fn taken_bytes(&self) -> u64 {
        self.leases.values().map(|lease| lease.region.arena.taken_bytes()).sum()
    }

    pub(super) fn free_own(&mut self, place: Place) {
        if let Err(error) = self.free(place) {
            log::error!("the arena refused an extent of its own: {error}");
        }
    }

    /// Key and length of the next segment for a producer with an object of `size` bytes. `None` when all keys are used up.
    pub(super) fn next(&mut self, producer: Producer, size: u64) -> Option<(i32, u64)> {
        let segment = self.next_key;
        self.next_key = segment.checked_add(1)?;
        let own = self.producers.get(&producer).map_or(FIRST_LENGTH, |own| own.next_length);
        Some((segment, size.checked_next_multiple_of(FIRST_LENGTH)?.max(own)))
    }

    pub(super) fn add(&mut self, segment: i32, producer: Producer, region: Region) {
        // Nobody but the store ever had a descriptor with which its own could be written.
        let is_readable = producer == Producer::Store;
        let room = region.arena.largest_free();
        self.insert(segment, producer, region, is_readable, false);
        let none = Own { next_length: FIRST_LENGTH, recycles: false, segments: Vec::new() };
        let own = self.producers.entry(producer).or_insert(none);
        own.next_length = (own.next_length * 2).min(self.most_length);
        own.segments.push(OwnSegment { key: segment, room });
    }

    /// Key and length of a segment for one object of `size` bytes. `None` when all keys are used up.
    pub(super) fn next_for_one(&mut self, size: u64) -> Option<(i32, u64)> {
        let segment = self.next_key;
        self.next_key = segment.checked_add(1)?;
        Some((segment, size.checked_next_multiple_of(ONE_STEP)?))
    }

    /// Enters such a segment and takes the room of its object.
    pub(super) fn add_for_one(
        &mut self,
        segment: i32,
        producer: Producer,
        mut region: Region,
        size: u64,
    ) -> Option<Place> {
        let extent = region.arena.allocate(size)?;
        self.insert(segment, producer, region, false, true);
        Some(Place { segment, extent })
    }

    fn insert(&mut self, segment: i32, producer: Producer, region: Region, is_readable: bool, is_for_one: bool) {
        let (producer, lent_to) = (Some(producer), BTreeSet::new());
        let lease = Lease { region, producer, is_closed: is_for_one, is_for_one, is_readable, lent_to };
        self.for_one += u64::from(is_for_one);
        self.backed += lease.region.backing.bytes();
        self.leases.insert(segment, lease);
    }

    /// Several peers may write a segment for one object from now on.
    pub(super) fn share(&mut self, segment: i32) {
        self.leases.get_mut(&segment).into_iter().for_each(|lease| lease.producer = Some(Producer::Several));
    }

    /// Whether a segment is for one object.
    pub(super) fn is_for_one(&self, segment: i32) -> bool {
        self.leases.get(&segment).is_some_and(|lease| lease.is_for_one)
    }

    /// How many segments are.
    pub fn count_for_one(&self) -> u64 {
        self.for_one
    }

    pub(super) fn region(&self, segment: i32) -> Option<&Region> {
        self.leases.get(&segment).map(|lease| &lease.region)
    }

    /// Bytes of memory behind segments that are in use.
    pub fn backed(&self) -> u64 {
        self.backed
    }

    /// A range of a segment has memory from now on.
    pub(super) fn back(&mut self, segment: i32, range: Range<u64>) {
        let Some(lease) = self.leases.get_mut(&segment) else { return };
        let before = lease.region.backing.bytes();
        lease.region.backing.add(range);
        self.backed += lease.region.backing.bytes() - before;
    }

    /// Bytes of memory that lie free beside objects.
    pub(super) fn free_bytes(&self) -> u64 {
        let used = self.leases.values().filter(|lease| !lease.is_empty());
        used.map(|lease| lease.region.backing.bytes().saturating_sub(lease.region.arena.taken_bytes())).sum()
    }

    /// Segments that are in use.
    pub fn count(&self) -> u64 {
        self.leases.len() as u64
    }

    /// Bytes of segments that only somebody's mapping keeps.
    pub fn retired_bytes(&self) -> u64 {
        self.retired.values().map(|retired| retired.bytes).sum()
    }

    /// What has memory in a segment that nobody but its producer may read yet; `None` for all others.
    pub(super) fn not_readable(&self, segment: i32) -> Option<Vec<Range<u64>>> {
        let lease = self.leases.get(&segment).filter(|lease| !lease.is_readable)?;
        Some(lease.region.backing.within(0..u64::MAX))
    }

    /// Others than its producer may read a segment from now on. Nobody writes one that is for one object any more.
    pub(super) fn set_readable(&mut self, segment: i32) {
        let Some(lease) = self.leases.get_mut(&segment) else { return };
        lease.is_readable = true;
        lease.producer = lease.producer.filter(|_| !lease.is_for_one);
    }

    /// Whether nobody has a use for a segment any more.
    pub(super) fn is_left(&self, segment: i32) -> bool {
        let is_left = |lease: &Lease| (lease.producer.is_none() || lease.is_closed) && lease.is_empty();
        self.leases.get(&segment).is_some_and(is_left)
    }

    /// Puts nothing new into a segment, which is retired when nothing lies there any more.
    pub(super) fn close(&mut self, segment: i32) {
        self.leases.get_mut(&segment).into_iter().for_each(|lease| lease.is_closed = true);
    }

    /// Undoes [`Leases::close`].
    pub(super) fn open(&mut self, segment: i32) {
        self.leases.get_mut(&segment).into_iter().for_each(|lease| lease.is_closed = false);
    }

    /// How many segments have no producer any more.
    pub(super) fn left_behind(&self) -> usize {
        self.of_nobody().count()
    }

    /// Those segments, with the bytes that lie there, but for those of one object, which never moves.
    pub(super) fn of_nobody(&self) -> impl Iterator<Item = (i32, u64)> {
        let left = self.leases.iter().filter(|(_, lease)| lease.producer.is_none() && !lease.is_for_one);
        left.map(|(segment, lease)| (*segment, lease.region.arena.taken_bytes()))
    }

    /// Bytes of memory behind a segment, if the store itself writes it.
    pub(super) fn own_bytes(&self, segment: i32) -> Option<u64> {
        let lease = self.leases.get(&segment).filter(|lease| lease.producer == Some(Producer::Store))?;
        Some(lease.region.backing.bytes())
    }

    /// What of the next `bytes` from `start` on has no memory in a segment that the store itself writes, up to what has some.
    pub(super) fn missing_ahead(&self, segment: i32, start: u64, bytes: u64) -> Option<Range<u64>> {
        let lease = self.leases.get(&segment).filter(|lease| lease.producer == Some(Producer::Store))?;
        let end = lease.region.arena.size().min(start + bytes);
        lease.region.backing.missing(start..end).into_iter().next().filter(|missing| missing.start == start)
    }

    /// For each segment what would be gained if all that lies there moved, and the memory behind it, in bytes.
    pub(super) fn gains(&self) -> impl Iterator<Item = (i32, u64, u64)> {
        self.leases.iter().map(|(segment, lease)| {
            let backed = lease.region.backing.bytes();
            (*segment, backed.saturating_sub(lease.region.arena.taken_bytes()), backed)
        })
    }

    /// Segments where nothing lies, with the bytes of memory behind them; those with most first.
    pub(super) fn empty(&self) -> Vec<(i32, u64)> {
        let empty = self.leases.iter().filter(|(_, lease)| lease.is_empty());
        let mut empty: Vec<_> = empty.map(|(segment, lease)| (*segment, lease.region.backing.bytes())).collect();
        empty.sort_by_key(|(_, backed)| std::cmp::Reverse(*backed));
        empty
    }

    /// A peer is gone. Returns the segments that it wrote.
    pub(super) fn end(&mut self, peer: PeerId) -> Vec<i32> {
        let granted = self.grants.remove(&peer).into_iter().flat_map(Grants::into_places);
        granted.for_each(|place| self.free_own(place));
        let ended = self.producers.remove(&Producer::Peer(peer)).map(|own| own.segments).unwrap_or_default();
        let ended = ended.into_iter().map(|own| own.key).collect();
        self.to_tell.remove(&peer);
        self.retired.retain(|_, retired| {
            retired.lent_to.remove(&peer);
            !retired.lent_to.is_empty()
        });
        for lease in self.leases.values_mut() {
            lease.lent_to.remove(&peer);
            lease.producer = lease.producer.filter(|producer| *producer != Producer::Peer(peer));
        }
        ended
    }

    pub(super) fn retire(&mut self, segment: i32) {
        let Some(lease) = self.leases.remove(&segment) else { return };
        self.for_one -= u64::from(lease.is_for_one);
        self.backed -= lease.region.backing.bytes();
        if let Some(own) = lease.producer.and_then(|producer| self.producers.get_mut(&producer)) {
            own.segments.retain(|own| own.key != segment);
        }
        if lease.lent_to.is_empty() {
            return;
        }
        self.to_tell.extend(&lease.lent_to);
        self.retired.insert(segment, Retired { bytes: lease.region.backing.bytes(), lent_to: lease.lent_to });
    }

    /// Whom to tell that there are segments to let go of.
    pub fn take_to_tell(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.to_tell)
    }

    /// The segments that a peer is to let go of.
    pub fn retired_for(&self, peer: PeerId) -> Vec<i32> {
        let lent = self.retired.iter().filter(|(_, retired)| retired.lent_to.contains(&peer));
        lent.map(|(segment, _)| *segment).collect()
    }

    /// A peer has let go of a segment. What it was not lent, or is not retired, it says nothing about.
    pub fn returned(&mut self, peer: PeerId, segment: i32) {
        let Some(retired) = self.retired.get_mut(&segment) else { return };
        retired.lent_to.remove(&peer);
        if retired.lent_to.is_empty() {
            self.retired.remove(&segment);
        }
    }

    /// Lends a segment to a peer, to be written or read; `shares`: it is one of several who write it.
    ///
    /// # Errors
    /// A sentence that says why not. `most` is how many bytes of retired segments one peer may keep.
    pub fn lend(&mut self, peer: PeerId, segment: i32, writable: bool, shares: bool, most: u64) -> Result<(), String> {
        if segment == SHARED_SEGMENT {
            return Ok(());
        }
        let kept = self.retired.values().filter(|retired| retired.lent_to.contains(&peer));
        let kept = kept.map(|retired| retired.bytes).sum::<u64>();
        if kept > most {
            return Err(format!("{kept} bytes of retired segments are still mapped; {most} may be"));
        }
        let lease = self.leases.get_mut(&segment).ok_or_else(|| format!("there is no segment {segment}"))?;
        let is_own = match lease.producer {
            Some(Producer::Peer(producer) | Producer::Once(producer)) => producer == peer,
            Some(Producer::Several) => shares,
            Some(Producer::Store) | None => false,
        };
        match (writable, lease.is_readable) {
            (true, false) if is_own => {}
            (true, _) => return Err(format!("segment {segment} is not to be written by this client, or not any more")),
            (false, false) => return Err(format!("nothing is sealed in segment {segment}")),
            (false, true) => {}
        }
        lease.lent_to.insert(peer);
        Ok(())
    }
}
