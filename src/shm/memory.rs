//! Memory in this process's address space as an owned value: mapped when it is made, unmapped when it is dropped.
//!
//! A file is mapped where the kernel can use huge pages: it does so only where address and place in the file agree modulo the
//! size of such a page, and by itself it takes no care of that.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc::{self, c_void};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap};

use super::huge::is_huge;
use super::segment::page_size;
use crate::error::{Error, Result};

/// Bytes of a huge page: what one entry of the second level of the page table maps.
///
/// Where pages are larger than 4 KiB this is larger. The only harm is that there are no huge pages there.
pub const HUGE_PAGE: u64 = 2 << 20;

/// The advice to put huge pages under a range at once (Linux 6.1). Its number is the same wherever this library runs.
const MADV_COLLAPSE: i32 = 25;

/// How often a place is looked for. Between finding it and using it, another thread may map something there.
const ATTEMPTS: u32 = 8;

/// A range of addresses with something behind it.
#[derive(Debug)]
pub(super) struct Memory {
    base: NonNull<c_void>,
    mapped: NonZeroUsize,
    /// Bytes in front of those that were asked for, as pages are mapped whole.
    skip: usize,
}

// SAFETY: it holds an address and two lengths that never change, the mapping belongs to the process and not to a thread, and all
// that it lends is a raw pointer.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `len` bytes from `offset` of `fd`. The file should have them.
    ///
    /// # Errors
    /// [`Error::Io`] naming the length; [`Error::InvalidArgument`] for 0 bytes.
    pub fn of_file(fd: BorrowedFd<'_>, offset: u64, len: u64, prot: ProtFlags, flags: MapFlags) -> Result<Self> {
        let skip = offset % page_size()?;
        let (from, mapped) = (offset - skip, size(len + skip)?);
        let map = |place| {
            // SAFETY: without MAP_FIXED, which no caller gives, no address that is in use is touched. `place` is a wish.
            let base = unsafe { mmap(place, mapped, prot, flags, fd, from as i64) };
            base.map(|base| Self { base, mapped, skip: skip as usize }).map_err(|errno| failed(len, errno))
        };
        // The kernel finds a place by itself for files of huge pages, and it must be one for pages of their size.
        let attempts = if len < HUGE_PAGE || is_huge(fd)? { 0 } else { ATTEMPTS };
        for place in (0..attempts).map_while(|_| free_place(mapped, from)) {
            let memory = map(Some(place))?;
            if memory.base.addr() == place {
                return Ok(memory);
            }
        }
        map(None)
    }

    /// `len` zeros of this process's own.
    ///
    /// # Errors
    /// As for [`of_file`](Self::of_file).
    pub fn private(len: u64) -> Result<Self> {
        let mapped = size(len)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a mapping at an address of the kernel's choice touches none that is in use.
        let base = unsafe { mmap_anonymous(None, mapped, prot, MapFlags::MAP_PRIVATE) };
        Ok(Self { base: base.map_err(|errno| failed(len, errno))?, mapped, skip: 0 })
    }

    /// Bytes that were asked for.
    pub fn len(&self) -> usize {
        self.mapped.get() - self.skip
    }

    /// Address of the first of them.
    pub fn start(&self) -> *mut u8 {
        // SAFETY: `skip` is less than the bytes mapped, all of which belong to one mapping.
        unsafe { self.base.as_ptr().cast::<u8>().add(self.skip) }
    }

    /// Leaves it out of core dumps, or out of forked children.
    ///
    /// # Errors
    /// [`Errno`].
    pub fn leave_out_of(&self, what: LeaveOut) -> Result<(), Errno> {
        let advice = match what {
            LeaveOut::CoreDumps => MmapAdvise::MADV_DONTDUMP,
            LeaveOut::Children => MmapAdvise::MADV_DONTFORK,
        };
        // SAFETY: the range is this value's own, and neither advice changes what this process sees there.
        unsafe { madvise(self.base, self.mapped.get(), advice) }
    }

    /// What may be done with some of its bytes, whole pages.
    ///
    /// # Errors
    /// [`Errno`]; `EINVAL` for a range that is not inside.
    pub fn protect(&self, range: Range<usize>, prot: ProtFlags) -> Result<(), Errno> {
        if self.skip > 0 || range.start > range.end || range.end > self.mapped.get() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the range is this value's own, as was checked. Whoever has an address in it was told that it may be touched only when
        // it is theirs.
        unsafe { mprotect(self.base.byte_add(range.start), range.end - range.start, prot) }
    }

    /// Enters the first `len` bytes into the page table. Holes there get memory, as by a read.
    ///
    /// # Errors
    /// [`Errno`]; `EINVAL` before Linux 5.14.
    pub fn enter(&self, len: usize) -> Result<(), Errno> {
        let len = len.min(self.mapped.get());
        // SAFETY: the range is this value's own. Nothing in it changes, and a page that cannot be had is an error here.
        unsafe { madvise(self.base, len, MmapAdvise::MADV_POPULATE_READ) }
    }

    /// Asks the kernel to put huge pages under it now. Nobody sees other bytes for that.
    ///
    /// # Errors
    /// [`Errno`].
    pub fn collapse(&self) -> Result<(), Errno> {
        // SAFETY: the range is this value's own. Its pages move to other physical memory, with the bytes that are in them.
        Errno::result(unsafe { libc::madvise(self.base.as_ptr(), self.mapped.get(), MADV_COLLAPSE) }).map(drop)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range was mapped for this value alone, and who was lent an address in it keeps the value.
        if let Err(errno) = unsafe { munmap(self.base, self.mapped.get()) } {
            log::error!("munmap of {} bytes: {errno}", self.mapped);
        }
    }
}

/// What need not see some memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeaveOut {
    /// Files of a dead process's memory.
    CoreDumps,
    /// Processes that fork off.
    Children,
}

/// Where `mapped` bytes could lie now, so that huge pages can be mapped of a file from `from` on. `None` if there is no such place.
///
/// It is only found here and not kept: to put a mapping in the place of another one (MAP_FIXED) may end with neither, and then
/// the addresses may belong to another thread when they are unmapped.
fn free_place(mapped: NonZeroUsize, from: u64) -> Option<NonZeroUsize> {
    let wide = mapped.checked_add(HUGE_PAGE as usize)?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a mapping at an address of the kernel's choice touches none that is in use.
    let base = unsafe { mmap_anonymous(None, wide, ProtFlags::PROT_NONE, flags) }.ok()?;
    let place = Memory { base, mapped: wide, skip: 0 }.base.addr();
    let missing = (from as usize).wrapping_sub(place.get()) % HUGE_PAGE as usize;
    place.checked_add(missing)
}

fn size(len: u64) -> Result<NonZeroUsize> {
    let size = usize::try_from(len).ok().and_then(NonZeroUsize::new);
    size.ok_or_else(|| Error::InvalidArgument(format!("cannot map {len} bytes")))
}

fn failed(len: u64, errno: Errno) -> Error {
    Error::io(format!("mmap of {len} bytes"), errno.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::shm::segment::Segment;

    const LEN: u64 = 3 * HUGE_PAGE;

    fn map(segment: &Segment, offset: u64, len: u64) -> Memory {
        Memory::of_file(segment.as_fd(), offset, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED).unwrap()
    }

    /// The ranges of addresses that this process has mapped of a file of this name.
    fn ranges_of(name: &str) -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let of_file = maps.lines().filter(|line| line.contains(name));
        of_file.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn large_mappings_lie_where_huge_pages_can_be_mapped() {
        let segment = Segment::create("placed", LEN).unwrap();
        let page = page_size().unwrap();
        for offset in [0, page, HUGE_PAGE - page, HUGE_PAGE] {
            let memory = map(&segment, offset, HUGE_PAGE);
            assert_eq!(memory.start() as u64 % HUGE_PAGE, offset % HUGE_PAGE, "from {offset}");
            assert_eq!(memory.len() as u64, HUGE_PAGE);
        }
        let memory = map(&segment, page + 7, LEN - page - 7);
        assert_eq!(memory.start() as u64 % HUGE_PAGE, page + 7);
    }

    #[test]
    fn nothing_is_left_when_it_is_unmapped() {
        let segment = Segment::create("unmapped-again", LEN).unwrap();
        let memory = map(&segment, 0, LEN);
        let start = memory.start() as u64;
        assert_eq!(ranges_of("unmapped-again"), [format!("{start:x}-{:x}", start + LEN)], "and nothing around it");
        drop(memory);
        assert!(ranges_of("unmapped-again").is_empty());
        drop(map(&segment, 5, 100));
        assert!(ranges_of("unmapped-again").is_empty());
    }

    #[test]
    fn places_are_free_and_fit() {
        let wanted = NonZeroUsize::new(5 << 20).unwrap();
        for from in [0, 4096, HUGE_PAGE, 7 * HUGE_PAGE + 8192] {
            let place = free_place(wanted, from).unwrap();
            assert_eq!(place.get() as u64 % HUGE_PAGE, from % HUGE_PAGE);
        }
        assert_eq!(free_place(NonZeroUsize::MAX, 0), None);
        assert_eq!(free_place(NonZeroUsize::new(1 << 60).unwrap(), 0), None);
    }

    #[test]
    fn small_mappings_are_left_to_the_kernel() {
        let segment = Segment::create("small", LEN).unwrap();
        let page = page_size().unwrap();
        // Some of those would have to be at other addresses.
        let few: Vec<_> = (0..8).map(|_| map(&segment, 0, page)).collect();
        assert!(few.iter().any(|memory| !(memory.start() as u64).is_multiple_of(HUGE_PAGE)));
    }

    #[test]
    fn nothing_cannot_be_memory() {
        assert!(matches!(Memory::private(0), Err(Error::InvalidArgument(_))));
        let error = Memory::private(1 << 60).unwrap_err().to_string();
        assert!(error.contains(&(1_u64 << 60).to_string()), "{error}");
    }

    #[test]
    fn memory_of_ones_own_is_zeros() {
        let memory = Memory::private(5000).unwrap();
        // SAFETY: the addresses are mapped, and nobody else has them.
        let bytes = unsafe { std::slice::from_raw_parts(memory.start(), memory.len()) };
        assert_eq!((bytes.len(), bytes.iter().all(|byte| *byte == 0)), (5000, true));
    }
}
