//! Which bytes of a segment belong to whom: an allocator of offsets.
//!
//! Its books are private memory of the store, none of it lies in the segment: clients map that writable. It knows no
//! memory at all, only numbers; [`backing`](super::backing) says which of them have pages behind them.
//!
//! Best fit: the smallest free extent that is large enough, the lowest of equals. Large extents then stay whole for
//! large objects, and low addresses are used first, so the high end stays free in one piece.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Range;

use crate::error::{Error, Result};

/// Every extent starts at a multiple of this and has a multiple of it as its length: one cache line, as in old Plasma,
/// and what Arrow asks of the buffers in an object.
pub const ALIGNMENT: u64 = 64;

/// A run of bytes in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts, in bytes from the start of the segment.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl Extent {
    /// Its bytes.
    pub fn range(self) -> Range<u64> {
        self.offset..self.offset + self.len
    }

    fn end(self) -> u64 {
        self.offset + self.len
    }

    /// As they are ordered to find the best fit.
    fn fit(self) -> (u64, u64) {
        (self.len, self.offset)
    }
}

/// The free and the taken extents of one segment. Together they cover it without gap or overlap, and no two free ones
/// touch.
#[derive(Debug)]
pub struct Arena {
    /// The free extent that was cut last, or a longer one; it is in neither of the two lists. What is taken next comes from here most
    /// often, and then nothing is searched.
    open: Extent,
    /// Length of each other free extent by its offset, to find the neighbours of what is freed.
    free_by_offset: BTreeMap<u64, u64>,
    /// The same extents as (length, offset), to find the best fit.
    free_by_len: BTreeSet<(u64, u64)>,
    /// Where taken extents start, so that a wrong `free` is noticed.
    starts: Starts,
    free_bytes: u64,
    size: u64,
}

impl Arena {
    /// An arena of `size` bytes, rounded down to a multiple of [`ALIGNMENT`], all of them free.
    pub fn new(size: u64) -> Self {
        let size = size - size % ALIGNMENT;
        Self {
            open: Extent { offset: 0, len: size },
            free_by_offset: BTreeMap::new(),
            free_by_len: BTreeSet::new(),
            starts: Starts::default(),
            free_bytes: size,
            size,
        }
    }

    /// Takes `len` bytes, rounded up to a multiple of [`ALIGNMENT`] and at least that: an object without bytes gets an
    /// offset of its own too. `None` when no free extent is that long.
    pub fn allocate(&mut self, len: u64) -> Option<Extent> {
        let len = len.max(1).checked_next_multiple_of(ALIGNMENT)?;
        let free = self.take_best_fit(len)?;
        self.keep(Extent { offset: free.offset + len, len: free.len - len });
        self.free_bytes -= len;
        self.starts.add(free.offset);
        Some(Extent { offset: free.offset, len })
    }

    /// Takes the smallest free extent that is long enough, the lowest of equals.
    fn take_best_fit(&mut self, len: u64) -> Option<Extent> {
        let listed = self.free_by_len.range((len, 0)..).next().map(|&(len, offset)| Extent { offset, len });
        match listed {
            Some(listed) if self.open.len < len || listed.fit() < self.open.fit() => {
                self.unlist(listed);
                Some(listed)
            }
            _ if self.open.len < len => None,
            _ => Some(self.take_open()),
        }
    }

    /// Gives back what [`allocate`](Self::allocate) gave out, and joins it with the free extents on both sides.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when exactly this extent is not taken; nothing is changed then.
    pub fn free(&mut self, extent: Extent) -> Result<()> {
        let Extent { offset, len } = extent;
        if !self.is_taken(extent) {
            return Err(Error::InvalidArgument(format!("{len} bytes at {offset} are not allocated")));
        }
        self.starts.remove(offset);
        self.free_bytes += len;
        let before = self.take_free(|arena| arena.ends_at(offset));
        let after = self.take_free(|arena| arena.starts_at(extent.end()));
        let start = before.map_or(offset, |before| before.offset);
        let end = after.map_or(extent.end(), Extent::end);
        self.keep(Extent { offset: start, len: end - start });
        Ok(())
    }

    /// Whether exactly this extent is taken: one starts where it does, the next of any kind where it ends, and none between.
    fn is_taken(&self, Extent { offset, len }: Extent) -> bool {
        let end = offset.checked_add(len).filter(|end| *end > offset && *end <= self.size);
        let Some(end) = end.filter(|_| self.starts.has(offset)) else { return false };
        let is_boundary = end == self.size || self.starts_at(end).is_some() || self.starts.has(end);
        let is_open_between = self.open.len > 0 && (offset..end).contains(&self.open.offset);
        is_boundary
            && !is_open_between
            && self.free_by_offset.range(offset..end).next().is_none()
            && !self.starts.has_between(offset, end)
    }

    /// The free extent that starts here.
    fn starts_at(&self, offset: u64) -> Option<Extent> {
        if self.open.len > 0 && self.open.offset == offset {
            return Some(self.open);
        }
        self.free_by_offset.get(&offset).map(|&len| Extent { offset, len })
    }

    /// The free extent that ends here.
    fn ends_at(&self, end: u64) -> Option<Extent> {
        if self.open.len > 0 && self.open.end() == end {
            return Some(self.open);
        }
        let before = self.free_by_offset.range(..end).next_back().map(|(&offset, &len)| Extent { offset, len });
        before.filter(|before| before.end() == end)
    }

    fn take_free(&mut self, find: impl Fn(&Self) -> Option<Extent>) -> Option<Extent> {
        let found = find(self)?;
        match found == self.open {
            true => drop(self.take_open()),
            false => self.unlist(found),
        }
        Some(found)
    }

    fn take_open(&mut self) -> Extent {
        mem::replace(&mut self.open, Extent { offset: 0, len: 0 })
    }

    fn unlist(&mut self, listed: Extent) {
        self.free_by_offset.remove(&listed.offset);
        self.free_by_len.remove(&listed.fit());
    }

    /// Keeps what is free: the longer of it and what was open stays open.
    fn keep(&mut self, free: Extent) {
        let other = if free.len > self.open.len { mem::replace(&mut self.open, free) } else { free };
        if other.len > 0 {
            self.free_by_offset.insert(other.offset, other.len);
            self.free_by_len.insert(other.fit());
        }
    }

    /// Gives back what of a taken extent lies behind its first `len` bytes, rounded up as they are when they are taken. Returns
    /// what is left of it.
    ///
    /// # Errors
    /// As for [`free`](Self::free), and when it is not that long.
    pub fn shrink(&mut self, extent: Extent, len: u64) -> Result<Extent> {
        let whole = extent.len;
        let len = len.max(1).checked_next_multiple_of(ALIGNMENT).filter(|len| *len <= whole);
        let len = len.filter(|_| self.is_taken(extent));
        let Some(len) = len else {
            return Err(Error::InvalidArgument(format!("{extent:?} is not allocated, or too short")));
        };
        if len < whole {
            let rest = Extent { offset: extent.offset + len, len: whole - len };
            self.starts.add(rest.offset);
            self.free(rest)?;
        }
        Ok(Extent { len, ..extent })
    }

    /// Whether nothing is taken.
    pub fn is_empty(&self) -> bool {
        self.free_bytes == self.size
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are taken.
    pub fn taken_bytes(&self) -> u64 {
        self.size - self.free_bytes
    }

    /// Bytes that are free, in however many pieces.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// The length of the longest free extent: the largest that can be allocated now.
    pub fn largest_free(&self) -> u64 {
        self.free_by_len.last().map_or(0, |&(len, _)| len).max(self.open.len)
    }

    /// The free extents, by rising offset.
    pub fn free_extents(&self) -> impl Iterator<Item = Extent> {
        let listed = |(&offset, &len): (&u64, &u64)| Extent { offset, len };
        let before = self.free_by_offset.range(..self.open.offset).map(listed);
        let behind = self.free_by_offset.range(self.open.offset..).map(listed);
        before.chain((self.open.len > 0).then_some(self.open)).chain(behind)
    }
}

/// Where taken extents start: a bit for each unit of [`ALIGNMENT`], in words for 64 of them. Small objects that lie side by side share
/// a word.
#[derive(Debug, Default)]
struct Starts(BTreeMap<u64, u64>);

/// Bytes that a word is for.
const WORD: u64 = 64 * ALIGNMENT;

/// The bit of a unit in its word.
fn bit(offset: u64) -> u64 {
    1 << (offset / ALIGNMENT % 64)
}

impl Starts {
    fn add(&mut self, offset: u64) {
        *self.0.entry(offset / WORD).or_insert(0) |= bit(offset);
    }

    fn remove(&mut self, offset: u64) {
        if let Some(word) = self.0.get_mut(&(offset / WORD)) {
            *word &= !bit(offset);
            if *word == 0 {
                self.0.remove(&(offset / WORD));
            }
        }
    }

    fn has(&self, offset: u64) -> bool {
        offset.is_multiple_of(ALIGNMENT) && self.0.get(&(offset / WORD)).is_some_and(|word| word & bit(offset) != 0)
    }

    /// Whether any extent starts behind `start` and before `end`, which are multiples of [`ALIGNMENT`].
    fn has_between(&self, start: u64, end: u64) -> bool {
        let (first, last) = (start / WORD, (end - 1) / WORD);
        self.0.range(first..=last).any(|(&at, &word)| {
            let behind = if at == first { !(bit(start) | (bit(start) - 1)) } else { u64::MAX };
            let before = if at == last { bit(end - 1) | (bit(end - 1) - 1) } else { u64::MAX };
            word & behind & before != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::seeded::Seeded;

    #[test]
    fn lengths_are_rounded_up_and_offsets_aligned() {
        let mut arena = Arena::new(64 * 10 + 63);
        assert_eq!(arena.free_bytes(), 640);
        assert_eq!(arena.allocate(1), Some(Extent { offset: 0, len: 64 }));
        assert_eq!(arena.allocate(65), Some(Extent { offset: 64, len: 128 }));
        assert_eq!(arena.allocate(0), Some(Extent { offset: 192, len: 64 }));
        assert_eq!(arena.allocate(449), None);
        assert_eq!(arena.allocate(u64::MAX), None);
        assert_eq!(arena.allocate(448).map(|extent| extent.len), None);
        assert_eq!(arena.allocate(384).map(|extent| extent.len), Some(384));
        assert_eq!((arena.free_bytes(), arena.largest_free(), arena.allocate(1)), (0, 0, None));
    }

    #[test]
    fn the_smallest_hole_is_filled_first_and_the_lowest_of_equals() {
        let mut arena = Arena::new(64 * 16);
        let taken: Vec<Extent> = [3, 1, 2, 1, 2, 1].map(|units| arena.allocate(units * 64).unwrap()).into();
        for hole in [0, 2, 4] {
            arena.free(taken[hole]).unwrap();
        }
        assert_eq!(arena.allocate(65), Some(taken[2]));
        assert_eq!(arena.allocate(128), Some(taken[4]));
        assert_eq!(arena.allocate(128).map(|extent| extent.offset), Some(0));
        assert_eq!(arena.largest_free(), 64 * 6);
    }

    #[test]
    fn what_was_not_allocated_cannot_be_freed() {
        let mut arena = Arena::new(64 * 8);
        let first = arena.allocate(128).unwrap();
        let second = arena.allocate(128).unwrap();
        let wrong = [
            Extent { offset: 256, len: 64 },
            Extent { offset: 0, len: 64 },
            Extent { offset: 64, len: 64 },
            Extent { offset: 0, len: 256 },
            Extent { offset: u64::MAX, len: u64::MAX },
        ];
        for extent in wrong {
            let error = arena.free(extent).unwrap_err().to_string();
            assert!(error.contains(&extent.offset.to_string()) && error.contains(&extent.len.to_string()), "{error}");
        }
        assert!(arena.shrink(wrong[1], 1).is_err() && arena.shrink(first, 129).is_err());
        assert!(arena.shrink(first, u64::MAX).is_err());
        arena.free(first).unwrap();
        assert!(arena.free(first).is_err());
        arena.free(second).unwrap();
        assert!(arena.free_extents().eq([Extent { offset: 0, len: 512 }]));
    }

    #[test]
    fn an_arena_too_small_for_one_extent_is_empty() {
        let mut arena = Arena::new(63);
        assert_eq!((arena.allocate(0), arena.free_bytes(), arena.free_extents().count()), (None, 0, 0));
    }

    #[test]
    fn the_last_bytes_of_the_address_range_are_usable() {
        let mut arena = Arena::new(u64::MAX);
        let all = arena.allocate(arena.largest_free()).unwrap();
        assert_eq!(all.len, u64::MAX - 63);
        arena.free(all).unwrap();
    }

    /// The naive model: one flag per unit of 64 bytes, searched from the start each time.
    struct Model(Vec<bool>);

    impl Model {
        /// The free runs as (offset, len) in units.
        fn runs(&self) -> Vec<(usize, usize)> {
            let mut runs: Vec<(usize, usize)> = Vec::new();
            for (unit, _) in self.0.iter().enumerate().filter(|(_, taken)| !**taken) {
                match runs.last_mut() {
                    Some((offset, len)) if *offset + *len == unit => *len += 1,
                    _ => runs.push((unit, 1)),
                }
            }
            runs
        }

        fn best_fit(&self, len: usize) -> Option<usize> {
            self.runs().into_iter().filter(|run| run.1 >= len).min_by_key(|run| (run.1, run.0)).map(|run| run.0)
        }

        fn set(&mut self, extent: Extent, taken: bool) {
            for unit in &mut self.0[(extent.offset / 64) as usize..((extent.offset + extent.len) / 64) as usize] {
                assert_ne!(*unit, taken, "{extent:?} overlaps");
                *unit = taken;
            }
        }
    }

    fn assert_same(arena: &Arena, model: &Model) {
        let runs = model.runs();
        let expected = runs.iter().map(|run| Extent { offset: run.0 as u64 * 64, len: run.1 as u64 * 64 });
        assert!(arena.free_extents().eq(expected));
        assert_eq!(arena.free_bytes(), runs.iter().map(|run| run.1 as u64 * 64).sum::<u64>());
        assert_eq!(arena.largest_free(), runs.iter().map(|run| run.1 as u64 * 64).max().unwrap_or(0));
        assert_eq!(arena.free_by_len.len(), arena.free_by_offset.len());
        assert!(runs.iter().all(
            |run| arena.free_by_offset.contains_key(&(run.0 as u64 * 64)) || run.0 as u64 * 64 == arena.open.offset
        ));
    }

    #[test]
    fn a_hundred_thousand_operations_agree_with_a_naive_model() {
        const UNITS: usize = 192;
        let (mut arena, mut model) = (Arena::new(UNITS as u64 * 64), Model(vec![false; UNITS]));
        let (mut random, mut live, mut refused) = (Seeded(20), Vec::new(), 0);
        for step in 0..100_000 {
            // The balance swings, so that both the nearly full and the nearly empty arena are visited.
            let push = if step / 500 % 2 == 0 { 6 } else { 4 };
            if live.is_empty() || random.below(10) < push {
                let bound = if random.below(8) == 0 { 2400 } else { 320 };
                let len = random.below(bound);
                let expected = model.best_fit((len.max(1) as usize).div_ceil(64));
                let got = arena.allocate(len);
                assert_eq!(got.map(|extent| extent.offset), expected.map(|unit| unit as u64 * 64));
                refused += usize::from(got.is_none());
                if let Some(extent) = got {
                    assert!(extent.offset % ALIGNMENT == 0 && extent.len >= len && extent.len < len.max(1) + 64);
                    model.set(extent, true);
                    live.push(extent);
                }
            } else {
                let extent = live.swap_remove(random.below(live.len() as u64) as usize);
                let kept = if random.below(3) == 0 { random.below(extent.len) } else { 0 };
                if kept > 0 {
                    let left = arena.shrink(extent, kept).unwrap();
                    assert!(left.offset == extent.offset && left.len >= kept && left.len < kept + 64);
                    model.set(Extent { offset: extent.offset + left.len, len: extent.len - left.len }, false);
                    live.push(left);
                } else {
                    arena.free(extent).unwrap();
                    model.set(extent, false);
                }
            }
            assert_same(&arena, &model);
        }
        assert!(refused > 1000, "the arena was never full, the run tells little: {refused}");
        live.drain(..).for_each(|extent| arena.free(extent).unwrap());
        assert!(arena.free_extents().eq([Extent { offset: 0, len: UNITS as u64 * 64 }]));
        assert!(arena.is_empty() && arena.starts.0.is_empty());
    }
}
