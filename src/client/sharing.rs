//! Objects that several peers write before they are sealed: how this connection takes part in them.
//!
//! A connection takes part once in each, however many handles there are; it leaves when the last of them is gone. The object's memory is mapped
//! when somebody asks for it, and for all of them. A forked child inherits the mapping, on purpose: arrays that lie there go on being the same
//! memory. So a child keeps the object from being sealed until it lets go of its handles, or ends.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::client::buffer::{Memory, Place, WritableBuffer};
use crate::client::connection::{Connection, Patience};
use crate::client::putting::seal_in_the_end;
use crate::client::submit::SLICE;
use crate::client::{Client, CreateOptions, lock, unexpected};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::object::{Location, ObjectId};
use crate::protocol::{Refusal, Refused, Reply, Request, ShareAction, Shared};
use crate::shm::shared::control::{Alarm, Control, Tag};
use crate::shm::shared::files::map_control;
use crate::transport::wait::wait;

/// How long somebody who looks again and again pauses in between, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What a connection takes part in.
pub type Memberships = Mutex<HashMap<ObjectId, Entry>>;

/// One of them, and how many handles there are for it.
#[derive(Debug)]
pub struct Entry {
    membership: Arc<Membership>,
    handles: usize,
}

/// That this connection takes part in an object.
#[derive(Debug)]
pub(super) struct Membership {
    connection: Arc<Connection>,
    id: ObjectId,
    location: Location,
    control: Control,
    tag: Tag,
    /// The object's memory while it is mapped. Whoever uses it has a share of it.
    memory: Mutex<Option<Arc<Memory>>>,
    /// It was sealed by us, so nobody takes part any more.
    is_sealed: AtomicBool,
}

/// A handle on a shared object.
#[derive(Debug)]
pub struct Member {
    membership: Arc<Membership>,
}

/// Its memory, and the handle that keeps it.
#[derive(Debug)]
pub struct SharedMemory {
    /// Dropped first: a participant who leaves has nothing mapped.
    pub(super) memory: Arc<Memory>,
    pub(super) member: Arc<Member>,
}

/// How long a call may wait, and what else ends it.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'a> {
    connection: &'a Connection,
    interrupts: u64,
    timeout_ms: i64,
    end: Option<Instant>,
}

impl<'a> Limit<'a> {
    /// From now on so many milliseconds, -1 for no limit.
    fn new(connection: &'a Connection, timeout_ms: i64) -> Result<Self> {
        if timeout_ms < -1 {
            return Err(Error::InvalidArgument(format!("timeout_ms is -1, 0 or positive, not {timeout_ms}")));
        }
        if !connection.is_usable() {
            return Err(Error::Forked);
        }
        let end = u64::try_from(timeout_ms).ok().and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        Ok(Self { connection, interrupts: connection.interrupts(), timeout_ms, end })
    }

    /// For how long the caller may sleep now.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Interrupted`], [`Error::Disconnected`].
    pub fn allow(&self, was_signalled: bool) -> Result<Duration> {
        self.connection.check_interrupted(self.interrupts, was_signalled)?;
        let left = self.end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(Error::Timeout(self.timeout_ms));
        }
        self.connection.check_alive()?;
        Ok(left.min(SLICE))
    }

    /// Lets some time pass before another look.
    fn pause(&self, pause: &mut Duration) -> Result<()> {
        let at_most = self.allow(false)?.min(*pause);
        let ended = wait([], Some(Instant::now() + at_most), true).interruption;
        *pause = (*pause * 2).min(PAUSES[1]);
        match ended.is_some_and(|what| what.ends(self.connection.returns_on_signal())) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

/// Why an object is not sealed yet.
enum Unsealed {
    /// Others can write it.
    Others(Error),
    Failed(Error),
}

impl Client {
    /// Creates an object that this client shares from the beginning: `fill` is given its memory first, when nobody else sees it.
    ///
    /// `keep`: it lives until it is deleted, also when nobody takes part.
    ///
    /// # Errors
    /// As for [`Client::create`]; [`Error::Unsupported`] in a store without segments of their own for such objects; what `fill` says.
    pub(super) fn share(
        &self,
        id: ObjectId,
        data_size: u64,
        metadata: &[u8],
        options: CreateOptions<'_>,
        keep: bool,
        fill: impl FnOnce(&WritableBuffer) -> Result<()>,
    ) -> Result<Member> {
        self.check_usable()?;
        let options = CreateOptions { immutable: true, ..options };
        let buffer = self.create_described(id, data_size, metadata, options)?;
        let filled = fill(&buffer);
        drop(buffer);
        let mut members = lock(self.connection.memberships());
        let begun = filled.and_then(|()| ask(&self.connection, id, ShareAction::Begin { keep }));
        let (shared, control) = begun.inspect_err(|_| {
            // Fails when the store is gone, or has dropped it.
            let _ = self.abort(id);
        })?;
        crash::at(Point::ShareAnswered);
        self.forget_pending(id);
        let membership = Membership::of(&self.connection, id, &shared, control)?;
        Ok(enter(&mut members, membership))
    }

    /// Takes part in an object that somebody shares.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] when nobody does, [`Error::ObjectAlreadySealed`], [`Error::StoreFull`] when as many take part as can.
    fn join_now(&self, id: ObjectId) -> Result<Member> {
        let mut members = lock(self.connection.memberships());
        if let Some(entry) = members.get_mut(&id) {
            entry.handles += 1;
            return Ok(Member { membership: entry.membership.clone() });
        }
        match ask(&self.connection, id, ShareAction::Join) {
            Ok((shared, control)) => {
                crash::at(Point::JoinAnswered);
                let membership = Membership::of(&self.connection, id, &shared, control)?;
                Ok(enter(&mut members, membership))
            }
            Err(Error::ObjectNotFound(_)) if self.sees(id)? == Some(true) => Err(Error::ObjectAlreadySealed(id)),
            Err(error) => Err(error),
        }
    }

    /// The same, and waits for it.
    ///
    /// # Errors
    /// The same, and [`Error::Timeout`], [`Error::Interrupted`].
    pub(super) fn join(&self, id: ObjectId, timeout_ms: i64) -> Result<Member> {
        let limit = Limit::new(&self.connection, timeout_ms)?;
        let mut pause = PAUSES[0];
        loop {
            match self.join_now(id) {
                Err(Error::ObjectNotFound(_)) if timeout_ms != 0 => limit.pause(&mut pause)?,
                joined => return joined,
            }
        }
    }

    /// Who takes part in a shared object, as people are told of them.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] when nobody shares it.
    pub fn holders(&self, id: ObjectId) -> Result<Vec<String>> {
        Ok(ask(&self.connection, id, ShareAction::Ask)?.0.participants)
    }
}

/// Makes a request, and gives what is told with the descriptor that may come.
fn ask(connection: &Connection, id: ObjectId, action: ShareAction) -> Result<(Shared, Option<OwnedFd>)> {
    let request = Request::Share { id, action };
    let (reply, descriptors) = connection.call_with_descriptors(&request, Patience::Unlimited)?;
    match reply {
        Reply::Share { outcome } => Ok((outcome.map_err(|why| refused(id, why))?, descriptors.into_iter().next())),
        other => Err(unexpected(&other)),
    }
}

fn refused(id: ObjectId, Refused { refusal, detail }: Refused) -> Error {
    match refusal {
        Refusal::OutOfMemory => Error::StoreFull(detail),
        Refusal::Unsupported => Error::Unsupported(detail),
        Refusal::StillWritable => Error::Busy(format!("object {id} is not sealed, others can write it: {detail}")),
        refusal => crate::client::refused(id, refusal),
    }
}

fn enter(members: &mut HashMap<ObjectId, Entry>, membership: Arc<Membership>) -> Member {
    members.insert(membership.id, Entry { membership: membership.clone(), handles: 1 });
    Member { membership }
}

impl Membership {
    /// By which the participants agree, and which of them this is. `None` in a forked child, which is none of them.
    pub(super) fn participant(&self) -> Option<(&Control, Tag)> {
        self.connection.is_usable().then_some((&self.control, self.tag))
    }

    /// Takes up what the store has told; leaves when that is of no use.
    fn of(connection: &Arc<Connection>, id: ObjectId, shared: &Shared, control: Option<OwnedFd>) -> Result<Arc<Self>> {
        let words = || {
            let control = Control::new(&map_control(
                &control.ok_or_else(|| Error::Protocol(format!("the control file of object {id} did not come")))?,
            )?)?;
            Ok((control.tag_of(shared.participant)?, control))
        };
        let (tag, control) = words().inspect_err(|_| leave(connection, id))?;
        Ok(Arc::new(Self {
            connection: connection.clone(),
            id,
            location: shared.location,
            control,
            tag,
            memory: Mutex::default(),
            is_sealed: AtomicBool::new(false),
        }))
    }
}

/// Unmaps an object, if nobody here uses it.
fn unmap(id: ObjectId, slot: &mut Option<Arc<Memory>>) -> Result<()> {
    let Some(memory) = slot.take() else { return Ok(()) };
    if let Err(memory) = Arc::try_unwrap(memory) {
        let users = Arc::strong_count(&memory).saturating_sub(1);
        *slot = Some(memory);
        return Err(Error::Busy(format!(
            "object {id} is not sealed: this process has {users} arrays or buffers there"
        )));
    }
    Ok(())
}

fn leave(connection: &Connection, id: ObjectId) {
    if let Err(error) = ask(connection, id, ShareAction::Leave) {
        log::debug!("object {id} is not left: {error}");
    }
}

impl Member {
    /// The object's name.
    pub fn id(&self) -> ObjectId {
        self.membership.id
    }

    /// By which the participants agree.
    pub fn control(&self) -> &Control {
        &self.membership.control
    }

    /// Which participant this is.
    pub fn tag(&self) -> Tag {
        self.membership.tag
    }

    /// That this connection takes part, for whoever does not keep it doing so.
    pub(super) fn membership(&self) -> Weak<Membership> {
        Arc::downgrade(&self.membership)
    }

    /// Waits until `look` finds something, as [`Alarm::wait`] does; awake at first, where the connection was made so.
    ///
    /// # Errors
    /// What `look` says, and what ends the wait.
    pub fn wait<T>(
        &self,
        alarm: Alarm<'_>,
        limit: Limit<'_>,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        if let Some(found) = look()? {
            return Ok(found);
        }
        let begun = Instant::now();
        while limit.end != Some(begun) && begun.elapsed() < self.connection().spin() {
            if let Some(found) = look()? {
                return Ok(found);
            }
            std::hint::spin_loop();
        }
        alarm.wait(look, |was_signalled| limit.allow(was_signalled))
    }

    /// The connection that takes part.
    pub(super) fn connection(&self) -> &Connection {
        &self.membership.connection
    }

    /// # Errors
    /// [`Error::Forked`], and [`Error::ObjectAlreadySealed`] when nobody shares it any more.
    pub fn check(&self) -> Result<()> {
        if !self.connection().is_usable() {
            return Err(Error::Forked);
        }
        match self.membership.is_sealed.load(Ordering::SeqCst) {
            true => Err(Error::ObjectAlreadySealed(self.id())),
            false => Ok(()),
        }
    }

    /// From now on so many milliseconds, -1 for no limit.
    ///
    /// # Errors
    /// As [`Member::check`]; [`Error::InvalidArgument`] for other numbers.
    pub fn limit(&self, timeout_ms: i64) -> Result<Limit<'_>> {
        self.check()?;
        Limit::new(self.connection(), timeout_ms)
    }

    /// The object's memory, for writing. It cannot be sealed while somebody has it.
    ///
    /// # Errors
    /// As [`Member::check`]; what mapping it says.
    pub fn memory(self: &Arc<Self>) -> Result<SharedMemory> {
        self.check()?;
        let mut slot = lock(&self.membership.memory);
        // Once more: it may have been sealed before the slot was ours.
        self.check()?;
        let memory = match &*slot {
            Some(memory) => memory.clone(),
            None => slot.insert(Arc::new(self.map()?)).clone(),
        };
        Ok(SharedMemory { memory, member: self.clone() })
    }

    /// How many arrays and buffers of this process lie there, by this connection.
    pub fn users(&self) -> usize {
        lock(&self.membership.memory).as_ref().map_or(0, |memory| Arc::strong_count(memory) - 1)
    }

    fn map(&self) -> Result<Memory> {
        let location = self.membership.location;
        let mapping = Arc::new(self.connection().segment_of_several(location.segment)?);
        Ok(Memory::new(Place::shared(mapping, location)?, location))
    }

    /// Seals the object, which is unmapped here for that, when nobody else can write it any more.
    ///
    /// # Errors
    /// [`Error::Busy`] while this process has arrays there, and when after that time others still can write it: it names them.
    /// [`Error::Interrupted`].
    pub fn freeze(&self, timeout_ms: i64) -> Result<()> {
        let limit = self.limit(timeout_ms)?;
        let mut others = None;
        let look = || match self.freeze_now() {
            Ok(()) => Ok(Some(())),
            Err(Unsealed::Failed(error)) => Err(error),
            Err(Unsealed::Others(error)) => {
                others = Some(error);
                Ok(None)
            }
        };
        let ended = self.control().alarm(2).wait(look, |was_signalled| limit.allow(was_signalled));
        ended.map_err(|error| match (error, others) {
            (Error::Timeout(_), Some(others)) => others,
            (error, _) => error,
        })
    }

    fn freeze_now(&self) -> Result<(), Unsealed> {
        let Membership { connection, id, .. } = &*self.membership;
        let mut members = lock(connection.memberships());
        // Nobody here maps it meanwhile.
        let mut slot = lock(&self.membership.memory);
        self.check().and_then(|()| unmap(*id, &mut slot)).map_err(Unsealed::Failed)?;
        crash::at(Point::FreezeUnmapped);
        let sealed = seal_in_the_end(|| ask(connection, *id, ShareAction::Freeze), || self.is_alone());
        sealed.map_err(|error| match error {
            Error::Busy(_) => Unsealed::Others(error),
            _ => Unsealed::Failed(error),
        })?;
        crash::at(Point::FreezeAnswered);
        self.membership.is_sealed.store(true, Ordering::SeqCst);
        members.remove(id);
        Ok(())
    }

    /// Whether nobody else takes part, so that it is a forked child, or what the kernel does with a page for a moment.
    fn is_alone(&self) -> bool {
        let told = ask(self.connection(), self.id(), ShareAction::Ask);
        told.is_ok_and(|(shared, _)| shared.participants.len() == 1)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Membership { connection, id, memory, .. } = &*self.membership;
        let is_usable = connection.is_usable();
        let mut members = match connection.memberships().try_lock() {
            Ok(members) => members,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A thread that is not in this child may have it.
            Err(TryLockError::WouldBlock) if !is_usable => return,
            Err(TryLockError::WouldBlock) => lock(connection.memberships()),
        };
        let Some(entry) = members.get_mut(id).filter(|entry| Arc::ptr_eq(&entry.membership, &self.membership)) else {
            return;
        };
        entry.handles -= 1;
        if entry.handles > 0 {
            return;
        }
        let last = members.remove(id);
        // Unmapped before the store hears of it; in a child, so that the parent can have the object sealed.
        drop(memory.try_lock().ok().and_then(|mut memory| memory.take()));
        if is_usable {
            leave(connection, *id);
        }
        drop(members);
        drop(last);
    }
}
