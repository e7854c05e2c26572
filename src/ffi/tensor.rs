//! Tensors: DLPack in, DLPack out.

use crate::client::Client;
use crate::client::tensor::{Tensor, TensorOptions};
use crate::error::{Error, Result};
use crate::ffi::buffer::{give_writable, plasma_buffer, shared_memory};
use crate::ffi::client::{client_of, create_options, get_options, plasma_client};
use crate::ffi::guard::{self, Filled, Options, Out};
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::status::plasma_status;
use crate::object::ObjectId;
use crate::tensor::arrow_ipc;
use crate::tensor::dlpack::{
    self, DLDataType, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY, DLTensor,
};
use crate::tensor::layout::{Layout, MAX_DIMENSIONS};

/// How to store a tensor. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_write_options {
    /// `sizeof(tensor_write_options)`.
    pub struct_size: usize,
    /// `PLASMA_CREATE_*`, or-ed.
    pub flags: u32,
    /// The user's metadata; may be NULL when there is none.
    pub metadata: *const u8,
    /// Bytes of metadata.
    pub metadata_size: u64,
    /// As in `plasma_create_options`.
    pub ttl_ms: i64,
    /// As in `plasma_create_options`.
    pub wait_ms: i64,
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the caller's
// promise.
unsafe impl Options for tensor_write_options {}

/// What an object's bytes say of the tensor in them. Set `struct_size` to the size of the struct before it is filled.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_description {
    /// `sizeof(tensor_description)`.
    pub struct_size: usize,
    /// The first element, valid until the buffer is released.
    pub data: *mut u8,
    /// Flags of DLPack: `DLPACK_FLAG_BITMASK_READ_ONLY` for what must not be written.
    pub flags: u32,
    /// Element type.
    pub dtype: DLDataType,
    /// How many dimensions there are, at most 32.
    pub ndim: i32,
    /// Elements along each dimension; 0 in the places that are left.
    pub shape: [i64; 32],
    /// Bytes from one element to the next along each dimension, which is not what DLPack counts; 0 in the places that are left.
    pub byte_strides: [i64; 32],
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, and the rest are integers.
unsafe impl Options for tensor_description {}

/// # Safety
/// `options` is NULL or as long as it says, with as much metadata as it says.
unsafe fn write_options<'a>(options: *const tensor_write_options) -> Result<TensorOptions<'a>> {
    // SAFETY: as the caller promised.
    let Some(options) = (unsafe { guard::options(options, "options") })? else { return Ok(TensorOptions::default()) };
    // SAFETY: as the caller promised.
    let metadata = unsafe { guard::bytes(options.metadata, options.metadata_size, "metadata") }?;
    Ok(TensorOptions { create: create_options(options.flags, options.ttl_ms, options.wait_ms)?, metadata })
}

/// # Safety
/// `shape` is NULL or has `ndim` entries.
unsafe fn layout_of(dtype: DLDataType, ndim: i32, shape: *const i64) -> Result<Layout> {
    let dimensions = usize::try_from(ndim).ok().filter(|&dimensions| dimensions <= MAX_DIMENSIONS);
    let ndim =
        dimensions.ok_or_else(|| Error::InvalidArgument(format!("ndim {ndim} is not in 0..={MAX_DIMENSIONS}")))?;
    // SAFETY: as the caller promised.
    let shape = unsafe { guard::array(shape, ndim, "shape") }?;
    Layout::row_major(dlpack::dtype(dtype)?, shape.to_vec())
}

/// What every call that creates a tensor is told, but for its layout.
struct NewTensor<'a> {
    client: &'a Client,
    id: ObjectId,
    options: TensorOptions<'a>,
}

impl<'a> NewTensor<'a> {
    /// # Safety
    /// `client` is NULL or a live handle, `object_id` NULL or an id, `options` NULL or as long as it says.
    unsafe fn read(
        client: *const plasma_client,
        object_id: *const plasma_object_id,
        options: *const tensor_write_options,
    ) -> Result<Self> {
        // SAFETY: as the caller promised.
        let (client, id, options) =
            unsafe { (client_of(client)?, object_id::read(object_id)?, write_options(options)?) };
        Ok(Self { client, id, options })
    }

    fn create(&self, layout: &Layout) -> Result<Tensor> {
        self.client.tensor_create(self.id, layout, self.options)
    }
}

fn managed(tensor: Tensor) -> *mut DLManagedTensor {
    let data = tensor.data();
    dlpack::export(tensor.memory, data, &tensor.layout)
}

fn managed_versioned(tensor: Tensor) -> *mut DLManagedTensorVersioned {
    let (data, flags) = (tensor.data(), flags_of(&tensor));
    dlpack::export_versioned(tensor.memory, data, &tensor.layout, flags)
}

fn flags_of(tensor: &Tensor) -> u64 {
    if tensor.is_read_only() { DLPACK_FLAG_BITMASK_READ_ONLY } else { 0 }
}

fn description_of(tensor: &Tensor) -> tensor_description {
    let layout = &tensor.layout;
    let filled_up = |entries: &[i64], factor: i64| {
        let mut all = [0; MAX_DIMENSIONS];
        // All of them span less than 2^63 bytes.
        all.iter_mut().zip(entries).for_each(|(place, entry)| *place = entry.saturating_mul(factor));
        all
    };
    tensor_description {
        struct_size: size_of::<tensor_description>(),
        data: tensor.data(),
        flags: flags_of(tensor) as u32,
        dtype: dlpack::element_type(layout.dtype()),
        ndim: layout.shape().len() as i32,
        shape: filled_up(layout.shape(), 1),
        byte_strides: filled_up(layout.strides(), layout.dtype().item_size() as i64),
    }
}

/// Tells how many bytes of data an object needs for a tensor: what `tensor_write` will take of the store, metadata apart.
///
/// # Safety
/// `tensor` is NULL or a valid tensor; `bytes` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_size(tensor: *const DLTensor, bytes: *mut u64) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (view, out) = unsafe { (dlpack::view(tensor)?, Out::new(bytes, "bytes")?) };
        out.set(arrow_ipc::message_size(&view.layout));
        Ok(())
    })
}

/// Stores a copy of a CPU tensor as a sealed object. Any strides; a column-major tensor stays one, others become row-major.
///
/// `options` may be NULL. The tensor stays the caller's. When this fails there is no object.
///
/// Errors: `PLASMA_UNSUPPORTED` for a dtype or device that cannot be stored, `PLASMA_INVALID_ARGUMENT` for shapes and strides
/// that cannot be, `PLASMA_OBJECT_EXISTS`, `PLASMA_STORE_FULL`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id, `tensor` NULL or a valid tensor that nobody writes meanwhile;
/// `options` is NULL or as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_write(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    tensor: *const DLTensor,
    options: *const tensor_write_options,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (new, view) = unsafe { (NewTensor::read(client, object_id, options)?, dlpack::view(tensor)?) };
        new.client.tensor_put(new.id, &view.layout, new.options, |data| {
            // SAFETY: the view is valid as the caller promised; there is room for just these bytes, and it is nobody else's.
            unsafe { dlpack::copy_packed(&view, data, view.layout.nbytes(), new.client.copier()) }
        })
    })
}

/// Creates an object for a row-major tensor, to be filled in place: fill `(*out)->dl_tensor.data`, then `plasma_seal`, and
/// call the deleter when done, before or after the seal.
///
/// `shape` has `ndim` entries; `options` may be NULL.
///
/// Errors: as for `tensor_write`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id, `shape` has `ndim` entries, `options` is NULL or as long as it
/// says; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_create(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    dtype: DLDataType,
    ndim: i32,
    shape: *const i64,
    options: *const tensor_write_options,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (new, out) = unsafe { (NewTensor::read(client, object_id, options)?, Out::new(out, "out")?) };
        // SAFETY: as the caller promised.
        out.set(managed(new.create(&unsafe { layout_of(dtype, ndim, shape) }?)?));
        Ok(())
    })
}

/// The same as `tensor_create`, but gives the buffer; `tensor_from_buffer` makes any number of tensors of it.
///
/// # Safety
/// As for `tensor_create`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_create_buffer(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    dtype: DLDataType,
    ndim: i32,
    shape: *const i64,
    options: *const tensor_write_options,
    out: *mut *mut plasma_buffer,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (new, out) = unsafe { (NewTensor::read(client, object_id, options)?, Out::new(out, "out")?) };
        // SAFETY: as the caller promised.
        let tensor = new.create(&unsafe { layout_of(dtype, ndim, shape) }?)?;
        out.set(give_writable(tensor.memory)?);
        Ok(())
    })
}

/// Gets a tensor without a copy, waiting at most `timeout_ms` for it: -1 waits without limit, 0 does not wait.
///
/// The caller calls `(*out)->deleter(*out)` when done, in any thread, also after the client was freed. The memory is
/// read-only, which this struct cannot say: writing it is a fault. Use `tensor_read_versioned` where the consumer looks at flags.
///
/// Errors: `PLASMA_TIMEOUT`, `PLASMA_INTERRUPTED`, `PLASMA_CORRUPT` when the object is no tensor.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_read(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    timeout_ms: i64,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) = unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out, "out")?) };
        out.set(managed(client.tensor_read(id, timeout_ms, get_options(0)?)?));
        Ok(())
    })
}

/// The same with the struct of DLPack 1.x, whose flags say that the memory is read-only.
///
/// `flags` are `PLASMA_GET_*`; with `PLASMA_GET_PRIVATE` the tensor can be written, and what is written stays in this process.
///
/// Errors: as for `tensor_read`.
///
/// # Safety
/// As for `tensor_read`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_read_versioned(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    timeout_ms: i64,
    flags: u32,
    out: *mut *mut DLManagedTensorVersioned,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) = unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out, "out")?) };
        out.set(managed_versioned(client.tensor_read(id, timeout_ms, get_options(flags)?)?));
        Ok(())
    })
}

/// The tensor in a buffer that the caller has: from `plasma_get`, where several can be got at once, or
/// `tensor_create_buffer`. Shares the buffer's hold; both are released on their own.
///
/// Errors: `PLASMA_CORRUPT` when the buffer holds no tensor.
///
/// # Safety
/// `buffer` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_from_buffer(
    buffer: *const plasma_buffer,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (shared_memory(buffer)?, Out::new(out, "out")?) };
        out.set(managed(memory.tensor()?));
        Ok(())
    })
}

/// The same with the struct of DLPack 1.x, whose flags say whether the memory is read-only.
///
/// # Safety
/// As for `tensor_from_buffer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_from_buffer_versioned(
    buffer: *const plasma_buffer,
    out: *mut *mut DLManagedTensorVersioned,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (shared_memory(buffer)?, Out::new(out, "out")?) };
        out.set(managed_versioned(memory.tensor()?));
        Ok(())
    })
}

/// Tells of the tensor in a buffer what `tensor_from_buffer_versioned` would, and makes nothing that is to be freed.
///
/// Errors: `PLASMA_CORRUPT` when the buffer holds no tensor.
///
/// # Safety
/// `buffer` is NULL or a live handle; `out` is NULL or as long as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_describe(buffer: *const plasma_buffer, out: *mut tensor_description) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (shared_memory(buffer)?, Filled::new(out, "out")?) };
        out.set(description_of(&memory.tensor()?));
        Ok(())
    })
}

const _: () = assert!(MAX_DIMENSIONS == 32, "as many as the arrays of tensor_description have");
