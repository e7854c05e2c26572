//! Shared memory: the only room of the house that maps anything.
//!
//! - [`segment`]: one memfd with its seals; memory comes and goes by system calls, never through a mapping.
//! - [`huge`]: the same of huge pages, which the kernel treats otherwise.
//! - [`mapping`]: one mapping as an owned value, with checked addresses.
//! - [`bytes`]: checked copies in and out of a mapping.
//! - [`arena`]: which offsets of a segment belong to whom.
//! - [`backing`]: which pages of a segment have memory.
//! - [`fork_token`]: whether this is still the process that made a handle.
//!
//! The store maps no object data: it moves offsets ([`arena`]) and pages ([`backing`], [`segment`]), and what it must
//! read or write itself goes through `pread` and `pwrite`, where a hole or a shortage is an error return. Clients map,
//! and hand out pointers; nobody here ever makes a Rust reference into memory that another process can write.

pub mod arena;
pub mod backing;
pub mod bytes;
pub mod fork_token;
mod huge;
pub mod mapping;
#[cfg(test)]
mod seeded;
pub mod segment;
