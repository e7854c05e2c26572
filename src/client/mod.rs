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
pub mod subscription;
pub mod tensor;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use crate::client::buffer::{Buffer, WritableBuffer};
use crate::client::buffer::{CountedHold, Pending};
use crate::client::connection::{Connection, Patience};
use crate::client::reading::LastSegment;
use crate::error::{Error, Result};
use crate::metadata::Trailer;
use crate::object::{Location, ObjectId, ObjectInfo};
pub use crate::protocol::Stats;
use crate::protocol::{InlineObject, MAX_BODY, Refusal, Refused, Reply, Request};
use crate::shm::copy::Copier;
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
}

impl Default for ConnectOptions {
    /// One attempt; signals end nothing; no threads but the caller's copy.
    fn default() -> Self {
        Self { patience: Some(Duration::ZERO), return_on_signal: false, copy_threads: 0 }
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
        let copier = Copier::new(options.copy_threads)?;
        let path = socket.map_or_else(default_socket, Path::to_owned);
        let connection = Connection::open(&path, options.patience, options.return_on_signal, copier)?;
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
        let buffer = self.create(id, data.len() as u64, metadata, options)?;
        let written = buffer.write(0, data);
        drop(buffer);
        written.and_then(|()| self.seal(id)).inspect_err(|_| drop(self.abort(id)))
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
        let pending = self.pending(id);
        match self.connection.call(&Request::Seal { id, digest: [0; 8] }, Patience::Unlimited)? {
            Reply::Seal { id: sealed, outcome } if sealed == id => outcome.map_err(|refusal| refused(id, refusal))?,
            other => return Err(unexpected(&other)),
        }
        if let Some(pending) = pending {
            self.settle(id, &pending);
            pending.sealed();
        }
        Ok(())
    }

    /// Gives up an object that this client created and did not seal.
    ///
    /// # Errors
    /// [`Error::Busy`] while its buffer is alive, whose memory would become another object's;
    /// [`Error::ObjectNotFound`], [`Error::ObjectAlreadySealed`].
    pub fn abort(&self, id: ObjectId) -> Result<()> {
        if !self.is_usable() {
            // Before any lock: a thread that is not in this child may hold it.
            return Err(Error::Forked);
        }
        let pending = self.pending(id);
        if pending.as_ref().is_some_and(|pending| pending.has_buffer()) {
            return Err(Error::Busy(format!("object {id} cannot be aborted before its buffer is released")));
        }
        match self.connection.call(&Request::Abort { id }, Patience::Unlimited)? {
            Reply::Abort { outcome, .. } => outcome.map_err(|refusal| refused(id, refusal))?,
            other => return Err(unexpected(&other)),
        }
        if let Some(pending) = pending {
            self.settle(id, &pending);
            pending.aborted();
        }
        Ok(())
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
            read if read.is_to_be_asked_for(timeout_ms) => {
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
            if read.is_to_be_asked_for(timeout_ms) {
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
        if self.is_usable() { Ok(()) } else { Err(Error::Forked) }
    }

    /// Gets objects by asking the store.
    fn ask_for(&self, ids: &[ObjectId], timeout_ms: i64, options: GetOptions) -> Result<Vec<Option<Buffer>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
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
