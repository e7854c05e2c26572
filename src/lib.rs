//! START HERE. `plasma_store`: an in-memory object store for tensors, shared between processes.
//!
//! - [`object`]: the words everyone shares: [`object::ObjectId`], [`object::ObjectInfo`].
//! - [`error`]: one [`error::Error`], mapped to wire codes and C statuses at the edges.
//! - [`metadata`]: the user's metadata bytes and the trailer that we append to them.
//! - [`crash`]: points at which tests have a process die; nothing in ordinary builds.
//! - [`protocol`]: bytes to messages and back. No socket, no descriptor, no clock.
//! - [`transport`]: Unix sockets: whole frames, descriptors that travel with them, the listening socket.
//! - [`shm`]: shared memory: segments, mappings, checked copies, the allocator. The only place that maps anything.
//! - [`tensor`]: what an object's bytes mean: dtypes, layouts, Arrow IPC tensor messages, DLPack.
//! - [`store`]: the daemon's core: `engine` holds the rules, `server` the plumbing.
//! - [`client`]: the library's core: one connection, many threads, buffers that keep what they need alive.
//! - [`ffi`]: the C ABI. Pointers in, status out, no logic.
//!
//! Who may use whom is checked by `tests/layering.rs`; the reasons are in `docs/architecture.md`.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("plasma_store needs 64-bit little-endian Linux: it hands out memfds and maps whole segments");

pub mod client;
pub mod crash;
pub mod error;
pub mod ffi;
pub mod metadata;
pub mod object;
pub mod protocol;
pub mod shm;
pub mod store;
pub mod tensor;
pub mod transport;
