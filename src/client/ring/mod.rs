//! Rings of recycled buffers: the rules of `shm/shared/ring` with time, waiting and the handles of callers.
//!
//! - `held`: which slots the callers have; `view`: tensors that lie in them.
//! - `waiting`: acquiring and taking with patience; `many`: several messages at once.
//! - `bell`: a descriptor to poll.
#![forbid(unsafe_code)]

mod bell;
mod held;
mod many;
mod view;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::client::ring::bell::RingBell;
use crate::client::ring::held::{Held, Purpose};
pub use crate::client::ring::view::SlotView;
use crate::client::sharing::{Member, SharedMemory};
use crate::client::{Client, CreateOptions, lock};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::metadata::KEY_ACQUIRE_MS;
use crate::object::ObjectId;
use crate::shm::copy::Copier;
use crate::shm::shared::ring::geometry::Geometry;
pub use crate::shm::shared::ring::geometry::{Delivery, Settings};
use crate::shm::shared::ring::{Handle, Header, Publish, Reader, Ring};
use crate::tensor::description;
use crate::tensor::layout::Layout;

/// As a timeout of an acquire: what was said when the ring was made.
pub const AS_CREATED: i64 = -2;

/// How a ring is to be.
#[derive(Clone, Debug)]
pub struct RingOptions<'a> {
    /// How many messages there can be at a time, those that are being written or read included.
    pub slots: u64,
    /// The most bytes of a message; with a layout 0 is as many as that has.
    pub slot_bytes: u64,
    /// Element type and shape of all messages; without it each has its own.
    pub layout: Option<Layout>,
    /// Who gets a message.
    pub delivery: Delivery,
    /// Who finds no free slot takes the oldest message away.
    pub drops_oldest: bool,
    /// For debugging: slots cannot be touched but by who has them.
    pub is_guarded: bool,
    /// It lives until it is deleted, also when nobody takes part.
    pub keep: bool,
    /// How long an acquire waits that does not say so itself, in milliseconds; -1 without limit.
    pub acquire_ms: i64,
    /// As for any object.
    pub create: CreateOptions<'a>,
}

/// A slot that the caller has.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// By which the caller names it.
    pub token: u64,
    /// Its memory.
    pub data: *mut u8,
    /// Bytes there, or of the message.
    pub size: u64,
}

/// A ring that this process takes part in. Threads may share it.
#[derive(Debug)]
pub struct TensorRing {
    inner: Arc<Inner>,
    bell: OnceLock<RingBell>,
}

/// What views keep.
#[derive(Debug)]
struct Inner {
    shared: SharedMemory,
    ring: Ring,
    layout: Option<Layout>,
    acquire_ms: i64,
    held: Held,
    /// Where everybody reads all, from the first take on.
    reader: Mutex<Option<Reader>>,
    /// There is no handle any more, only views.
    has_left: AtomicBool,
}

impl Client {
    /// Makes a ring and takes part in it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the number that cannot be; as for [`Client::create`].
    pub fn ring_create(&self, id: ObjectId, options: &RingOptions<'_>) -> Result<TensorRing> {
        let settings = settings_of(options)?;
        let geometry = Geometry::new(settings)?;
        let mut described = options.layout.as_ref().map(description::describe).transpose()?.unwrap_or_default();
        described.push(KEY_ACQUIRE_MS, &options.acquire_ms.to_le_bytes())?;
        let metadata = options.create.stored(id, &[], described)?;
        let create = CreateOptions { name: None, ..options.create };
        let member = self.share(id, geometry.bytes(), &metadata, create, options.keep, |buffer| {
            Ring::prepare(&buffer.words()?, settings)
        })?;
        TensorRing::attach(member)
    }

    /// Takes part in a ring that is there, or will be within so many milliseconds; -1 waits without limit.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`], [`Error::Corrupt`] when the object is no ring; what the connection says.
    pub fn ring_open(&self, id: ObjectId, timeout_ms: i64) -> Result<TensorRing> {
        TensorRing::attach(self.join(id, timeout_ms)?)
    }
}

fn settings_of(options: &RingOptions<'_>) -> Result<Settings> {
    let needed = options.layout.as_ref().map_or(0, Layout::nbytes);
    let RingOptions { slots, delivery, drops_oldest, is_guarded: is_paged, .. } = *options;
    let slot_bytes = if options.slot_bytes == 0 { needed } else { options.slot_bytes };
    if slot_bytes < needed {
        return Err(Error::InvalidArgument(format!("messages of {needed} bytes in slots of {slot_bytes}")));
    }
    if slot_bytes == 0 && options.layout.is_none() {
        return Err(Error::InvalidArgument("a ring needs slot_bytes, or the shape of its messages".into()));
    }
    if is_paged && delivery == Delivery::Broadcast {
        return Err(Error::Unsupported("a guarded ring whose messages are for all readers".into()));
    }
    if options.acquire_ms < -1 {
        return Err(Error::InvalidArgument(format!("acquire_ms is {}", options.acquire_ms)));
    }
    Ok(Settings { slots, slot_bytes, is_paged, delivery, drops_oldest })
}

impl TensorRing {
    fn attach(member: Member) -> Result<Self> {
        let shared = Arc::new(member).memory()?;
        let SharedMemory { memory, member } = &shared;
        let ring = Ring::attach(&memory.words()?, memory.data_size(), member.control().clone(), member.tag())?;
        let trailer = memory.split_metadata()?.1.unwrap_or_default();
        let acquire_ms = trailer.get(KEY_ACQUIRE_MS).and_then(|bytes| bytes.first_chunk());
        let acquire_ms = acquire_ms.map_or(-1, |bytes| i64::from_le_bytes(*bytes)).max(-1);
        let layout = description::stated(&trailer)?;
        let settings = *ring.geometry().settings();
        if let Some(layout) = layout.as_ref().filter(|layout| layout.nbytes() > settings.slot_bytes) {
            let bytes = layout.nbytes();
            return Err(Error::Corrupt(format!(
                "a ring with messages of {bytes} bytes in slots of {}",
                settings.slot_bytes
            )));
        }
        let (held, reader) = (Held::new(settings.slots), Mutex::new(None));
        let has_left = AtomicBool::new(false);
        let inner = Inner { shared, ring, layout, acquire_ms, held, reader, has_left };
        // Another handle of this process may have slots already.
        inner.shared.member.at_first(|| inner.guard_all())?;
        crash::at(Point::SlotsMapped);
        Ok(Self { inner: Arc::new(inner), bell: OnceLock::new() })
    }

    /// The ring's name.
    pub fn id(&self) -> ObjectId {
        self.inner.id()
    }

    /// What copies large messages.
    pub fn copier(&self) -> Copier {
        self.inner.shared.member.connection().copier()
    }

    /// What was chosen when it was made.
    pub fn settings(&self) -> &Settings {
        self.inner.ring.geometry().settings()
    }

    /// How long an acquire with [`AS_CREATED`] waits, in milliseconds; -1 without limit.
    pub fn acquire_ms(&self) -> i64 {
        self.inner.acquire_ms
    }

    /// Element type and shape of all messages.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where each has its own.
    pub fn fixed_layout(&self) -> Result<&Layout> {
        self.inner.layout.as_ref().ok_or_else(each_its_own)
    }

    /// A slot to fill.
    ///
    /// `timeout_ms` is how long to wait for one: -1 without limit, 0 not at all, [`AS_CREATED`].
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Closed`], [`Error::Aborted`]; [`Error::Busy`] when this thread got all slots itself, which nobody
    /// gave back, and waits for one without limit; [`Error::Interrupted`], [`Error::Disconnected`], [`Error::Forked`].
    pub fn acquire(&self, timeout_ms: i64) -> Result<Slot> {
        let inner = &self.inner;
        let handle = inner.acquire(timeout_ms)?;
        // Without a token the caller could not give it back.
        let guarded = inner.guard(handle, Some(Purpose::Write));
        guarded.or_else(|error| inner.give_back(handle, Purpose::Write).and(Err(error)))?;
        let size = inner.ring.geometry().settings().slot_bytes;
        Ok(inner.slot(inner.held.add(handle, Purpose::Write), handle, size))
    }

    /// Publishes what was written, as a tensor of this layout that lies row-major from the slot's begin on; `None`: that of the ring.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the message does not fit, or the caller does not have the slot; [`Error::Busy`] while there are views
    /// of it. The caller has the slot still then. [`Error::Closed`], [`Error::Aborted`], [`Error::Corrupt`]: the slot is given back.
    pub fn publish(&self, token: u64, layout: Option<&Layout>) -> Result<()> {
        let inner = &self.inner;
        inner.check_usable()?;
        let layout = inner.message_layout(layout)?;
        let header = header_of(layout);
        inner.ring.check_header(&header)?;
        let handle = inner.held.take_back(token, Purpose::Write)?;
        let guarded = inner.guard(handle, None);
        guarded.or_else(|error| inner.ring.abandon(handle).and(Err(error)))?;
        inner.publish(handle, &header)
    }

    /// Gives up a slot that was acquired.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the caller does not have the slot; [`Error::Busy`] while there are views of it.
    pub fn abandon(&self, token: u64) -> Result<()> {
        self.inner.check_usable()?;
        let handle = self.inner.held.take_back(token, Purpose::Write)?;
        self.inner.give_back(handle, Purpose::Write)
    }

    /// The next message, to read where it lies.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire); [`Error::Closed`] when the ring is closed and all was taken.
    pub fn take(&self, timeout_ms: i64) -> Result<Slot> {
        let inner = &self.inner;
        let handle = self.found(inner.take(timeout_ms))?;
        let said = inner.guard(handle, Some(Purpose::Read)).and_then(|()| inner.ring.header(&handle));
        // Without a token the caller could not give it back.
        let size = said.or_else(|error| inner.give_back(handle, Purpose::Read).and(Err(error)))?.bytes;
        Ok(inner.slot(inner.held.add(handle, Purpose::Read), handle, size))
    }

    /// What a take found; where it is nothing, the descriptor is quiet until there is something. It is not when the store is gone, so
    /// then that is what is told.
    fn found(&self, taken: Result<Handle>) -> Result<Handle> {
        let (Err(error), Some(bell)) = (&taken, self.bell.get()) else { return taken };
        bell.listen();
        if matches!(error, Error::Timeout(_)) {
            self.inner.shared.member.connection().check_alive()?;
        }
        taken
    }

    /// Is done with a message.
    ///
    /// # Errors
    /// As for [`abandon`](Self::abandon).
    pub fn release(&self, token: u64) -> Result<()> {
        self.inner.check_usable()?;
        let handle = self.inner.held.take_back(token, Purpose::Read)?;
        self.inner.give_back(handle, Purpose::Read)
    }

    /// Nothing is published from now on; who takes gets what was published before, and then [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Forked`].
    pub fn close(&self) -> Result<()> {
        self.inner.check_usable()?;
        self.inner.ring.close()
    }

    /// Everybody stops, with [`Error::Aborted`].
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn abort(&self) -> Result<()> {
        self.inner.check_usable()?;
        self.inner.ring.abort();
        Ok(())
    }

    /// Slots that are free, and messages that nobody has taken; others change both at any time.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Forked`].
    pub fn counts(&self) -> Result<(u64, u64)> {
        self.inner.check_usable()?;
        // What the dead had is counted as what it is.
        self.inner.ring.repair()?;
        self.inner.ring.counts()
    }

    /// A descriptor that can be read when a take is worth a try. A take that finds nothing makes it quiet again.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no descriptor or no thread; as for [`take`](Self::take) where everybody reads all.
    pub fn descriptor(&self) -> Result<i32> {
        self.inner.check_usable()?;
        self.inner.join_readers()?;
        if self.bell.get().is_none() {
            let _ = self.bell.set(RingBell::start(&self.inner)?);
        }
        self.bell.get().map(RingBell::descriptor).ok_or_else(|| Error::Busy("the ring's bell is being made".into()))
    }
}

impl Drop for TensorRing {
    /// What the callers had comes back, but for what they have views of: that comes back with the views.
    fn drop(&mut self) {
        if self.inner.is_usable() {
            drop(self.bell.take());
            self.inner.has_left.swap(true, Ordering::SeqCst);
            self.inner.give_all_back();
        } else {
            // In a forked child there is no such thread, and whoever had its lock may not be there either.
            std::mem::forget(self.bell.take());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.is_usable() {
            return;
        }
        self.give_all_back();
        if let Some(reader) = lock(&self.reader).take() {
            // A ring with impossible words has no readers to leave.
            let _ = self.ring.leave(reader);
        }
        crash::at(Point::SlotsLeft);
    }
}

impl Inner {
    fn check_usable(&self) -> Result<()> {
        if self.is_usable() { Ok(()) } else { Err(Error::Forked) }
    }

    fn is_usable(&self) -> bool {
        self.shared.member.connection().is_usable()
    }

    fn id(&self) -> ObjectId {
        self.shared.member.id()
    }

    /// Where a slot's memory begins.
    fn address(&self, slot: u32) -> *mut u8 {
        // All of the ring lies in the object, which was checked when it was attached.
        self.shared.memory.data_mut().wrapping_add(self.ring.geometry().memory(slot).start as usize)
    }

    fn is_broadcast(&self) -> bool {
        self.ring.geometry().settings().delivery == Delivery::Broadcast
    }

    fn slot(&self, token: u64, handle: Handle, size: u64) -> Slot {
        Slot { token, data: self.address(handle.slot()), size }
    }

    /// Element type and shape of a message that is about to be published.
    fn message_layout<'a>(&'a self, given: Option<&'a Layout>) -> Result<&'a Layout> {
        match (given, &self.layout) {
            (Some(given), Some(fixed)) if (given.dtype(), given.shape()) != (fixed.dtype(), fixed.shape()) => {
                let (dtype, shape) = (fixed.dtype(), fixed.shape());
                let text =
                    format!("a message of {} {:?} in a ring for {dtype} {shape:?}", given.dtype(), given.shape());
                Err(Error::InvalidArgument(text))
            }
            (Some(layout), _) | (None, Some(layout)) => Ok(layout),
            (None, None) => Err(each_its_own()),
        }
    }

    fn publish(&self, handle: Handle, header: &Header<'_>) -> Result<()> {
        let mut crowded = None;
        loop {
            let said = self.ring.publish(handle, header);
            if matches!(said, Ok(Publish::Published)) {
                return Ok(());
            }
            if let Err(error) = self.goes_on(said, &mut crowded) {
                // The caller has no token any more.
                let _ = self.ring.abandon(handle);
                return Err(error);
            }
        }
    }

    /// Waits for a moment where the line is crowded; an error where there is nothing more to publish.
    fn goes_on(&self, said: Result<Publish>, crowded: &mut Option<Instant>) -> Result<()> {
        match said? {
            Publish::Published => Ok(()),
            Publish::Crowded => self.let_others_finish(crowded),
            Publish::Closed => Err(Error::Closed(self.id())),
            Publish::Aborted => Err(Error::Aborted(self.id())),
        }
    }

    fn give_back(&self, handle: Handle, purpose: Purpose) -> Result<()> {
        let guarded = self.guard(handle, None);
        let given = match (purpose, self.is_broadcast()) {
            (Purpose::Write, _) => self.ring.abandon(handle),
            (Purpose::Read, false) => self.ring.release(handle),
            (Purpose::Read, true) => {
                let reader = lock(&self.reader);
                reader.as_ref().map_or(Ok(()), |reader| self.ring.release_read(reader, handle))
            }
        };
        given.and(guarded)
    }

    fn give_all_back(&self) {
        for (handle, purpose) in self.held.take_all() {
            if let Err(error) = self.give_back(handle, purpose) {
                log::debug!("a slot of ring {} is not given back: {error}", self.id());
            }
        }
    }

    fn guard_all(&self) -> Result<()> {
        let all = self.ring.geometry().memory(0).start..self.ring.geometry().bytes();
        if self.ring.geometry().settings().is_paged { self.shared.memory.guard(all, None) } else { Ok(()) }
    }

    /// Lets the slot's memory be touched for a purpose, or not any more, where the ring is guarded.
    fn guard(&self, handle: Handle, purpose: Option<Purpose>) -> Result<()> {
        if !self.ring.geometry().settings().is_paged {
            return Ok(());
        }
        let begin = self.ring.geometry().memory(handle.slot()).start;
        let writable = purpose.map(|purpose| purpose == Purpose::Write);
        self.shared.memory.guard(begin..begin + self.ring.geometry().stride(), writable)
    }
}

fn each_its_own() -> Error {
    Error::InvalidArgument("each message of this ring has a type and a shape of its own".into())
}

/// What is said of a message that lies like this, row-major.
fn header_of(layout: &Layout) -> Header<'_> {
    let dtype = layout.dtype();
    Header { bytes: layout.nbytes(), dtype: (dtype.code(), dtype.bits(), dtype.lanes()), shape: layout.shape() }
}
