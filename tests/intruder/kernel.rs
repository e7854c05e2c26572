//! Calls as an intruder makes them, with nothing between it and the kernel. Each says what the kernel answered.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, ptr};

use nix::errno::Errno;
use nix::libc;

/// What the kernel said to an attempt.
pub type Answer<T = ()> = nix::Result<T>;

fn said(result: i64) -> Answer {
    Errno::result(result).map(drop)
}

fn said_io<T>(result: io::Result<T>) -> Answer {
    result.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// Memory of a file in this process.
pub struct Area {
    address: *mut libc::c_void,
    length: usize,
}

impl Area {
    /// Maps the file from its beginning.
    pub fn map(fd: BorrowedFd<'_>, length: usize, protection: i32) -> Answer<Self> {
        // SAFETY: a new mapping, wherever the kernel likes.
        let address = unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Self { address, length }) }
    }

    pub fn read_only(fd: BorrowedFd<'_>, length: usize) -> Answer<Self> {
        Self::map(fd, length, libc::PROT_READ)
    }

    pub fn read_write(fd: BorrowedFd<'_>, length: usize) -> Answer<Self> {
        Self::map(fd, length, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Its words.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: it is mapped for reading at least, page-aligned, and whoever writes it does so with atomics.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.length / 4) }
    }

    pub fn protect(&self, protection: i32) -> Answer {
        // SAFETY: it is this mapping, which nobody has a reference to.
        said(unsafe { libc::mprotect(self.address, self.length, protection) }.into())
    }

    pub fn advise(&self, advice: i32) -> Answer {
        // SAFETY: shared memory of a file; what is lost is the file's.
        said(unsafe { libc::madvise(self.address, self.length, advice) }.into())
    }

    /// Writes to it through the file of this process's memory, which asks no protection of pages.
    pub fn force(&self) -> Answer {
        let memory = OpenOptions::new().write(true).open("/proc/self/mem").map_err(errno)?;
        said_io(memory.write_all_at(b"!", self.address as u64))
    }

    /// Lets the kernel write to it, as the target of a read.
    pub fn be_read_into(&self) -> Answer {
        let zeros = File::open("/dev/zero").map_err(errno)?;
        // SAFETY: one byte of this mapping; when it is read-only the kernel says so.
        said(unsafe { libc::read(zeros.as_raw_fd(), self.address, 1) } as i64)
    }
}

/// A futex operation on a word. `other` is the word of FUTEX_CMP_REQUEUE; it moves and wakes as many as there are.
pub fn futex(word: &AtomicU32, operation: i32, value: u32, other: &AtomicU32, expected: u32) -> Answer<i64> {
    let (word, other) = (ptr::from_ref(word), ptr::from_ref(other));
    // SAFETY: both words live as long as the call.
    let result = unsafe { libc::syscall(libc::SYS_futex, word, operation, value, i32::MAX as usize, other, expected) };
    Errno::result(result)
}

/// Waits on a word for as long as it has this value.
pub fn wait_on(word: &AtomicU32, value: u32) -> Answer {
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: the word lives as long as the call.
    said(unsafe { libc::syscall(libc::SYS_futex, ptr::from_ref(word), libc::FUTEX_WAIT, value, forever) })
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference to it any more.
        unsafe { libc::munmap(self.address, self.length) };
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// The file of a descriptor once more.
pub fn open_again(fd: BorrowedFd<'_>, flags: i32) -> Answer<OwnedFd> {
    open(&format!("/proc/self/fd/{}", fd.as_raw_fd()), flags)
}

/// Opens with exactly these flags.
pub fn open(path: &str, flags: i32) -> Answer<OwnedFd> {
    let access = flags & libc::O_ACCMODE;
    let mut options = OpenOptions::new();
    options.read(access != libc::O_WRONLY).write(access != libc::O_RDONLY).custom_flags(flags & !libc::O_ACCMODE);
    options.open(path).map(OwnedFd::from).map_err(errno)
}

pub fn change_mode(fd: BorrowedFd<'_>, mode: u32) -> Answer {
    // SAFETY: numbers only.
    said(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }.into())
}

pub fn write_at(fd: BorrowedFd<'_>, offset: i64) -> Answer {
    // SAFETY: the byte is there.
    said(unsafe { libc::pwrite(fd.as_raw_fd(), b"!".as_ptr().cast(), 1, offset) } as i64)
}

pub fn set_length(fd: BorrowedFd<'_>, length: usize) -> Answer {
    // SAFETY: numbers only.
    said(unsafe { libc::ftruncate(fd.as_raw_fd(), length as i64) }.into())
}

pub fn allocate(fd: BorrowedFd<'_>, mode: i32, offset: usize, length: usize) -> Answer {
    // SAFETY: numbers only.
    said(unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset as i64, length as i64) }.into())
}

pub fn add_seals(fd: BorrowedFd<'_>, seals: i32) -> Answer {
    // SAFETY: numbers only.
    said(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())
}

/// Lets the kernel copy a byte from another file into this one.
pub fn send_into(fd: BorrowedFd<'_>) -> Answer {
    let source = File::open("/proc/self/exe").map_err(errno)?;
    // SAFETY: numbers, and no offset.
    said(unsafe { libc::sendfile(fd.as_raw_fd(), source.as_raw_fd(), ptr::null_mut(), 1) } as i64)
}

/// Lets the kernel move a byte from a pipe into this file.
pub fn splice_into(fd: BorrowedFd<'_>) -> Answer {
    let (reader, mut writer) = io::pipe().map_err(errno)?;
    writer.write_all(b"!").map_err(errno)?;
    let mut offset = 0_i64;
    // SAFETY: the offset is there.
    said(unsafe { libc::splice(reader.as_raw_fd(), ptr::null_mut(), fd.as_raw_fd(), &raw mut offset, 1, 0) } as i64)
}

/// Everything that would change what is in a file, or its length.
pub fn ways_to_change(fd: BorrowedFd<'_>, length: usize) -> Vec<(&'static str, Answer)> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let mut tried = ways_to_map(fd, length);
    tried.extend([
        ("write to it", write_at(fd, 0)),
        ("send a file into it", send_into(fd)),
        ("splice a pipe into it", splice_into(fd)),
        ("punch a hole", allocate(fd, mode, 0, 4096)),
    ]);
    tried.extend(ways_to_change_its_length(fd, length));
    tried
}

/// Everything that would change its length.
pub fn ways_to_change_its_length(fd: BorrowedFd<'_>, length: usize) -> Vec<(&'static str, Answer)> {
    let page = 4096;
    vec![
        ("cut it off", set_length(fd, 0)),
        ("cut a page off", set_length(fd, length - page)),
        ("make it longer", set_length(fd, length + page)),
        ("write behind its end", write_at(fd, length as i64)),
        ("allocate behind its end", allocate(fd, 0, length, page)),
    ]
}

/// Everything that would keep others from writing, or its owner from doing that.
pub fn ways_to_seal(fd: BorrowedFd<'_>) -> Vec<(&'static str, Answer)> {
    vec![
        ("seal it against writing", add_seals(fd, libc::F_SEAL_WRITE)),
        ("seal it against new writers", add_seals(fd, libc::F_SEAL_FUTURE_WRITE)),
        ("seal it against seals", add_seals(fd, libc::F_SEAL_SEAL)),
    ]
}

fn ways_to_map(fd: BorrowedFd<'_>, length: usize) -> Vec<(&'static str, Answer)> {
    let mut tried = vec![("map it for writing", Area::read_write(fd, length).map(drop))];
    // A descriptor for writing alone cannot be mapped at all.
    if let Ok(area) = Area::read_only(fd, length) {
        tried.extend([
            ("make a mapping writable", area.protect(libc::PROT_READ | libc::PROT_WRITE)),
            ("write to a mapping through /proc/self/mem", area.force()),
            ("read into a mapping", area.be_read_into()),
            ("give pages of a mapping back", area.advise(libc::MADV_REMOVE)),
        ]);
    }
    tried
}

/// Everything by which a process looks into another, or takes something out of it.
pub fn ways_into(process: i32) -> Vec<(String, Answer)> {
    let file = |name: &str| format!("/proc/{process}/{name}");
    let mut tried: Vec<(String, Answer)> = ["mem", "maps", "fd/0", "environ", "exe"]
        .map(|name| (format!("open its {name}"), open(&file(name), libc::O_RDONLY).map(drop)))
        .into();
    tried.push(("write its memory".into(), open(&file("mem"), libc::O_RDWR).map(drop)));
    tried.push(("list its descriptors".into(), said_io(std::fs::read_dir(file("fd")))));
    tried.push(("process_vm_readv".into(), vm(libc::process_vm_readv, process)));
    tried.push(("process_vm_writev".into(), vm(libc::process_vm_writev, process)));
    tried.push(("PTRACE_SEIZE".into(), seize(process)));
    let own = nix::unistd::getpid().as_raw();
    // SAFETY: numbers only. KCMP_FILES, whether both have the same table of descriptors.
    tried.push(("kcmp".into(), said(unsafe { libc::syscall(libc::SYS_kcmp, own, process, 2, 0, 0) })));
    tried.extend((0..32).map(|number| (format!("take its descriptor {number}"), take(process, number))));
    tried
}

/// `process_vm_readv` or `process_vm_writev`.
type Vm = unsafe extern "C" fn(i32, *const libc::iovec, u64, *const libc::iovec, u64, u64) -> isize;

/// Reads or writes where nothing is mapped: a process that may is told so by EFAULT.
fn vm(call: Vm, process: i32) -> Answer {
    let mut byte = 0_u8;
    let own = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let theirs = libc::iovec { iov_base: ptr::without_provenance_mut(4096), iov_len: 1 };
    // SAFETY: our byte is there; theirs is not, and nothing happens.
    match said(unsafe { call(process, &raw const own, 1, &raw const theirs, 1, 0) } as i64) {
        Err(Errno::EFAULT) => Ok(()),
        other => other,
    }
}

fn seize(process: i32) -> Answer {
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: numbers only; a process that is seized runs on.
    said(unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, none, none) })
}

fn take(process: i32, number: i32) -> Answer {
    // SAFETY: numbers only.
    let opened = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: the kernel just made it.
    let opened = unsafe { OwnedFd::from_raw_fd(opened as i32) };
    // SAFETY: numbers only. What is taken goes with this process.
    match said(unsafe { libc::syscall(libc::SYS_pidfd_getfd, opened.as_raw_fd(), number, 0) }) {
        // Whoever may take is told that there is none of this number.
        Err(Errno::EBADF) => Ok(()),
        other => other,
    }
}

/// Ends a thread that says it held a robust mutex whose word this is: the kernel marks such a word, where it can. With
/// `claimed` it is in the word before.
pub fn die_with(word: &AtomicU32, claimed: bool) {
    #[repr(C)]
    struct List {
        first: usize,
        offset: i64,
        pending: usize,
    }
    let address = ptr::from_ref(word).addr();
    let die = || {
        if claimed {
            word.store(nix::unistd::gettid().as_raw() as u32, Ordering::SeqCst);
        }
        // The kernel looks at the list when the thread has ended, so it stays for ever. It ends in itself.
        let list = Box::leak(Box::new(List { first: 0, offset: 0, pending: address }));
        list.first = ptr::from_ref(list).addr();
        // SAFETY: the list stays, and its entries are addresses that the kernel checks.
        let set = unsafe { libc::syscall(libc::SYS_set_robust_list, ptr::from_ref(list), size_of::<List>()) };
        assert_eq!(set, 0);
    };
    std::thread::scope(|scope| scope.spawn(die).join().unwrap());
}
