//! Checked copies in and out of a [`Mapping`].
//!
//! Sealing an object is a promise between peers, not something the kernel enforces: any client of the old protocol maps
//! whole segments writable. So what has to be *understood* (lengths, tensor headers) is copied out once and decoded
//! from the copy, and no `&[u8]` or `&mut [u8]` into shared memory exists: such a reference tells the compiler that
//! nobody else writes, which lets it read a length twice and check only one of the readings.
//!
//! A copy may meet a write by another process. Then it holds some of the old and some of the new bytes, which is
//! harmless, as whoever decodes it must be ready for arbitrary bytes anyway. The copies are those of [`copy`](super::copy), not
//! volatile or atomic loads, because objects are large and a word at a time would be slow; the compiler fence next to
//! each of them keeps the copy from being optimised into a second look at the shared bytes. Neither orders anything for
//! the other side: that an object's bytes are complete is learnt from the store's reply (or, on a native path, from an
//! acquire load), and only then are they read.

use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

use super::copy::Copier;
use super::mapping::Mapping;
use crate::error::Result;

impl Mapping {
    /// Fills `out` with the bytes at `offset`.
    ///
    /// # Errors
    /// As for [`address`](Self::address).
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let source = self.address(offset, out.len() as u64)?;
        // SAFETY: `address` checked that `out.len()` bytes at `source` are mapped and readable, and they stay so while
        // `self` is borrowed. `out` is private memory of ours, so the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(source, out.as_mut_ptr(), out.len()) };
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// As for [`address_mut`](Self::address_mut).
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_with(Copier::ALONE, offset, bytes)
    }

    /// The same in several threads.
    ///
    /// # Errors
    /// As for [`address_mut`](Self::address_mut).
    pub fn write_with(&self, copier: Copier, offset: u64, bytes: &[u8]) -> Result<()> {
        let target = self.address_mut(offset, bytes.len() as u64)?;
        compiler_fence(Ordering::SeqCst);
        // SAFETY: `address_mut` checked that `bytes.len()` bytes at `target` are mapped and writable, and they stay so
        // while `self` is borrowed. No Rust reference into a mapping exists, so `bytes` is elsewhere.
        unsafe { copier.copy(bytes.as_ptr(), target, bytes.len()) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::shm::segment::Segment;

    #[test]
    fn bytes_come_back_as_they_went_in() {
        let segment = Segment::create("test", 8192).unwrap();
        let writer = Mapping::read_write(segment.as_fd(), 8192).unwrap();
        let reader = Mapping::read_only(segment.as_fd(), 8192).unwrap();
        writer.write(4090, b"across a page").unwrap();
        let mut out = [0; 13];
        reader.read(4090, &mut out).unwrap();
        assert_eq!(&out, b"across a page");
        segment.read_at(4090, &mut out).unwrap();
        assert_eq!(&out, b"across a page");
    }

    #[test]
    fn copies_end_with_the_mapping() {
        let segment = Segment::create("test", 8192).unwrap();
        let mapping = Mapping::read_write(segment.as_fd(), 8000).unwrap();
        mapping.write(8000, b"").unwrap();
        mapping.read(8000, &mut []).unwrap();
        for offset in [7999, 8000, 8001, u64::MAX] {
            assert!(mapping.write(offset, b"xy").unwrap_err().to_string().contains(&offset.to_string()));
            let mut out = [9; 2];
            assert!(mapping.read(offset, &mut out).is_err());
            assert_eq!(out, [9; 2]);
        }
        let mut last = [9; 1];
        segment.read_at(7999, &mut last).unwrap();
        assert_eq!(last, [0]);
    }

    #[test]
    fn a_read_only_mapping_is_not_written() {
        let segment = Segment::create("test", 4096).unwrap();
        let mapping = Mapping::read_only(segment.as_fd(), 4096).unwrap();
        assert!(mapping.write(0, b"x").is_err());
    }
}
