//! The plumbing of the store: one epoll loop that moves frames and descriptors between connections and the engine.
//!
//! No socket here ever blocks. A peer that does not read its answers is not read from either, so it delays and costs
//! nobody but itself; a peer that breaks the protocol loses its connection, with a line in the log.
#![forbid(unsafe_code)]

mod events;
mod readers;
mod rings;

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use foldhash::HashMap;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::UnixCredentials;
use nix::unistd::read;

use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::protocol::frame::{Dialect, encode};
use crate::protocol::native::ABILITY_SEGMENTS;
use crate::protocol::{Reply, Request, SegmentInfo};
use crate::shm::ring::collector::Taken;
use crate::store::engine::{Asker, Effect, Engine, Job, Now, SubscriptionId, Work};
use crate::store::external::ExternalStore;
use crate::store::external::worker::Worker;
use crate::store::options::StoreOptions;
use crate::store::peers::PeerId;
use crate::store::segments::Segments;
use crate::store::server::readers::{Offer, Reader};
use crate::store::server::rings::{Invited, Rings, is_by_ring, outcome_of};
use crate::store::space::SHARED_SEGMENT;
use crate::store::subscription::Subscription;
use crate::transport::fork_guard::Guarded;
use crate::transport::listener::Listener;
use crate::transport::stream::{Frame, Inbox, Outbox, SharedDescriptor};

/// Epoll's name for the descriptor that ends the loop, and for the listening socket; peers have the numbers below.
const STOP: u64 = u64::MAX;
const LISTENER: u64 = u64::MAX - 1;
/// The bell of the external store's thread.
const EXTERNAL: u64 = u64::MAX - 2;
/// Added to a subscription's number: its socket.
const SUBSCRIPTION: u64 = 1 << 62;
/// Added to a peer's number: what it wakes the store with.
const KICK: u64 = 1 << 61;
/// Bytes read from one peer before the others have their turn.
const READ_SIZE: usize = 64 << 10;
/// Bytes of answers that may wait for a peer before its requests are left unread.
const MAX_QUEUED: usize = 1 << 20;
/// How long one peer's requests are served before the others have their turn. A single request may take longer.
const TURN: Duration = Duration::from_millis(2);
/// Connections accepted before the peers have their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long nobody is accepted when not even a refusal is possible.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After what time descriptors are tried again that could not be sent because too many are unread, and for how many peers at once.
const STALL_PAUSE: Duration = Duration::from_millis(10);
const STALLED_PER_TURN: usize = 256;
/// How often a store that stays awake looks for records before it asks the kernel again: some microseconds.
const SPINS_PER_LOOK: usize = 256;
/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// One connection.
#[derive(Debug)]
struct Connection {
    socket: Guarded<OwnedFd>,
    dialect: Dialect,
    inbox: Inbox,
    outbox: Outbox,
    /// It was sent the shared segment's descriptor, which it expects exactly once.
    has_shared_segment: bool,
    /// It asks for the segments that it needs.
    pulls: bool,
    /// Whole frames may lie in the inbox: its turn was over, or too many answers waited.
    has_backlog: bool,
    /// It is among those that are tried again.
    is_stalled: bool,
    interest: EpollFlags,
    credentials: UnixCredentials,
    /// The subscription whose socket is to come.
    awaited_socket: Option<SubscriptionId>,
    /// The next byte is no frame: it carries the socket of a subscription.
    expects_descriptor: bool,
    /// How far it is with getting objects without asking.
    reader: Option<Reader>,
    /// What it was given to submit requests through shared memory.
    ring: Option<Invited>,
}

/// A store that listens.
#[derive(Debug)]
pub struct Server {
    engine: Engine<Segments>,
    index: Offer,
    listener: Listener,
    epoll: Guarded<EpollFd>,
    external: Option<Worker>,
    connections: HashMap<PeerId, Connection>,
    rings: Rings,
    /// Records that were taken and are being served.
    batch: Vec<Taken>,
    subscriptions: HashMap<SubscriptionId, Subscription>,
    scratch: Vec<u8>,
    /// Given up for a moment when no descriptor is left, to refuse a connection that would otherwise wait for ever.
    spare: Option<Guarded<OwnedFd>>,
    /// How long it stays awake when there is nothing to do, and since when there is.
    spin: Duration,
    idle_since: Instant,
    /// Until when the listening socket is left alone.
    accepting_again: Option<Instant>,
    /// Peers that were sent more descriptors than they have read, and when they are looked at.
    stalled: VecDeque<PeerId>,
    sending_again: Option<Instant>,
}

/// Gives nix's epoll the trait by which descriptors are guarded.
#[derive(Debug)]
struct EpollFd(Epoll);

impl AsFd for EpollFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl Server {
    /// A store behind `listener`, with the capacity and directory of `options`; it runs until `stop` is written to. What it
    /// evicts goes to `external`, if that is there.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a capacity that cannot be, or a directory that cannot hold its file, else
    /// [`Error::Io`].
    pub fn new(
        options: &StoreOptions,
        listener: Listener,
        external: Option<Box<dyn ExternalStore>>,
        stop: &EventFd,
    ) -> Result<Self> {
        let segments = Segments::new(options)?;
        let epoll = Guarded::open(|| {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::from_errno("epoll_create1"))?;
            Ok(EpollFd(epoll))
        })?;
        epoll.0.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(Error::from_errno("epoll_ctl"))?;
        epoll
            .0
            .add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))
            .map_err(Error::from_errno("epoll_ctl"))?;
        let (index, shared_index) = Offer::new(options.indexed_objects())?;
        index.gather_by(&segments);
        let mut engine = Engine::new(options.capacity, segments)?.with_index(shared_index);
        let external = external.map(|store| start_worker(store, &epoll)).transpose()?;
        if external.is_some() {
            engine = engine.with_external_store();
        }
        Ok(Self {
            engine,
            index,
            listener,
            epoll,
            external,
            connections: HashMap::default(),
            rings: Rings::default(),
            batch: Vec::new(),
            subscriptions: HashMap::default(),
            scratch: vec![0; READ_SIZE],
            spare: spare_descriptor(),
            spin: options.spin,
            idle_since: Instant::now(),
            accepting_again: None,
            stalled: VecDeque::new(),
            sending_again: None,
        })
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// [`Error::Io`] when epoll itself fails; no peer can cause that.
    pub fn run(mut self) -> Result<()> {
        let _alive = self.index.file.hold_alive()?;
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut was_woken = false;
        loop {
            let was_busy = self.serve_rings();
            let timeout = if self.may_rest(was_busy, was_woken) { self.timeout() } else { EpollTimeout::ZERO };
            let waited = self.epoll.0.wait(&mut events, timeout);
            self.engine.woke();
            let count = match waited {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(Error::io("epoll_wait", errno.into())),
            };
            was_woken = count > 0;
            for event in events.iter().take(count) {
                match event.data() {
                    STOP => return Ok(()),
                    LISTENER => self.accept(),
                    EXTERNAL => self.take_what_is_done(),
                    name if name & KICK != 0 => self.kicked(name & !KICK),
                    name if name & SUBSCRIPTION != 0 => self.serve_subscriber(name & !SUBSCRIPTION, event.events()),
                    peer => self.serve(peer, event.events()),
                }
            }
            let now = now();
            self.engine.work(now);
            self.engine.expire(now);
            self.accept_again();
            self.send_again();
            self.apply_effects();
        }
    }

    /// Whether there is nothing more to do: from then on peers wake the store.
    fn may_rest(&mut self, was_busy: bool, was_woken: bool) -> bool {
        if !self.spin.is_zero() && (was_busy || was_woken) {
            self.idle_since = Instant::now();
        }
        !was_busy && !self.stays_awake() && self.engine.may_sleep(now()) && !self.rings.have_more()
    }

    /// Whether to look again rather than sleep: for some time after there was something to do, if that is wanted. Whoever else wants
    /// to run on this processor may.
    fn stays_awake(&mut self) -> bool {
        if self.spin.is_zero() || self.idle_since.elapsed() > self.spin {
            return false;
        }
        for _ in 0..SPINS_PER_LOOK {
            if self.rings.have_more() {
                break;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
        true
    }

    /// Gives a job to the external store, with the segment that it is about.
    fn order(&mut self, job: Job) {
        let segments = self.engine.pages();
        let segment = match job.work {
            Work::Put(location) => segments.segment(location.segment),
            Work::Get(location) => segments.segment_to_fill(location.segment),
            Work::Delete => Ok(segments.shared().clone()),
        };
        match (&self.external, segment) {
            (Some(worker), Ok(segment)) => worker.give(job, segment),
            (None, Ok(_)) => {}
            (_, Err(error)) => self.engine.job_done(job.number, Err(error)),
        }
    }

    fn take_what_is_done(&mut self) {
        for (number, outcome) in self.external.as_ref().map(Worker::done).unwrap_or_default() {
            self.engine.job_done(number, outcome);
        }
    }

    fn timeout(&self) -> EpollTimeout {
        if self.engine.has_work() {
            return EpollTimeout::ZERO;
        }
        let deadlines = self.engine.next_deadline().into_iter().chain(self.accepting_again).chain(self.sending_again);
        let Some(deadline) = deadlines.min() else { return EpollTimeout::NONE };
        // Rounded up: a get must not end before its time.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        EpollTimeout::try_from(left.min(Duration::from_secs(3600))).unwrap_or(EpollTimeout::ZERO)
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok(Some(socket)) => {
                    if let Err(error) = self.welcome(socket) {
                        log::warn!("a connection was refused: {error}");
                    }
                }
                Ok(None) => return,
                Err(error) => return self.refuse_one(&error),
            }
        }
    }

    /// Takes the connection that no descriptor is left for, and closes it, so that its client is told. When even that fails
    /// the connection goes on waiting, and the socket must not wake the loop all the time.
    fn refuse_one(&mut self, error: &Error) {
        // Both the spare one and the one it made room for are closed before the next spare one is opened.
        let spare = self.spare.take().map(drop);
        match spare.map(|()| self.listener.accept().map(|refused| refused.is_some())) {
            // The kernel asks for a descriptor first, and only then whether anybody waits.
            Some(Ok(false)) => {}
            Some(Ok(true)) => log::warn!("a connection was refused: {error}"),
            Some(Err(_)) | None => {
                log::warn!("nobody is accepted for {} ms: {error}", ACCEPT_PAUSE.as_millis());
                self.listen_for(EpollFlags::empty());
                self.accepting_again = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
        self.spare = spare_descriptor();
    }

    /// Ends the pause, when it is over.
    fn accept_again(&mut self) {
        if self.accepting_again.is_some_and(|time| Instant::now() >= time) {
            self.accepting_again = None;
            self.spare = self.spare.take().or_else(spare_descriptor);
            self.listen_for(EpollFlags::EPOLLIN);
        }
    }

    /// Looks at peers that had too many descriptors to read, some at a time: nothing tells when they have read them.
    fn send_again(&mut self) {
        if self.sending_again.is_none_or(|time| Instant::now() < time) {
            return;
        }
        for _ in 0..self.stalled.len().min(STALLED_PER_TURN) {
            let Some(peer) = self.stalled.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(&peer) {
                connection.is_stalled = false;
                self.serve(peer, EpollFlags::EPOLLOUT);
            }
        }
        self.sending_again = (!self.stalled.is_empty()).then(|| Instant::now() + STALL_PAUSE);
    }

    fn listen_for(&self, interest: EpollFlags) {
        if let Err(errno) = self.epoll.0.modify(&self.listener, &mut EpollEvent::new(interest, LISTENER)) {
            log::error!("epoll_ctl for the listening socket: {errno}");
        }
    }

    fn welcome(&mut self, socket: Guarded<OwnedFd>) -> Result<()> {
        let credentials = self.listener.admit(socket.as_fd())?;
        let peer = self.engine.connect();
        self.engine.name_process(peer, process_of(&credentials));
        let interest = EpollFlags::EPOLLIN;
        if let Err(errno) = self.epoll.0.add(&*socket, EpollEvent::new(interest, peer)) {
            self.engine.disconnect(peer);
            return Err(Error::io("epoll_ctl", errno.into()));
        }
        let connection = Connection {
            socket,
            dialect: Dialect::Plasma,
            inbox: Inbox::new(Dialect::Plasma),
            outbox: Outbox::default(),
            has_shared_segment: false,
            pulls: false,
            has_backlog: false,
            is_stalled: false,
            interest,
            credentials,
            awaited_socket: None,
            expects_descriptor: false,
            reader: None,
            ring: None,
        };
        self.connections.insert(peer, connection);
        Ok(())
    }

    /// A peer can be read from, written to, or is gone.
    fn serve(&mut self, peer: PeerId, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLOUT) {
            self.flush(peer);
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.receive(peer);
        }
        self.handle_frames(peer);
        self.watch(peer);
    }

    fn receive(&mut self, peer: PeerId) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        if connection.expects_descriptor {
            return self.receive_descriptor(peer);
        }
        // A header, and what follows it; the rest of a long frame has to wait for its next turn.
        for _ in 0..2 {
            let limit = connection.read_limit().min(READ_SIZE);
            match read(&*connection.socket, self.scratch.get_mut(..limit).unwrap_or_default()) {
                Ok(0) if limit > 0 => return self.end_of_sender(peer, None),
                Ok(count) => connection.inbox.push(self.scratch.get(..count).unwrap_or_default()),
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                // Who goes without having read its answers resets the connection.
                Err(errno) => return self.end_of_sender(peer, Some(errno.desc())),
            }
            if connection.dialect == Dialect::Native || connection.inbox.missing() == 0 {
                return;
            }
        }
    }

    /// Nothing more comes from a peer. What it submitted before it went is done.
    fn end_of_sender(&mut self, peer: PeerId, reason: Option<&str>) {
        let now = now();
        // Else the kernel tells of the end once more.
        if self.catch_up(peer, now, now.instant + TURN) {
            self.end(peer, reason);
        }
    }

    /// Serves the frames that have arrived, for as long as the peer takes its answers and its turn lasts.
    fn handle_frames(&mut self, peer: PeerId) {
        let mut now = now();
        let end = now.instant + TURN;
        if !self.catch_up(peer, now, end) {
            return self.connections.get_mut(&peer).into_iter().for_each(|connection| connection.has_backlog = true);
        }
        while let Some(connection) = self.connections.get_mut(&peer) {
            connection.has_backlog = connection.outbox.queued_bytes() > MAX_QUEUED || now.instant >= end;
            if connection.has_backlog {
                return;
            }
            match connection.inbox.next_frame().and_then(|frame| frame.map(understand).transpose()) {
                Ok(Some((number, _))) if is_by_ring(number) => {
                    self.end(peer, Some(&format!("request number {number:#x} is kept for the ring")));
                }
                Ok(Some((number, request))) => {
                    connection.expects_descriptor = matches!(request, Request::Subscribe);
                    self.engine.handle(Asker { peer, number }, request, now);
                }
                Ok(None) => return,
                Err(error) => self.end(peer, Some(&error.to_string())),
            }
            self.apply_effects();
            now = self::now();
        }
    }

    fn apply_effects(&mut self) {
        loop {
            let effects = self.engine.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Reply { to, reply } => self.send(to, reply),
                    Effect::Subscribe { asker, id } => self.subscribe(asker, id),
                    Effect::Index { asker, mapped } => self.serve_index(asker, mapped),
                    Effect::Submit { asker, mapped } => self.serve_submissions(asker, mapped),
                    Effect::Wake { peer, bell } => self.wake(peer, bell),
                    Effect::Notify { to, events } => self.notify(&to, &events),
                    Effect::Segment { asker, segment, writable } => self.lend(asker, segment, writable),
                    Effect::Share { asker, shared } => self.share(asker, shared),
                    Effect::Ring { peer } => self.ring(peer),
                    Effect::External(job) => self.order(job),
                    Effect::Gather { location } => self.engine.pages().gather(location),
                    Effect::Close { peer, reason } => self.end(peer, Some(&reason)),
                }
            }
        }
    }

    fn send(&mut self, to: Asker, reply: Reply) {
        if is_by_ring(to.number) {
            return self.complete(to, &outcome_of(&reply));
        }
        self.send_with(to, reply, []);
    }

    /// Sends an answer, and behind it descriptors that are for whoever asked.
    fn send_with(&mut self, to: Asker, reply: Reply, descriptors: impl IntoIterator<Item = SharedDescriptor>) {
        let Some(connection) = self.connections.get_mut(&to.peer) else { return };
        connection.queue(to.number, reply, self.engine.pages());
        descriptors.into_iter().for_each(|descriptor| connection.outbox.push_descriptor(descriptor));
        self.flush(to.peer);
        self.watch(to.peer);
    }

    fn flush(&mut self, peer: PeerId) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        if let Err(error) = connection.outbox.flush(connection.socket.as_fd()) {
            self.end(peer, Some(&error.to_string()));
        }
    }

    /// Tells epoll what this peer is waited for: room for answers, if any wait or requests lie here that will have some; new
    /// requests only when neither too many answers nor requests wait.
    fn watch(&mut self, peer: PeerId) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        let mut interest = EpollFlags::empty();
        let backlog = connection.has_backlog;
        interest.set(EpollFlags::EPOLLIN, connection.outbox.queued_bytes() <= MAX_QUEUED && !backlog);
        let is_stalled = connection.outbox.is_stalled();
        interest.set(EpollFlags::EPOLLOUT, (!connection.outbox.is_empty() || backlog) && !is_stalled);
        if is_stalled && !std::mem::replace(&mut connection.is_stalled, true) {
            self.stalled.push_back(peer);
            self.sending_again.get_or_insert_with(|| Instant::now() + STALL_PAUSE);
        }
        if interest != connection.interest {
            connection.interest = interest;
            if let Err(errno) = self.epoll.0.modify(&*connection.socket, &mut EpollEvent::new(interest, peer)) {
                self.end(peer, Some(errno.desc()));
            }
        }
    }

    /// Ends a connection; a reason means that it was not the peer who ended it.
    fn end(&mut self, peer: PeerId, reason: Option<&str>) {
        let Some(connection) = self.connections.remove(&peer) else { return };
        let (pid, uid) = (connection.credentials.pid(), connection.credentials.uid());
        match reason {
            Some(reason) => log::warn!("closed the connection of process {pid} (uid {uid}): {reason}"),
            None => log::debug!("process {pid} (uid {uid}) disconnected"),
        }
        self.forget_bell(connection.reader.as_ref());
        self.rings.remove(peer);
        crash::at(Point::PeerGone);
        self.engine.disconnect(peer);
        self.subscriptions.retain(|_, subscription| subscription.peer != peer);
    }
}

impl Connection {
    /// How much may be read at once. Where a descriptor may follow a frame, not a byte more than the frame: `read` would swallow
    /// the byte that carries it.
    fn read_limit(&self) -> usize {
        match self.dialect {
            Dialect::Native => READ_SIZE,
            Dialect::Plasma => self.inbox.missing(),
        }
    }

    /// Queues an answer and the descriptors it needs.
    fn queue(&mut self, number: u64, mut reply: Reply, segments: &Segments) {
        let shared = segments.shared();
        let info = SegmentInfo { key: SHARED_SEGMENT, mmap_size: shared.len() };
        let used = !self.pulls && attach_segments(&mut reply, info);
        let (message_type, body) = reply.encode(self.dialect);
        self.outbox.push_bytes(encode(self.dialect, message_type, number, &body));
        if used && !std::mem::replace(&mut self.has_shared_segment, true) {
            self.outbox.push_descriptor(shared.clone());
        }
        if let Reply::Connect { abilities: abilities @ 1.., .. } = reply {
            self.dialect = Dialect::Native;
            self.inbox.set_dialect(Dialect::Native);
            self.pulls = abilities & ABILITY_SEGMENTS != 0;
        }
    }
}

/// Names the segment in an answer that has locations in it. Returns whether it has.
fn attach_segments(reply: &mut Reply, info: SegmentInfo) -> bool {
    match reply {
        Reply::Create { outcome: Ok(_), segment, .. } => *segment = Some(info),
        Reply::Get { locations, segments, .. } if locations.iter().any(Option::is_some) => segments.push(info),
        _ => return false,
    }
    true
}

/// What people are told of a peer: `process 42 (trainer)`. Empty where the system does not tell, as across containers.
fn process_of(credentials: &UnixCredentials) -> String {
    let pid = credentials.pid();
    if pid <= 0 {
        return String::new();
    }
    let mut name = [0; 64];
    let path = format!("/proc/{pid}/comm");
    let length = open_guarded(&path).ok().and_then(|file| read(&*file, &mut name).ok()).unwrap_or(0);
    let name = String::from_utf8_lossy(name.get(..length).unwrap_or_default());
    // The process chose this name: nothing in it may end a line of the log or steer a terminal.
    let plain = |letter: char| if letter.is_control() { '?' } else { letter };
    format!("process {pid} ({})", name.trim_end_matches('\n').chars().map(plain).collect::<String>())
}

/// Starts the thread of an external store, whose bell wakes the loop.
fn start_worker(store: Box<dyn ExternalStore>, epoll: &EpollFd) -> Result<Worker> {
    let bell = Guarded::open(|| {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags).map_err(Error::from_errno("eventfd"))
    })?;
    let worker = Worker::start(store, Arc::new(bell))?;
    let event = EpollEvent::new(EpollFlags::EPOLLIN, EXTERNAL);
    epoll.0.add(worker.bell(), event).map_err(Error::from_errno("epoll_ctl"))?;
    Ok(worker)
}

fn spare_descriptor() -> Option<Guarded<OwnedFd>> {
    open_guarded("/dev/null").ok()
}

fn open_guarded(path: &str) -> Result<Guarded<OwnedFd>> {
    Guarded::open(|| File::open(path).map(OwnedFd::from).map_err(|error| Error::io(path, error)))
}

fn understand(frame: Frame) -> Result<(u64, Request)> {
    Ok((frame.number, Request::decode(frame.message_type, &frame.body)?))
}

fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix_seconds: since_epoch.as_secs() as i64 }
}
