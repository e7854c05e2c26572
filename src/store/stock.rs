//! What the pool has or is about to have: files with memory, for leases to come, as the ledger counts them.
//!
//! A file counts from the moment it is ordered, so the bound of memory holds whenever the pool's thread gets to it. The memory
//! of the pool is the first to be given back when there is too little, and nothing waits for a file that is not ready.
#![forbid(unsafe_code)]

use crate::store::leases::{FIRST_LENGTH, Leases};

/// From this limit on a store has a pool by default, of this share of the limit, and of so many bytes at most.
const LEAST_LIMIT: u64 = 64 << 20;
const DEFAULT_SHARE: u64 = 8;
const DEFAULT_MOST: u64 = 256 << 20;
/// Files for first segments of producers, at most.
const MOST_SMALL: u64 = 8;
/// Memory that lies free in segments, because they came from the pool with more than was asked for, is this share of the limit
/// at most: nobody but their producers can use it.
const FREE_SHARE: u64 = 16;

/// A kind of file in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its length in bytes.
    pub len: u64,
    /// How many of them have memory, from the first on.
    pub backed: u64,
}

/// What a store of this limit has in its pool when nobody says how much, in bytes.
pub fn default_pool(limit: u64) -> u64 {
    if limit < LEAST_LIMIT { 0 } else { (limit / DEFAULT_SHARE).min(DEFAULT_MOST) }
}

/// Which files there are to be, and which were ordered.
#[derive(Debug)]
pub(super) struct Stock {
    /// How many of each kind there are to be, and are.
    small: (Kind, u64, u64),
    large: (Kind, u64, u64),
    /// Bytes that all segments together may have beside what was asked for.
    most_free: u64,
    /// There was no memory in the machine: nothing is ordered until things have calmed down.
    is_paused: bool,
    /// Something has changed since nothing could be ordered.
    may_order: bool,
}

impl Stock {
    /// None yet, of as many files as fit in `bytes`.
    pub(super) fn new(limit: u64, bytes: u64, leases: &Leases) -> Self {
        let small = Kind { len: FIRST_LENGTH, backed: FIRST_LENGTH };
        // Objects are often a power of two and a little more, such as a header.
        let most = leases.most_length();
        let large = Kind { len: most + FIRST_LENGTH, backed: most };
        let larges = bytes.saturating_sub(small.backed) / large.backed;
        let smalls = ((bytes - larges * large.backed) / small.backed).min(MOST_SMALL);
        let most_free = limit / FREE_SHARE;
        Self { small: (small, smalls, 0), large: (large, larges, 0), most_free, is_paused: false, may_order: true }
    }

    /// Bytes of memory that were ordered and are still in the pool.
    pub(super) fn bytes(&self) -> u64 {
        [self.small, self.large].iter().map(|(kind, _, there)| kind.backed * there).sum()
    }

    /// What to order next, if there is to be more.
    pub(super) fn missing(&self) -> Option<Kind> {
        let kinds = [self.small, self.large];
        let missing = kinds.into_iter().find(|(_, wanted, there)| there < wanted);
        missing.map(|(kind, ..)| kind).filter(|_| self.may_order && !self.is_paused)
    }

    /// The kind for a segment of `len` bytes with an object of `size`, if there is such a file, and not too much would lie free;
    /// `free` is what does already.
    pub(super) fn fitting(&self, len: u64, size: u64, free: impl FnOnce() -> u64) -> Option<Kind> {
        let (kind, _, there) = match self.small.0.len {
            small if len <= small => self.small,
            _ if len > self.large.0.backed / 2 && len <= self.large.0.len => self.large,
            _ => return None,
        };
        (there > 0 && free() + kind.backed.saturating_sub(size) <= self.most_free).then_some(kind)
    }

    /// The kind to be given back first, if there is any.
    pub(super) fn spare(&self) -> Option<Kind> {
        [self.large, self.small].into_iter().find(|(.., there)| *there > 0).map(|(kind, ..)| kind)
    }

    /// A file was ordered.
    pub(super) fn add(&mut self, kind: Kind) {
        *self.count(kind) += 1;
    }

    /// A file is not in the pool any more.
    pub(super) fn remove(&mut self, kind: Kind) {
        *self.count(kind) -= 1;
        self.may_order = true;
    }

    fn count(&mut self, kind: Kind) -> &mut u64 {
        if kind == self.small.0 { &mut self.small.2 } else { &mut self.large.2 }
    }

    /// Nothing more can be ordered until something changes.
    pub(super) fn wait(&mut self) {
        self.may_order = false;
    }

    /// Memory was given back somewhere.
    pub(super) fn look_again(&mut self) {
        self.may_order = true;
    }

    /// The machine has no memory: nothing is ordered until [`Stock::resume`].
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Undoes [`Stock::pause`].
    pub(super) fn resume(&mut self) {
        self.is_paused = false;
        self.may_order = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn wanted(limit: u64, bytes: u64) -> (u64, u64, u64) {
        let stock = Stock::new(limit, bytes, &Leases::new(limit));
        (stock.small.1, stock.large.1, stock.large.0.backed / MEBIBYTE)
    }

    #[test]
    fn small_stores_have_none_and_large_ones_not_more_than_so_much() {
        assert_eq!([10_000, LEAST_LIMIT - 1].map(default_pool), [0, 0]);
        let limits = [LEAST_LIMIT, 1 << 30, 2 << 30, 1 << 40].map(default_pool);
        assert_eq!(limits.map(|bytes| bytes / MEBIBYTE), [8, 128, 256, 256]);
    }

    #[test]
    fn there_are_files_of_both_kinds_and_no_more_than_fits() {
        assert_eq!(wanted(64 * MEBIBYTE, 8 * MEBIBYTE), (2, 1, 4));
        assert_eq!(wanted(1 << 30, 128 * MEBIBYTE), (8, 1, 64));
        assert_eq!(wanted(4 << 30, 256 * MEBIBYTE), (8, 3, 64));
        assert_eq!(wanted(4 << 30, 0), (0, 0, 64));
        assert_eq!(wanted(4 << 30, 3 * MEBIBYTE), (1, 0, 64));
    }

    #[test]
    fn who_needs_little_gets_no_large_file_and_nobody_gets_one_that_is_too_short() {
        let limit = 4 << 30;
        let mut stock = Stock::new(limit, 256 * MEBIBYTE, &Leases::new(limit));
        let fitting =
            |stock: &Stock, len| stock.fitting(len * MEBIBYTE, len * MEBIBYTE, || 0).map(|kind| kind.len >> 20);
        assert_eq!(fitting(&stock, 2), None, "nothing was ordered");
        for kind in [stock.small.0, stock.large.0] {
            stock.add(kind);
        }
        let kinds = [1, 2, 4, 32, 34, 64, 66, 68].map(|len| fitting(&stock, len));
        assert_eq!(kinds, [Some(2), Some(2), None, None, Some(66), Some(66), Some(66), None]);
    }

    #[test]
    fn little_memory_lies_free_in_segments_from_the_pool() {
        let limit = 1 << 30;
        let mut stock = Stock::new(limit, 128 * MEBIBYTE, &Leases::new(limit));
        stock.add(stock.large.0);
        let free = 20 * MEBIBYTE;
        assert!(stock.fitting(64 * MEBIBYTE, 20 * MEBIBYTE, || free).is_some());
        assert!(stock.fitting(64 * MEBIBYTE, 19 * MEBIBYTE, || free).is_none());
    }
}
