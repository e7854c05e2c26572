//! One mapping of a segment as an owned value: mapped when it is made, unmapped when it is dropped.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::slice;

use nix::sys::mman::{MapFlags, ProtFlags};

use super::huge::is_huge;
pub use super::memory::HUGE_PAGE;
use super::memory::{LeaveOut, Memory};
use super::segment::{clear_until, file_len, is_immutable};
use crate::error::{Error, Result};

/// Memory of a segment in this process's address space.
///
/// It lends pointers, never references: other processes may change these bytes at any time. The pointers are good
/// until the mapping is dropped; whoever hands one on keeps the mapping alive with it.
///
/// It may be sent to and shared between threads: the value only holds an address and a length that never change, the
/// mapping belongs to the process and not to a thread, and all access goes through raw pointers whose users answer for
/// their own ordering.
#[derive(Debug)]
pub struct Mapping {
    memory: Memory,
    writable: bool,
    /// The kernel lets nobody write the file any more.
    immutable: bool,
}

impl Mapping {
    /// Maps the first `len` bytes of `fd` for reading; a write through a pointer to it kills the process (SIGSEGV).
    ///
    /// # Errors
    /// [`Error::Protocol`] naming both lengths when the file is shorter, [`Error::InvalidArgument`] when `len` is 0,
    /// [`Error::Io`] when mapping fails.
    pub fn read_only(fd: impl AsFd, len: u64) -> Result<Self> {
        Self::part(fd, 0, len)
    }

    /// As [`read_only`](Self::read_only), from any `offset`.
    ///
    /// # Errors
    /// As for [`read_only`](Self::read_only).
    pub fn part(fd: impl AsFd, offset: u64, len: u64) -> Result<Self> {
        let memory = shared(fd.as_fd(), offset, len, ProtFlags::PROT_READ)?;
        Ok(Self { memory, writable: false, immutable: is_immutable(fd.as_fd()) })
    }

    /// Maps the first `len` bytes of `fd` for reading and writing; everyone who maps it sees what is written.
    ///
    /// # Errors
    /// As for [`read_only`](Self::read_only).
    pub fn read_write(fd: impl AsFd, len: u64) -> Result<Self> {
        let memory = shared(fd.as_fd(), 0, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        Ok(Self { memory, writable: true, immutable: false })
    }

    /// Maps `len` bytes from any `offset` of `fd` for reading and private writing: what is written here stays here,
    /// page by page. A page not yet written still shows what others do to it, so the object must be sealed and held.
    ///
    /// An object without bytes needs no mapping; asking for one of 0 bytes is an error.
    ///
    /// # Errors
    /// As for [`read_only`](Self::read_only).
    pub fn private(fd: impl AsFd, offset: u64, len: u64) -> Result<Self> {
        check(fd.as_fd(), offset, len)?;
        if is_huge(fd.as_fd())? {
            return Self::copied(fd.as_fd(), offset, len);
        }
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let memory = Memory::of_file(fd.as_fd(), offset, len, prot, MapFlags::MAP_PRIVATE)?;
        Ok(Self { memory, writable: true, immutable: is_immutable(fd.as_fd()) })
    }

    /// The same where a private mapping would take huge pages of its own, which there may not be: a copy in other memory.
    fn copied(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self> {
        let file = File::from(fd.try_clone_to_owned().map_err(|error| Error::io("dup", error))?);
        let memory = Memory::private(len)?;
        // SAFETY: all of it is mapped, writable and zero, no other process has it, and nobody else knows it yet.
        let bytes = unsafe { slice::from_raw_parts_mut(memory.start(), memory.len()) };
        file.read_exact_at(bytes, offset).map_err(|error| Error::io(format!("pread of {len} bytes"), error))?;
        Ok(Self { memory, writable: true, immutable: false })
    }

    /// Leaves this mapping out of processes that fork off from here on.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel does not.
    pub fn leave_out_of_children(&self) -> Result<()> {
        self.memory.leave_out_of(LeaveOut::Children).map_err(Error::from_errno("madvise(MADV_DONTFORK)"))
    }

    /// Asks the kernel to gather what is mapped here, which should be whole huge pages of the file, in huge pages at once. It moves
    /// the bytes for everybody who has the file, and nobody notices but by the time that a touch takes meanwhile. Nothing is
    /// touched here, so a file that has become shorter is an error and no signal. Holes in a huge page that is not all hole get memory.
    ///
    /// # Errors
    /// What the kernel says; `EINVAL` where it cannot do this.
    pub fn collapse(&self) -> io::Result<()> {
        Ok(self.memory.collapse()?)
    }

    /// Enters the first bytes of the file `fd` that is mapped here from its beginning into the page table, as far as they are clear
    /// and without a gap: the kernel does that for sixteen pages at once, and one by one where somebody writes them first. It is only
    /// a matter of time, so nothing is said where it cannot be done.
    pub fn enter_what_is_clear(&self, fd: impl AsFd) {
        let clear = clear_until(fd.as_fd(), 0).min(self.len()) as usize;
        if clear > 0
            && let Err(errno) = self.memory.enter(clear)
        {
            log::debug!("madvise(MADV_POPULATE_READ) of {clear} bytes: {errno}");
        }
    }

    /// Lets part of it be touched, to write or only to read, or not at all: who does then is killed. The range begins and ends at pages.
    ///
    /// # Errors
    /// [`Error::Protocol`] when it is not inside, [`Error::Io`] when the kernel refuses.
    pub fn guard(&self, range: Range<u64>, writable: Option<bool>) -> Result<()> {
        self.address(range.start, range.end.saturating_sub(range.start))?;
        let prot = match writable {
            None => ProtFlags::PROT_NONE,
            Some(false) => ProtFlags::PROT_READ,
            Some(true) => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        self.memory.protect(range.start as usize..range.end as usize, prot).map_err(Error::from_errno("mprotect"))
    }

    /// Bytes mapped.
    #[allow(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    #[inline]
    pub fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Whether the kernel let nobody write the file any more when it was mapped here. What a private mapping wrote is its own.
    pub fn is_immutable(&self) -> bool {
        self.immutable
    }

    /// Whether its bytes may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The address of `len` bytes at `offset`, all of them mapped and readable while the mapping lives.
    ///
    /// The segment should have memory there: reading a hole allocates, and fails with SIGBUS when there is none left.
    ///
    /// # Errors
    /// [`Error::Protocol`] naming the numbers when the range is not inside: it comes from the other side.
    #[inline]
    pub fn address(&self, offset: u64, len: u64) -> Result<*const u8> {
        self.locate(offset, len).map(<*mut u8>::cast_const)
    }

    /// As [`address`](Self::address), for writing too.
    ///
    /// # Errors
    /// As for [`address`](Self::address), and [`Error::InvalidArgument`] when the mapping is read-only.
    pub fn address_mut(&self, offset: u64, len: u64) -> Result<*mut u8> {
        if !self.writable {
            return Err(Error::InvalidArgument(format!("a mapping of {} bytes is read-only", self.len())));
        }
        self.locate(offset, len)
    }

    #[inline]
    fn locate(&self, offset: u64, len: u64) -> Result<*mut u8> {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            let text = format!("{len} bytes at {offset} are not in a mapping of {} bytes", self.len());
            return Err(Error::Protocol(text));
        }
        // SAFETY: `offset` is at most the length of the mapping, so the sum is in it or one past its end. It fits
        // `usize` and `isize` because that length does.
        Ok(unsafe { self.memory.start().add(offset as usize) })
    }
}

/// Asks the file whether it has `len` bytes at `offset`: touching a page behind its end would be a SIGBUS at some later time
/// instead of an error now. The seals of a segment keep the answer true.
fn check(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    if len == 0 {
        return Err(Error::InvalidArgument("cannot map 0 bytes".into()));
    }
    let file_len = file_len(fd)?;
    if offset.checked_add(len).is_none_or(|end| end > file_len) {
        let text = format!("cannot map {len} bytes at {offset} of a file of {file_len} bytes");
        return Err(Error::Protocol(text));
    }
    Ok(())
}

/// Memory that everyone sees who maps the same file.
///
/// A segment is sparse and may be larger than memory. A core dump would read all of it, and reading fills the holes
/// with memory that no ledger counts (a dump of a 64 MiB hole left 64 MiB behind). A kernel that cannot leave it out
/// still maps it, so the result of the advice does not matter.
fn shared(fd: BorrowedFd<'_>, offset: u64, len: u64, prot: ProtFlags) -> Result<Memory> {
    check(fd, offset, len)?;
    let memory = Memory::of_file(fd, offset, len, prot, MapFlags::MAP_SHARED)?;
    let _ = memory.leave_out_of(LeaveOut::CoreDumps);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;
    use crate::shm::segment::Segment;

    const LEN: u64 = 1 << 18;

    fn segment() -> Segment {
        let segment = Segment::create("test", LEN).unwrap();
        segment.allocate(0..LEN).unwrap();
        segment
    }

    #[test]
    fn mappings_may_cross_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Mapping>();
    }

    #[test]
    fn writers_are_seen_by_readers() {
        let segment = segment();
        let writer = Mapping::read_write(segment.as_fd(), LEN).unwrap();
        let reader = Mapping::read_only(segment.as_fd(), LEN).unwrap();
        drop(segment); // a mapping outlives its descriptor
        // SAFETY: both addresses are mapped, and no other thread touches them.
        let seen = unsafe {
            writer.address_mut(LEN - 1, 1).unwrap().write(7);
            reader.address(LEN - 1, 1).unwrap().read()
        };
        assert_eq!((seen, reader.len()), (7, LEN));
    }

    #[test]
    fn a_private_mapping_starts_anywhere_and_keeps_its_writes() {
        let segment = segment();
        segment.write_at(5000, b"shared").unwrap();
        let private = Mapping::private(segment.as_fd(), 5000, 6).unwrap();
        let mut copy = [0; 6];
        private.read(0, &mut copy).unwrap();
        assert_eq!((&copy, private.len()), (b"shared", 6));
        private.write(0, b"mine!!").unwrap();
        segment.read_at(5000, &mut copy).unwrap();
        assert_eq!(&copy, b"shared");
        private.read(0, &mut copy).unwrap();
        assert_eq!(&copy, b"mine!!");
        assert!(private.address(0, 7).is_err());
    }

    #[test]
    fn a_short_file_is_an_error_now_and_not_a_signal_later() {
        let segment = segment();
        let error = Mapping::read_only(segment.as_fd(), LEN + 1).unwrap_err().to_string();
        assert!(error.contains(&LEN.to_string()) && error.contains(&(LEN + 1).to_string()), "{error}");
        assert!(Mapping::read_write(segment.as_fd(), u64::MAX).is_err());
        assert!(Mapping::private(segment.as_fd(), LEN - 1, 2).is_err());
        assert!(Mapping::private(segment.as_fd(), u64::MAX, 2).is_err());
    }

    #[test]
    fn nothing_cannot_be_mapped() {
        let segment = segment();
        assert!(matches!(Mapping::read_only(segment.as_fd(), 0), Err(Error::InvalidArgument(_))));
        assert!(matches!(Mapping::private(segment.as_fd(), 100, 0), Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn a_failure_to_map_names_the_call_and_the_length() {
        let pipe = std::fs::File::open("/proc/self/status").unwrap();
        assert!(Mapping::read_only(&pipe, 1).is_err()); // a file of 0 bytes
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN).unwrap();
        let read_only = std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let error = Mapping::read_write(&read_only, LEN).unwrap_err().to_string();
        assert!(error.contains("mmap") && error.contains(&LEN.to_string()), "{error}");
    }

    #[test]
    fn addresses_stay_inside() {
        let mapping = Mapping::read_write(segment().as_fd(), LEN).unwrap();
        assert!(mapping.address(LEN, 0).is_ok());
        for (offset, len) in [(LEN, 1), (0, LEN + 1), (LEN + 1, 0), (u64::MAX, 1), (1, u64::MAX)] {
            let error = mapping.address(offset, len).unwrap_err().to_string();
            assert!(error.contains(&offset.to_string()) && error.contains(&len.to_string()), "{error}");
            assert!(mapping.address_mut(offset, len).is_err());
        }
    }

    #[test]
    fn a_read_only_mapping_lends_nothing_to_write_to() {
        let mapping = Mapping::read_only(segment().as_fd(), LEN).unwrap();
        assert!(matches!(mapping.address_mut(0, 1), Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn a_part_starts_anywhere() {
        let segment = segment();
        segment.write_at(4090, b"across a page").unwrap();
        let part = Mapping::part(segment.as_fd(), 4090, 13).unwrap();
        let mut seen = [0; 13];
        part.read(0, &mut seen).unwrap();
        assert_eq!((&seen, part.len()), (b"across a page", 13));
        assert!(Mapping::part(segment.as_fd(), LEN, 1).is_err());
        assert!(part.write(0, b"x").is_err());
    }

    #[test]
    fn core_dumps_leave_segments_out_and_children_do_where_it_is_wished() {
        let segment = Segment::create("left-out-of-core-dumps", LEN).unwrap();
        let mapping = Mapping::read_only(segment.as_fd(), LEN).unwrap();
        assert!(has_flag("left-out-of-core-dumps", "dd"));
        assert!(!has_flag("left-out-of-core-dumps", "dc"));
        mapping.leave_out_of_children().unwrap();
        assert!(has_flag("left-out-of-core-dumps", "dc"));
    }

    /// Whether the first mapping of a file of this name has this flag.
    fn has_flag(name: &str, flag: &str) -> bool {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.contains(name));
        let flags = lines.find(|line| line.starts_with("VmFlags")).unwrap();
        flags.split(' ').any(|each| each == flag)
    }
}
