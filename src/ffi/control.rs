//! What steers the store rather than moves objects: eviction, pins, quotas, figures.

use std::ffi::c_char;

use crate::error::Error;
use crate::ffi::client::{client_of, ids_of, plasma_client};
use crate::ffi::guard::{self, Out, TextOut};
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::status::plasma_status;

/// Evicts objects that nobody holds, least recently used first, until `bytes` are freed or none are left.
///
/// `*evicted` gets the bytes freed.
///
/// # Safety
/// `client` is NULL or a live handle; `evicted` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_evict(client: *mut plasma_client, bytes: u64, evicted: *mut u64) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, out) = unsafe { (client_of(client)?, Out::new(evicted, "evicted")?) };
        out.set(client.evict(bytes)?);
        Ok(())
    })
}

/// Marks `count` objects as just used, as far as they may be evicted.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids` points at `count` ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_refresh(
    client: *mut plasma_client,
    object_ids: *const plasma_object_id,
    count: usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, ids) = unsafe { (client_of(client)?, ids_of(object_ids, count)?) };
        client.refresh(&ids)
    })
}

/// Pins `count` sealed objects: nothing evicts them until somebody unpins them, also when this client is gone.
///
/// A pin is a flag on the object: pinning twice is the same as once, and any client of the store may unpin. A pinned object can
/// still be deleted, and goes when its `ttl_ms` is over.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND` or `PLASMA_OBJECT_NOT_SEALED` with the first id that it is true of; then nothing is pinned.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids` points at `count` ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_pin(
    client: *mut plasma_client,
    object_ids: *const plasma_object_id,
    count: usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, ids) = unsafe { (client_of(client)?, ids_of(object_ids, count)?) };
        client.pin(&ids, true)
    })
}

/// Lets `count` sealed objects be evicted again, whoever pinned them. One that is not pinned stays so.
///
/// Errors: as for `plasma_pin`; then nothing is unpinned.
///
/// # Safety
/// `client` is NULL or a live handle; `object_ids` points at `count` ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_unpin(
    client: *mut plasma_client,
    object_ids: *const plasma_object_id,
    count: usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, ids) = unsafe { (client_of(client)?, ids_of(object_ids, count)?) };
        client.pin(&ids, false)
    })
}

/// Computes the digest that old Plasma has of a sealed object, 8 bytes, from its data and metadata.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; 8 bytes at `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_hash(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    out: *mut u8,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised; the array has the 8 bytes that `out` has.
        let (client, id, out) =
            unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out.cast::<[u8; 8]>(), "out")?) };
        out.set(client.hash(id)?);
        Ok(())
    })
}

/// Names this client in the store's figures, and reserves `output_memory_quota` bytes for what it creates from now on.
///
/// Nobody else's create evicts objects in a quota; what does not fit it evicts the client's own oldest. It can be set once.
///
/// Errors: `PLASMA_STORE_FULL` when the quota is refused: a second one, or one that leaves less than three tenths of the store.
///
/// # Safety
/// `client` is NULL or a live handle, `name` NULL or a NUL-terminated text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_set_options(
    client: *mut plasma_client,
    name: *const c_char,
    output_memory_quota: i64,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, name) = unsafe { (client_of(client)?, guard::text(name, "name")?) };
        let name = name.ok_or_else(|| Error::InvalidArgument("name is NULL".into()))?;
        client.set_options(name, output_memory_quota)
    })
}

/// Writes the store's figures to `out` as text, one `key: value` a line, cut to `size` bytes with a NUL at the end.
///
/// `*length` gets the length of the whole text without its NUL. `out` may be NULL when `size` is 0.
///
/// # Safety
/// `client` is NULL or a live handle; `size` bytes at `out`, and `length`, may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_debug_string(
    client: *mut plasma_client,
    out: *mut c_char,
    size: usize,
    length: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, out) = unsafe { (client_of(client)?, TextOut::new(out, size, length)?) };
        out.set(&client.debug_string()?);
        Ok(())
    })
}
