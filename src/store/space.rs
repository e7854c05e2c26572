//! The memory that objects lie in, and two accounts of it.
//!
//! There is one segment that all old clients write, and leases, which have one writer each: see `leases`. The *limit* (`-m`)
//! counts bytes of data and metadata, as old Plasma does. The shared segment is several times as long as the
//! limit, so that free room is not lost to fragmented addresses; only pages under objects, and some that were just freed and
//! are kept warm, have memory behind them, and for all segments together those are bounded as well. Pages are allocated before
//! an object is announced, so shortage is an error here and never a `SIGBUS` in whoever touches them.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::shm::arena::{Arena, Extent};
use crate::shm::backing::Backing;
use crate::shm::mapping::HUGE_PAGE;
use crate::store::grants::Grant;
use crate::store::leases::{Leases, Producer};
use crate::store::peers::PeerId;
use crate::store::stock::{Kind, Stock};

/// Key of the segment that old clients write. Never 0, which they see in placeholders, and never reused.
pub const SHARED_SEGMENT: i32 = 1;
/// The shared segment is this many times as long as the limit.
const ADDRESS_FACTOR: u64 = 4;
/// Room beside the limit for page ends and alignment: a share of it, and this many bytes.
const SLACK_BYTES: u64 = 1 << 20;
/// Free pages are given back in pieces of this many bytes, so that not every create has to.
const GIVE_BACK_STEP: u64 = 1 << 20;
/// A file of the pool is for one object only where this share of its memory at most is left over.
const MOST_WASTE: u64 = 16;
/// Behind what the store itself writes, pages are allocated ahead for what it will write next: this share of the limit, at most so
/// many bytes, and in steps that are whole pages on every machine.
const AHEAD_SHARE: u64 = 1024;
const MOST_AHEAD: u64 = 1 << 20;
const AHEAD_STEP: u64 = 64 << 10;
/// Most bytes that one call allocates pages for, or one turn copies: what the event loop can be kept from its other peers, 2-8 ms.
pub const SLICE: u64 = 8 << 20;
/// Bytes that are given back at once when nobody is in need of them; 64 MiB take some milliseconds.
const IDLE_STEP: u64 = 64 << 20;

/// Where bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Key of the segment.
    pub segment: i32,
    /// Which bytes of it.
    pub extent: Extent,
}

/// Gives and takes segments and their pages.
pub trait Pages {
    /// Puts memory behind a page-aligned range of a segment.
    ///
    /// # Errors
    /// [`Error::Io`] when there is none.
    fn allocate(&mut self, segment: i32, range: Range<u64>) -> Result<()>;

    /// Gives the memory behind a page-aligned range of the shared segment back.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn punch(&mut self, range: Range<u64>) -> Result<()>;

    /// Writes into pages that have memory, of the shared segment or one that the store leased to itself.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn write(&mut self, segment: i32, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Copies bytes of any segment to where [`Pages::write`] can write.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn copy(&mut self, from: i32, bytes: Range<u64>, to: i32, offset: u64) -> Result<()>;

    /// Length of a shared segment that has all its memory from the start and keeps it.
    fn fixed_length(&self) -> Option<u64> {
        None
    }

    /// Whether there can be leases.
    fn can_lease(&self) -> bool {
        false
    }

    /// Makes a segment of `len` bytes without memory, for one producer.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Unsupported`].
    fn lease(&mut self, segment: i32, len: u64, producer: Producer) -> Result<()>;

    /// How many bytes of memory may be made ready before anybody needs them.
    fn pool_bytes(&self) -> u64 {
        0
    }

    /// Begins to make a file ready for a segment to come. Returns whether that is possible here.
    fn prepare(&mut self, _: Kind) -> bool {
        false
    }

    /// As [`Pages::lease`], from a file that was to be made ready and has its memory. Returns false when none is ready yet; else
    /// the file is not to be taken again, also where this fails.
    ///
    /// # Errors
    /// As for [`Pages::lease`].
    fn lease_prepared(&mut self, _segment: i32, _: Kind, _: Producer) -> Result<bool> {
        Ok(false)
    }

    /// Lets go of a file that was to be made ready. Its memory is free when this returns.
    fn drop_prepared(&mut self, _: Kind) {}

    /// How many segments there may be that are for one object each.
    fn most_for_one(&self) -> u64 {
        u64::MAX
    }

    /// Has the kernel refuse every writer of a leased segment from now on; `backed` is what must have memory after that. Returns false
    /// when somebody still has it mapped for writing, or a device writes there.
    ///
    /// # Errors
    /// As for [`Pages::make_readable`].
    fn make_immutable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<bool>;

    /// Ends everybody's chance to map a leased segment for writing, who has not yet; `backed` is what must have memory after that.
    ///
    /// # Errors
    /// [`Error::Io`] when its producer has taken memory away and there is none to replace it.
    fn make_readable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<()>;

    /// Makes the control file of a segment whose object several peers are to write.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn share(&mut self, segment: i32) -> Result<()>;

    /// A participant has joined such a segment, or is gone.
    fn turn_life(&mut self, segment: i32, participant: u32);

    /// Nobody shares a segment any more. Those who have its control file may go on with that.
    fn end_sharing(&mut self, segment: i32);

    /// The producer of a segment is gone; no more will be written.
    fn end_lease(&mut self, segment: i32);

    /// Lets go of a leased segment. Its memory comes back when the last who has it mapped lets go too.
    fn drop_lease(&mut self, segment: i32);
}

/// How a call to [`Space::populate`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populated {
    /// The extent has memory throughout.
    Whole,
    /// Call again: there is more to allocate.
    InPart,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// This many bytes would go over the limit.
    OverLimit(u64),
    /// No free extent is long enough.
    Fragmented,
    /// The object needs a segment for itself, and there is none.
    NoSegment,
}

/// The books of one segment: which bytes are taken, and which pages have memory.
#[derive(Debug)]
pub struct Region {
    pub(super) arena: Arena,
    pub(super) backing: Backing,
}

impl Region {
    /// An empty segment of `len` bytes, without memory.
    pub(super) fn new(len: u64) -> Result<Self> {
        Ok(Self { arena: Arena::new(len), backing: Backing::new()? })
    }
}

/// The ledger of all segments.
#[derive(Debug)]
pub struct Space<P> {
    limit: u64,
    used: u64,
    physical_limit: u64,
    /// What may have memory beyond that, as it is being moved.
    moving: u64,
    shared: Region,
    leases: Leases,
    stock: Stock,
    /// Objects came or went since somebody last looked.
    has_changed: bool,
    pages: P,
}

/// Length of the segment that a limit asks for.
///
/// # Errors
/// [`Error::InvalidArgument`] for a limit of 0 or one beyond any address space.
pub fn segment_length(limit: u64) -> Result<u64> {
    let length = limit.checked_mul(ADDRESS_FACTOR).and_then(|bytes| bytes.checked_add(SLACK_BYTES));
    match length.filter(|bytes| *bytes < 1 << 46) {
        Some(length) if limit > 0 => Ok(length),
        _ => Err(Error::InvalidArgument(format!("a store of {limit} bytes is not possible"))),
    }
}

/// Length of a segment that has all its memory from the start: an eighth more than the limit, so that not every fragment is
/// lost.
///
/// # Errors
/// As for [`segment_length`].
pub fn fixed_segment_length(limit: u64) -> Result<u64> {
    segment_length(limit).map(|_| limit + limit / 8)
}

/// Where a slice of `budget` bytes at most ends, so that no huge page is cut that need not be.
fn end_of_slice(start: u64, budget: u64) -> u64 {
    let end = start + budget;
    if end - end % HUGE_PAGE > start { end - end % HUGE_PAGE } else { end }
}

impl<P: Pages> Space<P> {
    /// The ledger of an empty shared segment of [`segment_length`]`(limit)` bytes, unless its length is fixed.
    ///
    /// # Errors
    /// As for [`segment_length`]; [`Error::Io`] when the system does not tell the size of its pages.
    pub fn new(limit: u64, pages: P) -> Result<Self> {
        let length = segment_length(limit)?;
        let (length, physical_limit) = match pages.fixed_length() {
            Some(fixed) => (fixed, fixed),
            None => (length, limit + limit / 8 + SLACK_BYTES),
        };
        let mut shared = Region::new(length)?;
        shared.backing.add(0..pages.fixed_length().unwrap_or(0));
        let leases = Leases::new(limit);
        let stock = Stock::new(limit, pages.pool_bytes(), &leases);
        let mut space =
            Self { limit, used: 0, physical_limit, moving: 0, shared, leases, stock, has_changed: false, pages };
        space.restock();
        Ok(space)
    }

    /// The limit in bytes of data and metadata.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes of data and metadata that objects hold.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes of memory behind all segments and of the pool, without segments that are retired.
    pub fn backed(&self) -> u64 {
        self.shared.backing.bytes() + self.leases.backed() + self.stock.bytes()
    }

    /// Bytes of memory that the pool has, or is about to have.
    pub fn pooled(&self) -> u64 {
        self.stock.bytes()
    }

    /// Who has which segment.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The same, to be changed.
    pub fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// Who gives the pages.
    pub fn pages(&self) -> &P {
        &self.pages
    }

    /// Takes room for `size` bytes; `None` for an object of none. No memory is behind it yet. `kept` bytes stay free. What
    /// has a producer of its own lies in a segment that only this one writes, where there can be such.
    ///
    /// # Errors
    /// Why there is no room.
    pub fn reserve(&mut self, size: u64, kept: u64, producer: Option<Producer>) -> Result<Option<Place>, NoRoom> {
        self.check_limit(size, kept)?;
        let place = match (size, producer) {
            (0, _) => None,
            (_, Some(Producer::Once(_))) => Some(self.place_for_one(size, producer).ok_or(NoRoom::NoSegment)?),
            _ => Some(self.place(size, producer).ok_or(NoRoom::Fragmented)?),
        };
        self.used += size;
        self.has_changed = true;
        Ok(place)
    }

    fn check_limit(&self, size: u64, kept: u64) -> Result<(), NoRoom> {
        let over = size.saturating_add(kept).saturating_sub(self.limit - self.used);
        if over > 0 && size > 0 { Err(NoRoom::OverLimit(over)) } else { Ok(()) }
    }

    fn place(&mut self, size: u64, producer: Option<Producer>) -> Option<Place> {
        let producer = producer.filter(|_| self.pages.can_lease());
        producer.and_then(|producer| self.place_in_lease(size, producer)).or_else(|| self.place_shared(size))
    }

    fn place_shared(&mut self, size: u64) -> Option<Place> {
        self.shared.arena.allocate(size).map(|extent| Place { segment: SHARED_SEGMENT, extent })
    }

    fn place_in_lease(&mut self, size: u64, producer: Producer) -> Option<Place> {
        if let Some(place) = self.leases.allocate(producer, size) {
            return Some(place);
        }
        // It has room ahead that is of the wrong size.
        if let Producer::Peer(peer) = producer
            && self.leases.take_back_from(peer)
            && let Some(place) = self.leases.allocate(producer, size)
        {
            return Some(place);
        }
        let (segment, len) = self.leases.next(producer, size)?;
        match self.make_lease(segment, len, size, producer) {
            Ok(region) => self.leases.add(segment, producer, region),
            Err(error) => {
                log::warn!("an object goes to the shared segment: a segment of its own of {len} bytes: {error}")
            }
        }
        self.leases.allocate(producer, size)
    }

    /// A segment for one object.
    fn place_for_one(&mut self, size: u64, producer: Option<Producer>) -> Option<Place> {
        let producer = producer.filter(|_| self.pages.can_lease())?;
        let (segment, len) = self.leases.next_for_one(size)?;
        match self.make_lease(segment, len, size, producer) {
            Ok(region) => {
                let place = self.leases.add_for_one(segment, producer, region, size);
                crash::at(Point::OneMade);
                place
            }
            Err(error) => {
                log::warn!("an object of {size} bytes gets no segment for itself: {error}");
                None
            }
        }
    }

    /// Whether one more object can have a segment for itself, as far as their number goes.
    ///
    /// # Errors
    /// How many there are, and may be.
    pub fn may_have_one_more(&self) -> Result<(), (u64, u64)> {
        let (count, most) = (self.leases.count_for_one(), self.pages.most_for_one());
        if count < most { Ok(()) } else { Err((count, most)) }
    }

    /// A segment of `len` bytes or some more for an object of `size`: with memory from the pool, or without.
    fn make_lease(&mut self, segment: i32, len: u64, size: u64, producer: Producer) -> Result<Region> {
        let leases = &self.leases;
        let kind = self.stock.fitting(len, size, || leases.free_bytes());
        // What one object leaves free there is for nobody.
        let is_for_one = matches!(producer, Producer::Once(_));
        let fits = |kind: &Kind| !is_for_one || kind.backed.saturating_sub(size) <= kind.backed / MOST_WASTE;
        if let Some(kind) = kind.filter(fits) {
            let taken = self.pages.lease_prepared(segment, kind, producer);
            if !matches!(taken, Ok(false)) {
                self.stock.remove(kind);
            }
            if taken? {
                let mut region = Region::new(kind.len)?;
                region.backing.add(0..kind.backed);
                return Ok(region);
            }
        }
        self.pages.lease(segment, len, producer)?;
        Region::new(len)
    }

    /// Has files made ready for segments to come, as long as there may be memory for them.
    ///
    /// Nothing that objects will need is taken for it: with all that is in use they stay below the limit, and not only below the
    /// bound of memory.
    pub fn restock(&mut self) {
        while let Some(kind) = self.stock.missing() {
            let fits = self.backed() + kind.backed <= self.limit;
            if !fits || !self.pages.prepare(kind) {
                return self.stock.wait();
            }
            self.stock.add(kind);
        }
    }

    /// Whether objects came or went since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Gives memory back to the system that lies free, but for the pool, a part at a time. Returns whether there is more.
    pub fn give_back_idle(&mut self) -> bool {
        let missing = self.give_back_free(IDLE_STEP, SHARED_SEGMENT);
        self.stock.resume();
        missing == 0
    }

    /// The same for room that a peer was granted, of which the first `size` bytes become an object's.
    ///
    /// # Errors
    /// As for [`Space::reserve`]; [`NoRoom::Fragmented`] when it was not granted so much.
    pub fn reserve_granted(
        &mut self,
        size: u64,
        kept: u64,
        peer: PeerId,
        number: u64,
    ) -> Result<Option<Place>, NoRoom> {
        self.check_limit(size, kept)?;
        let place = self.leases.use_granted(peer, number, size).ok_or(NoRoom::Fragmented)?;
        crash::at(Point::GrantUsed);
        self.used += size;
        self.has_changed = true;
        Ok(Some(place))
    }

    /// Grants a peer room for an object of so many bytes in one of its own segments. It has memory already, or gets some where the
    /// peer uses the same memory again and again, so that one object can be filled while the one before is still there.
    pub fn grant(&mut self, peer: PeerId, size: u64) -> Option<Grant> {
        if !self.leases.can_grant(peer, size) {
            return None;
        }
        let recycles = self.leases.recycles(peer);
        let may_have_more = recycles && self.backed() + size <= self.limit;
        let place = match self.leases.allocate(Producer::Peer(peer), size) {
            None if may_have_more => self.place_in_lease(size, Producer::Peer(peer))?,
            place => place?,
        };
        self.leases.set_recycles(peer, recycles);
        let has_memory =
            self.missing_bytes(place) == 0 || may_have_more && matches!(self.populate(place), Ok(Populated::Whole));
        if !has_memory {
            self.leases.free_own(place);
            return None;
        }
        crash::at(Point::GrantMade);
        self.leases.grant(peer, place)
    }

    /// Takes room for bytes that are in a lease and are to leave it. They are counted once. There may have to be memory for them
    /// twice: see [`Space::allow`].
    pub fn reserve_move(&mut self, size: u64, producer: Option<Producer>) -> Option<Place> {
        self.place(size, producer)
    }

    /// Lets memory go over its bound for as long as so many bytes are being moved.
    pub fn allow(&mut self, bytes: u64) {
        self.moving += bytes + SLACK_BYTES;
    }

    /// Undoes [`Space::allow`].
    pub fn disallow(&mut self, bytes: u64) {
        self.moving -= bytes + SLACK_BYTES;
    }

    /// Puts memory behind a place, a slice at a time, first giving back what lies free where that is needed.
    ///
    /// # Errors
    /// [`Error::StoreFull`] with the bytes that were missing; what was allocated so far stays with the segment.
    pub fn populate(&mut self, place: Place) -> Result<Populated> {
        self.populate_within(place, self.physical_limit)
    }

    /// The same for bytes that move here, for as long as that is allowed.
    ///
    /// # Errors
    /// As for [`Space::populate`].
    pub fn populate_for_move(&mut self, place: Place) -> Result<Populated> {
        self.populate_within(place, self.physical_limit + self.moving)
    }

    fn populate_within(&mut self, place: Place, most: u64) -> Result<Populated> {
        if self.region_of(place).is_none_or(|region| region.backing.has_all(place.extent.range())) {
            return Ok(Populated::Whole);
        }
        let mut budget = SLICE;
        for missing in self.missing(place) {
            if budget == 0 {
                return Ok(Populated::InPart);
            }
            let slice = missing.start..missing.end.min(end_of_slice(missing.start, budget));
            self.allocate_pages(place.segment, slice.clone(), most)?;
            budget -= slice.end - slice.start;
            if slice.end < missing.end {
                return Ok(Populated::InPart);
            }
        }
        Ok(Populated::Whole)
    }

    fn region_of(&self, Place { segment, .. }: Place) -> Option<&Region> {
        if segment == SHARED_SEGMENT { Some(&self.shared) } else { self.leases.region(segment) }
    }

    fn missing(&self, place: Place) -> Vec<Range<u64>> {
        self.region_of(place).map(|region| region.backing.missing(place.extent.range())).unwrap_or_default()
    }

    /// Bytes of pages of a place that have no memory yet.
    pub fn missing_bytes(&self, place: Place) -> u64 {
        self.missing(place).into_iter().map(|range| range.end - range.start).sum()
    }

    /// Copies bytes into a populated place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, place: Place, offset: u64, bytes: &[u8]) -> Result<()> {
        self.pages.write(place.segment, place.extent.offset + offset, bytes)
    }

    /// Copies the bytes `range` of a place to the same bytes of another, which is populated and the store writes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn copy(&mut self, from: Place, to: Place, range: Range<u64>) -> Result<()> {
        let start = from.extent.offset;
        let bytes = start + range.start..start + range.end;
        self.pages.copy(from.segment, bytes, to.segment, to.extent.offset + range.start)
    }

    /// Others than its producer may read a place from now on, and nobody can write it where it has a segment for itself. Returns
    /// false when somebody still can.
    ///
    /// # Errors
    /// [`Error::Io`] when the producer took memory away and there is none to replace it.
    pub fn make_readable(&mut self, Place { segment, .. }: Place) -> Result<bool> {
        let Some(backed) = self.leases.not_readable(segment) else { return Ok(true) };
        let is_done = match self.leases.is_for_one(segment) {
            true => self.pages.make_immutable(segment, &backed)?,
            false => self.pages.make_readable(segment, &backed).map(|()| true)?,
        };
        if is_done {
            self.leases.set_readable(segment);
        }
        Ok(is_done)
    }

    /// Several peers write from now on what lies in a segment for itself.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn share(&mut self, Place { segment, .. }: Place) -> Result<()> {
        self.pages.share(segment)?;
        self.leases.share(segment);
        Ok(())
    }

    /// One of them has joined, or is gone.
    pub fn turn_life(&mut self, Place { segment, .. }: Place, participant: u32) {
        self.pages.turn_life(segment, participant);
    }

    /// None of them does any more.
    pub fn end_sharing(&mut self, Place { segment, .. }: Place) {
        self.pages.end_sharing(segment);
    }

    /// Takes back what [`Space::reserve`] gave. Its pages stay warm while memory is below its bound.
    pub fn release(&mut self, place: Option<Place>, size: u64) {
        self.used -= size;
        self.has_changed = true;
        let Some(place) = place else { return };
        let freed = match place.segment {
            SHARED_SEGMENT => self.shared.arena.free(place.extent),
            _ => self.leases.free(place),
        };
        if let Err(error) = freed {
            log::error!("the arena refused an extent of its own: {error}");
        }
        if self.leases.is_left(place.segment) {
            self.retire(place.segment);
        }
    }

    /// A peer is gone: what it leased gets no more objects, and what it had mapped it has no more.
    pub fn peer_left(&mut self, peer: PeerId) {
        self.has_changed = true;
        for segment in self.leases.end(peer) {
            self.pages.end_lease(segment);
            if self.leases.is_left(segment) {
                self.retire(segment);
            }
        }
    }

    /// Bytes of the longest free extent of the shared segment.
    pub fn largest_free(&self) -> u64 {
        self.shared.arena.largest_free()
    }

    /// Allocates pages, so that no more than `most` bytes of all segments have memory.
    fn allocate_pages(&mut self, segment: i32, range: Range<u64>, most: u64) -> Result<()> {
        let length = range.end - range.start;
        self.give_back(length.saturating_sub(most.saturating_sub(self.backed())), segment);
        let backed = self.backed();
        if backed + length > most {
            return Err(Error::StoreFull(format!(
                "{length} bytes of pages are missing: {backed} of at most {most} are in use, many of them in part"
            )));
        }
        if self.pages.allocate(segment, range.clone()).is_err() {
            self.give_back(u64::MAX, segment);
            self.stock.pause();
            let again = self.pages.allocate(segment, range.clone());
            again.map_err(|error| Error::StoreFull(format!("{length} bytes: {error}")))?;
        }
        crash::at(Point::PagesAllocated);
        let end = range.end;
        match segment {
            SHARED_SEGMENT => self.shared.backing.add(range),
            _ => self.leases.back(segment, range),
        }
        self.allocate_ahead(segment, end);
        Ok(())
    }

    /// Allocates the next pages, too, where the store puts one small object behind the other. Nothing is given back for them.
    fn allocate_ahead(&mut self, segment: i32, from: u64) {
        let ahead = (self.limit / AHEAD_SHARE).min(MOST_AHEAD) / AHEAD_STEP * AHEAD_STEP;
        let Some(missing) = self.leases.missing_ahead(segment, from, ahead) else { return };
        let fits = self.moving == 0 && self.backed() + ahead <= self.physical_limit;
        if fits && self.pages.allocate(segment, missing.clone()).is_ok() {
            self.leases.back(segment, missing);
        }
    }

    /// Gives memory back until `bytes` are or there is none: what is in the pool, then what lies free.
    fn give_back(&mut self, bytes: u64, needed: i32) {
        let mut left = bytes;
        while let Some(kind) = self.stock.spare().filter(|_| left > 0) {
            self.pages.drop_prepared(kind);
            self.stock.remove(kind);
            left = left.saturating_sub(kind.backed);
        }
        self.give_back_free(left, needed);
    }

    /// Gives memory back until `bytes` are or there is none: free pages of the shared segment, then leases where nothing lies,
    /// but for the one that is `needed`. Returns what is missing.
    fn give_back_free(&mut self, bytes: u64, needed: i32) -> u64 {
        let mut left = self.punch(bytes);
        // Nearly always nothing is: then nobody looks at all leases.
        if left > 0 {
            self.leases.take_back();
        }
        let empty = if left > 0 { self.leases.empty() } else { Vec::new() };
        for (segment, backed) in empty {
            if left > 0 && segment != needed {
                self.retire(segment);
                left = left.saturating_sub(backed);
            }
        }
        left
    }

    /// Nothing will lie in this segment any more; its memory is free when all who mapped it have let go.
    fn retire(&mut self, segment: i32) {
        self.leases.retire(segment);
        crash::at(Point::SegmentRetired);
        self.pages.drop_lease(segment);
        crash::at(Point::SegmentDropped);
        self.stock.look_again();
    }

    /// Punches free pages until `bytes` are given back or none are left, longest free extents first. Returns what is missing.
    fn punch(&mut self, bytes: u64) -> u64 {
        let mut left = bytes;
        let mut free: Vec<Extent> = if left > 0 { self.shared.arena.free_extents().collect() } else { Vec::new() };
        free.sort_by_key(|extent| std::cmp::Reverse(extent.len));
        for extent in free {
            for backed in self.shared.backing.within(extent.offset..extent.offset + extent.len) {
                if left == 0 {
                    return 0;
                }
                let step = left.checked_next_multiple_of(GIVE_BACK_STEP).unwrap_or(u64::MAX);
                let cut = backed.start..backed.end.min(backed.start.saturating_add(step));
                if let Err(error) = self.pages.punch(cut.clone()) {
                    log::warn!("free pages could not be given back: {error}");
                    return left;
                }
                self.stock.look_again();
                left = left.saturating_sub(cut.end - cut.start);
                self.shared.backing.remove(cut);
            }
        }
        left
    }
}
