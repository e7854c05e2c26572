//! `plasma_store`: a boxed [`Store`] inside this process.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use crate::error::{Error, Result};
use crate::ffi::guard::{self, Options, Out};
use crate::ffi::status::plasma_status;
use crate::store::{Store, StoreOptions};

/// A store inside this process, with a thread of its own. Other processes connect to it as to the daemon. It must be
/// stopped by the thread that is done with it; using it from several threads is fine until then.
///
/// In a child made by `fork` there is no store: its thread and descriptors are the parent's. Stopping it there is harmless,
/// and returns `PLASMA_FORKED`.
#[derive(Debug)]
pub struct plasma_store {
    store: Store,
    socket: CString,
}

/// Bytes that a store holds when nobody says.
const DEFAULT_CAPACITY: u64 = 256 << 20;

/// What a store is to be. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_store_options {
    /// `sizeof(plasma_store_options)`.
    pub struct_size: usize,
    /// Where it listens. NULL: at a fresh path in a directory that only this user can enter.
    pub socket_path: *const c_char,
    /// Bytes of data and metadata that it holds at most. 0: 256 MiB.
    pub capacity: u64,
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the caller's
// promise.
unsafe impl Options for plasma_store_options {}

/// Starts a store in this process. When it returns, clients can connect.
///
/// `options` may be NULL. On success `*out` is to be ended with `plasma_store_stop`.
///
/// Errors: `PLASMA_ADDRESS_IN_USE` when a live store, or a file that is not empty, is at the path.
///
/// # Safety
/// `options` is NULL or as long as it says, with a text or NULL in it; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_store_start(
    options: *const plasma_store_options,
    out: *mut *mut plasma_store,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (options, out) = unsafe { (guard::options(options, "options")?, Out::new(out, "out")?) };
        // SAFETY: as the caller promised.
        let store = Store::start(&unsafe { store_options(options) }?)?;
        let socket = CString::new(store.socket().as_os_str().as_bytes());
        let socket = socket.map_err(|_| Error::InvalidArgument("the socket's path has a NUL in it".into()))?;
        out.set(guard::give(plasma_store { store, socket }));
        Ok(())
    })
}

/// # Safety
/// The path in `options` is NULL or a NUL-terminated text.
unsafe fn store_options(options: Option<plasma_store_options>) -> Result<StoreOptions> {
    let (path, capacity) = options.map_or((ptr::null(), 0), |options| (options.socket_path, options.capacity));
    // SAFETY: as the caller promised.
    let socket = unsafe { guard::text(path, "socket_path") }?.map(Into::into);
    let capacity = if capacity == 0 { DEFAULT_CAPACITY } else { capacity };
    Ok(StoreOptions { socket, capacity, ..StoreOptions::default() })
}

/// The path that a store listens at; valid until the store is stopped. NULL for NULL.
///
/// # Safety
/// `store` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_store_socket(store: *const plasma_store) -> *const c_char {
    // SAFETY: as the caller promised.
    guard::value(ptr::null(), || unsafe { store.as_ref() }.map_or(ptr::null(), |store| store.socket.as_ptr()))
}

/// Ends a store and frees the handle, whatever is returned. NULL is fine.
///
/// Its clients are disconnected; what they hold stays readable. Its socket is removed.
///
/// # Safety
/// `store` is NULL or a live handle, which ends here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_store_stop(store: *mut plasma_store) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { guard::take(store) }.map_or(Ok(()), |store| store.store.stop()))
}
