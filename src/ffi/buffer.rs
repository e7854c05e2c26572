//! `plasma_buffer`: a counted [`TensorMemory`].

use std::convert::Infallible;
use std::ptr;
use std::sync::Arc;

use crate::client::Buffer;
use crate::client::tensor::TensorMemory;
use crate::error::Result;
use crate::ffi::guard::{self, Out};
use crate::ffi::object_id::plasma_object_id;
use crate::ffi::status::plasma_status;

/// An object's memory in this process. It keeps what it needs alive: it stays readable after the client was freed, the
/// object deleted, the store ended, until it is released. May be used and released in any thread, but not released while
/// another thread uses it.
///
/// In a child made by `fork` it stays readable; releasing it there does not affect the parent.
#[derive(Debug)]
pub struct plasma_buffer {
    /// There is no value of this type: behind a handle is a [`TensorMemory`], which the handle shares with the tensors made of it.
    _none: Infallible,
}

/// The handle of some memory.
#[inline]
pub(super) fn give(memory: Arc<TensorMemory>) -> *mut plasma_buffer {
    Arc::into_raw(memory).cast_mut().cast()
}

/// The memory of a got object, for a handle.
#[inline(always)]
pub(super) fn sealed_memory(buffer: Buffer) -> Arc<TensorMemory> {
    Arc::new(TensorMemory::Sealed(buffer))
}

/// The handle of a new object's memory.
pub(super) fn give_writable(memory: Arc<TensorMemory>) -> Result<*mut plasma_buffer> {
    if let TensorMemory::Writable(buffer) = &*memory {
        // From here on the size is known, whatever becomes of the bytes.
        buffer.metadata_size()?;
    }
    Ok(give(memory))
}

/// What is behind a handle.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[inline]
unsafe fn memory_of<'a>(buffer: *const plasma_buffer) -> Option<&'a TensorMemory> {
    // SAFETY: as the caller promised, it came from `give`.
    unsafe { buffer.cast::<TensorMemory>().as_ref() }
}

/// The memory behind a handle, shared with it.
///
/// # Safety
/// `buffer` is NULL or a live handle.
pub(super) unsafe fn shared_memory(buffer: *const plasma_buffer) -> Result<Arc<TensorMemory>> {
    // SAFETY: as the caller promised, it came from `give`, and the one count that it stands for stays its own.
    unsafe {
        let memory: *const TensorMemory = guard::borrow(buffer.cast(), "buffer")?;
        Arc::increment_strong_count(memory);
        Ok(Arc::from_raw(memory))
    }
}

/// Runs `body` on a buffer; NULL, and a panic, give `otherwise`.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[inline]
unsafe fn with<T: Copy>(buffer: *const plasma_buffer, otherwise: T, body: impl FnOnce(&TensorMemory) -> T) -> T {
    // SAFETY: as the caller promised.
    guard::value(otherwise, || unsafe { memory_of(buffer) }.map_or(otherwise, body))
}

/// First byte of the data, 64-byte aligned, readable for `plasma_buffer_size` bytes until the release. NULL for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_data(buffer: *const plasma_buffer) -> *const u8 {
    // SAFETY: as the caller promised.
    unsafe { with(buffer, ptr::null(), |memory| memory.data().cast_const()) }
}

/// The same, for writing: of an object that is being created, until it is sealed, or of one got with
/// `PLASMA_GET_PRIVATE`. NULL otherwise.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_mutable_data(buffer: *mut plasma_buffer) -> *mut u8 {
    // SAFETY: as the caller promised.
    unsafe { with(buffer, ptr::null_mut(), |memory| memory.mutable_data().unwrap_or(ptr::null_mut())) }
}

/// Copies `size` bytes of the caller's to `offset` of the data. `data` may be NULL when `size` is 0.
///
/// It does what `memcpy` to `plasma_buffer_mutable_data` would. Where the destination is not in this processor's cache, because
/// it is large or somebody has read it, this is faster, up to ten times; and it makes use of `copy_threads` of the connection.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` for bytes that are not all in the object, `PLASMA_OBJECT_ALREADY_SEALED` where
/// `plasma_buffer_mutable_data` would be NULL, `PLASMA_FORKED`.
///
/// # Safety
/// `buffer` is NULL or a live handle, `data` points at `size` bytes; nobody else writes there, or seals the object, meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_write(
    buffer: *mut plasma_buffer,
    offset: u64,
    data: *const u8,
    size: u64,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, bytes) = unsafe {
            (guard::borrow::<TensorMemory>(buffer.cast_const().cast(), "buffer")?, guard::bytes(data, size, "data")?)
        };
        memory.write(offset, bytes)
    })
}

/// Whether the kernel keeps everybody from changing the object, its producer included. False for NULL and for what is not sealed.
///
/// It does with objects that were created with `PLASMA_CREATE_IMMUTABLE`, so a reader that does not trust producers can tell; it
/// may with others, too.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_is_immutable(buffer: *const plasma_buffer) -> bool {
    // SAFETY: as the caller promised.
    unsafe { with(buffer, false, TensorMemory::is_immutable) }
}

/// Bytes of data. 0 for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_size(buffer: *const plasma_buffer) -> u64 {
    // SAFETY: as the caller promised.
    unsafe { with(buffer, 0, TensorMemory::size) }
}

/// First byte of the user's metadata, readable for `plasma_buffer_metadata_size` bytes until the release. NULL for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_metadata(buffer: *const plasma_buffer) -> *const u8 {
    // SAFETY: as the caller promised.
    unsafe { with(buffer, ptr::null(), TensorMemory::metadata) }
}

/// Bytes of the user's metadata, without what this library appends for tensors. 0 for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_metadata_size(buffer: *const plasma_buffer) -> u64 {
    // SAFETY: as the caller promised.
    unsafe { with(buffer, 0, TensorMemory::metadata_size) }
}

/// The id of the object that a buffer belongs to.
///
/// # Safety
/// `buffer` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_id(buffer: *const plasma_buffer, out: *mut plasma_object_id) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (guard::borrow::<TensorMemory>(buffer.cast(), "buffer")?, Out::new(out, "out")?) };
        out.set(memory.id().into());
        Ok(())
    })
}

/// Releases a buffer. NULL is fine.
///
/// Releasing the buffer of an object that is not sealed neither seals nor aborts it.
///
/// # Safety
/// `buffer` is NULL or a live handle, which ends here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_release(buffer: *mut plasma_buffer) {
    if !buffer.is_null() {
        // SAFETY: as the caller promised, it came from `give`; the count that it stands for ends here.
        guard::value((), || drop(unsafe { Arc::from_raw(buffer.cast_const().cast::<TensorMemory>()) }));
    }
}
