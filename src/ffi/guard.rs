//! The border guard: the only place that turns C pointers into Rust values, and panics into statuses.
//!
//! What a pointer's target must be is the caller's promise, written at each exported function; what can be checked (NULL,
//! lengths, text) is checked here and answered with the argument's name.

use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use crate::error::{Error, Result};
use crate::ffi::status::{PLASMA_OK, PLASMA_PANIC, plasma_status, record, set_message};

/// An options struct longer than this is no options struct.
const MAX_OPTIONS_SIZE: usize = 4096;

/// Runs the body of a function that returns a status.
#[inline]
pub fn status(body: impl FnOnce() -> Result<()>) -> plasma_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => PLASMA_OK,
        Ok(Err(error)) => record(&error),
        Err(_) => {
            set_message("this library panicked; please report it");
            PLASMA_PANIC
        }
    }
}

/// Runs the body of a function that returns something else, and `otherwise` when it panics.
#[inline]
pub fn value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

fn null(name: &str) -> Error {
    Error::InvalidArgument(format!("{name} is NULL"))
}

/// What a pointer points at.
///
/// # Safety
/// `pointer` is NULL or points at a valid `T` that nobody changes during `'a`.
pub unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: as the caller promised.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// An out-parameter.
#[derive(Debug)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Checks that there is a place to write to, before anything is done that would have to be undone.
    ///
    /// # Safety
    /// `pointer` is NULL or may be written during the call.
    pub unsafe fn new(pointer: *mut T, name: &str) -> Result<Self> {
        if pointer.is_null() { Err(null(name)) } else { Ok(Self(pointer)) }
    }

    /// Writes the result.
    pub fn set(self, value: T) {
        // SAFETY: not NULL, and writable as promised to `new`; `write` reads nothing that may be uninitialised.
        unsafe { self.0.write(value) }
    }
}

/// A place for a text, and for its length.
#[derive(Debug)]
pub struct TextOut {
    out: *mut c_char,
    size: usize,
    length: Out<usize>,
}

impl TextOut {
    /// Checks that there are places to write to. `out` may be NULL when `size` is 0.
    ///
    /// # Safety
    /// `size` bytes at `out`, and `length`, are NULL or may be written during the call.
    pub unsafe fn new(out: *mut c_char, size: usize, length: *mut usize) -> Result<Self> {
        // SAFETY: as the caller promised.
        let length = unsafe { Out::new(length, "length") }?;
        if out.is_null() && size > 0 {
            return Err(Error::InvalidArgument(format!("out is NULL, and size is {size}")));
        }
        Ok(Self { out, size, length })
    }

    /// Writes the text, cut to the size with a NUL at the end, and the length that it has.
    pub fn set(self, text: &str) {
        if let Some(room) = self.size.checked_sub(1) {
            let count = room.min(text.len());
            // SAFETY: not NULL, and the caller promised `size` bytes, of which `count` and the NUL are written.
            unsafe {
                self.out.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), count);
                self.out.add(count).write(0);
            }
        }
        self.length.set(text.len());
    }
}

/// A boxed handle, for C to keep.
pub fn give<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Takes a handle back from C; NULL is nothing.
///
/// # Safety
/// `handle` is NULL or came from [`give`] and was not taken back before.
pub unsafe fn take<T>(handle: *mut T) -> Option<Box<T>> {
    // SAFETY: as the caller promised.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}

/// An array of C; `NULL` is fine when it is empty.
///
/// # Safety
/// `pointer` is NULL or points at `count` values of `T` that nobody changes during `'a`.
pub unsafe fn array<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(name));
    }
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Error::InvalidArgument(format!("{name} cannot have {count} entries")));
    }
    // SAFETY: not NULL, as long as the caller promised, and no longer than an object can be.
    Ok(unsafe { slice::from_raw_parts(pointer, count) })
}

/// Bytes with a 64-bit length.
///
/// # Safety
/// As for [`array`].
pub unsafe fn bytes<'a>(pointer: *const u8, size: u64, name: &str) -> Result<&'a [u8]> {
    let size = usize::try_from(size).map_err(|_| Error::InvalidArgument(format!("{name} cannot have {size} bytes")))?;
    // SAFETY: as the caller promised.
    unsafe { array(pointer, size, name) }
}

/// A text of C; `None` for NULL.
///
/// # Safety
/// `pointer` is NULL or points at a NUL-terminated text that nobody changes during `'a`.
pub unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, else as the caller promised.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map(Some).map_err(|error| Error::InvalidArgument(format!("{name} is not UTF-8: {error}")))
}

/// A struct that begins with its size, and for which all-zero bytes are the defaults.
///
/// # Safety
/// The type is `repr(C)`, its first field is a `usize` that holds the size, and every bit pattern is a valid value of it.
pub unsafe trait Options: Copy {}

/// Options as this version knows them: shorter structs are filled up with zeros; of longer ones, what is not known must be zero.
///
/// # Safety
/// `pointer` is NULL or points at as many bytes as its first field, a `size_t`, says.
pub unsafe fn options<T: Options>(pointer: *const T, name: &str) -> Result<Option<T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and it begins with a `size_t`; read unaligned, since C may have packed it.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    if !(size_of::<usize>()..=MAX_OPTIONS_SIZE).contains(&size) {
        let text = format!("{name}: struct_size is {size}; set it to the size of the struct");
        return Err(Error::InvalidArgument(text));
    }
    // SAFETY: the caller promised `size` bytes.
    let given = unsafe { slice::from_raw_parts(pointer.cast::<u8>(), size) };
    if given.iter().skip(size_of::<T>()).any(|byte| *byte != 0) {
        let text = format!("{name}: struct_size is {size}, and what is set beyond {} is not known", size_of::<T>());
        return Err(Error::Unsupported(text));
    }
    let mut options = MaybeUninit::<T>::zeroed();
    // SAFETY: no more bytes than both sides have; the target is zeroed before, and any bytes are a valid `T` by its trait.
    unsafe {
        ptr::copy_nonoverlapping(given.as_ptr(), options.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>()));
        Ok(Some(options.assume_init()))
    }
}

/// A struct to be filled that begins with its size, which the caller has set: it may be that of an older or a newer header.
#[derive(Debug)]
pub struct Filled<T> {
    out: *mut T,
    size: usize,
}

impl<T: Options> Filled<T> {
    /// Checks that there is a struct to be filled.
    ///
    /// # Safety
    /// `pointer` is NULL or points at as many bytes as its first field, a `size_t`, says; they may be written during the call.
    pub unsafe fn new(pointer: *mut T, name: &str) -> Result<Self> {
        if pointer.is_null() {
            return Err(null(name));
        }
        // SAFETY: not NULL, and it begins with a `size_t`, which is read by itself, for the rest may be uninitialised.
        let size = unsafe { pointer.cast::<usize>().read_unaligned() };
        if !(size_of::<usize>()..=MAX_OPTIONS_SIZE).contains(&size) {
            let text = format!("{name}: struct_size is {size}; set it to the size of the struct");
            return Err(Error::InvalidArgument(text));
        }
        Ok(Self { out: pointer, size })
    }

    /// The size that the caller set: the distance of the entries, where there is an array.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Writes everything behind the size: what the caller's struct has no room for is left out, what is not known here is zero.
    pub fn set(self, value: T) {
        let head = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        // SAFETY: the caller promised `size` bytes at `out`; of `value`, plain integers by its trait, no more is read than it has.
        unsafe {
            let out = self.out.cast::<u8>();
            out.add(head).copy_from_nonoverlapping((&raw const value).cast::<u8>().add(head), known - head);
            out.add(known).write_bytes(0, self.size - known);
        }
    }
}

/// Checks that only known flags are set.
pub fn known_flags(flags: u32, known: u32, name: &str) -> Result<u32> {
    match flags & !known {
        0 => Ok(flags),
        unknown => Err(Error::InvalidArgument(format!("{name}: flags {unknown:#x} are not known"))),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::ffi::status::plasma_last_error_message;

    #[test]
    #[allow(clippy::panic, reason = "it is what is to be caught")]
    fn a_panic_is_a_status_or_a_value() {
        assert_eq!(status(|| panic!("out of coffee")), PLASMA_PANIC);
        // SAFETY: a NUL-terminated text, by the function's own promise.
        let message = unsafe { CStr::from_ptr(plasma_last_error_message()) };
        assert!(message.to_str().unwrap().contains("panicked"));
        assert_eq!(value(7, || panic!("out of tea")), 7);
    }
}
