//! The far end of a subscription: the socket that events are written to, and what waits for it.
//!
//! The socket is only ever written to. A subscriber that does not read is dropped when too much waits for it, and told why in the
//! log; its connection lives on. A native subscriber finds the reason behind what it has not read yet.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, getsockname, getsockopt, socketpair, sockopt};

use crate::error::{Error, Result};
use crate::protocol::notification;
use crate::store::peers::PeerId;
use crate::transport::fork_guard::Guarded;
use crate::transport::stream::Outbox;

/// Bytes of events that may wait for one subscriber.
const MAX_QUEUED: usize = 64 << 20;

/// One subscription. Until its socket has come, events wait.
#[derive(Debug)]
pub struct Subscription {
    pub peer: PeerId,
    /// Whether each event gets a frame of its own.
    pub is_native: bool,
    pub socket: Option<Guarded<OwnedFd>>,
    /// What epoll waits for at the socket.
    pub interest: EpollFlags,
    outbox: Outbox,
    /// The last frame is queued.
    ends: bool,
}

impl Subscription {
    /// One of this connection, without a socket yet.
    pub fn new(peer: PeerId, is_native: bool) -> Self {
        let outbox = Outbox::default();
        Self { peer, is_native, socket: None, interest: EpollFlags::empty(), outbox, ends: false }
    }

    /// Queues a frame.
    pub fn push(&mut self, frame: Vec<u8>) {
        if !self.ends {
            self.outbox.push_bytes(frame);
        }
    }

    /// Whether something waits for the socket to have room.
    pub fn is_waiting(&self) -> bool {
        self.socket.is_some() && !self.outbox.is_empty()
    }

    /// Whether the last frame has gone out.
    pub fn is_finished(&self) -> bool {
        self.ends && self.outbox.is_empty()
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// [`Error::Disconnected`] when the subscriber is gone.
    pub fn flush(&mut self) -> Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| self.outbox.flush(socket.as_fd()))
    }

    /// Why the subscriber has to be dropped, if it has to: too much waits for it.
    pub fn overflow(&self) -> Option<String> {
        let waiting = self.outbox.queued_bytes();
        (waiting > MAX_QUEUED && !self.ends)
            .then(|| format!("{waiting} bytes of events were not read, and {MAX_QUEUED} may wait"))
    }

    /// Forgets what waits, and queues the reason as the last frame.
    pub fn finish(&mut self, reason: &str) {
        self.outbox.forget_unbegun();
        self.outbox.push_bytes(notification::encode_end(reason));
        self.ends = true;
    }
}

/// Two ends of a stream: ours, and one that is for a peer.
///
/// # Errors
/// [`Error::Io`].
pub fn socket_pair() -> Result<(Guarded<OwnedFd>, Guarded<OwnedFd>)> {
    let (ours, theirs) = Guarded::open_with(|| {
        let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC);
        pair.map_err(Error::from_errno("socketpair"))
    })?;
    Ok((ours, Guarded::open(|| Ok(theirs))?))
}

/// Checks what a client sent as the socket for its events, and guards it.
///
/// # Errors
/// [`Error::Protocol`] unless it is one Unix stream socket: writing to anything else might block, or not be a stream.
pub fn subscriber_socket(mut descriptors: Vec<OwnedFd>) -> Result<Guarded<OwnedFd>> {
    let count = descriptors.len();
    let Some(socket) = descriptors.pop().filter(|_| count == 1) else {
        return Err(Error::Protocol(format!("one socket comes with a subscription, not {count} descriptors")));
    };
    let is_stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);
    if !is_stream || getsockname::<UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&socket)).is_err() {
        return Err(Error::Protocol("what it sent for its events is no Unix stream socket".into()));
    }
    Guarded::open(|| Ok(socket))
}
