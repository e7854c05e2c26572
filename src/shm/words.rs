//! Memory as atomic words: part of a mapping that several processes share or, in tests, a plain buffer.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use super::mapping::Mapping;
use super::sync::{AtomicU32, AtomicU64};
use crate::error::{Error, Result};

/// An integer of shared memory.
///
/// # Safety
/// Every pattern of bits must be a value, and others may change it at any time.
pub unsafe trait Word: Send + Sync + 'static {}
// SAFETY: it is an atomic integer. (With loom it is not, and no memory is taken for one.)
unsafe impl Word for AtomicU32 {}
// SAFETY: as above.
unsafe impl Word for AtomicU64 {}

/// A row of words. Clones are the same words.
pub struct Words<A> {
    first: NonNull<A>,
    count: usize,
    writable: bool,
    /// Keeps the words where they are.
    memory: Arc<dyn Any + Send + Sync>,
}

// SAFETY: it is a shared reference to words that may be used by many threads, and an owner that may as well.
unsafe impl<A: Word> Send for Words<A> {}
// SAFETY: as above.
unsafe impl<A: Word> Sync for Words<A> {}

impl<A: Word> Words<A> {
    /// Words of zero that only this process sees.
    #[cfg(test)]
    pub(super) fn private(count: usize) -> Self
    where
        A: Default,
    {
        let buffer: Arc<[A]> = (0..count).map(|_| A::default()).collect();
        let first = NonNull::from(&buffer[..]).cast();
        Self { first, count, writable: true, memory: Arc::new(buffer) }
    }

    /// Some of these words.
    ///
    /// # Errors
    /// [`Error::Protocol`] naming the numbers when there are not as many.
    pub fn part(&self, range: Range<usize>) -> Result<Self> {
        let part = self.all().get(range.clone()).ok_or_else(|| {
            Error::Protocol(format!("words {} to {} are not among {}", range.start, range.end, self.count))
        })?;
        Ok(Self { first: NonNull::from(part).cast(), count: part.len(), ..self.clone() })
    }

    /// The words. Where they may only be read, a store into one kills the process.
    #[inline]
    pub(super) fn all(&self) -> &[A] {
        // SAFETY: the constructors made sure that `count` words begin at `first`, aligned, and `memory` keeps them.
        // A word is an atomic, so others may change it while this is borrowed.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    /// Asks the processor for the line of one word, which is about to be used, without waiting for it. Elsewhere than on
    /// x86-64, and where the accesses themselves are checked, nothing is asked.
    #[inline(always)]
    pub(super) fn prefetch(&self, at: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        if let Some(word) = self.all().get(at) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: it reads and changes nothing, so no address can be a wrong one; all x86-64 have the instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast()) }
        }
        let _ = at;
    }

    /// The same words, of which somebody wants to write.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when these are read-only.
    pub(super) fn for_writing(self) -> Result<Self> {
        if self.writable {
            return Ok(self);
        }
        Err(Error::InvalidArgument(format!("a mapping of {} words is read-only", self.count)))
    }
}

/// All loads from a read-only mapping are loads of at most eight bytes, which are plain loads in every ordering on the
/// 64-bit machines that this crate compiles for. (The standard library promises that for relaxed ones only.)
#[cfg(not(loom))]
impl<A: Word> Words<A> {
    /// `count` words of `mapping` from byte `offset` on. They may be written when the mapping may.
    ///
    /// # Errors
    /// [`Error::Protocol`] when they are not inside, [`Error::InvalidArgument`] when `offset` is not a multiple of 64.
    pub fn of_mapping(mapping: &Arc<Mapping>, offset: u64, count: usize) -> Result<Self> {
        if !offset.is_multiple_of(64) {
            return Err(Error::InvalidArgument(format!(
                "words cannot begin at byte {offset}, which is not 64 times n"
            )));
        }
        let bytes = (count as u64).saturating_mul(size_of::<A>() as u64);
        let writable = mapping.address_mut(offset, bytes);
        let first = mapping.address(offset, bytes)?.cast_mut().cast();
        // SAFETY: `address` gave a place in a mapping, which is never null.
        let first = unsafe { NonNull::new_unchecked(first) };
        Ok(Self { first, count, writable: writable.is_ok(), memory: mapping.clone() })
    }
}

/// A model has no files.
#[cfg(loom)]
impl<A: Word> Words<A> {
    /// Not with loom.
    ///
    /// # Errors
    /// [`Error::Unsupported`] always.
    pub fn of_mapping(_: &Arc<Mapping>, _: u64, _: usize) -> Result<Self> {
        Err(Error::Unsupported("words of a mapping in a model".into()))
    }
}

impl<A> Clone for Words<A> {
    fn clone(&self) -> Self {
        Self { first: self.first, count: self.count, writable: self.writable, memory: self.memory.clone() }
    }
}

impl<A> fmt::Debug for Words<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} at {:p})", self.count, self.first)
    }
}
