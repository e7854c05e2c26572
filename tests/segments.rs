//! Segments that one producer writes: they fill a store, and their memory comes back also from readers that do nothing, sleep, die or
//! have children; who holds an object keeps its bytes whatever happens; old clients get copies, or the object moves.
//!
//! Readers that are stopped or killed are this test program, started again with a part to play (`PLASMA_TEST_PART`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use plasma_store::client::{Buffer, Client, CreateOptions, GetOptions, PutItem};
use plasma_store::object::{Location, ObjectId};
use plasma_store::protocol::{Reply, Request, Stats};
use plasma_store::shm::mapping::Mapping;
use plasma_store::store::space::SHARED_SEGMENT;
use support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, id, process, progress, put, report, times};

const MEBIBYTE: u64 = 1 << 20;
const NO_EVICTION: CreateOptions =
    CreateOptions { no_evict: true, ttl_ms: 0, wait_ms: 0, immutable: false, name: None };

/// This program once more, in a process of its own, which does what it is told line by line.
struct Part {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Part {
    fn start(socket: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "part", "--nocapture", "--test-threads=1"]).env("PLASMA_TEST_PART", socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, orders, answers }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// What it says next.
    fn hear(&mut self) -> String {
        let words = |line: String| line.split_once("PART: ").map(|(_, words)| words.to_owned());
        (&mut self.answers).lines().map(Result::unwrap).find_map(words).expect("the part ended early")
    }

    fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.hear()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Returns when it has stopped.
    fn freeze(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        let stopped = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    }

    fn mapped(&self) -> usize {
        leases_mapped(self.pid())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many mappings of segments a process has.
fn leases_mapped(pid: Pid) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter(|line| line.contains("plasma_lease")).count()
}

/// No test, but what the tests below start.
#[test]
fn part() {
    let Some(socket) = std::env::var_os("PLASMA_TEST_PART") else { return };
    let socket = PathBuf::from(socket);
    let reader = connect(&socket);
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let words: Vec<&str> = line.split(' ').collect();
        let range = || words[1].parse().unwrap()..words[2].parse().unwrap();
        match words[0] {
            "produce" => println!("PART: {}", range().filter(|n| leave_one(&socket, *n, MEBIBYTE)).count()),
            "read" => {
                range().for_each(|n| check(&get(&reader, n), n));
                println!("PART: {}", leases_mapped(Pid::this()));
            }
            "kill" => {
                kill_some(&socket, words[1].parse().unwrap());
                println!("PART: killed");
            }
            "fork" => println!("PART: {}", fork_sleeper()),
            other => panic!("no such order: {other}"),
        }
    }
}

/// A child that does nothing.
fn fork_sleeper() -> Pid {
    // SAFETY: the child calls `prctl` and `pause` only, which are async-signal-safe.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
            loop {
                // SAFETY: as above.
                unsafe { nix::libc::pause() };
            }
        }
    }
}

/// Forks clients of all kinds, and kills them all at a random moment.
fn kill_some(socket: &Path, seed: u64) {
    let mut random = Random(seed);
    let (mut heard, said) = std::io::pipe().unwrap();
    let clients = [0, 0, 1, 2].map(|kind| fork_client(socket, kind, random.next(), &said));
    drop(said);
    heard.read_exact(&mut [0; 4]).unwrap();
    std::thread::sleep(Duration::from_micros(random.below(30_000)));
    clients.iter().for_each(|client| kill(*client, Signal::SIGKILL).unwrap());
    for client in clients {
        assert_eq!(waitpid(client, None).unwrap(), WaitStatus::Signaled(client, Signal::SIGKILL, false));
    }
}

/// A child that says when it is connected, and goes on until it is killed.
fn fork_client(socket: &Path, kind: u64, seed: u64, said: &PipeWriter) -> Pid {
    // SAFETY: the threads that this process has beside this one sleep; the child goes on as it would have.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let _ = std::panic::catch_unwind(|| {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
                let random = Random(seed);
                let (client, old) = (connect(socket), Old(RawPeer::old(socket)));
                let mut ready = said;
                ready.write_all(b"!").unwrap();
                match kind {
                    0 => produce_for_ever(&client, random),
                    1 => read_for_ever(&client, random),
                    _ => read_copies_for_ever(old, random),
                }
            });
            // SAFETY: async-signal-safe. It only comes to this when something failed; its parent sees that.
            unsafe { nix::libc::_exit(1) }
        }
    }
}

/// Names of objects in the game of killed clients.
const NAMES: u64 = 200;

/// Puts what fits without anything being evicted, so that pieces lie free everywhere and others have to move.
fn produce_for_ever(client: &Client, mut random: Random) {
    loop {
        let (n, size) = (random.below(NAMES), random.size(MEBIBYTE / 32, 2 * MEBIBYTE));
        match client.create(id(n), size, b"", NO_EVICTION) {
            Ok(buffer) => {
                buffer.write(0, &pattern(n, size)).unwrap();
                client.seal(id(n)).unwrap();
            }
            Err(_) => (0..4).for_each(|_| drop(client.delete(&[id(random.below(NAMES))]).unwrap())),
        }
    }
}

fn read_for_ever(client: &Client, mut random: Random) {
    let mut held = Vec::new();
    loop {
        let n = random.below(NAMES);
        let found = client.get_one(id(n), 0, GetOptions::default()).unwrap();
        found.iter().for_each(|buffer| check(buffer, n));
        held.extend(found);
        if held.len() > 4 {
            held.remove(0);
        }
    }
}

fn read_copies_for_ever(mut old: Old, mut random: Random) {
    loop {
        let n = random.below(NAMES);
        if let Some(location) = old.find(n, 1) {
            old.check(n, location);
            old.0.release(id(n));
        }
    }
}

/// A producer connects, puts an object if there is room, and is gone.
fn leave_one(socket: &Path, n: u64, size: u64) -> bool {
    let producer = connect(socket);
    producer.put(id(n), &pattern(n, size), b"", NO_EVICTION).is_ok()
}

/// Bytes by which an object is known again. They repeat at no page's distance.
fn pattern(n: u64, size: u64) -> Vec<u8> {
    let block: Vec<u8> = (0..4099_u64).map(|at| (((at + 1) * (2 * n + 1)) >> 3) as u8).collect();
    let mut bytes = block.repeat(size as usize / block.len() + 1);
    bytes.truncate(size as usize);
    bytes
}

fn get(client: &Client, n: u64) -> Buffer {
    client.get_one(id(n), 0, GetOptions::default()).unwrap().unwrap_or_else(|| panic!("object {n} is not there"))
}

fn bytes_of(buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.size() as usize];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

/// All its bytes are those that its producer wrote.
fn check(buffer: &Buffer, n: u64) {
    assert!(bytes_of(buffer) == pattern(n, buffer.size()), "object {n} has changed");
}

fn stats(daemon: &Daemon) -> Stats {
    match RawPeer::native(&daemon.socket()).ask(&Request::Stats) {
        Reply::Stats(stats) => stats,
        other => panic!("{other:?}"),
    }
}

fn delete(client: &Client, names: Range<u64>) {
    let names: Vec<ObjectId> = names.map(id).collect();
    // What somebody holds goes when they let go.
    drop(client.delete(&names).unwrap());
}

/// An old client, which reads by the descriptor that it was given.
struct Old(RawPeer);

impl Old {
    fn new(daemon: &Daemon) -> Self {
        Self(RawPeer::old(&daemon.socket()))
    }

    fn ask(&mut self, n: u64, timeout_ms: i64) {
        self.0.send(&Request::Get { ids: vec![id(n)], timeout_ms });
    }

    fn hear(&mut self) -> Option<Location> {
        match self.0.next() {
            Some(Reply::Get { locations, .. }) => locations[0],
            other => panic!("{other:?}"),
        }
    }

    fn find(&mut self, n: u64, timeout_ms: i64) -> Option<Location> {
        self.ask(n, timeout_ms);
        self.hear()
    }

    fn check(&self, n: u64, location: Location) {
        assert_eq!(location.segment, SHARED_SEGMENT);
        let file = File::from(self.0.descriptors[0].try_clone().unwrap());
        let mut bytes = vec![0; location.data_size as usize];
        file.read_exact_at(&mut bytes, location.offset).unwrap();
        assert!(bytes == pattern(n, location.data_size), "object {n} has changed on its way to an old client");
    }
}

/// Where a native client finds an object.
fn segment_of(daemon: &Daemon, n: u64) -> i32 {
    RawPeer::pulling(&daemon.socket()).place(id(n)).segment
}

#[test]
fn producers_that_leave_one_object_each_fill_a_store() {
    let _watchdog = Watchdog::new("producers_that_leave_one_object_each_fill_a_store");
    let producers = times(240, 1000);
    let daemon = Daemon::start(producers * MEBIBYTE);
    let mut processes: Vec<Part> = (0..4).map(|_| Part::start(&daemon.socket())).collect();
    for (process, first) in processes.iter_mut().zip((0..).step_by(producers as usize / 4)) {
        process.tell(&format!("produce {first} {}", first + producers / 4));
    }
    let made: u64 = processes.iter_mut().map(|process| process.hear().parse::<u64>().unwrap()).sum();
    let stats = stats(&daemon);
    assert_eq!((stats.objects, stats.used_bytes), (made, made * MEBIBYTE));
    assert!(made * 10 >= producers * 9, "{made} of {producers} objects fit");
    // Where very many are left behind, the store gathers what lies in them.
    assert!(stats.segments > 200, "{} segments", stats.segments);
    assert!(stats.allocated_bytes <= stats.capacity + stats.capacity / 8 + MEBIBYTE);
    let reader = connect(&daemon.socket());
    let there =
        (0..producers).filter_map(|n| reader.get_one(id(n), 0, GetOptions::default()).unwrap().map(|got| (n, got)));
    assert_eq!(there.inspect(|(n, buffer)| check(buffer, *n)).count() as u64, made);
}

/// A daemon, and a reader in a process of its own that has read `count` objects whose producers are gone, and holds none. Each of
/// their segments has as much memory as its object.
fn with_reader(count: u64) -> (Daemon, Part) {
    let daemon = Daemon::start_with(64 * MEBIBYTE, |command| _ = command.args(["--pool", "0"]));
    assert!((0..count).all(|n| leave_one(&daemon.socket(), n, MEBIBYTE)));
    let mut reader = Part::start(&daemon.socket());
    assert_eq!(reader.ask(&format!("read 0 {count}")), count.to_string());
    (daemon, reader)
}

#[test]
fn an_idle_reader_gives_all_memory_back() {
    let _watchdog = Watchdog::new("an_idle_reader_gives_all_memory_back");
    let (daemon, reader) = with_reader(40);
    delete(&connect(&daemon.socket()), 0..40);
    eventually(|| stats(&daemon).segments == 0 && stats(&daemon).retired_bytes == 0);
    eventually(|| reader.mapped() == 0);
    assert_eq!(stats(&daemon).used_bytes, 0);
}

#[test]
fn a_stopped_reader_keeps_nobody_else_and_gives_memory_back_when_it_goes_on() {
    let _watchdog = Watchdog::new("a_stopped_reader_keeps_nobody_else_and_gives_memory_back_when_it_goes_on");
    let (daemon, mut reader) = with_reader(40);
    reader.freeze();
    let other = connect(&daemon.socket());
    delete(&other, 0..40);
    // That its producers are gone the store may see last.
    eventually(|| stats(&daemon).retired_bytes == 40 * MEBIBYTE);
    assert_eq!(reader.mapped(), 40);
    // All of the store is there for others.
    assert!((100..164).all(|n| leave_one(&daemon.socket(), n, MEBIBYTE)));
    (100..164).for_each(|n| check(&get(&other, n), n));
    assert_eq!(stats(&daemon).retired_bytes, 40 * MEBIBYTE);
    kill(reader.pid(), Signal::SIGCONT).unwrap();
    eventually(|| stats(&daemon).retired_bytes == 0);
    eventually(|| reader.mapped() == 0);
    assert_eq!(reader.ask("read 100 164"), "64");
}

#[test]
fn a_killed_reader_keeps_no_memory() {
    let _watchdog = Watchdog::new("a_killed_reader_keeps_no_memory");
    let (daemon, mut reader) = with_reader(40);
    reader.freeze();
    delete(&connect(&daemon.socket()), 0..40);
    eventually(|| stats(&daemon).retired_bytes == 40 * MEBIBYTE);
    reader.child.kill().unwrap();
    eventually(|| stats(&daemon).retired_bytes == 0);
}

#[test]
fn a_reader_with_a_child_gives_its_own_back() {
    let _watchdog = Watchdog::new("a_reader_with_a_child_gives_its_own_back");
    let (daemon, mut reader) = with_reader(40);
    let child = Pid::from_raw(reader.ask("fork").parse().unwrap());
    delete(&connect(&daemon.socket()), 0..40);
    eventually(|| stats(&daemon).segments == 0 && stats(&daemon).retired_bytes == 0);
    eventually(|| reader.mapped() == 0);
    assert_eq!(leases_mapped(child), 40, "a child keeps what it inherited");
    assert!(leave_one(&daemon.socket(), 50, MEBIBYTE));
    assert_eq!(reader.ask("read 50 51"), "1");
}

#[test]
fn what_is_held_stays_as_it_is_whatever_happens() {
    let _watchdog = Watchdog::new("what_is_held_stays_as_it_is_whatever_happens");
    let mut daemon = Daemon::start(32 * MEBIBYTE);
    let (reader, other) = (connect(&daemon.socket()), connect(&daemon.socket()));
    let piece = MEBIBYTE / 4;
    let producer = connect(&daemon.socket());
    (0..128).for_each(|n| producer.put(id(n), &pattern(n, piece), b"", NO_EVICTION).unwrap());
    let held: Vec<_> = [1, 3, 126].map(|n| (n, get(&reader, n))).into();
    let private = (5, reader.get_one(id(5), 0, GetOptions { private: true, ..Default::default() }).unwrap().unwrap());
    drop(producer);
    let is_as_it_was = || held.iter().chain([&private]).for_each(|(n, buffer)| check(buffer, *n));
    is_as_it_was();
    let before: Vec<_> = (0..128).step_by(2).map(|n| segment_of(&daemon, n)).collect();
    (1..128).step_by(2).for_each(|n| delete(&other, n..n + 1));
    is_as_it_was();
    // Half of the store is free, in pieces that are too small.
    (200..207).for_each(|n| other.put(id(n), &pattern(n, 2 * MEBIBYTE), b"", NO_EVICTION).unwrap());
    let after: Vec<_> = (0..128).step_by(2).map(|n| segment_of(&daemon, n)).collect();
    assert_ne!(before, after, "nothing was moved");
    is_as_it_was();
    (0..128).step_by(2).for_each(|n| check(&get(&other, n), n));
    (300..340).for_each(|n| put(&other, id(n), &pattern(n, MEBIBYTE)));
    is_as_it_was();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    is_as_it_was();
}

#[test]
fn an_old_client_gets_a_large_native_object_and_its_copy_goes_first() {
    let _watchdog = Watchdog::new("an_old_client_gets_a_large_native_object_and_its_copy_goes_first");
    let (daemon, size) = (Daemon::start(160 * MEBIBYTE), 64 * MEBIBYTE);
    let (native, mut old) = (connect(&daemon.socket()), Old::new(&daemon));
    put(&native, id(1), &pattern(1, size));
    let held = get(&native, 1);
    let location = old.find(1, 0).expect("also without waiting");
    old.check(1, location);
    assert_eq!((stats(&daemon).copied_bytes, stats(&daemon).used_bytes), (size, 2 * size));
    // Whoever asks for a figure is answered after what was released before.
    old.0.release(id(1));
    old.0.figure("allocated bytes");
    native.create(id(2), 90 * MEBIBYTE, b"", NO_EVICTION).unwrap();
    assert_eq!(stats(&daemon).copied_bytes, 0);
    check(&held, 1);
    check(&get(&native, 1), 1);
}

#[test]
fn an_object_as_large_as_the_store_moves_for_an_old_client() {
    let _watchdog = Watchdog::new("an_object_as_large_as_the_store_moves_for_an_old_client");
    let (daemon, size) = (Daemon::start(24 * MEBIBYTE), 24 * MEBIBYTE);
    let (native, mut old) = (connect(&daemon.socket()), Old::new(&daemon));
    put(&native, id(1), &pattern(1, size));
    assert_ne!(segment_of(&daemon, 1), SHARED_SEGMENT);
    let held = get(&native, 1);
    assert_eq!(old.find(1, 20), None, "a reader is in the way");
    old.ask(1, -1);
    // Nobody else is kept meanwhile.
    check(&held, 1);
    drop(held);
    let location = old.hear().unwrap();
    old.check(1, location);
    assert_eq!(segment_of(&daemon, 1), SHARED_SEGMENT);
    check(&get(&native, 1), 1);
    assert_eq!((stats(&daemon).used_bytes, stats(&daemon).copied_bytes), (size, 0));
    eventually(|| stats(&daemon).retired_bytes == 0);
}

#[test]
fn objects_are_deleted_while_they_are_copied_and_natives_read_on() {
    let _watchdog = Watchdog::new("objects_are_deleted_while_they_are_copied_and_natives_read_on");
    let daemon = Daemon::start(40 * MEBIBYTE);
    let (native, deleter, mut old) = (connect(&daemon.socket()), connect(&daemon.socket()), Old::new(&daemon));
    let size = 12 * MEBIBYTE;
    for n in 0..times(12, 300) {
        put(&native, id(n), &pattern(n, size));
        let held = (n % 2 == 0).then(|| get(&native, n));
        old.ask(n, 0);
        if n % 3 == 0 {
            // Before the copy, in the middle of it, or behind it.
            delete(&deleter, n..n + 1);
        }
        held.iter().for_each(|buffer| check(buffer, n));
        if let Some(location) = old.hear() {
            old.check(n, location);
            old.0.release(id(n));
        }
        held.iter().for_each(|buffer| check(buffer, n));
        drop(held);
        delete(&deleter, n..n + 1);
        eventually(|| stats(&daemon).objects == 0);
        assert_eq!((stats(&daemon).used_bytes, stats(&daemon).copied_bytes), (0, 0));
    }
}

#[test]
fn a_store_of_ten_thousand_bytes_serves_old_and_native_clients_at_once() {
    let _watchdog = Watchdog::new("a_store_of_ten_thousand_bytes_serves_old_and_native_clients_at_once");
    let daemon = Daemon::start(10_000);
    let mut old = Old::new(&daemon);
    for n in 0..times(300, 10_000) {
        let native = connect(&daemon.socket());
        put(&native, id(n), &pattern(n, 1 + n * 199 % 10_000));
        let location = old.find(n, 0).unwrap();
        old.check(n, location);
        check(&get(&native, n), n);
        old.0.release(id(n));
        old.0.put(id(1_000_000 + n), (1 + n * 211 % 5_000) as i64);
        assert!(stats(&daemon).allocated_bytes <= 2 * MEBIBYTE);
    }
}

#[test]
fn without_segments_of_their_own_producers_share_one() {
    let _watchdog = Watchdog::new("without_segments_of_their_own_producers_share_one");
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(16 * MEBIBYTE, |command| _ = command.arg("-d").arg(directory.path()));
    let (reader, mut old) = (connect(&daemon.socket()), Old::new(&daemon));
    for n in 0..32 {
        assert!(leave_one(&daemon.socket(), n, MEBIBYTE / 2));
        check(&get(&reader, n), n);
        let location = old.find(n, 0).unwrap();
        old.check(n, location);
        assert_eq!(segment_of(&daemon, n), SHARED_SEGMENT);
        old.0.release(id(n));
    }
    let items = [PutItem { id: id(100), data: &pattern(100, 1000), metadata: b"meta", name: None }];
    reader.put_batch(&items, CreateOptions::default()).unwrap();
    check(&get(&reader, 100), 100);
    assert_eq!((stats(&daemon).segments, stats(&daemon).copied_bytes), (0, 0));
}

#[test]
fn what_is_written_to_a_private_mapping_stays_there() {
    let _watchdog = Watchdog::new("what_is_written_to_a_private_mapping_stays_there");
    let daemon = Daemon::start(16 * MEBIBYTE);
    assert!(leave_one(&daemon.socket(), 1, MEBIBYTE) && leave_one(&daemon.socket(), 2, 3 * MEBIBYTE + 17));
    let reader = connect(&daemon.socket());
    for n in [1, 2] {
        let private = reader.get_one(id(n), 0, GetOptions { private: true, ..Default::default() }).unwrap().unwrap();
        check(&private, n);
        // SAFETY: the first byte of the object, which is mapped for writing and which nobody else uses.
        unsafe { *private.private_data().unwrap() ^= 0xff };
        assert!(bytes_of(&private) != pattern(n, private.size()));
        check(&get(&reader, n), n);
        check(&get(&connect(&daemon.socket()), n), n);
        let written = bytes_of(&private);
        delete(&reader, n..n + 1);
        assert!(bytes_of(&private) == written);
    }
    eventually(|| stats(&daemon).objects == 0 && stats(&daemon).retired_bytes == 0);
}

#[test]
fn what_an_external_store_has_comes_back_for_old_and_native_clients() {
    let _watchdog = Watchdog::new("what_an_external_store_has_comes_back_for_old_and_native_clients");
    let daemon = Daemon::start_with(8 * MEBIBYTE, |command| _ = command.args(["-e", "hashtable://segments"]));
    let (reader, mut old) = (connect(&daemon.socket()), Old::new(&daemon));
    let rounds = times(3, 50);
    for n in 0..16 {
        let producer = connect(&daemon.socket());
        producer.put(id(n), &pattern(n, MEBIBYTE + n), &[n as u8; 9], CreateOptions::default()).unwrap();
    }
    for n in (0..rounds).flat_map(|_| 0..16) {
        if n % 3 == 0 {
            let location = old.find(n, -1).unwrap();
            old.check(n, location);
            assert_eq!(location.metadata_size, 9);
            old.0.release(id(n));
        }
        let found = reader.get_one(id(n), -1, GetOptions::default()).unwrap().unwrap();
        check(&found, n);
        // SAFETY: so many bytes lie there while `found` lives, and nobody writes them.
        let metadata = unsafe { std::slice::from_raw_parts(found.metadata(), found.metadata_size() as usize) };
        assert_eq!(metadata, [n as u8; 9]);
    }
    assert_eq!(stats(&daemon).objects, 16);
    assert!(stats(&daemon).evictions > 16);
}

#[test]
fn a_batch_lies_where_no_client_can_write() {
    let _watchdog = Watchdog::new("a_batch_lies_where_no_client_can_write");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let data: Vec<_> = (0..10).map(|n| pattern(n, 10_000)).collect();
    let items = data.iter().zip(0..).map(|(data, n)| PutItem { id: id(n), data, metadata: b"", name: None });
    client.put_batch(&items.collect::<Vec<_>>(), CreateOptions::default()).unwrap();
    let mut peer = RawPeer::pulling(&daemon.socket());
    let segment = peer.place(id(3)).segment;
    assert_ne!(segment, SHARED_SEGMENT);
    let refused = peer.ask(&Request::Segment { segment, writable: true });
    assert!(matches!(refused, Reply::Segment { outcome: Err(_) }), "{refused:?}");
    let Reply::Segment { outcome: Ok(len) } = peer.ask(&Request::Segment { segment, writable: false }) else {
        panic!("it can be read")
    };
    let descriptor = peer.descriptors.pop_front().unwrap();
    assert!(Mapping::read_write(descriptor.as_fd(), len).is_err());
    assert!(Mapping::read_only(descriptor.as_fd(), len).is_ok());
    (0..10).for_each(|n| check(&get(&client, n), n));
}

/// Descriptors of the daemon while only the killer is connected, and whoever asks for the figures: that one's are not counted.
fn descriptors_at_rest(daemon: &Daemon) -> usize {
    let mut peer = RawPeer::native(&daemon.socket());
    eventually(|| matches!(peer.ask(&Request::Stats), Reply::Stats(stats) if stats.clients == 2));
    process::descriptors(daemon.pid()) - 1
}

#[test]
fn clients_that_are_killed_while_objects_move_leave_nothing() {
    let _watchdog = Watchdog::new("clients_that_are_killed_while_objects_move_leave_nothing");
    let mut daemon = Daemon::start(16 * MEBIBYTE);
    let mut killer = Part::start(&daemon.socket());
    assert_eq!(killer.ask("read 0 0"), "0");
    // The killer is connected itself, and so is who asks for the figures.
    let descriptors = descriptors_at_rest(&daemon);
    let (rounds, mut most_segments) = (times(60, 3000), 0);
    for round in 0..rounds {
        assert_eq!(killer.ask(&format!("kill {round}")), "killed");
        eventually(|| stats(&daemon).clients == 2);
        let stats = stats(&daemon);
        assert_eq!((stats.retired_bytes, stats.held_objects), (0, 0), "round {round}");
        assert!(stats.objects == stats.sealed_objects && stats.used_bytes <= stats.capacity, "{stats:?}");
        assert!(stats.allocated_bytes <= 2 * stats.capacity, "{stats:?}");
        most_segments = most_segments.max(stats.segments);
        progress(round, rounds, "rounds of four kills");
    }
    let mut peer = RawPeer::native(&daemon.socket());
    peer.ask(&Request::Evict { bytes: u64::MAX });
    assert_eq!(peer.check_rest(), 0);
    drop(peer);
    // What the store moved objects to it keeps for more of them: two descriptors for each.
    let left = descriptors_at_rest(&daemon);
    let own = stats(&daemon).segments;
    assert_eq!(left, descriptors + 2 * own as usize);
    report(&format!(
        "{} clients killed while objects moved: at most {most_segments} segments, {own} at last",
        4 * rounds
    ));
    let client = connect(&daemon.socket());
    client.create(id(1), 16 * MEBIBYTE, b"", NO_EVICTION).unwrap();
    daemon.check_healthy();
}
