//! The files of all segments: the shared one, and one for each lease.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use foldhash::HashMap;
use nix::sys::resource::{Resource, getrlimit};

use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::object::Location;
use crate::shm::mapping::{HUGE_PAGE, Mapping};
use crate::shm::segment::Segment;
use crate::shm::shared::files::ControlFile;
use crate::store::collapse::{Collapser, DELAY};
use crate::store::filling::Filler;
use crate::store::leases::Producer;
use crate::store::options::StoreOptions;
use crate::store::pool::{LeaseFile, Pool, new_file};
use crate::store::space::{Pages, SHARED_SEGMENT, fixed_segment_length, segment_length};
use crate::store::stock::Kind;
use crate::transport::fork_guard::Guarded;
use crate::transport::stream::SharedDescriptor;

/// What stands for a segment's key where there is none.
const NO_SEGMENT: i32 = 0;
/// This share of the descriptors that the process may have is for segments of one object each.
const DESCRIPTOR_SHARE: u64 = 4;
/// Bytes that are copied at once.
const COPY_SIZE: u64 = 1 << 20;

/// All of them.
#[derive(Debug)]
pub struct Segments {
    shared: Arc<Guarded<Segment>>,
    /// The same file for those who only read it.
    shared_for_readers: Arc<Guarded<OwnedFd>>,
    leases: HashMap<i32, Lease>,
    /// A file in a directory can have no seal, and pages that are all there from the start are for the shared segment.
    can_lease: bool,
    /// Gathers objects in huge pages, where they do not lie there from the start, and the index.
    collapser: Option<Collapser>,
    /// Makes files of leases ready, and how many bytes of memory they may have.
    pool: Option<Pool>,
    pool_bytes: u64,
    filler: Filler,
    buffer: Vec<u8>,
}

/// The file of one lease.
#[derive(Debug)]
struct Lease {
    /// Until its producer is gone.
    file: Option<LeaseFile>,
    for_readers: Arc<Guarded<Segment>>,
    /// Where the store itself writes.
    own: Option<Mapping>,
    /// While several write it.
    control: Option<Arc<Guarded<ControlFile>>>,
}

impl Segments {
    /// The shared segment of a store, and no lease.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a capacity that cannot be or a directory that cannot hold its file, else [`Error::Io`].
    pub fn new(options: &StoreOptions) -> Result<Self> {
        let shared = Arc::new(shared_segment(options)?);
        let shared_for_readers = Arc::new(Guarded::open(|| shared.open_for_reading())?);
        let can_lease = !options.huge_pages && options.directory.is_none();
        let collapser = (options.capacity >= HUGE_PAGE).then(|| Collapser::start(DELAY)).transpose()?;
        let pool_bytes = if can_lease { options.pool()? } else { 0 };
        Ok(Self {
            shared,
            shared_for_readers,
            leases: HashMap::default(),
            can_lease,
            collapser,
            pool: (pool_bytes > 0).then(start_pool).flatten(),
            pool_bytes,
            filler: Filler::default(),
            buffer: Vec::new(),
        })
    }

    /// The segment that old clients map.
    pub fn shared(&self) -> &Arc<Guarded<Segment>> {
        &self.shared
    }

    /// A segment, for reading by the store.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none of this key.
    pub fn segment(&self, key: i32) -> Result<Arc<Guarded<Segment>>> {
        if key == SHARED_SEGMENT {
            return Ok(self.shared.clone());
        }
        let lease = self.leases.get(&key).ok_or_else(|| no_segment(key))?;
        Ok(lease.for_readers.clone())
    }

    /// A segment, for the external store to write an object there that comes back.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when nobody may write it any more, [`Error::Io`] when there is no descriptor.
    pub fn segment_to_fill(&self, key: i32) -> Result<Arc<Guarded<Segment>>> {
        if key == SHARED_SEGMENT {
            return Ok(self.shared.clone());
        }
        let file = self.file(key)?;
        Ok(Arc::new(Guarded::open(|| file.to_be_filled())?))
    }

    /// Gathers a large object that was sealed in huge pages, when there is time.
    pub fn gather(&self, Location { segment, offset, data_size, metadata_size }: Location) {
        let range = offset..offset + data_size + metadata_size;
        let collapser = self.collapser.as_ref().filter(|_| self.shared.fixed_length().is_none());
        if let Some((collapser, file)) = collapser.zip(self.segment(segment).ok()) {
            collapser.give(segment, &(file as SharedDescriptor), range);
        }
    }

    /// The same for a file that is no segment, all of which has memory. Nobody ever takes its memory back.
    pub fn gather_file(&self, file: &SharedDescriptor, len: u64) {
        if let Some(collapser) = &self.collapser {
            collapser.give(NO_SEGMENT, file, 0..len);
        }
    }

    /// Length and descriptor of a segment, for a peer that may have it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no such segment, or none any more that is written.
    pub fn descriptor(&self, key: i32, writable: bool) -> Result<(u64, SharedDescriptor)> {
        if key == SHARED_SEGMENT {
            let descriptor: SharedDescriptor = match writable {
                true => self.shared.clone(),
                false => self.shared_for_readers.clone(),
            };
            return Ok((self.shared.len(), descriptor));
        }
        let missing = || no_segment(key);
        let lease = self.leases.get(&key).ok_or_else(missing)?;
        let descriptor: SharedDescriptor = match writable {
            true => lease.file.clone().ok_or_else(missing)?,
            false => lease.for_readers.clone(),
        };
        Ok((lease.for_readers.len(), descriptor))
    }

    /// The control file of a segment that several write.
    pub fn control(&self, key: i32) -> Option<SharedDescriptor> {
        self.leases.get(&key)?.control.clone().map(|control| control as SharedDescriptor)
    }

    fn file(&self, key: i32) -> Result<LeaseFile> {
        let file = self.leases.get(&key).and_then(|lease| lease.file.clone());
        file.ok_or_else(|| Error::InvalidArgument(format!("nobody writes segment {key}")))
    }

    /// Makes a file the segment of a producer.
    fn enter(&mut self, segment: i32, file: LeaseFile, producer: Producer) -> Result<()> {
        crash::at(Point::LeaseMade);
        let for_readers = Arc::new(Guarded::open(|| file.for_readers())?);
        let own = match producer {
            Producer::Peer(_) | Producer::Once(_) | Producer::Several => None,
            Producer::Store => {
                let own = Mapping::read_write(file.as_fd(), file.len())?;
                file.end_chances(&[])?;
                Some(own)
            }
        };
        self.leases.insert(segment, Lease { file: Some(file), for_readers, own, control: None });
        crash::at(Point::LeaseEntered);
        Ok(())
    }
}

impl Pages for Segments {
    fn allocate(&mut self, segment: i32, range: Range<u64>) -> Result<()> {
        match segment {
            SHARED_SEGMENT => self.shared.allocate(range),
            _ => self.filler.fill(&*self.file(segment)?, range).map(drop),
        }
    }

    fn punch(&mut self, range: Range<u64>) -> Result<()> {
        self.collapser.iter().for_each(|collapser| collapser.forget(SHARED_SEGMENT, &range));
        self.shared.punch(range)
    }

    fn write(&mut self, segment: i32, offset: u64, bytes: &[u8]) -> Result<()> {
        if segment == SHARED_SEGMENT {
            return self.shared.write_at(offset, bytes);
        }
        let own = self.leases.get(&segment).and_then(|lease| lease.own.as_ref());
        let own = own.ok_or_else(|| Error::InvalidArgument(format!("the store does not write segment {segment}")))?;
        own.write(offset, bytes)
    }

    fn copy(&mut self, from: i32, bytes: Range<u64>, to: i32, offset: u64) -> Result<()> {
        let source = self.segment(from)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(COPY_SIZE as usize, 0);
        let mut done = 0;
        while let Some(left) = (bytes.end - bytes.start).checked_sub(done).filter(|left| *left > 0) {
            let piece = buffer.get_mut(..left.min(COPY_SIZE) as usize).unwrap_or_default();
            source.read_at(bytes.start + done, piece)?;
            self.write(to, offset + done, piece)?;
            done += piece.len() as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn fixed_length(&self) -> Option<u64> {
        self.shared.fixed_length()
    }

    fn can_lease(&self) -> bool {
        self.can_lease
    }

    fn lease(&mut self, segment: i32, len: u64, producer: Producer) -> Result<()> {
        self.enter(segment, new_file(len)?, producer)
    }

    fn pool_bytes(&self) -> u64 {
        self.pool_bytes
    }

    fn prepare(&mut self, kind: Kind) -> bool {
        self.pool.iter().for_each(|pool| pool.order(kind));
        self.pool.is_some()
    }

    fn lease_prepared(&mut self, segment: i32, kind: Kind, producer: Producer) -> Result<bool> {
        let Some(file) = self.pool.as_ref().and_then(|pool| pool.take(kind)) else { return Ok(false) };
        crash::at(Point::PoolFileTaken);
        self.enter(segment, file, producer).map(|()| true)
    }

    fn drop_prepared(&mut self, kind: Kind) {
        self.pool.iter().for_each(|pool| pool.cancel(kind));
    }

    fn make_readable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<()> {
        self.file(segment)?.end_chances(backed)?;
        crash::at(Point::LeaseSealed);
        Ok(())
    }

    fn most_for_one(&self) -> u64 {
        getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(most, _)| most / DESCRIPTOR_SHARE)
    }

    fn make_immutable(&mut self, segment: i32, backed: &[Range<u64>]) -> Result<bool> {
        let is_done = self.file(segment)?.end_all_writing(backed)?;
        match is_done {
            true => crash::at(Point::OneSealed),
            false => crash::at(Point::OneRefused),
        }
        // From here on it can do no more than the one for readers.
        self.leases.get_mut(&segment).filter(|_| is_done).into_iter().for_each(|lease| lease.file = None);
        Ok(is_done)
    }

    fn share(&mut self, segment: i32) -> Result<()> {
        let control = Arc::new(Guarded::open(ControlFile::create)?);
        crash::at(Point::ControlMade);
        self.leases.get_mut(&segment).ok_or_else(|| no_segment(segment))?.control = Some(control);
        Ok(())
    }

    fn turn_life(&mut self, segment: i32, participant: u32) {
        if let Some(control) = self.leases.get(&segment).and_then(|lease| lease.control.as_ref()) {
            control.turn_life(participant);
            crash::at(Point::LifeTurned);
            control.ring_all();
        }
    }

    fn end_sharing(&mut self, segment: i32) {
        self.leases.get_mut(&segment).into_iter().for_each(|lease| lease.control = None);
    }

    fn end_lease(&mut self, segment: i32) {
        if let Some(file) = self.leases.get_mut(&segment).and_then(|lease| lease.file.take()) {
            crash::at(Point::LeaseEnded);
            match &self.collapser {
                Some(collapser) => collapser.keep_off(segment, || file.end_writing()),
                None => file.end_writing(),
            }
        }
    }

    fn drop_lease(&mut self, segment: i32) {
        self.leases.remove(&segment);
    }
}

fn no_segment(key: i32) -> Error {
    Error::InvalidArgument(format!("there is no segment {key}"))
}

/// Without it leases get their memory when somebody asks for it.
fn start_pool() -> Option<Pool> {
    Pool::start().inspect_err(|error| log::warn!("no memory is made ready before it is needed: {error}")).ok()
}

fn shared_segment(options: &StoreOptions) -> Result<Guarded<Segment>> {
    let directory = options.directory.as_deref();
    if options.huge_pages {
        let length = fixed_segment_length(options.capacity)?;
        let segment = Guarded::open(|| Segment::create_huge("plasma_store", directory, length))?;
        segment.allocate_huge()?;
        return Ok(segment);
    }
    let length = segment_length(options.capacity)?;
    Guarded::open(|| match directory {
        Some(directory) => Segment::create_in(directory, length),
        None => Segment::create("plasma_store", length),
    })
}
