//! Watches: a descriptor that can be read when one of many objects is sealed, for event loops.

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use crate::error::Error;
use crate::ffi::client::{client_of, ids_of, plasma_client};
use crate::ffi::guard::{self, Out};
use crate::ffi::object_id::plasma_object_id;
use crate::ffi::status::plasma_status;

/// Watches `count` objects: the descriptor of `plasma_watch_fd` can be read when one of them is sealed, at once if it is already.
///
/// `plasma_watch_take` then tells which, and that object is not watched any more. It is to be looked for by `plasma_get`, and
/// watched again if it is not there: it may have been deleted in between. What is watched already stays so, and counts once.
/// To begin with a look takes no system call: `plasma_get` with `PLASMA_GET_NO_ASK`. An object in an external store counts as sealed.
///
/// Errors: `PLASMA_UNSUPPORTED` where the store cannot tell; `PLASMA_BUSY` when 65472 objects are watched, and then some of these
/// may be; `PLASMA_DISCONNECTED` after `plasma_watch_take` has returned that.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids` points at `count` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_watch(
    client: *mut plasma_client,
    object_ids: *const plasma_object_id,
    count: usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, ids) = unsafe { (client_of(client)?, ids_of(object_ids, count)?) };
        client.watch(&ids)
    })
}

/// Watches `count` objects no more; `plasma_watch_take` does not tell of them later. What is not watched is left as it is.
///
/// Errors: `PLASMA_UNSUPPORTED` where the store cannot tell.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids` points at `count` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_unwatch(
    client: *mut plasma_client,
    object_ids: *const plasma_object_id,
    count: usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, ids) = unsafe { (client_of(client)?, ids_of(object_ids, count)?) };
        client.unwatch(&ids)
    })
}

/// A descriptor to poll: it can be read when `plasma_watch_take` has something to tell, an object or the end.
///
/// It belongs to the client: do not read or close it, and let nothing poll it when the client is freed. -1 for NULL, in a child
/// made by `fork`, and where the store cannot tell (`plasma_watch` returns `PLASMA_UNSUPPORTED`).
///
/// # Safety
/// `client` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_watch_fd(client: *mut plasma_client) -> c_int {
    guard::value(-1, || {
        // SAFETY: as the caller promised.
        let client = unsafe { client_of(client) }.ok();
        client.and_then(|client| client.watch_descriptor()).map_or(-1, |descriptor| descriptor.as_raw_fd())
    })
}

/// Takes watched objects that it is worth to look for, at most `capacity`, into `object_ids`; `*count` gets how many. Does not wait.
///
/// When they are fewer than `capacity` the descriptor is quiet until there are others; else call again. Each was sealed since it was
/// watched, or, when very many were at once, may have been.
///
/// Errors: `PLASMA_DISCONNECTED`, now and ever after, when nothing more will come; `PLASMA_UNSUPPORTED` where the store cannot tell.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids` has room for `capacity` entries; `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_watch_take(
    client: *mut plasma_client,
    object_ids: *mut plasma_object_id,
    capacity: usize,
    count: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, count) = unsafe { (client_of(client)?, Out::new(count, "count")?) };
        if object_ids.is_null() && capacity > 0 {
            return Err(Error::InvalidArgument("object_ids is NULL".into()));
        }
        let rung = client.rung(capacity)?;
        for (index, id) in rung.iter().enumerate() {
            // SAFETY: not NULL, and the caller promised `capacity` entries, of which there are no more.
            unsafe { object_ids.add(index).write((*id).into()) };
        }
        count.set(rung.len());
        Ok(())
    })
}
