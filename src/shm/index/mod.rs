//! The index: which sealed objects there are and where, in memory that the store writes and its peers may only read.
//!
//! - [`layout`]: which word is where, [`encoding`]: what it says.
//! - [`writer`]: the store's side: objects come, are condemned, and go.
//! - [`table`]: the store's side of the hash table.
//! - [`reader`]: a peer's side. It finds candidates; [`pins`](super::pins) decides.
//!
//! The bytes and the reasons are in `docs/native-path.md`.
#![forbid(unsafe_code)]

pub mod encoding;
pub mod layout;
pub mod reader;
mod table;
pub mod writer;

#[cfg(not(loom))]
#[cfg(test)]
mod tests;
