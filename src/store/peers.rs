//! Who is connected, and what each of them holds.
//!
//! When a connection ends, this is all that has to be undone; there is no second path for a polite goodbye.
#![forbid(unsafe_code)]

use foldhash::{HashMap, HashSet};

use crate::object::ObjectId;
use crate::store::engine::Quota;

/// Names a connection for as long as the store lives; never reused.
pub type PeerId = u64;

/// One connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// Whether it speaks the native dialect. Such a peer has many calls in flight, so its holds are counted: a release of one
    /// thread must not undo a get of another. An old client has each object at most once.
    pub native: bool,
    /// Whether it asks for the segments that it needs. Others can only map the one that all may write.
    pub pulls: bool,
    /// Objects it holds, and how often.
    pub held: HashMap<ObjectId, u32>,
    /// Objects it created and has not sealed.
    pub unsealed: HashSet<ObjectId>,
    /// Objects that it writes with others, and which of their participants it is. It holds each of them once.
    pub sharing: HashMap<ObjectId, u32>,
    /// Bytes of the objects that it holds.
    pub held_bytes: u64,
    /// What it calls itself; shown in figures only.
    pub name: String,
    /// Its process, as people are told of it; empty where that is not known.
    pub process: String,
    /// Bytes that its requests brought along and that wait for room.
    pub carried: u64,
    /// How often the kernel did not let an object of its become immutable.
    pub refused_seals: u32,
    /// Memory it reserved for what it creates.
    pub(in crate::store) quota: Option<Quota>,
}

impl Peer {
    /// Adds a hold on an object of `size` bytes. Returns whether it is this peer's first on it.
    pub fn hold(&mut self, id: ObjectId, size: u64) -> bool {
        let count = self.held.entry(id).or_insert(0);
        let first = *count == 0;
        if first {
            self.held_bytes += size;
        }
        if first || self.native {
            *count = count.saturating_add(1);
        }
        first
    }

    /// Drops a hold on an object of `size` bytes. Returns whether it was this peer's last on it; a hold that is not there is no
    /// hold.
    pub fn release(&mut self, id: ObjectId, size: u64) -> bool {
        let Some(count) = self.held.get_mut(&id) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.end_hold(id, size);
        }
        last
    }

    /// Drops all holds on an object of `size` bytes.
    pub fn end_hold(&mut self, id: ObjectId, size: u64) {
        if self.held.remove(&id).is_some() {
            self.held_bytes -= size;
        }
    }
}
