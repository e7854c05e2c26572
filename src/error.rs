//! One error for the whole crate. The edges map it: `protocol` to wire codes, `ffi` to statuses.
#![forbid(unsafe_code)]

use std::io;

use crate::object::ObjectId;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the number or name that was wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An object with this id is in the store already, sealed or not.
    #[error("object {0} already exists")]
    ObjectExists(ObjectId),
    /// No such object, or none that this caller may act on.
    #[error("object {0} not found")]
    ObjectNotFound(ObjectId),
    /// The object is not sealed yet.
    #[error("object {0} is not sealed")]
    ObjectNotSealed(ObjectId),
    /// The object is sealed, so it cannot be sealed again, aborted or written.
    #[error("object {0} is already sealed")]
    ObjectAlreadySealed(ObjectId),
    /// Somebody holds the object.
    #[error("object {0} is in use")]
    ObjectInUse(ObjectId),
    /// No room, also after evicting what may be evicted.
    #[error("store full: {0}")]
    StoreFull(String),
    /// The time given ran out.
    #[error("timed out after {0} ms")]
    Timeout(i64),
    /// The call was ended by `interrupt`, or by a signal where the connection asks for that.
    #[error("interrupted")]
    Interrupted,
    /// Something of the caller's own is still in use.
    #[error("{0}")]
    Busy(String),
    /// An argument that no call could be made with.
    #[error("{0}")]
    InvalidArgument(String),
    /// The store ended, or closed this connection.
    #[error("disconnected from the store: {0}")]
    Disconnected(String),
    /// Nothing that answers is at the socket's path.
    #[error("cannot connect to {path}: {reason}")]
    ConnectFailed {
        /// Where a store was looked for.
        path: String,
        /// What the system said, and how often it was asked.
        reason: String,
    },
    /// Whoever answers is not a store of ours.
    #[error("{0}")]
    UnsupportedPeer(String),
    /// The peer sent something that the protocol does not allow.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// A dtype, device or layout that cannot be stored.
    #[error("{0}")]
    Unsupported(String),
    /// Bytes that are not what they claim to be, such as a damaged tensor message.
    #[error("{0}")]
    Corrupt(String),
    /// A handle made before `fork` was used in the child.
    #[error("this handle belongs to the parent process; connect again after fork")]
    Forked,
    /// The lock is taken, and who had it before died with it: what it protects may be half done.
    #[error("the lock of {0} is taken; its owner died with it, and what it protects may be half done")]
    OwnerDied(ObjectId),
    /// A ring has been closed, and there is no message left.
    #[error("ring {0} is closed")]
    Closed(ObjectId),
    /// A ring has been ended for everybody.
    #[error("ring {0} was aborted")]
    Aborted(ObjectId),
    /// A live store, or a file that is not ours, is at the socket's path.
    #[error("{0}")]
    AddressInUse(String),
    /// A system call failed.
    #[error("{call}: {source}")]
    Io {
        /// What was called, and on what.
        call: String,
        /// What the system answered.
        source: io::Error,
    },
}

impl Error {
    /// The failure of system call `call`.
    pub fn io(call: impl Into<String>, source: io::Error) -> Self {
        Self::Io { call: call.into(), source }
    }

    /// A closure for `map_err` that names the failed system call.
    pub fn from_errno(call: &'static str) -> impl Fn(nix::errno::Errno) -> Self {
        move |errno| Self::io(call, errno.into())
    }
}
