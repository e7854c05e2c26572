//! What the store knows of each object.
#![forbid(unsafe_code)]

use std::time::Instant;

use crate::object::{Location, ObjectId, ObjectInfo, ObjectState};
use crate::protocol::notification::Event;
use crate::shm::index::writer::Descriptor;
use crate::store::eviction::Age;
use crate::store::peers::PeerId;
use crate::store::space::{Place, SHARED_SEGMENT};
use crate::store::waiters::Asker;

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

/// What the index has of an object.
#[derive(Debug, Default)]
pub enum Indexed {
    /// Nothing: it is not sealed, or not here.
    #[default]
    None,
    /// A place.
    Here(Descriptor),
    /// Nothing, as there was no room.
    LeftOut,
    /// It was deleted and goes when nobody reads it any more. Until then it can be got.
    Doomed,
}

/// A second place of an object's bytes, in the shared segment: for old clients, which cannot map the first.
#[derive(Debug)]
pub struct SecondPlace {
    /// `None` while there is no room for it.
    pub place: Option<Place>,
    /// The object is to move there, as there is no room for both.
    pub moves: bool,
    /// All bytes are there.
    pub is_ready: bool,
    /// Old clients that hold the object.
    pub holders: u32,
}

/// One object.
#[derive(Debug)]
pub struct Object {
    /// Where it lies; `None` when it has no bytes, or none here.
    pub place: Option<Place>,
    /// Where old clients find it, if not there.
    pub copy: Option<Box<SecondPlace>>,
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
    /// Nobody can write it once it is sealed: it lies in a segment for itself, and never moves.
    pub immutable: bool,
    /// Several peers write it, and it is not sealed. `true`: it lives until it is deleted, also when none does.
    pub shared: Option<bool>,
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
    /// What the index has of it.
    pub entry: Indexed,
    /// The external store has a copy. It stays right: sealed objects do not change.
    pub saved: bool,
}

impl Object {
    /// Bytes it counts for.
    pub fn size(&self) -> u64 {
        self.data_size + self.metadata_size
    }

    /// Bytes it takes, without a copy.
    pub fn size_here(&self) -> u64 {
        self.place.map_or(0, |_| self.size())
    }

    /// Bytes that its copy takes.
    pub fn copy_size(&self) -> u64 {
        self.copy.as_ref().filter(|copy| !copy.moves && copy.place.is_some()).map_or(0, |_| self.size())
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
        self.location_of(self.place)
    }

    /// Where a peer finds its bytes at once: one that can map every segment, or an old one.
    pub fn location_for(&self, maps_all: bool) -> Option<Location> {
        let copied = || self.copy.as_ref().filter(|copy| copy.is_ready).map(|copy| self.location_of(copy.place));
        match maps_all || !self.is_leased() {
            _ if !self.is_at_hand() => None,
            true => Some(self.location()),
            false => copied(),
        }
    }

    /// Whether it lies where old clients cannot map it.
    pub fn is_leased(&self) -> bool {
        self.place.is_some_and(|place| place.segment != SHARED_SEGMENT)
    }

    fn location_of(&self, place: Option<Place>) -> Location {
        Location {
            segment: place.map_or(SHARED_SEGMENT, |place| place.segment),
            offset: place.map_or(0, |place| place.extent.offset),
            data_size: self.data_size,
            metadata_size: self.metadata_size,
        }
    }

    /// What subscribers are told when it is sealed.
    pub fn sealed_event(&self, id: ObjectId) -> Event {
        Event::Sealed { id, data_size: self.data_size, metadata_size: self.metadata_size, digest: self.digest }
    }

    /// What `list` tells of it; so many peers read it.
    pub fn info(&self, id: ObjectId, readers: u32) -> ObjectInfo {
        ObjectInfo {
            id,
            state: self.state,
            data_size: self.data_size,
            metadata_size: self.metadata_size,
            ref_count: self.holders + readers,
            create_time: self.create_time,
            construct_duration: self.construct_duration,
            digest: self.digest,
            pinned: self.pinned,
        }
    }
}
