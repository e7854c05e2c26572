//! `tensor_bundle`: a boxed [`StoredBundle`]. Many named tensors in one object.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::Arc;

use crate::client::CreateOptions;
use crate::client::bundle::StoredBundle;
use crate::client::tensor::TensorMemory;
use crate::error::{Error, Result};
use crate::ffi::buffer::{give, give_writable, plasma_buffer, shared_memory};
use crate::ffi::client::{client_of, create_options, get_options, plasma_client};
use crate::ffi::guard::{self, Options, Out};
use crate::ffi::object_id::{self, plasma_object_id};
use crate::ffi::status::plasma_status;
use crate::ffi::tensor::{layout_of, managed, managed_versioned};
use crate::tensor::bundle::Plan;
use crate::tensor::dlpack::{
    self, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, DLTensor, TensorView,
};
use crate::tensor::layout::Layout;

/// A bundle that was got: named tensors in one object, which is byte for byte a safetensors file. It keeps the object's
/// memory, and so does each tensor of it. It does not change, and may be read in several threads at once.
#[derive(Debug)]
pub struct tensor_bundle {
    bundle: StoredBundle,
    names: Vec<CString>,
    metadata: Vec<(CString, CString)>,
}

/// A tensor that is to be stored in a bundle.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_bundle_item {
    /// Its name, in UTF-8. Not `__metadata__`, and nothing that begins with `__pad.`.
    pub name: *const c_char,
    /// The tensor, which stays the caller's. Any strides.
    pub tensor: *const DLTensor,
    /// Flags of DLPack, of which `DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED` is looked at: see
    /// `tensor_write_versioned`.
    pub flags: u64,
}

/// How to store a bundle. Set `struct_size` to the size of the struct; zero is the default of everything else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tensor_bundle_options {
    /// `sizeof(tensor_bundle_options)`.
    pub struct_size: usize,
    /// `PLASMA_CREATE_*`, or-ed.
    pub flags: u32,
    /// As in `plasma_create_options`.
    pub ttl_ms: i64,
    /// As in `plasma_create_options`.
    pub wait_ms: i64,
    /// What is to be said beside the tensors: so many keys, each another text in UTF-8.
    pub metadata_count: usize,
    /// The keys.
    pub metadata_keys: *const *const c_char,
    /// A text for each key.
    pub metadata_values: *const *const c_char,
    /// As in `plasma_create_options`.
    pub name: *const c_char,
}

// SAFETY: `repr(C)`, begins with its size; any bit pattern is a valid pointer value, which is only followed on the
// caller's
// promise.
unsafe impl Options for tensor_bundle_options {}

/// # Safety
/// `texts` points at `count` texts that nobody changes during `'a`.
unsafe fn texts<'a>(texts: *const *const c_char, count: usize, name: &str) -> Result<Vec<&'a str>> {
    // SAFETY: as the caller promised.
    let texts = unsafe { guard::array(texts, count, name) }?;
    // SAFETY: as the caller promised.
    texts.iter().enumerate().map(|(index, text)| unsafe { needed(*text, &format!("{name}[{index}]")) }).collect()
}

/// # Safety
/// `text` is NULL or a text that nobody changes during `'a`.
unsafe fn needed<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: as the caller promised.
    unsafe { guard::text(text, name) }?.ok_or_else(|| Error::InvalidArgument(format!("{name} is NULL")))
}

/// # Safety
/// As for [`texts`].
unsafe fn metadata_of(options: &tensor_bundle_options) -> Result<BTreeMap<String, String>> {
    let (keys, values, count) = (options.metadata_keys, options.metadata_values, options.metadata_count);
    // SAFETY: as the caller promised.
    let (keys, values) = unsafe { (texts(keys, count, "metadata_keys")?, texts(values, count, "metadata_values")?) };
    let metadata: BTreeMap<_, _> =
        keys.iter().zip(values).map(|(key, value)| (key.to_string(), value.into())).collect();
    match metadata.len() == count {
        true => Ok(metadata),
        false => Err(Error::InvalidArgument(format!("of {count} metadata_keys, {} differ", metadata.len()))),
    }
}

/// # Safety
/// The item's name is NULL or a text, and its tensor NULL or valid.
unsafe fn named_view(index: usize, item: &tensor_bundle_item) -> Result<(&str, TensorView)> {
    // SAFETY: as the caller promised.
    let name = unsafe { needed(item.name, &format!("items[{index}].name")) }?;
    let padded = item.flags & u64::from(DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0;
    // SAFETY: as the caller promised.
    named(name, unsafe { dlpack::view_of(item.tensor, padded) })
}

/// How an item is to lie; of its tensor only type and shape are looked at.
///
/// # Safety
/// As for [`named_view`].
unsafe fn named_layout(index: usize, item: &tensor_bundle_item) -> Result<(&str, Layout)> {
    // SAFETY: as the caller promised.
    let name = unsafe { needed(item.name, &format!("items[{index}].name")) }?;
    // SAFETY: as the caller promised.
    let tensor = unsafe { item.tensor.as_ref() }.ok_or_else(|| Error::InvalidArgument("tensor is NULL".to_owned()));
    // SAFETY: as the caller promised.
    named(name, tensor.and_then(|tensor| unsafe { layout_of(tensor.dtype, tensor.ndim, tensor.shape) }))
}

/// What came of a tensor, with its name in the error.
fn named<T>(name: &str, found: Result<T>) -> Result<(&str, T)> {
    match found {
        Ok(found) => Ok((name, found)),
        Err(Error::Unsupported(text)) => Err(Error::Unsupported(format!("tensor {name:?}: {text}"))),
        Err(Error::InvalidArgument(text)) => Err(Error::InvalidArgument(format!("tensor {name:?}: {text}"))),
        Err(error) => Err(error),
    }
}

/// # Safety
/// `options` is NULL or as long as it says, with as many keys and values as it says.
unsafe fn options_of<'a>(
    options: *const tensor_bundle_options,
) -> Result<(CreateOptions<'a>, BTreeMap<String, String>)> {
    // SAFETY: as the caller promised.
    let Some(given) = unsafe { guard::options(options, "options") }? else { return Ok(Default::default()) };
    // SAFETY: as the caller promised.
    let create = unsafe { create_options(given.flags, given.ttl_ms, given.wait_ms, given.name) }?;
    // SAFETY: as the caller promised.
    Ok((create, unsafe { metadata_of(&given) }?))
}

/// Stores copies of `count` named CPU tensors as one sealed object, which is byte for byte a safetensors file.
///
/// Each lies row-major, at a multiple of 64 bytes. `options` may be NULL. When this fails there is no object.
///
/// Errors: `PLASMA_UNSUPPORTED`, with the tensor's name, for what cannot be stored, and for element types that
/// safetensors does not have; `PLASMA_INVALID_ARGUMENT` for a name that comes twice or is not for tensors; else as for
/// `tensor_write`.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `items` points at `count` entries with valid tensors
/// that nobody writes meanwhile; `options` is NULL or as long as it says, with as many keys and values as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_write(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    items: *const tensor_bundle_item,
    count: usize,
    options: *const tensor_bundle_options,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, items, (create, metadata)) = unsafe {
            let items = guard::array(items, count, "items")?;
            (client_of(client)?, object_id::read(object_id)?, items, options_of(options)?)
        };
        // SAFETY: as the caller promised.
        let views = items.iter().enumerate().map(|(index, item)| unsafe { named_view(index, item) });
        let views = views.collect::<Result<Vec<_>>>()?;
        let layouts = views.iter().map(|(name, view)| Ok((*name, view.row_major()?))).collect::<Result<Vec<_>>>()?;
        let plan = Plan::new(&layouts, &metadata)?;
        let (buffer, draft) = client.bundle_draft(id, &plan, create)?;
        let mut places = views.iter().zip(&layouts).zip(&plan.offsets);
        let copied = places.try_for_each(|(((_, view), (_, layout)), offset)| {
            let place = buffer.data().cast_mut().wrapping_add(*offset as usize);
            // SAFETY: the view is valid as the caller promised; by the plan the new object has room for just these
            // bytes there.
            unsafe { dlpack::copy_row_major(view, place, layout.nbytes(), client.copier()) }
        });
        drop(buffer);
        copied.and_then(|()| draft.seal())
    })
}

/// Creates an object for a bundle, to be filled in place and then sealed with `plasma_seal`, and writes all but the tensors.
///
/// Of each item's tensor only `dtype`, `ndim` and `shape` are looked at: it will lie row-major, and elements of less than a byte
/// together. `*out` is to be released with `plasma_buffer_release`. `tensor_bundle_from_buffer` tells where each tensor lies, and
/// gives buffers that can be written.
///
/// Errors: as for `tensor_bundle_write`.
///
/// # Safety
/// As for `tensor_bundle_write`; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_create(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    items: *const tensor_bundle_item,
    count: usize,
    options: *const tensor_bundle_options,
    out: *mut *mut plasma_buffer,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, items, (create, metadata), out) = unsafe {
            let items = guard::array(items, count, "items")?;
            (client_of(client)?, object_id::read(object_id)?, items, options_of(options)?, Out::new(out, "out")?)
        };
        // SAFETY: as the caller promised.
        let layouts = items.iter().enumerate().map(|(index, item)| unsafe { named_layout(index, item) });
        let plan = Plan::new(&layouts.collect::<Result<Vec<_>>>()?, &metadata)?;
        let buffer = client.bundle_create(id, &plan, create)?;
        out.set(give_writable(Arc::new(TensorMemory::Writable(buffer)))?);
        Ok(())
    })
}

fn handle(bundle: StoredBundle) -> Result<*mut tensor_bundle> {
    let text = |text: &str| {
        CString::new(text)
            .map_err(|_| Error::Unsupported(format!("a bundle with a NUL in {text:?}, a name or metadata")))
    };
    let names = bundle.says.entries.iter().map(|entry| text(&entry.name)).collect::<Result<_>>()?;
    let metadata = bundle.says.metadata.iter().map(|(key, value)| Ok((text(key)?, text(value)?)));
    let metadata = metadata.collect::<Result<_>>()?;
    Ok(guard::give(tensor_bundle { bundle, names, metadata }))
}

/// Gets a bundle without a copy, waiting at most `timeout_ms` for it: -1 waits without limit, 0 does not wait. Any
/// safetensors file that was put as it is will do.
///
/// `flags` are `PLASMA_GET_*`. `*out` is to be freed with `tensor_bundle_free`.
///
/// Errors: `PLASMA_TIMEOUT`, `PLASMA_INTERRUPTED`; `PLASMA_CORRUPT`, with the tensor and the number that is wrong, when
/// the object is no bundle; `PLASMA_UNSUPPORTED` for a text with a NUL in it.
///
/// # Safety
/// `client` is NULL or a live handle, `object_id` NULL or an id; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_read(
    client: *mut plasma_client,
    object_id: *const plasma_object_id,
    timeout_ms: i64,
    flags: u32,
    out: *mut *mut tensor_bundle,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (client, id, out) = unsafe { (client_of(client)?, object_id::read(object_id)?, Out::new(out, "out")?) };
        out.set(handle(client.bundle_read(id, timeout_ms, get_options(flags)?)?)?);
        Ok(())
    })
}

/// The bundle in a buffer that the caller has. Shares the buffer's hold; both are released on their own.
///
/// Errors: as for `tensor_bundle_read`.
///
/// # Safety
/// `buffer` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_from_buffer(
    buffer: *const plasma_buffer,
    out: *mut *mut tensor_bundle,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (memory, out) = unsafe { (shared_memory(buffer)?, Out::new(out, "out")?) };
        out.set(handle(memory.bundle()?)?);
        Ok(())
    })
}

/// Number of tensors in a bundle, without those that only fill gaps. 0 for NULL.
///
/// # Safety
/// `bundle` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_size(bundle: *const tensor_bundle) -> usize {
    // SAFETY: as the caller promised.
    guard::value(0, || unsafe { bundle.as_ref() }.map_or(0, |bundle| bundle.names.len()))
}

/// Number of keys in a bundle's metadata. 0 for NULL.
///
/// # Safety
/// `bundle` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_metadata_size(bundle: *const tensor_bundle) -> usize {
    // SAFETY: as the caller promised.
    guard::value(0, || unsafe { bundle.as_ref() }.map_or(0, |bundle| bundle.metadata.len()))
}

fn nth<'a, T>(all: &'a [T], index: usize, what: &str) -> Result<&'a T> {
    all.get(index)
        .ok_or_else(|| Error::InvalidArgument(format!("index is {index}, and the bundle has {} {what}", all.len())))
}

/// The name of the tensor at `index`, in the order in which they lie. `*name` is valid until the bundle is freed.
///
/// # Safety
/// `bundle` is NULL or a live handle; `name` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_name(
    bundle: *const tensor_bundle,
    index: usize,
    name: *mut *const c_char,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (bundle, out) = unsafe { (guard::borrow(bundle, "bundle")?, Out::new(name, "name")?) };
        out.set(nth(&bundle.names, index, "tensors")?.as_ptr());
        Ok(())
    })
}

/// The key at `index` of a bundle's metadata, and its value. Both are valid until the bundle is freed.
///
/// # Safety
/// `bundle` is NULL or a live handle; `key` and `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_metadata(
    bundle: *const tensor_bundle,
    index: usize,
    key: *mut *const c_char,
    value: *mut *const c_char,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (bundle, key, value) =
            unsafe { (guard::borrow(bundle, "bundle")?, Out::new(key, "key")?, Out::new(value, "value")?) };
        let (its_key, its_value) = nth(&bundle.metadata, index, "keys of metadata")?;
        key.set(its_key.as_ptr());
        value.set(its_value.as_ptr());
        Ok(())
    })
}

/// The tensor of this name, without a copy, where its elements lie aligned to their size; else, which happens only with
/// files of others, a copy that is nobody else's. Shares the bundle's hold; both are released on their own.
///
/// The caller calls `(*out)->deleter(*out)` when done. The memory is read-only, as that of `tensor_read`.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` when there is no such tensor, `PLASMA_OUT_OF_MEMORY` for a copy.
///
/// # Safety
/// `bundle` is NULL or a live handle, `name` NULL or a NUL-terminated text; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_get(
    bundle: *const tensor_bundle,
    name: *const c_char,
    out: *mut *mut DLManagedTensor,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (index, bundle, out) =
            unsafe { (find(bundle, name)?, guard::borrow(bundle, "bundle")?, Out::new(out, "out")?) };
        out.set(managed(bundle.tensor(index)?.tensor()?)?);
        Ok(())
    })
}

/// The same with the struct of DLPack 1.x, whose flags say whether the memory is read-only and whether this is a copy.
///
/// # Safety
/// As for `tensor_bundle_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_get_versioned(
    bundle: *const tensor_bundle,
    name: *const c_char,
    out: *mut *mut DLManagedTensorVersioned,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (index, bundle, out) =
            unsafe { (find(bundle, name)?, guard::borrow(bundle, "bundle")?, Out::new(out, "out")?) };
        out.set(managed_versioned(bundle.tensor(index)?.tensor()?)?);
        Ok(())
    })
}

/// The tensor at `index` as a buffer of its own, of which `tensor_from_buffer`, `tensor_describe`, `tensor_rows` and
/// `tensor_view` make what they make of others. Its data are the elements, which lie where the file has them. Shares
/// the bundle's hold.
///
/// Errors: `PLASMA_INVALID_ARGUMENT` when there is no such tensor.
///
/// # Safety
/// `bundle` is NULL or a live handle; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_buffer(
    bundle: *const tensor_bundle,
    index: usize,
    out: *mut *mut plasma_buffer,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (bundle, out) = unsafe { (guard::borrow(bundle, "bundle")?, Out::new(out, "out")?) };
        out.set(give(bundle.tensor(index)?));
        Ok(())
    })
}

impl tensor_bundle {
    fn tensor(&self, index: usize) -> Result<Arc<TensorMemory>> {
        nth(&self.names, index, "tensors")?;
        self.bundle.tensor(index).ok_or_else(|| Error::InvalidArgument(format!("index is {index}")))
    }
}

/// # Safety
/// `bundle` is NULL or a live handle, `name` NULL or a text.
unsafe fn find(bundle: *const tensor_bundle, name: *const c_char) -> Result<usize> {
    // SAFETY: as the caller promised.
    let (bundle, name) = unsafe { (guard::borrow(bundle, "bundle")?, needed(name, "name")?) };
    let found = bundle.bundle.says.find(name);
    found.ok_or_else(|| {
        Error::InvalidArgument(format!("{name:?} is not one of the {} tensors in the bundle", bundle.names.len()))
    })
}

/// Frees a bundle. NULL is fine. Its tensors stay.
///
/// # Safety
/// `bundle` is NULL or a live handle, which ends here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensor_bundle_free(bundle: *mut tensor_bundle) {
    // SAFETY: as the caller promised.
    guard::value((), || drop(unsafe { guard::take(bundle) }));
}
