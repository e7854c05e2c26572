//! One byte through a socket, to wake who listens at its other end.
//!
//! A pair of sockets and not an eventfd: that would be one open file for both sides, so that whoever was given it could make it block
//! whoever gave it. Here each side has its own, and no call waits or raises a signal, whatever the other did to its own.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

/// Wakes the other end. Does nothing when it has not listened to very many knocks, or is gone.
pub fn knock(door: impl AsFd) {
    let _ = send(door.as_fd().as_raw_fd(), &[1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}

/// Takes knocks that have come, up to 1024 at once, and tells how many. `None`: the other end is closed.
pub fn listen(door: impl AsFd) -> Option<usize> {
    match recv(door.as_fd().as_raw_fd(), &mut [0; 1024], MsgFlags::MSG_DONTWAIT) {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn neither_side_can_make_the_other_wait() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(false).unwrap();
        assert_eq!(listen(&ours), Some(0), "nothing has come, and nobody is gone");
        (0..100_000).for_each(|_| knock(&ours));
        (0..100_000).for_each(|_| knock(&theirs));
        assert!([listen(&ours), listen(&theirs)].iter().all(|count| count.is_some_and(|count| count > 0)));
        drop(theirs);
        knock(&ours);
        while listen(&ours).is_some() {}
    }
}
