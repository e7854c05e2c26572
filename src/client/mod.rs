//! The library's core: one connection that many threads share, and buffers that keep what they need alive.
//!
//! - [`connection`]: requests out, answers back to the thread that asked; interrupts, timeouts, fork.
//! - [`mappings`]: segments of the store as they are mapped; `segments`: how they come and go.
//! - [`buffer`]: what a get or a create gives: memory and the hold on it.
//! - [`tensor`]: objects that are tensors.
//! - [`mod@subscription`]: streams of events, and what ends a wait for one.
//! - `control`: what steers the store rather than moves objects.
#![forbid(unsafe_code)]

mod bells;
pub mod buffer;
mod connection;
mod control;
mod mappings;
mod reading;
mod segments;
mod submit;
pub mod subscription;
pub mod tensor;
mod waiting;
mod watching;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use crate::client::buffer::{Buffer, WritableBuffer};
use crate::client::buffer::{CountedHold, Pending};
use crate::client::connection::{Connection, Patience};
use crate::client::reading::LastSegment;
use crate::client::submit::{Ring, Whose};
use crate::client::waiting::Waited;
use crate::error::{Error, Result};
use crate::metadata::Trailer;
use crate::object::{Location, ObjectId, ObjectInfo};
pub use crate::protocol::Stats;
use crate::protocol::{InlineObject, MAX_BODY, Refusal, Refused, Reply, Request};
use crate::shm::copy::Copier;
use crate::shm::ring::MOST_STAGED;
use crate::shm::ring::record::Record;
use crate::transport::connect::default_socket;

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// How long to try again while no store is there: `Some(ZERO)` for one attempt, `None` for ever.
    pub patience: Option<Duration>,
    /// Whether a signal handler that ran in a thread which waits in a get ends that get with [`Error::Interrupted`].
    pub return_on_signal: bool,
    /// Threads that copy what is large: [`crate::shm::copy`]. 0 and 1 stand for the caller's own alone.
    pub copy_threads: usize,
    /// How long a thread that waits stays awake before it sleeps, so that it needs no wake; it takes a processor meanwhile. A store that
    /// sleeps is not waited for any longer for that.
    pub spin: Duration,
}

impl Default for ConnectOptions {
    /// One attempt; signals end nothing; no threads but the caller's copy.
    fn default() -> Self {
        Self { patience: Some(Duration::ZERO), return_on_signal: false, copy_threads: 0, spin: Duration::ZERO }
    }
}

/// How to create.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreateOptions {
    /// Fail rather than evict other objects.
    pub no_evict: bool,
    /// Milliseconds after its seal when the object is deleted, as [`Client::delete`] does; 0 for never.
    pub ttl_ms: i64,
    /// Milliseconds to wait for room when there is none; -1 waits without limit.
    pub wait_ms: i64,
}

/// How to get.
#[derive(Clone, Copy, Debug, Default)]
pub struct GetOptions {
    /// Map the object copy-on-write: writable, and what is written stays in this process.
    pub private: bool,
    /// Do not ask the store, and so wait for nothing: what cannot be seen without is not got, although it may be there.
    pub no_ask: bool,
}

/// An object of a batch.
#[derive(Clone, Copy, Debug)]
pub struct PutItem<'a> {
    /// Its name.
    pub id: ObjectId,
    /// Its data.
    pub data: &'a [u8],
    /// The user's metadata.
    pub metadata: &'a [u8],
}

/// A connection to a store. Any number of threads may use it at once; a get that waits in one keeps no other waiting.
///
/// Dropping it aborts the objects it created and did not seal. Buffers stay readable.
#[derive(Debug)]
pub struct Client {
    connection: Arc<Connection>,
    /// Objects created here and not sealed yet.
    pending: Mutex<HashMap<ObjectId, Arc<Pending>>>,
}

impl Client {
    /// Connects to the store at `socket`, or at the default path.
    ///
    /// # Errors
    /// [`Error::ConnectFailed`] when nobody answers, [`Error::UnsupportedPeer`] when it is not a store of ours,
    /// [`Error::InvalidArgument`] for a path that no socket can have, and for too many threads.
    pub fn connect(socket: Option<&Path>, options: ConnectOptions) -> Result<Self> {
        let path = socket.map_or_else(default_socket, Path::to_owned);
        let connection = Connection::open(&path, options)?;
        let client = Self { connection: Arc::new(connection), pending: Mutex::default() };
        client.begin_reading()?;
        Ok(client)
    }

    /// Bytes of data and metadata that the store holds at most.
    pub fn capacity(&self) -> u64 {
        self.connection.capacity()
    }

    /// What copies for this client.
    pub fn copier(&self) -> Copier {
        self.connection.copier()
    }

    /// Makes every call that waits on this client, a get, a create or a wait for an event, return [`Error::Interrupted`].
    /// Async-signal-safe.
    pub fn interrupt(&self) {
        self.connection.interrupt();
    }

    /// Whether this process made the client; in a forked child nothing may be asked of it.
    pub fn is_usable(&self) -> bool {
        self.connection.is_usable()
    }

    /// Creates an object with room for `data_size` bytes and with this metadata. Only this client can see it before it is sealed.
    ///
    /// # Errors
    /// [`Error::ObjectExists`], [`Error::StoreFull`] with the figures, [`Error::Interrupted`] while it waits for room, or what
    /// the connection says.
    pub fn create(
        &self,
        id: ObjectId,
        data_size: u64,
        metadata: &[u8],
        options: CreateOptions,
    ) -> Result<WritableBuffer> {
        self.create_described(id, data_size, &Trailer::default().append_to(metadata), options)
    }

    /// The same with metadata as they are stored: the user's, and our trailer where there is one.
    fn create_described(
        &self,
        id: ObjectId,
        data_size: u64,
        metadata: &[u8],
        options: CreateOptions,
    ) -> Result<WritableBuffer> {
        let signed = |size: u64| {
            let too_large =
                || Error::StoreFull(format!("an object of {size} bytes does not fit: capacity {}", self.capacity()));
            i64::try_from(size).map_err(|_| too_large())
        };
        if let Some(location) = self.create_at_once(id, data_size, metadata.len() as u64, options)? {
            return self.adopt(id, location, data_size, metadata);
        }
        let CreateOptions { no_evict, ttl_ms, wait_ms } = options;
        if wait_ms < -1 {
            return Err(Error::InvalidArgument(format!("wait_ms is -1, 0 or positive, not {wait_ms}")));
        }
        let negative = |_| Error::InvalidArgument(format!("ttl_ms is 0 or positive, not {ttl_ms}"));
        let request = Request::Create {
            id,
            data_size: signed(data_size)?,
            metadata_size: signed(metadata.len() as u64)?,
            evict_if_full: !no_evict,
            device_num: 0,
            ttl_ms: u64::try_from(ttl_ms).map_err(negative)?,
            wait_ms,
        };
        match self.connection.call(&request, Patience::of_create(wait_ms))? {
            Reply::Create { id: created, outcome, .. } if created == id => {
                let location = outcome.map_err(|refused| create_error(id, refused))?;
                self.adopt(id, location, data_size, metadata)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Creates an object by the ring. `None` where that does not do: the socket then tells why, or waits.
    fn create_at_once(
        &self,
        id: ObjectId,
        data_size: u64,
        metadata_size: u64,
        options: CreateOptions,
    ) -> Result<Option<Location>> {
        let CreateOptions { no_evict, ttl_ms, wait_ms: 0 } = options else { return Ok(None) };
        let (Some(ring), Ok(ttl_ms)) = (self.connection.ring(), u64::try_from(ttl_ms)) else { return Ok(None) };
        let record = Record::Create { id, data_size, metadata_size, evict: !no_evict, ttl_ms };
        let outcome = self.connection.submit_and_wait(ring, |_| record, NO_BYTES)?;
        match Refusal::from_code(outcome.refusal) {
            None => Ok(Some(outcome.location)),
            Some(Refusal::OutOfMemory) => Ok(None),
            Some(refusal) => Err(refused(id, refusal)),
        }
    }

    /// Maps a new object and fills in its metadata; aborts it when that fails.
    fn adopt(&self, id: ObjectId, location: Location, data_size: u64, metadata: &[u8]) -> Result<WritableBuffer> {
        let pending = Arc::new(Pending::new(id, self.connection.clone()));
        let buffer = WritableBuffer::new(pending.clone(), location)?;
        let sizes = (location.data_size, location.metadata_size);
        let written = match sizes == (data_size, metadata.len() as u64) {
            true => buffer.write_metadata(metadata),
            false => Err(Error::Protocol(format!(
                "asked for an object of {data_size} + {} bytes, the store made one of {} + {}",
                metadata.len(),
                sizes.0,
                sizes.1
            ))),
        };
        match written {
            Ok(()) => drop(lock(&self.pending).insert(id, pending)),
            Err(_) => pending.orphaned(),
        }
        written.map(|()| buffer)
    }

    /// What is being created here under this name.
    fn pending(&self, id: ObjectId) -> Option<Arc<Pending>> {
        lock(&self.pending).get(&id).cloned()
    }

    /// Forgets an object that is not pending any more. Another thread may be creating the next one of that name already.
    fn settle(&self, id: ObjectId, settled: &Arc<Pending>) {
        let mut pending = lock(&self.pending);
        if pending.get(&id).is_some_and(|current| Arc::ptr_eq(current, settled)) {
            pending.remove(&id);
        }
    }

    /// Stores a copy of `data` as a sealed object. When this fails there is no object.
    ///
    /// # Errors
    /// As for [`Client::create`] and [`Client::seal`].
    pub fn put(&self, id: ObjectId, data: &[u8], metadata: &[u8], options: CreateOptions) -> Result<()> {
        if self.put_at_once(id, data, metadata, options)? {
            return Ok(());
        }
        let buffer = self.create(id, data.len() as u64, metadata, options)?;
        let written = buffer.write(0, data);
        drop(buffer);
        written.and_then(|()| self.seal(id)).inspect_err(|_| drop(self.abort(id)))
    }

    /// Has the store copy a small object. `false` where that does not do.
    fn put_at_once(&self, id: ObjectId, data: &[u8], metadata: &[u8], options: CreateOptions) -> Result<bool> {
        let Some((ring, metadata)) = self.small(data, metadata, options) else { return Ok(false) };
        let record = put_record(id, data, &metadata, options);
        let outcome = self.connection.submit_and_wait(ring, record, [data, &metadata])?;
        match Refusal::from_code(outcome.refusal) {
            None => Ok(true),
            Some(Refusal::OutOfMemory) => Ok(false),
            Some(refusal) => Err(refused(id, refusal)),
        }
    }

    /// The ring, and metadata as they are stored, if an object can be put that way.
    fn small(&self, data: &[u8], metadata: &[u8], options: CreateOptions) -> Option<(&Ring, Vec<u8>)> {
        let CreateOptions { ttl_ms: 0, wait_ms: 0, .. } = options else { return None };
        let metadata = Trailer::default().append_to(metadata);
        let is_small = (data.len() + metadata.len()) as u64 <= MOST_STAGED;
        is_small.then(|| self.connection.ring()).flatten().map(|ring| (ring, metadata))
    }

    /// Stores a copy of `data` as a sealed object some time soon: whoever looks for it then finds it. What was put like this, or sealed
    /// with [`Client::seal_async`], is done in this order; [`Client::flush`] waits for it and tells what could not be done.
    ///
    /// Data and metadata may be used again when this returns. It waits when very much is under way.
    ///
    /// # Errors
    /// As for [`Client::create`] for an object over 64 KiB; else what the connection says.
    pub fn put_async(&self, id: ObjectId, data: &[u8], metadata: &[u8], options: CreateOptions) -> Result<()> {
        if let Some((ring, metadata)) = self.small(data, metadata, options) {
            let record = put_record(id, data, &metadata, options);
            return self.connection.submit(ring, Whose::Flushed(id), record, [data, &metadata]).map(drop);
        }
        let buffer = self.create(id, data.len() as u64, metadata, options)?;
        let written = buffer.write(0, data);
        drop(buffer);
        written.and_then(|()| self.seal_async(id)).inspect_err(|_| drop(self.abort(id)))
    }

    /// Waits until everything is done that was put or sealed without waiting. Returns the objects that are not there, each with the
    /// reason. Each is told once.
    ///
    /// # Errors
    /// What the connection says.
    pub fn flush(&self) -> Result<Vec<(ObjectId, Error)>> {
        self.connection.flush()
    }

    /// Stores copies of several objects as sealed ones with one request: all of them, or none.
    ///
    /// # Errors
    /// [`Error::ObjectExists`] also for an id that comes twice; [`Error::StoreFull`] with the figures;
    /// [`Error::InvalidArgument`] for more than fits a request of 64 MiB, with some 100 bytes for each object beside its own;
    /// [`Error::Unsupported`] for times, which a batch does not have.
    pub fn put_batch(&self, items: &[PutItem<'_>], options: CreateOptions) -> Result<()> {
        let CreateOptions { no_evict, ttl_ms, wait_ms } = options;
        if (ttl_ms, wait_ms) != (0, 0) {
            return Err(Error::Unsupported(format!(
                "a batch has no ttl_ms and no wait_ms, and not {ttl_ms} and {wait_ms}"
            )));
        }
        let size: u64 = items.iter().map(|item| (item.data.len() + item.metadata.len()) as u64).sum();
        let count = items.len();
        if size > MAX_BODY {
            let text =
                format!("a batch of {count} objects with {size} bytes; {MAX_BODY} fit, less some for each object");
            return Err(Error::InvalidArgument(text));
        }
        let inline = |item: &PutItem<'_>| InlineObject {
            id: item.id,
            data: item.data.to_vec(),
            metadata: Trailer::default().append_to(item.metadata),
            digest: [0; 8],
        };
        let objects = items.iter().map(inline).collect();
        let request = Request::CreateAndSealBatch { objects, evict_if_full: !no_evict };
        match self.connection.call(&request, Patience::Unlimited)? {
            Reply::CreateAndSealBatch { outcome: Ok(()), .. } => Ok(()),
            Reply::CreateAndSealBatch { outcome: Err(refused), id: Some(id) } => Err(create_error(id, refused)),
            Reply::CreateAndSealBatch { outcome: Err(Refused { refusal: Refusal::OutOfMemory, detail }), id: None } => {
                Err(Error::StoreFull(detail))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Seals an object that this client created: from now on it is immutable and everyone can get it.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] when there is none that this client may seal, [`Error::ObjectAlreadySealed`].
    pub fn seal(&self, id: ObjectId) -> Result<()> {
        self.check_usable()?;
        let pending = self.pending(id);
        let release = pending.as_ref().is_some_and(|pending| !pending.has_buffer());
        let is_released = match self.connection.ring() {
            Some(ring) => {
                let outcome = self.connection.submit_and_wait(ring, |_| Record::Seal { id, release }, NO_BYTES)?;
                Refusal::from_code(outcome.refusal).map_or(Ok(release), |refusal| Err(refused(id, refusal)))?
            }
            None => self.seal_by_asking(id).map(|()| false)?,
        };
        if let Some(pending) = pending {
            self.settle(id, &pending);
            if is_released { pending.sealed_and_released() } else { pending.sealed() }
        }
        Ok(())
    }

    fn seal_by_asking(&self, id: ObjectId) -> Result<()> {
        match self.connection.call(&Request::Seal { id, digest: [0; 8] }, Patience::Unlimited)? {
            Reply::Seal { id: sealed, outcome } if sealed == id => outcome.map_err(|refusal| refused(id, refusal)),
            other => Err(unexpected(&other)),
        }
    }

    /// Seals an object that this client created, some time soon: [`Client::flush`] waits for it and tells if that could not be
    /// done. The object must not be written from here on.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] when this client is not creating it; what the connection says.
    pub fn seal_async(&self, id: ObjectId) -> Result<()> {
        self.check_usable()?;
        let Some(ring) = self.connection.ring() else { return self.seal(id) };
        let pending = self.pending(id).ok_or(Error::ObjectNotFound(id))?;
        let release = !pending.has_buffer();
        self.connection.submit(ring, Whose::Flushed(id), |_| Record::Seal { id, release }, NO_BYTES)?;
        self.settle(id, &pending);
        if release {
            pending.sealed_and_released()
        } else {
            pending.sealed()
        }
        Ok(())
    }

    /// Gives up an object that this client created and did not seal.
    ///
    /// # Errors
    /// [`Error::Busy`] while its buffer is alive, whose memory would become another object's;
    /// [`Error::ObjectNotFound`], [`Error::ObjectAlreadySealed`].
    pub fn abort(&self, id: ObjectId) -> Result<()> {
        self.check_usable()?;
        let pending = self.pending(id);
        if pending.as_ref().is_some_and(|pending| pending.has_buffer()) {
            return Err(Error::Busy(format!("object {id} cannot be aborted before its buffer is released")));
        }
        self.ask_to_abort(id)?;
        if let Some(pending) = pending {
            self.settle(id, &pending);
            pending.aborted();
        }
        Ok(())
    }

    fn ask_to_abort(&self, id: ObjectId) -> Result<()> {
        if let Some(ring) = self.connection.ring() {
            let outcome = self.connection.submit_and_wait(ring, |_| Record::Abort { id }, NO_BYTES)?;
            return Refusal::from_code(outcome.refusal).map_or(Ok(()), |refusal| Err(refused(id, refusal)));
        }
        match self.connection.call(&Request::Abort { id }, Patience::Unlimited)? {
            Reply::Abort { outcome, .. } => outcome.map_err(|refusal| refused(id, refusal)),
            other => Err(unexpected(&other)),
        }
    }

    /// Gets objects, waiting up to `timeout_ms` until all are sealed: -1 waits without limit, 0 does not wait.
    ///
    /// One entry for each id, in their order; `None` where the object was not there in time. Ids may repeat.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or what the connection says; then nothing is held.
    pub fn get(&self, ids: &[ObjectId], timeout_ms: i64, options: GetOptions) -> Result<Vec<Option<Buffer>>> {
        self.get_each(ids, timeout_ms, options, |buffer| buffer)
    }

    /// The same for one object.
    ///
    /// # Errors
    /// As for [`Client::get`].
    #[inline]
    pub fn get_one(&self, id: ObjectId, timeout_ms: i64, options: GetOptions) -> Result<Option<Buffer>> {
        self.may_get(timeout_ms)?;
        match self.read(id, options.private)? {
            read if !options.no_ask && read.is_to_be_asked_for(timeout_ms) => {
                Ok(self.ask_for(&[id], timeout_ms, options)?.pop().flatten())
            }
            read => Ok(read.into_buffer()),
        }
    }

    /// Gets objects as [`Client::get`] does, and makes something of each as soon as it is there.
    ///
    /// # Errors
    /// As for [`Client::get`]; what was made is dropped.
    pub fn get_each<T>(
        &self,
        ids: &[ObjectId],
        timeout_ms: i64,
        options: GetOptions,
        mut make: impl FnMut(Buffer) -> T,
    ) -> Result<Vec<Option<T>>> {
        self.may_get(timeout_ms)?;
        let (mut got, mut last) = (Vec::with_capacity(ids.len()), LastSegment::default());
        let mut unsettled = Vec::new();
        let ahead = self.connection.reader().filter(|reader| reader.is_large());
        for (index, id) in ids.iter().enumerate() {
            if let Some(reader) = ahead {
                reader.look_ahead(ids, index);
            }
            let read = self.read_next(*id, options.private, &mut last)?;
            if !options.no_ask && read.is_to_be_asked_for(timeout_ms) {
                unsettled.push((index, *id));
            }
            got.push(read.into_buffer().map(&mut make));
        }
        let to_ask: Vec<_> = unsettled.iter().map(|(_, id)| *id).collect();
        let asked = self.ask_for(&to_ask, timeout_ms, options)?;
        for ((index, _), buffer) in unsettled.into_iter().zip(asked) {
            if let Some(place) = got.get_mut(index) {
                *place = buffer.map(&mut make);
            }
        }
        Ok(got)
    }

    #[inline]
    fn may_get(&self, timeout_ms: i64) -> Result<()> {
        if timeout_ms < -1 {
            return Err(Error::InvalidArgument(format!("timeout_ms is -1, 0 or positive, not {timeout_ms}")));
        }
        self.check_usable()
    }

    /// To be asked before any lock: in a forked child a thread that is not there may hold it.
    #[inline]
    fn check_usable(&self) -> Result<()> {
        if self.is_usable() { Ok(()) } else { Err(Error::Forked) }
    }

    /// Gets objects by asking the store.
    fn ask_for(&self, ids: &[ObjectId], timeout_ms: i64, options: GetOptions) -> Result<Vec<Option<Buffer>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let timeout_ms = match ids {
            [id] if timeout_ms != 0 => match self.wait_by_bell(*id, timeout_ms, options)? {
                Waited::Ended(buffer) => return Ok(vec![buffer]),
                Waited::Ask(left_ms) => left_ms,
            },
            _ => timeout_ms,
        };
        let request = Request::Get { ids: ids.to_vec(), timeout_ms };
        let locations = match self.connection.call(&request, Patience::of_get(timeout_ms)) {
            Ok(Reply::Get { ids: answered, locations, .. }) if answered == ids => locations,
            Ok(other) => return Err(unexpected(&other)),
            Err(Error::Timeout(_)) => vec![None; ids.len()],
            Err(error) => return Err(error),
        };
        // The store counted one hold for each distinct id; all are taken up before anything here can fail.
        let mut holds: HashMap<ObjectId, Arc<CountedHold>> = HashMap::with_capacity(ids.len());
        for (id, _) in ids.iter().zip(&locations).filter(|(_, location)| location.is_some()) {
            holds.entry(*id).or_insert_with(|| Arc::new(CountedHold::new(*id, self.connection.clone())));
        }
        let buffers = ids.iter().zip(locations).map(|(id, location)| match (location, holds.get(id)) {
            (Some(location), Some(hold)) => Buffer::counted(hold.clone(), location, options.private).map(Some),
            _ => Ok(None),
        });
        buffers.collect()
    }

    /// Whether a sealed object of this id is in the store.
    ///
    /// # Errors
    /// What the connection says.
    pub fn contains(&self, id: ObjectId) -> Result<bool> {
        if let Some(present) = self.sees(id)? {
            return Ok(present);
        }
        match self.connection.call(&Request::Contains { id }, Patience::Unlimited)? {
            Reply::Contains { id: answered, present } if answered == id => Ok(present),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes objects. Those in use, or not sealed yet, go when their last holder lets go: their entry says so.
    ///
    /// # Errors
    /// What the connection says.
    pub fn delete(&self, ids: &[ObjectId]) -> Result<Vec<Result<()>>> {
        if let (&[id], Some(ring)) = (ids, self.connection.present_ring()) {
            let outcome = self.connection.submit_and_wait(ring, |_| Record::Delete { id }, NO_BYTES)?;
            let refusal = Refusal::from_code(outcome.refusal);
            return Ok(vec![refusal.map_or(Ok(()), |refusal| Err(refused(id, refusal)))]);
        }
        match self.connection.call(&Request::Delete { ids: ids.to_vec() }, Patience::Unlimited)? {
            Reply::Delete { ids: answered, outcomes } if answered == ids => {
                let outcomes = ids.iter().zip(outcomes);
                Ok(outcomes.map(|(id, outcome)| outcome.map_err(|refusal| refused(*id, refusal))).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// All objects of the store, also those that are not sealed yet, in no order.
    ///
    /// # Errors
    /// What the connection says.
    pub fn list(&self) -> Result<Vec<ObjectInfo>> {
        match self.connection.call(&Request::List, Patience::Unlimited)? {
            Reply::List { objects } => Ok(objects),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.connection.is_usable() {
            // In a forked child the lock may be held, and the map be half changed, by a thread that is not here.
            return std::mem::forget(std::mem::take(&mut self.pending));
        }
        lock(&self.pending).drain().for_each(|(_, pending)| pending.orphaned());
    }
}

/// Of a record that brings none.
const NO_BYTES: [&[u8]; 2] = [&[], &[]];

/// The record of a small object, by where it is staged.
fn put_record(id: ObjectId, data: &[u8], metadata: &[u8], options: CreateOptions) -> impl FnOnce(u64) -> Record {
    let (data_size, metadata_size) = (data.len() as u64, metadata.len() as u64);
    move |staged| Record::Put { id, data_size, metadata_size, staged, evict: !options.no_evict }
}

/// Locks, also when a thread panicked with the lock: every change here is complete before anything that could panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether `len` bytes at `offset` lie in an object of `size` bytes.
fn check_range(offset: u64, len: u64, size: u64) -> Result<()> {
    match offset.checked_add(len).filter(|end| *end <= size) {
        Some(_) => Ok(()),
        None => Err(Error::InvalidArgument(format!("{len} bytes at {offset} lie outside an object of {size} bytes"))),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("the store's answer does not fit the question: {reply:.120?}"))
}

fn create_error(id: ObjectId, refused_create: Refused) -> Error {
    match refused_create.refusal {
        Refusal::OutOfMemory => Error::StoreFull(refused_create.detail),
        refusal => refused(id, refusal),
    }
}

fn refused(id: ObjectId, refusal: Refusal) -> Error {
    match refusal {
        Refusal::ObjectExists => Error::ObjectExists(id),
        Refusal::ObjectNotFound => Error::ObjectNotFound(id),
        Refusal::OutOfMemory => Error::StoreFull(format!("object {id}")),
        Refusal::ObjectNotSealed => Error::ObjectNotSealed(id),
        Refusal::ObjectInUse => Error::ObjectInUse(id),
        Refusal::ObjectAlreadySealed => Error::ObjectAlreadySealed(id),
    }
}
