//! A memory file that one mapping writes, and that nobody else ever can, the owner of the descriptor included.
//!
//! A read-only descriptor alone protects nothing: whoever has it opens it again for writing through
//! `/proc/self/fd`, and a read-only mapping of a writable descriptor is made writable by `mprotect`. So the kernel is told
//! (`F_SEAL_FUTURE_WRITE`) that mappings that write may stay but none may be made, and no byte be written otherwise.
//! From then on no page can be given back, either: the memory comes back when the last one who has the file lets go.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::SealFlag;
use nix::sys::stat::{Mode, fchmod};

use super::mapping::Mapping;
use super::segment::{Segment, add_seals};
use crate::error::{Error, Result};

/// What memory is cleared with, a piece at a time.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// A file before its one writer has mapped it. Its memory is there and its length is fixed.
#[derive(Debug)]
pub struct OneWriter {
    segment: Segment,
}

impl OneWriter {
    /// Makes a file of `len` bytes, rounded up to whole pages, all with memory.
    ///
    /// # Errors
    /// As for [`Segment::create`], and [`Error::Io`] when there is not as much memory.
    pub fn create(name: &str, len: u64) -> Result<Self> {
        let file = Self::create_sparse(name, len)?;
        file.allocate(0..file.len())?;
        Ok(file)
    }

    /// The same without memory yet; [`written_by_peer`](Self::written_by_peer) is then not for it, but
    /// [`end_chances`](Self::end_chances).
    ///
    /// # Errors
    /// As for [`Segment::create`].
    pub fn create_sparse(name: &str, len: u64) -> Result<Self> {
        let segment = Segment::create_unsealed(name, len)?;
        add_seals(&segment, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
        Ok(Self { segment })
    }

    /// Puts memory behind those parts of `range` that have none; what it has done by the time it fails stays.
    ///
    /// # Errors
    /// As for [`Segment::allocate`].
    pub fn allocate(&self, range: Range<u64>) -> Result<()> {
        self.segment.fill(range)
    }

    /// The same for a range that has no memory yet, all of which is cleared at once where that is still possible. What is only allocated
    /// is cleared page by page by whoever touches it.
    ///
    /// # Errors
    /// As for [`Segment::allocate`].
    pub fn clear(&self, range: Range<u64>) -> Result<()> {
        let mut done = range.start;
        while let Some(left) = range.end.checked_sub(done).filter(|left| *left > 0) {
            let piece = ZEROS.get(..left.min(ZEROS.len() as u64) as usize).unwrap_or_default();
            if self.segment.write_at(done, piece).is_err() {
                break;
            }
            done += piece.len() as u64;
        }
        // Sealed, or there is no memory: then this says so.
        self.allocate(done..range.end)
    }

    /// Whoever is to write it has mapped it by now; from here on nobody else can. What is `backed` has memory afterwards, also where
    /// the writer gave some back before.
    ///
    /// # Errors
    /// [`Error::Io`] when a call fails, or a page is gone and there is no memory for another.
    pub fn end_chances(&self, backed: &[Range<u64>]) -> Result<()> {
        add_seals(&self.segment, SealFlag::F_SEAL_FUTURE_WRITE)?;
        self.complete(backed)
    }

    /// What is `backed` has memory afterwards. Nobody can take it away any more.
    fn complete(&self, backed: &[Range<u64>]) -> Result<()> {
        // To see that nothing is missing takes a tenth of the time.
        let mut missing = backed.iter().filter(|range| self.segment.clear_until(range.start) < range.end);
        missing.try_for_each(|range| self.segment.fill(range.clone()))
    }

    /// Nobody can write it from here on, in no way, and no seal can be added; what is `backed` has memory afterwards. Returns false
    /// when the kernel refuses: somebody still has it mapped for writing, or a device has pages of it. Then nothing has changed, and it
    /// can be tried again.
    ///
    /// # Errors
    /// As for [`end_chances`](Self::end_chances).
    pub fn end_all_writing(&self, backed: &[Range<u64>]) -> Result<bool> {
        match add_seals(&self.segment, SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL) {
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => Ok(false),
            sealed => sealed.and_then(|()| self.complete(backed)).map(|()| true),
        }
    }

    /// Nobody writes it any more, if its writer has really unmapped it: then the kernel refuses every way to.
    pub fn end_writing(&self) {
        if let Err(error) = add_seals(&self.segment, SealFlag::F_SEAL_WRITE) {
            log::debug!("somebody still has a segment mapped whose writer is gone: {error}");
        }
    }

    /// The file opened for reading. Everybody gets the same, so that there is no writable description to inherit or to open again.
    ///
    /// # Errors
    /// [`Error::Io`] when a call fails.
    pub fn for_readers(&self) -> Result<Segment> {
        let fd = self.read_only()?;
        Ok(Segment { fd, len: self.len(), is_huge: false })
    }

    /// The same file to be filled without a mapping, as long as it is not sealed.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no descriptor.
    pub fn to_be_filled(&self) -> Result<Segment> {
        let fd = self.segment.fd.try_clone().map_err(|error| Error::io("dup", error))?;
        Ok(Segment { fd, len: self.len(), is_huge: false })
    }

    /// Bytes, whole pages.
    #[allow(clippy::len_without_is_empty, reason = "a file is never empty")]
    pub fn len(&self) -> u64 {
        self.segment.len()
    }

    /// Maps it for writing in this process, and ends everybody else's chance to.
    ///
    /// # Errors
    /// [`Error::Io`] when a call fails.
    pub fn write_here(self) -> Result<(Mapping, OwnedFd)> {
        let mapping = Mapping::read_write(&self.segment, self.len())?;
        Ok((mapping, self.written_by_peer()?))
    }

    /// Whoever is to write it has mapped it by now; from here on nobody else can. Returns the descriptor for readers.
    ///
    /// Until now the peer could have given pages back, after which a reader would meet SIGBUS when there is no memory. So
    /// they are allocated once more, which costs little when they are there.
    ///
    /// # Errors
    /// [`Error::Io`] when a call fails, or a page is gone and there is no memory for another.
    pub fn written_by_peer(&self) -> Result<OwnedFd> {
        add_seals(&self.segment, SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL)?;
        self.segment.fill(0..self.len())?;
        self.read_only()
    }

    fn read_only(&self) -> Result<OwnedFd> {
        let read_only = self.segment.open_for_reading()?;
        // Other users cannot open it at all. The same user could undo this, and is kept out by the seal.
        fchmod(&self.segment, Mode::empty()).map_err(Error::from_errno("fchmod"))?;
        Ok(read_only)
    }
}

/// The descriptor is for the one writer, if that is another process; nobody else gets it.
impl AsFd for OneWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl, open};
    use nix::sys::stat::fstat;
    use nix::sys::uio::pwrite;
    use nix::unistd::ftruncate;

    use super::*;

    const LEN: u64 = 1 << 18;

    /// Everything by which a descriptor could change the file is refused.
    fn assert_unwritable(fd: BorrowedFd<'_>) {
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert!(Mapping::read_write(fd, LEN).is_err());
        assert!(pwrite(fd, b"x", 0).is_err());
        assert!(ftruncate(fd, 0).is_err());
        assert!(fallocate(fd, mode, 0, 4096).is_err());
        assert_eq!(fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)), Err(Errno::EPERM));
    }

    /// The file opened once more for writing, as its user may, or root.
    fn opened_again(fd: BorrowedFd<'_>) -> OwnedFd {
        fchmod(fd, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        open(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(), OFlag::O_RDWR, Mode::empty()).unwrap()
    }

    #[test]
    fn only_the_first_mapping_writes() {
        let (writer, read_only) = OneWriter::create("test", LEN).unwrap().write_here().unwrap();
        let reader = Mapping::read_only(&read_only, LEN).unwrap();
        writer.write(LEN - 4, b"last").unwrap();
        let mut seen = [0; 4];
        reader.read(LEN - 4, &mut seen).unwrap();
        assert_eq!(&seen, b"last");
        assert_unwritable(read_only.as_fd());
        assert_unwritable(opened_again(read_only.as_fd()).as_fd());
        reader.read(LEN - 4, &mut seen).unwrap();
        assert_eq!(&seen, b"last");
    }

    #[test]
    fn a_peer_that_has_mapped_it_goes_on_writing() {
        let file = OneWriter::create("test", LEN).unwrap();
        let peers = file.as_fd().try_clone_to_owned().unwrap();
        let writer = Mapping::read_write(&peers, LEN).unwrap();
        let reader = Mapping::read_only(&file, LEN).unwrap();
        let read_only = file.written_by_peer().unwrap();
        assert_unwritable(peers.as_fd());
        assert_unwritable(read_only.as_fd());
        writer.write(0, b"pins").unwrap();
        let mut seen = [0; 4];
        reader.read(0, &mut seen).unwrap();
        assert_eq!(&seen, b"pins");
    }

    #[test]
    fn all_of_it_has_memory_even_when_the_peer_gave_some_back() {
        let file = OneWriter::create("test", LEN).unwrap();
        let memory = |fd: BorrowedFd<'_>| fstat(fd).unwrap().st_blocks as u64 * 512;
        assert_eq!(memory(file.as_fd()), LEN);
        file.segment.punch(0..LEN / 2).unwrap();
        file.segment.write_at(LEN / 2, b"kept").unwrap();
        assert_eq!(memory(file.as_fd()), LEN / 2);
        let read_only = file.written_by_peer().unwrap();
        assert_eq!(memory(read_only.as_fd()), LEN);
        let mut seen = [0; 4];
        Mapping::read_only(&read_only, LEN).unwrap().read(LEN / 2, &mut seen).unwrap();
        assert_eq!(&seen, b"kept");
    }

    #[test]
    fn other_users_may_not_open_it() {
        let file = OneWriter::create("test", LEN).unwrap();
        assert_eq!(fstat(file.written_by_peer().unwrap()).unwrap().st_mode & 0o777, 0);
    }

    #[test]
    fn a_length_that_cannot_be_is_named() {
        let error = OneWriter::create("test", u64::MAX).unwrap_err().to_string();
        assert!(error.contains(&u64::MAX.to_string()), "{error}");
    }
}
