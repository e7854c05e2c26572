//! Versions: of the library that runs, to be compared with what the header was made for.

use std::ffi::c_char;

/// Version of the ABI. It grows when functions are added; a change that breaks callers gets a new soname.
pub const PLASMA_ABI_VERSION: u32 = 1;

/// Version of the library that runs, such as "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn plasma_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// `PLASMA_ABI_VERSION` of the library that runs: at least that of the header, or functions are missing.
#[unsafe(no_mangle)]
pub extern "C" fn plasma_abi_version() -> u32 {
    PLASMA_ABI_VERSION
}
