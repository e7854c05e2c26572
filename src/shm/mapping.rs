//! One mapping of a segment as an owned value: mapped when it is made, unmapped when it is dropped.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::huge::is_huge;
use super::segment::file_len;
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
    memory: MmapRaw,
    writable: bool,
}

impl Mapping {
    /// Maps the first `len` bytes of `fd` for reading; a write through a pointer to it kills the process (SIGSEGV).
    ///
    /// # Errors
    /// [`Error::Protocol`] naming both lengths when the file is shorter, [`Error::InvalidArgument`] when `len` is 0,
    /// [`Error::Io`] when mapping fails.
    pub fn read_only(fd: impl AsFd, len: u64) -> Result<Self> {
        let options = checked_options(fd.as_fd(), 0, len)?;
        let memory = options.map_raw_read_only(fd.as_fd().as_raw_fd());
        Ok(Self { memory: shared(memory, len)?, writable: false })
    }

    /// Maps the first `len` bytes of `fd` for reading and writing; everyone who maps it sees what is written.
    ///
    /// # Errors
    /// As for [`read_only`](Self::read_only).
    pub fn read_write(fd: impl AsFd, len: u64) -> Result<Self> {
        let options = checked_options(fd.as_fd(), 0, len)?;
        let memory = options.map_raw(fd.as_fd().as_raw_fd());
        Ok(Self { memory: shared(memory, len)?, writable: true })
    }

    /// Maps `len` bytes from any `offset` of `fd` for reading and private writing: what is written here stays here,
    /// page by page. A page not yet written still shows what others do to it, so the object must be sealed and held.
    ///
    /// An object without bytes needs no mapping; asking for one of 0 bytes is an error.
    ///
    /// # Errors
    /// As for [`read_only`](Self::read_only).
    pub fn private(fd: impl AsFd, offset: u64, len: u64) -> Result<Self> {
        let options = checked_options(fd.as_fd(), offset, len)?;
        if is_huge(fd.as_fd())? {
            return Self::copied(fd.as_fd(), offset, len);
        }
        // SAFETY: `map_copy` is unsafe because its result dereferences to a slice although others may change the file.
        // It becomes a `MmapRaw` at once, which offers raw pointers only.
        let memory = unsafe { options.map_copy(fd.as_fd().as_raw_fd()) }.map(MmapRaw::from);
        Ok(Self { memory: memory.map_err(|error| Error::io(format!("mmap of {len} bytes"), error))?, writable: true })
    }

    /// The same where a private mapping would take huge pages of its own, which there may not be: a copy in other memory.
    fn copied(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self> {
        let file = File::from(fd.try_clone_to_owned().map_err(|error| Error::io("dup", error))?);
        let memory = MmapOptions::new().len(len as usize).map_anon();
        let mut memory = memory.map_err(|error| Error::io(format!("mmap of {len} bytes"), error))?;
        file.read_exact_at(&mut memory, offset).map_err(|error| Error::io(format!("pread of {len} bytes"), error))?;
        Ok(Self { memory: MmapRaw::from(memory), writable: true })
    }

    /// Bytes mapped.
    #[allow(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    #[inline]
    pub fn len(&self) -> u64 {
        self.memory.len() as u64
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
        Ok(unsafe { self.memory.as_mut_ptr().add(offset as usize) })
    }
}

/// Options for `len` bytes at `offset`, after asking the file whether it has them: touching a page behind its end would
/// be a SIGBUS at some later time instead of an error now. The seals of a segment keep the answer true.
fn checked_options(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<MmapOptions> {
    if len == 0 {
        return Err(Error::InvalidArgument("cannot map 0 bytes".into()));
    }
    let file_len = file_len(fd)?;
    if offset.checked_add(len).is_none_or(|end| end > file_len) {
        let text = format!("cannot map {len} bytes at {offset} of a file of {file_len} bytes");
        return Err(Error::Protocol(text));
    }
    let mut options = MmapOptions::new();
    options.offset(offset).len(len as usize);
    Ok(options)
}

/// What every mapping of a whole segment needs, once it succeeded.
///
/// A segment is sparse and may be larger than memory. A core dump would read all of it, and reading fills the holes
/// with memory that no ledger counts (a dump of a 64 MiB hole left 64 MiB behind). A kernel that cannot leave it out
/// still maps it, so the result of the advice does not matter.
fn shared(memory: std::io::Result<MmapRaw>, len: u64) -> Result<MmapRaw> {
    let memory = memory.map_err(|error| Error::io(format!("mmap of {len} bytes"), error))?;
    let _ = memory.advise(Advice::DontDump);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

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
    fn core_dumps_leave_segments_out() {
        let segment = Segment::create("left-out-of-core-dumps", LEN).unwrap();
        let mapping = Mapping::read_only(segment.as_fd(), LEN).unwrap();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = smaps.lines().skip_while(|line| !line.contains("left-out-of-core-dumps"));
        let flags = flags.into_iter().find(|line| line.starts_with("VmFlags")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
        drop(mapping);
    }
}
