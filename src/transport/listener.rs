//! The socket that a store listens on, and the file that names it.
//!
//! A path is taken over only when nobody listens there (a connection is refused, or an empty regular file lies there, as
//! some old programs leave one with `mkstemp`). The check, the removal and the new socket happen under a lock on the
//! directory, so that two stores that start at once cannot take the path from each other.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, bind, connect, getsockopt, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

use crate::error::{Error, Result};
use crate::transport::access::Access;
use crate::transport::fd_passing::accept;
use crate::transport::fork_guard::Guarded;

/// Longest socket path in bytes: `sun_path` has room for one byte more, its NUL.
pub const MAX_PATH: usize = 107;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4095;

/// The address of `path`.
///
/// # Errors
/// [`Error::InvalidArgument`] naming the length of a path that is too long, or empty.
pub fn address(path: &Path) -> Result<UnixAddr> {
    let length = path.as_os_str().len();
    if length == 0 || length > MAX_PATH {
        let text = format!("a socket path has 1 to {MAX_PATH} bytes, not {length}: {}", path.display());
        return Err(Error::InvalidArgument(text));
    }
    UnixAddr::new(path).map_err(|errno| Error::InvalidArgument(format!("{}: {}", path.display(), errno.desc())))
}

/// A listening socket. Dropping it removes its file, unless another store has replaced that since.
#[derive(Debug)]
pub struct Listener {
    socket: Guarded<OwnedFd>,
    path: PathBuf,
    /// Device and inode of the socket's file.
    identity: Option<(u64, u64)>,
    access: Access,
}

impl Listener {
    /// Listens at `path`, for those of `access`. The descriptor is non-blocking, close-on-exec, and closed in forked
    /// children.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when a live store or a file with contents is there; [`Error::InvalidArgument`] for a path
    /// that no socket can have; else [`Error::Io`], also when `access` cannot be given.
    pub fn bind(path: &Path, access: Access) -> Result<Self> {
        let address = address(path)?;
        let _directory = lock_directory(path)?;
        clear_path(path, &address)?;
        let socket = Guarded::open(stream_socket)?;
        // Before `bind` this sets the mode the file will be born with, so there is no moment when others may connect.
        fchmod(&*socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Error::from_errno("fchmod of the socket"))?;
        bind(socket.as_raw_fd(), &address)
            .map_err(|errno| Error::io(format!("bind {}", path.display()), errno.into()))?;
        // From here on the file goes away again when something fails.
        let listener = Self { socket, path: path.to_owned(), identity: identity(path), access };
        access.grant(path, listener.identity)?;
        let backlog = Backlog::new(BACKLOG).map_err(Error::from_errno("backlog"))?;
        listen(&*listener.socket, backlog).map_err(Error::from_errno("listen"))?;
        Ok(listener)
    }

    /// Who is at the other end of `connection`: process, user and group at the time it connected.
    ///
    /// # Errors
    /// [`Error::Io`], with EACCES and who it is for a peer that may not connect.
    pub fn admit(&self, connection: BorrowedFd<'_>) -> Result<UnixCredentials> {
        let peer = getsockopt(&connection, PeerCredentials).map_err(Error::from_errno("getsockopt(SO_PEERCRED)"))?;
        self.access.admit(&peer).map(|()| peer)
    }

    /// The next connection that waits, non-blocking and close-on-exec; `None` when none waits.
    ///
    /// # Errors
    /// [`Error::Io`]; `EMFILE` and `ENFILE` mean that the connection still waits.
    pub fn accept(&self) -> Result<Option<Guarded<OwnedFd>>> {
        let accepted = Guarded::open(|| accept(self.socket.as_fd()).map_err(Error::from_errno("accept")));
        match accepted {
            Err(Error::Io { source, .. }) if is_transient(&source) => Ok(None),
            other => other.map(Some),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.socket.is_ours() && self.identity.is_some() && identity(&self.path) == self.identity {
            // The path may have gone meanwhile; there is nobody to tell and nothing left to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The peer gave up before it was accepted, or a signal came: not a failure of ours.
fn is_transient(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED))
}

fn stream_socket() -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(Error::from_errno("socket"))
}

/// Device and inode of the file at `path`, if there is one.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn lock_directory(path: &Path) -> Result<Flock<File>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = File::open(parent).map_err(|error| Error::io(format!("open {}", parent.display()), error))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| Error::io("flock of the directory", errno.into()))
}

/// Removes the socket at `path` if nobody listens there any more.
pub fn remove_stale(path: &Path) {
    let removed = address(path).and_then(|address| {
        let _directory = lock_directory(path)?;
        clear_path(path, &address)
    });
    if let Err(error) = removed {
        log::debug!("{} stays: {error}", path.display());
    }
}

/// Removes a stale socket or an empty file; refuses anything else.
fn clear_path(path: &Path, address: &UnixAddr) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let refuse = |what: &str| Err(Error::AddressInUse(format!("{} is taken: {what}", path.display())));
    if metadata.file_type().is_socket() {
        let probe = stream_socket()?;
        match connect(probe.as_raw_fd(), address) {
            Err(Errno::ECONNREFUSED) => {}
            Ok(()) | Err(Errno::EAGAIN) => return refuse("a store is listening there"),
            Err(errno) => return refuse(errno.desc()),
        }
    } else if !metadata.is_file() {
        return refuse("neither a socket nor a file");
    } else if metadata.len() > 0 {
        return refuse(&format!("a file of {} bytes", metadata.len()));
    }
    fs::remove_file(path).map_err(|error| Error::io(format!("remove stale {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_file_is_private_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = Listener::bind(&path, Access::default()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(listener.accept().unwrap().is_none());
        let _client = UnixStream::connect(&path).unwrap();
        let accepted = listener.accept().unwrap().unwrap();
        assert_eq!(listener.admit(accepted.as_fd()).unwrap().pid(), std::process::id() as i32);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = Listener::bind(&path, Access::default()).unwrap();
        assert!(matches!(Listener::bind(&path, Access::default()), Err(Error::AddressInUse(_))));
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a closed std listener leaves its file");
        let second = Listener::bind(&path, Access::default()).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
    }

    #[test]
    fn an_empty_file_is_replaced_and_a_full_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, b"").unwrap();
        drop(Listener::bind(&path, Access::default()).unwrap());
        fs::write(&path, b"precious").unwrap();
        let error = Listener::bind(&path, Access::default()).unwrap_err().to_string();
        assert!(error.contains("8 bytes"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_replaced_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = Listener::bind(&path, Access::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"another's").unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn a_path_too_long_names_its_length() {
        let error = Listener::bind(Path::new(&"x".repeat(108)), Access::default()).unwrap_err().to_string();
        assert!(error.contains("108"), "{error}");
        assert!(address(Path::new("")).is_err());
    }
}
