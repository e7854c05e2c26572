//! What a ring is, and where everything of it lies in the object's data.
//!
//! First come words: a line that says what the ring is, the head, the tail, the readers, the cells, the slots. Behind them, from a page's
//! or a line's begin on, comes the memory of the slots.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::shm::sync::{AtomicU64, Ordering};
use crate::shm::words::Words;

/// The most slots that a ring can have. The number itself marks the end in a cell.
pub const MOST_SLOTS: u64 = 0xFFFF;
/// Readers that a ring for all can have at a time.
pub const MOST_READERS: usize = if cfg!(loom) { 2 } else { 22 };
/// The most dimensions that a message can have.
pub const MOST_DIMENSIONS: usize = if cfg!(loom) { 3 } else { 32 };

const MAGIC: u64 = u64::from_le_bytes(*b"plsring1");
/// Words of a cache line.
const LINE: usize = 8;
const WORD_BYTES: u64 = size_of::<u64>() as u64;
const LINE_BYTES: u64 = LINE as u64 * WORD_BYTES;
const PAGE_BYTES: u64 = 4096;
/// State, readers, position, length, element type, and then the dimensions: five lines.
pub(super) const SLOT_WORDS: usize = (AT_SHAPE + MOST_DIMENSIONS).next_multiple_of(LINE);
pub(super) const AT_STATE: usize = 0;
pub(super) const AT_SLOT_READERS: usize = 1;
pub(super) const AT_POSITION: usize = 2;
pub(super) const AT_LENGTH: usize = 3;
pub(super) const AT_DTYPE: usize = 4;
pub(super) const AT_SHAPE: usize = 5;
pub(super) const AT_HEAD: usize = LINE;
pub(super) const AT_TAIL: usize = 2 * LINE;
pub(super) const AT_READERS: usize = 3 * LINE;
pub(super) const AT_JOINED: usize = AT_READERS + 3 * LINE;
/// Counts who came or left among the readers.
pub(super) const AT_CHANGES: usize = AT_READERS + 3 * LINE - 1;
const AT_CELLS: usize = AT_JOINED + 3 * LINE;

/// Who gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// One of those who take. What somebody had taken who died is lost.
    AtMostOnce,
    /// One of those who take. What somebody had taken who died is taken by another.
    AtLeastOnce,
    /// All who read.
    Broadcast,
}

/// What is chosen when a ring is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many slots there are.
    pub slots: u64,
    /// The most bytes of a message.
    pub slot_bytes: u64,
    /// Whether slots begin at pages. Those of a page or more always do.
    pub is_paged: bool,
    /// Who gets a message.
    pub delivery: Delivery,
    /// Whether an acquire that finds nothing free takes the oldest message away.
    pub drops_oldest: bool,
}

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    settings: Settings,
    cells: u64,
    stride: u64,
    first_slot: u64,
    bytes: u64,
}

/// Whether words begin as those of a ring do.
pub fn is_ring(words: &Words<AtomicU64>) -> bool {
    words.all().first().is_some_and(|first| first.load(Ordering::Acquire) == MAGIC)
}

impl Geometry {
    /// Of a ring with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the number that cannot be.
    pub fn new(settings: Settings) -> Result<Self> {
        let Settings { slots, slot_bytes, is_paged, .. } = settings;
        if !(1..=MOST_SLOTS).contains(&slots) {
            return Err(Error::InvalidArgument(format!("a ring has 1 to {MOST_SLOTS} slots, not {slots}")));
        }
        let too_large =
            || Error::InvalidArgument(format!("{slots} slots of {slot_bytes} bytes are more than memory can be"));
        let align = if is_paged || slot_bytes >= PAGE_BYTES { PAGE_BYTES } else { LINE_BYTES };
        let stride = slot_bytes.max(1).checked_next_multiple_of(align).ok_or_else(too_large)?;
        // One entry more may stand there that is over, and the end has a cell of its own.
        let cells = (slots + 2).next_power_of_two();
        let words = AT_CELLS as u64 + cells.next_multiple_of(LINE as u64) + slots * SLOT_WORDS as u64;
        let first_slot = (words * WORD_BYTES).next_multiple_of(align);
        let room = stride.checked_mul(slots).and_then(|bytes| bytes.checked_add(first_slot));
        let bytes = room.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(too_large)?;
        Ok(Self { settings, cells, stride, first_slot, bytes })
    }

    /// Of the ring that these words say they are, in an object of so many bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the number that cannot be.
    pub fn read(words: &Words<AtomicU64>, object_bytes: u64) -> Result<Self> {
        let first = words.all().get(..LINE).ok_or_else(|| Error::Corrupt("no words are a ring's".into()))?;
        let word = |at: usize| first[at].load(Ordering::Acquire);
        if word(0) != MAGIC {
            return Err(Error::Corrupt(format!("the object is no ring: it begins with {:#x}", word(0))));
        }
        let flags = word(3);
        let unknown = || Error::Corrupt(format!("a ring of no known kind: {flags:#x}"));
        let delivery = [Delivery::AtMostOnce, Delivery::AtLeastOnce, Delivery::Broadcast];
        let delivery = delivery.into_iter().find(|delivery| *delivery as u64 == flags & 3).ok_or_else(unknown)?;
        if flags >> 4 != 0 {
            return Err(unknown());
        }
        let (slots, slot_bytes) = (word(1), word(2));
        let settings = Settings { slots, slot_bytes, is_paged: flags & 4 != 0, delivery, drops_oldest: flags & 8 != 0 };
        let geometry = Self::new(settings).map_err(|error| Error::Corrupt(error.to_string()))?;
        if geometry.bytes > object_bytes {
            let bytes = geometry.bytes;
            return Err(Error::Corrupt(format!("a ring of {bytes} bytes cannot lie in an object of {object_bytes}")));
        }
        Ok(geometry)
    }

    /// Writes what [`read`](Self::read) reads.
    pub(super) fn write(&self, words: &Words<AtomicU64>) {
        let Settings { slots, slot_bytes, is_paged, delivery, drops_oldest } = self.settings;
        let flags = delivery as u64 | u64::from(is_paged) << 2 | u64::from(drops_oldest) << 3;
        let word = |at: usize, value: u64| words.all()[at].store(value, Ordering::Release);
        [(1, slots), (2, slot_bytes), (3, flags), (0, MAGIC)].into_iter().for_each(|(at, value)| word(at, value));
    }

    /// What was chosen.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Words before the memory of the slots.
    pub fn words(&self) -> usize {
        self.slot(self.settings.slots as usize)
    }

    /// All bytes of the object.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From one slot's memory to the next one's.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// Where in the object a slot's memory lies. The slot is one of those that there are.
    pub fn memory(&self, slot: u32) -> Range<u64> {
        let begin = self.first_slot + u64::from(slot) * self.stride;
        begin..begin + self.settings.slot_bytes
    }

    pub(super) fn slots(&self) -> usize {
        self.settings.slots as usize
    }

    pub(super) fn cells(&self) -> u64 {
        self.cells
    }

    /// The index of the cell for a position.
    pub(super) fn cell(&self, position: u64) -> usize {
        AT_CELLS + (position & (self.cells - 1)) as usize
    }

    /// The index of a slot's first word.
    pub(super) fn slot(&self, slot: usize) -> usize {
        AT_CELLS + (self.cells as usize).next_multiple_of(LINE) + slot * SLOT_WORDS
    }
}
