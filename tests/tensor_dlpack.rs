//! DLPack in and out: any view is compacted as a plain loop would, nonsense is refused by number, deleters run once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail by panicking")]

#[path = "support/random.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod random;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plasma_store::error::Error;
use plasma_store::shm::copy::{Copier, SHARED_FROM, STREAMED_FROM};
use plasma_store::tensor::dlpack::{
    self, DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY, DLTensor,
};
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;
use random::Random;

/// A DLTensor whose arrays live beside it.
struct Tensor {
    raw: DLTensor,
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
}

const CPU: DLDevice = DLDevice { device_type: 1, device_id: 0 };
const FLOAT32: DLDataType = DLDataType { code: 2, bits: 32, lanes: 1 };

impl Tensor {
    fn new(data: *const u8, dtype: DLDataType, shape: &[i64], strides: Option<&[i64]>) -> Self {
        let (data, ndim) = (data.cast_mut().cast::<c_void>(), shape.len() as i32);
        let raw = DLTensor { data, device: CPU, ndim, dtype, shape: null_mut(), strides: null_mut(), byte_offset: 0 };
        Self { raw, shape: shape.to_vec(), strides: strides.map(<[i64]>::to_vec) }
    }

    /// What `dlpack::view` says, after `change` has had its way.
    fn view_with(&mut self, change: impl FnOnce(&mut DLTensor)) -> Result<dlpack::TensorView, Error> {
        self.raw.shape = self.shape.as_mut_ptr();
        self.raw.strides = self.strides.as_mut().map_or(null_mut(), |strides| strides.as_mut_ptr());
        change(&mut self.raw);
        // SAFETY: the arrays have as many entries as there are dimensions, or `change` says a number that is refused.
        unsafe { dlpack::view(&self.raw) }
    }

    fn view(&mut self) -> Result<dlpack::TensorView, Error> {
        self.view_with(|_| ())
    }
}

fn pack(view: &dlpack::TensorView) -> Vec<u8> {
    pack_with(view, 1)
}

/// Bytes before and behind what is packed, that nobody may write.
const GUARD: [u8; 64] = [0xee; 64];

fn pack_with(view: &dlpack::TensorView, threads: usize) -> Vec<u8> {
    let size = view.layout.nbytes() as usize;
    let mut packed = [&GUARD[..], &vec![0xaa; size], &GUARD].concat();
    let copier = Copier::new(threads).unwrap();
    // SAFETY: the views of these tests lie inside buffers that live through the call.
    unsafe { dlpack::copy_packed(view, packed[64..].as_mut_ptr(), size as u64, copier) }.unwrap();
    assert!(packed.starts_with(&GUARD) && packed.ends_with(&GUARD), "{:?}", view.layout);
    packed[64..64 + size].to_vec()
}

/// The elements in row-major order (or, for a tensor that is kept so, column-major), one by one from `memory`.
fn naive(memory: &[u8], first: usize, layout: &Layout) -> Vec<u8> {
    let item = layout.dtype().item_size();
    let mut axes: Vec<usize> = (0..layout.shape().len()).collect();
    if layout.is_row_major() || !layout.is_column_major() {
        axes.reverse();
    }
    let mut bytes = Vec::new();
    for element in 0..layout.shape().iter().product::<i64>() {
        let (mut rest, mut at) = (element, first as i64);
        for &axis in &axes {
            at += rest % layout.shape()[axis] * layout.strides()[axis] * item as i64;
            rest /= layout.shape()[axis];
        }
        bytes.extend_from_slice(&memory[at as usize..at as usize + item]);
    }
    bytes
}

#[test]
fn any_view_is_compacted_like_a_plain_loop() {
    // Shape and strides in elements; the first element lies in the middle of the memory.
    let views: [(&[i64], &[i64]); 16] = [
        (&[], &[]),
        (&[0, 3], &[3, 1]),
        (&[2, 0, 3], &[i64::MIN, i64::MAX, 0]),
        (&[7], &[1]),
        (&[7], &[3]),
        (&[7], &[-1]),
        (&[4, 5], &[5, 1]),
        (&[4, 5], &[1, 4]),
        (&[4, 5], &[9, 1]),
        (&[4, 5], &[-5, 1]),
        (&[4, 5], &[5, -1]),
        (&[4, 5], &[0, 1]),
        (&[4, 5, 3], &[0, 0, 0]),
        (&[2, 3, 4], &[4, 8, 1]),
        (&[2, 1, 3, 1, 4], &[1, i64::MAX, 8, i64::MIN, 2]),
        (&[3, 2, 2, 3], &[-1, 40, -20, 6]),
    ];
    let memory: Vec<u8> = (0..4096).map(|at| (at % 251) as u8).collect();
    for dtype in DType::all().filter(|dtype| !dtype.is_packed()) {
        let wire = dlpack::element_type(dtype);
        for (shape, strides) in views {
            let mut tensor = Tensor::new(memory.as_ptr(), wire, shape, Some(strides));
            let view = tensor.view_with(|raw| raw.byte_offset = 2048).unwrap();
            assert_eq!((view.layout.shape(), view.layout.strides()), (shape, strides));
            assert_eq!(pack(&view), naive(&memory, 2048, &view.layout), "{dtype} {shape:?} {strides:?}");
        }
    }
}

#[test]
fn random_views_are_compacted_like_a_plain_loop() {
    let memory: Vec<u8> = (0..1 << 16).map(|at| (at % 251) as u8).collect();
    let (dtypes, mut numbers) = (DType::all().filter(|dtype| !dtype.is_packed()).collect::<Vec<_>>(), Random(7));
    let mut played = 0;
    for round in 0..3000 {
        let dtype = dtypes[numbers.below(dtypes.len() as u64) as usize];
        let wire = dlpack::element_type(dtype);
        let ndim = numbers.below(6) as usize;
        let shape: Vec<i64> = (0..ndim).map(|_| numbers.below(7) as i64).collect();
        // Half of the strides continue the dimension before, so that some are merged.
        let (mut dense, mut strides) = (1, vec![0; ndim]);
        for axis in (0..ndim).rev() {
            strides[axis] = if numbers.below(2) == 0 { dense } else { numbers.below(81) as i64 - 40 };
            dense = strides[axis] * shape[axis];
        }
        let middle = memory.len() / 2;
        let reach: i64 = shape.iter().zip(&strides).map(|(size, stride)| size * stride.abs()).sum();
        if (reach + 1) * 16 >= middle as i64 {
            continue; // It would not lie in the memory.
        }
        played += 1;
        let mut tensor = Tensor::new(memory.as_ptr(), wire, &shape, Some(&strides));
        let view = tensor.view_with(|raw| raw.byte_offset = middle as u64).unwrap();
        let (threads, expected) = (numbers.below(4) as usize, naive(&memory, middle, &view.layout));
        assert_eq!(pack_with(&view, threads), expected, "round {round}: {dtype} {shape:?} {strides:?}");
    }
    assert!(played > 2000, "only {played}");
}

#[test]
fn large_views_are_compacted_whatever_the_rows_and_the_threads() {
    let total = SHARED_FROM as i64 + 3 * 4096;
    let memory: Vec<u8> = (0..2 * total + (1 << 20)).map(|at| (at % 251 + at / 4096) as u8).collect();
    let byte = DLDataType { code: 1, bits: 8, lanes: 1 };
    // Bytes in a row, and from the beginning of one to that of the next; reversed, where this is negative.
    for (row, step) in [
        (1, 2),
        (8, 9),
        (1000, 1024),
        (20_000, 20_001),
        (65_536, -131_072),
        (70_000, 70_100),
        (3 << 20, (3 << 20) + 64),
        (STREAMED_FROM as i64 + 1, STREAMED_FROM as i64 + 7),
        (total, 0),
    ] {
        let shape = [(total / row).max(1), row];
        let first = if step < 0 { -step * (shape[0] - 1) } else { 0 };
        let mut tensor = Tensor::new(memory.as_ptr(), byte, &shape, Some(&[step, 1]));
        let view = tensor.view_with(|raw| raw.byte_offset = first as u64).unwrap();
        let expected: Vec<u8> = (0..shape[0])
            .flat_map(|index| &memory[(first + index * step) as usize..][..row as usize])
            .copied()
            .collect();
        for threads in 1..=4 {
            assert!(pack_with(&view, threads) == expected, "{threads} threads, rows of {row}");
        }
    }
}

#[test]
fn null_strides_mean_row_major() {
    let values = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let mut tensor = Tensor::new(values.as_ptr().cast(), FLOAT32, &[2, 3], None);
    let view = tensor.view().unwrap();
    assert_eq!(view.layout.strides(), [3, 1]);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(pack(&view), bytes);
}

#[test]
fn a_space_of_another_size_is_not_written() {
    let values = [1_u8; 6];
    let view = Tensor::new(values.as_ptr(), DLDataType { code: 1, bits: 8, lanes: 1 }, &[6], None).view().unwrap();
    let mut space = [0; 8];
    for size in [0, 5, 7, 8] {
        // SAFETY: the space is at least that large.
        let error =
            unsafe { dlpack::copy_packed(&view, space.as_mut_ptr(), size, Copier::ALONE) }.unwrap_err().to_string();
        assert!(error.contains('6') && error.contains(&size.to_string()), "{error}");
    }
    assert_eq!(space, [0; 8]);
}

#[test]
fn tensors_without_elements_or_dimensions_need_no_pointers() {
    let view = Tensor::new(null(), FLOAT32, &[3, 0], None).view().unwrap();
    assert!(view.data.is_null() && pack(&view).is_empty());
    let value = 7.0_f32;
    let mut scalar = Tensor::new((&raw const value).cast(), FLOAT32, &[], None);
    let view = scalar.view_with(|raw| raw.shape = null_mut()).unwrap();
    assert_eq!(pack(&view), value.to_le_bytes());
}

#[test]
fn nonsense_is_refused_in_order_and_by_number() {
    // SAFETY: NULL is what the call must take.
    let error = unsafe { dlpack::view(null()) }.unwrap_err();
    assert!(error.to_string().contains("tensor is NULL"), "{error}");

    let values = [0.0_f32; 64];
    // Each is wrong in everything that the ones behind it are wrong in, so the order shows as well.
    type Change = fn(&mut DLTensor);
    let changes: [(Change, &str); 5] = [
        (|raw| raw.device = DLDevice { device_type: 2, device_id: 7 }, "device type 2 id 7"),
        (|raw| raw.dtype = DLDataType { code: 4, bits: 24, lanes: 1 }, "bfloat24 (DLPack code 4, bits 24, lanes 1)"),
        (|raw| raw.ndim = -3, "ndim -3"),
        (|raw| (raw.shape, raw.ndim) = (null_mut(), 2), "shape is NULL in a tensor of 2 dimensions"),
        (|raw| raw.data = null_mut(), "data is NULL in a tensor of 24 bytes"),
    ];
    for first in 0..changes.len() {
        let mut tensor = Tensor::new(values.as_ptr().cast(), FLOAT32, &[2, 3], None);
        let wrong = |raw: &mut DLTensor| changes[first..].iter().rev().for_each(|(change, _)| change(raw));
        let error = tensor.view_with(wrong).unwrap_err();
        assert!(error.to_string().contains(changes[first].1), "{error}");
        assert_eq!(matches!(error, Error::Unsupported(_)), first < 2, "{error}");
    }
}

#[test]
fn overflows_are_refused_by_number() {
    let values = [0.0_f32; 64];
    let data = values.as_ptr().cast();
    type Case = (&'static [i64], Option<&'static [i64]>, u64, &'static str);
    let cases: [Case; 8] = [
        (&[2, -3], None, 0, "-3"),
        (&[i64::MAX, 2], None, 0, "9223372036854775807"),
        (&[1 << 31, 1 << 31], None, 0, "2147483648"),
        (&[2, 3], Some(&[i64::MAX, 1]), 0, "9223372036854775807"),
        (&[2, 3], Some(&[i64::MIN / 4, 1]), 0, "-2305843009213693952"),
        (&[3], Some(&[(1 << 60) - 1]), 0, "byte offset 0"),
        (&[3], Some(&[-(1 << 59)]), 0, "byte offset 0"),
        (&[3], None, u64::MAX, "byte offset 18446744073709551615"),
    ];
    for (shape, strides, offset, number) in cases {
        let error = Tensor::new(data, FLOAT32, shape, strides).view_with(|raw| raw.byte_offset = offset).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
        assert!(error.to_string().contains(number), "{shape:?} {strides:?}: {error}");
    }
    let error = Tensor::new(data, FLOAT32, &[1], None).view_with(|raw| raw.ndim = 33).unwrap_err();
    assert!(error.to_string().contains("33"), "{error}");
}

fn packed_dtypes() -> impl Iterator<Item = DType> {
    DType::all().filter(|dtype| dtype.is_packed())
}

#[test]
fn elements_below_a_byte_are_copied_as_they_lie_or_refused() {
    let memory: Vec<u8> = (0..64_u32).map(|at| (at * 37 + 11) as u8).collect();
    for dtype in packed_dtypes() {
        let bytes = (15 * dtype.item_bits()).div_ceil(8) as usize;
        let wire = dlpack::element_type(dtype);
        for strides in [None, Some(&[5, 1][..])] {
            let view =
                Tensor::new(memory.as_ptr(), wire, &[3, 5], strides).view_with(|raw| raw.byte_offset = 3).unwrap();
            let mut expected = memory[3..3 + bytes].to_vec();
            // What is left of the last byte is nobody's.
            expected[bytes - 1] &= 0xff >> ((8 - 15 * dtype.item_bits() % 8) % 8);
            assert_eq!(pack(&view), expected, "{dtype}");
        }
        for strides in [[1, 3], [10, 2], [-5, 1], [0, 0]] {
            let error = Tensor::new(memory.as_ptr(), wire, &[3, 5], Some(&strides)).view().unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(dtype.name()), "{error}");
        }
        let none = Tensor::new(null(), wire, &[0, 5], None).view().unwrap();
        assert!(pack(&none).is_empty());
    }
}

/// What lies in a managed tensor of DLPack 1.x.
fn versioned(mut tensor: Tensor, flags: u64, major: u32) -> Result<(Layout, Vec<u8>), Error> {
    tensor.view_with(|raw| raw.byte_offset = 32)?;
    let managed = DLManagedTensorVersioned {
        version: dlpack_rs::ffi::DLPackVersion { major, minor: 0 },
        manager_ctx: null_mut(),
        deleter: None,
        flags,
        dl_tensor: tensor.raw,
    };
    // SAFETY: its arrays live until the end of this function.
    let view = unsafe { dlpack::view_versioned(&managed) }?;
    let layout = view.stored()?;
    let mut space = vec![0xaa; layout.nbytes() as usize];
    // SAFETY: the views of these tests lie inside buffers that live through the call.
    unsafe { dlpack::copy_packed(&view, space.as_mut_ptr(), layout.nbytes(), Copier::ALONE) }?;
    Ok((layout, space))
}

/// Bit `number` of some bytes, the lowest of the first one being number 0.
fn bit(bytes: &[u8], number: usize) -> u8 {
    bytes[number / 8] >> (number % 8) & 1
}

#[test]
fn elements_with_a_byte_each_are_moved_together_wherever_they_lie() {
    let memory: Vec<u8> = (0..96_u32).map(|at| (at * 37 + 11) as u8).collect();
    let padded = u64::from(dlpack_rs::ffi::DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED);
    for dtype in packed_dtypes() {
        let (wire, bits) = (dlpack::element_type(dtype), dtype.item_bits() as usize);
        // Also checks the tensor as if it were packed, which only row-major ones can be.
        for strides in [[5, 1], [1, 3], [-10, 2], [0, 1], [7, 1]] {
            let mut tensor = Tensor::new(memory.as_ptr(), wire, &[3, 5], Some(&strides));
            tensor.raw.byte_offset = 32;
            tensor.raw.shape = tensor.shape.as_mut_ptr();
            tensor.raw.strides = tensor.strides.as_mut().unwrap().as_mut_ptr();
            let managed = DLManagedTensorVersioned {
                version: dlpack_rs::ffi::DLPackVersion { major: 1, minor: 3 },
                manager_ctx: null_mut(),
                deleter: None,
                flags: padded,
                dl_tensor: tensor.raw,
            };
            // SAFETY: the arrays live beside it.
            let view = unsafe { dlpack::view_versioned(&managed) }.unwrap();
            let layout = view.stored().unwrap();
            assert_eq!((layout.dtype(), layout.strides()), (dtype, &[5, 1][..]));
            let mut space = vec![0xaa; layout.nbytes() as usize];
            // SAFETY: the view lies inside the memory, and the space has this length.
            unsafe { dlpack::copy_packed(&view, space.as_mut_ptr(), layout.nbytes(), Copier::ALONE) }.unwrap();
            for element in 0..15 {
                let at = 32 + (element as i64 / 5 * strides[0] + element as i64 % 5 * strides[1]);
                for place in 0..bits {
                    let expected = memory[at as usize] >> place & 1;
                    assert_eq!(bit(&space, element * bits + place), expected, "{dtype} {strides:?} {element}");
                }
            }
            let left = 15 * bits..space.len() * 8;
            assert!(left.map(|number| bit(&space, number)).all(|bit| bit == 0));
        }
    }
    // Of types that fill their bytes the flag says nothing.
    let floats = Tensor::new(memory.as_ptr(), FLOAT32, &[3], None);
    assert_eq!(versioned(floats, padded, 1).unwrap().1, memory[32..44]);
}

#[test]
fn another_major_version_is_refused_by_number() {
    let memory = [0_u8; 64];
    let tensor = Tensor::new(memory.as_ptr(), FLOAT32, &[3], None);
    let error = versioned(tensor, 0, 2).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains("DLPack 2.0"), "{error}");
    // SAFETY: NULL is what the call must take.
    assert!(unsafe { dlpack::view_versioned(null()) }.unwrap_err().to_string().contains("tensor is NULL"));
}

#[test]
fn copies_say_so_and_lie_apart() {
    let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
    for strides in [[12, 4, 1], [12, -1, 4]] {
        let mut tensor = Tensor::new(values.as_ptr().cast(), FLOAT32, &[2, 3, 3], Some(&strides));
        let view = tensor.view_with(|raw| raw.byte_offset = 8).unwrap();
        // SAFETY: the view lies in `values`.
        let (old, new) = unsafe { (dlpack::export_copy(&view), dlpack::export_copy_versioned(&view)) };
        let (old, new) = (old.unwrap(), new.unwrap());
        // SAFETY: both were just made, and are deleted only below.
        unsafe {
            assert_eq!((*new).flags, dlpack_rs::ffi::DLPACK_FLAG_BITMASK_IS_COPIED);
            for copied in [&(*old).dl_tensor, &(*new).dl_tensor] {
                assert_eq!(copied.data.addr() % 64, 0);
                let again = dlpack::view(copied).unwrap();
                assert_eq!(pack(&again), pack(&view));
                copied.data.cast::<f32>().write(-1.0);
            }
        }
        delete(old);
        delete_versioned(new);
    }
    assert_eq!(values[2], 2.0);
    let huge = Layout::row_major(DType::from_dlpack(1, 8, 1).unwrap(), vec![i64::MAX]).unwrap();
    let view = dlpack::TensorView { layout: huge, data: null(), padded: None };
    // SAFETY: there is no memory to copy it to, so it is not read.
    let error = unsafe { dlpack::export_copy(&view) }.unwrap_err().to_string();
    assert!(error.contains("9223372036854775807 bytes"), "{error}");
}

/// Counts its drops.
struct Keep(Arc<AtomicUsize>);

impl Drop for Keep {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Panics when dropped, with a payload that panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Fuse);
    }
}

struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        panic!("the payload's drop");
    }
}

fn delete(tensor: *mut DLManagedTensor) {
    // SAFETY: a tensor from `export`, deleted once.
    unsafe { (*tensor).deleter.unwrap()(tensor) }
}

fn delete_versioned(tensor: *mut DLManagedTensorVersioned) {
    // SAFETY: a tensor from `export_versioned`, deleted once.
    unsafe { (*tensor).deleter.unwrap()(tensor) }
}

fn layout(shape: &[i64]) -> Layout {
    Layout::row_major(DType::from_dlpack(2, 32, 1).unwrap(), shape.to_vec()).unwrap()
}

#[test]
fn exports_say_what_the_layout_says() {
    let mut values = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let data = values.as_mut_ptr().cast::<u8>();
    for shape in [&[2, 3][..], &[6], &[], &[0, 2]] {
        let layout = layout(shape);
        let (old, new) = (
            dlpack::export((), data, &layout),
            dlpack::export_versioned((), data, &layout, DLPACK_FLAG_BITMASK_READ_ONLY),
        );
        // SAFETY: both were just made.
        let tensors = unsafe { [&(*old).dl_tensor, &(*new).dl_tensor] };
        for tensor in tensors {
            assert!(!tensor.strides.is_null() && !tensor.shape.is_null());
            assert_eq!((tensor.device.device_type, tensor.device.device_id, tensor.byte_offset), (1, 0, 0));
            // SAFETY: exported tensors are valid.
            let view = unsafe { dlpack::view(tensor) }.unwrap();
            assert_eq!((view.layout, view.data), (layout.clone(), data.cast_const()));
        }
        // SAFETY: not deleted yet.
        unsafe { assert_eq!(((*new).version.major, (*new).flags), (1, 1)) };
        delete(old);
        delete_versioned(new);
    }
}

#[test]
fn deleters_drop_the_keep_alive_once_on_any_thread() {
    let drops = Arc::new(AtomicUsize::new(0));
    let old = dlpack::export(Keep(drops.clone()), null_mut(), &layout(&[0]));
    let new = dlpack::export_versioned(Keep(drops.clone()), null_mut(), &layout(&[0]), 0);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    let (old, new) = (old as usize, new as usize);
    std::thread::spawn(move || {
        delete(old as *mut DLManagedTensor);
        delete_versioned(new as *mut DLManagedTensorVersioned);
    })
    .join()
    .unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[test]
fn deleters_take_null_and_survive_panics() {
    let old = dlpack::export(Bomb, null_mut(), &layout(&[0]));
    let new = dlpack::export_versioned(Bomb, null_mut(), &layout(&[0]), 0);
    // SAFETY: the deleter takes NULL; the struct is still there to be asked for it.
    unsafe {
        (*old).deleter.unwrap()(null_mut());
        (*new).deleter.unwrap()(null_mut());
    }
    delete(old);
    delete_versioned(new);
}
