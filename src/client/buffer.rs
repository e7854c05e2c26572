//! Memory of objects in this process, and the hold that keeps it theirs.
//!
//! A buffer keeps its mapping and its connection alive, so it stays readable after the client was dropped, the object
//! deleted, the store ended. In a forked child it stays readable too; dropping it there says nothing to the store.
#![forbid(unsafe_code)]

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::client::connection::Connection;
use crate::client::lock;
use crate::client::mappings::Access;
use crate::error::{Error, Result};
use crate::metadata::{self, Trailer};
use crate::object::{Location, ObjectId};
use crate::protocol::{Request, digest_of};
use crate::shm::mapping::Mapping;
use crate::shm::pins::peer::Held;
use crate::shm::sync::AtomicU64 as Word;
use crate::shm::words::Words;

/// A hold on a sealed object that the store has counted. It is told when this is dropped.
#[derive(Debug)]
pub(super) struct CountedHold {
    id: ObjectId,
    connection: Arc<Connection>,
}

impl CountedHold {
    /// Takes up a hold that the store has counted.
    pub fn new(id: ObjectId, connection: Arc<Connection>) -> Self {
        Self { id, connection }
    }
}

impl Drop for CountedHold {
    fn drop(&mut self) {
        self.connection.notify(&Request::Release { id: self.id });
    }
}

/// Where an object lies in a mapping, all of it inside. Two words, which go from function to function in registers.
#[derive(Debug)]
pub(super) struct Place {
    mapping: Arc<Mapping>,
    /// From the start of the mapping.
    offset: u64,
}

impl Place {
    /// Maps the memory of a held object, for everybody's bytes or as a private copy of them.
    pub(super) fn map(connection: &Arc<Connection>, location: Location, private: bool) -> Result<Self> {
        let size = location.data_size.saturating_add(location.metadata_size);
        if !private || size == 0 {
            return Self::shared(connection.segment(location.segment, Access::Read)?, location);
        }
        let mapping = connection.private(location.segment, location.offset, size)?;
        Self::checked(Arc::new(mapping), 0, location)
    }

    /// Where the location says, in a mapping of its segment.
    #[inline(always)]
    pub(super) fn shared(mapping: Arc<Mapping>, location: Location) -> Result<Self> {
        Self::checked(mapping, location.offset, location)
    }

    /// Looks once, so that handing out addresses cannot fail.
    #[inline(always)]
    fn checked(mapping: Arc<Mapping>, offset: u64, location: Location) -> Result<Self> {
        mapping.address(offset, location.data_size.saturating_add(location.metadata_size))?;
        Ok(Self { mapping, offset })
    }
}

/// Nobody has asked yet.
const UNKNOWN: u64 = u64::MAX;

/// A range of a mapping: an object's data, and its metadata right behind.
#[derive(Debug)]
pub(super) struct Memory {
    mapping: Arc<Mapping>,
    /// From the start of the mapping.
    offset: u64,
    data_size: u64,
    metadata_size: u64,
    /// Bytes of metadata that are the user's, or [`UNKNOWN`].
    user_metadata_size: AtomicU64,
}

impl Memory {
    #[inline(always)]
    pub(super) fn new(place: Place, location: Location) -> Self {
        let Location { data_size, metadata_size, .. } = location;
        let Place { mapping, offset } = place;
        Self { mapping, offset, data_size, metadata_size, user_metadata_size: AtomicU64::new(UNKNOWN) }
    }

    pub(super) fn data(&self) -> *const u8 {
        self.mapping.address(self.offset, self.data_size).unwrap_or(std::ptr::null())
    }

    pub(super) fn metadata(&self) -> *const u8 {
        self.mapping.address(self.offset + self.data_size, self.metadata_size).unwrap_or(std::ptr::null())
    }

    pub(super) fn data_mut(&self) -> *mut u8 {
        self.mapping.address_mut(self.offset, self.data_size).unwrap_or(std::ptr::null_mut())
    }

    /// Bytes of data.
    pub(super) fn data_size(&self) -> u64 {
        self.data_size
    }

    /// The data as words.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the mapping is read-only.
    pub(super) fn words(&self) -> Result<Words<Word>> {
        Words::of_mapping(&self.mapping, self.offset, self.data_size as usize / size_of::<u64>())
    }

    /// Lets some of the data be touched, to write or only to read, or not at all. The range begins and ends at pages, where the
    /// data do.
    pub(super) fn guard(&self, range: Range<u64>, writable: Option<bool>) -> Result<()> {
        self.mapping.guard(self.offset + range.start..self.offset + range.end, writable)
    }

    /// Copies data in.
    pub(super) fn write(&self, connection: &Connection, offset: u64, bytes: &[u8]) -> Result<()> {
        crate::client::check_range(offset, bytes.len() as u64, self.data_size)?;
        self.mapping.write_with(connection.copier(), self.offset + offset, bytes)
    }

    /// Copies data out.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        crate::client::check_range(offset, bytes.len() as u64, self.data_size)?;
        self.mapping.read(self.offset + offset, bytes)
    }

    /// Bytes of metadata that are the user's. Found out once: other processes may write the bytes that tell it.
    pub(super) fn user_metadata_size(&self) -> Result<u64> {
        let known = self.user_metadata_size.load(Ordering::Relaxed);
        if known != UNKNOWN || self.metadata_size == 0 {
            return Ok(if self.metadata_size == 0 { 0 } else { known });
        }
        let found = self.find_user_metadata_size()?;
        let first = self.user_metadata_size.compare_exchange(UNKNOWN, found, Ordering::Relaxed, Ordering::Relaxed);
        // Of several threads that get here at once, all take what one has found.
        Ok(first.err().unwrap_or(found))
    }

    /// What of the metadata is not our trailer, which is looked at in a private copy.
    fn find_user_metadata_size(&self) -> Result<u64> {
        Ok(self.split_metadata()?.0)
    }

    /// Bytes of metadata that are the user's, and our trailer.
    pub(super) fn split_metadata(&self) -> Result<(u64, Option<Trailer>)> {
        let mut tail = [0; metadata::TAIL_SIZE];
        let Some(before_tail) = self.metadata_size.checked_sub(tail.len() as u64) else {
            return Ok((self.metadata_size, None));
        };
        let metadata_offset = self.offset + self.data_size;
        self.mapping.read(metadata_offset + before_tail, &mut tail)?;
        let Some(size) = metadata::trailer_size(&tail, self.metadata_size) else {
            return Ok((self.metadata_size, None));
        };
        let mut trailer = vec![0; size];
        let before_trailer = self.metadata_size - size as u64;
        self.mapping.read(metadata_offset + before_trailer, &mut trailer)?;
        let (user, trailer) = metadata::split(&trailer);
        Ok((before_trailer + user as u64, trailer))
    }
}

/// A sealed object. Its memory is read-only for this process, or private to it (copy-on-write).
///
/// May be sent to and used from any thread. Other processes of the old protocol map memory writable, so the bytes are handed
/// out as a pointer and never as a slice: that they do not change is a promise of the peers, not of the kernel.
#[derive(Debug)]
pub struct Buffer {
    id: ObjectId,
    /// What keeps the object's memory its own, as the store finds it among the pins of this process.
    pin: Option<Held>,
    /// What does so if it has no pin. Several buffers of one answer share it.
    _counted: Option<Arc<CountedHold>>,
    connection: Arc<Connection>,
    memory: Memory,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // In a forked child there is no reader: the pin is its parent's.
        if let (Some(pin), Some(reader)) = (self.pin.take(), self.connection.reader()) {
            reader.release(pin);
        }
    }
}

impl Buffer {
    /// An object that this process has pinned.
    #[inline(always)]
    pub(super) fn pinned(
        id: ObjectId,
        connection: Arc<Connection>,
        pin: Held,
        place: Place,
        location: Location,
    ) -> Self {
        Self { id, pin: Some(pin), _counted: None, connection, memory: Memory::new(place, location) }
    }

    /// Maps an object that the store has counted.
    pub(super) fn counted(hold: Arc<CountedHold>, location: Location, private: bool) -> Result<Self> {
        let memory = Memory::new(Place::map(&hold.connection, location, private)?, location);
        Ok(Self { id: hold.id, pin: None, connection: hold.connection.clone(), _counted: Some(hold), memory })
    }

    /// The object's name.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// First byte of the data, 64-byte aligned; not null, and readable for [`Buffer::size`] bytes while this buffer lives.
    pub fn data(&self) -> *const u8 {
        self.memory.data()
    }

    /// The same, to be written, if this buffer is private to the process; else `None`.
    pub fn private_data(&self) -> Option<*mut u8> {
        self.memory.mapping.is_writable().then(|| self.memory.data_mut())
    }

    /// Bytes of data.
    pub fn size(&self) -> u64 {
        self.memory.data_size
    }

    /// First byte of the user's metadata, readable for [`Buffer::metadata_size`] bytes while this buffer lives.
    pub fn metadata(&self) -> *const u8 {
        self.memory.metadata()
    }

    /// Bytes of the user's metadata, without our trailer.
    pub fn metadata_size(&self) -> u64 {
        // Fails only if the mapping is too short, which `Place` rules out.
        self.memory.user_metadata_size().unwrap_or(0)
    }

    /// What the metadata have behind the user's, if anything.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] if the mapping is too short, which making a buffer rules out.
    pub fn trailer(&self) -> Result<Option<Trailer>> {
        Ok(self.memory.split_metadata()?.1)
    }

    /// Copies data out.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] when the range is not in the data.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.memory.read(offset, bytes)
    }

    /// Copies data in, if this buffer is private to the process.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the range is not in the data; [`Error::ObjectAlreadySealed`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self.private_data() {
            Some(_) => self.memory.write(&self.connection, offset, bytes),
            None => Err(Error::ObjectAlreadySealed(self.id)),
        }
    }

    /// Whether the kernel keeps everybody from changing the object, its producer included: as it does with what was created to be
    /// immutable, and when this process has first seen it after its producer's end, also with other objects.
    pub fn is_immutable(&self) -> bool {
        let Memory { data_size, metadata_size, mapping, .. } = &self.memory;
        (*data_size, *metadata_size) == (0, 0) || mapping.is_immutable()
    }

    /// The digest that an old client would compute of this object: of its data and all its metadata, our trailer included.
    ///
    /// # Errors
    /// [`crate::error::Error::Protocol`] if the mapping is too short, which [`Buffer::new`] rules out.
    pub fn digest(&self) -> Result<[u8; 8]> {
        let Memory { mapping, offset, data_size, metadata_size, .. } = &self.memory;
        let mut metadata = vec![0; *metadata_size as usize];
        mapping.read(offset + data_size, &mut metadata)?;
        digest_of(*data_size, &metadata, |at, out| mapping.read(offset + at, out))
    }
}

/// How far an object that this client creates has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Writing,
    Sealed,
    /// Its client is gone: it is aborted when its buffer is.
    Orphaned,
    /// Given up; there is nothing left to tell the store.
    Aborted,
}

/// An object between create and seal, as client and buffer both know it.
#[derive(Debug)]
pub struct Pending {
    id: ObjectId,
    connection: Arc<Connection>,
    /// Nobody can write it once it is sealed; so its buffer must be gone by then.
    pub immutable: bool,
    state: Mutex<PendingState>,
}

#[derive(Debug)]
struct PendingState {
    phase: Phase,
    has_buffer: bool,
}

impl Pending {
    /// A new object, whose buffer is about to be made.
    pub fn new(id: ObjectId, connection: Arc<Connection>, immutable: bool) -> Self {
        Self { id, connection, immutable, state: Mutex::new(PendingState { phase: Phase::Writing, has_buffer: true }) }
    }

    /// Whether its buffer is still alive.
    pub fn has_buffer(&self) -> bool {
        lock(&self.state).has_buffer
    }

    /// The store has sealed it. Without a buffer, nobody here holds it any more.
    pub fn sealed(&self) {
        self.enter(Phase::Sealed);
    }

    /// The same, and the store knows already that nobody here holds it.
    pub fn sealed_and_released(&self) {
        lock(&self.state).phase = Phase::Aborted;
    }

    /// The store has dropped it.
    pub fn aborted(&self) {
        self.enter(Phase::Aborted);
    }

    /// Its client is gone. Its memory must not become another object's while the buffer can be written.
    pub fn orphaned(&self) {
        self.enter(Phase::Orphaned);
    }

    fn enter(&self, phase: Phase) {
        let mut state = lock(&self.state);
        state.phase = phase;
        if !state.has_buffer {
            self.let_go(phase);
        }
    }

    fn buffer_dropped(&self) {
        if !self.connection.is_usable() {
            return;
        }
        let mut state = lock(&self.state);
        state.has_buffer = false;
        self.let_go(state.phase);
    }

    /// Neither client nor buffer needs the object any more.
    fn let_go(&self, phase: Phase) {
        match phase {
            Phase::Sealed => self.connection.notify(&Request::Release { id: self.id }),
            Phase::Orphaned => self.connection.notify(&Request::Abort { id: self.id }),
            Phase::Writing | Phase::Aborted => {}
        }
    }
}

/// An object that is being filled. Dropping it neither seals nor aborts.
///
/// The pointer may be used from any thread; after the seal it must not be written through any more.
#[derive(Debug)]
pub struct WritableBuffer {
    memory: Memory,
    /// This process has its segment mapped for this buffer alone, and a forked child does not.
    is_alone: bool,
    /// Dropped last: when it is told that there is no buffer, nothing is mapped for it any more.
    pending: OfBuffer,
}

/// An object as its buffer knows it.
#[derive(Debug)]
struct OfBuffer(Arc<Pending>);

impl Deref for OfBuffer {
    type Target = Pending;

    fn deref(&self) -> &Pending {
        &self.0
    }
}

impl Drop for OfBuffer {
    fn drop(&mut self) {
        self.0.buffer_dropped();
    }
}

impl WritableBuffer {
    /// Maps a new object; when that fails, the object is given up.
    pub(crate) fn new(pending: Arc<Pending>, location: Location) -> Result<Self> {
        let told = pending.clone();
        let buffer = Self::in_room(pending, location);
        buffer.inspect_err(|_| told.connection.notify(&Request::Abort { id: told.id }))
    }

    /// Maps room that the store does not know to be an object's.
    pub(super) fn in_room(pending: Arc<Pending>, location: Location) -> Result<Self> {
        // What has no bytes lies nowhere.
        let is_alone = pending.immutable && location.data_size.saturating_add(location.metadata_size) > 0;
        let mapping = match is_alone {
            true => Arc::new(pending.connection.segment_for_one(location.segment)?),
            false => pending.connection.segment(location.segment, Access::Write)?,
        };
        let place = Place::shared(mapping, location)?;
        Ok(Self { memory: Memory::new(place, location), is_alone, pending: OfBuffer(pending) })
    }

    /// The object's name.
    pub fn id(&self) -> ObjectId {
        self.pending.id
    }

    /// First byte of the data, 64-byte aligned, writable for [`WritableBuffer::size`] bytes; `None` once it is sealed, and in
    /// a forked child.
    pub fn mutable_data(&self) -> Option<*mut u8> {
        if !self.pending.connection.is_usable() {
            return None;
        }
        let writable = matches!(lock(&self.pending.state).phase, Phase::Writing | Phase::Orphaned);
        writable.then(|| self.memory.data_mut())
    }

    /// The same for reading, also when it is sealed. Null in a forked child if the object is to be immutable: there its memory is not.
    pub fn data(&self) -> *const u8 {
        if self.is_here() { self.memory.data() } else { std::ptr::null() }
    }

    /// Whether this process has its memory.
    fn is_here(&self) -> bool {
        !self.is_alone || self.pending.connection.is_usable()
    }

    /// Bytes of data.
    pub fn size(&self) -> u64 {
        self.memory.data_size
    }

    /// First byte of the metadata; null where the data are.
    pub fn metadata(&self) -> *const u8 {
        if self.is_here() { self.memory.metadata() } else { std::ptr::null() }
    }

    /// Bytes of the user's metadata, without our trailer.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] if the mapping is too short, which [`WritableBuffer::new`] rules out.
    pub fn metadata_size(&self) -> Result<u64> {
        if self.is_here() { self.memory.user_metadata_size() } else { Err(Error::Forked) }
    }

    /// The data as words.
    ///
    /// # Errors
    /// As for [`Memory::words`].
    pub(super) fn words(&self) -> Result<Words<Word>> {
        self.memory.words()
    }

    /// Copies data in, at the speed of the memory ([`crate::shm::copy`]).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the range is not in the data; [`Error::ObjectAlreadySealed`], [`Error::Forked`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.mutable_data().is_none() {
            return Err(if self.pending.connection.is_usable() {
                Error::ObjectAlreadySealed(self.id())
            } else {
                Error::Forked
            });
        }
        self.memory.write(&self.pending.connection, offset, bytes)
    }

    /// What the metadata have behind the user's, if anything.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] if the mapping is too short, which making a buffer rules out.
    pub fn trailer(&self) -> Result<Option<Trailer>> {
        Ok(self.memory.split_metadata()?.1)
    }

    /// Copies data out.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidArgument`] when the range is not in the data; [`Error::Forked`] where it is not mapped.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        if !self.is_here() {
            return Err(Error::Forked);
        }
        self.memory.read(offset, bytes)
    }

    /// Fills in the metadata, which is as long as the create said.
    pub(crate) fn write_metadata(&self, metadata: &[u8]) -> Result<()> {
        self.memory.mapping.write(self.memory.offset + self.memory.data_size, metadata)
    }
}

impl Drop for WritableBuffer {
    fn drop(&mut self) {
        if !self.is_here() {
            // At these addresses a forked child may have something else by now.
            std::mem::forget(self.memory.mapping.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::metadata::KEY_NAME;
    use crate::shm::segment::Segment;

    const LEN: u64 = 4096;

    /// An object of 3 bytes, with these metadata, at the start of a segment.
    fn memory(segment: &Segment, metadata: &[u8]) -> Memory {
        segment.write_at(3, metadata).unwrap();
        let mapping = Mapping::read_only(segment.as_fd(), LEN).unwrap();
        let metadata_size = metadata.len() as u64;
        let location = Location { segment: 1, offset: 0, data_size: 3, metadata_size };
        Memory::new(Place::shared(Arc::new(mapping), location).unwrap(), location)
    }

    #[test]
    fn the_size_of_metadata_stays_what_it_was_when_it_was_asked_for() {
        let segment = Segment::create("test", LEN).unwrap();
        let mut trailer = Trailer::default();
        trailer.push(KEY_NAME, b"n").unwrap();
        let stored = trailer.append_to(b"user");
        let memory = memory(&segment, &stored);
        assert_eq!(memory.user_metadata_size().unwrap(), 4);
        // As a peer that writes where it must not.
        segment.write_at(3 + stored.len() as u64 - 1, b"!").unwrap();
        assert_eq!(memory.user_metadata_size().unwrap(), 4);
        assert_eq!(memory.find_user_metadata_size().unwrap(), stored.len() as u64);
    }

    #[test]
    fn metadata_without_a_trailer_are_the_users() {
        let segment = Segment::create("test", LEN).unwrap();
        for metadata in [&b""[..], b"u", b"more than a trailer's tail"] {
            let memory = memory(&segment, metadata);
            assert_eq!(memory.user_metadata_size().unwrap(), metadata.len() as u64);
            assert_eq!(memory.user_metadata_size().unwrap(), metadata.len() as u64);
        }
    }

    #[test]
    fn memory_lies_inside_its_mapping() {
        let segment = Segment::create("test", LEN).unwrap();
        let mapping = Arc::new(Mapping::read_only(segment.as_fd(), LEN).unwrap());
        for (offset, data_size, metadata_size) in [(LEN, 1, 0), (0, LEN, 1), (0, u64::MAX, 1), (u64::MAX, 1, 0)] {
            let location = Location { segment: 1, offset, data_size, metadata_size };
            assert!(matches!(Place::shared(mapping.clone(), location), Err(Error::Protocol(_))), "{location:?}");
        }
    }
}
