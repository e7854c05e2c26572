//! Descriptors that travel with a conversation (`SCM_RIGHTS`).
//!
//! The Plasma protocol sends each descriptor as a message of its own: one byte whose value means nothing, with one descriptor
//! attached. The kernel ends a read behind such a byte, so received descriptors queue up in the order of the stream.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::sys::socket::{ControlMessage, MsgFlags, SockFlag, accept4, sendmsg};

/// Most descriptors the kernel lets one message carry (`SCM_MAX_FD`); with room for all, none can be cut off.
const MAX_DESCRIPTORS: usize = 253;

/// The payload byte that old Plasma happens to send; receivers accept any.
const PAYLOAD: [u8; 1] = [0x14];

/// Sends one descriptor as a message of its own. Never raises `SIGPIPE`.
///
/// # Errors
/// What `sendmsg` says; `EAGAIN` on a non-blocking socket that is full.
pub fn send_descriptor(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> nix::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let payload = [io::IoSlice::new(&PAYLOAD)];
    sendmsg::<()>(socket.as_raw_fd(), &payload, &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Whether the peer of a Unix socket has read all that it was sent.
pub fn has_read_all(socket: BorrowedFd<'_>) -> bool {
    let mut unread: libc::c_int = 0;
    // SAFETY: this request writes one `int`, which is there.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    asked != 0 || unread == 0
}

/// The next connection that waits at `listener`, non-blocking and close-on-exec.
///
/// # Errors
/// What `accept4` says; `EAGAIN` when none waits.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: `accept4` just made this descriptor and gave it to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Room for the control message of [`MAX_DESCRIPTORS`], aligned as its header demands.
#[repr(C, align(8))]
struct ControlBuffer([u8; 16 + MAX_DESCRIPTORS * size_of::<RawFd>() + 4]);

/// Receives into `bytes` and appends the descriptors that came along, close-on-exec, to `descriptors`.
///
/// Returns the number of bytes, 0 at the end of the stream.
///
/// # Errors
/// What `recvmsg` says. `InvalidData` when the kernel had to drop descriptors (this process may open no more): the stream
/// is then out of step and the connection must be given up. Whatever descriptors did arrive are owned by then, never lost.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = ControlBuffer([0; _]);
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is a plain C struct for which all-zero bytes are a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: the header points at `iov` and `control`, both alive and as long as it says; `iov` covers `bytes`.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    take_descriptors(&message, descriptors);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a descriptor was lost: this process may open no more"));
    }
    Ok(received as usize)
}

/// Takes ownership of every descriptor in a received control message.
fn take_descriptors(message: &libc::msghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel filled `message`; the CMSG macros stay inside its control buffer.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a non-null result of the CMSG macros points at a whole header inside the control buffer.
        let (level, kind, length) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN is arithmetic on a constant.
            let count = length.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize) / size_of::<RawFd>();
            for index in 0..count {
                // SAFETY: the message says that `count` descriptors follow; each was installed for us alone, and is
                // read unaligned because nothing promises the alignment of the data.
                descriptors.push(unsafe {
                    OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>().add(index)))
                });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockType, socketpair};
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn send_many(socket: &OwnedFd, data: &[u8], count: usize) {
        let file = std::fs::File::open("/dev/null").unwrap();
        let raw = vec![file.as_raw_fd(); count];
        let rights: Vec<_> = if count == 0 { vec![] } else { vec![ControlMessage::ScmRights(&raw)] };
        sendmsg::<()>(socket.as_raw_fd(), &[io::IoSlice::new(data)], &rights, MsgFlags::empty(), None).unwrap();
    }

    /// Sends, then receives: (bytes, descriptors).
    fn exchange(data: &[u8], count: usize) -> (usize, usize) {
        let (ours, theirs) = pair();
        send_many(&theirs, data, count);
        let (mut bytes, mut descriptors) = ([0; 64], Vec::new());
        let received = receive(ours.as_fd(), &mut bytes, &mut descriptors).unwrap();
        for descriptor in &descriptors {
            let flags = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
        (received, descriptors.len())
    }

    #[test]
    fn every_shape_of_message() {
        assert_eq!(exchange(b"hello", 0), (5, 0));
        assert_eq!(exchange(b"x", 1), (1, 1));
        assert_eq!(exchange(b"hello", 3), (5, 3));
        assert_eq!(exchange(b"x", MAX_DESCRIPTORS), (1, MAX_DESCRIPTORS));
    }

    #[test]
    fn a_sent_descriptor_arrives_behind_the_bytes_before_it() {
        let (ours, theirs) = pair();
        send_many(&theirs, b"reply", 0);
        send_descriptor(theirs.as_fd(), ours.as_fd()).unwrap();
        send_many(&theirs, b"next", 0);
        let (mut stream, mut descriptors) = (Vec::new(), Vec::new());
        while stream.len() < 10 {
            let mut bytes = [0; 64];
            let received = receive(ours.as_fd(), &mut bytes, &mut descriptors).unwrap();
            stream.extend_from_slice(&bytes[..received]);
            assert!(stream.len() < 6 || descriptors.len() == 1, "the descriptor came late");
        }
        assert_eq!((&stream[..5], &stream[6..]), (&b"reply"[..], &b"next"[..]));
    }

    #[test]
    fn the_end_of_the_stream_is_zero_bytes() {
        let (ours, theirs) = pair();
        drop(theirs);
        assert_eq!(receive(ours.as_fd(), &mut [0; 8], &mut Vec::new()).unwrap(), 0);
    }
}
