//! Bringing objects in: create, fill, seal, or all of that at once; with an answer for each, or one for many.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use crate::client::buffer::{Pending, WritableBuffer};
use crate::client::connection::Patience;
use crate::client::draft::Draft;
use crate::client::submit::{Ring, Whose, judged};
use crate::client::{Client, CreateOptions, NO_BYTES, PutItem, lock, refused, stored, unexpected};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::metadata::Trailer;
use crate::object::{Location, ObjectId};
use crate::protocol::{InlineObject, MAX_BODY, Refusal, Refused, Reply, Request};
use crate::shm::ring::MOST_STAGED;
use crate::shm::ring::record::Record;

/// After which times a seal is tried again that the kernel refused as somebody can still write the object.
const PAUSES: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(200)];

/// Seals an object that is unmapped here. Who can still write it may be nobody, but the kernel, which has a page for a moment; so it is
/// tried again where `nobody_has_it`.
pub(super) fn seal_in_the_end<T>(seal: impl Fn() -> Result<T>, nobody_has_it: impl Fn() -> bool) -> Result<T> {
    let mut pauses = PAUSES.iter();
    loop {
        match (seal(), pauses.next()) {
            (Err(error @ Error::Busy(_)), Some(pause)) if nobody_has_it() => {
                log::debug!("{error}");
                std::thread::sleep(*pause);
            }
            (sealed, _) => return sealed,
        }
    }
}

impl Client {
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
        self.create_described(id, data_size, &options.stored(id, metadata, Trailer::default())?, options)
    }

    /// The same with metadata as they are stored: the user's, and our trailer where there is one.
    pub(super) fn create_described(
        &self,
        id: ObjectId,
        data_size: u64,
        metadata: &[u8],
        options: CreateOptions,
    ) -> Result<WritableBuffer> {
        match self.create_at_once(id, data_size, metadata.len() as u64, options)? {
            Some(location) => self.adopt(id, location, data_size, metadata, false),
            None => self.create_by_asking(id, data_size, metadata, options),
        }
    }

    /// The same by the socket, which tells why there is no room, or waits for it.
    pub(super) fn create_by_asking(
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
        let CreateOptions { no_evict, ttl_ms, wait_ms, immutable, .. } = options;
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
            immutable,
        };
        match self.connection.call(&request, Patience::of_create(wait_ms))? {
            Reply::Create { id: created, outcome, .. } if created == id => {
                let location = outcome.map_err(|refused| create_error(id, refused))?;
                self.adopt(id, location, data_size, metadata, immutable)
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
        let CreateOptions { no_evict, ttl_ms, wait_ms: 0, immutable: false, .. } = options else { return Ok(None) };
        let (Some(ring), Ok(ttl_ms)) = (self.connection.ring(), u64::try_from(ttl_ms)) else { return Ok(None) };
        let record = Record::Create { id, data_size, metadata_size, evict: !no_evict, ttl_ms };
        let outcome = self.connection.submit_and_wait(ring, |_| record, NO_BYTES)?;
        match judged(&outcome) {
            Ok(()) => Ok(Some(outcome.location)),
            Err(Refusal::OutOfMemory) => Ok(None),
            Err(refusal) => Err(refused(id, refusal)),
        }
    }

    /// Maps a new object and fills in its metadata; aborts it when that fails.
    fn adopt(
        &self,
        id: ObjectId,
        location: Location,
        data_size: u64,
        metadata: &[u8],
        immutable: bool,
    ) -> Result<WritableBuffer> {
        crash::at(Point::ObjectCreated);
        let pending = Arc::new(Pending::new(id, self.connection.clone(), immutable));
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

    /// Forgets an object that was created here and is everybody's now. Its buffer is gone.
    pub(super) fn forget_pending(&self, id: ObjectId) {
        if let Some(pending) = self.pending(id) {
            self.settle(id, &pending);
            pending.sealed_and_released();
        }
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
        self.put_described(id, data, &options.stored(id, metadata, Trailer::default())?, options)
    }

    /// The same with metadata as they are stored.
    pub(super) fn put_described(
        &self,
        id: ObjectId,
        data: &[u8],
        metadata: &[u8],
        options: CreateOptions,
    ) -> Result<()> {
        let size = data.len() + metadata.len();
        let Some(ring) = self.ring_for(size as u64, options) else {
            return self.fill(id, data, metadata, options)?.seal();
        };
        let record = put_record(id, data, metadata, options);
        match judged(&self.connection.submit_and_wait(ring, record, [data, metadata])?) {
            Ok(()) => Ok(()),
            // The socket tells why.
            Err(Refusal::OutOfMemory) => self.fill(id, data, metadata, options)?.seal(),
            Err(refusal) => Err(refused(id, refusal)),
        }
    }

    /// Fills a new object; metadata as they are stored.
    fn fill(&self, id: ObjectId, data: &[u8], metadata: &[u8], options: CreateOptions<'_>) -> Result<Draft<'_>> {
        let (buffer, draft) = self.draft(id, data.len() as u64, metadata, options)?;
        let written = buffer.write(0, data);
        drop(buffer);
        crash::at(Point::ObjectFilled);
        written.map(|()| draft)
    }

    /// The ring, if an object of so many bytes with its metadata goes there whole.
    fn ring_for(&self, size: u64, options: CreateOptions) -> Option<&Ring> {
        Self::is_put_whole(size, options).then(|| self.connection.ring()).flatten()
    }

    /// Whether an object of so many bytes with its metadata is small enough to be put whole, with one record.
    pub(super) fn is_put_whole(size: u64, options: CreateOptions) -> bool {
        matches!(options, CreateOptions { ttl_ms: 0, wait_ms: 0, immutable: false, .. }) && size <= MOST_STAGED
    }

    /// Stores a copy of `data` as a sealed object some time soon: whoever looks for it then finds it. What was put like this, or sealed
    /// with [`Client::seal_async`], is done in this order; [`Client::flush`] waits for it and tells what could not be done.
    ///
    /// Data and metadata may be used again when this returns. It waits when very much is under way.
    ///
    /// # Errors
    /// As for [`Client::create`] for an object over 64 KiB; else what the connection says.
    pub fn put_async(&self, id: ObjectId, data: &[u8], metadata: &[u8], options: CreateOptions) -> Result<()> {
        let metadata = options.stored(id, metadata, Trailer::default())?;
        let size = data.len() + metadata.len();
        if let Some(ring) = self.ring_for(size as u64, options) {
            let record = put_record(id, data, &metadata, options);
            return self.connection.submit(ring, Whose::Put(id), record, [data, &metadata]).map(drop);
        }
        self.fill(id, data, &metadata, options)?.seal_async()
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
    /// [`Error::InvalidArgument`] for a name that is not its object's; [`Error::Unsupported`] for a name in the options, times and
    /// immutability, which a batch does not have.
    pub fn put_batch(&self, items: &[PutItem<'_>], options: CreateOptions) -> Result<()> {
        let CreateOptions { no_evict, ttl_ms, wait_ms, immutable, name } = options;
        if let Some(name) = name {
            let text = format!("each object of a batch has a name of its own, if any, and not all of them {name:?}");
            return Err(Error::Unsupported(text));
        }
        if immutable {
            return Err(Error::Unsupported("objects of a batch cannot be immutable for the kernel".into()));
        }
        if (ttl_ms, wait_ms) != (0, 0) {
            return Err(Error::Unsupported(format!(
                "a batch has no ttl_ms and no wait_ms, and not {ttl_ms} and {wait_ms}"
            )));
        }
        let size = |item: &PutItem<'_>| item.data.len() + item.metadata.len() + item.name.map_or(0, str::len);
        let size: u64 = items.iter().map(|item| size(item) as u64).sum();
        let count = items.len();
        if size > MAX_BODY {
            let text =
                format!("a batch of {count} objects with {size} bytes; {MAX_BODY} fit, less some for each object");
            return Err(Error::InvalidArgument(text));
        }
        let objects = items.iter().map(inline).collect::<Result<_>>()?;
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
    /// [`Error::ObjectNotFound`] when there is none that this client may seal, [`Error::ObjectAlreadySealed`]; [`Error::Busy`] when
    /// it is to be immutable and somebody could still write it, as its buffer can. Then it is not sealed.
    pub fn seal(&self, id: ObjectId) -> Result<()> {
        self.seal_wanting(id, 0)
    }

    /// The same, and room is wanted for an object of this size that may come next, if it is not 0.
    pub(super) fn seal_wanting(&self, id: ObjectId, size: u64) -> Result<()> {
        self.check_usable()?;
        let pending = self.pending(id);
        if pending.as_ref().is_some_and(|pending| pending.immutable && pending.has_buffer()) {
            let text = format!(
                "object {id} is to be immutable, and cannot be sealed before its buffer and all views are released"
            );
            return Err(Error::Busy(text));
        }
        let release = pending.as_ref().is_some_and(|pending| !pending.has_buffer());
        let is_released = seal_in_the_end(|| self.seal_once(id, release, size), || true)?;
        crash::at(Point::SealAnswered);
        if let Some(pending) = pending {
            self.settle(id, &pending);
            if is_released { pending.sealed_and_released() } else { pending.sealed() }
        }
        Ok(())
    }

    /// Returns whether it is released as well.
    fn seal_once(&self, id: ObjectId, release: bool, size: u64) -> Result<bool> {
        let Some(ring) = self.connection.ring() else { return self.seal_by_asking(id).map(|()| false) };
        let record = seal_record(ring, id, release, size);
        let outcome = self.connection.submit_and_wait(ring, |_| record, NO_BYTES)?;
        judged(&outcome).map_err(|refusal| refused(id, refusal))?;
        ring.rooms.keep(&outcome);
        Ok(release)
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
    /// [`Error::ObjectNotFound`] when this client is not creating it; what the connection says; as for [`Client::seal`] when it is to
    /// be immutable, which is waited for.
    pub fn seal_async(&self, id: ObjectId) -> Result<()> {
        self.seal_async_wanting(id, 0)
    }

    /// The same as [`Client::seal_wanting`] is to [`Client::seal`].
    pub(super) fn seal_async_wanting(&self, id: ObjectId, size: u64) -> Result<()> {
        self.check_usable()?;
        let Some(ring) = self.connection.ring() else { return self.seal(id) };
        let pending = self.pending(id).ok_or(Error::ObjectNotFound(id))?;
        if pending.immutable {
            // It may be refused, and then is still to be sealed or aborted.
            return self.seal(id);
        }
        let release = !pending.has_buffer();
        let record = seal_record(ring, id, release, size);
        self.connection.submit(ring, Whose::Flushed(id), |_| record, NO_BYTES)?;
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

    /// Submits what is about one object, and waits for it.
    fn have_done(&self, ring: &Ring, id: ObjectId, record: Record) -> Result<()> {
        let outcome = self.connection.submit_and_wait(ring, |_| record, NO_BYTES)?;
        judged(&outcome).map_err(|refusal| refused(id, refusal))
    }

    fn ask_to_abort(&self, id: ObjectId) -> Result<()> {
        if let Some(ring) = self.connection.ring() {
            return self.have_done(ring, id, Record::Abort { id });
        }
        match self.connection.call(&Request::Abort { id }, Patience::Unlimited)? {
            Reply::Abort { outcome, .. } => outcome.map_err(|refusal| refused(id, refusal)),
            other => Err(unexpected(&other)),
        }
    }
}

/// The record of a small object, by where it is staged.
fn put_record(id: ObjectId, data: &[u8], metadata: &[u8], options: CreateOptions) -> impl FnOnce(u64) -> Record {
    let (data_size, metadata_size) = (data.len() as u64, metadata.len() as u64);
    move |staged| Record::Put { id, data_size, metadata_size, staged, evict: !options.no_evict }
}

fn seal_record(ring: &Ring, id: ObjectId, release: bool, size: u64) -> Record {
    let next = if size == 0 { 0 } else { ring.rooms.wanted_after(size) };
    Record::Seal { id, release, next }
}

fn inline(item: &PutItem<'_>) -> Result<InlineObject> {
    let metadata = stored(item.id, item.name, item.metadata, Trailer::default())?;
    Ok(InlineObject { id: item.id, data: item.data.to_vec(), metadata, digest: [0; 8] })
}

fn create_error(id: ObjectId, refused_create: Refused) -> Error {
    match refused_create.refusal {
        Refusal::OutOfMemory => Error::StoreFull(refused_create.detail),
        Refusal::Unsupported => Error::Unsupported(refused_create.detail),
        refusal => refused(id, refusal),
    }
}
