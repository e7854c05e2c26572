//! Which bytes of a segment belong to whom: an allocator of offsets.
//!
//! Its books are private memory of the store, none of it lies in the segment: clients map that writable. It knows no
//! memory at all, only numbers; [`backing`](super::backing) says which of them have pages behind them.
//!
//! Best fit: the smallest free extent that is large enough, the lowest of equals. Large extents then stay whole for
//! large objects, and low addresses are used first, so the high end stays free in one piece.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

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

/// The free and the taken extents of one segment. Together they cover it without gap or overlap, and no two free ones
/// touch.
#[derive(Debug)]
pub struct Arena {
    /// Length of each free extent by its offset, to find the neighbours of what is freed.
    free_by_offset: BTreeMap<u64, u64>,
    /// The same extents as (length, offset), to find the best fit.
    free_by_len: BTreeSet<(u64, u64)>,
    /// Length of each taken extent by its offset, so that a wrong `free` is noticed.
    taken: HashMap<u64, u64>,
    free_bytes: u64,
    size: u64,
}

impl Arena {
    /// An arena of `size` bytes, rounded down to a multiple of [`ALIGNMENT`], all of them free.
    pub fn new(size: u64) -> Self {
        let mut arena = Self {
            free_by_offset: BTreeMap::new(),
            free_by_len: BTreeSet::new(),
            taken: HashMap::default(),
            free_bytes: 0,
            size: size - size % ALIGNMENT,
        };
        arena.insert_free(Extent { offset: 0, len: size - size % ALIGNMENT });
        arena
    }

    /// Takes `len` bytes, rounded up to a multiple of [`ALIGNMENT`] and at least that: an object without bytes gets an
    /// offset of its own too. `None` when no free extent is that long.
    pub fn allocate(&mut self, len: u64) -> Option<Extent> {
        let len = len.max(1).checked_next_multiple_of(ALIGNMENT)?;
        let &(free_len, offset) = self.free_by_len.range((len, 0)..).next()?;
        self.remove_free(Extent { offset, len: free_len });
        self.insert_free(Extent { offset: offset + len, len: free_len - len });
        self.taken.insert(offset, len);
        Some(Extent { offset, len })
    }

    /// Gives back what [`allocate`](Self::allocate) gave out, and joins it with the free extents on both sides.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when exactly this extent is not taken; nothing is changed then.
    pub fn free(&mut self, extent: Extent) -> Result<()> {
        let Extent { mut offset, mut len } = extent;
        let taken = self.taken.remove(&offset);
        if taken != Some(len) {
            self.taken.extend(taken.map(|taken| (offset, taken)));
            return Err(Error::InvalidArgument(format!("{len} bytes at {offset} are not allocated")));
        }
        if let Some((&before, &before_len)) = self.free_by_offset.range(..offset).next_back()
            && before + before_len == offset
        {
            self.remove_free(Extent { offset: before, len: before_len });
            (offset, len) = (before, before_len + len);
        }
        if let Some(&after_len) = self.free_by_offset.get(&(offset + len)) {
            self.remove_free(Extent { offset: offset + len, len: after_len });
            len += after_len;
        }
        self.insert_free(Extent { offset, len });
        Ok(())
    }

    /// Gives back what of a taken extent lies behind its first `len` bytes, rounded up as they are when they are taken. Returns
    /// what is left of it.
    ///
    /// # Errors
    /// As for [`free`](Self::free), and when it is not that long.
    pub fn shrink(&mut self, extent: Extent, len: u64) -> Result<Extent> {
        let whole = extent.len;
        let len = len.max(1).checked_next_multiple_of(ALIGNMENT).filter(|len| *len <= whole);
        let len = len.filter(|_| self.taken.get(&extent.offset) == Some(&whole));
        let Some(len) = len else {
            return Err(Error::InvalidArgument(format!("{extent:?} is not allocated, or too short")));
        };
        if len < whole {
            let rest = Extent { offset: extent.offset + len, len: whole - len };
            self.taken.insert(extent.offset, len);
            self.taken.insert(rest.offset, rest.len);
            self.free(rest)?;
        }
        Ok(Extent { len, ..extent })
    }

    /// Whether nothing is taken.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
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
        self.free_by_len.last().map_or(0, |&(len, _)| len)
    }

    /// The free extents, by rising offset.
    pub fn free_extents(&self) -> impl Iterator<Item = Extent> {
        self.free_by_offset.iter().map(|(&offset, &len)| Extent { offset, len })
    }

    fn insert_free(&mut self, extent: Extent) {
        if extent.len > 0 {
            self.free_by_offset.insert(extent.offset, extent.len);
            self.free_by_len.insert((extent.len, extent.offset));
            self.free_bytes += extent.len;
        }
    }

    fn remove_free(&mut self, extent: Extent) {
        self.free_by_offset.remove(&extent.offset);
        self.free_by_len.remove(&(extent.len, extent.offset));
        self.free_bytes -= extent.len;
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
        assert!(arena.taken.is_empty());
    }
}
