//! What the words of descriptors and slots say: states, slots, ids and their hash.

use super::layout::PROBE_LIMIT;
use crate::object::{Location, ObjectId};

/// What a store that sleeps waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// It does not sleep.
    Awake = 0,
    /// The last release of a doomed object.
    UntilDoomed = 1,
    /// The last release of any object.
    UntilRoom = 2,
}

/// How far a descriptor has come. Only the store says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It names nothing.
    Free = 0,
    /// It names a sealed object.
    Sealed = 1,
    /// The same, and the object goes when nobody holds it any more.
    Doomed = 2,
    /// Nobody may begin to use it. It becomes free or, when somebody held it already, what it was.
    Condemned = 3,
}

/// The state word of a descriptor: how far it is, and how many objects it has named before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub(super) u64);

impl State {
    /// In this stage, in this generation.
    pub fn new(generation: u64, stage: Stage) -> Self {
        Self(generation << 8 | stage as u64)
    }

    /// The stage. A number that means nothing is taken for free, which nobody uses.
    pub fn stage(self) -> Stage {
        match self.0 & 0xff {
            1 => Stage::Sealed,
            2 => Stage::Doomed,
            3 => Stage::Condemned,
            _ => Stage::Free,
        }
    }

    /// Objects that the descriptor has named before; 56 bits, which do not run out.
    pub fn generation(self) -> u64 {
        self.0 >> 8
    }

    /// Whether a get may have it.
    pub fn is_gettable(self) -> bool {
        matches!(self.stage(), Stage::Sealed | Stage::Doomed)
    }

    /// The same generation in another stage.
    pub(super) fn with(self, stage: Stage) -> Self {
        Self::new(self.generation(), stage)
    }
}

/// A slot of the hash table that never named anything, or whose place nobody needs to pass.
pub(super) const EMPTY: u64 = 0;
/// A slot that a search must pass: its entry was removed.
pub(super) const TOMBSTONE: u64 = u64::MAX;
const TAG: u64 = 0xffff << 48;

/// The slot of descriptor `index` for an object with this hash: the hash's upper 16 bits, the index plus one.
pub(super) fn entry(hash: u64, index: usize) -> u64 {
    hash & TAG | (index as u64 + 1)
}

/// The descriptor in a slot, if the slot may be of an object with this hash. It may also be any number.
pub(super) fn index_in(slot: u64, hash: u64) -> Option<usize> {
    let may_be = slot != EMPTY && slot != TOMBSTONE && (slot ^ hash) & TAG == 0;
    may_be.then(|| ((slot & !TAG) as usize).wrapping_sub(1))
}

/// The slots in which to look for a hash, in this order, in a table of `slots`, which is a power of two.
pub(super) fn chain(hash: u64, slots: usize) -> impl Iterator<Item = usize> {
    let first = hash as usize;
    (0..PROBE_LIMIT.min(slots)).map(move |step| first.wrapping_add(step) & (slots - 1))
}

/// An id as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shm) struct IdWords(pub [u64; 3]);

impl IdWords {
    pub fn new(id: &ObjectId) -> Self {
        let (words, rest) = id.as_bytes().as_chunks::<8>();
        let (half, _) = rest.as_chunks::<4>();
        Self([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]), u64::from(u32::from_le_bytes(half[0]))])
    }

    pub fn id(&self) -> ObjectId {
        let mut bytes = [0; 20];
        for (bytes, word) in bytes.chunks_mut(8).zip(self.0) {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
        ObjectId::new(bytes)
    }

    /// Where the table has it. The key keeps ids from being made to collide by those who cannot see it; the limit of
    /// the search bounds what the others can do.
    pub fn hash(&self, key: [u64; 2]) -> u64 {
        let [first, second, third] = self.0;
        let mixed = fold(first ^ key[0], second ^ key[1]);
        fold(mixed ^ third ^ key[1], 0x9e37_79b9_7f4a_7c15 ^ key[0])
    }
}

/// The two halves of the product, so that each bit of the factors counts.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// The words of a location but for the segment's key, which lies behind the id.
pub(super) fn location(segment: u64, offset: u64, data_size: u64, metadata_size: u64) -> Location {
    Location { segment: segment as u32 as i32, offset, data_size, metadata_size }
}
