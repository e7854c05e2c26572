//! Pins: what peers hold, and what the store may reuse.
//!
//! Every peer has one word per descriptor, in memory that it alone writes. A pin is a count in such a word, so a get and
//! a release are arithmetic in the peer's own memory, and the death of a peer takes its pins with it.
//!
//! - [`files`]: both as files.
//! - [`peer`]: a peer's side: get and release.
//! - [`store`]: the store's side: it looks at all peers' pins before it reuses anything.
//!
//! Why the two can never both be right is in `docs/native-path.md`.
#![forbid(unsafe_code)]

pub mod files;
pub mod peer;
pub mod store;

#[cfg(not(loom))]
#[cfg(test)]
mod tests;

/// The part of a pin word that counts holds; the rest counts gets, and wraps.
const COUNT: u32 = (1 << 20) - 1;
/// One get: one more use, one more hold.
const ONE_GET: u32 = 1 << 20 | 1;
/// A hold beyond this many is refused. Threads that find out at the same time have each added one, and half the range
/// is left for them: the count never reaches into the other part.
const MOST_HOLDS: u32 = 1 << 19;
