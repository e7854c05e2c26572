//! All objects by name.
//!
//! What is searched are names and numbers; the objects themselves lie in a row by number, and the number that was free last is
//! taken next. A store of many small objects then works on memory that it has just used, and growing moves no object far.
#![forbid(unsafe_code)]

use std::cell::Cell;

use foldhash::HashMap;

use crate::object::ObjectId;
use crate::store::objects::Object;

/// The objects of a store.
#[derive(Debug, Default)]
pub struct Objects {
    numbers: HashMap<ObjectId, usize>,
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
        let is_last = self.row.get(last).is_some_and(|it| it.as_ref().is_some_and(|(name, _)| name == id));
        let number = if is_last { last } else { *self.numbers.get(id)? };
        self.last.set(number);
        Some(number)
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
        self.numbers.insert(id, number);
        self.last.set(number);
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: &ObjectId) -> Option<Object> {
        let number = self.numbers.remove(id)?;
        self.free.push(number);
        self.row.get_mut(number)?.take().map(|(_, object)| object)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
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

#[cfg(test)]
impl std::ops::Index<&ObjectId> for Objects {
    type Output = Object;

    fn index(&self, id: &ObjectId) -> &Object {
        self.get(id).unwrap()
    }
}
