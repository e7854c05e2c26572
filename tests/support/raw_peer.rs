//! A peer that speaks the bare wire: it says what it is told to, right or wrong.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use plasma_store::object::{Location, ObjectId, ObjectState};
use plasma_store::protocol::frame::{Dialect, encode};
use plasma_store::protocol::native::{ABILITY_INDEX, ABILITY_REQUEST_NUMBERS, ABILITY_SEGMENTS};
use plasma_store::protocol::{Refusal, Refused, Reply, Request};
use plasma_store::transport::fd_passing::receive;
use plasma_store::transport::stream::Inbox;

pub struct RawPeer {
    pub stream: UnixStream,
    pub dialect: Dialect,
    /// Descriptors that the store sent, in their order.
    pub descriptors: VecDeque<OwnedFd>,
    inbox: Inbox,
    known_segments: HashSet<i32>,
    next_number: u64,
}

impl RawPeer {
    /// A connection on which nothing was said yet, as old clients begin.
    pub fn old(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).unwrap())
    }

    /// The same over a connection that was made elsewhere.
    pub fn over(stream: UnixStream) -> Self {
        Self {
            stream,
            dialect: Dialect::Plasma,
            descriptors: VecDeque::new(),
            inbox: Inbox::new(Dialect::Plasma),
            known_segments: HashSet::new(),
            next_number: 1,
        }
    }

    /// A connection in the native dialect.
    pub fn native(socket: &Path) -> Self {
        Self::try_native(socket).expect("the store does not speak the native dialect")
    }

    /// The same, unless the store refuses.
    pub fn try_native(socket: &Path) -> Option<Self> {
        Self::with_abilities(socket, ABILITY_REQUEST_NUMBERS)
    }

    /// A connection that asks for the segments it needs, as our own clients do.
    pub fn pulling(socket: &Path) -> Self {
        Self::try_pulling(socket).expect("the store does not know this dialect")
    }

    /// The same, unless the store refuses or is gone.
    pub fn try_pulling(socket: &Path) -> Option<Self> {
        Self::with_abilities(socket, ABILITY_REQUEST_NUMBERS | ABILITY_INDEX | ABILITY_SEGMENTS)
    }

    fn with_abilities(socket: &Path, abilities: u64) -> Option<Self> {
        let mut peer = Self::over(UnixStream::connect(socket).ok()?);
        let reply = peer.try_ask(&Request::Connect { abilities })?;
        assert!(matches!(reply, Reply::Connect { abilities: agreed, .. } if agreed == abilities), "{reply:?}");
        peer.dialect = Dialect::Native;
        peer.inbox.set_dialect(Dialect::Native);
        Some(peer)
    }

    /// The frame of a request, with the next number.
    pub fn frame(&mut self, request: &Request) -> Vec<u8> {
        let (message_type, body) = request.encode();
        self.next_number += 1;
        encode(self.dialect, message_type, self.next_number, &body)
    }

    pub fn send(&mut self, request: &Request) {
        let frame = self.frame(request);
        self.stream.write_all(&frame).unwrap();
    }

    pub fn ask(&mut self, request: &Request) -> Reply {
        self.send(request);
        self.next().expect("the store closed the connection")
    }

    /// The same; `None` when the store has closed the connection.
    pub fn try_ask(&mut self, request: &Request) -> Option<Reply> {
        let frame = self.frame(request);
        self.stream.write_all(&frame).ok()?;
        self.next()
    }

    /// The next answer, `None` when the store has closed the connection.
    pub fn next(&mut self) -> Option<Reply> {
        let frame = loop {
            match self.inbox.next_frame().unwrap() {
                Some(frame) => break frame,
                None if !self.receive() => return None,
                None => {}
            }
        };
        let reply = Reply::decode(frame.message_type, &frame.body).unwrap();
        let segments = match &reply {
            Reply::Create { segment, .. } => segment.as_slice(),
            Reply::Get { segments, .. } => segments,
            _ => &[],
        };
        let mut due = segments.iter().filter(|segment| self.known_segments.insert(segment.key)).count();
        due += match &reply {
            Reply::NativeSubscribe { outcome: Ok(()) } | Reply::Segment { outcome: Ok(_) } => 1,
            Reply::Share { outcome: Ok(shared) } => usize::from(shared.has_control),
            Reply::Ring { outcome: Ok(true) } | Reply::Index { outcome: Ok(true) } => 3,
            _ => 0,
        };
        (0..due).all(|_| self.take_descriptor()).then_some(reply)
    }

    /// False when the store has closed the connection before.
    fn take_descriptor(&mut self) -> bool {
        while !self.inbox.take_descriptor_byte() {
            if !self.receive() {
                return false;
            }
        }
        true
    }

    fn receive(&mut self) -> bool {
        let (mut bytes, mut descriptors) = (vec![0; 1 << 16], Vec::new());
        match receive(self.stream.as_fd(), &mut bytes, &mut descriptors) {
            // What was sent and not read any more makes the end a reset.
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.inbox.push(&bytes[..count]);
                self.descriptors.extend(descriptors);
                true
            }
        }
    }

    /// Reads to the end, which must come without another answer.
    pub fn expect_end(mut self) {
        if let Some(reply) = self.next() {
            panic!("an answer instead of the end: {reply:?}");
        }
    }

    pub fn create_with(&mut self, request: &Request) -> Result<Location, Refused> {
        match self.ask(request) {
            Reply::Create { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn create(&mut self, id: ObjectId, data_size: i64) -> Result<Location, Refused> {
        self.create_with(&create_of(id, data_size, false))
    }

    pub fn seal(&mut self, id: ObjectId) -> Result<(), Refusal> {
        match self.ask(&Request::Seal { id, digest: [0; 8] }) {
            Reply::Seal { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn release(&mut self, id: ObjectId) {
        self.send(&Request::Release { id });
    }

    /// Creates, seals and lets go.
    pub fn put(&mut self, id: ObjectId, size: i64) {
        self.create(id, size).unwrap();
        self.seal(id).unwrap();
        self.release(id);
    }

    /// Which of these objects there are at once.
    pub fn get(&mut self, ids: &[ObjectId]) -> Vec<bool> {
        match self.ask(&Request::Get { ids: ids.to_vec(), timeout_ms: 0 }) {
            Reply::Get { locations, .. } => locations.iter().map(Option::is_some).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Where an object lies that is there.
    pub fn place(&mut self, id: ObjectId) -> Location {
        match self.ask(&Request::Get { ids: vec![id], timeout_ms: 0 }) {
            Reply::Get { locations, .. } => locations[0].expect("the object is not there"),
            other => panic!("{other:?}"),
        }
    }

    pub fn contains(&mut self, id: ObjectId) -> bool {
        match self.ask(&Request::Contains { id }) {
            Reply::Contains { present, .. } => present,
            other => panic!("{other:?}"),
        }
    }

    /// A figure of the debug string.
    pub fn figure(&mut self, key: &str) -> u64 {
        let Reply::DebugString(text) = self.ask(&Request::GetDebugString) else { panic!("no debug string") };
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(": ").trim_end_matches('%').parse().unwrap()
    }

    /// Bytes used must be those of the sealed objects, of which nobody holds any, and nothing else may be there. Returns them.
    pub fn check_rest(&mut self) -> u64 {
        let sealed = self.check_nothing_is_held();
        assert_eq!(self.figure("allocated bytes"), sealed);
        sealed
    }

    /// The same, but there may be copies of them for old clients.
    pub fn check_nothing_is_held(&mut self) -> u64 {
        let Reply::List { objects } = self.ask(&Request::List) else { panic!("no list") };
        assert!(
            objects.iter().all(|object| object.state == ObjectState::Sealed && object.ref_count == 0),
            "{objects:?}"
        );
        let sealed: u64 = objects.iter().map(|object| object.data_size + object.metadata_size).sum();
        assert!((sealed..=2 * sealed).contains(&self.figure("allocated bytes")));
        assert_eq!(self.figure("pinned bytes"), 0);
        sealed
    }
}

/// A create of an object without metadata, for which others may be evicted.
pub fn create_of(id: ObjectId, data_size: i64, immutable: bool) -> Request {
    Request::Create {
        id,
        data_size,
        metadata_size: 0,
        evict_if_full: true,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable,
    }
}
