//! Which pages of a segment have memory behind them, as the store believes.
//!
//! The kernel knows too, but asking costs a system call per extent, and a client that writes into a hole, or punches
//! one, would change the answer. So the store keeps its own books, and counts from them what it has asked memory for.
//!
//! All ranges are in bytes and need not be whole pages; each method rounds them as the kernel does. Memory is needed
//! for every page that is touched, so [`missing`](Backing::missing) and [`add`](Backing::add) round outwards. Only
//! pages that lie entirely in a range may be given back, so [`within`](Backing::within) and [`remove`](Backing::remove)
//! round inwards.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

use super::segment::page_size;
use crate::error::Result;

/// The set of pages with memory.
#[derive(Debug)]
pub struct Backing {
    page: u64,
    /// Start and end in bytes of each run of such pages. No two runs touch, so each run is as long as can be.
    runs: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Backing {
    /// The books of a new segment: no page has memory yet.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io) when the system does not tell the size of its pages.
    pub fn new() -> Result<Self> {
        Ok(Self::with_pages_of(page_size()?))
    }

    /// Books for pages of `page` bytes, a power of two.
    fn with_pages_of(page: u64) -> Self {
        Self { page, runs: BTreeMap::new(), bytes: 0 }
    }

    /// Bytes that have memory: always whole pages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The whole pages touched by `range` that have no memory, by rising offset: what must be allocated before it is
    /// used.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let range = self.outwards(range);
        let mut missing = Vec::new();
        let mut from = range.start;
        for run in self.overlapping(&range) {
            if from < run.start {
                missing.push(from..run.start);
            }
            from = run.end;
        }
        if from < range.end {
            missing.push(from..range.end);
        }
        missing
    }

    /// Whether every page touched by `range` has memory.
    pub fn has_all(&self, range: Range<u64>) -> bool {
        let Range { start, end } = self.outwards(range);
        // Runs are as long as can be, so one has to cover it.
        start >= end || self.runs.range(..=start).next_back().is_some_and(|(_, &run_end)| run_end >= end)
    }

    /// The whole pages inside `range` that have memory, by rising offset: what can be given back when it is free.
    pub fn within(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let range = self.inwards(range);
        self.overlapping(&range).map(|run| run.start.max(range.start)..run.end.min(range.end)).collect()
    }

    /// Notes that every page touched by `range` has memory now.
    pub fn add(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = self.outwards(range);
        if start >= end {
            return;
        }
        // Runs that merely touch are taken in as well: that is what keeps runs from touching.
        let joined: Vec<Range<u64>> = self.overlapping(&(start.saturating_sub(1)..end.saturating_add(1))).collect();
        for run in joined {
            self.cut(&run);
            (start, end) = (start.min(run.start), end.max(run.end));
        }
        self.put(start..end);
    }

    /// Notes that the whole pages inside `range` have no memory any more.
    pub fn remove(&mut self, range: Range<u64>) {
        let range = self.inwards(range);
        let cut: Vec<Range<u64>> = self.overlapping(&range).collect();
        for run in cut {
            self.cut(&run);
            self.put(run.start..range.start);
            self.put(range.end..run.end);
        }
    }

    /// The runs that share at least one byte with `range`, uncut, by rising offset.
    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let Range { start, end } = *range;
        // A run that starts before the range reaches into it at most once, since runs do not overlap.
        let first = self.runs.range(..start).next_back().filter(|&(_, &run_end)| run_end > start);
        let rest = self.runs.range(start..end.max(start));
        first.filter(|_| start < end).into_iter().chain(rest).map(|(&start, &end)| start..end)
    }

    fn put(&mut self, run: Range<u64>) {
        if run.start < run.end {
            self.runs.insert(run.start, run.end);
            self.bytes += run.end - run.start;
        }
    }

    fn cut(&mut self, run: &Range<u64>) {
        self.runs.remove(&run.start);
        self.bytes -= run.end - run.start;
    }

    fn outwards(&self, range: Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        // Pages are powers of two, and a division costs more than all the rest here.
        let whole_pages = !(self.page - 1);
        let end = range.end.saturating_add(self.page - 1);
        range.start & whole_pages..end & whole_pages
    }

    fn inwards(&self, range: Range<u64>) -> Range<u64> {
        let start = range.start.checked_next_multiple_of(self.page).unwrap_or(u64::MAX);
        let end = range.end - range.end % self.page;
        if start < end { start..end } else { 0..0 }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one run is a list of one range")]
mod tests {
    use super::*;
    use crate::shm::seeded::Seeded;

    const PAGE: u64 = 4096;

    fn backing() -> Backing {
        Backing::with_pages_of(PAGE)
    }

    #[test]
    fn allocating_rounds_outwards() {
        let mut backing = backing();
        assert_eq!(backing.missing(PAGE - 1..PAGE + 1), [0..2 * PAGE]);
        backing.add(PAGE - 1..PAGE);
        assert_eq!(backing.bytes(), PAGE);
        assert_eq!(backing.missing(0..PAGE), []);
        assert_eq!(backing.missing(PAGE - 1..PAGE + 1), [PAGE..2 * PAGE]);
        assert_eq!(backing.missing(7..7), []);
    }

    #[test]
    fn giving_back_rounds_inwards() {
        let mut backing = backing();
        backing.add(0..4 * PAGE);
        assert_eq!(backing.within(1..3 * PAGE + 1), [PAGE..3 * PAGE]);
        assert_eq!(backing.within(1..PAGE + 1), []);
        backing.remove(1..2 * PAGE - 1);
        assert_eq!(backing.bytes(), 4 * PAGE);
        backing.remove(1..2 * PAGE);
        assert_eq!(backing.within(0..4 * PAGE), [0..PAGE, 2 * PAGE..4 * PAGE]);
    }

    #[test]
    fn the_end_of_the_numbers_does_no_harm() {
        let mut backing = backing();
        backing.add(u64::MAX - 1..u64::MAX);
        assert_eq!(backing.within(0..u64::MAX), []);
        backing.remove(u64::MAX - 1..u64::MAX);
        backing.add(u64::MAX - 2 * PAGE..u64::MAX);
        assert_eq!(backing.bytes(), 2 * PAGE); // all but the very last page, whose end is no number
    }

    #[test]
    fn the_system_has_pages() {
        assert!(Backing::new().unwrap().page >= 4096);
    }

    /// The runs of equal flags in `pages` that are `wanted`, as byte ranges.
    fn runs(flags: &[bool], pages: Range<u64>, wanted: bool) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for page in pages.filter(|&page| flags[page as usize] == wanted) {
            match runs.last_mut() {
                Some(run) if run.end == page * PAGE => run.end += PAGE,
                _ => runs.push(page * PAGE..(page + 1) * PAGE),
            }
        }
        runs
    }

    #[test]
    fn random_operations_agree_with_a_bitmap() {
        const PAGES: u64 = 96;
        let (mut backing, mut flags, mut random) = (backing(), [false; PAGES as usize], Seeded(7));
        for _ in 0..20_000 {
            let start = random.below(PAGES * PAGE);
            let bound = if random.below(4) == 0 { 30 * PAGE } else { 3 * PAGE };
            let mut range = start..(start + random.below(bound)).min(PAGES * PAGE);
            if random.below(2) == 0 {
                range = range.start / PAGE * PAGE..range.end / PAGE * PAGE; // the usual case: whole pages
            }
            let touched = if range.is_empty() { 0..0 } else { range.start / PAGE..range.end.div_ceil(PAGE) };
            let inside = range.start.div_ceil(PAGE)..range.end / PAGE;
            assert_eq!(backing.missing(range.clone()), runs(&flags, touched.clone(), false));
            assert_eq!(backing.has_all(range.clone()), backing.missing(range.clone()).is_empty());
            assert_eq!(backing.within(range.clone()), runs(&flags, inside.clone(), true));
            if random.below(2) == 0 {
                backing.add(range);
                touched.for_each(|page| flags[page as usize] = true);
            } else {
                backing.remove(range);
                inside.for_each(|page| flags[page as usize] = false);
            }
            assert_eq!(backing.bytes(), flags.iter().filter(|flag| **flag).count() as u64 * PAGE);
            assert_eq!(backing.runs.len(), runs(&flags, 0..PAGES, true).len());
        }
    }
}
