//! Shared memory: the only room of the house that maps anything.
//!
//! - [`segment`]: one memfd with its seals; memory comes and goes by system calls, never through a mapping.
//! - [`huge`]: the same of huge pages, which the kernel treats otherwise.
//! - [`mapping`]: one mapping as an owned value, with checked addresses; [`memory`]: where it lies.
//! - [`bytes`]: checked copies in and out of a mapping.
//! - [`copy`]: how they, and other large copies, are made.
//! - [`arena`]: which offsets of a segment belong to whom.
//! - [`backing`]: which pages of a segment have memory.
//! - [`fork_token`]: whether this is still the process that made a handle.
//! - [`one_writer`]: a memory file that one mapping writes and nobody else ever can.
//! - [`index`]: which objects are where, written by the store, read by all its peers.
//! - [`pins`]: what peers hold, each in memory that it alone writes, and what the store may reuse.
//! - [`ring`]: requests and what became of them, between one peer and the store; [`futex`]: how either sleeps.
//! - [`shared`]: memory that several peers write, and by which they agree.
//! - [`store_alive`]: a word that tells peers whether their store lives.
//! - [`words`], [`sync`]: memory as atomic words, and what orders them.
//!
//! The store maps no object data: it moves offsets ([`arena`]) and pages ([`backing`], [`segment`]), and what it must
//! read or write itself goes through `pread` and `pwrite`, where a hole or a shortage is an error return. Clients map,
//! and hand out pointers; nobody here ever makes a Rust reference into memory that another process can write.

pub mod arena;
pub mod backing;
pub mod bytes;
pub mod copy;
pub mod fork_token;
#[cfg(not(loom))]
mod futex;
mod huge;
pub mod index;
pub mod mapping;
mod memory;
#[cfg(loom)]
#[cfg(test)]
mod models;
pub mod one_writer;
pub mod pins;
pub mod ring;
#[cfg(test)]
pub(crate) mod seeded;
pub mod segment;
pub mod shared;
pub mod store_alive;
pub mod sync;
pub mod words;
