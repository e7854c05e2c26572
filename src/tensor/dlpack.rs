//! Tensors of other libraries in, managed tensors out: the DLPack structs and the pointers inside them.
//!
//! The only file of `tensor` with `unsafe`. What comes in is checked into a [`Layout`] at once; what goes out carries
//! a keep-alive that its deleter drops, on whatever thread the consumer calls it.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use dlpack_rs::ffi::DLDeviceType;
pub use dlpack_rs::ffi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY, DLTensor,
};
use dlpack_rs::safe::{TensorInfo, cpu_device, pack, pack_versioned};

use super::dtype::DType;
use super::layout::{CopyPlan, Layout, MAX_DIMENSIONS};
use crate::error::{Error, Result};

/// A tensor that somebody else owns, checked: every element that `layout` reaches from `data` has an address.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// Element type, shape and strides; any strides.
    pub layout: Layout,
    /// The first element, `byte_offset` included. May be NULL when there are no elements.
    pub data: *const u8,
}

/// Checks a `DLTensor`, in this order: pointer, device, dtype, dimensions, shape, strides, data, byte offset.
/// NULL strides mean row-major.
///
/// # Errors
/// [`Error::InvalidArgument`] or, for another device or dtype, [`Error::Unsupported`], with the number that was wrong.
///
/// # Safety
/// `tensor` is NULL or points to a `DLTensor` whose `shape` and `strides`, where not NULL, have `ndim` entries.
pub unsafe fn view(tensor: *const DLTensor) -> Result<TensorView> {
    // SAFETY: NULL or a valid DLTensor, by the contract; nothing writes to it during this call.
    let tensor = unsafe { tensor.as_ref() }.ok_or_else(|| invalid("tensor is NULL".to_owned()))?;
    check_device(tensor.device)?;
    let dtype = dtype(tensor.dtype)?;
    let ndim = usize::try_from(tensor.ndim).ok().filter(|&ndim| ndim <= MAX_DIMENSIONS);
    let ndim = ndim.ok_or_else(|| invalid(format!("ndim {} is not in 0..={MAX_DIMENSIONS}", tensor.ndim)))?;
    // SAFETY: where not NULL it has `ndim` entries, by the contract.
    let shape = unsafe { entries(tensor.shape, ndim) };
    let shape = shape.ok_or_else(|| invalid(format!("shape is NULL in a tensor of {ndim} dimensions")))?;
    // SAFETY: where not NULL it has `ndim` entries, by the contract.
    let layout = match unsafe { entries(tensor.strides, ndim) } {
        None => Layout::row_major(dtype, shape),
        Some(strides) => Layout::new(dtype, shape, strides),
    }?;
    let data = first_element(tensor, &layout)?;
    Ok(TensorView { layout, data })
}

/// The element type behind a `DLDataType`.
///
/// # Errors
/// [`Error::Unsupported`] naming the type, see [`DType::from_dlpack`].
pub fn dtype(dtype: DLDataType) -> Result<DType> {
    DType::from_dlpack(dtype.code, dtype.bits, dtype.lanes)
}

/// Copies the tensor's elements to `dst` as [`Layout::packed`] has them. Long runs that lie together are copied at once.
///
/// # Errors
/// [`Error::InvalidArgument`] with both numbers when `dst_len` is not [`Layout::nbytes`]; nothing was written then.
///
/// # Safety
/// The view's tensor is still valid and nobody writes to it; `dst` may be written for `dst_len` bytes and does not
/// overlap the tensor.
pub unsafe fn copy_packed(view: &TensorView, dst: *mut u8, dst_len: u64) -> Result<()> {
    let nbytes = view.layout.nbytes();
    if dst_len != nbytes {
        return Err(invalid(format!("tensor of {nbytes} bytes does not go into a space of {dst_len}")));
    }
    let plan = view.layout.copy_plan();
    // SAFETY: the plan visits exactly the elements of the view and `nbytes` bytes of `dst`, all valid by the contract.
    unsafe {
        match plan.run {
            1 => copy_runs::<1>(view.data, dst, &plan),
            2 => copy_runs::<2>(view.data, dst, &plan),
            4 => copy_runs::<4>(view.data, dst, &plan),
            8 => copy_runs::<8>(view.data, dst, &plan),
            _ => copy_runs::<0>(view.data, dst, &plan),
        }
    }
    Ok(())
}

/// A managed tensor over `data`, which lie as `layout` says. `keep` is what keeps them valid: the deleter drops it.
///
/// The caller, or the consumer it hands the tensor to, calls the deleter once. `strides` is never NULL.
pub fn export<K: Send + 'static>(keep: K, data: *mut u8, layout: &Layout) -> *mut DLManagedTensor {
    // dlpack-rs builds the struct and its deleter rightly, given what it leaves to its caller and we add here: strides
    // (`contiguous` leaves them NULL, which DLPack forbids since 1.2), `Send`, and a drop that does not panic.
    pack(Quiet::new(keep), tensor_info(data, layout))
}

/// The same as DLPack 1.0 has it, with `flags`: [`DLPACK_FLAG_BITMASK_READ_ONLY`] for data that must not be written.
pub fn export_versioned<K: Send + 'static>(
    keep: K,
    data: *mut u8,
    layout: &Layout,
    flags: u64,
) -> *mut DLManagedTensorVersioned {
    pack_versioned(Quiet::new(keep), tensor_info(data, layout), flags)
}

/// The `DLDataType` of an element type.
pub fn element_type(dtype: DType) -> DLDataType {
    DLDataType { code: dtype.code(), bits: dtype.bits(), lanes: dtype.lanes() }
}

fn tensor_info(data: *mut u8, layout: &Layout) -> TensorInfo {
    let dtype = element_type(layout.dtype());
    TensorInfo::strided(data.cast::<c_void>(), cpu_device(), dtype, layout.shape().to_vec(), layout.strides().to_vec())
}

/// A keep-alive whose drop never unwinds: a deleter is called from C, where a panic would end the process.
struct Quiet<K>(ManuallyDrop<K>);

impl<K> Quiet<K> {
    fn new(keep: K) -> Self {
        Self(ManuallyDrop::new(keep))
    }
}

impl<K> Drop for Quiet<K> {
    fn drop(&mut self) {
        // SAFETY: dropped here only, and not used again after this.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.0) }));
        // The panic hook has told already. The payload is leaked because its own drop could panic as well.
        dropped.unwrap_or_else(std::mem::forget);
    }
}

fn check_device(device: DLDevice) -> Result<()> {
    if device.device_type == DLDeviceType::kDLCPU {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "tensor is on device type {} id {}, only CPU tensors (device type {}) can be stored",
        device.device_type,
        device.device_id,
        DLDeviceType::kDLCPU
    )))
}

/// A copy of `count` numbers; `None` when the pointer is NULL though there are some.
///
/// # Safety
/// `pointer` is NULL or valid for reading `count` entries.
unsafe fn entries(pointer: *const i64, count: usize) -> Option<Vec<i64>> {
    if count == 0 {
        return Some(Vec::new());
    }
    // SAFETY: not NULL here, and valid for `count` entries by the contract.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer, count) }.to_vec())
}

/// The address of the first element, once it is sure that every element has one.
fn first_element(tensor: &DLTensor, layout: &Layout) -> Result<*const u8> {
    let data = tensor.data.cast_const().cast::<u8>();
    if layout.elements() == 0 {
        return Ok(data);
    }
    if data.is_null() {
        return Err(invalid(format!("data is NULL in a tensor of {} bytes", layout.nbytes())));
    }
    let offset = tensor.byte_offset;
    let first = usize::try_from(offset).ok().and_then(|offset| data.addr().checked_add(offset));
    let span = layout.span();
    let all = first.filter(|first| {
        // Both ends: the lowest byte must not lie below address 0, nor the highest beyond the last address.
        i64::try_from(*first).is_ok_and(|first| first + span.start >= 0 && first.checked_add(span.end).is_some())
    });
    match all {
        Some(first) => Ok(data.with_addr(first)),
        None => Err(invalid(format!(
            "byte offset {offset} puts the tensor's bytes {span:?} outside the address space (data at {data:?})"
        ))),
    }
}

/// Copies runs of `RUN` bytes, known when compiling so that a copy is one move; 0: of `plan.run` bytes.
///
/// # Safety
/// Every run of the plan lies in memory valid for reading from `src`; `dst` is valid for writing all of them.
unsafe fn copy_runs<const RUN: usize>(src: *const u8, mut dst: *mut u8, plan: &CopyPlan) {
    let run = if RUN == 0 { plan.run } else { RUN };
    for row in plan.rows() {
        for index in 0..plan.row {
            // SAFETY: the offset is inside the tensor's span, and `dst` has advanced by what was written before.
            unsafe {
                src.offset((row + index * plan.step) as isize).copy_to_nonoverlapping(dst, run);
                dst = dst.add(run);
            }
        }
    }
}

fn invalid(text: String) -> Error {
    Error::InvalidArgument(text)
}
