//! What the tests of store and client share: a watchdog, a daemon of one's own, a peer that speaks the bare wire, random
//! numbers, and how much is played.
// Each test crate takes what it needs.
#![allow(dead_code, unused_imports)]

mod daemon;
mod random;
mod raw_peer;
mod signalled;
mod soak;
mod watchdog;

pub use daemon::{Daemon, process};
pub use random::Random;
pub use raw_peer::{RawPeer, create_of};
pub use signalled::{Signalled, catch_signals};
pub use soak::{is_soaking, progress, report, times};
pub use watchdog::{Watchdog, eventually};

use plasma_store::client::{Client, ConnectOptions};
use plasma_store::object::ObjectId;
use plasma_store::store::{Store, StoreOptions};
use std::path::Path;
use std::time::Duration;

/// The `n`-th object's name.
pub fn id(n: u64) -> ObjectId {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    ObjectId::new(bytes)
}

/// A client that waits for its store to be there.
pub fn connect(socket: &Path) -> Client {
    let options = ConnectOptions { patience: Some(Duration::from_secs(20)), ..ConnectOptions::default() };
    Client::connect(Some(socket), options).unwrap()
}

/// A store in this process.
pub fn store(capacity: u64) -> Store {
    Store::start(&StoreOptions { capacity, ..StoreOptions::default() }).unwrap()
}

/// Creates, fills and seals an object, and lets go of it.
pub fn put(client: &Client, id: ObjectId, data: &[u8]) {
    let buffer = client.create(id, data.len() as u64, b"", Default::default()).unwrap();
    buffer.write(0, data).unwrap();
    // Before the seal: who was waiting may delete the object at once, and must not find its creator holding it.
    drop(buffer);
    client.seal(id).unwrap();
}
