//! The daemon's core. `engine` holds the rules and knows no socket; `server` is the plumbing and knows no rule.
//!
//! - [`engine`]: (peer, request, now) -> effects.
//! - [`objects`], [`table`], [`peers`], [`waiters`], [`queue`], [`eviction`]: what the engine remembers: objects, all of them by
//!   name, who holds them, who waits for them, who waits for room, which may go first.
//! - [`space`], [`leases`], [`grants`]: the memory ledger, the segments that objects lie in, and room there that producers have ahead;
//!   [`segments`]: their files.
//! - [`server`]: the epoll loop, connections, descriptors; [`subscription`]: sockets that events are written to.
//! - [`stock`], [`pool`]: which segments to come are to have memory before anybody needs it, and the thread that makes them.
//! - [`collapse`]: gathers large objects in huge pages; [`filling`]: memory that is new does not have to be gathered.
//! - [`external`]: where evicted objects go, when there is such a place.
//! - [`options`], [`available`]: what a store is to be, and how large it can be here.
//! - [`embedded`]: a store with a thread of its own, in the daemon or in any process.

#![forbid(unsafe_code)]

mod available;
pub mod collapse;
pub mod embedded;
pub mod engine;
mod eviction;
pub mod external;
mod filling;
pub mod grants;
pub mod leases;
mod objects;
mod options;
mod peers;
mod pool;
mod queue;
pub mod segments;
mod server;
pub mod space;
pub mod stock;
mod subscription;
mod table;
mod waiters;

pub use embedded::{Store, default_socket_directory};
pub use options::{Capacity, MOST_INDEXED, StoreOptions};
