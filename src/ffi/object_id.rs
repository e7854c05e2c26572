//! Object ids by value: random, from bytes, to and from hex, from a name.

use std::ffi::c_char;

use crate::error::{Error, Result};
use crate::ffi::guard::{self, Out};
use crate::ffi::status::plasma_status;
use crate::object::{OBJECT_ID_SIZE, ObjectId};

/// The name of an object: 20 opaque bytes, passed by value.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct plasma_object_id {
    /// The bytes.
    pub bytes: [u8; 20],
}

impl From<plasma_object_id> for ObjectId {
    fn from(id: plasma_object_id) -> Self {
        Self::new(id.bytes)
    }
}

impl From<ObjectId> for plasma_object_id {
    fn from(id: ObjectId) -> Self {
        Self { bytes: *id.as_bytes() }
    }
}

/// The id that a pointer points at.
///
/// # Safety
/// `id` is NULL or points at an id.
pub(super) unsafe fn read(id: *const plasma_object_id) -> Result<ObjectId> {
    // SAFETY: as the caller promised.
    unsafe { guard::borrow(id, "object_id") }.map(|id| (*id).into())
}

/// Makes an id of 160 random bits.
///
/// # Safety
/// `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_id_random(out: *mut plasma_object_id) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let out = unsafe { Out::new(out, "out") }?;
        out.set(ObjectId::random()?.into());
        Ok(())
    })
}

/// Makes an id of `size` bytes, which must be 20.
///
/// # Safety
/// `bytes` points at `size` bytes; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_id_from_bytes(
    bytes: *const u8,
    size: usize,
    out: *mut plasma_object_id,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (bytes, out) = unsafe { (guard::array(bytes, size, "bytes")?, Out::new(out, "out")?) };
        out.set(ObjectId::from_bytes(bytes)?.into());
        Ok(())
    })
}

/// Reads an id from 40 hex digits.
///
/// # Safety
/// `hex` is a NUL-terminated text; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_id_from_hex(hex: *const c_char, out: *mut plasma_object_id) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (hex, out) = unsafe { (guard::text(hex, "hex")?, Out::new(out, "out")?) };
        let hex = hex.ok_or_else(|| Error::InvalidArgument("hex is NULL".into()))?;
        out.set(hex.parse::<ObjectId>()?.into());
        Ok(())
    })
}

/// Writes an id as 40 lower-case hex digits and a NUL, 41 bytes, to `out`.
///
/// # Safety
/// `object_id` points at an id; 41 bytes at `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_id_to_hex(
    object_id: *const plasma_object_id,
    out: *mut c_char,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised; the array has the 41 bytes that `out` has.
        let (id, out) = unsafe { (read(object_id)?, Out::new(out.cast::<[u8; 2 * OBJECT_ID_SIZE + 1]>(), "out")?) };
        let mut text = [0; 2 * OBJECT_ID_SIZE + 1];
        text[..2 * OBJECT_ID_SIZE].copy_from_slice(id.to_string().as_bytes());
        out.set(text);
        Ok(())
    })
}

/// Makes the id of a name: the first 20 bytes of SHA-256(name_space, one zero byte, name). The same in every language.
///
/// `name_space` may be NULL, which is the same as "".
///
/// # Safety
/// Both are NUL-terminated texts; `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plasma_object_id_from_name(
    name_space: *const c_char,
    name: *const c_char,
    out: *mut plasma_object_id,
) -> plasma_status {
    guard::status(|| {
        // SAFETY: as the caller promised.
        let (space, name, out) =
            unsafe { (guard::text(name_space, "name_space")?, guard::text(name, "name")?, Out::new(out, "out")?) };
        let name = name.ok_or_else(|| Error::InvalidArgument("name is NULL".into()))?;
        out.set(ObjectId::from_name(space.unwrap_or_default(), name).into());
        Ok(())
    })
}

const _: () = assert!(size_of::<plasma_object_id>() == OBJECT_ID_SIZE);
