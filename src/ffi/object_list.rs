//! `plasma_object_list`: a boxed list of [`ObjectInfo`].

use crate::error::Error;
use crate::ffi::guard::{self, Filled, Options};
use crate::ffi::object_id::plasma_object_id;
use crate::ffi::status::plasma_status;
use crate::object::{ObjectInfo, ObjectState};

/// What `plasma_list` found. It does not change, and keeps no object alive. May be read in several threads at once.
#[derive(Debug)]
pub struct plasma_object_list(Vec<ObjectInfo>);

/// The object is being filled by its creator.
pub const PLASMA_STATE_CREATED: u32 = 1;
/// The object is sealed.
pub const PLASMA_STATE_SEALED: u32 = 2;

/// What is known of one object. Set `struct_size` before it is filled.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct plasma_object_info {
    /// `sizeof(plasma_object_info)`.
    pub struct_size: usize,
    /// Its id.
    pub id: plasma_object_id,
    /// `PLASMA_STATE_*`.
    pub state: u32,
    /// Bytes of data.
    pub data_size: u64,
    /// Bytes of metadata, with what this library appends for tensors.
    pub metadata_size: u64,
    /// When it was created, in seconds since 1970.
    pub create_time: i64,
    /// Seconds from create to seal, -1 while it is not sealed.
    pub construct_duration: i64,
    /// Connections that hold it.
    pub ref_count: u32,
    /// Whether it is pinned.
    pub pinned: bool,
}

// SAFETY: `repr(C)`, begins with its size, integers only.
unsafe impl Options for plasma_object_info {}

impl plasma_object_list {
    /// The handle of a list.
    pub(super) fn new(objects: Vec<ObjectInfo>) -> Self {
        Self(objects)
    }
}

/// Number of objects in the list. 0 for NULL.
///
/// # Safety
/// `list` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_list_size(list: *const plasma_object_list) -> usize {
    // SAFETY: as the caller promised.
    guard::value(0, || unsafe { list.as_ref() }.map_or(0, |list| list.0.len()))
}

/// Fills `*out`, whose `struct_size` must be set, with what is known of the object at `index`.
///
/// # Safety
/// `list` is NULL or a live handle; `out` is NULL or as long as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_list_get(
    list: *const plasma_object_list,
    index: usize,
    out: *mut plasma_object_info,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (list, out) = unsafe { (guard::borrow(list, "list")?, Filled::new(out, "out")?) };
        let object = list.0.get(index).ok_or_else(|| {
            Error::InvalidArgument(format!("index is {index}, and the list has {} objects", list.0.len()))
        })?;
        out.set(info_of(object));
        Ok(())
    })
}

fn info_of(object: &ObjectInfo) -> plasma_object_info {
    plasma_object_info {
        struct_size: size_of::<plasma_object_info>(),
        id: object.id.into(),
        state: match object.state {
            ObjectState::Created => PLASMA_STATE_CREATED,
            ObjectState::Sealed => PLASMA_STATE_SEALED,
        },
        data_size: object.data_size,
        metadata_size: object.metadata_size,
        create_time: object.create_time,
        construct_duration: object.construct_duration,
        ref_count: object.ref_count,
        pinned: object.pinned,
    }
}

/// Frees a list. NULL is fine.
///
/// # Safety
/// `list` is NULL or a live handle, which ends here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_list_free(list: *mut plasma_object_list) {
    // SAFETY: as the caller promised.
    guard::value((), || drop(unsafe { guard::take(list) }));
}
