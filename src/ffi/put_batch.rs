//! Many small objects with one request.

use std::ffi::c_char;

use crate::client::PutItem;
use crate::error::Result;
use crate::ffi::client::{client_of, given_options, plasma_client, plasma_create_options};
use crate::ffi::guard;
use crate::ffi::object_id::plasma_object_id;
use crate::ffi::status::plasma_status;

/// An object of a batch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_put_item {
    /// Its id.
    pub id: plasma_object_id,
    /// Its data. NULL is fine when `data_size` is 0.
    pub data: *const u8,
    /// Bytes of data.
    pub data_size: u64,
    /// Its metadata. NULL is fine when `metadata_size` is 0.
    pub metadata: *const u8,
    /// Bytes of metadata.
    pub metadata_size: u64,
    /// The name whose id it has, as in `plasma_create_options`. NULL: none.
    pub name: *const c_char,
}

/// Stores copies of `count` objects as sealed ones, with one request: all of them, or none. Meant for many small ones.
///
/// `options` may be NULL. A batch is one message, which has at most 64 MiB: the bytes of all objects, and some 100 bytes for each.
///
/// Errors: `PLASMA_OBJECT_EXISTS`, also for an id that comes twice; `PLASMA_STORE_FULL`; `PLASMA_INVALID_ARGUMENT` for a batch that
/// is too long, or a name with another id; `PLASMA_UNSUPPORTED` for options with a `name`, a `ttl_ms`, a `wait_ms` or
/// `PLASMA_CREATE_IMMUTABLE`, which a batch does not have: each of `items` has a name of its own.
///
/// # Safety
/// `client` is NULL or a live handle; `items` points at `count` entries, each with as many bytes as its sizes say and with a name that
/// is NULL or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_put_batch(
    client: *mut plasma_client,
    items: *const plasma_put_item,
    count: usize,
    options: *const plasma_create_options,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, items, options) =
            unsafe { (client_of(client)?, guard::array(items, count, "items")?, given_options(options)?) };
        // SAFETY: as the caller promised.
        let items = items.iter().enumerate().map(|(index, item)| unsafe { put_item(index, item) });
        client.put_batch(&items.collect::<Result<Vec<_>>>()?, options)
    })
}

/// # Safety
/// The pointers in `item` point at as many bytes as its sizes say; its name is NULL or a NUL-terminated text.
unsafe fn put_item(index: usize, item: &plasma_put_item) -> Result<PutItem<'_>> {
    // SAFETY: as the caller promised.
    let (data, metadata, name) = unsafe {
        (
            guard::bytes(item.data, item.data_size, &format!("items[{index}].data"))?,
            guard::bytes(item.metadata, item.metadata_size, &format!("items[{index}].metadata"))?,
            guard::text(item.name, &format!("items[{index}].name"))?,
        )
    };
    Ok(PutItem { id: item.id.into(), data, metadata, name })
}
