//! Getting objects without asking the store: by its index, which this process reads, and pins, which the store looks at.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::client::buffer::{Buffer, Place};
use crate::client::connection::Patience;
use crate::client::mappings::Access;
use crate::client::{Client, unexpected};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::object::{Location, ObjectId};
use crate::protocol::{Reply, Request};
use crate::shm::mapping::Mapping;
use crate::shm::pins::files::open_peer;
use crate::shm::pins::peer::{Held, Lookup, Peer};
use crate::transport::knock::knock;

/// What became of an attempt to get an object without asking.
pub(super) enum Read {
    /// It is here.
    Buffer(Buffer),
    /// There was a moment when no such object was sealed.
    Missing,
    /// The store has to be asked.
    Unknown,
}

impl Read {
    /// Whether to ask the store: what is seen not to be there is waited for, by asking, or not at all.
    #[inline]
    pub(super) fn is_to_be_asked_for(&self, timeout_ms: i64) -> bool {
        match self {
            Self::Buffer(_) => false,
            Self::Missing => timeout_ms != 0,
            Self::Unknown => true,
        }
    }

    #[inline]
    pub(super) fn into_buffer(self) -> Option<Buffer> {
        if let Self::Buffer(buffer) = self { Some(buffer) } else { None }
    }
}

/// A segment that an object was just found in; the next one is likely to be there too.
#[derive(Debug, Default)]
pub(super) struct LastSegment(Option<(i32, Arc<Mapping>)>);

impl LastSegment {
    fn mapping(&mut self, client: &Client, key: i32) -> Result<Arc<Mapping>> {
        match &self.0 {
            Some((last, mapping)) if *last == key => Ok(mapping.clone()),
            _ => {
                let mapping = client.segment(key)?;
                self.0 = Some((key, mapping.clone()));
                Ok(mapping)
            }
        }
    }
}

impl Client {
    /// Gets what it takes to read without asking. A store that refuses is asked for every object.
    pub(super) fn begin_reading(&self) -> Result<()> {
        let files = Request::Index { mapped: false };
        // Answered at once, or the store is stopped.
        let patience = Patience::of_get(0);
        let (reply, descriptors) = self.connection.call_with_descriptors(&files, patience)?;
        let Ok([index, pins, bell]) = <[OwnedFd; 3]>::try_from(descriptors) else { return refused(reply) };
        crash::at(Point::IndexGiven);
        let bell = Arc::new(bell);
        let theirs = bell.clone();
        let reader = open_peer(&index, &pins, move || knock(&theirs))?;
        crash::at(Point::IndexMapped);
        match self.connection.call(&Request::Index { mapped: true }, patience)? {
            Reply::Index { outcome: Ok(false) } => {
                self.connection.set_reader(reader);
                self.connection.listen(bell);
                Ok(())
            }
            other => refused(other),
        }
    }

    /// Gets an object if it is sealed and in the index. A segment that is not mapped yet is asked for.
    #[inline(always)]
    pub(super) fn read(&self, id: ObjectId, private: bool) -> Result<Read> {
        self.read_in(id, private, false, |key| self.segment(key))
    }

    /// The same for an object that the store holds for this client: deleted or not, it is still there.
    pub(super) fn read_held(&self, id: ObjectId, private: bool) -> Result<Read> {
        self.read_in(id, private, true, |key| self.segment(key))
    }

    /// The same for one of several.
    #[inline(always)]
    pub(super) fn read_next(&self, id: ObjectId, private: bool, last: &mut LastSegment) -> Result<Read> {
        self.read_in(id, private, false, |key| last.mapping(self, key))
    }

    /// A segment to read in. Most are mapped already, and that is seen without leaving this function.
    #[inline(always)]
    fn segment(&self, key: i32) -> Result<Arc<Mapping>> {
        match self.connection.mappings().get(key, Access::Read) {
            Some(mapping) => Ok(mapping),
            None => self.connection.segment(key, Access::Read),
        }
    }

    #[inline(always)]
    fn read_in(
        &self,
        id: ObjectId,
        private: bool,
        is_held: bool,
        mapping_of: impl FnOnce(i32) -> Result<Arc<Mapping>>,
    ) -> Result<Read> {
        let Some(reader) = self.connection.reader() else { return Ok(Read::Unknown) };
        let held = match hold(reader, &id, is_held) {
            Ok(held) => held,
            Err(read) => return Ok(read),
        };
        // Nothing in between can panic.
        let location = reader.location(&held);
        match self.place_of(location, private, mapping_of) {
            Ok(place) => Ok(Read::Buffer(Buffer::pinned(id, self.connection.clone(), held, place, location))),
            Err(error) => {
                reader.release(held);
                Err(error)
            }
        }
    }

    #[inline(always)]
    fn place_of(
        &self,
        location: Location,
        private: bool,
        mapping_of: impl FnOnce(i32) -> Result<Arc<Mapping>>,
    ) -> Result<Place> {
        if private {
            return Place::map(&self.connection, location, true);
        }
        Place::shared(mapping_of(location.segment)?, location)
    }

    /// Whether a sealed object of this id is in the store, if that can be seen.
    pub(super) fn sees(&self, id: ObjectId) -> Result<Option<bool>> {
        if !self.is_usable() {
            return Err(Error::Forked);
        }
        let Some(reader) = self.connection.reader() else { return Ok(None) };
        Ok(match reader.hold(&id) {
            Lookup::Found(held) => {
                let is_doomed = held.is_doomed();
                reader.release(held);
                // Whether a deleted object is gone depends on others, so the store is asked.
                (!is_doomed).then_some(true)
            }
            Lookup::Missing => Some(false),
            Lookup::AskStore => None,
        })
    }
}

/// Holds an object that is there to stay, or that the store holds for this client; else what became of the attempt.
#[inline(always)]
fn hold(reader: &Peer, id: &ObjectId, is_held: bool) -> Result<Held, Read> {
    match reader.hold(id) {
        Lookup::Found(held) if is_held || !held.is_doomed() => Ok(held),
        Lookup::Found(held) => {
            reader.release(held);
            Err(Read::Unknown)
        }
        Lookup::Missing => Err(Read::Missing),
        Lookup::AskStore => Err(Read::Unknown),
    }
}

fn refused(reply: Reply) -> Result<()> {
    match reply {
        Reply::Index { outcome: Err(reason) } => {
            log::info!("the store is asked for every object: {reason}");
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}
