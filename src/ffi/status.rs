//! What calls return, and the text that goes with it. Numbers are given by hand and never change.

use std::cell::Cell;
use std::ffi::{CStr, c_char};

use crate::error::Error;

/// Outcome of a call: `PLASMA_OK`, or one of the numbers below. New numbers may be added; none is ever changed.
pub type plasma_status = i32;

/// It worked.
pub const PLASMA_OK: plasma_status = 0;
/// An object with this id exists already.
pub const PLASMA_OBJECT_EXISTS: plasma_status = 1;
/// There is no such object, or none that this client may act on.
pub const PLASMA_OBJECT_NOT_FOUND: plasma_status = 2;
/// There is no room for the object, also after evicting what may be evicted.
pub const PLASMA_STORE_FULL: plasma_status = 3;
/// The object is not sealed yet.
pub const PLASMA_OBJECT_NOT_SEALED: plasma_status = 4;
/// Somebody holds the object.
pub const PLASMA_OBJECT_IN_USE: plasma_status = 5;
/// The object is sealed already.
pub const PLASMA_OBJECT_ALREADY_SEALED: plasma_status = 6;
/// The time ran out.
pub const PLASMA_TIMEOUT: plasma_status = 7;
/// `plasma_interrupt` was called, or a signal came and `PLASMA_CONNECT_RETURN_ON_SIGNAL` is set.
pub const PLASMA_INTERRUPTED: plasma_status = 8;
/// Something of the caller's own is in the way, such as an unreleased buffer of an object to be aborted.
pub const PLASMA_BUSY: plasma_status = 9;
/// An argument is NULL, negative, too long or otherwise impossible; the message names it.
pub const PLASMA_INVALID_ARGUMENT: plasma_status = 10;
/// The store ended, or closed this connection. What is held stays readable.
pub const PLASMA_DISCONNECTED: plasma_status = 11;
/// No store answers at that path.
pub const PLASMA_CONNECT_FAILED: plasma_status = 12;
/// Whoever answers is an old Plasma daemon, or no store at all.
pub const PLASMA_UNSUPPORTED_PEER: plasma_status = 13;
/// The store sent something that it must not send.
pub const PLASMA_PROTOCOL_ERROR: plasma_status = 14;
/// A dtype, device or layout that cannot be stored, or an option that this version does not know.
pub const PLASMA_UNSUPPORTED: plasma_status = 15;
/// The object is not a valid tensor.
pub const PLASMA_CORRUPT: plasma_status = 16;
/// The handle was made by the parent process, and this is a forked child.
pub const PLASMA_FORKED: plasma_status = 17;
/// This process could not map or allocate memory.
pub const PLASMA_OUT_OF_MEMORY: plasma_status = 18;
/// A system call failed; the message says which and why.
pub const PLASMA_IO_ERROR: plasma_status = 19;
/// A live store, or a file that is not a store's, is at the socket's path.
pub const PLASMA_ADDRESS_IN_USE: plasma_status = 20;
/// A bug in this library. The process is unharmed.
pub const PLASMA_PANIC: plasma_status = 21;
/// The lock is taken, and is to be unlocked; who had it before died with it, so what it protects may be half done.
pub const PLASMA_OWNER_DIED: plasma_status = 22;
/// The ring is closed: it takes no message any more, and has none left.
pub const PLASMA_CLOSED: plasma_status = 23;
/// The ring was ended for everybody.
pub const PLASMA_ABORTED: plasma_status = 24;

/// Text for each status, by number.
const TEXTS: [&CStr; 25] = [
    c"ok",
    c"object exists",
    c"object not found",
    c"store full",
    c"object not sealed",
    c"object in use",
    c"object already sealed",
    c"timed out",
    c"interrupted",
    c"busy",
    c"invalid argument",
    c"disconnected from the store",
    c"cannot connect to a store",
    c"not a store of this library",
    c"protocol violated by the store",
    c"unsupported dtype, device or layout",
    c"not a valid tensor",
    c"handle of the parent process used after fork",
    c"out of memory in this process",
    c"system call failed",
    c"address in use",
    c"bug in this library",
    c"locked, and the last owner died",
    c"ring closed",
    c"ring aborted",
];

/// Bytes kept of a message, its NUL included; longer ones are cut.
const MESSAGE_SIZE: usize = 1024;

thread_local! {
    /// A fixed place, so that a pointer to an older message stays valid memory, and so that it needs no destructor.
    static LAST_MESSAGE: Cell<[u8; MESSAGE_SIZE]> = const { Cell::new([0; MESSAGE_SIZE]) };
}

/// The status that an error is to a C caller.
fn status_of(error: &Error) -> plasma_status {
    match error {
        Error::ObjectExists(_) => PLASMA_OBJECT_EXISTS,
        Error::ObjectNotFound(_) => PLASMA_OBJECT_NOT_FOUND,
        Error::StoreFull(_) => PLASMA_STORE_FULL,
        Error::ObjectNotSealed(_) => PLASMA_OBJECT_NOT_SEALED,
        Error::ObjectInUse(_) => PLASMA_OBJECT_IN_USE,
        Error::ObjectAlreadySealed(_) => PLASMA_OBJECT_ALREADY_SEALED,
        Error::Timeout(_) => PLASMA_TIMEOUT,
        Error::Interrupted => PLASMA_INTERRUPTED,
        Error::Busy(_) => PLASMA_BUSY,
        Error::InvalidArgument(_) => PLASMA_INVALID_ARGUMENT,
        Error::Disconnected(_) => PLASMA_DISCONNECTED,
        Error::ConnectFailed { .. } => PLASMA_CONNECT_FAILED,
        Error::UnsupportedPeer(_) => PLASMA_UNSUPPORTED_PEER,
        Error::Protocol(_) => PLASMA_PROTOCOL_ERROR,
        Error::Unsupported(_) => PLASMA_UNSUPPORTED,
        Error::Corrupt(_) => PLASMA_CORRUPT,
        Error::Forked => PLASMA_FORKED,
        Error::OwnerDied(_) => PLASMA_OWNER_DIED,
        Error::Closed(_) => PLASMA_CLOSED,
        Error::Aborted(_) => PLASMA_ABORTED,
        Error::AddressInUse(_) => PLASMA_ADDRESS_IN_USE,
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::OutOfMemory => PLASMA_OUT_OF_MEMORY,
        Error::Io { .. } => PLASMA_IO_ERROR,
    }
}

/// The status of an outcome, for arrays of statuses.
pub(super) fn status_of_outcome(outcome: &Result<(), Error>) -> plasma_status {
    outcome.as_ref().map_or_else(status_of, |()| PLASMA_OK)
}

/// Keeps an error's text for this thread and returns its status.
pub(super) fn record(error: &Error) -> plasma_status {
    set_message(&error.to_string());
    status_of(error)
}

/// Keeps a text for this thread.
pub(super) fn set_message(text: &str) {
    let mut message = [0; MESSAGE_SIZE];
    let end = text.floor_char_boundary(MESSAGE_SIZE - 1);
    for (byte, character) in message.iter_mut().zip(text.as_bytes().iter().take(end)) {
        // A NUL in a path or name must not hide what follows it.
        *byte = if *character == 0 { b'?' } else { *character };
    }
    LAST_MESSAGE.set(message);
}

/// A short text for a status: static, never NULL, also for a number that is none.
#[unsafe(no_mangle)]
pub extern "C" fn plasma_status_string(status: plasma_status) -> *const c_char {
    let text = usize::try_from(status).ok().and_then(|index| TEXTS.get(index));
    text.map_or(c"unknown status", |text| text).as_ptr()
}

/// What went wrong in this thread's last call that failed, with the number or name that was wrong; "" if none did.
///
/// Never NULL, and always the same pointer on one thread: the next call that fails there changes the text.
#[unsafe(no_mangle)]
pub extern "C" fn plasma_last_error_message() -> *const c_char {
    LAST_MESSAGE.with(|message| message.as_ptr().cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_and_nul_is_shown() {
        // SAFETY: a NUL-terminated text, by the function's own promise.
        let last = || unsafe { CStr::from_ptr(plasma_last_error_message()) }.to_str().unwrap().to_owned();
        set_message("a\0b");
        assert_eq!(last(), "a?b");
        set_message(&"é".repeat(MESSAGE_SIZE));
        assert_eq!(last(), "é".repeat((MESSAGE_SIZE - 1) / 2));
    }

    #[test]
    fn every_status_has_a_text_and_others_have_one_too() {
        for (status, text) in TEXTS.iter().enumerate() {
            assert_eq!(plasma_status_string(status as i32), text.as_ptr());
        }
        assert_eq!(TEXTS.len() as i32, PLASMA_ABORTED + 1);
        for stray in [-1, i32::MIN, i32::MAX] {
            assert_eq!(plasma_status_string(stray), c"unknown status".as_ptr());
        }
    }
}
