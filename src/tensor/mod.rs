//! What an object's bytes mean when it is a tensor. Knows neither client nor store.
//!
//! - [`dtype`]: the element types that can be stored, as DLPack and as Arrow call them.
//! - [`layout`]: shape and strides with checked arithmetic; how to compact any layout while copying.
//! - [`description`]: what the metadata say of a tensor, for element types that Arrow does not have.
//! - [`arrow_ipc`]: the Arrow IPC tensor message: header out, and in again by peek, verify, decode.
//! - [`bundle`]: many named tensors, as a safetensors file.
//! - [`dlpack`]: tensors of other libraries in, managed tensors out. The only file here with `unsafe`.
//!
//! Storing: [`dlpack::view`], [`arrow_ipc::encode_header`], the data by [`dlpack::copy_packed`].
//! Reading: copy the header out, [`arrow_ipc::decode`], [`dlpack::export`] of the address where the data lie.

// Not `forbid`: dlpack.rs and the generated code have to be let off.
#![deny(unsafe_code)]

#[rustfmt::skip]
mod arrow_generated;

pub mod arrow_ipc;
pub mod bundle;
pub mod description;
#[allow(unsafe_code)]
pub mod dlpack;
pub mod dtype;
pub mod layout;
