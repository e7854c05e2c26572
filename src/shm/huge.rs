//! Segments of huge pages.
//!
//! A mapping of such a file takes pages for its whole length at once, from a pool that somebody must have filled. Old clients map
//! the whole segment and abort when they cannot, so the segment is no longer than what is needed, and has all its memory from
//! the start: then there are pages for everybody who maps it, or the store does not start. They are never given back.
#![forbid(unsafe_code)]

use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::memfd::MFdFlags;
use nix::sys::stat::fstat;
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs, statfs};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::{Pid, ftruncate};

use super::mapping::Mapping;
use super::segment::{Segment, failed, new_memfd, seal, unnamed_file};
use crate::error::{Error, Result};

impl Segment {
    /// Makes a segment of huge pages, of `len` bytes rounded up to whole ones: a memfd, or a file in a directory that must be in
    /// a hugetlbfs. `name` as for [`create`](Self::create). It has no memory yet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a length or directory that cannot be, [`Error::Io`] when a call fails.
    pub fn create_huge(name: &str, directory: Option<&Path>, len: u64) -> Result<Self> {
        let fd = match directory {
            None => new_memfd(name, MFdFlags::MFD_HUGETLB)?,
            Some(directory) => {
                check_directory(directory)?;
                unnamed_file(directory).map_err(|error| Error::io(directory.display().to_string(), error))?
            }
        };
        let page = page_size_of(fd.as_fd())?;
        let whole = len.checked_next_multiple_of(page).and_then(|len| i64::try_from(len).ok()).filter(|&len| len > 0);
        let whole = whole.ok_or_else(|| Error::InvalidArgument(format!("a segment cannot have {len} bytes")))?;
        ftruncate(&fd, whole).map_err(|errno| failed("ftruncate", len, errno))?;
        if directory.is_none() {
            seal(&fd)?;
        }
        Ok(Self { fd, len: whole as u64, is_huge: true })
    }

    /// Puts memory behind all of a segment of huge pages.
    ///
    /// # Errors
    /// [`Error::StoreFull`] that says how many pages are needed, how many are free, and what sets their number.
    pub fn allocate_huge(&self) -> Result<()> {
        let page = page_size_of(self.as_fd())?;
        let folder = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page / 1024);
        let figure = |name| fs::read_to_string(format!("{folder}/{name}")).ok()?.trim().parse::<u64>().ok();
        let free = figure("free_hugepages").zip(figure("resv_hugepages"));
        self.allocate(0..self.len()).map_err(|error| {
            let free = free.map_or("an unknown number".into(), |(free, taken)| free.saturating_sub(taken).to_string());
            Error::StoreFull(format!(
                "{} huge pages of {} kB are needed, {free} are free; sysctl vm.nr_hugepages ({folder}/nr_hugepages) sets \
                 how many there are: {error}",
                self.len() / page,
                page / 1024
            ))
        })
    }

    /// [`write_at`](Self::write_at), for files that have no `write`.
    ///
    /// The kernel writes through a mapping that lasts as long as this: where a peer took the page away and there is no other, that
    /// is an error, while touching it would be a SIGBUS.
    pub(super) fn write_huge(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mapping = Mapping::read_write(self.as_fd(), self.len())?;
        let start = mapping.address_mut(offset, bytes.len() as u64)? as usize;
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let target = RemoteIoVec { base: start + done, len: rest.len() };
            match process_vm_writev(Pid::this(), &[IoSlice::new(rest)], &[target]) {
                Ok(0) => return Err(failed("process_vm_writev", bytes.len() as u64, Errno::EIO)),
                Ok(count) => done += count,
                Err(errno) => return Err(failed("process_vm_writev", bytes.len() as u64, errno)),
            }
        }
        Ok(())
    }
}

/// Whether a file consists of huge pages.
pub(super) fn is_huge(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstatfs(fd).map_err(Error::from_errno("fstatfs"))?;
    Ok(stat.filesystem_type() == HUGETLBFS_MAGIC)
}

fn page_size_of(fd: BorrowedFd<'_>) -> Result<u64> {
    let stat = fstat(fd).map_err(Error::from_errno("fstat"))?;
    let size = u64::try_from(stat.st_blksize).ok().filter(|size| size.is_power_of_two());
    size.ok_or_else(|| {
        Error::io(format!("fstat gave {} as size of a huge page", stat.st_blksize), Errno::EINVAL.into())
    })
}

fn check_directory(directory: &Path) -> Result<()> {
    let stat = statfs(directory).map_err(|errno| Error::io(directory.display().to_string(), errno.into()))?;
    match stat.filesystem_type() == HUGETLBFS_MAGIC {
        true => Ok(()),
        false => Err(Error::InvalidArgument(format!("{} is not in a hugetlbfs", directory.display()))),
    }
}
