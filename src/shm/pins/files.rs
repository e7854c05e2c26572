//! Index and pins as files: made by the store, mapped by it and by its peers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::peer::Peer;
use super::store::SharedIndex;
use crate::error::{Error, Result};
use crate::shm::index::layout::{ALIVE_OFFSET, Geometry};
use crate::shm::index::reader::IndexReader;
use crate::shm::index::writer::IndexWriter;
use crate::shm::mapping::Mapping;
use crate::shm::one_writer::OneWriter;
use crate::shm::segment::file_len;
use crate::shm::store_alive::StoreAlive;
use crate::shm::sync::AtomicU32;
use crate::shm::words::Words;

/// A store's index, written here.
#[derive(Debug)]
pub struct IndexFile {
    mapping: Arc<Mapping>,
    objects: u32,
}

impl IndexFile {
    /// Makes the index of a store for so many objects, empty. The descriptor is for peers, which can only read.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number that cannot be, [`Error::Io`] when there is no memory.
    pub fn create(objects: u32) -> Result<(Self, SharedIndex, OwnedFd)> {
        let geometry = Geometry::new(objects)?;
        let (mapping, descriptor) = OneWriter::create("plasma_store_index", geometry.bytes())?.write_here()?;
        let mapping = Arc::new(mapping);
        let words = Words::of_mapping(&mapping, 0, geometry.words())?;
        let random = || getrandom::u64().map_err(|error| Error::io("getrandom", error.into()));
        let index = IndexWriter::create(words, geometry, random()?, [random()?, random()?])?;
        Ok((Self { mapping, objects }, SharedIndex::new(index), descriptor))
    }

    /// Tells peers that the store runs, for as long as the value and the calling thread live.
    ///
    /// # Errors
    /// As for [`StoreAlive::hold`].
    pub fn hold_alive(&self) -> Result<StoreAlive> {
        StoreAlive::hold(&self.mapping, ALIVE_OFFSET)
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.mapping.len()
    }

    /// Makes the file of a new peer's pins.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no memory.
    pub fn new_pins(&self) -> Result<OneWriter> {
        OneWriter::create("plasma_store_pins", u64::from(self.objects) * size_of::<u32>() as u64)
    }

    /// The pins of a peer, to be read here: [`OneWriter::written_by_peer`] gave the descriptor.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn pins_of_peer(&self, file: &impl AsFd) -> Result<Words<AtomicU32>> {
        let mapping = Mapping::read_only(file, file_len(file.as_fd())?)?;
        Words::of_mapping(&Arc::new(mapping), 0, self.objects as usize)
    }
}

/// What a peer makes of the files that a store gave it. `kick` is as for [`Peer::new`].
///
/// # Errors
/// [`Error::Protocol`] when they are not what they should be, [`Error::Io`] when they cannot be mapped.
pub fn open_peer(index: &OwnedFd, pins: &OwnedFd, kick: impl Fn() + Send + Sync + 'static) -> Result<Peer> {
    let index = Arc::new(Mapping::read_only(index, file_len(index.as_fd())?)?);
    let words = (index.len() / size_of::<u64>() as u64) as usize;
    let reader = IndexReader::attach(&Words::of_mapping(&index, 0, words)?)?;
    let pins = Arc::new(Mapping::read_write(pins, file_len(pins.as_fd())?)?);
    let words = Words::of_mapping(&pins, 0, reader.capacity())?;
    Peer::new(reader, words, kick)
}
