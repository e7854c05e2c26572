//! Reaching a store: where it is by default, and how long to try.
#![forbid(unsafe_code)]

use std::env;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::getuid;

use crate::error::{Error, Result};
use crate::transport::listener::address;
use crate::transport::wait::wait;

/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(20);

/// Where a store is when nobody says: `$PLASMA_STORE_SOCKET`, else `$XDG_RUNTIME_DIR/plasma-store.sock`, else
/// `/tmp/plasma-store-<uid>/plasma.sock`.
pub fn default_socket() -> PathBuf {
    if let Some(path) = env::var_os("PLASMA_STORE_SOCKET").filter(|path| !path.is_empty()) {
        return path.into();
    }
    match env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => Path::new(&directory).join("plasma-store.sock"),
        None => private_directory().join("plasma.sock"),
    }
}

/// The directory below `/tmp` that is this user's own; whoever creates it gives it mode 0700.
pub fn private_directory() -> PathBuf {
    PathBuf::from(format!("/tmp/plasma-store-{}", getuid()))
}

/// Connects to `path`, and while nobody listens there tries again until `patience` is over (`None`: for ever).
///
/// The socket is non-blocking and close-on-exec. The thread's wake descriptor ends the attempts; with `return_on_signal`, a signal
/// handler that ran does, too.
///
/// # Errors
/// [`Error::ConnectFailed`] with the last reason and the number of attempts; [`Error::Interrupted`].
pub fn connect_to(path: &Path, patience: Option<Duration>, return_on_signal: bool) -> Result<OwnedFd> {
    let address = address(path)?;
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    let mut attempts = 0_u64;
    loop {
        let errno = match connect_once(&address) {
            Ok(socket) => return Ok(socket),
            Err(errno) => errno,
        };
        attempts += 1;
        let passing = matches!(errno, Errno::ENOENT | Errno::ECONNREFUSED | Errno::EAGAIN);
        let left = deadline.map_or(RETRY, |deadline| deadline.saturating_duration_since(Instant::now()));
        if !passing || left.is_zero() {
            let reason = format!("{}, after {attempts} attempt(s)", errno.desc());
            return Err(Error::ConnectFailed { path: path.display().to_string(), reason });
        }
        let interruption = wait([], Some(Instant::now() + RETRY.min(left)), true).interruption;
        if interruption.is_some_and(|what| what.ends(return_on_signal)) {
            return Err(Error::Interrupted);
        }
    }
}

/// One attempt. It does not block, also when the store has no room for one more connection: `EAGAIN` then.
fn connect_once(address: &UnixAddr) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), address)?;
    Ok(socket)
}
