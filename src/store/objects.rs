//! What the store knows of each object.
#![forbid(unsafe_code)]

use std::time::Instant;

use crate::object::{Location, ObjectId, ObjectInfo, ObjectState};
use crate::protocol::notification::Event;
use crate::shm::arena::Extent;
use crate::store::eviction::Age;
use crate::store::peers::PeerId;
use crate::store::waiters::Asker;

/// Key of the one segment there is. Never 0, which old clients see in placeholders, and never reused.
pub const SEGMENT_KEY: i32 = 1;

/// Which store has an object's bytes, ours or the external one. Without an external store all are here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residence {
    /// Ours.
    #[default]
    Here,
    /// Ours, while the job of this number writes them to the external one. They go then, unless somebody holds the object.
    Leaving(u64),
    /// The external one only.
    Away,
    /// On their way back, or waiting for room here.
    Returning,
}

/// One object.
#[derive(Debug)]
pub struct Object {
    /// Where it lies; `None` when it has no bytes, or none here.
    pub extent: Option<Extent>,
    /// Bytes of data.
    pub data_size: u64,
    /// Bytes of metadata, right behind the data.
    pub metadata_size: u64,
    /// How far it has come.
    pub state: ObjectState,
    /// Whether all its pages are there; before that its creator has no answer yet.
    pub populated: bool,
    /// The create that made it. Only that peer may seal or abort it.
    pub created_by: Asker,
    /// The peer whose quota it counts for.
    pub owner: Option<PeerId>,
    /// Peers that hold it.
    pub holders: u32,
    /// It goes when its last holder lets go.
    pub doomed: bool,
    /// Nothing evicts it.
    pub pinned: bool,
    /// Milliseconds that it lives after its seal; 0 without limit.
    pub ttl_ms: u64,
    /// When it will be deleted.
    pub expires: Option<Instant>,
    /// Its place among those that may be evicted, when it is one.
    pub age: Option<Age>,
    /// Unix seconds.
    pub create_time: i64,
    /// Seconds from create to seal, -1 before.
    pub construct_duration: i64,
    /// What its creator gave as digest.
    pub digest: [u8; 8],
    /// Who has its bytes.
    pub residence: Residence,
    /// The external store has a copy. It stays right: sealed objects do not change.
    pub saved: bool,
}

impl Object {
    /// Bytes it counts for.
    pub fn size(&self) -> u64 {
        self.data_size + self.metadata_size
    }

    /// Bytes it takes in the segment.
    pub fn size_here(&self) -> u64 {
        self.extent.map_or(0, |_| self.size())
    }

    /// Whether anyone may get it.
    pub fn is_sealed(&self) -> bool {
        self.state == ObjectState::Sealed
    }

    /// Whether a get finds it at once.
    pub fn is_at_hand(&self) -> bool {
        self.is_sealed() && matches!(self.residence, Residence::Here | Residence::Leaving(_))
    }

    /// Where its bytes are.
    pub fn location(&self) -> Location {
        Location {
            segment: SEGMENT_KEY,
            offset: self.extent.map_or(0, |extent| extent.offset),
            data_size: self.data_size,
            metadata_size: self.metadata_size,
        }
    }

    /// What subscribers are told when it is sealed.
    pub fn sealed_event(&self, id: ObjectId) -> Event {
        Event::Sealed { id, data_size: self.data_size, metadata_size: self.metadata_size, digest: self.digest }
    }

    /// What `list` tells of it.
    pub fn info(&self, id: ObjectId) -> ObjectInfo {
        ObjectInfo {
            id,
            state: self.state,
            data_size: self.data_size,
            metadata_size: self.metadata_size,
            ref_count: self.holders,
            create_time: self.create_time,
            construct_duration: self.construct_duration,
            digest: self.digest,
            pinned: self.pinned,
        }
    }
}
