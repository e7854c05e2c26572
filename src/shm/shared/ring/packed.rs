//! What several things are in one word, so that one compare-and-swap changes them together.

use crate::error::{Error, Result};
use crate::shm::shared::control::Tag;

const GENERATION_BITS: u32 = 20;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const STATE_BITS: u32 = 3;
const SLOT_GENERATION_AT: u32 = STATE_BITS + Tag::BITS;
const SLOT_NUMBER_BITS: u32 = 16;
const LAP_AT: u32 = GENERATION_BITS + SLOT_NUMBER_BITS;
const LAP_MASK: u64 = (1 << (u64::BITS - LAP_AT)) - 1;
const READER_BITS: u32 = super::geometry::MOST_READERS as u32;
const READER_MASK: u64 = (1 << READER_BITS) - 1;
const END: u64 = super::geometry::MOST_SLOTS;

/// How often a slot was acquired, in 20 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(u32);

impl Generation {
    pub(super) fn of_low_bits(word: u64) -> Self {
        Self((word & GENERATION_MASK) as u32)
    }

    pub(super) fn next(self) -> Self {
        Self::of_low_bits(u64::from(self.0) + 1)
    }

    pub(super) fn bits(self) -> u64 {
        u64::from(self.0)
    }
}

/// What becomes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has it.
    Free,
    /// Its owner writes.
    Writing,
    /// Its owner has published it, or is about to.
    Shown,
    /// Its owner reads. Not where all read.
    Reading,
}

const STATES: [State; 4] = [State::Free, State::Writing, State::Shown, State::Reading];

/// A slot's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotWord {
    pub state: State,
    /// Of a free slot: nobody's.
    pub owner: Tag,
    pub generation: Generation,
}

impl SlotWord {
    pub fn new(state: State, owner: Tag, generation: Generation) -> Self {
        Self { state, owner, generation }
    }

    pub fn free(generation: Generation) -> Self {
        Self::new(State::Free, Tag::from_word(0), generation)
    }

    pub fn encode(self) -> u64 {
        self.state as u64 | self.owner.bits() << STATE_BITS | self.generation.bits() << SLOT_GENERATION_AT
    }

    /// What a word says.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when that is nothing.
    #[inline]
    pub fn decode(slot: usize, word: u64) -> Result<Self> {
        let generation = Generation::of_low_bits(word >> SLOT_GENERATION_AT);
        match STATES.get((word & 7) as usize) {
            Some(state) if word >> (SLOT_GENERATION_AT + GENERATION_BITS) == 0 => {
                Ok(Self::new(*state, Tag::from_word(word >> STATE_BITS), generation))
            }
            _ => Err(Error::Corrupt(format!("slot {slot} of a ring is in no state: {word:#x}"))),
        }
    }
}

/// What stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Something of the round before.
    Before,
    /// A message.
    Message(u32, Generation),
    /// The end.
    End,
    /// Another round's: whoever looks came late.
    Other,
}

/// The round in which a position is.
fn lap(position: u64, cells: u64) -> u64 {
    position >> cells.trailing_zeros() & LAP_MASK
}

impl Cell {
    /// What a word says at this position of a ring with so many cells.
    #[inline]
    pub fn decode(word: u64, position: u64, cells: u64) -> Self {
        let (found, wanted) = (word >> LAP_AT, lap(position, cells));
        if found == wanted {
            return match word >> GENERATION_BITS & END {
                END => Self::End,
                slot => Self::Message(slot as u32, Generation::of_low_bits(word)),
            };
        }
        if found == wanted.wrapping_sub(1) & LAP_MASK { Self::Before } else { Self::Other }
    }

    pub fn message(slot: u32, generation: Generation, position: u64, cells: u64) -> u64 {
        lap(position, cells) << LAP_AT | u64::from(slot) << GENERATION_BITS | generation.bits()
    }

    pub fn end(position: u64, cells: u64) -> u64 {
        lap(position, cells) << LAP_AT | END << GENERATION_BITS
    }
}

/// Which readers a message is for: those who have not begun, and those who read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readers {
    pub pending: u64,
    pub holding: u64,
    pub generation: Generation,
}

impl Readers {
    pub fn encode(self) -> u64 {
        self.generation.bits() | self.pending << GENERATION_BITS | self.holding << (GENERATION_BITS + READER_BITS)
    }

    /// Every word is one.
    #[inline]
    pub fn decode(word: u64) -> Self {
        let pending = word >> GENERATION_BITS & READER_MASK;
        let holding = word >> (GENERATION_BITS + READER_BITS) & READER_MASK;
        Self { pending, holding, generation: Generation::of_low_bits(word) }
    }

    /// Nobody has anything to do with it any more.
    pub fn are_done(self) -> bool {
        self.pending | self.holding == 0
    }

    /// The same without these readers.
    pub fn without(self, readers: u64) -> Self {
        Self { pending: self.pending & !readers, holding: self.holding & !readers, ..self }
    }
}

/// Somebody's place among the readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Empty,
    /// Somebody comes or goes, and gets nothing new.
    Changing(Tag),
    /// Somebody reads.
    Taken(Tag),
}

impl Place {
    pub fn encode(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Changing(tag) => 1 << 32 | tag.bits(),
            Self::Taken(tag) => 2 << 32 | tag.bits(),
        }
    }

    /// Every word is one.
    pub fn decode(word: u64) -> Self {
        match word >> 32 {
            1 => Self::Changing(Tag::from_word(word)),
            2 => Self::Taken(Tag::from_word(word)),
            _ => Self::Empty,
        }
    }
}
