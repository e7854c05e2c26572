//! The store's segments in this process: descriptors as they arrived, mapped on first use.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use crate::client::lock;
use crate::error::{Error, Result};
use crate::protocol::SegmentInfo;
use crate::shm::mapping::Mapping;

/// All segments that the store has sent on one connection.
#[derive(Debug, Default)]
pub struct Mappings {
    segments: Mutex<HashMap<i32, MappedSegment>>,
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
        lock(&self.segments).contains_key(&key)
    }

    /// Takes a segment that just arrived.
    pub fn add(&self, info: SegmentInfo, descriptor: OwnedFd) {
        let segment = MappedSegment { descriptor, len: info.mmap_size, reader: None, writer: None };
        lock(&self.segments).insert(info.key, segment);
    }

    /// The whole segment, read-only.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a segment never sent, else what mapping it says.
    pub fn reader(&self, key: i32) -> Result<Arc<Mapping>> {
        self.with(key, |segment| {
            let map = || Mapping::read_only(segment.descriptor.as_fd(), segment.len);
            get_or_map(&mut segment.reader, map)
        })
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
        let mut segments = lock(&self.segments);
        let segment = segments.get_mut(&key);
        action(segment.ok_or_else(|| Error::Protocol(format!("segment {key} was never sent")))?)
    }
}

fn get_or_map(slot: &mut Option<Arc<Mapping>>, map: impl FnOnce() -> Result<Mapping>) -> Result<Arc<Mapping>> {
    if let Some(mapping) = slot {
        return Ok(mapping.clone());
    }
    let mapping = Arc::new(map()?);
    *slot = Some(mapping.clone());
    Ok(mapping)
}
