//! Tensors: DLPack in, DLPack out.

use std::ffi::c_char;
use std::ptr;

use crate::client::Client;
use crate::client::tensor::{Tensor, TensorOptions};
use crate::error::{Error, Result};
use crate::ffi::buffer::{give_writable, plasma_buffer, shared_memory};
use crate::ffi::client::{client_of, create_options, get_options, plasma_client};
use crate::ffi::guard::{self, Filled, Options, Out, TextOut};
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::status::plasma_status;
use crate::object::ObjectId;
use crate::tensor::arrow_ipc;
use crate::tensor::dlpack::{
    self, DLDataType, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY, DLTensor, TensorView,
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
    /// Names of the dimensions: as many texts in UTF-8 as there are dimensions, where NULL is no name. NULL: none has a name.
    pub dimension_names: *const *const c_char,
    /// As in `plasma_create_options`.
    pub name: *const c_char,
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the caller's
// promise.
unsafe impl Options for tensor_write_options {}

/// Give a copy: writable, in memory of its own that nothing else lies in. DLPack 1.x flags it as one.
pub const PLASMA_VIEW_COPY: u32 = 1;

/// Which view of a tensor. Set `struct_size` to the size of the struct.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_view_options {
    /// `sizeof(tensor_view_options)`.
    pub struct_size: usize,
    /// `PLASMA_VIEW_*`, or-ed.
    pub flags: u32,
    /// How many dimensions the view has, at most 32.
    pub ndim: i32,
    /// Elements along each dimension. NULL: the whole tensor as it lies, whatever the fields beside this say.
    pub shape: *const i64,
    /// From one element to the next along each dimension, in elements. NULL: row-major without gaps.
    pub strides: *const i64,
    /// From the first element of the tensor to that of the view, in elements.
    pub offset: i64,
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the caller's
// promise.
unsafe impl Options for tensor_view_options {}

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
    /// Bytes from one element to the next along each dimension, which is not what DLPack counts; 0 in the places that are left,
    /// and where elements share bytes: such tensors are row-major without gaps.
    pub byte_strides: [i64; 32],
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, and the rest are integers.
unsafe impl Options for tensor_description {}

/// # Safety
/// `options` is NULL or as long as it says, with as much metadata and as many names as it says.
unsafe fn write_options<'a>(options: *const tensor_write_options) -> Result<(TensorOptions<'a>, Names)> {
    // SAFETY: as the caller promised.
    let Some(options) = (unsafe { guard::options(options, "options") })? else {
        return Ok((TensorOptions::default(), ptr::null()));
    };
    // SAFETY: as the caller promised.
    let metadata = unsafe { guard::bytes(options.metadata, options.metadata_size, "metadata") }?;
    // SAFETY: as the caller promised.
    let create = unsafe { create_options(options.flags, options.ttl_ms, options.wait_ms, options.name) }?;
    Ok((TensorOptions { create, metadata, names: &[] }, options.dimension_names))
}

/// Texts of C, as many as the tensor has dimensions, or NULL.
type Names = *const *const c_char;

/// # Safety
/// `names` is NULL or has `ndim` entries, each NULL or a text that nobody changes during `'a`.
unsafe fn dimension_names<'a>(names: Names, ndim: usize) -> Result<Vec<&'a str>> {
    if names.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: as the caller promised.
    let names = unsafe { guard::array(names, ndim, "dimension_names") }?;
    let text = |(axis, name): (usize, &*const c_char)| {
        // SAFETY: as the caller promised.
        let text = unsafe { guard::text(*name, &format!("dimension_names[{axis}]")) }?;
        Ok(text.unwrap_or_default())
    };
    names.iter().enumerate().map(text).collect()
}

/// # Safety
/// `shape` is NULL or has `ndim` entries.
pub(super) unsafe fn layout_of(dtype: DLDataType, ndim: i32, shape: *const i64) -> Result<Layout> {
    let ndim = dimensions(ndim)?;
    // SAFETY: as the caller promised.
    let shape = unsafe { guard::array(shape, ndim, "shape") }?;
    Layout::row_major(dlpack::dtype(dtype)?, shape.to_vec())
}

fn dimensions(ndim: i32) -> Result<usize> {
    let dimensions = usize::try_from(ndim).ok().filter(|&dimensions| dimensions <= MAX_DIMENSIONS);
    dimensions.ok_or_else(|| Error::InvalidArgument(format!("ndim {ndim} is not in 0..={MAX_DIMENSIONS}")))
}

/// What every call that creates a tensor is told, but for its layout.
struct NewTensor<'a> {
    client: &'a Client,
    id: ObjectId,
    options: TensorOptions<'a>,
    names: Names,
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
        let (client, id, (options, names)) =
            unsafe { (client_of(client)?, object_id::read(object_id)?, write_options(options)?) };
        Ok(Self { client, id, options, names })
    }

    /// # Safety
    /// The options that were read have as many names, if any, as the layout has dimensions.
    unsafe fn create(&self, layout: &Layout) -> Result<Tensor> {
        // SAFETY: as the caller promised.
        let names = unsafe { dimension_names(self.names, layout.shape().len()) }?;
        self.client.tensor_create(self.id, layout, TensorOptions { names: &names, ..self.options })
    }

    /// Stores a copy of the tensor.
    ///
    /// # Safety
    /// The view is valid, nobody writes to it, and else as for `create`.
    unsafe fn write(&self, view: &TensorView) -> Result<()> {
        let layout = view.stored()?;
        // SAFETY: as the caller promised.
        let names = unsafe { dimension_names(self.names, layout.shape().len()) }?;
        let options = TensorOptions { names: &names, ..self.options };
        self.client.tensor_put(self.id, &layout, options, |data| {
            // SAFETY: the view is valid as the caller promised; there is room for just these bytes, and it is nobody else's.
            unsafe { dlpack::copy_packed(view, data, layout.nbytes(), self.client.copier()) }
        })
    }
}

/// What of a buffer's tensor is asked for.
struct Viewed {
    tensor: Tensor,
    as_copy: bool,
}

impl Viewed {
    /// # Safety
    /// `buffer` is NULL or a live handle; `options` is NULL or as long as it says, with as many sizes and strides as it says.
    unsafe fn read(buffer: *const plasma_buffer, options: *const tensor_view_options) -> Result<Self> {
        // SAFETY: as the caller promised.
        let (memory, options) = unsafe { (shared_memory(buffer)?, guard::options(options, "options")?) };
        let tensor = memory.tensor()?;
        let Some(options) = options else { return Ok(Self { tensor, as_copy: false }) };
        let as_copy = guard::known_flags(options.flags, PLASMA_VIEW_COPY, "view options")? != 0;
        if options.shape.is_null() {
            return Ok(Self { tensor, as_copy });
        }
        let ndim = dimensions(options.ndim)?;
        // SAFETY: as the caller promised.
        let shape = unsafe { guard::array(options.shape, ndim, "shape") }?.to_vec();
        let strides = if options.strides.is_null() {
            Layout::row_major(tensor.layout.dtype(), shape.clone())?.strides().to_vec()
        } else {
            // SAFETY: as the caller promised.
            unsafe { guard::array(options.strides, ndim, "strides") }?.to_vec()
        };
        Ok(Self { tensor: tensor.view(shape, strides, options.offset)?, as_copy })
    }
}

/// A tensor as it lies; or a copy, where its elements are not aligned to their size.
pub(super) fn managed(tensor: Tensor) -> Result<*mut DLManagedTensor> {
    if !tensor.is_aligned() {
        // SAFETY: the tensor lies in the object's memory, which it keeps.
        return unsafe { dlpack::export_copy(&source(&tensor)) };
    }
    let data = tensor.data();
    Ok(dlpack::export(tensor.memory, data, &tensor.layout))
}

/// The same as DLPack 1.x has it.
pub(super) fn managed_versioned(tensor: Tensor) -> Result<*mut DLManagedTensorVersioned> {
    if !tensor.is_aligned() {
        // SAFETY: the tensor lies in the object's memory, which it keeps.
        return unsafe { dlpack::export_copy_versioned(&source(&tensor)) };
    }
    let (data, flags) = (tensor.data(), flags_of(&tensor));
    Ok(dlpack::export_versioned(tensor.memory, data, &tensor.layout, flags))
}

fn source(tensor: &Tensor) -> TensorView {
    TensorView { layout: tensor.layout.clone(), data: tensor.data(), padded: None }
}

fn flags_of(tensor: &Tensor) -> u64 {
    if tensor.is_read_only() { DLPACK_FLAG_BITMASK_READ_ONLY } else { 0 }
}

pub(super) fn description_of(tensor: &Tensor) -> tensor_description {
    described(&tensor.layout, tensor.data(), flags_of(tensor))
}

/// Elements that lie like this, from there on.
pub(super) fn described(layout: &Layout, data: *mut u8, flags: u64) -> tensor_description {
    let is_packed = layout.dtype().is_packed();
    let filled_up = |entries: &[i64], factor: i64| {
        let mut all = [0; MAX_DIMENSIONS];
        // All of them span less than 2^63 bytes.
        all.iter_mut().zip(entries).for_each(|(place, entry)| *place = entry.saturating_mul(factor));
        all
    };
    tensor_description {
        struct_size: size_of::<tensor_description>(),
        data,
        flags: flags as u32,
        dtype: dlpack::element_type(layout.dtype()),
        ndim: layout.shape().len() as i32,
        shape: filled_up(layout.shape(), 1),
        byte_strides: filled_up(layout.strides(), if is_packed { 0 } else { layout.dtype().item_size() as i64 }),
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
        out.set(arrow_ipc::message_size(&view.stored()?)?);
        Ok(())
    })
}

/// Stores a copy of a CPU tensor as a sealed object. Any strides; a column-major tensor stays one, others become row-major.
///
/// All element types of DLPack 1.x with one lane, and two 4-bit floats in a byte. Elements of less than a byte lie row-major,
/// as many in a byte as fit (but see `tensor_write_versioned`). Complex numbers have at most 31 dimensions.
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
        unsafe { NewTensor::read(client, object_id, options)?.write(&dlpack::view(tensor)?) }
    })
}

/// The same with the struct of DLPack 1.x, whose flags may say that elements of less than a byte have a byte each
/// (`DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED`): their low bits are stored, as many elements in a byte as fit.
///
/// The tensor stays the caller's: its deleter is not called.
///
/// Errors: as for `tensor_write`; `PLASMA_UNSUPPORTED` also for another major version.
///
/// # Safety
/// As for `tensor_write`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_write_versioned(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    tensor: *const DLManagedTensorVersioned,
    options: *const tensor_write_options,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        unsafe { NewTensor::read(client, object_id, options)?.write(&dlpack::view_versioned(tensor)?) }
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
        out.set(managed(unsafe { new.create(&layout_of(dtype, ndim, shape)?) }?)?);
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
        let tensor = unsafe { new.create(&layout_of(dtype, ndim, shape)?) }?;
        out.set(give_writable(tensor.memory)?);
        Ok(())
    })
}

/// Gets a tensor without a copy, waiting at most `timeout_ms` for it: -1 waits without limit, 0 does not wait.
///
/// The caller calls `(*out)->deleter(*out)` when done, in any thread, also after the client was freed. The memory is
/// read-only, which this struct cannot say: writing it is a fault. Use `tensor_read_versioned` where the consumer looks at flags.
///
/// Errors: `PLASMA_TIMEOUT`, `PLASMA_INTERRUPTED`, `PLASMA_CORRUPT` when the object is no tensor, `PLASMA_UNSUPPORTED` when its
/// metadata say that its elements are of a type that is not known here.
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
        out.set(managed(client.tensor_read(id, timeout_ms, get_options(0)?)?)?);
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
        out.set(managed_versioned(client.tensor_read(id, timeout_ms, get_options(flags)?)?)?);
        Ok(())
    })
}

/// The tensor in a buffer that the caller has: from `plasma_get`, where several can be got at once, or
/// `tensor_create_buffer`. Shares the buffer's hold; both are released on their own.
///
/// Errors: `PLASMA_CORRUPT` when the buffer holds no tensor, `PLASMA_UNSUPPORTED` for an element type that is not known here.
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
        out.set(managed(memory.tensor()?)?);
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
        out.set(managed_versioned(memory.tensor()?)?);
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

/// Some rows of the tensor in a buffer: `count` indices of its first dimension, from `first` on. The others are not read, so
/// this costs the same for the rows of a tensor of any size.
///
/// Shares the buffer's hold; both are released on their own.
///
/// Errors: as for `tensor_from_buffer`; `PLASMA_INVALID_ARGUMENT` when the tensor has not so many rows; `PLASMA_UNSUPPORTED` where
/// elements share bytes and these rows begin within one.
///
/// # Safety
/// As for `tensor_from_buffer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_rows(
    buffer: *const plasma_buffer,
    first: u64,
    count: u64,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (shared_memory(buffer)?, Out::new(out, "out")?) };
        out.set(managed(memory.tensor()?.rows(first, count)?)?);
        Ok(())
    })
}

/// The same with the struct of DLPack 1.x, whose flags say whether the memory is read-only.
///
/// # Safety
/// As for `tensor_rows`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_rows_versioned(
    buffer: *const plasma_buffer,
    first: u64,
    count: u64,
    out: *mut *mut DLManagedTensorVersioned,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (shared_memory(buffer)?, Out::new(out, "out")?) };
        out.set(managed_versioned(memory.tensor()?.rows(first, count)?)?);
        Ok(())
    })
}

/// Another view of the tensor in a buffer: transposed, with gaps, reversed, of another shape; or a copy of it. No element is
/// read, except for a copy.
///
/// NULL options: the whole tensor, as `tensor_from_buffer` gives it. Shares the buffer's hold, except for a copy, which is in
/// memory of its own.
///
/// Errors: as for `tensor_from_buffer`; `PLASMA_INVALID_ARGUMENT` when the view reaches beyond the tensor; `PLASMA_UNSUPPORTED`
/// where elements share bytes and the view is not row-major or begins within a byte; `PLASMA_OUT_OF_MEMORY` for a copy.
///
/// # Safety
/// `buffer` is NULL or a live handle; `options` is NULL or as long as it says, with `ndim` sizes, and strides if there are any;
/// `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_view(
    buffer: *const plasma_buffer,
    options: *const tensor_view_options,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (out, viewed) = unsafe { (Out::new(out, "out")?, Viewed::read(buffer, options)?) };
        out.set(match viewed.as_copy {
            // SAFETY: the tensor lies in the object's memory, which it keeps.
            true => unsafe { dlpack::export_copy(&source(&viewed.tensor)) }?,
            false => managed(viewed.tensor)?,
        });
        Ok(())
    })
}

/// The same with the struct of DLPack 1.x, whose flags say whether the memory is read-only and whether this is a copy.
///
/// # Safety
/// As for `tensor_view`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_view_versioned(
    buffer: *const plasma_buffer,
    options: *const tensor_view_options,
    out: *mut *mut DLManagedTensorVersioned,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (out, viewed) = unsafe { (Out::new(out, "out")?, Viewed::read(buffer, options)?) };
        out.set(match viewed.as_copy {
            // SAFETY: the tensor lies in the object's memory, which it keeps.
            true => unsafe { dlpack::export_copy_versioned(&source(&viewed.tensor)) }?,
            false => managed_versioned(viewed.tensor)?,
        });
        Ok(())
    })
}

/// Writes the name of a dimension of the tensor in a buffer to `out`, cut to `size` bytes with a NUL at the end; "" for none.
///
/// `*length` gets the length of the whole name without its NUL. `out` may be NULL when `size` is 0.
///
/// Errors: as for `tensor_from_buffer`; `PLASMA_INVALID_ARGUMENT` when there is no such dimension.
///
/// # Safety
/// `buffer` is NULL or a live handle; `size` bytes at `out`, and `length`, may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_dimension_name(
    buffer: *const plasma_buffer,
    dimension: i32,
    out: *mut c_char,
    size: usize,
    length: *mut usize,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (shared_memory(buffer)?, TextOut::new(out, size, length)?) };
        let tensor = memory.tensor()?;
        let ndim = tensor.layout.shape().len();
        let axis = usize::try_from(dimension).ok().filter(|&axis| axis < ndim);
        let axis = axis.ok_or_else(|| {
            Error::InvalidArgument(format!("dimension {dimension} is not one of the {ndim} that the tensor has"))
        })?;
        out.set(tensor.names.get(axis).map_or("", String::as_str));
        Ok(())
    })
}

const _: () = assert!(MAX_DIMENSIONS == 32, "as many as the arrays of tensor_description have");
