//! External stores: where evicted objects go, and come back from, when the daemon was given one.
//!
//! A store is named by a URL; the part before `://` chooses the engine. To add one: a file here, [`ExternalStore`] for it, and a
//! line in [`open`]. What the store does with it, and when, is decided in `store::engine`.
//!
//! - [`hashtable`]: one in the daemon's own memory, as old Plasma had it.
//! - [`worker`]: the thread that calls an external store.
#![forbid(unsafe_code)]

mod hashtable;
pub(in crate::store) mod worker;

use crate::error::{Error, Result};
use crate::object::{Location, ObjectId};
use crate::shm::segment::Segment;

/// An external store. One thread calls it, one call at a time, so a call may take long: only those who wait for it are kept.
pub trait ExternalStore: Send {
    /// Writes an object, in place of one of that name that may be there.
    ///
    /// # Errors
    /// Any: the object then stays in memory, and nothing of it should stay here.
    fn put(&mut self, id: ObjectId, object: &Contents<'_>) -> Result<()>;

    /// Reads an object that was put: writes all its bytes into `object`, which has the size that it had.
    ///
    /// # Errors
    /// Any: the object stays here, and a later get may ask again.
    fn get(&mut self, id: ObjectId, object: &Contents<'_>) -> Result<()>;

    /// Forgets an object. It is no error when it is not there.
    ///
    /// # Errors
    /// Any; it is logged.
    fn delete(&mut self, id: ObjectId) -> Result<()>;
}

/// The bytes of one object in shared memory, data first and metadata right behind. They are copied out and in, piece by piece
/// where an engine likes that, so an external store needs no memory for a whole object.
#[derive(Debug)]
pub struct Contents<'s> {
    segment: &'s Segment,
    location: Location,
}

impl<'s> Contents<'s> {
    pub(in crate::store) fn new(segment: &'s Segment, location: Location) -> Self {
        Self { segment, location }
    }

    /// Bytes of data.
    pub fn data_size(&self) -> u64 {
        self.location.data_size
    }

    /// Bytes of metadata.
    pub fn metadata_size(&self) -> u64 {
        self.location.metadata_size
    }

    /// Bytes of both.
    pub fn size(&self) -> u64 {
        self.data_size() + self.metadata_size()
    }

    /// Fills `out` with the bytes from `offset`, which counts from the first of the data.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] beyond the end of the object, [`Error::Io`] when reading fails.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.segment.read_at(self.checked(offset, out.len())?, out)
    }

    /// Writes `bytes` at `offset`, which counts from the first of the data.
    ///
    /// # Errors
    /// As for [`Contents::read`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.segment.write_at(self.checked(offset, bytes.len())?, bytes)
    }

    fn checked(&self, offset: u64, len: usize) -> Result<u64> {
        match offset.checked_add(len as u64).filter(|end| *end <= self.size()) {
            Some(_) => Ok(self.location.offset + offset),
            None => {
                let text = format!("{len} bytes at {offset} are not in an object of {} bytes", self.size());
                Err(Error::InvalidArgument(text))
            }
        }
    }
}

/// Schemes of the external stores there are.
const KNOWN: &str = "hashtable";

/// The external store that a URL names.
///
/// # Errors
/// [`Error::InvalidArgument`] that names the scheme and those that are known.
pub fn open(url: &str) -> Result<Box<dyn ExternalStore>> {
    match url.split_once("://") {
        Some(("hashtable", _)) => Ok(Box::<hashtable::Hashtable>::default()),
        Some((scheme, _)) => {
            let text = format!("there is no external store {scheme:?} (in {url:?}); known are: {KNOWN}");
            Err(Error::InvalidArgument(text))
        }
        None => {
            let text = format!("an external store is named as in hashtable://name, not {url:?}; known are: {KNOWN}");
            Err(Error::InvalidArgument(text))
        }
    }
}
