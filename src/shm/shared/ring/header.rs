//! What a message says of itself: how many bytes it has, and what they are.

use super::geometry::{AT_DTYPE, AT_LENGTH, AT_SHAPE, MOST_DIMENSIONS};
use super::{Handle, Ring};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::shm::sync::Ordering;

/// What is published with a message. Whether bytes, element type and shape fit together is the caller's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Bytes of the slot that are the message.
    pub bytes: u64,
    /// An element type, as DLPack numbers it: code, bits, lanes. All 0 when nothing is said.
    pub dtype: (u8, u8, u16),
    /// Elements along each dimension.
    pub shape: &'a [i64],
}

/// What is said of a message, without its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Bytes of the slot that are the message.
    pub bytes: u64,
    /// Code, bits and lanes of its elements.
    pub dtype: (u8, u8, u16),
    /// How many dimensions it has.
    pub ndim: usize,
}

impl Header<'_> {
    fn packed(&self) -> u64 {
        let (code, bits, lanes) = self.dtype;
        u64::from(code) | u64::from(bits) << 8 | u64::from(lanes) << 16 | (self.shape.len() as u64) << 32
    }
}

impl Ring {
    /// Whether a message can be published so.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the number if not.
    pub fn check_header(&self, header: &Header<'_>) -> Result<()> {
        let (bytes, most) = (header.bytes, self.geometry.settings().slot_bytes);
        if bytes > most {
            return Err(Error::InvalidArgument(format!("a message of {bytes} bytes in a slot of {most}")));
        }
        let ndim = header.shape.len();
        if ndim > MOST_DIMENSIONS {
            return Err(Error::InvalidArgument(format!("a message of {ndim} dimensions; {MOST_DIMENSIONS} can be")));
        }
        Ok(())
    }

    pub(super) fn write_header(&self, slot: u32, header: &Header<'_>) {
        let store = |at: usize, value: u64| self.slot_word(slot, at).store(value, Ordering::Relaxed);
        store(AT_LENGTH, header.bytes);
        crash::at(Point::HeaderBegun);
        store(AT_DTYPE, header.packed());
        header.shape.iter().zip(AT_SHAPE..).for_each(|(size, at)| store(at, size.cast_unsigned()));
    }

    /// What is said of a message that the caller has taken.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the number that cannot be.
    pub fn header(&self, handle: &Handle) -> Result<Described> {
        let slot = self.check(handle.slot)?;
        let load = |at: usize| self.slot_word(slot, at).load(Ordering::Relaxed);
        let (bytes, packed, most) = (load(AT_LENGTH), load(AT_DTYPE), self.geometry.settings().slot_bytes);
        let ndim = (packed >> 32) as usize;
        if bytes > most {
            return Err(Error::Corrupt(format!("slot {slot} of {most} bytes has a message of {bytes}")));
        }
        if ndim > MOST_DIMENSIONS {
            return Err(Error::Corrupt(format!("slot {slot} has a message of {ndim} dimensions")));
        }
        Ok(Described { bytes, dtype: (packed as u8, (packed >> 8) as u8, (packed >> 16) as u16), ndim })
    }

    /// The shape of a message that the caller has taken, as many sizes as `shape` has room for. The sizes can be any numbers.
    ///
    /// # Errors
    /// As for [`header`](Self::header).
    pub fn shape(&self, handle: &Handle, shape: &mut [i64]) -> Result<()> {
        let slot = self.check(handle.slot)?;
        for (size, at) in shape.iter_mut().take(MOST_DIMENSIONS).zip(AT_SHAPE..) {
            *size = self.slot_word(slot, at).load(Ordering::Relaxed).cast_signed();
        }
        Ok(())
    }
}
