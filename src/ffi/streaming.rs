//! Streams of objects: put and sealed without waiting for each.

use crate::ffi::client::{client_of, given_options, plasma_client, plasma_create_options};
use crate::ffi::guard;
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::status::{plasma_status, status_of_outcome};

/// Stores a copy of bytes as a sealed object, soon: `plasma_flush` waits for it, and tells if it could not be done.
///
/// What one client puts and seals without waiting is done in this order. `data` and `metadata` may be changed again when this
/// returns. Meant for streams of small objects: one of more than 64 KiB, or with a `ttl_ms` or `wait_ms`, is created as by `plasma_create`,
/// and only its seal is not waited for. What was submitted is done also when the process ends right afterwards, but for what waits for an
/// external store then.
///
/// Errors: as for `plasma_create` where the object is created like that.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id, `data` and `metadata` point at as many bytes as their sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_put_async(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    data: *const u8,
    data_size: u64,
    metadata: *const u8,
    metadata_size: u64,
    options: *const plasma_create_options,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, data, metadata, options) = unsafe {
            (
                client_of(client)?,
                object_id::read(object_id)?,
                guard::bytes(data, data_size, "data")?,
                guard::bytes(metadata, metadata_size, "metadata")?,
                given_options(options)?,
            )
        };
        client.put_async(id, data, metadata, options)
    })
}

/// Seals an object that this client created, soon: `plasma_flush` waits for it, and tells if it could not be done.
///
/// The object must not be written from here on. The seal of one created with `PLASMA_CREATE_IMMUTABLE` is waited for.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND` when this client is not creating it.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_seal_async(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id) = unsafe { (client_of(client)?, object_id::read(object_id)?) };
        client.seal_async(id)
    })
}

/// Waits until everything is done that was put or sealed without waiting.
///
/// `*failed_count`, if not NULL, is set to how many objects could not be put or sealed since the last call; the first `capacity` of
/// them are told in `failed_ids` and `failed_statuses`, each of which may be NULL. When there are any, the status of the first is returned.
/// Of more than 65536 nobody is told.
///
/// # Safety
/// `client` is NULL or a live handle; `failed_ids` and `failed_statuses` have room for `capacity` entries, if not NULL;
/// `failed_count` may be written, if not NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_flush(
    client: *mut plasma_client,
    failed_ids: *mut plasma_object_id,
    failed_statuses: *mut plasma_status,
    capacity: usize,
    failed_count: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let client = unsafe { client_of(client)? };
        let failed = client.flush()?;
        // SAFETY: as the caller promised.
        unsafe { failed_count.as_mut() }.into_iter().for_each(|count| *count = failed.len());
        let mut first = Ok(());
        for (index, (id, error)) in failed.into_iter().enumerate() {
            let outcome = Err(error);
            if index < capacity && !failed_ids.is_null() {
                // SAFETY: not NULL, and the caller promised `capacity` entries.
                unsafe { failed_ids.add(index).write(id.into()) };
            }
            if index < capacity && !failed_statuses.is_null() {
                // SAFETY: as above.
                unsafe { failed_statuses.add(index).write(status_of_outcome(&outcome)) };
            }
            first = first.and(outcome);
        }
        first
    })
}
