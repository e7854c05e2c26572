//! Events: what is sealed in the store and what goes, on a socket of their own.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};

use crate::client::connection::{Connection, Patience};
use crate::client::{Client, lock, unexpected};
use crate::error::{Error, Result};
pub use crate::protocol::notification::Event;
use crate::protocol::notification::{self, Notification};
use crate::protocol::{Reply, Request};

/// How to subscribe.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubscribeOptions {
    /// Do not begin with the objects that are sealed already.
    pub skip_existing: bool,
}

/// A stream of events. Any number of threads may take events from it; each event is taken once.
///
/// It keeps the connection of its client open. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    connection: Arc<Connection>,
    socket: OwnedFd,
    reader: Mutex<Reader>,
}

/// What was read of the next frame: never a byte beyond it, so that the socket can be read as long as an event is left.
#[derive(Debug, Default)]
struct Reader {
    frame: Vec<u8>,
    ended: Option<String>,
}

impl Client {
    /// Begins a stream of events: first one for each object that is sealed now, then one whenever an object is sealed or goes.
    ///
    /// # Errors
    /// [`Error::Busy`] when the store has as many subscriptions of this client as it takes, or no descriptor left; what the
    /// connection says.
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription> {
        let request = Request::NativeSubscribe { skip_existing: options.skip_existing };
        match self.connection.call_with_descriptor(&request, Patience::Unlimited)? {
            (Reply::NativeSubscribe { outcome: Ok(()) }, Some(socket)) => {
                Ok(Subscription { connection: self.connection.clone(), socket, reader: Mutex::default() })
            }
            (Reply::NativeSubscribe { outcome: Err(refusal) }, _) => Err(Error::Busy(refusal)),
            (other, _) => Err(unexpected(&other)),
        }
    }
}

impl Subscription {
    /// The next event, waiting for it up to `timeout_ms`: -1 waits without limit, 0 does not wait.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Interrupted`]; [`Error::Disconnected`] when nothing more will come, with the reason, and
    /// again at every later call; [`Error::Busy`] when 64 threads wait already; [`Error::Protocol`]; [`Error::Forked`].
    pub fn next(&self, timeout_ms: i64) -> Result<Event> {
        if !self.connection.is_usable() {
            return Err(Error::Forked);
        }
        if timeout_ms < -1 {
            return Err(Error::InvalidArgument(format!("timeout_ms is -1, 0 or positive, not {timeout_ms}")));
        }
        let interrupts = self.connection.interrupts();
        let patience = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if let Some(event) = lock(&self.reader).read(self.socket.as_fd())? {
                return Ok(event);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::Timeout(timeout_ms));
            }
            self.connection.wait_for(self.socket.as_fd(), deadline, interrupts)?;
        }
    }

    /// The socket that events come from; it can be read while there are some, or when it has ended. `None` in a forked child.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.is_usable().then(|| self.socket.as_fd())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.connection.is_usable() {
            // Closing alone would tell the store nothing while a forked child has the socket, too.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

impl Reader {
    /// The next event, if it is there.
    fn read(&mut self, socket: BorrowedFd<'_>) -> Result<Option<Event>> {
        loop {
            if let Some(reason) = &self.ended {
                return Err(Error::Disconnected(reason.clone()));
            }
            match notification::missing(&self.frame)? {
                0 => return self.take_frame(),
                missing if !self.receive(socket, missing)? => return Ok(None),
                _ => {}
            }
        }
    }

    /// Takes in at most this many bytes. Returns whether there were any, or the end.
    fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> Result<bool> {
        let mut bytes = [0; 512];
        let bytes = bytes.split_at_mut(most.min(512)).0;
        match recv(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => self.ended = Some("it has ended, or this subscription has".into()),
            Ok(count) => self.frame.extend(bytes.iter().take(count)),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => self.ended = Some("it has gone".into()),
            Err(errno) => return Err(Error::io("recv of events", errno.into())),
        }
        Ok(true)
    }

    fn take_frame(&mut self) -> Result<Option<Event>> {
        let frame = std::mem::take(&mut self.frame);
        let told = notification::decode(&frame)?.map(|(told, _)| told);
        match told {
            Some(Notification { end: Some(reason), .. }) => {
                self.ended = Some(format!("it has dropped this subscription: {reason}"));
                Err(Error::Disconnected(self.ended.clone().unwrap_or_default()))
            }
            Some(Notification { events, end: None }) => match events.as_slice() {
                [event] => Ok(Some(*event)),
                other => Err(Error::Protocol(format!("a frame of {} events, not one", other.len()))),
            },
            None => Ok(None),
        }
    }
}

/// The events in a frame that was read from the descriptor without the help of [`Subscription::next`]; its length was taken off.
///
/// # Errors
/// [`Error::Protocol`] saying what is wrong with the bytes.
pub fn decode_events(body: &[u8]) -> Result<Vec<Event>> {
    notification::decode_body(body).map(|told| told.events)
}
