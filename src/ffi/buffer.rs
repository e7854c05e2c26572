//! `plasma_buffer`: a boxed [`Buffer`] or [`WritableBuffer`].

use std::ptr;
use std::sync::Arc;

use crate::client::tensor::TensorMemory;
use crate::client::{Buffer, WritableBuffer};
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
pub struct plasma_buffer(Kind);

#[derive(Debug)]
enum Kind {
    Sealed(Buffer),
    Writable { buffer: Arc<WritableBuffer>, metadata_size: u64 },
}

/// The handle of a got object.
pub(super) fn sealed_buffer(buffer: Buffer) -> plasma_buffer {
    plasma_buffer(Kind::Sealed(buffer))
}

/// The handle of a new object.
pub(super) fn writable_buffer(buffer: WritableBuffer) -> Result<plasma_buffer> {
    tensor_buffer(TensorMemory::Writable(Arc::new(buffer)))
}

/// The handle of a tensor's memory.
pub(super) fn tensor_buffer(memory: TensorMemory) -> Result<plasma_buffer> {
    Ok(plasma_buffer(match memory {
        TensorMemory::Sealed(buffer) => Kind::Sealed(buffer),
        TensorMemory::Writable(buffer) => Kind::Writable { metadata_size: buffer.metadata_size()?, buffer },
    }))
}

/// The memory behind a handle, shared with it.
pub(super) fn tensor_memory(buffer: &plasma_buffer) -> TensorMemory {
    match &buffer.0 {
        Kind::Sealed(buffer) => TensorMemory::Sealed(buffer.clone()),
        Kind::Writable { buffer, .. } => TensorMemory::Writable(buffer.clone()),
    }
}

/// Runs `body` on a buffer; NULL, and a panic, give `otherwise`.
///
/// # Safety
/// `buffer` is NULL or a live handle.
unsafe fn with<T: Copy>(buffer: *const plasma_buffer, otherwise: T, body: impl FnOnce(&Kind) -> T) -> T {
    // SAFETY: as the caller promised.
    guard::value(otherwise, || unsafe { buffer.as_ref() }.map_or(otherwise, |buffer| body(&buffer.0)))
}

/// First byte of the data, 64-byte aligned, readable for `plasma_buffer_size` bytes until the release. NULL for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_data(buffer: *const plasma_buffer) -> *const u8 {
    // SAFETY: as the caller promised.
    unsafe {
        with(buffer, ptr::null(), |kind| match kind {
            Kind::Sealed(buffer) => buffer.data(),
            Kind::Writable { buffer, .. } => buffer.data(),
        })
    }
}

/// The same, for writing: of an object that is being created, until it is sealed, or of one got with
/// `PLASMA_GET_PRIVATE`. NULL otherwise.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_mutable_data(buffer: *mut plasma_buffer) -> *mut u8 {
    // SAFETY: as the caller promised.
    unsafe {
        with(buffer, ptr::null_mut(), |kind| match kind {
            Kind::Sealed(buffer) => buffer.private_data().unwrap_or(ptr::null_mut()),
            Kind::Writable { buffer, .. } => buffer.mutable_data().unwrap_or(ptr::null_mut()),
        })
    }
}

/// Bytes of data. 0 for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_size(buffer: *const plasma_buffer) -> u64 {
    // SAFETY: as the caller promised.
    unsafe {
        with(buffer, 0, |kind| match kind {
            Kind::Sealed(buffer) => buffer.size(),
            Kind::Writable { buffer, .. } => buffer.size(),
        })
    }
}

/// First byte of the user's metadata, readable for `plasma_buffer_metadata_size` bytes until the release. NULL for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_metadata(buffer: *const plasma_buffer) -> *const u8 {
    // SAFETY: as the caller promised.
    unsafe {
        with(buffer, ptr::null(), |kind| match kind {
            Kind::Sealed(buffer) => buffer.metadata(),
            Kind::Writable { buffer, .. } => buffer.metadata(),
        })
    }
}

/// Bytes of the user's metadata, without what this library appends for tensors. 0 for NULL.
///
/// # Safety
/// `buffer` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_metadata_size(buffer: *const plasma_buffer) -> u64 {
    // SAFETY: as the caller promised.
    unsafe {
        with(buffer, 0, |kind| match kind {
            Kind::Sealed(buffer) => buffer.metadata_size(),
            Kind::Writable { metadata_size, .. } => *metadata_size,
        })
    }
}

/// The id of the object that a buffer belongs to.
///
/// # Safety
/// `buffer` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_buffer_id(buffer: *const plasma_buffer, out: *mut plasma_object_id) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (buffer, out) = unsafe { (guard::borrow(buffer, "buffer")?, Out::new(out, "out")?) };
        let id = match &buffer.0 {
            Kind::Sealed(buffer) => buffer.id(),
            Kind::Writable { buffer, .. } => buffer.id(),
        };
        out.set(id.into());
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
    // SAFETY: as the caller promised.
    guard::value((), || drop(unsafe { guard::take(buffer) }));
}
