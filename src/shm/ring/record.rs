//! What a record says, and what its outcome. Both are read from memory that another process may be writing, so every word is
//! looked at in a copy.

use crate::object::{Location, ObjectId};
use crate::shm::index::encoding::IdWords;

/// A record as it lies in memory, without the word that sleepers use.
pub type RecordWords = [u64; 8];

/// What a peer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Store a small object, sealed: its data and right behind them its metadata are staged.
    Put {
        /// Its name.
        id: ObjectId,
        /// Bytes of data.
        data_size: u64,
        /// Bytes of metadata.
        metadata_size: u64,
        /// Where they are staged.
        staged: u64,
        /// Whether others may be evicted for it.
        evict: bool,
    },
    /// Make an object that the peer fills.
    Create {
        /// Its name.
        id: ObjectId,
        /// Bytes of data.
        data_size: u64,
        /// Bytes of metadata.
        metadata_size: u64,
        /// Whether others may be evicted for it.
        evict: bool,
        /// Milliseconds that it lives after its seal; 0 without limit.
        ttl_ms: u64,
    },
    /// Seal an object, and let go of it if that is said.
    Seal {
        /// Its name.
        id: ObjectId,
        /// Whether its creator has no buffer of it any more.
        release: bool,
        /// Bytes that the peer would like to be granted for what it puts next; 0 for none.
        next: u64,
    },
    /// Make and seal an object that the peer has filled, in room that it was granted, and has let go of.
    Publish {
        /// Its name.
        id: ObjectId,
        /// Bytes of data, from the start of that room.
        data_size: u64,
        /// Bytes of metadata, right behind them.
        metadata_size: u64,
        /// Whether others may be evicted for it.
        evict: bool,
        /// The number of the grant.
        granted: u64,
        /// As in a seal.
        next: u64,
    },
    /// Give up an object that is not sealed.
    Abort {
        /// Its name.
        id: ObjectId,
    },
    /// Let go of an object that the store counts as held.
    Release {
        /// Its name.
        id: ObjectId,
    },
    /// Delete an object.
    Delete {
        /// Its name.
        id: ObjectId,
    },
    /// Ring a bell when the object is sealed, or now when there is more to say of it than that it is not.
    Want {
        /// Its name.
        id: ObjectId,
        /// Below [`ALL_BELLS`](super::ALL_BELLS); it forgets what it was to be rung for before.
        bell: u64,
    },
    /// Ring a bell no more.
    Unwant {
        /// Which.
        bell: u64,
    },
}

/// In a record's first word, beside what it says: nobody looks for its outcome as long as it is not refused.
pub(super) const UNAWAITED: u64 = 1 << 9;

const PUT: u64 = 1;
const CREATE: u64 = 2;
const SEAL: u64 = 3;
const ABORT: u64 = 4;
const RELEASE: u64 = 5;
const DELETE: u64 = 6;
const WANT: u64 = 7;
const UNWANT: u64 = 8;
const PUBLISH: u64 = 9;
/// A bit above the kind: eviction is allowed, or the object is let go of.
const FLAG: u64 = 1 << 8;

impl Record {
    /// As it is written.
    pub fn encode(&self) -> RecordWords {
        let flag = |set: bool| if set { FLAG } else { 0 };
        match *self {
            Self::Put { id, data_size, metadata_size, staged, evict } => {
                words(PUT | flag(evict), Some(id), [data_size, metadata_size, staged, 0])
            }
            Self::Create { id, data_size, metadata_size, evict, ttl_ms } => {
                words(CREATE | flag(evict), Some(id), [data_size, metadata_size, ttl_ms, 0])
            }
            Self::Seal { id, release, next } => words(SEAL | flag(release), Some(id), [next, 0, 0, 0]),
            Self::Publish { id, data_size, metadata_size, evict, granted, next } => {
                words(PUBLISH | flag(evict), Some(id), [data_size, metadata_size, granted, next])
            }
            Self::Abort { id } => words(ABORT, Some(id), [0; 4]),
            Self::Release { id } => words(RELEASE, Some(id), [0; 4]),
            Self::Delete { id } => words(DELETE, Some(id), [0; 4]),
            Self::Want { id, bell } => words(WANT, Some(id), [bell, 0, 0, 0]),
            Self::Unwant { bell } => words(UNWANT, None, [bell, 0, 0, 0]),
        }
    }

    /// What a copy of such words says, if anything.
    pub fn decode(words: &RecordWords) -> Option<Self> {
        let [kind, first, second, third, a, b, c, d] = *words;
        let id = IdWords([first, second, third]).id();
        let flag = kind & FLAG != 0;
        Some(match kind & !FLAG {
            PUT => Self::Put { id, data_size: a, metadata_size: b, staged: c, evict: flag },
            CREATE => Self::Create { id, data_size: a, metadata_size: b, evict: flag, ttl_ms: c },
            SEAL => Self::Seal { id, release: flag, next: a },
            PUBLISH => Self::Publish { id, data_size: a, metadata_size: b, evict: flag, granted: c, next: d },
            ABORT => Self::Abort { id },
            RELEASE => Self::Release { id },
            DELETE => Self::Delete { id },
            WANT => Self::Want { id, bell: a },
            UNWANT => Self::Unwant { bell: a },
            _ => return None,
        })
    }
}

fn words(kind: u64, id: Option<ObjectId>, [a, b, c, d]: [u64; 4]) -> RecordWords {
    let [first, second, third] = id.map_or([0; 3], |id| IdWords::new(&id).0);
    [kind, first, second, third, a, b, c, d]
}

/// What became of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// 0 when it was done, else the number of the refusal as on the wire.
    pub refusal: i32,
    /// Where a created object lies; of a seal or what was published, the room that was granted: its length as size of the data and its
    /// number, which is 0 for none, as that of the metadata.
    pub location: Location,
}

impl Outcome {
    /// The words behind the first.
    pub(super) fn encode(&self) -> [u64; 5] {
        let Location { segment, offset, data_size, metadata_size } = self.location;
        [u64::from(self.refusal.cast_unsigned()), u64::from(segment.cast_unsigned()), offset, data_size, metadata_size]
    }

    pub(super) fn decode([refusal, segment, offset, data_size, metadata_size]: [u64; 5]) -> Self {
        let location = Location { segment: segment as u32 as i32, offset, data_size, metadata_size };
        Self { refusal: refusal as u32 as i32, location }
    }
}
