//! Which objects may go, and in what order: sealed, held by nobody and not pinned, least recently released first.
//!
//! A list whose entries lie in one row and know their neighbours: nothing is searched, and an object that comes to the young end
//! touches what was touched last.
#![forbid(unsafe_code)]

use crate::object::ObjectId;

/// Where an object is in the list. There is one such value per entry, so nothing is taken out twice.
#[derive(Debug)]
pub struct Age(u32);

/// An entry, and the places of those beside it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: ObjectId,
    older: u32,
    younger: u32,
}

/// The place of the entry that is no object: the youngest is its older neighbour, the oldest its younger one.
const ENDS: usize = 0;

/// Objects that may be evicted, oldest first.
#[derive(Debug)]
pub struct LeastRecentlyUsed {
    row: Vec<Entry>,
    /// Places that are not in use.
    free: Vec<u32>,
    bytes: u64,
    /// Objects evicted from it so far.
    pub evictions: u64,
    /// Their bytes.
    pub bytes_evicted: u64,
}

impl Default for LeastRecentlyUsed {
    fn default() -> Self {
        let ends = Entry { id: ObjectId::new([0; 20]), older: ENDS as u32, younger: ENDS as u32 };
        Self { row: vec![ends], free: Vec::new(), bytes: 0, evictions: 0, bytes_evicted: 0 }
    }
}

impl LeastRecentlyUsed {
    /// Puts an object of `size` bytes at the young end. The age it returns takes it out again.
    pub fn insert(&mut self, id: ObjectId, size: u64) -> Age {
        let entry = Entry { id, older: self.row[ENDS].older, younger: ENDS as u32 };
        let place = self.free.pop().unwrap_or(self.row.len() as u32);
        match self.row.get_mut(place as usize) {
            Some(unused) => *unused = entry,
            None => self.row.push(entry),
        }
        self.row[entry.older as usize].younger = place;
        self.row[ENDS].older = place;
        self.bytes += size;
        Age(place)
    }

    /// Counts an object that is about to be evicted.
    pub fn count_eviction(&mut self, bytes: u64) {
        self.evictions += 1;
        self.bytes_evicted += bytes;
    }

    /// Takes an object of `size` bytes out: it is in use again, or gone.
    pub fn remove(&mut self, Age(place): Age, size: u64) {
        let Entry { older, younger, .. } = self.row[place as usize];
        self.row[older as usize].younger = younger;
        self.row[younger as usize].older = older;
        self.free.push(place);
        self.bytes -= size;
    }

    /// How many objects are in it.
    pub fn len(&self) -> usize {
        self.row.len() - 1 - self.free.len()
    }

    /// Bytes of the objects in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The objects in the order in which they would go.
    pub fn oldest_first(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let mut next = self.row[ENDS].younger as usize;
        std::iter::from_fn(move || {
            let entry = self.row.get(next).filter(|_| next != ENDS)?;
            next = entry.younger as usize;
            Some(entry.id)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::shm::seeded::Seeded;

    #[test]
    fn objects_go_in_the_order_in_which_they_came() {
        let (mut list, mut random) = (LeastRecentlyUsed::default(), Seeded(5));
        let (mut model, mut longest) = (VecDeque::<(ObjectId, u64, Age)>::new(), 0);
        for step in 0..20_000_u64 {
            if random.below(20) < if step / 1000 % 2 == 0 { 12 } else { 8 } {
                let mut name = [0; 20];
                name[..8].copy_from_slice(&step.to_le_bytes());
                let (id, size) = (ObjectId::new(name), random.below(100));
                model.push_back((id, size, list.insert(id, size)));
            } else if !model.is_empty()
                && let Some((_, size, age)) = model.remove(random.below(model.len() as u64) as usize)
            {
                list.remove(age, size);
            }
            longest = longest.max(model.len());
            if step % 50 == 0 {
                assert!(list.oldest_first().eq(model.iter().map(|(id, _, _)| *id)));
            }
            assert_eq!((list.len(), list.bytes()), (model.len(), model.iter().map(|(_, size, _)| size).sum()));
        }
        assert!(longest > 100, "the list was never long");
    }
}
