//! The store's side of the hash table: two tables of which one is in use.
//!
//! An entry stays in its slot until it is removed, and leaves a tombstone there, since searches for others pass it.
//! When there are many tombstones the other table is cleared, filled, and takes over. Readers are not stopped
//! meanwhile: the table in use does not change, and those who still read the other one see its number has passed.

use super::encoding::{EMPTY, TOMBSTONE, chain, entry};
use super::layout::{AT_TABLE_NUMBER, Parts};
use crate::shm::sync::{AtomicU64, Ordering, Step, fence, order_of, taken};

/// What the store knows of the table, in memory of its own.
#[derive(Debug)]
pub(super) struct Table {
    /// For each descriptor the slot that names it.
    slots: Vec<Option<u32>>,
    number: u64,
    tombstones: usize,
}

impl Table {
    pub fn new(capacity: usize) -> Self {
        Self { slots: vec![None; capacity], number: 0, tombstones: 0 }
    }

    /// A slot where a search for this hash would look, and that is free.
    pub fn free_slot(&self, parts: &Parts, hash: u64) -> Option<usize> {
        let table = in_use(parts, self.number);
        let is_free = |slot: &usize| matches!(table[*slot].load(Ordering::Relaxed), EMPTY | TOMBSTONE);
        chain(hash, table.len()).find(is_free)
    }

    /// Asks for the slot with which a search for this hash begins.
    pub fn look_ahead(&self, parts: &Parts, hash: u64) {
        let table = &parts.tables[self.number as usize & 1];
        table.prefetch(hash as usize & (table.all().len() - 1));
    }

    /// Enters descriptor `index` into a slot that is free.
    pub fn enter(&mut self, parts: &Parts, slot: usize, hash: u64, index: usize) {
        let word = &in_use(parts, self.number)[slot];
        if word.load(Ordering::Relaxed) == TOMBSTONE {
            self.tombstones -= 1;
        }
        word.store(entry(hash, index), Ordering::Release);
        self.slots[index] = Some(slot as u32);
    }

    /// Removes descriptor `index`. `false` when it was not entered.
    pub fn remove(&mut self, parts: &Parts, index: usize) -> bool {
        let Some(slot) = self.slots[index].take() else { return false };
        let table = in_use(parts, self.number);
        if taken(Step::PassTombstones) {
            table[slot as usize].store(TOMBSTONE, Ordering::Release);
            self.tombstones += 1;
            self.clear_before(table, slot as usize);
        } else {
            table[slot as usize].store(EMPTY, Ordering::Release);
        }
        true
    }

    /// Tombstones at the end of a chain need not be passed: nothing lies behind them.
    fn clear_before(&mut self, table: &[AtomicU64], mut slot: usize) {
        let mask = table.len() - 1;
        if table[(slot + 1) & mask].load(Ordering::Relaxed) != EMPTY {
            return;
        }
        while table[slot].load(Ordering::Relaxed) == TOMBSTONE {
            table[slot].store(EMPTY, Ordering::Release);
            self.tombstones -= 1;
            slot = slot.wrapping_sub(1) & mask;
        }
    }

    /// Whether there are so many tombstones that searches get long.
    pub fn is_worn(&self, parts: &Parts) -> bool {
        self.tombstones > parts.tables[0].all().len() / 4
    }

    /// Enters everything into the other table, and puts that in use.
    ///
    /// `hash` tells the hash of a descriptor's object. An entry that finds no slot is left out and told to `lost`.
    pub fn rebuild(&mut self, parts: &Parts, hash: impl Fn(usize) -> u64, mut lost: impl FnMut(usize)) {
        // Who still reads the other table must find, once it sees a slot cleared, that its number has passed.
        if taken(Step::ClearOrder) {
            fence(Ordering::Release);
        }
        self.number += 1;
        in_use(parts, self.number).iter().for_each(|slot| slot.store(EMPTY, Ordering::Relaxed));
        self.tombstones = 0;
        for index in 0..self.slots.len() {
            if self.slots[index].take().is_some() {
                let hash = hash(index);
                match self.free_slot(parts, hash) {
                    Some(slot) => self.enter(parts, slot, hash, index),
                    None => lost(index),
                }
            }
        }
        parts.header(AT_TABLE_NUMBER).store(self.number, order_of(Step::FlipOrder, Ordering::Release));
    }
}

/// The table that is in use while this is its number.
pub(super) fn in_use(parts: &Parts, number: u64) -> &[AtomicU64] {
    parts.tables[number as usize & 1].all()
}
