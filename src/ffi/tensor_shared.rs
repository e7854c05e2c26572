//! `tensor_shared`: a boxed [`SharedTensor`], for tensors that several processes write.

use std::convert::Infallible;
use std::ffi::{c_char, c_void};

use crate::client::CreateOptions;
use crate::client::shared::SharedTensor;
use crate::client::tensor::TensorOptions;
use crate::error::{Error, Result};
use crate::ffi::buffer::{self, plasma_buffer};
use crate::ffi::client::{client_of, create_options, plasma_client};
use crate::ffi::guard::{self, Filled, Options, Out, TextOut};
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::status::plasma_status;
use crate::ffi::tensor::{description_of, layout_of, managed, managed_versioned, tensor_description};
use crate::tensor::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLTensor};

/// A tensor that all processes which have it open write and read in the same memory, until one of them freezes it. May be used from any
/// thread. It keeps its connection: it can be used when its client was freed.
///
/// In a child made by `fork` what was exported stays the same memory, but the handle does not know the store: calls on it return
/// `PLASMA_FORKED`; open the tensor again. The child keeps the tensor from being frozen until it has closed its copy of the handle and
/// deleted what was exported, or has ended.
#[derive(Debug)]
pub struct tensor_shared {
    /// There is no value of this type: behind a handle is a [`SharedTensor`].
    _none: Infallible,
}

/// The tensor lives until it is deleted, also while nobody has it open. Without this it goes when the last who has it open closes it
/// or dies.
pub const TENSOR_SHARED_KEEP: u32 = 1;

/// How to create a shared tensor. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_shared_options {
    /// `sizeof(tensor_shared_options)`.
    pub struct_size: usize,
    /// `TENSOR_SHARED_*`, or-ed.
    pub flags: u32,
    /// As in `plasma_create_options`.
    pub name: *const c_char,
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the caller's
// promise.
unsafe impl Options for tensor_shared_options {}

/// # Safety
/// `shared` is NULL or a live handle.
unsafe fn shared_of<'a>(shared: *const tensor_shared) -> Result<&'a SharedTensor> {
    // SAFETY: as the caller promised, it came from `give`.
    unsafe { guard::borrow(shared.cast::<SharedTensor>(), "shared") }
}

fn give(shared: SharedTensor) -> *mut tensor_shared {
    guard::give(shared).cast()
}

/// # Safety
/// `options` is NULL or as long as it says, with a text as its name.
unsafe fn shared_options<'a>(options: *const tensor_shared_options) -> Result<(CreateOptions<'a>, bool)> {
    // SAFETY: as the caller promised.
    let Some(options) = (unsafe { guard::options(options, "options") })? else {
        return Ok((CreateOptions::default(), false));
    };
    let flags = guard::known_flags(options.flags, TENSOR_SHARED_KEEP, "shared options")?;
    // SAFETY: as the caller promised.
    let create = unsafe { create_options(0, 0, 0, options.name) }?;
    Ok((create, flags & TENSOR_SHARED_KEEP != 0))
}

/// Creates a shared tensor and opens it: of the dtype and shape of `like`, and with its elements, or with zeros where its `data` are NULL.
/// It lies as `tensor_write` would store it.
///
/// From now on others can open it. It counts for the store's capacity and is listed as an object that is not sealed; a get of its id waits
/// until it is frozen. `plasma_delete` has it go when the last who has it open has closed it, and nobody can open it any more.
/// `options` may be NULL.
///
/// Errors: as for `tensor_write`; `PLASMA_UNSUPPORTED` also in a store with huge pages or a directory, where memory cannot be sealed.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id, `like` NULL or a valid tensor that nobody writes meanwhile, where `data`
/// may be NULL; `options` is NULL or as long as it says; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_create(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    like: *const DLTensor,
    options: *const tensor_shared_options,
    out: *mut *mut tensor_shared,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) = unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out, "out")?) };
        // SAFETY: as the caller promised.
        let ((create, keep), wanted) = unsafe { (shared_options(options)?, guard::borrow(like, "like")?) };
        let options = TensorOptions { create, ..TensorOptions::default() };
        if wanted.data.is_null() {
            // SAFETY: as the caller promised.
            let layout = unsafe { layout_of(wanted.dtype, wanted.ndim, wanted.shape) }?;
            out.set(give(client.tensor_share(id, &layout, options, keep, |_| Ok(()))?));
            return Ok(());
        }
        // SAFETY: as the caller promised.
        let view = unsafe { dlpack::view(like) }?;
        let layout = view.stored()?;
        let fill = |data| {
            // SAFETY: the view is valid as the caller promised; there is room for just these bytes, and it is nobody else's.
            unsafe { dlpack::copy_packed(&view, data, layout.nbytes(), client.copier()) }
        };
        out.set(give(client.tensor_share(id, &layout, options, keep, fill)?));
        Ok(())
    })
}

/// Opens a shared tensor, waiting at most `timeout_ms` until there is one: -1 waits without limit, 0 does not wait.
///
/// Several handles of one client on one tensor are one participant: the store knows the client once.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND` when there is none and nothing is waited for, else `PLASMA_TIMEOUT`;
/// `PLASMA_OBJECT_ALREADY_SEALED` for one that is frozen, and any other object; `PLASMA_STORE_FULL` when 512 clients have it
/// open; `PLASMA_CORRUPT` when it is no tensor; `PLASMA_INTERRUPTED`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_open(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    timeout_ms: i64,
    out: *mut *mut tensor_shared,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) = unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out, "out")?) };
        out.set(give(client.tensor_open_shared(id, timeout_ms)?));
        Ok(())
    })
}

/// The tensor in its memory, for writing: what is written there the others see. It keeps the tensor open until its deleter is called, in
/// any thread, also when the handle was closed before.
///
/// Errors: `PLASMA_OBJECT_ALREADY_SEALED` when it was frozen, `PLASMA_FORKED`.
///
/// # Safety
/// `shared` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_export(
    shared: *const tensor_shared,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (shared, out) = unsafe { (shared_of(shared)?, Out::new(out, "out")?) };
        out.set(managed(shared.tensor()?)?);
        Ok(())
    })
}

/// The same with the struct of DLPack 1.x.
///
/// # Safety
/// As for `tensor_shared_export`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_export_versioned(
    shared: *const tensor_shared,
    out: *mut *mut DLManagedTensorVersioned,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (shared, out) = unsafe { (shared_of(shared)?, Out::new(out, "out")?) };
        out.set(managed_versioned(shared.tensor()?)?);
        Ok(())
    })
}

/// The same as a buffer, for `tensor_view`, `tensor_rows` and all else that takes one. Release it with `plasma_buffer_release`; it
/// keeps the tensor open until then.
///
/// # Safety
/// As for `tensor_shared_export`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_buffer(
    shared: *const tensor_shared,
    out: *mut *mut plasma_buffer,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (shared, out) = unsafe { (shared_of(shared)?, Out::new(out, "out")?) };
        out.set(buffer::give(shared.tensor()?.memory));
        Ok(())
    })
}

/// Tells of the tensor what `tensor_describe` tells of others, and makes nothing that is to be freed. Its `data` are valid until the handle is
/// closed, and no longer than until a freeze is tried, which does not know of them: export the tensor where that may happen.
///
/// Errors: `PLASMA_OBJECT_ALREADY_SEALED` when it was frozen, `PLASMA_FORKED`.
///
/// # Safety
/// `shared` is NULL or a live handle; `out` is NULL or as long as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_describe(
    shared: *const tensor_shared,
    out: *mut tensor_description,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (shared, out) = unsafe { (shared_of(shared)?, Filled::new(out, "out")?) };
        out.set(description_of(&shared.tensor()?));
        Ok(())
    })
}

/// Takes the tensor's lock for this thread, waiting at most `timeout_ms`: -1 waits without limit, 0 does not wait. Nobody else has it then, in
/// any process. It protects what all who write agree to write under it, and nothing by itself.
///
/// Errors: `PLASMA_OWNER_DIED`: the lock is taken all the same, but who had it before died with it, so the elements may be half
/// written; exactly one is told, and `tensor_shared_unlock` says that they are in order again. `PLASMA_BUSY` when this thread has the lock
/// already. `PLASMA_TIMEOUT`, `PLASMA_INTERRUPTED`, `PLASMA_OBJECT_ALREADY_SEALED`, `PLASMA_DISCONNECTED` when it waits and
/// the store is gone, `PLASMA_FORKED`.
///
/// # Safety
/// `shared` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_lock(shared: *const tensor_shared, timeout_ms: i64) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { shared_of(shared) }?.lock(timeout_ms))
}

/// Gives the lock back, and wakes one who waits for it.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` when this thread does not have it, `PLASMA_FORKED`.
///
/// # Safety
/// `shared` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_unlock(shared: *const tensor_shared) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { shared_of(shared) }?.unlock())
}

/// Tells how often the lock was taken and given back. It is odd while somebody has it. Where it is even, and the same after something was
/// read, nobody had the lock in between.
///
/// # Safety
/// `shared` is NULL or a live handle; `version` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_version(shared: *const tensor_shared, version: *mut u64) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (shared, out) = unsafe { (shared_of(shared)?, Out::new(version, "version")?) };
        out.set(shared.version());
        Ok(())
    })
}

/// Copies all elements to `out` as they were at one moment when nobody had the lock; or as they are, where this thread has it. They lie there as
/// in the tensor. `size` is their size in bytes.
///
/// Writers are not stopped, unless one of them came in between several times in a row. Waits at most `timeout_ms` for them. Bytes at
/// `out` may be changed also when this fails.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` for another size; `PLASMA_CORRUPT` when a writer died with the lock and nobody has taken it since;
/// `PLASMA_TIMEOUT`, `PLASMA_INTERRUPTED`, `PLASMA_OBJECT_ALREADY_SEALED`, `PLASMA_FORKED`.
///
/// # Safety
/// `shared` is NULL or a live handle; `size` bytes at `out` may be written and are no part of the tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_snapshot(
    shared: *const tensor_shared,
    out: *mut c_void,
    size: usize,
    timeout_ms: i64,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let shared = unsafe { shared_of(shared) }?;
        if out.is_null() && size > 0 {
            return Err(Error::InvalidArgument("out is NULL".into()));
        }
        if size as u64 != shared.nbytes() {
            let text = format!("size is {size}, and the tensor has {} bytes", shared.nbytes());
            return Err(Error::InvalidArgument(text));
        }
        let copy = |data: *const u8| {
            // SAFETY: the elements are mapped there, as many bytes as that, and the caller promised them at `out`, apart from them.
            unsafe { shared.copier().copy(data, out.cast(), size) };
            Ok(())
        };
        shared.snapshot(timeout_ms, copy).map(drop)
    })
}

/// Counts the buffers and DLPack tensors that this process has of it by its client, and that keep it from being frozen.
///
/// # Safety
/// `shared` is NULL or a live handle; `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_views(shared: *const tensor_shared, count: *mut usize) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (shared, out) = unsafe { (shared_of(shared)?, Out::new(count, "count")?) };
        out.set(shared.views());
        Ok(())
    })
}

/// Freezes the tensor: from now on it is an ordinary sealed object, which the kernel keeps everybody from writing. Any client gets it by
/// `tensor_read` then. The handle is only to be closed, and the lock, if this thread has it, to be unlocked.
///
/// Our own memory of it is unmapped first. Waits at most `timeout_ms` for others to close it: -1 without limit, 0 not at all.
///
/// Errors: `PLASMA_BUSY`, with the names of those who can still write it; at once, when it is this process, with what was exported,
/// or another thread here that has the lock. A forked child that has inherited the memory is not known by name. After that the tensor is shared
/// as before. `PLASMA_CORRUPT` as for `tensor_shared_snapshot`. `PLASMA_INTERRUPTED`, `PLASMA_OBJECT_ALREADY_SEALED`, `PLASMA_FORKED`.
///
/// # Safety
/// `shared` is NULL or a live handle; nobody uses its memory by what `tensor_shared_describe` said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_freeze(shared: *const tensor_shared, timeout_ms: i64) -> plasma_status {
    // SAFETY: as the caller promised.
    guard::status(|| unsafe { shared_of(shared) }?.freeze(timeout_ms))
}

/// Writes to `out` who has a shared tensor open, one client a line as the store names it, cut to `size` bytes with a NUL at the end.
///
/// `*length` gets the length of the whole text without its NUL. `out` may be NULL when `size` is 0. "" where it is kept and nobody has it open.
///
/// Errors: `PLASMA_OBJECT_NOT_FOUND` for what is no shared object, or none any more.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `size` bytes at `out`, and `length`, may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_holders(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    out: *mut c_char,
    size: usize,
    length: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) =
            unsafe { (client_of(client)?, object_id::read(object_id)?, TextOut::new(out, size, length)?) };
        out.set(&client.holders(id)?.join("\n"));
        Ok(())
    })
}

/// Tells the id of a shared tensor.
///
/// # Safety
/// `shared` is NULL or a live handle; `object_id` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_id(
    shared: *const tensor_shared,
    object_id: *mut plasma_object_id,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (shared, out) = unsafe { (shared_of(shared)?, Out::new(object_id, "object_id")?) };
        out.set(shared.id().into());
        Ok(())
    })
}

/// Closes the handle. The tensor stays open for as long as there is another handle of this client, or something exported. NULL is fine.
/// A lock that a thread still has when all are closed, or when the thread ends, is the next one's, who is told as if this process had died.
///
/// # Safety
/// `shared` is NULL or a live handle, which is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_shared_close(shared: *mut tensor_shared) {
    // SAFETY: as the caller promised.
    guard::value((), || drop(unsafe { guard::take(shared.cast::<SharedTensor>()) }));
}
