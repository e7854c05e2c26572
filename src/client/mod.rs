//! The library's core: one connection that many threads share, and buffers that keep what they need alive.
//!
//! - [`connection`]: requests out, answers back to the thread that asked; interrupts, timeouts, fork.
//! - [`mappings`]: segments of the store as they are mapped; `segments`: how they come and go.
//! - [`buffer`]: what a get or a create gives: memory and the hold on it.
//! - `putting`, `reading`, `waiting`: objects on their way in, and out.
//! - `submit`: requests through shared memory; `draft`, `granted`: objects that are made before the store hears of them.
//! - [`tensor`]: objects that are tensors; [`bundle`]: those that are many.
//! - [`mod@subscription`]: streams of events, and what ends a wait for one.
//! - `sharing`: objects that several processes write; [`shared`]: tensors among them.
//! - [`ring`]: rings of recycled buffers.
//! - `control`: what steers the store rather than moves objects.
#![forbid(unsafe_code)]

mod bells;
pub mod buffer;
pub mod bundle;
mod connection;
mod control;
pub mod draft;
mod granted;
mod incoming;
mod mappings;
mod putting;
mod reading;
pub mod ring;
mod segments;
pub mod shared;
mod sharing;
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
use crate::client::submit::judged;
use crate::client::waiting::Waited;
use crate::error::{Error, Result};
use crate::metadata::{KEY_NAME, Trailer};
use crate::object::{ObjectId, ObjectInfo};
pub use crate::protocol::Stats;
use crate::protocol::{Refusal, Reply, Request};
use crate::shm::copy::Copier;
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
pub struct CreateOptions<'a> {
    /// Fail rather than evict other objects.
    pub no_evict: bool,
    /// Milliseconds after its seal when the object is deleted, as [`Client::delete`] does; 0 for never.
    pub ttl_ms: i64,
    /// Milliseconds to wait for room when there is none; -1 waits without limit.
    pub wait_ms: i64,
    /// Have the kernel refuse every write to the object once it is sealed, also by this process. Its buffer has to be dropped before the
    /// seal.
    pub immutable: bool,
    /// The name whose id the object has, to be kept with it: [`ObjectId::from_name`] without a namespace.
    pub name: Option<&'a str>,
}

impl CreateOptions<'_> {
    /// Metadata as they are stored: the user's, and what there is to say beside them.
    fn stored(self, id: ObjectId, user: &[u8], trailer: Trailer) -> Result<Vec<u8>> {
        stored(id, self.name, user, trailer)
    }
}

/// Metadata as they are stored, of an object that may have a name.
fn stored(id: ObjectId, name: Option<&str>, user: &[u8], mut trailer: Trailer) -> Result<Vec<u8>> {
    if let Some(name) = name {
        let its_id = ObjectId::from_name("", name);
        if name.contains('\0') || its_id != id {
            return Err(Error::InvalidArgument(format!("name {name:?} has the id {its_id}, and the object {id}")));
        }
        trailer.push(KEY_NAME, name.as_bytes())?;
    }
    Ok(trailer.append_to(user))
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
    /// As in [`CreateOptions`].
    pub name: Option<&'a str>,
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

    /// The name that a sealed object was created with, as far as it can be seen without asking the store.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] for what cannot be seen.
    pub fn name_of(&self, id: ObjectId) -> Result<Option<String>> {
        let buffer = self.get_one(id, 0, GetOptions { no_ask: true, ..GetOptions::default() })?;
        let trailer = buffer.ok_or(Error::ObjectNotFound(id))?.trailer()?;
        let name = trailer.and_then(|trailer| String::from_utf8(trailer.get(KEY_NAME)?.to_vec()).ok());
        // What others say is not believed.
        Ok(name.filter(|name| ObjectId::from_name("", name) == id))
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
        let (timeout_ms, _bell) = match ids {
            [id] if timeout_ms != 0 => match self.wait_by_bell(*id, timeout_ms, options)? {
                Waited::Ended(buffer) => return Ok(vec![buffer]),
                Waited::Ask(left_ms, bell) => (left_ms, bell),
            },
            _ => (timeout_ms, None),
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
            return Ok(vec![judged(&outcome).map_err(|refusal| refused(id, refusal))]);
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

fn refused(id: ObjectId, refusal: Refusal) -> Error {
    match refusal {
        Refusal::ObjectExists => Error::ObjectExists(id),
        Refusal::ObjectNotFound => Error::ObjectNotFound(id),
        Refusal::OutOfMemory => Error::StoreFull(format!("object {id}")),
        Refusal::ObjectNotSealed => Error::ObjectNotSealed(id),
        Refusal::ObjectInUse => Error::ObjectInUse(id),
        Refusal::ObjectAlreadySealed => Error::ObjectAlreadySealed(id),
        Refusal::StillWritable => Error::Busy(format!(
            "object {id} is not sealed: somebody has it mapped for writing, or a device has its memory, and it is to be immutable"
        )),
        Refusal::Unsupported => Error::Unsupported(format!("object {id}: this store cannot do that")),
    }
}
