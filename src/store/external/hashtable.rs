//! An external store in the daemon's own memory, which nothing bounds but the machine. Old Plasma had it to try external stores
//! with; so have we.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::store::external::{Contents, ExternalStore};

/// Objects by name: data and metadata in one piece.
#[derive(Debug, Default)]
pub(super) struct Hashtable(HashMap<ObjectId, Vec<u8>>);

impl ExternalStore for Hashtable {
    fn put(&mut self, id: ObjectId, object: &Contents<'_>) -> Result<()> {
        let size = usize::try_from(object.size()).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|error| Error::StoreFull(format!("{size} bytes of memory: {error}")))?;
        bytes.resize(size, 0);
        object.read(0, &mut bytes)?;
        self.0.insert(id, bytes);
        Ok(())
    }

    fn get(&mut self, id: ObjectId, object: &Contents<'_>) -> Result<()> {
        let bytes = self.0.get(&id).ok_or(Error::ObjectNotFound(id))?;
        match bytes.len() as u64 == object.size() {
            true => object.write(0, bytes),
            false => Err(Error::Corrupt(format!("{} bytes instead of {}", bytes.len(), object.size()))),
        }
    }

    fn delete(&mut self, id: ObjectId) -> Result<()> {
        self.0.remove(&id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Location;
    use crate::shm::segment::Segment;

    fn id(n: u8) -> ObjectId {
        ObjectId::new([n; 20])
    }

    fn at(offset: u64, data_size: u64, metadata_size: u64) -> Location {
        Location { segment: 1, offset, data_size, metadata_size }
    }

    #[test]
    fn data_and_metadata_come_back_and_go() {
        let segment = Segment::create("test", 4096).unwrap();
        segment.write_at(100, b"datameta").unwrap();
        let mut store = Hashtable::default();
        store.put(id(1), &Contents::new(&segment, at(100, 4, 4))).unwrap();
        store.get(id(1), &Contents::new(&segment, at(200, 4, 4))).unwrap();
        let mut read = [0; 10];
        segment.read_at(200, &mut read).unwrap();
        assert_eq!(&read, b"datameta\0\0");
        let error = store.get(id(1), &Contents::new(&segment, at(200, 4, 5))).unwrap_err().to_string();
        assert!(error.contains("8 bytes instead of 9"), "{error}");
        for _ in 0..2 {
            store.delete(id(1)).unwrap();
        }
        assert!(store.get(id(1), &Contents::new(&segment, at(200, 4, 4))).is_err());
    }

    #[test]
    fn an_object_ends_where_it_ends() {
        let segment = Segment::create("test", 4096).unwrap();
        let object = Contents::new(&segment, at(64, 3, 2));
        assert_eq!((object.data_size(), object.metadata_size(), object.size()), (3, 2, 5));
        object.write(1, b"abcd").unwrap();
        for offset in [2, 5, u64::MAX] {
            assert!(object.write(offset, b"abcd").unwrap_err().to_string().contains(&offset.to_string()));
            assert!(object.read(offset, &mut [0; 4]).is_err());
        }
        let mut read = [0; 5];
        object.read(0, &mut read).unwrap();
        assert_eq!(&read, b"\0abcd");
    }

    #[test]
    fn an_object_larger_than_memory_is_refused() {
        let segment = Segment::create("test", 1 << 50).unwrap();
        let object = Contents::new(&segment, at(0, 1 << 49, 0));
        let error = Hashtable::default().put(id(1), &object).unwrap_err().to_string();
        assert!(error.contains(&(1_u64 << 49).to_string()), "{error}");
    }
}
