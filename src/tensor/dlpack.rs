//! Tensors of other libraries in, managed tensors out: the DLPack structs and the pointers inside them.
//!
//! The only file of `tensor` with `unsafe`. What comes in is checked into a [`Layout`] at once; what goes out carries
//! a keep-alive that its deleter drops, on whatever thread the consumer calls it.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, slice};

use dlpack_rs::ffi::DLDeviceType;
pub use dlpack_rs::ffi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_IS_COPIED,
    DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, DLPACK_FLAG_BITMASK_READ_ONLY, DLPACK_MAJOR_VERSION, DLTensor,
};
use dlpack_rs::safe::{TensorInfo, cpu_device, pack, pack_versioned};

use super::dtype::DType;
use super::layout::{CopyPlan, Layout, MAX_DIMENSIONS};
use crate::error::{Error, Result};
use crate::shm::copy::{Copier, SHARED_FROM, STREAMED_FROM, finish_streams, stream};

/// A tensor that somebody else owns, checked: every element that `layout` reaches from `data` has an address.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// Element type, shape and strides; any strides.
    pub layout: Layout,
    /// The first element, `byte_offset` included. May be NULL when there are no elements.
    pub data: *const u8,
    /// The type of elements that are to share bytes, where each has a byte of its own here: `layout` is of bytes then.
    pub padded: Option<DType>,
}

impl TensorView {
    /// How the tensor will lie when it is stored.
    ///
    /// # Errors
    /// None: a tensor of fewer bits an element is no larger.
    pub fn stored(&self) -> Result<Layout> {
        match self.padded {
            Some(dtype) => Layout::row_major(dtype, self.layout.shape().to_vec()),
            None => Ok(self.layout.packed()),
        }
    }

    /// How it lies where it has to be row-major.
    ///
    /// # Errors
    /// As [`TensorView::stored`].
    pub fn row_major(&self) -> Result<Layout> {
        Layout::row_major(self.padded.unwrap_or(self.layout.dtype()), self.layout.shape().to_vec())
    }
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
    // SAFETY: as the caller promised.
    unsafe { view_of(tensor, false) }
}

/// The same for a tensor of DLPack 1.x, whose flags may say that elements below a byte have a byte each.
///
/// # Errors
/// As [`view`], and [`Error::Unsupported`] for another major version.
///
/// # Safety
/// `tensor` is NULL or points to a `DLManagedTensorVersioned`; if its version is 1, its tensor is as for [`view`].
pub unsafe fn view_versioned(tensor: *const DLManagedTensorVersioned) -> Result<TensorView> {
    if tensor.is_null() {
        return Err(invalid("tensor is NULL".to_owned()));
    }
    // SAFETY: not NULL; the version comes first in every version.
    let version = unsafe { (*tensor).version };
    if version.major != DLPACK_MAJOR_VERSION {
        let (major, minor) = (version.major, version.minor);
        return Err(Error::Unsupported(format!("tensor of DLPack {major}.{minor}; known is {DLPACK_MAJOR_VERSION}.x")));
    }
    // SAFETY: of this version, else as the caller promised.
    unsafe {
        let padded = (*tensor).flags & u64::from(DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0;
        view_of(&raw const (*tensor).dl_tensor, padded)
    }
}

/// The same as [`view`], where it is told apart from the tensor whether elements below a byte have a byte each.
///
/// # Errors
/// As [`view`].
///
/// # Safety
/// As for [`view`].
pub unsafe fn view_of(tensor: *const DLTensor, padded: bool) -> Result<TensorView> {
    // SAFETY: NULL or a valid DLTensor, by the contract; nothing writes to it during this call.
    let tensor = unsafe { tensor.as_ref() }.ok_or_else(|| invalid("tensor is NULL".to_owned()))?;
    check_device(tensor.device)?;
    let stored = dtype(tensor.dtype)?;
    let padded = (padded && stored.is_packed()).then_some(stored);
    let dtype = if padded.is_some() { stored.carrier() } else { stored };
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
    Ok(TensorView { layout, data, padded })
}

/// The element type behind a `DLDataType`.
///
/// # Errors
/// [`Error::Unsupported`] naming the type, see [`DType::from_dlpack`].
pub fn dtype(dtype: DLDataType) -> Result<DType> {
    DType::from_dlpack(dtype.code, dtype.bits, dtype.lanes)
}

/// Copies the tensor's elements to `dst` as [`TensorView::stored`] has them. What lies together is copied at once.
///
/// # Errors
/// [`Error::InvalidArgument`] with both numbers when `dst_len` is not its [`Layout::nbytes`]; nothing was written then.
///
/// # Safety
/// The view's tensor is still valid and nobody writes to it; `dst` may be written for `dst_len` bytes and does not
/// overlap the tensor.
pub unsafe fn copy_packed(view: &TensorView, dst: *mut u8, dst_len: u64, copier: Copier) -> Result<()> {
    // SAFETY: as the caller promised.
    unsafe { copy_by(&view.layout.copy_plan(), view, dst, dst_len, copier) }
}

/// The same with the elements as [`TensorView::row_major`] has them.
///
/// # Errors
/// As [`copy_packed`].
///
/// # Safety
/// As for [`copy_packed`].
pub unsafe fn copy_row_major(view: &TensorView, dst: *mut u8, dst_len: u64, copier: Copier) -> Result<()> {
    // SAFETY: as the caller promised.
    unsafe { copy_by(&view.layout.row_plan(), view, dst, dst_len, copier) }
}

/// # Safety
/// As for [`copy_packed`]; the plan is one of the view's layout.
unsafe fn copy_by(plan: &CopyPlan, view: &TensorView, dst: *mut u8, dst_len: u64, copier: Copier) -> Result<()> {
    let nbytes = view.stored()?.nbytes();
    if dst_len != nbytes {
        return Err(invalid(format!("tensor of {nbytes} bytes does not go into a space of {dst_len}")));
    }
    if let Some(dtype) = view.padded {
        // SAFETY: as the caller promised; so many bytes hold all elements.
        unsafe { pack_bits(view, dtype.item_bits(), dst) };
        return Ok(());
    }
    let packing = Packing { src: view.data, dst, plan, is_large: nbytes >= STREAMED_FROM as u64 };
    // Several threads work at one run at a time, or at one each.
    let (among_runs, within_run) =
        if plan.run < SHARED_FROM { (copier, Copier::ALONE) } else { (Copier::ALONE, copier) };
    among_runs.share_out(plan.runs() as usize, plan.run, |runs| {
        // SAFETY: the plan visits exactly the elements of the view and `nbytes` bytes of `dst`, all valid by the contract.
        unsafe { packing.copy(runs.start as u64..runs.end as u64, within_run) };
        finish_streams();
    });
    // SAFETY: as the caller promised, and all bytes were just written.
    unsafe { clear_what_is_left(&view.layout, dst) };
    Ok(())
}

/// Clears the bits behind the last element, so that equal tensors have equal bytes.
///
/// # Safety
/// `dst` may be read and written for [`Layout::nbytes`] bytes.
unsafe fn clear_what_is_left(layout: &Layout, dst: *mut u8) {
    let used = layout.elements().wrapping_mul(layout.dtype().item_bits().into()) % 8;
    if used > 0 {
        // SAFETY: there is a last byte, since some bits of it are used.
        unsafe { *dst.add(layout.nbytes() as usize - 1) &= (1 << used) - 1 };
    }
}

/// Moves the low bits of every byte of the view together, the first element to the low bits of the first byte.
///
/// # Safety
/// The view is valid, and `dst` may be written for all of its elements.
unsafe fn pack_bits(view: &TensorView, bits: u32, mut dst: *mut u8) {
    let plan = view.layout.row_plan();
    let (mut gathered, mut count) = (0_u32, 0);
    for (first, runs) in plan.rows(0..plan.runs()) {
        let begins = (0..runs).map(|run| first + run * plan.step);
        for at in begins.flat_map(|begin| begin..begin + plan.run as i64) {
            // SAFETY: the plan's runs lie inside the view.
            let element = u32::from(unsafe { view.data.offset(at as isize).read() }) & ((1 << bits) - 1);
            (gathered, count) = (gathered | element << count, count + bits);
            if count >= 8 {
                // SAFETY: so many bits were gathered, and the caller has room for those of all elements.
                dst = unsafe { put_byte(dst, gathered) };
                (gathered, count) = (gathered >> 8, count - 8);
            }
        }
    }
    if count > 0 {
        // SAFETY: as above.
        unsafe { put_byte(dst, gathered) };
    }
}

/// # Safety
/// `dst` may be written.
unsafe fn put_byte(dst: *mut u8, bits: u32) -> *mut u8 {
    // SAFETY: as the caller promised; at most one behind the end.
    unsafe {
        dst.write(bits as u8);
        dst.add(1)
    }
}

/// Memory of our own for a tensor, aligned as objects are.
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A copy of a tensor in memory of its own, dense, as a managed tensor that says so: writable, and nobody else's.
///
/// # Errors
/// [`Error::Io`] when there is no memory for it.
///
/// # Safety
/// As for [`copy_packed`].
pub unsafe fn export_copy(view: &TensorView) -> Result<*mut DLManagedTensor> {
    // SAFETY: as the caller promised.
    let (memory, data, layout) = unsafe { copied(view) }?;
    Ok(export(memory, data, &layout))
}

/// The same as DLPack 1.0 has it, with the flag that says that it is a copy.
///
/// # Errors
/// As [`export_copy`].
///
/// # Safety
/// As for [`copy_packed`].
pub unsafe fn export_copy_versioned(view: &TensorView) -> Result<*mut DLManagedTensorVersioned> {
    // SAFETY: as the caller promised.
    let (memory, data, layout) = unsafe { copied(view) }?;
    Ok(export_versioned(memory, data, &layout, DLPACK_FLAG_BITMASK_IS_COPIED))
}

/// # Safety
/// As for [`copy_packed`].
unsafe fn copied(view: &TensorView) -> Result<(Vec<Line>, *mut u8, Layout)> {
    let layout = view.stored()?;
    let mut memory = Vec::<Line>::new();
    let lines = usize::try_from(layout.nbytes().div_ceil(size_of::<Line>() as u64)).unwrap_or(usize::MAX);
    memory.try_reserve_exact(lines).map_err(|_| {
        Error::io(format!("memory for a copy of {} bytes", layout.nbytes()), io::ErrorKind::OutOfMemory.into())
    })?;
    let data = memory.as_mut_ptr().cast::<u8>();
    // SAFETY: the view is valid as the caller promised; the memory is new and has room for these bytes.
    unsafe { copy_packed(view, data, layout.nbytes(), Copier::ALONE) }?;
    Ok((memory, data, layout))
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

/// Runs of this length and more are worth going around the cache, when all of them together are.
const LONG_RUN: usize = 16 << 10;

/// A tensor on its way to where its elements will lie densely.
struct Packing<'a> {
    src: *const u8,
    dst: *mut u8,
    plan: &'a CopyPlan,
    is_large: bool,
}

// SAFETY: two addresses and what is only read; whoever follows the addresses answers for what lies there, in whatever thread.
unsafe impl Sync for Packing<'_> {}

impl Packing<'_> {
    /// Copies some of the runs. [`finish_streams`] is to follow.
    ///
    /// # Safety
    /// As for [`Packing::copy_each`].
    unsafe fn copy(&self, runs: Range<u64>, copier: Copier) {
        // SAFETY: as the caller promised.
        unsafe {
            match self.plan.run {
                1 => self.copy_short::<1>(runs),
                2 => self.copy_short::<2>(runs),
                4 => self.copy_short::<4>(runs),
                8 => self.copy_short::<8>(runs),
                run @ LONG_RUN..STREAMED_FROM if self.is_large => {
                    self.copy_each(runs, run, |from, to| stream(from, to, run));
                }
                run => self.copy_each(runs, run, |from, to| copier.copy(from, to, run)),
            }
        }
    }

    /// Copies runs of a length that is known when compiling, so that a copy is one move.
    ///
    /// # Safety
    /// As for [`Packing::copy_each`].
    unsafe fn copy_short<const RUN: usize>(&self, runs: Range<u64>) {
        // SAFETY: as the caller promised.
        unsafe { self.copy_each(runs, RUN, |from, to| from.copy_to_nonoverlapping(to, RUN)) };
    }

    /// Has each of these runs copied.
    ///
    /// # Safety
    /// The runs are the plan's, and `run` is their length. Every run of the plan lies in memory valid for reading from `src`;
    /// `dst` is valid for writing all of them.
    #[inline(always)]
    unsafe fn copy_each(&self, runs: Range<u64>, run: usize, copy_run: impl Fn(*const u8, *mut u8)) {
        // What is written might be this value, as far as the compiler knows; so everything is read from it before.
        let (src, step) = (self.src, self.plan.step);
        // SAFETY: behind the runs before, or at the end.
        let mut dst = unsafe { self.dst.add(runs.start as usize * run) };
        for (first, count) in self.plan.rows(runs) {
            for index in 0..count {
                // SAFETY: the offset is inside the tensor's span, and `dst` has advanced by what was written before.
                unsafe {
                    copy_run(src.offset((first + index * step) as isize), dst);
                    dst = dst.add(run);
                }
            }
        }
    }
}

fn invalid(text: String) -> Error {
    Error::InvalidArgument(text)
}
