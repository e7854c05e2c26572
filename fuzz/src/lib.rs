//! What the fuzzers call. Each function takes any bytes, panics when something is wrong with the library, and returns
//! whether the bytes meant anything, so that whoever plays them knows that more than the first check was tested.
//!
//! libFuzzer comes in through `fuzz_targets/`; `tests/fuzz_targets.rs` includes this file and plays a bounded number of
//! inputs with the stable compiler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a target fails by panicking")]

mod contents;
mod engine;
mod frames;
mod messages;
mod rings;

pub use contents::{bundle, metadata, tensor};
pub use engine::engine;
pub use frames::frame;
pub use messages::{notification, reply, request};
pub use rings::ring;
