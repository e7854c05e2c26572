//! The store's segments in this process: descriptors as they arrived, mapped on first use.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::{Error, Result};
use crate::protocol::SegmentInfo;
use crate::shm::mapping::Mapping;

/// All segments that the store has sent on one connection.
#[derive(Debug, Default)]
pub struct Mappings {
    /// Few, and looked up by every get: the keys of a small tree lie side by side, and readers keep no reader waiting.
    segments: RwLock<BTreeMap<i32, MappedSegment>>,
}

#[derive(Debug)]
struct MappedSegment {
    descriptor: OwnedFd,
    len: u64,
    reader: Option<Arc<Mapping>>,
    writer: Option<Arc<Mapping>>,
}

impl Mappings {
    /// Whether a segment is known. If not, its descriptor follows the answer that names it.
    pub fn knows(&self, key: i32) -> bool {
        self.looked_at().contains_key(&key)
    }

    /// Takes a segment that just arrived.
    pub fn add(&self, info: SegmentInfo, descriptor: OwnedFd) {
        let segment = MappedSegment { descriptor, len: info.mmap_size, reader: None, writer: None };
        self.changed().insert(info.key, segment);
    }

    /// The whole segment, read-only, if it is known.
    ///
    /// # Errors
    /// What mapping it says.
    #[inline]
    pub fn known_reader(&self, key: i32) -> Result<Option<Arc<Mapping>>> {
        let reader = |segment: &MappedSegment| segment.reader.clone();
        match self.looked_at().get(&key).map(reader) {
            None => return Ok(None),
            Some(Some(mapping)) => return Ok(Some(mapping)),
            Some(None) => {}
        }
        self.changed().get_mut(&key).map(MappedSegment::read).transpose()
    }

    /// The whole segment, read-only.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a segment never sent, else what mapping it says.
    pub fn reader(&self, key: i32) -> Result<Arc<Mapping>> {
        self.known_reader(key)?.ok_or_else(|| unknown(key))
    }

    /// The whole segment, writable, for objects that this process creates.
    ///
    /// # Errors
    /// As for [`Mappings::reader`].
    pub fn writer(&self, key: i32) -> Result<Arc<Mapping>> {
        self.with(key, |segment| {
            let map = || Mapping::read_write(segment.descriptor.as_fd(), segment.len);
            get_or_map(&mut segment.writer, map)
        })
    }

    /// A copy-on-write mapping of `len` bytes from `offset`.
    ///
    /// # Errors
    /// As for [`Mappings::reader`]; [`Error::Protocol`] for a range beyond the segment.
    pub fn private(&self, key: i32, offset: u64, len: u64) -> Result<Arc<Mapping>> {
        self.with(key, |segment| {
            if offset.checked_add(len).is_none_or(|end| end > segment.len) {
                let text = format!("{len} bytes at {offset} lie outside a segment of {}", segment.len);
                return Err(Error::Protocol(text));
            }
            Mapping::private(segment.descriptor.as_fd(), offset, len).map(Arc::new)
        })
    }

    fn with<T>(&self, key: i32, action: impl FnOnce(&mut MappedSegment) -> Result<T>) -> Result<T> {
        action(self.changed().get_mut(&key).ok_or_else(|| unknown(key))?)
    }

    // A panic in between leaves nothing half done.
    fn looked_at(&self) -> RwLockReadGuard<'_, BTreeMap<i32, MappedSegment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) -> RwLockWriteGuard<'_, BTreeMap<i32, MappedSegment>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MappedSegment {
    fn read(&mut self) -> Result<Arc<Mapping>> {
        let map = || Mapping::read_only(self.descriptor.as_fd(), self.len);
        get_or_map(&mut self.reader, map)
    }
}

fn unknown(key: i32) -> Error {
    Error::Protocol(format!("segment {key} was never sent"))
}

fn get_or_map(slot: &mut Option<Arc<Mapping>>, map: impl FnOnce() -> Result<Mapping>) -> Result<Arc<Mapping>> {
    if let Some(mapping) = slot {
        return Ok(mapping.clone());
    }
    let mapping = Arc::new(map()?);
    *slot = Some(mapping.clone());
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::segment::Segment;

    const LEN: u64 = 4096;

    fn sent(mappings: &Mappings, key: i32) {
        let segment = Segment::create("test", LEN).unwrap();
        let descriptor = segment.as_fd().try_clone_to_owned().unwrap();
        mappings.add(SegmentInfo { key, mmap_size: LEN }, descriptor);
    }

    #[test]
    fn a_segment_is_mapped_once_for_each_use() {
        let mappings = Mappings::default();
        (1..50).for_each(|key| sent(&mappings, key));
        let first = mappings.reader(7).unwrap();
        assert!(Arc::ptr_eq(&first, &mappings.known_reader(7).unwrap().unwrap()));
        assert!(!Arc::ptr_eq(&first, &mappings.known_reader(8).unwrap().unwrap()));
        assert!(Arc::ptr_eq(&mappings.writer(7).unwrap(), &mappings.writer(7).unwrap()));
        assert!(first.address_mut(0, 1).is_err() && mappings.writer(7).unwrap().address_mut(0, 1).is_ok());
    }

    #[test]
    fn a_segment_that_was_never_sent_is_not_known() {
        let mappings = Mappings::default();
        sent(&mappings, 1);
        assert!(mappings.knows(1) && !mappings.knows(2));
        assert!(mappings.known_reader(2).unwrap().is_none());
        for error in [mappings.reader(2).unwrap_err(), mappings.writer(2).unwrap_err()] {
            assert!(error.to_string().contains("segment 2 was never sent"), "{error}");
        }
        assert!(mappings.private(1, LEN - 1, 2).unwrap_err().to_string().contains(&LEN.to_string()));
    }
}
