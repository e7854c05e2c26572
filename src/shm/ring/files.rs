//! Both halves of a ring as files: made by the store, mapped by it and by the peer.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::collector::Collector;
use super::grants::{Grantee, Grantor};
use super::submitter::Submitter;
use super::{PEER_WORDS, STAGING_BYTES, STORE_WORDS};
use crate::error::{Error, Result};
use crate::shm::mapping::Mapping;
use crate::shm::one_writer::OneWriter;
use crate::shm::segment::file_len;
use crate::shm::words::Words;

/// Bytes before those of small objects.
const STAGING_OFFSET: u64 = (PEER_WORDS * size_of::<u64>()) as u64;
/// Bytes of the file that the peer writes.
const PEER_BYTES: u64 = STAGING_OFFSET + STAGING_BYTES;
/// Bytes of the file that the store writes.
const STORE_BYTES: u64 = (STORE_WORDS * size_of::<u64>()) as u64;

/// The bytes of small objects on their way to the store.
#[derive(Clone, Debug)]
pub struct Staging {
    mapping: Arc<Mapping>,
}

impl Staging {
    /// Copies bytes in.
    ///
    /// # Errors
    /// [`Error::Protocol`] naming the numbers when they do not fit; [`Error::InvalidArgument`] in the store.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.mapping.write(inside(offset, bytes.len())?, bytes)
    }

    /// Copies bytes out, which may change meanwhile.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.mapping.read(inside(offset, bytes.len())?, bytes)
    }
}

/// Where in the file so many staged bytes lie.
fn inside(offset: u64, len: usize) -> Result<u64> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= STAGING_BYTES => Ok(STAGING_OFFSET + offset),
        _ => Err(Error::Protocol(format!("{len} bytes staged at {offset}; {STAGING_BYTES} can be"))),
    }
}

/// A ring of a peer that may not have mapped it.
#[derive(Debug)]
pub struct NewRing {
    /// For the peer to map and write.
    pub submissions: OneWriter,
    outcomes: Arc<Mapping>,
}

impl NewRing {
    /// Makes the files. The descriptor is for the peer, which can only read that one.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no memory.
    pub fn create() -> Result<(Self, OwnedFd)> {
        let submissions = OneWriter::create("plasma_store_submissions", PEER_BYTES)?;
        let (outcomes, descriptor) = OneWriter::create("plasma_store_outcomes", STORE_BYTES)?.write_here()?;
        Ok((Self { submissions, outcomes: Arc::new(outcomes) }, descriptor))
    }

    /// The store's side, now that the peer has mapped it: nobody else can write it from here on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn collect(&self) -> Result<(Collector, Grantor, Staging)> {
        let submissions = self.submissions.written_by_peer()?;
        let mapping = Arc::new(Mapping::read_only(&submissions, file_len(submissions.as_fd())?)?);
        let peers = Words::of_mapping(&mapping, 0, PEER_WORDS)?;
        let own = Words::of_mapping(&self.outcomes, 0, STORE_WORDS)?;
        Ok((Collector::new(&peers, &own)?, Grantor::new(&peers, &own)?, Staging { mapping }))
    }
}

/// What a peer makes of the files that a store gave it.
///
/// # Errors
/// [`Error::Protocol`] when they are not what they should be, [`Error::Io`] when they cannot be mapped.
pub fn open_ring(submissions: &OwnedFd, outcomes: &OwnedFd) -> Result<(Submitter, Grantee, Staging)> {
    let mapping = Arc::new(Mapping::read_write(submissions, PEER_BYTES)?);
    let stores = Arc::new(Mapping::read_only(outcomes, STORE_BYTES)?);
    let own = Words::of_mapping(&mapping, 0, PEER_WORDS)?;
    let stores = Words::of_mapping(&stores, 0, STORE_WORDS)?;
    Ok((Submitter::new(&own, &stores)?, Grantee::new(&own, &stores)?, Staging { mapping }))
}
