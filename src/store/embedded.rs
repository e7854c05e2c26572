//! A store with a thread of its own: the daemon is one of these and nothing else, and any process can hold one.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder};
use std::mem;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::getuid;

use crate::error::{Error, Result};
use crate::shm::fork_token::ForkToken;
use crate::store::external::{self, ExternalStore};
use crate::store::options::StoreOptions;
use crate::store::server::Server;
use crate::transport::connect::{default_socket, private_directory};
use crate::transport::fork_guard::Guarded;
use crate::transport::listener::{Listener, remove_stale};
use crate::transport::threads::spawn_without_signals;

/// A running store. Dropping it ends it.
///
/// A process that forks keeps it; the child has neither its thread nor its descriptors, and nothing the child does with
/// this handle reaches the parent's store.
#[derive(Debug)]
pub struct Store {
    socket: PathBuf,
    running: Option<Running>,
    token: ForkToken,
}

#[derive(Debug)]
struct Running {
    stop: Arc<Guarded<EventFd>>,
    thread: JoinHandle<Result<()>>,
}

impl Store {
    /// Starts a store. When this returns, clients can connect.
    ///
    /// # Errors
    /// [`Error::AddressInUse`], [`Error::InvalidArgument`] for a capacity, path or external store that cannot be, else
    /// [`Error::Io`].
    pub fn start(options: &StoreOptions) -> Result<Self> {
        let external = options.external_store.as_deref().map(external::open).transpose()?;
        Self::start_before(options, external)
    }

    /// Starts a store with an external one of the caller's own behind it, if there is any, whatever `options` name.
    ///
    /// # Errors
    /// As for [`Store::start`].
    pub fn start_before(options: &StoreOptions, external: Option<Box<dyn ExternalStore>>) -> Result<Self> {
        let token = ForkToken::current()?;
        let socket = match &options.socket {
            Some(path) => path.clone(),
            None => fresh_path()?,
        };
        let stop = Arc::new(Guarded::open(|| {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            EventFd::from_flags(flags).map_err(Error::from_errno("eventfd"))
        })?);
        let server = Server::new(options, Listener::bind(&socket, options.access)?, external, &stop)?;
        let thread = spawn_without_signals("plasma-store", || server.run())?;
        Ok(Self { socket, running: Some(Running { stop, thread }), token })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it: closes all connections and removes the socket. What clients hold stays readable for them.
    ///
    /// # Errors
    /// [`Error::Io`] with what went wrong in its thread, if that ended by itself before; [`Error::Forked`] in a child.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    /// What ends this store from another thread, such as one that waits for signals.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.running.as_ref().map(|running| running.stop.clone()))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// As for [`Store::stop`].
    pub fn wait(mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), Running::join)
    }

    fn end(&mut self) -> Result<()> {
        if !self.token.is_current() {
            // Thread and descriptors are the parent's; to join or close them would hit somebody else's.
            mem::forget(self.running.take());
            return Err(Error::Forked);
        }
        self.stopper().stop();
        self.running.take().map_or(Ok(()), Running::join)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::debug!("end of a store: {error}");
        }
    }
}

/// Ends a store from elsewhere.
#[derive(Clone, Debug)]
pub struct Stopper(Option<Arc<Guarded<EventFd>>>);

impl Stopper {
    /// Asks the store to end. It may have ended already.
    pub fn stop(&self) {
        if let Some(Err(errno)) = self.0.as_ref().map(|stop| stop.write(1)) {
            log::error!("the store could not be told to stop: {errno}");
        }
    }
}

impl Running {
    fn join(self) -> Result<()> {
        let panicked = |_| Error::io("the store's thread", std::io::Error::other("it panicked"));
        self.thread.join().map_err(panicked)?
    }
}

/// A path that no other store of this user has.
fn fresh_path() -> Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let (directory, prefix) =
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| Path::new(directory).is_dir()) {
            Some(directory) => (PathBuf::from(directory), "plasma-store-in-process-"),
            None => (create_private_directory()?, "in-process-"),
        };
    remove_what_the_dead_left(&directory, prefix);
    Ok(directory.join(format!("{prefix}{}-{count}.sock", std::process::id())))
}

/// A process that is killed leaves the sockets of its stores behind.
fn remove_what_the_dead_left(directory: &Path, prefix: &str) {
    let process = |name: &str| name.strip_prefix(prefix)?.split('-').next()?.parse::<u32>().ok();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let maker = entry.file_name().to_str().and_then(process);
        if maker.is_some_and(|maker| !Path::new(&format!("/proc/{maker}")).exists()) {
            remove_stale(&entry.path());
        }
    }
}

/// Makes the directory of the default socket where that is ours to make.
///
/// # Errors
/// [`Error::AddressInUse`] when somebody else has made it, or may enter it.
pub fn default_socket_directory() -> Result<()> {
    match default_socket().parent() == Some(&private_directory()) {
        true => create_private_directory().map(drop),
        false => Ok(()),
    }
}

/// Makes the directory below `/tmp` that is this user's own, or checks that it is.
fn create_private_directory() -> Result<PathBuf> {
    let path = private_directory();
    let made = DirBuilder::new().mode(0o700).create(&path);
    let found = fs::symlink_metadata(&path).map_err(|error| {
        let error = made.err().unwrap_or(error);
        Error::io(format!("create {}", path.display()), error)
    })?;
    if !found.is_dir() || found.uid() != getuid().as_raw() || found.mode() & 0o077 != 0 {
        let text = format!("{} is not a directory of ours with mode 0700", path.display());
        return Err(Error::AddressInUse(text));
    }
    Ok(path)
}
