//! An object that a put of ours is filling: in room that the store granted before, where there is some, so that one record makes and seals
//! it; else in room that was asked for. Nobody else sees it before it is sealed, and it goes if it never is.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::client::buffer::{Pending, WritableBuffer};
use crate::client::granted::Room;
use crate::client::mappings::Access;
use crate::client::submit::{Ring, Whose, judged};
use crate::client::{Client, CreateOptions, NO_BYTES, refused};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::object::{Location, ObjectId};
use crate::protocol::Refusal;
use crate::shm::mapping::Mapping;
use crate::shm::ring::record::Record;

/// Bytes that are moved at once from room that the store did not take for an object.
const PIECE: u64 = 1 << 20;

/// What is left to do for an object whose bytes are all there. Its buffer is dropped before.
#[derive(Debug)]
pub struct Draft<'a> {
    client: &'a Client,
    location: Location,
    id: ObjectId,
    options: CreateOptions<'static>,
    origin: Origin<'a>,
}

/// Where its room is from.
#[derive(Debug)]
enum Origin<'a> {
    /// The store knows it.
    Asked,
    /// It was granted before.
    Granted(&'a Ring, Room),
    /// The object is sealed, or there is none.
    Done,
}

impl Client {
    /// Begins an object that is sealed as soon as it is filled; metadata as they are stored.
    ///
    /// # Errors
    /// As for [`Client::create`]; that there is such an object already may also be told when it is sealed.
    pub(super) fn draft(
        &self,
        id: ObjectId,
        data_size: u64,
        metadata: &[u8],
        options: CreateOptions<'_>,
    ) -> Result<(WritableBuffer, Draft<'_>)> {
        // It is in the metadata already.
        let options = CreateOptions { name: None, ..options };
        let metadata_size = metadata.len() as u64;
        let size = data_size.saturating_add(metadata_size);
        let granted = self.take_granted(size, options).map(|(ring, room)| {
            let location = Location { segment: room.segment, offset: room.offset, data_size, metadata_size };
            (location, Draft { client: self, location, id, options, origin: Origin::Granted(ring, room) })
        });
        let Some((location, draft)) = granted else {
            let buffer = self.create_described(id, data_size, metadata, options)?;
            let location = Location { data_size, metadata_size, ..Location::default() };
            return Ok((buffer, Draft { client: self, location, id, options, origin: Origin::Asked }));
        };
        if self.sees(id)? == Some(true) {
            return Err(Error::ObjectExists(id));
        }
        let pending = Arc::new(Pending::new(id, self.connection.clone(), false));
        let buffer = WritableBuffer::in_room(pending, location)?;
        buffer.write_metadata(metadata)?;
        Ok((buffer, draft))
    }

    fn take_granted(&self, size: u64, options: CreateOptions) -> Option<(&Ring, Room)> {
        let CreateOptions { ttl_ms: 0, wait_ms: 0, immutable: false, .. } = options else { return None };
        let ring = self.connection.present_ring().filter(|_| size > 0)?;
        ring.take_room(size).map(|room| (ring, room))
    }
}

impl Draft<'_> {
    /// Seals it.
    ///
    /// # Errors
    /// As for [`Client::seal`] and [`Client::create`]; there is no object then.
    pub fn seal(mut self) -> Result<()> {
        match self.origin {
            Origin::Granted(ring, room) => {
                let record = self.publish_record(ring, room);
                let outcome = self.client.connection.submit_and_wait(ring, |_| record, NO_BYTES)?;
                crash::at(Point::PublishAnswered);
                match judged(&outcome) {
                    Ok(()) => {
                        ring.rooms.keep(&outcome);
                        self.origin = Origin::Done;
                    }
                    // The socket tells why, or finds room.
                    Err(Refusal::OutOfMemory) => self.move_to_asked(room)?,
                    Err(refusal) => return Err(refused(self.id, refusal)),
                }
            }
            Origin::Asked | Origin::Done => {}
        }
        if let Origin::Asked = self.origin {
            self.client.seal_wanting(self.id, self.wanted())?;
            self.origin = Origin::Done;
        }
        Ok(())
    }

    /// Seals it some time soon, as [`Client::seal_async`] does.
    ///
    /// # Errors
    /// What the connection says.
    pub fn seal_async(mut self) -> Result<()> {
        match self.origin {
            Origin::Granted(ring, room) => {
                let record = self.publish_record(ring, room);
                let whose = Whose::Published(self.id, room);
                self.client.connection.submit(ring, whose, |_| record, NO_BYTES)?;
            }
            Origin::Asked => self.client.seal_async_wanting(self.id, self.wanted())?,
            Origin::Done => {}
        }
        self.origin = Origin::Done;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.location.data_size + self.location.metadata_size
    }

    /// For how large an object room may be wanted next. What is immutable never lies in such room.
    fn wanted(&self) -> u64 {
        if self.options.immutable { 0 } else { self.size() }
    }

    fn publish_record(&self, ring: &Ring, room: Room) -> Record {
        let Location { data_size, metadata_size, .. } = self.location;
        let (evict, next) = (!self.options.no_evict, ring.rooms.wanted_after(self.size()));
        Record::Publish { id: self.id, data_size, metadata_size, evict, granted: room.number, next }
    }

    /// Moves the bytes to room that the store gives for them now.
    fn move_to_asked(&mut self, room: Room) -> Result<()> {
        let client = self.client;
        let Location { data_size, metadata_size, offset, .. } = self.location;
        let mapping = client.connection.segment(room.segment, Access::Write)?;
        let mut metadata = vec![0; metadata_size as usize];
        mapping.read(offset + data_size, &mut metadata)?;
        let buffer = client.create_by_asking(self.id, data_size, &metadata, self.options)?;
        let copied = copy(&mapping, offset, &buffer);
        self.give_up();
        self.origin = Origin::Asked;
        copied
    }

    fn give_up(&mut self) {
        match std::mem::replace(&mut self.origin, Origin::Done) {
            Origin::Asked => drop(self.client.abort(self.id)),
            Origin::Granted(ring, room) => ring.rooms.put_back(room),
            Origin::Done => {}
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Fills an object with what lies somewhere else.
fn copy(from: &Mapping, offset: u64, to: &WritableBuffer) -> Result<()> {
    let mut piece = vec![0; to.size().min(PIECE) as usize];
    let mut done = 0;
    while done < to.size() {
        let len = (to.size() - done).min(PIECE);
        let piece = piece.get_mut(..len as usize).unwrap_or_default();
        from.read(offset + done, piece)?;
        to.write(done, piece)?;
        done += len;
    }
    Ok(())
}
