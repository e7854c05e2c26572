//! One socket that many threads talk through.
//!
//! A request carries a number, and so does its answer. Of the threads that wait for an answer one *leads*: it alone
//! reads the socket and hands each answer to whom it belongs. When the leader has its own answer, it wakes another to
//! lead. The others sleep on an eventfd (their *bell*), so that a signal can end their sleep as well as the leader's.
//!
//! The store reads nothing from a client that leaves too many answers unread. So whoever finds the socket full while it
//! sends takes in what has arrived, leader or not: else a thread that gives back many objects, and waits for no answer,
//! could wait for a store that waits for it.
//!
//! A get that gives up waiting tells the store (Cancel), and stays listed as abandoned until its answer has come: the
//! objects in that answer are held and have to be released. A create that gives up waiting for room is undone by the store,
//! also when its answer is on its way: whoever creates the same object right afterwards finds nothing of it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::client::bells::{Bells, new_bell, ring};
use crate::client::incoming::{Answer, Incoming, held_by};
use crate::client::mappings::Mappings;
use crate::client::segments::Retiring;
use crate::client::sharing::Memberships;
use crate::client::submit::{Ring, Whose};
use crate::client::{ConnectOptions, NO_BYTES, lock};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::protocol::frame::{Dialect, MAX_BODY, encode};
use crate::protocol::native::{
    ABILITY_INDEX, ABILITY_REQUEST_NUMBERS, ABILITY_RING, ABILITY_SEGMENTS, ABILITY_SHARING,
};
use crate::protocol::{Reply, Request};
use crate::shm::copy::Copier;
use crate::shm::fork_token::ForkToken;
use crate::shm::pins::peer::Peer;
use crate::shm::ring::record::Record;
use crate::transport::connect::connect_to;
use crate::transport::fd_passing::receive;
use crate::transport::stream::{Inbox, send_some};
use crate::transport::wait::{Interruption, Waited, is_woken, wait};

/// How long the answer to a hello may take before whoever listens there is taken for something else.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// How much later than its time a get gives up on a store that does not answer. The store keeps the time; this is for one
/// that is stopped, and long enough not to call a present object absent because the machine is busy.
const GRACE: Duration = Duration::from_secs(10);

/// How long a call waits, and what else ends it.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// Until the answer is there: for calls that the store answers at once.
    Unlimited,
    /// For a get, or a create that waits for room: until this time, if there is one; an interrupt ends it too.
    Get {
        /// What the user asked for, in milliseconds; -1 for no limit.
        timeout_ms: i64,
        /// When to give up although the store says nothing.
        deadline: Option<Instant>,
    },
}

impl Patience {
    /// That of a get with this timeout.
    pub fn of_get(timeout_ms: i64) -> Self {
        let patience = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience.saturating_add(GRACE)));
        Self::Get { timeout_ms, deadline }
    }

    /// That of a create that waits this long for room: the store alone keeps its time, since pages are allocated after it.
    pub fn of_create(wait_ms: i64) -> Self {
        if wait_ms == 0 { Self::Unlimited } else { Self::Get { timeout_ms: wait_ms, deadline: None } }
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Unlimited => None,
            Self::Get { deadline, .. } => deadline,
        }
    }

    fn is_interruptible(self) -> bool {
        matches!(self, Self::Get { .. })
    }
}

/// What a store has to be able to do. There is none that can do some of it.
const ABILITIES: u64 = ABILITY_REQUEST_NUMBERS | ABILITY_INDEX | ABILITY_SEGMENTS | ABILITY_RING | ABILITY_SHARING;

/// A connection to a store of ours.
#[derive(Debug)]
pub struct Connection {
    token: ForkToken,
    capacity: u64,
    return_on_signal: bool,
    copier: Copier,
    spin: Duration,
    next_number: AtomicU64,
    /// How often [`Connection::interrupt`] was called.
    interrupts: AtomicU64,
    /// Wakes the leader: for an interrupt, or because somebody else has read what it waits for.
    leader_bell: EventFd,
    /// Wake those who wait for something else than an answer.
    bells: Bells,
    /// Gets objects without asking, where that is possible.
    reader: OnceLock<Peer>,
    /// Submits requests through shared memory; `None` where the store gives no ring.
    ring: OnceLock<Option<Ring>>,
    /// The last create that was given up, if the store may not have heard of that yet.
    cancelled: Mutex<Option<ObjectId>>,
    mappings: Mappings,
    retiring: Retiring,
    /// Objects that several write, this process among them.
    memberships: Memberships,
    /// In a forked child this is never taken apart: other threads may have been changing it.
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    socket: OwnedFd,
    /// Held while a frame is sent, so that frames do not mix.
    sending: Mutex<()>,
    incoming: Mutex<Incoming>,
}

impl Connection {
    /// Connects and greets.
    ///
    /// # Errors
    /// As for [`crate::client::Client::connect`].
    pub fn open(path: &Path, options: ConnectOptions) -> Result<Self> {
        let ConnectOptions { patience, return_on_signal, copy_threads, spin } = options;
        let copier = Copier::new(copy_threads)?;
        let token = ForkToken::current()?;
        let socket = connect_to(path, patience, return_on_signal)?;
        let hello = Request::Connect { abilities: ABILITIES };
        let (message_type, body) = hello.encode();
        // A new socket has room for far more than this.
        send_some(socket.as_fd(), &encode(Dialect::Plasma, message_type, 0, &body))?;
        let (capacity, inbox) = read_hello(socket.as_fd(), path, return_on_signal)?;
        let wire = Wire { socket, sending: Mutex::new(()), incoming: Mutex::new(Incoming::new(inbox)) };
        Ok(Self {
            token,
            capacity,
            return_on_signal,
            copier,
            spin,
            next_number: AtomicU64::new(1),
            interrupts: AtomicU64::new(0),
            leader_bell: new_bell()?,
            bells: Bells::new(),
            reader: OnceLock::new(),
            ring: OnceLock::new(),
            cancelled: Mutex::default(),
            mappings: Mappings::default(),
            retiring: Retiring::default(),
            memberships: Memberships::default(),
            wire: Arc::new(wire),
        })
    }

    /// The store's limit in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What copies into memory of this connection.
    pub fn copier(&self) -> Copier {
        self.copier
    }

    /// Whether this process made the connection. A plain load; no lock, no system call.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.token.is_current()
    }

    /// What gets objects without asking, where the store has given what that takes. Not in a forked child: its pins are its
    /// parent's.
    #[inline]
    pub fn reader(&self) -> Option<&Peer> {
        self.reader.get().filter(|_| self.is_usable())
    }

    /// From now on objects can be got without asking.
    pub(super) fn set_reader(&self, reader: Peer) {
        // There is none yet, since only whoever made the connection sets it.
        let _ = self.reader.set(reader);
    }

    /// Submits requests through shared memory, if the store gives what that takes. The first call asks for it. Not in a forked
    /// child, nor where objects are got by asking.
    pub(super) fn ring(&self) -> Option<&Ring> {
        self.reader()?;
        let open = || match Ring::open(self, self.spin) {
            Ok(ring) => Some(ring),
            Err(error) => {
                log::info!("requests go by the socket: {error}");
                None
            }
        };
        self.ring.get_or_init(open).as_ref()
    }

    /// The same if something was submitted before. Async-signal-safe.
    pub(super) fn present_ring(&self) -> Option<&Ring> {
        self.ring.get()?.as_ref().filter(|_| self.is_usable())
    }

    /// Whether a signal ends a call that waits.
    pub(super) fn returns_on_signal(&self) -> bool {
        self.return_on_signal
    }

    /// Whether the store is still there, asked of the kernel.
    ///
    /// # Errors
    /// [`Error::Disconnected`].
    pub(super) fn check_alive(&self) -> Result<()> {
        let mut socket = [PollFd::new(self.wire.socket.as_fd(), PollFlags::empty())];
        let polled = poll(&mut socket, PollTimeout::ZERO);
        match polled == Ok(1) || self.lock().ended.is_some() {
            true => Err(Error::Disconnected("it closed the connection".into())),
            false => Ok(()),
        }
    }

    /// The segments that are mapped for this connection.
    #[inline]
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// How long a thread that waits stays awake before it sleeps.
    pub(super) fn spin(&self) -> Duration {
        self.spin
    }

    /// Objects that this connection shares with others.
    pub(super) fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// # Errors
    /// [`Error::Interrupted`] when that was asked for since so many interrupts were counted, or is now.
    pub(super) fn check_interrupted(&self, interrupts: u64, was_signalled: bool) -> Result<()> {
        let ends = was_signalled && Interruption::Signal.ends(self.returns_on_signal());
        match ends || self.interrupts() != interrupts || is_woken() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// What lets go of them.
    pub(super) fn retiring(&self) -> &Retiring {
        &self.retiring
    }

    /// Ends all calls that wait and can be interrupted. Async-signal-safe: atomics and `write`.
    pub fn interrupt(&self) {
        if self.is_usable() {
            self.interrupts.fetch_add(1, Ordering::SeqCst);
            ring(&self.leader_bell);
            self.bells.ring_all();
            self.present_ring().into_iter().for_each(Ring::shake);
        }
    }

    /// How often [`Connection::interrupt`] was called.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::SeqCst)
    }

    /// Waits until `descriptor` can be read, or the deadline has come, and now and then for nothing.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when that happens now, or has since `interrupts` were counted; [`Error::Busy`], [`Error::Io`].
    pub fn wait_for(&self, descriptor: BorrowedFd<'_>, deadline: Option<Instant>, interrupts: u64) -> Result<()> {
        let bell = self.bells.take()?;
        if self.interrupts() != interrupts {
            return Err(Error::Interrupted);
        }
        let bell = bell.descriptor().unwrap_or(descriptor);
        let Waited { readable: [readable, _], interruption } = wait([descriptor, bell], deadline, true);
        match interruption {
            Some(what) if !readable && what.ends(self.return_on_signal) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Disconnected`], [`Error::Protocol`]; for gets, and creates that wait, also
    /// [`Error::Interrupted`] and [`Error::Timeout`].
    pub fn call(&self, request: &Request, patience: Patience) -> Result<Reply> {
        self.call_with_descriptors(request, patience).map(|(reply, _)| reply)
    }

    /// The same, with the descriptors that came with the answer and are for the caller.
    ///
    /// # Errors
    /// As for [`Connection::call`].
    pub fn call_with_descriptors(&self, request: &Request, patience: Patience) -> Result<Answer> {
        if !self.is_usable() {
            return Err(Error::Forked);
        }
        let interrupts = self.interrupts();
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        // Whatever can fail without the store's doing fails before the store is asked.
        let frame = frame_of(number, request)?;
        let bell = self.lock().begin(number)?;
        let outcome = self.send(&frame).and_then(|()| self.wait(number, patience, interrupts, &bell));
        if outcome.is_err() {
            self.give_up(number, request);
        }
        // Nobody rings it any more, since rings are given under the lock. Whoever takes it next silences it first.
        self.lock().spare_bells.push(bell);
        outcome
    }

    /// Sends a request whose answer, if there is one, interests nobody. Failure means that the store is gone, and with
    /// it what it was to be told.
    pub fn notify(&self, request: &Request) {
        if !self.is_usable() || self.notify_by_ring(request) {
            return;
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        if matches!(request, Request::Abort { .. }) {
            self.lock().begin_abandoned(number);
        }
        if let Err(error) = frame_of(number, request).and_then(|frame| self.send(&frame)) {
            log::debug!("the store was not told: {error}");
        }
    }

    /// What others of the ring may depend on goes the same way, so that they do not overtake it.
    fn notify_by_ring(&self, request: &Request) -> bool {
        let Some(ring) = self.present_ring() else { return false };
        let record = match *request {
            Request::Release { id } => Record::Release { id },
            Request::Abort { id } => Record::Abort { id },
            _ => return false,
        };
        // Fails only when the store is gone.
        let _ = self.submit(ring, Whose::Nobodys, |_| record, NO_BYTES);
        true
    }

    /// Waits until the store has heard of creates that were given up: what is submitted now must not overtake that.
    pub(super) fn settle_cancelled(&self) -> Result<()> {
        let cancelled = lock(&self.cancelled).take();
        cancelled.map_or(Ok(()), |id| self.call(&Request::Contains { id }, Patience::Unlimited).map(drop))
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        let mut releases = Vec::new();
        let sending = lock(&self.wire.sending);
        let mut rest = frame;
        while !rest.is_empty() {
            match send_some(self.wire.socket.as_fd(), rest)? {
                0 => releases.extend(self.make_room()?),
                sent => rest = rest.get(sent..).unwrap_or_default(),
            }
        }
        drop(sending);
        self.release_all(releases);
        Ok(())
    }

    /// Waits for the full socket to have room, and takes in what arrives meanwhile.
    fn make_room(&self) -> Result<Vec<ObjectId>> {
        let mut ready = [PollFd::new(self.wire.socket.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
        let polled = poll(&mut ready, PollTimeout::NONE);
        let [events] = ready.map(|descriptor| descriptor.revents().unwrap_or(PollFlags::empty()));
        if polled.is_err() || events == PollFlags::POLLOUT {
            return Ok(Vec::new());
        }
        let mut incoming = self.lock();
        let releases = incoming.read(self.wire.socket.as_fd());
        if incoming.has_leader {
            // It sleeps on a socket that has nothing for it any more.
            ring(&self.leader_bell);
        }
        match &incoming.ended {
            Some(reason) => Err(Error::Disconnected(reason.clone())),
            None => Ok(releases),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Incoming> {
        lock(&self.wire.incoming)
    }

    /// Waits for an answer, leading or sleeping.
    fn wait(&self, number: u64, patience: Patience, interrupts: u64, bell: &Arc<EventFd>) -> Result<Answer> {
        let mut incoming = self.lock();
        loop {
            if let Some(answer) = incoming.take_answer(number) {
                return Ok(answer);
            }
            if let Some(reason) = &incoming.ended {
                return Err(Error::Disconnected(reason.clone()));
            }
            self.check_patience(patience, interrupts)?;
            let interruption = if incoming.has_leader {
                incoming.listen(number, bell);
                drop(incoming);
                sleep(bell, patience)
            } else {
                incoming.has_leader = true;
                drop(incoming);
                self.lead(patience)
            };
            if patience.is_interruptible() && interruption.is_some_and(|what| what.ends(self.return_on_signal)) {
                return Err(Error::Interrupted);
            }
            incoming = self.lock();
        }
    }

    fn check_patience(&self, patience: Patience, interrupts: u64) -> Result<()> {
        let Patience::Get { timeout_ms, deadline } = patience else { return Ok(()) };
        if self.interrupts() != interrupts {
            return Err(Error::Interrupted);
        }
        match deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::Timeout(timeout_ms)),
            _ => Ok(()),
        }
    }

    /// Reads the socket once, on behalf of all, and lets go of the lead.
    fn lead(&self, patience: Patience) -> Option<Interruption> {
        let descriptors = [self.wire.socket.as_fd(), self.leader_bell.as_fd()];
        let Waited { readable, interruption } = wait(descriptors, patience.deadline(), patience.is_interruptible());
        let [socket, rung] = readable;
        let mut incoming = self.lock();
        incoming.has_leader = false;
        if rung {
            // Read before the bells are rung, so that an interrupt which comes now is not lost.
            let _ = self.leader_bell.read();
            incoming.ring_all();
        }
        let releases = if socket { incoming.read(self.wire.socket.as_fd()) } else { Vec::new() };
        if !releases.is_empty() {
            // Sending them may take a while, and somebody has to read.
            incoming.wake_a_leader();
        }
        drop(incoming);
        self.release_all(releases);
        interruption
    }

    /// Stops waiting for an answer. The store is told, since it keeps a get until its time is over, and what was created.
    fn give_up(&self, number: u64, request: &Request) {
        let mut incoming = self.lock();
        let late = incoming.abandon(number);
        incoming.wake_a_leader();
        drop(incoming);
        match (late, request) {
            (_, Request::Create { id, .. }) => {
                self.notify(&Request::CancelCreate { number, id: *id });
                *lock(&self.cancelled) = Some(*id);
            }
            (Some(reply), _) => self.release_all(held_by(reply)),
            (None, _) => self.notify(&Request::Cancel { number }),
        }
    }

    fn release_all(&self, ids: Vec<ObjectId>) {
        ids.into_iter().for_each(|id| self.notify(&Request::Release { id }));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match self.is_usable() {
            true => self.retiring.end(),
            // Another thread of the parent may have been changing any of these.
            false => std::mem::forget((
                self.wire.clone(),
                std::mem::take(&mut self.mappings),
                std::mem::take(&mut self.retiring),
            )),
        }
    }
}

/// A request as it goes out.
fn frame_of(number: u64, request: &Request) -> Result<Vec<u8>> {
    let (message_type, body) = request.encode();
    if body.len() as u64 > MAX_BODY {
        let text = format!("a request of {} bytes is too long; {MAX_BODY} are possible", body.len());
        return Err(Error::InvalidArgument(text));
    }
    Ok(encode(Dialect::Native, message_type, number, &body))
}

fn sleep(bell: &EventFd, patience: Patience) -> Option<Interruption> {
    let waited = wait([bell.as_fd()], patience.deadline(), patience.is_interruptible());
    let _ = bell.read();
    waited.interruption
}

/// Waits for the answer to a hello. Returns the store's capacity, and what else has arrived.
fn read_hello(socket: BorrowedFd<'_>, path: &Path, return_on_signal: bool) -> Result<(u64, Inbox)> {
    let foreign = |what: &str| Error::UnsupportedPeer(format!("{} is not a store of ours: {what}", path.display()));
    let mut inbox = Inbox::new(Dialect::Plasma);
    let deadline = Instant::now() + HELLO_PATIENCE;
    let frame = loop {
        match inbox.next_frame() {
            Ok(Some(frame)) => break frame,
            Ok(None) => {}
            Err(error) => return Err(foreign(&error.to_string())),
        }
        let Waited { readable: [readable], interruption } = wait([socket], Some(deadline), true);
        if !readable {
            if interruption.is_some_and(|what| what.ends(return_on_signal)) {
                return Err(Error::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(foreign("it does not answer"));
            }
            continue;
        }
        let mut bytes = [0; 256];
        match receive(socket, &mut bytes, &mut Vec::new()) {
            Ok(0) => return Err(foreign("it closed the connection")),
            Ok(count) => inbox.push(bytes.get(..count).unwrap_or_default()),
            Err(error) => return Err(Error::Disconnected(error.to_string())),
        }
    };
    match Reply::decode(frame.message_type, &frame.body) {
        Ok(Reply::Connect { capacity, abilities }) if abilities & ABILITIES == ABILITIES => {
            inbox.set_dialect(Dialect::Native);
            Ok((u64::try_from(capacity).unwrap_or(0), inbox))
        }
        Ok(Reply::Connect { .. }) => Err(foreign("an old Plasma daemon; start plasma-store-server instead")),
        _ => Err(foreign("it answers something else")),
    }
}
