//! One memory file, a memfd with its seals or a file in a directory; the memory behind it comes and goes by system calls
//! only.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{SysconfVar, Whence, ftruncate, lseek, sysconf};

use crate::error::{Error, Result};

/// How much one `fallocate` asks for.
///
/// A signal makes the kernel give up the whole call and undo it, so one call for a large object might never get
/// through in a process with a profiling timer. In pieces, what is done stays done: 16 MiB take about 4 ms.
const ALLOCATION_STEP: u64 = 16 << 20;

/// A memory file of fixed length, sparse until [`allocate`](Self::allocate) is called.
///
/// Nothing is mapped here, so no peer can make the owner of a segment take a SIGBUS.
#[derive(Debug)]
pub struct Segment {
    pub(super) fd: OwnedFd,
    pub(super) len: u64,
    /// It consists of huge pages.
    pub(super) is_huge: bool,
}

impl Segment {
    /// Makes a segment of `len` bytes, rounded up to whole pages so that each of its pages can be allocated.
    ///
    /// `name` shows up in `/proc/PID/fd` and `/proc/PID/maps`; it need not be unique. The length is sealed: a peer that
    /// could cut the file short would kill everyone who maps it. Writing is not sealed, since clients of the old
    /// protocol map segments writable and abort when they cannot.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `len` is 0 or no file can be that long, [`Error::Io`] when a call fails.
    pub fn create(name: &str, len: u64) -> Result<Self> {
        let segment = Self::create_unsealed(name, len)?;
        seal_length(&segment.fd)?;
        Ok(segment)
    }

    /// The same without any seal yet; nobody else may have it before it has those that it needs.
    pub(super) fn create_unsealed(name: &str, len: u64) -> Result<Self> {
        Self::with_length(len, || new_memfd(name, MFdFlags::empty()))
    }

    /// Makes a segment in `directory`: a file without a name, with mode 0600, that ends with its last descriptor. `len`
    /// as for [`create`](Self::create).
    ///
    /// Only a memfd can be sealed. A peer that cuts this file short kills those who map it, though never the store.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] as for [`create`](Self::create), and for a directory where no file can be, be that
    /// long, or have its memory allocated and given back.
    pub fn create_in(directory: &Path, len: u64) -> Result<Self> {
        let wrong = |error: Error| {
            Error::InvalidArgument(format!("{} cannot hold the memory file: {error}", directory.display()))
        };
        let open = || unnamed_file(directory).map_err(|error| Error::io("open", error));
        let segment = Self::with_length(len, open).map_err(wrong)?;
        let page = 0..page_size()?;
        segment.allocate(page.clone()).and_then(|()| segment.punch(page)).map_err(wrong)?;
        Ok(segment)
    }

    fn with_length(len: u64, open: impl FnOnce() -> Result<OwnedFd>) -> Result<Self> {
        let whole = len.checked_next_multiple_of(page_size()?).and_then(|len| i64::try_from(len).ok());
        let Some(file_len) = whole.filter(|&len| len > 0) else {
            return Err(Error::InvalidArgument(format!("a segment cannot have {len} bytes")));
        };
        let fd = open()?;
        ftruncate(&fd, file_len).map_err(|errno| failed("ftruncate", len, errno))?;
        Ok(Self { fd, len: file_len as u64, is_huge: false })
    }

    /// Length in bytes, fixed for life; how much of it has memory is the business of
    /// [`Backing`](super::backing::Backing).
    #[allow(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Its length, if it has all its memory from the start and keeps it.
    pub fn fixed_length(&self) -> Option<u64> {
        self.is_huge.then_some(self.len)
    }

    /// Puts memory behind `range`, which must be a hole and should be whole pages.
    ///
    /// This is where a shortage of memory shows: before anybody was told of the range, as an error. When it fails, the
    /// range is a hole again.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] outside the segment, [`Error::Io`] when the memory is not there (`ENOSPC`, `ENOMEM`).
    pub fn allocate(&self, range: Range<u64>) -> Result<()> {
        self.check(range.start, range.end)?;
        self.fill_by_steps(&range).or_else(|(done, error)| {
            self.punch(range.start..done)?;
            Err(error)
        })
    }

    /// Puts memory behind those parts of `range` that have none. What it has done by the time it fails stays.
    ///
    /// # Errors
    /// As for [`allocate`](Self::allocate).
    pub(super) fn fill(&self, range: Range<u64>) -> Result<()> {
        self.check(range.start, range.end)?;
        self.fill_by_steps(&range).map_err(|(_, error)| error)
    }

    /// On failure tells up to where it came.
    fn fill_by_steps(&self, range: &Range<u64>) -> Result<(), (u64, Error)> {
        let mut done = range.start;
        while done < range.end {
            let step = done..range.end.min(done.saturating_add(ALLOCATION_STEP));
            self.fallocate(FallocateFlags::empty(), &step)
                .map_err(|errno| (done, failed("fallocate", range.end - range.start, errno)))?;
            done = step.end;
        }
        Ok(())
    }

    /// Up to where there is memory from `offset` on that has been cleared or written. It may be more than this says.
    pub(super) fn clear_until(&self, offset: u64) -> u64 {
        clear_until(self.fd.as_fd(), offset)
    }

    /// Gives the memory behind `range` back; the range then reads as zeros. Only whole pages are given back.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] outside the segment, [`Error::Io`] when the call fails.
    pub fn punch(&self, range: Range<u64>) -> Result<()> {
        self.check(range.start, range.end)?;
        if range.is_empty() {
            return Ok(());
        }
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.fallocate(mode, &range).map_err(|errno| failed("fallocate(PUNCH_HOLE)", range.end - range.start, errno))
    }

    /// Writes `bytes` at `offset`. The range should have been allocated, else it takes memory that nobody counted.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] outside the segment, [`Error::Io`] when a write fails.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check_copy(offset, bytes.len())?;
        if self.is_huge {
            return self.write_huge(offset, bytes);
        }
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match pwrite(&self.fd, rest, file_offset(offset + done as u64)) {
                Ok(0) => return Err(failed("pwrite", bytes.len() as u64, Errno::EIO)),
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("pwrite", bytes.len() as u64, errno)),
            }
        }
        Ok(())
    }

    /// Fills `out` from `offset`. A hole reads as zeros and stays a hole.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] outside the segment, [`Error::Io`] when a read fails.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check_copy(offset, out.len())?;
        let (len, mut done) = (out.len() as u64, 0);
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match pread(&self.fd, rest, file_offset(offset + done as u64)) {
                Ok(0) => return Err(failed("pread", len, Errno::EIO)),
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("pread", len, errno)),
            }
        }
        Ok(())
    }

    /// Its file, opened once more so that the descriptor does not write. Whoever may write the file can open it again, if nothing
    /// else keeps them from it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open_for_reading(&self) -> Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let file = File::open(&path).map_err(|error| Error::io(format!("open({path})"), error))?;
        Ok(file.into())
    }

    fn fallocate(&self, mode: FallocateFlags, range: &Range<u64>) -> Result<(), Errno> {
        loop {
            match fallocate(&self.fd, mode, file_offset(range.start), file_offset(range.end - range.start)) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }

    fn check(&self, start: u64, end: u64) -> Result<()> {
        if start > end || end > self.len {
            let text = format!("bytes {start} to {end} are not in a segment of {} bytes", self.len);
            return Err(Error::InvalidArgument(text));
        }
        Ok(())
    }

    fn check_copy(&self, offset: u64, len: usize) -> Result<()> {
        self.check(offset, offset.saturating_add(len as u64))
    }
}

/// Bytes of one page, the unit in which a segment gets and loses memory.
///
/// # Errors
/// [`Error::Io`] when the system does not say, or says nonsense.
pub fn page_size() -> Result<u64> {
    let answer = sysconf(SysconfVar::PAGE_SIZE).map_err(Error::from_errno("sysconf(_SC_PAGESIZE)"))?;
    let size = answer.and_then(|size| u64::try_from(size).ok()).filter(|size| size.is_power_of_two());
    size.ok_or_else(|| Error::io(format!("sysconf(_SC_PAGESIZE) gave {answer:?}"), Errno::EINVAL.into()))
}

/// As [`Segment::clear_until`], for any file of that kind.
pub(super) fn clear_until(fd: BorrowedFd<'_>, offset: u64) -> u64 {
    let end = lseek(fd, file_offset(offset), Whence::SeekHole);
    end.ok().and_then(|end| u64::try_from(end).ok()).unwrap_or(offset)
}

/// Bytes in the file behind `fd`.
pub(super) fn file_len(fd: BorrowedFd<'_>) -> Result<u64> {
    let stat = fstat(fd).map_err(Error::from_errno("fstat"))?;
    u64::try_from(stat.st_size).map_err(|_| Error::io("fstat", Errno::EOVERFLOW.into()))
}

/// An offset that was checked against the length of a segment, which fits an `i64` by construction.
fn file_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

pub(super) fn new_memfd(name: &str, more: MFdFlags) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | more;
    let not_executable = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    memfd_create(name, flags | not_executable)
        .or_else(|errno| match errno {
            // Linux before 6.3 does not know MFD_NOEXEC_SEAL; later ones may log or refuse a memfd without it.
            Errno::EINVAL => memfd_create(name, flags),
            errno => Err(errno),
        })
        .map_err(|errno| Error::io(format!("memfd_create({name:?})"), errno.into()))
}

pub(super) fn seal_length(memfd: &OwnedFd) -> Result<()> {
    // F_SEAL_SEAL last and in the same call: later nobody, not even we, can add a seal that keeps others from writing.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    add_seals(memfd, seals)
}

/// Whether nobody can write or shorten the file behind `fd`, ever. Only a memfd can be so.
pub(super) fn is_immutable(fd: BorrowedFd<'_>) -> bool {
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK))
}

/// Adds seals for good.
pub(super) fn add_seals(memfd: impl AsFd, seals: SealFlag) -> Result<()> {
    fcntl(memfd, FcntlArg::F_ADD_SEALS(seals)).map(drop).map_err(Error::from_errno("fcntl(F_ADD_SEALS)"))
}

/// A file in `directory` that no path leads to.
pub(super) fn unnamed_file(directory: &Path) -> io::Result<OwnedFd> {
    // O_EXCL: nobody can give it a name later, either.
    let file = private_file(libc::O_TMPFILE | libc::O_EXCL).open(directory);
    match file.as_ref().map_err(io::Error::raw_os_error) {
        // NFS and FAT, for two, have no such files.
        Err(Some(libc::EOPNOTSUPP | libc::EISDIR)) => removed_file(directory),
        _ => file.map(OwnedFd::from),
    }
}

/// The same where each file begins with a name, which is taken away at once.
fn removed_file(directory: &Path) -> io::Result<OwnedFd> {
    let path = directory.join(format!("plasma-{:016x}", getrandom::u64()?));
    let file = private_file(libc::O_NOFOLLOW).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file.into())
}

fn private_file(flags: i32) -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600).custom_flags(flags);
    options
}

pub(super) fn failed(call: &str, len: u64, errno: Errno) -> Error {
    Error::io(format!("{call} of {len} bytes"), errno.into())
}

impl AsFd for Segment {
    /// The descriptor, as it is sent to clients.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::FdFlag;

    const PAGE: u64 = 65536; // a multiple of every page size in use

    fn memory(segment: &Segment) -> u64 {
        fstat(segment.as_fd()).unwrap().st_blocks as u64 * 512
    }

    #[test]
    fn a_segment_starts_sparse_and_keeps_its_length() {
        let segment = Segment::create("test", 1 << 40).unwrap();
        assert_eq!((segment.len(), memory(&segment)), (1 << 40, 0));
        assert_eq!(ftruncate(segment.as_fd(), 0), Err(Errno::EPERM));
        assert_eq!(ftruncate(segment.as_fd(), 1 << 41), Err(Errno::EPERM));
        let seals = SealFlag::from_bits_retain(fcntl(segment.as_fd(), FcntlArg::F_GET_SEALS).unwrap());
        assert!(seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL));
        assert!(!seals.intersects(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE));
    }

    #[test]
    fn odd_lengths_are_rounded_up_to_pages() {
        let page = page_size().unwrap();
        let segment = Segment::create("test", page + 1).unwrap();
        assert_eq!(segment.len(), 2 * page);
        segment.allocate(page..2 * page).unwrap();
    }

    #[test]
    fn impossible_lengths_are_named() {
        for len in [0, 1 << 63, u64::MAX] {
            let error = Segment::create("test", len).unwrap_err().to_string();
            assert!(error.contains(&len.to_string()), "{error}");
        }
    }

    #[test]
    fn a_name_with_nul_or_too_long_is_an_error() {
        assert!(matches!(Segment::create("a\0b", 1), Err(Error::Io { .. })));
        assert!(matches!(Segment::create(&"n".repeat(300), 1), Err(Error::Io { .. })));
    }

    #[test]
    fn memory_comes_and_goes_by_the_page() {
        let segment = Segment::create("test", 16 * PAGE).unwrap();
        segment.allocate(2 * PAGE..6 * PAGE).unwrap();
        assert_eq!(memory(&segment), 4 * PAGE);
        segment.write_at(3 * PAGE, b"gone soon").unwrap();
        segment.punch(3 * PAGE..5 * PAGE).unwrap();
        assert_eq!(memory(&segment), 2 * PAGE);
        let mut out = [1; 9];
        segment.read_at(3 * PAGE, &mut out).unwrap();
        assert_eq!((out, memory(&segment)), ([0; 9], 2 * PAGE));
        segment.punch(7..7).unwrap();
        segment.allocate(7..7).unwrap();
    }

    #[test]
    fn a_segment_in_a_directory_is_sparse_private_and_without_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let segment = Segment::create_in(directory.path(), 64 * PAGE + 1).unwrap();
        assert!(segment.len() > 64 * PAGE && segment.len().is_multiple_of(page_size().unwrap()));
        assert_eq!(fstat(segment.as_fd()).unwrap().st_mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(
            FdFlag::from_bits_retain(fcntl(segment.as_fd(), FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC)
        );
        segment.allocate(0..4 * PAGE).unwrap();
        segment.write_at(PAGE, b"kept").unwrap();
        segment.punch(2 * PAGE..4 * PAGE).unwrap();
        let mut out = [0; 4];
        segment.read_at(PAGE, &mut out).unwrap();
        assert_eq!(&out, b"kept");
        assert!((2 * PAGE..4 * PAGE).contains(&memory(&segment)), "{} bytes", memory(&segment));
    }

    #[test]
    fn where_files_need_a_name_it_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let file = removed_file(directory.path()).unwrap();
        assert_eq!(fstat(&file).unwrap().st_mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(FdFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC));
    }

    #[test]
    fn a_directory_that_will_not_do_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [Path::new("/no/such/directory"), Path::new("/proc"), file.path()] {
            let error = Segment::create_in(path, 1).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_failed_allocation_leaves_a_hole() {
        // The true end of the file stands in for the end of memory: the third step meets it.
        let Segment { fd, len, is_huge } = Segment::create("test", 2 * ALLOCATION_STEP + PAGE).unwrap();
        let segment = Segment { fd, len: len + ALLOCATION_STEP, is_huge };
        segment.allocate(0..PAGE).unwrap();
        let error = segment.allocate(PAGE..segment.len).unwrap_err().to_string();
        assert!(error.contains(&(segment.len - PAGE).to_string()), "{error}");
        assert_eq!(memory(&segment), PAGE);
    }

    #[test]
    fn copies_cross_pages_and_stop_at_the_end() {
        let segment = Segment::create("test", 4 * PAGE).unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(2 * PAGE as usize + 3).collect();
        segment.write_at(PAGE - 1, &bytes).unwrap();
        let mut out = vec![0; bytes.len()];
        segment.read_at(PAGE - 1, &mut out).unwrap();
        assert!(out == bytes);
        segment.write_at(4 * PAGE, b"").unwrap();
        for offset in [4 * PAGE - 1, 4 * PAGE, u64::MAX] {
            let error = segment.write_at(offset, b"xy").unwrap_err().to_string();
            assert!(error.contains(&offset.to_string()) && error.contains(&(4 * PAGE).to_string()), "{error}");
            assert!(segment.read_at(offset, &mut [0; 2]).is_err());
        }
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges)]
    fn ranges_outside_the_segment_are_refused() {
        let segment = Segment::create("test", PAGE).unwrap();
        for range in [0..PAGE + 1, PAGE..2 * PAGE, 5..4, u64::MAX - 1..u64::MAX] {
            assert!(matches!(segment.allocate(range.clone()), Err(Error::InvalidArgument(_))), "{range:?}");
            assert!(matches!(segment.punch(range.clone()), Err(Error::InvalidArgument(_))), "{range:?}");
        }
    }
}
