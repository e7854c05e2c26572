//! Objects that are immutable for the kernel: from their seal on nobody can write them, their producer included; while anybody could,
//! they are not sealed; and nothing of them is left behind.
//!
//! Producers that are killed are this test program, started again with a part to play (`PLASMA_TEST_PART`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "it knows more than is needed here")]
#[path = "intruder/kernel.rs"]
mod kernel;
mod support;

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kernel::Area;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use plasma_store::client::{Buffer, Client, CreateOptions, GetOptions, PutItem};
use plasma_store::error::{Error, Result};
use plasma_store::object::{Location, ObjectId};
use plasma_store::protocol::{Refusal, Reply, Request, Stats};
use plasma_store::shm::mapping::Mapping;
use plasma_store::store::{Store, StoreOptions};
use support::{Daemon, RawPeer, Watchdog, connect, create_of, eventually, id, put};

const MEBIBYTE: u64 = 1 << 20;
const IMMUTABLE: CreateOptions = CreateOptions { no_evict: false, ttl_ms: 0, wait_ms: 0, immutable: true, name: None };

/// Bytes by which an object is known again.
fn pattern(n: u64, size: u64) -> Vec<u8> {
    (0..size).map(|at| at.wrapping_mul(2 * n + 1).to_le_bytes()[1] ^ n as u8).collect()
}

fn got(client: &Client, name: ObjectId) -> Buffer {
    client.get_one(name, -1, GetOptions::default()).unwrap().unwrap()
}

fn bytes_of(buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.size() as usize];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

/// A peer that creates an object and has its memory as it likes.
struct Producer {
    peer: RawPeer,
    place: Location,
    descriptor: OwnedFd,
    length: usize,
}

impl Producer {
    fn begin(socket: &Path, name: ObjectId, size: u64) -> Self {
        let mut peer = RawPeer::pulling(socket);
        let place = peer.create_with(&create_of(name, size as i64, true)).unwrap();
        let (descriptor, length) = lent(&mut peer, place.segment, true).unwrap();
        Self { peer, place, descriptor, length }
    }

    fn map(&self) -> Area {
        Area::read_write(self.descriptor.as_fd(), self.length).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        Mapping::read_write(&self.descriptor, self.length as u64).unwrap().write(self.place.offset, bytes).unwrap();
    }
}

/// The descriptor of a segment, and its length, if the store gives it.
fn lent(peer: &mut RawPeer, segment: i32, writable: bool) -> Result<(OwnedFd, usize), String> {
    match peer.ask(&Request::Segment { segment, writable }) {
        Reply::Segment { outcome } => outcome.map(|length| (peer.descriptors.pop_back().unwrap(), length as usize)),
        other => panic!("{other:?}"),
    }
}

/// Nothing that somebody could do with a descriptor changes anything.
fn assert_immutable(fd: BorrowedFd<'_>, length: usize) {
    // Its user, and root, can have it once more for writing.
    kernel::change_mode(fd, 0o600).unwrap();
    let again = kernel::open_again(fd, libc::O_RDWR).unwrap();
    for fd in [fd, again.as_fd()] {
        for (way, answer) in kernel::ways_to_change(fd, length).into_iter().chain(kernel::ways_to_seal(fd)) {
            assert!(answer.is_err(), "the kernel let somebody {way}");
        }
    }
    assert_eq!(Area::read_write(again.as_fd(), length).err(), Some(Errno::EPERM));
}

fn figures(socket: &Path) -> Stats {
    connect(socket).stats().unwrap()
}

/// Waits until nothing is left of anything, as clients let go of segments some time after they were told.
fn await_nothing(socket: &Path) {
    eventually(|| {
        let stats = figures(socket);
        (stats.used_bytes, stats.objects, stats.segments, stats.retired_bytes) == (0, 0, 0, 0)
    });
}

#[test]
fn from_the_seal_on_nobody_writes_it_and_its_producer_has_no_way_around() {
    let _watchdog = Watchdog::new("from_the_seal_on_nobody_writes_it_and_its_producer_has_no_way_around");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let reader = connect(&daemon.socket());
    for (n, size) in [(1, 1), (2, 4096), (3, 65_537), (4, 2 * MEBIBYTE), (5, 5 * MEBIBYTE + 3)] {
        let mut producer = Producer::begin(&daemon.socket(), id(n), size);
        let bytes = pattern(n, size);
        producer.write(&bytes);
        producer.peer.seal(id(n)).unwrap();
        assert_immutable(producer.descriptor.as_fd(), producer.length);
        let again = lent(&mut producer.peer, producer.place.segment, true);
        assert!(again.unwrap_err().contains("not any more"));
        let (for_readers, length) = lent(&mut producer.peer, producer.place.segment, false).unwrap();
        assert_immutable(for_readers.as_fd(), length);
        assert!(bytes_of(&got(&reader, id(n))) == bytes);
    }
}

#[test]
fn who_keeps_it_mapped_for_writing_cannot_make_it_visible() {
    let _watchdog = Watchdog::new("who_keeps_it_mapped_for_writing_cannot_make_it_visible");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let reader = connect(&daemon.socket());
    let mut hostile = Producer::begin(&daemon.socket(), id(1), 10_000);
    hostile.write(&pattern(1, 10_000));
    let kept = hostile.map();
    for _ in 0..5 {
        assert_eq!(hostile.peer.seal(id(1)), Err(Refusal::StillWritable));
        assert!(!reader.contains(id(1)).unwrap());
    }
    let other = hostile.map();
    drop(kept);
    assert_eq!(hostile.peer.seal(id(1)), Err(Refusal::StillWritable));
    drop(other);
    hostile.peer.seal(id(1)).unwrap();
    assert_immutable(hostile.descriptor.as_fd(), hostile.length);
    assert!(bytes_of(&got(&reader, id(1))) == pattern(1, 10_000));
    // Another one is given up instead.
    let mut hostile = Producer::begin(&daemon.socket(), id(2), 10_000);
    let _kept = hostile.map();
    assert_eq!(hostile.peer.seal(id(2)), Err(Refusal::StillWritable));
    let Reply::Abort { outcome, .. } = hostile.peer.ask(&Request::Abort { id: id(2) }) else { panic!("no answer") };
    outcome.unwrap();
    put(&reader, id(2), b"of somebody else");
    assert_eq!(bytes_of(&got(&reader, id(2))), b"of somebody else");
}

#[test]
fn another_process_that_has_it_mapped_is_in_the_way_until_it_ends() {
    let _watchdog = Watchdog::new("another_process_that_has_it_mapped_is_in_the_way_until_it_ends");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let mut hostile = Producer::begin(&daemon.socket(), id(1), 10_000);
    let mapped = hostile.map();
    let child = forked(|| {
        loop {
            // SAFETY: it only sleeps.
            unsafe { libc::pause() };
        }
    });
    drop(mapped);
    assert_eq!(hostile.peer.seal(id(1)), Err(Refusal::StillWritable));
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
    hostile.peer.seal(id(1)).unwrap();
}

#[test]
fn pages_that_the_kernel_keeps_for_somebody_are_in_the_way() {
    let _watchdog = Watchdog::new("pages_that_the_kernel_keeps_for_somebody_are_in_the_way");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let mut hostile = Producer::begin(&daemon.socket(), id(1), 4096);
    let bytes = pattern(1, 4096);
    hostile.write(&bytes);
    let mapped = hostile.map();
    let mut reader = kept_by_a_pipe(mapped.words().as_ptr().cast());
    drop(mapped);
    assert_eq!(hostile.peer.seal(id(1)), Err(Refusal::StillWritable));
    let mut seen = vec![0; 4096];
    reader.read_exact(&mut seen).unwrap();
    assert!(seen == bytes);
    hostile.peer.seal(id(1)).unwrap();
}

/// A pipe that has a page which is mapped here, as a device would. Whoever reads it has the kernel let go of that.
fn kept_by_a_pipe(page: *const u8) -> PipeReader {
    let (reader, writer) = std::io::pipe().unwrap();
    let page = libc::iovec { iov_base: page.cast_mut().cast(), iov_len: 4096 };
    // SAFETY: the page is mapped.
    assert_eq!(unsafe { libc::vmsplice(writer.as_raw_fd(), &raw const page, 1, 0) }, 4096);
    reader
}

#[test]
fn a_page_that_the_kernel_keeps_for_a_moment_is_waited_for() {
    let _watchdog = Watchdog::new("a_page_that_the_kernel_keeps_for_a_moment_is_waited_for");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let kept = |name| {
        let buffer = client.create(name, 4096, b"", IMMUTABLE).unwrap();
        kept_by_a_pipe(buffer.data())
    };
    let mut reader = kept(id(1));
    assert!(matches!(client.seal(id(1)), Err(Error::Busy(_))));
    reader.read_exact(&mut [0; 4096]).unwrap();
    client.seal(id(1)).unwrap();
    let mut reader = kept(id(2));
    std::thread::scope(|scope| {
        let sealed = scope.spawn(|| client.seal(id(2)));
        // The kernel looks for 150 ms, and has refused it once by then.
        std::thread::sleep(Duration::from_millis(300));
        reader.read_exact(&mut [0; 4096]).unwrap();
        sealed.join().unwrap().unwrap();
    });
}

#[test]
fn its_buffer_has_to_go_before_the_seal() {
    let _watchdog = Watchdog::new("its_buffer_has_to_go_before_the_seal");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let buffer = client.create(id(1), 100_000, b"metadata", IMMUTABLE).unwrap();
    buffer.write(0, &pattern(1, 100_000)).unwrap();
    for refused in [client.seal(id(1)), client.seal_async(id(1)), client.abort(id(1))] {
        assert!(matches!(&refused, Err(Error::Busy(text)) if text.contains(&id(1).to_string())), "{refused:?}");
    }
    assert!(!client.contains(id(1)).unwrap() && buffer.mutable_data().is_some());
    buffer.write(0, b"!").unwrap();
    drop(buffer);
    client.seal_async(id(1)).unwrap();
    assert!(matches!(client.seal(id(1)), Err(Error::ObjectAlreadySealed(_))));
    let found = got(&client, id(1));
    assert_eq!((bytes_of(&found)[0], found.metadata_size()), (b'!', 8));
    assert!(bytes_of(&found)[1..] == pattern(1, 100_000)[1..]);
    let page = found.data().addr() / 4096 * 4096;
    let page = found.data().wrapping_sub(found.data().addr() - page).cast_mut().cast();
    // SAFETY: it asks for more than there is; nobody writes there in any case.
    let outcome = Errno::result(unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE) });
    assert_eq!(outcome, Err(Errno::EACCES));
    let private = GetOptions { private: true, ..GetOptions::default() };
    let own = client.get_one(id(1), 0, private).unwrap().unwrap();
    own.write(0, b"?").unwrap();
    assert_eq!((bytes_of(&own)[0], bytes_of(&found)[0]), (b'?', b'!'));
    assert!(found.is_immutable() && own.is_immutable());
    client.put(id(2), &pattern(2, 100_000), b"", CreateOptions::default()).unwrap();
    assert!(!got(&client, id(2)).is_immutable(), "its producer can still write there");
}

#[test]
fn what_is_put_is_immutable_however_large_it_is() {
    let _watchdog = Watchdog::new("what_is_put_is_immutable_however_large_it_is");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let (client, reader, mut looker) =
        (connect(&daemon.socket()), connect(&daemon.socket()), RawPeer::pulling(&daemon.socket()));
    for (n, size) in [(1, 1), (2, 65_536), (3, MEBIBYTE), (4, 8 * MEBIBYTE)] {
        client.put(id(n), &pattern(n, size), b"", IMMUTABLE).unwrap();
        client.put_async(id(n + 10), &pattern(n, size), b"", IMMUTABLE).unwrap();
        assert_eq!(client.flush().unwrap().len(), 0);
        for name in [id(n), id(n + 10)] {
            let segment = looker.place(name).segment;
            let (descriptor, length) = lent(&mut looker, segment, false).unwrap();
            assert_immutable(descriptor.as_fd(), length);
            let found = got(&reader, name);
            assert!(bytes_of(&found) == pattern(n, size) && found.is_immutable());
        }
    }
    client.put(id(9), b"", b"", IMMUTABLE).unwrap();
    assert!(got(&reader, id(9)).size() == 0 && got(&reader, id(9)).is_immutable());
    let batch = [PutItem { id: id(20), data: b"1", metadata: b"", name: None }];
    assert!(matches!(client.put_batch(&batch, IMMUTABLE), Err(Error::Unsupported(_))));
    assert!(matches!(client.put(id(1), b"again", b"", IMMUTABLE), Err(Error::ObjectExists(_))));
}

#[test]
fn old_clients_get_the_same_bytes() {
    let _watchdog = Watchdog::new("old_clients_get_the_same_bytes");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let client = connect(&daemon.socket());
    client.put(id(1), &pattern(1, 300_000), b"", IMMUTABLE).unwrap();
    let mut old = RawPeer::old(&daemon.socket());
    let place = old.place(id(1));
    let shared = Mapping::read_only(&old.descriptors[0], place.offset + place.data_size).unwrap();
    let mut bytes = vec![0; 300_000];
    shared.read(place.offset, &mut bytes).unwrap();
    assert!(bytes == pattern(1, 300_000));
    assert_eq!(figures(&daemon.socket()).copied_bytes, 300_000);
}

#[test]
fn a_store_in_a_directory_says_that_it_cannot() {
    let _watchdog = Watchdog::new("a_store_in_a_directory_says_that_it_cannot");
    let daemon = Daemon::start_with(MEBIBYTE, |command| _ = command.args(["-d", "/dev/shm"]));
    let client = connect(&daemon.socket());
    let refused = client.create(id(1), 10, b"", IMMUTABLE).unwrap_err();
    assert!(matches!(&refused, Error::Unsupported(text) if text.contains("-d")), "{refused}");
    assert!(matches!(client.put(id(1), b"small", b"", IMMUTABLE), Err(Error::Unsupported(_))));
    client.put(id(1), b"small", b"", CreateOptions::default()).unwrap();
}

#[test]
fn what_comes_back_from_an_external_store_is_immutable_again() {
    let _watchdog = Watchdog::new("what_comes_back_from_an_external_store_is_immutable_again");
    let external_store = Some("hashtable://test".into());
    let options = StoreOptions { capacity: 4 * MEBIBYTE, external_store, ..StoreOptions::default() };
    let store = Store::start(&options).unwrap();
    let client = connect(store.socket());
    for n in 0..12 {
        client.put(id(n), &pattern(n, MEBIBYTE), b"metadata", IMMUTABLE).unwrap();
    }
    for n in 0..12 {
        let found = got(&client, id(n));
        assert!(bytes_of(&found) == pattern(n, MEBIBYTE) && found.metadata_size() == 8);
        // A new one each time, as it lets go of no segment.
        let mut looker = RawPeer::pulling(store.socket());
        let segment = looker.place(id(n)).segment;
        let (descriptor, length) = lent(&mut looker, segment, false).unwrap();
        assert_immutable(descriptor.as_fd(), length);
    }
}

/// The child does what it is told to, with this process's memory and none of its threads.
fn forked(work: impl FnOnce() -> i32) -> Pid {
    // SAFETY: what the callers do there is async-signal-safe: it allocates nothing and takes no lock.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = work();
            // SAFETY: it ends here.
            unsafe { libc::_exit(code) }
        }
    }
}

#[test]
fn a_forked_child_does_not_have_its_memory_and_is_in_nobodys_way() {
    let _watchdog = Watchdog::new("a_forked_child_does_not_have_its_memory_and_is_in_nobodys_way");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let buffer = client.create(id(1), 100_000, b"", IMMUTABLE).unwrap();
    buffer.write(0, &pattern(1, 100_000)).unwrap();
    let (mut told, teller) = std::io::pipe().unwrap();
    let mut buffer = Some(buffer);
    let child = forked(|| {
        let inherited = buffer.take().unwrap();
        let is_null = inherited.data().is_null() && inherited.metadata().is_null();
        let is_refused =
            inherited.mutable_data().is_none() && matches!(inherited.read(0, &mut [0]), Err(Error::Forked));
        drop(inherited);
        let answer = [u8::from(is_null), u8::from(is_refused)];
        // SAFETY: two bytes; then it only sleeps.
        unsafe { libc::write(teller.as_raw_fd(), answer.as_ptr().cast(), 2) };
        loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        }
    });
    let mut answer = [0; 2];
    told.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [1, 1]);
    drop(buffer);
    client.seal(id(1)).unwrap();
    assert!(bytes_of(&got(&client, id(1))) == pattern(1, 100_000));
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
}

/// No test, but what the next one starts: it creates objects, seals every second one, and waits to be killed.
#[test]
fn part() {
    let Some(socket) = std::env::var_os("PLASMA_TEST_PART") else { return };
    let (socket, first) = (PathBuf::from(socket), std::env::var("PLASMA_TEST_FIRST").unwrap().parse::<u64>().unwrap());
    let client = connect(&socket);
    let buffers: Vec<_> = (first..first + 20)
        .map(|n| {
            let buffer = client.create(id(n), 50_000, b"", IMMUTABLE).unwrap();
            buffer.write(0, &pattern(n, 50_000)).unwrap();
            buffer
        })
        .collect();
    for (n, buffer) in (first..).zip(buffers) {
        if n % 2 == 0 {
            drop(buffer);
            client.seal(id(n)).unwrap();
        } else {
            std::mem::forget(buffer);
        }
    }
    println!("PART: done");
    loop {
        std::thread::park();
    }
}

#[test]
fn of_a_thousand_that_were_deleted_aborted_or_lost_their_producer_nothing_is_left() {
    let _watchdog = Watchdog::new("of_a_thousand_that_were_deleted_aborted_or_lost_their_producer_nothing_is_left");
    // So little that there is no pool, whose files have descriptors.
    let daemon = Daemon::start(32 * MEBIBYTE);
    let socket = daemon.socket();
    let reader = connect(&socket);
    put(&reader, id(0), b"a first one, so that all is there that stays");
    reader.delete(&[id(0)]).unwrap();
    drop(reader);
    let descriptors = daemon.descriptors_at_rest();
    {
        let (client, reader) = (connect(&socket), connect(&socket));
        for n in 1..=800 {
            let buffer = client.create(id(n), 1 + n * 37 % 70_000, b"", IMMUTABLE).unwrap();
            buffer.write(0, &[n as u8]).unwrap();
            drop(buffer);
            if n % 4 == 0 {
                client.abort(id(n)).unwrap();
                continue;
            }
            client.seal(id(n)).unwrap();
            let found = (n % 4 == 1).then(|| got(&reader, id(n)));
            assert_eq!(client.delete(&[id(n)]).unwrap()[0].is_ok(), found.is_none(), "while it is held it stays");
            assert!(found.is_none_or(|found| bytes_of(&found)[0] == n as u8));
        }
    }
    for first in (1000..1200).step_by(20) {
        kill_one(&socket, first);
    }
    let last = connect(&socket);
    let left: Vec<_> = (1000..1200).step_by(2).map(id).collect();
    eventually(|| figures(&socket).objects == left.len() as u64);
    for n in (1000..1200).step_by(2) {
        assert!(bytes_of(&got(&last, id(n))) == pattern(n, 50_000));
    }
    last.delete(&left).unwrap();
    await_nothing(&socket);
    drop(last);
    assert!(daemon.descriptors_at_rest() <= descriptors);
}

/// Has a producer create objects, and kills it.
fn kill_one(socket: &Path, first: u64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "part", "--nocapture", "--test-threads=1"]);
    command.env("PLASMA_TEST_PART", socket).env("PLASMA_TEST_FIRST", first.to_string());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).any(|line| line.contains("PART: done"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said, "the part ended early");
}
