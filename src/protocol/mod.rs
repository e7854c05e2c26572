//! Bytes to messages and back. No socket, no descriptor, no clock.
//!
//! [`frame`] is the header in front of every message, [`Request`] and [`Reply`] are what stands behind it,
//! [`notification`] is the one-way stream of a subscriber. A decoded message was verified whole: nobody after this module
//! checks a length again. The tables are in `plasma.fbs`; only this module sees the code made from them.
// Not `forbid`: the generated code has to be let off.
#![deny(unsafe_code)]

mod body;
mod digest;
pub mod frame;
#[rustfmt::skip]
mod generated;
pub mod native;
pub mod notification;
mod refusal;
mod reply;
mod request;
mod sharing;
mod stats;

pub use digest::{digest, digest_of};
pub use frame::{Dialect, Header, MAX_BODY};
pub use refusal::{Refusal, Refused};
pub use reply::{Reply, SegmentInfo};
pub use request::{InlineObject, Request};
pub use sharing::{ShareAction, Shared};
pub use stats::Stats;
