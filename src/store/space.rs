//! The memory that objects lie in: one sparse segment, and two accounts of it.
//!
//! The *limit* (`-m`) counts bytes of data and metadata, as old Plasma does. The segment is several times as long as the
//! limit, so that free room is not lost to fragmented addresses; only pages under objects, and some that were just freed and
//! are kept warm, have memory behind them. Pages are allocated before an object is announced, so shortage is an error here
//! and never a `SIGBUS` in whoever touches them.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::error::{Error, Result};
use crate::shm::arena::{Arena, Extent};
use crate::shm::backing::Backing;

/// The segment is this many times as long as the limit.
const ADDRESS_FACTOR: u64 = 4;
/// Room beside the limit for page ends and alignment: a share of it, and this many bytes.
const SLACK_BYTES: u64 = 1 << 20;
/// Free pages are given back in pieces of this many bytes, so that not every create has to.
const GIVE_BACK_STEP: u64 = 1 << 20;
/// Most bytes that one call allocates pages for: what the event loop can be kept from its other peers, 2-8 ms.
const SLICE: u64 = 8 << 20;

/// Gives and takes the pages of a segment.
pub trait Pages {
    /// Puts memory behind a page-aligned range.
    ///
    /// # Errors
    /// [`Error::Io`] when there is none.
    fn allocate(&mut self, range: Range<u64>) -> Result<()>;

    /// Gives the memory behind a page-aligned range back.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn punch(&mut self, range: Range<u64>) -> Result<()>;

    /// Writes into pages that have memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Length of a segment that has all its memory from the start and keeps it.
    fn fixed_length(&self) -> Option<u64> {
        None
    }
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
}

/// The ledger of one segment.
#[derive(Debug)]
pub struct Space<P> {
    limit: u64,
    used: u64,
    physical_limit: u64,
    arena: Arena,
    backing: Backing,
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

impl<P: Pages> Space<P> {
    /// The ledger of an empty segment of [`segment_length`]`(limit)` bytes, unless its length is fixed.
    ///
    /// # Errors
    /// As for [`segment_length`]; [`Error::Io`] when the system does not tell the size of its pages.
    pub fn new(limit: u64, pages: P) -> Result<Self> {
        let length = segment_length(limit)?;
        let mut backing = Backing::new()?;
        let (length, physical_limit) = match pages.fixed_length() {
            Some(fixed) => (fixed, fixed),
            None => (length, limit + limit / 8 + SLACK_BYTES),
        };
        backing.add(0..pages.fixed_length().unwrap_or(0));
        Ok(Self { limit, used: 0, physical_limit, arena: Arena::new(length), backing, pages })
    }

    /// The limit in bytes of data and metadata.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes of data and metadata that objects hold.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes of memory behind the segment.
    pub fn backed(&self) -> u64 {
        self.backing.bytes()
    }

    /// Takes room for `size` bytes; `None` for an object of none. No memory is behind it yet. `kept` bytes stay free.
    ///
    /// # Errors
    /// Why there is no room.
    pub fn reserve(&mut self, size: u64, kept: u64) -> Result<Option<Extent>, NoRoom> {
        let over = size.saturating_add(kept).saturating_sub(self.limit - self.used);
        if over > 0 && size > 0 {
            return Err(NoRoom::OverLimit(over));
        }
        let extent = match size {
            0 => None,
            _ => Some(self.arena.allocate(size).ok_or(NoRoom::Fragmented)?),
        };
        self.used += size;
        Ok(extent)
    }

    /// Puts memory behind an extent, a slice at a time, first giving back what lies free where that is needed.
    ///
    /// # Errors
    /// [`Error::StoreFull`] with the bytes that were missing; what was allocated so far stays with the segment.
    pub fn populate(&mut self, extent: Extent) -> Result<Populated> {
        let mut budget = SLICE;
        for missing in self.backing.missing(extent.offset..extent.offset + extent.len) {
            if budget == 0 {
                return Ok(Populated::InPart);
            }
            let slice = missing.start..missing.end.min(missing.start + budget);
            self.allocate_pages(slice.clone())?;
            budget -= slice.end - slice.start;
            if slice.end < missing.end {
                return Ok(Populated::InPart);
            }
        }
        Ok(Populated::Whole)
    }

    /// Copies bytes into a populated extent.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, extent: Extent, offset: u64, bytes: &[u8]) -> Result<()> {
        self.pages.write(extent.offset + offset, bytes)
    }

    /// Takes back what [`Space::reserve`] gave. Its pages stay warm while the segment is below its bound.
    pub fn release(&mut self, extent: Option<Extent>, size: u64) {
        self.used -= size;
        if let Some(Err(error)) = extent.map(|extent| self.arena.free(extent)) {
            log::error!("the arena refused an extent of its own: {error}");
        }
    }

    /// Bytes of the longest free extent.
    pub fn largest_free(&self) -> u64 {
        self.arena.largest_free()
    }

    fn allocate_pages(&mut self, range: Range<u64>) -> Result<()> {
        let length = range.end - range.start;
        let spare = self.physical_limit.saturating_sub(self.backing.bytes());
        self.give_back(length.saturating_sub(spare));
        if self.backing.bytes() + length > self.physical_limit {
            return Err(Error::StoreFull(format!(
                "{length} bytes of pages are missing: {} of at most {} are in use, many of them in part",
                self.backing.bytes(),
                self.physical_limit
            )));
        }
        if self.pages.allocate(range.clone()).is_err() {
            self.give_back(u64::MAX);
            self.pages.allocate(range.clone()).map_err(|error| Error::StoreFull(format!("{length} bytes: {error}")))?;
        }
        self.backing.add(range);
        Ok(())
    }

    /// Punches free pages until `bytes` are given back or none are left, longest free extents first.
    fn give_back(&mut self, bytes: u64) {
        let mut left = bytes;
        let mut free: Vec<Extent> = if left > 0 { self.arena.free_extents().collect() } else { Vec::new() };
        free.sort_by_key(|extent| std::cmp::Reverse(extent.len));
        for extent in free {
            for backed in self.backing.within(extent.offset..extent.offset + extent.len) {
                if left == 0 {
                    return;
                }
                let step = left.checked_next_multiple_of(GIVE_BACK_STEP).unwrap_or(u64::MAX);
                let cut = backed.start..backed.end.min(backed.start.saturating_add(step));
                if let Err(error) = self.pages.punch(cut.clone()) {
                    log::warn!("free pages could not be given back: {error}");
                    return;
                }
                left = left.saturating_sub(cut.end - cut.start);
                self.backing.remove(cut);
            }
        }
    }
}
