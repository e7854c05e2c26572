//! All objects by name.
//!
//! What is searched are hashes and numbers; the objects themselves lie in a row by number, and the number that was free last is
//! taken next. A store of many small objects then works on memory that it has just used, and growing moves no object far.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::hash::BuildHasher;
use std::hint::black_box;

use foldhash::fast::RandomState;

use crate::object::ObjectId;
use crate::store::objects::Object;

/// The objects of a store.
#[derive(Debug, Default)]
pub struct Objects {
    numbers: Numbers,
    row: Vec<Option<(ObjectId, Object)>>,
    /// Numbers that are not in use.
    free: Vec<usize>,
    /// What was asked for last: a request asks for the same object many times.
    last: Cell<usize>,
}

impl Objects {
    /// The object of this name.
    pub fn get(&self, id: &ObjectId) -> Option<&Object> {
        self.row.get(self.number(id)?)?.as_ref().map(|(_, object)| object)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: &ObjectId) -> Option<&mut Object> {
        let number = self.number(id)?;
        self.row.get_mut(number)?.as_mut().map(|(_, object)| object)
    }

    fn number(&self, id: &ObjectId) -> Option<usize> {
        let last = self.last.get();
        let number = if self.is(last, id) { last } else { self.numbers.find(id, |number| self.is(number, id))?.1 };
        self.last.set(number);
        Some(number)
    }

    fn is(&self, number: usize, id: &ObjectId) -> bool {
        self.row.get(number).is_some_and(|it| it.as_ref().is_some_and(|(name, _)| name == id))
    }

    /// Has what is searched for these names come near the processor, all of it at once: they are about to be asked for.
    pub fn look_ahead(&self, ids: impl Iterator<Item = ObjectId>) {
        black_box(ids.fold(0, |seen, id| seen ^ self.numbers.first_seen(&id)));
    }

    /// Whether there is an object of this name.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.number(id).is_some()
    }

    /// Enters an object; there is none of this name.
    pub fn insert(&mut self, id: ObjectId, object: Object) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.row.push(None);
            self.row.len() - 1
        });
        self.row[number] = Some((id, object));
        self.numbers.insert(&id, number);
        self.last.set(number);
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: &ObjectId) -> Option<Object> {
        let (slot, number) = self.numbers.find(id, |number| self.is(number, id))?;
        self.numbers.remove(slot);
        self.free.push(number);
        self.row.get_mut(number)?.take().map(|(_, object)| object)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.count
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, &Object)> + Clone {
        self.row.iter().flatten().map(|(id, object)| (id, object))
    }

    /// All of them, without their names.
    pub fn values(&self) -> impl Iterator<Item = &Object> + Clone {
        self.iter().map(|(_, object)| object)
    }
}

/// The numbers of all objects: a table of words, searched from the place that a hash says on, up to an empty word.
///
/// A word is 32 bits of the hash and below them the number plus one; 0 is empty. At most half of the words are in use.
#[derive(Debug, Default)]
struct Numbers {
    words: Vec<u64>,
    count: usize,
    hasher: RandomState,
}

/// Words of the smallest table.
const LEAST: usize = 64;

impl Numbers {
    fn hash(&self, id: &ObjectId) -> u64 {
        self.hasher.hash_one(id) >> 32
    }

    /// The place where a word with this hash should be.
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask()
    }

    fn mask(&self) -> usize {
        self.words.len().wrapping_sub(1)
    }

    /// What is looked at first for this name.
    fn first_seen(&self, id: &ObjectId) -> u64 {
        self.words.get(self.home(self.hash(id))).copied().unwrap_or_default()
    }

    /// Slot and number of an object; `is_it` tells whether a number is its.
    fn find(&self, id: &ObjectId, is_it: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        let hash = self.hash(id);
        let mut slot = self.home(hash);
        loop {
            let word = *self.words.get(slot).filter(|word| **word != 0)?;
            let number = number_in(word);
            if word >> 32 == hash && is_it(number) {
                return Some((slot, number));
            }
            slot = (slot + 1) & self.mask();
        }
    }

    /// Enters an object that is not there.
    fn insert(&mut self, id: &ObjectId, number: usize) {
        self.count += 1;
        if 2 * self.count > self.words.len() {
            self.grow();
        }
        self.enter(self.hash(id) << 32 | (number as u64 + 1));
    }

    fn enter(&mut self, word: u64) {
        let mut slot = self.home(word >> 32);
        while self.words[slot] != 0 {
            slot = (slot + 1) & self.mask();
        }
        self.words[slot] = word;
    }

    fn grow(&mut self) {
        let twice = (2 * self.words.len()).max(LEAST);
        let before = std::mem::replace(&mut self.words, vec![0; twice]);
        before.into_iter().filter(|word| *word != 0).for_each(|word| self.enter(word));
    }

    /// Empties a slot. What lies behind it moves up, as far as it was only there because the slot was not empty.
    fn remove(&mut self, slot: usize) {
        let (mask, mut empty, mut next) = (self.mask(), slot, slot);
        loop {
            next = (next + 1) & mask;
            let word = self.words[next];
            if word == 0 {
                break;
            }
            let distance = next.wrapping_sub(self.home(word >> 32)) & mask;
            if distance >= next.wrapping_sub(empty) & mask {
                self.words[empty] = word;
                empty = next;
            }
        }
        self.words[empty] = 0;
        self.count -= 1;
    }
}

fn number_in(word: u64) -> usize {
    (word as u32 - 1) as usize
}

#[cfg(test)]
impl std::ops::Index<&ObjectId> for Objects {
    type Output = Object;

    fn index(&self, id: &ObjectId) -> &Object {
        self.get(id).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::shm::seeded::Seeded;

    fn id(n: u64) -> ObjectId {
        let mut name = [0; 20];
        name[..8].copy_from_slice(&n.to_le_bytes());
        ObjectId::new(name)
    }

    #[test]
    fn numbers_are_found_as_in_a_map() {
        let (mut numbers, mut model, mut random) = (Numbers::default(), HashMap::new(), Seeded(9));
        for step in 0..60_000 {
            // Few names, so that they come and go; the balance swings.
            let name = random.below(3000);
            let found = numbers.find(&id(name), |number| number as u64 % 3000 == name);
            assert_eq!(found.map(|(_, number)| number), model.get(&name).copied());
            match found {
                Some((slot, _)) if random.below(10) < if step / 5000 % 2 == 0 { 2 } else { 8 } => {
                    numbers.remove(slot);
                    model.remove(&name);
                }
                Some(_) => {}
                None => {
                    let number = (name + 3000 * random.below(9)) as usize;
                    numbers.insert(&id(name), number);
                    model.insert(name, number);
                }
            }
            assert_eq!(numbers.count, model.len());
        }
        assert!(model.len() > 100, "{} were left", model.len());
        assert!(numbers.words.len() >= 2 * numbers.count);
    }

    #[test]
    fn a_table_whose_chains_go_around_its_end_loses_nothing() {
        let mut numbers = Numbers { words: vec![0; 8], ..Numbers::default() };
        // All of one home, the last place but one.
        let word = |number: u64| 6 << 32 | (number + 1);
        (0..4).for_each(|number| numbers.enter(word(number)));
        numbers.count = 4;
        assert_eq!(numbers.words, [word(2), word(3), 0, 0, 0, 0, word(0), word(1)]);
        numbers.remove(7);
        assert_eq!(numbers.words, [word(3), 0, 0, 0, 0, 0, word(0), word(2)]);
        numbers.remove(6);
        assert_eq!(numbers.words, [0, 0, 0, 0, 0, 0, word(2), word(3)]);
    }
}
