//! The far end of a subscription: the socket that an old client sent, and what waits to be written to it.
//!
//! The socket is only ever written to. A subscriber that does not read is dropped when too much waits for it, and told why in the
//! log; its connection lives on.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};

use crate::error::{Error, Result};
use crate::transport::fork_guard::Guarded;
use crate::transport::stream::Outbox;

/// Bytes of events that may wait for one subscriber.
const MAX_QUEUED: usize = 64 << 20;

/// One subscription. Until its socket has come, events wait.
#[derive(Debug, Default)]
pub struct Subscription {
    pub socket: Option<Guarded<OwnedFd>>,
    outbox: Outbox,
}

impl Subscription {
    /// Queues a frame of events.
    pub fn push(&mut self, frame: Vec<u8>) {
        self.outbox.push_bytes(frame);
    }

    /// Whether events wait for the socket to have room.
    pub fn is_waiting(&self) -> bool {
        self.socket.is_some() && !self.outbox.is_empty()
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// [`Error::Disconnected`] when the subscriber is gone, [`Error::Protocol`] when too much waits for it.
    pub fn flush(&mut self) -> Result<()> {
        if let Some(socket) = &self.socket {
            self.outbox.flush(socket.as_fd())?;
        }
        match self.outbox.queued_bytes() {
            waiting if waiting > MAX_QUEUED => Err(Error::Protocol(format!("{waiting} bytes of events were not read"))),
            _ => Ok(()),
        }
    }
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
