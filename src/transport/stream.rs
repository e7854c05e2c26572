//! The two ends of a byte stream: bytes that came in, cut into frames, and bytes and descriptors waiting to go out.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use crate::error::{Error, Result};
use crate::protocol::frame::{Dialect, Header};
use crate::transport::fd_passing::{has_read_all, send_descriptor};

/// One message, not yet understood.
#[derive(Debug)]
pub struct Frame {
    /// What kind of message the sender says it is.
    pub message_type: i64,
    /// The request's number; 0 in the dialect that has none.
    pub number: u64,
    /// A FlatBuffer, not yet verified.
    pub body: Vec<u8>,
}

/// Bytes received so far. It grows by what arrives, never by a length that a peer announces.
#[derive(Debug)]
pub struct Inbox {
    dialect: Dialect,
    bytes: Vec<u8>,
    /// Bytes at the front that were handed out already.
    taken: usize,
}

impl Inbox {
    /// An empty one, for a conversation that begins in `dialect`.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, bytes: Vec::new(), taken: 0 }
    }

    /// From the next frame on the peer speaks `dialect`.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Takes in bytes that just arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` while it has not arrived in full.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the header is not one of this dialect; nothing after it can be understood.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        let waiting = self.bytes.get(self.taken..).unwrap_or_default();
        let Some(header) = Header::decode(self.dialect, waiting)? else { return Ok(None) };
        let start = self.dialect.header_size();
        let Some(body) = waiting.get(start..).and_then(|rest| rest.get(..header.body_len)) else { return Ok(None) };
        let frame = Frame { message_type: header.message_type, number: header.number, body: body.to_vec() };
        self.taken += start + header.body_len;
        Ok(Some(frame))
    }

    /// How many bytes are missing until the next header, or the next frame, is whole; 0 when the frame is, or never will be.
    ///
    /// Whoever reads no more than this reads no byte that is not part of a frame.
    pub fn missing(&self) -> usize {
        let waiting = self.bytes.len() - self.taken;
        let header = Header::decode(self.dialect, self.bytes.get(self.taken..).unwrap_or_default());
        let whole = match header {
            Ok(None) => self.dialect.header_size(),
            Ok(Some(header)) => self.dialect.header_size() + header.body_len,
            Err(_) => 0,
        };
        whole.saturating_sub(waiting)
    }

    /// Takes one byte of the stream that belongs to no frame: the payload of a descriptor's message.
    pub fn take_descriptor_byte(&mut self) -> bool {
        let there = self.taken < self.bytes.len();
        self.taken += usize::from(there);
        there
    }
}

/// Sends as much of `bytes` as the socket has room for: 0 bytes when it is full. Never raises `SIGPIPE`.
///
/// # Errors
/// [`Error::Disconnected`] with what the system said.
pub fn send_some(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    loop {
        match send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            Ok(sent) => return Ok(sent),
            Err(Errno::EAGAIN) => return Ok(0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Disconnected(format!("send: {}", errno.desc()))),
        }
    }
}

/// A descriptor that can wait in an [`Outbox`] and be owned elsewhere as well.
pub type SharedDescriptor = Arc<dyn AsFd + Send + Sync>;

enum Outgoing {
    Bytes { bytes: Vec<u8>, sent: usize },
    Descriptor(SharedDescriptor),
}

/// Descriptors that a peer may have been sent and not read. The kernel bounds those of all peers of a user together, by the limit
/// of descriptors; whoever takes none of theirs must not use that up.
const MOST_UNREAD: usize = 8;

/// What waits to be sent on a non-blocking socket, in order.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    /// Descriptors that were sent since the peer was last seen to have read everything.
    unread: usize,
    is_stalled: bool,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({} items, {} bytes)", self.queue.len(), self.queued_bytes)
    }
}

impl Outbox {
    /// Queues a whole frame.
    pub fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(Outgoing::Bytes { bytes, sent: 0 });
    }

    /// Queues a descriptor, which will be a message of its own.
    pub fn push_descriptor(&mut self, descriptor: SharedDescriptor) {
        self.queue.push_back(Outgoing::Descriptor(descriptor));
    }

    /// Forgets what waits, except for the rest of a frame that was begun.
    pub fn forget_unbegun(&mut self) {
        let begun = |item: &Outgoing| matches!(item, Outgoing::Bytes { sent, .. } if *sent > 0);
        self.queue.retain(begun);
        let rest = |item: &Outgoing| if let Outgoing::Bytes { bytes, sent } = item { bytes.len() - sent } else { 0 };
        self.queued_bytes = self.queue.iter().map(rest).sum();
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a descriptor waits although the socket has room: the peer has too many to read, or all peers together have. Nothing
    /// tells when that ends.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Sends until all is sent, the socket is full, or a descriptor has to wait.
    ///
    /// # Errors
    /// [`Error::Disconnected`]; a full socket is none.
    pub fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<()> {
        self.is_stalled = false;
        if self.unread >= MOST_UNREAD && has_read_all(socket) {
            self.unread = 0;
        }
        while let Some(item) = self.queue.front_mut() {
            let done = match item {
                Outgoing::Descriptor(_) if self.unread >= MOST_UNREAD => Err(Errno::ETOOMANYREFS),
                Outgoing::Descriptor(descriptor) => send_descriptor(socket, descriptor.as_fd()).map(|()| {
                    self.unread += 1;
                    true
                }),
                Outgoing::Bytes { bytes, sent } => {
                    let rest = bytes.get(*sent..).unwrap_or_default();
                    send(socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT).map(|count| {
                        *sent += count;
                        self.queued_bytes -= count;
                        *sent == bytes.len()
                    })
                }
            };
            match done {
                Ok(true) => drop(self.queue.pop_front()),
                Ok(false) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::ETOOMANYREFS) => {
                    self.is_stalled = true;
                    return Ok(());
                }
                Err(errno) => return Err(Error::Disconnected(format!("send: {}", errno.desc()))),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::encode;
    use crate::transport::fd_passing::receive;

    #[test]
    fn frames_come_out_however_the_bytes_came_in() {
        let mut stream = encode(Dialect::Native, 9, 7, b"first");
        stream.extend(encode(Dialect::Native, 10, 8, b""));
        for chunk in 1..stream.len() {
            let mut inbox = Inbox::new(Dialect::Native);
            let mut frames = Vec::new();
            for piece in stream.chunks(chunk) {
                inbox.push(piece);
                while let Some(frame) = inbox.next_frame().unwrap() {
                    frames.push((frame.message_type, frame.number, frame.body));
                }
            }
            assert_eq!(frames, [(9, 7, b"first".to_vec()), (10, 8, vec![])]);
            assert!(!inbox.take_descriptor_byte());
        }
    }

    #[test]
    fn a_descriptor_byte_is_no_part_of_a_frame() {
        let mut inbox = Inbox::new(Dialect::Plasma);
        inbox.push(&encode(Dialect::Plasma, 2, 0, b"reply"));
        inbox.push(&[0x14]);
        inbox.push(&encode(Dialect::Plasma, 8, 0, b"next"));
        assert_eq!(inbox.next_frame().unwrap().unwrap().body, b"reply");
        assert!(inbox.take_descriptor_byte());
        assert_eq!(inbox.next_frame().unwrap().unwrap().body, b"next");
    }

    #[test]
    fn a_frame_that_was_begun_is_not_forgotten() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        outbox.push_bytes(vec![1; 4 << 20]);
        outbox.push_bytes(vec![2; 100]);
        outbox.forget_unbegun();
        assert!(outbox.is_empty() && outbox.queued_bytes() == 0);
        outbox.push_bytes(vec![1; 4 << 20]);
        outbox.push_bytes(vec![2; 100]);
        outbox.flush(ours.as_fd()).unwrap();
        let waiting = outbox.queued_bytes();
        assert!(waiting > 100 && waiting < (4 << 20) + 100, "the socket took a part of the first: {waiting} wait");
        outbox.forget_unbegun();
        assert_eq!(outbox.queued_bytes(), waiting - 100);
        outbox.push_bytes(vec![3]);
        let reader = std::thread::spawn(move || std::io::read_to_string(theirs).unwrap().into_bytes());
        while !outbox.is_empty() {
            outbox.flush(ours.as_fd()).unwrap();
        }
        drop(ours);
        assert_eq!(reader.join().unwrap(), [vec![1; 4 << 20], vec![3]].concat());
    }

    #[test]
    fn a_peer_that_takes_no_descriptors_is_sent_no_more_of_them() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        let file: SharedDescriptor = Arc::new(std::fs::File::open("/dev/null").unwrap());
        for n in 0..20 {
            outbox.push_bytes(vec![n]);
            outbox.push_descriptor(file.clone());
        }
        theirs.set_nonblocking(true).unwrap();
        let mut taken = Vec::new();
        for round in [1, 2] {
            outbox.flush(ours.as_fd()).unwrap();
            outbox.flush(ours.as_fd()).unwrap();
            assert!(outbox.is_stalled() && !outbox.is_empty());
            while receive(theirs.as_fd(), &mut [0; 100], &mut taken).is_ok() {}
            assert_eq!(taken.len(), round * MOST_UNREAD);
        }
        outbox.flush(ours.as_fd()).unwrap();
        assert!(!outbox.is_stalled() && outbox.is_empty());
    }

    #[test]
    fn a_bad_header_is_an_error_at_once() {
        let mut inbox = Inbox::new(Dialect::Plasma);
        inbox.push(&[0xff; 24]);
        assert!(inbox.next_frame().is_err());
    }
}
