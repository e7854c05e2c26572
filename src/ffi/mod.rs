//! The C ABI: pointers in, status out, no logic. One file per handle, in the order in which the header shows them.
//!
//! Rules of this room:
//! - Every function that can fail returns a [`status::plasma_status`] and leaves its out-parameters alone when it fails.
//! - All pointers go through [`guard`]: NULL is a status that names the argument, a panic is `PLASMA_PANIC`.
//! - A handle is a `Box` of the Rust type beside it; only `*_free`, `*_release`, `*_close` and `*_stop` take it back.
//! - C passes integers, never Rust enums, so a stray value is an error and not undefined behaviour.
//! - Names here are the C names, so that what is read here is what a C user reads.
#![allow(non_camel_case_types)]

mod guard;

pub mod status;
pub mod version;

pub mod object_id;

pub mod client;

pub mod put_batch;

pub mod streaming;

pub mod buffer;

pub mod object_list;

pub mod control;

pub mod stats;

pub mod subscription;

pub mod watching;

pub mod tensor;

pub mod tensor_shared;

pub mod tensor_ring;

pub mod bundle;

pub mod store;
