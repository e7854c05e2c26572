//! The daemon's command line, through the daemon itself: flags as old Plasma's daemon takes them and our own, what each does
//! to the store that runs, and what is refused before one runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use plasma_store::protocol::{Reply, Request};
use support::{RawPeer, Watchdog, connect, eventually, id, put};
use tempfile::TempDir;

/// How long a test may wait for a daemon.
const PATIENCE: Duration = Duration::from_secs(60);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plasma-store-server"));
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Runs the daemon with arguments that it ends on by itself: its status, and what it said on both streams.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = program().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A daemon that was started with some arguments.
struct Running {
    child: Child,
    socket: PathBuf,
}

impl Running {
    /// Starts one, and waits until it serves. `{s}` in an argument stands for the socket's path in `directory`.
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let socket = directory.join("s");
        let path = socket.to_str().unwrap();
        let arguments = arguments.iter().map(|argument| argument.replace("{s}", path));
        let child = program().args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Self { child, socket };
        eventually(|| {
            assert_eq!(running.child.try_wait().unwrap(), None, "{}", running.said());
            UnixStream::connect(&running.socket).is_ok()
        });
        running
    }

    fn capacity(&self) -> u64 {
        RawPeer::old(&self.socket).figure("allocation limit")
    }

    fn mode(&self) -> u32 {
        fs::metadata(&self.socket).unwrap().mode() & 0o7777
    }

    /// Ends it as `signal` does, checks that it ended well, and returns what it said.
    fn end(mut self, signal: Signal) -> String {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(!self.socket.exists(), "{signal}");
        self.said()
    }

    /// What it said on standard error until it ended.
    fn said(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watched(test: &'static str) -> (Watchdog, TempDir) {
    (Watchdog::lasting(test, PATIENCE), tempfile::tempdir().unwrap())
}

/// The memory of the machine in bytes, as the kernel tells it.
fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn every_way_to_write_a_flag_is_understood() {
    let (_watchdog, directory) = watched("every_way_to_write_a_flag_is_understood");
    let forms: [(&[&str], u64); 13] = [
        (&["-s", "{s}", "-m", "100000"], 100_000),
        (&["-s={s}", "-m=100001"], 100_001),
        (&["--s={s}", "--m=100002"], 100_002),
        (&["--s", "{s}", "--m", "100003"], 100_003),
        (&["--socket", "{s}", "--memory=100004"], 100_004),
        (&["-socket={s}", "-memory", "100005"], 100_005),
        (&["-m", "1", "-s", "{s}", "-m", "100006"], 100_006),
        (&["-m", "512k", "-s", "{s}", "-h=false", "-e", ""], 512 << 10),
        (&["-m", "3M", "-s", "{s}", "--h=false", "--e="], 3 << 20),
        (&["-m", "2M", "-s", "{s}", "-e", "hashtable://test"], 2 << 20),
        (&["-m", "4M", "-s", "{s}", "--external-store=hashtable://test", "--hugepages=false"], 4 << 20),
        (&["-m", "1G", "-s", "{s}", "--pool", "0"], 1 << 30),
        (&["-m", "1G", "-s", "{s}", "-pool=64M"], 1 << 30),
    ];
    for (arguments, capacity) in forms {
        let daemon = Running::start(directory.path(), arguments);
        assert_eq!(daemon.capacity(), capacity, "{arguments:?}");
        assert_eq!(daemon.end(Signal::SIGTERM), "", "{arguments:?}: quiet unless something is wrong");
    }
}

#[test]
fn what_pyarrow_11_starts_the_daemon_with_is_taken() {
    let (_watchdog, directory) = watched("what_pyarrow_11_starts_the_daemon_with_is_taken");
    let memory = directory.path().join("memory");
    fs::create_dir(&memory).unwrap();
    let arguments = ["-s", "{s}", "-m", "1000000", "-d", memory.to_str().unwrap()];
    let daemon = Running::start(directory.path(), &arguments);
    assert_eq!(daemon.capacity(), 1_000_000);
    daemon.end(Signal::SIGINT);
}

#[test]
fn help_and_version_are_printed_and_no_flag_is_taken_for_them() {
    for flag in ["--version", "-version"] {
        let (status, out, _) = run(&[flag]);
        assert_eq!((status, out), (Some(0), format!("plasma-store-server {}\n", env!("CARGO_PKG_VERSION"))));
    }
    for flag in ["--help", "-help"] {
        let (status, out, _) = run(&[flag]);
        assert_eq!(status, Some(0));
        let flags = [
            "--socket",
            "--memory",
            "--directory",
            "--max-objects",
            "--pool",
            "--overcommit",
            "--group",
            "--mode",
            "--verbose",
        ];
        for named in flags.iter().chain(&["--hugepages", "--external-store", "hashtable://"]) {
            assert!(out.contains(named), "{named} is not in {out}");
        }
    }
    let (status, _, said) = run(&["-h"]);
    assert_eq!(status, Some(1), "-h is no help: {said}");
}

#[test]
fn wrong_arguments_end_the_daemon_with_1_and_a_reason() {
    let (_watchdog, directory) = watched("wrong_arguments_end_the_daemon_with_1_and_a_reason");
    let path = directory.path().join("s");
    let socket = path.to_str().unwrap();
    let long = format!("/tmp/{}", "x".repeat(103));
    let file = tempfile::NamedTempFile::new().unwrap();
    let cases: [(&[&str], &[&str]); 27] = [
        (&["-s", socket], &["-m"]),
        (&["-s", socket, "-m"], &["-m"]),
        (&["-s", socket, "-m", "10x"], &["10x", "512M"]),
        (&["-s", socket, "-m", "-5"], &["-5"]),
        (&["-s", socket, "-m=-5"], &["-5"]),
        (&["-s", socket, "-m", "0"], &["'0'"]),
        (&["-s", socket, "-m", "0%"], &["0%"]),
        (&["-s", socket, "-m", "99999999999999999999"], &["99999999999999999999"]),
        (&["-s", socket, "-m", "9223372036854775807"], &["9223372036854775807"]),
        (&["-s", socket, "-m", "9223372036854775807", "--overcommit"], &["9223372036854775807"]),
        (&["-s", socket, "-m", "1000", "--max-objects", "0"], &["--max-objects", "1..=1048576"]),
        (&["-s", socket, "-m", "1000", "--max-objects", "1048577"], &["1048577", "1..=1048576"]),
        (&["-s", socket, "-m", "1000", "--pool", "1001"], &["1001", "1000"]),
        (&["-s", socket, "-m", "1000", "--pool", "10%"], &["10%", "64M"]),
        (&["-s", socket, "-m", "1000", "--pool", "-1"], &["-1"]),
        (&["-s", socket, "-m", "1000", "--no-such-flag"], &["--no-such-flag"]),
        (&["-s", socket, "-m", "1000", "-z"], &["-z"]),
        (&["-s", &long, "-m", "1000"], &["108"]),
        (&["-s", "/no/such/folder/s", "-m", "1000"], &["/no/such/folder"]),
        (&["-s", socket, "-m", "1000", "-d", "/no/such/folder"], &["/no/such/folder"]),
        (&["-s", socket, "-m", "1000", "--overcommit", "-d", "/no/such/folder"], &["/no/such/folder"]),
        (&["-s", socket, "-m", "1000", "--overcommit", "-d", "/proc"], &["/proc"]),
        (&["-s", socket, "-m", "1000", "-d", file.path().to_str().unwrap()], &[file.path().to_str().unwrap()]),
        (&["-s", socket, "-m", "1000", "--group", "no-such-group"], &["no-such-group"]),
        (&["-s", socket, "-m", "1000", "--mode", "0689"], &["0689"]),
        (&["-s", socket, "-m", "1000", "-e", "disk://x"], &["\"disk\"", "disk://x", "hashtable"]),
        (&["-s", socket, "-m", "1000", "-e", "hashtable"], &["\"hashtable\"", "hashtable://"]),
    ];
    for (arguments, named) in cases {
        let (status, _, said) = run(arguments);
        assert_eq!(status, Some(1), "{arguments:?}: {said}");
        assert!(named.iter().all(|named| said.contains(named)), "{arguments:?}: {said}");
        assert!(!path.exists(), "{arguments:?} left a socket");
    }
}

#[test]
fn more_than_the_memory_is_refused_with_both_numbers_unless_it_is_asked_for() {
    let (_watchdog, directory) = watched("more_than_the_memory_is_refused_with_both_numbers_unless_it_is_asked_for");
    let too_much = machine_memory() + 4096;
    let socket = directory.path().join("s");
    let (status, _, said) = run(&["-s", socket.to_str().unwrap(), "-m", &too_much.to_string()]);
    assert_eq!(status, Some(1), "{said}");
    let other = said.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    let other: Vec<u64> = other.filter(|number| *number > 1 << 20 && *number != too_much).collect();
    assert!(said.contains(&too_much.to_string()) && said.contains("memory"), "{said}");
    assert!(matches!(other.as_slice(), [available] if *available < too_much), "{said}");
    let daemon = Running::start(directory.path(), &["-s", "{s}", "-m", &too_much.to_string(), "--overcommit"]);
    assert_eq!(daemon.capacity(), too_much);
    daemon.end(Signal::SIGTERM);
    // The memory that was named is allowed, and is what shares are of.
    for (asked, expected) in
        [(other[0].to_string(), other[0]), ("50%".into(), other[0] / 2), ("1%".into(), other[0] / 100)]
    {
        let daemon = Running::start(directory.path(), &["-s", "{s}", "-m", &asked]);
        assert_eq!(daemon.capacity(), expected, "{asked}");
        daemon.end(Signal::SIGTERM);
    }
}

#[test]
fn more_than_a_directory_has_is_refused_with_its_name() {
    let (_watchdog, directory) = watched("more_than_a_directory_has_is_refused_with_its_name");
    let (path, socket) = (directory.path().to_str().unwrap(), directory.path().join("s"));
    let (status, _, said) = run(&["-s", socket.to_str().unwrap(), "-d", path, "-m", "101%"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("{path} has")), "{said}");
}

#[test]
fn objects_lie_in_an_unnamed_file_of_the_directory_and_take_its_room() {
    let (_watchdog, directory) = watched("objects_lie_in_an_unnamed_file_of_the_directory_and_take_its_room");
    let memory = directory.path().join("memory");
    fs::create_dir(&memory).unwrap();
    let daemon = Running::start(directory.path(), &["-s", "{s}", "-m", "8M", "-d", memory.to_str().unwrap()]);
    let file = memory_file(&daemon.socket, &memory);
    assert_eq!((file.metadata().unwrap().mode() & 0o7777, fs::read_dir(&memory).unwrap().count()), (0o600, 0));
    let room = || file.metadata().unwrap().blocks() * 512;
    assert!(room() < 1 << 20, "{} bytes at the start", room());
    let client = connect(&daemon.socket);
    let data: Vec<u8> = (0..3 << 20).map(|n: u32| n as u8).collect();
    put(&client, id(1), &data);
    assert!(room() >= 3 << 20, "{} bytes for an object", room());
    let held = client.get(&[id(1)], 0, Default::default()).unwrap();
    let mut read = vec![0; data.len()];
    held[0].as_ref().unwrap().read(0, &mut read).unwrap();
    assert!(read == data);
    drop(held);
    check_bytes_written_by_the_store(&daemon.socket);
    // Many times what fits: room is given back.
    for n in 10..30 {
        put(&client, id(n), &data[..2 << 20]);
    }
    assert!(room() <= 11 << 20, "{} bytes for at most 8 MiB", room());
    daemon.end(Signal::SIGTERM);
}

/// Puts an object whose bytes travel with the request, as an old client does with small ones, and reads it from the file.
fn check_bytes_written_by_the_store(socket: &Path) {
    let (data, metadata) = (b"inline".to_vec(), b"!".to_vec());
    let request = Request::CreateAndSeal { id: id(2), evict_if_full: true, data, metadata, digest: [0; 8] };
    let reply = RawPeer::old(socket).ask(&request);
    assert!(matches!(reply, Reply::CreateAndSeal { outcome: Ok(()) }), "{reply:?}");
    let held = connect(socket).get(&[id(2)], 0, Default::default()).unwrap();
    let mut read = [0; 6];
    held[0].as_ref().unwrap().read(0, &mut read).unwrap();
    assert_eq!(&read, b"inline");
}

/// The unnamed file in `directory` that a daemon keeps objects in, as it gives it to an old client.
fn memory_file(socket: &Path, directory: &Path) -> fs::File {
    let mut peer = RawPeer::old(socket);
    peer.create(id(3), 10).unwrap();
    let file = fs::File::from(peer.descriptors.pop_front().unwrap());
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    assert!(path.starts_with(directory), "{path:?} is not in the directory");
    file
}

#[test]
fn the_socket_gets_the_mode_and_group_that_are_asked_for() {
    let (_watchdog, directory) = watched("the_socket_gets_the_mode_and_group_that_are_asked_for");
    let group = getegid().as_raw().to_string();
    let cases: [(&[&str], u32); 4] = [
        (&[], 0o600),
        (&["--group", &group], 0o660),
        (&["--mode", "0666"], 0o666),
        (&["--group", &group, "--mode=620"], 0o620),
    ];
    for (flags, mode) in cases {
        let daemon = Running::start(directory.path(), &[&["-s", "{s}", "-m", "1M"], flags].concat());
        assert_eq!(daemon.mode(), mode, "{flags:?}");
        assert_eq!(fs::metadata(&daemon.socket).unwrap().gid(), getegid().as_raw());
        assert_eq!(daemon.end(Signal::SIGTERM), "");
    }
}

#[test]
fn other_users_are_refused_with_a_line_unless_the_mode_lets_them_in() {
    let (_watchdog, directory) = watched("other_users_are_refused_with_a_line_unless_the_mode_lets_them_in");
    if !geteuid().is_root() {
        println!("SKIPPED: only root can be another user");
        return;
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let daemon = Running::start(directory.path(), &["-s", "{s}", "-m", "1M"]);
    assert!(as_nobody(&daemon.socket, 0).is_none(), "the mode of the socket alone keeps others out");
    fs::set_permissions(&daemon.socket, Permissions::from_mode(0o666)).unwrap();
    let mut stream = as_nobody(&daemon.socket, 0).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the connection is closed");
    assert_eq!(daemon.capacity(), 1 << 20);
    let said = daemon.end(Signal::SIGTERM);
    let named = [format!("process {} ", std::process::id()), format!("uid {NOBODY}")];
    assert!(said.lines().count() == 1 && named.iter().all(|named| said.contains(named)), "{said}");

    for (flags, group) in [(["--mode", "0666"], 0), (["--group", "65534"], NOBODY)] {
        let daemon = Running::start(directory.path(), &[&["-s", "{s}", "-m", "1M"], &flags[..]].concat());
        let mut peer = RawPeer::over(as_nobody(&daemon.socket, group).unwrap());
        assert!(!peer.contains(id(1)), "it is served");
        assert_eq!(as_nobody(&daemon.socket, 0).is_some(), group == 0, "{flags:?}: and who is not in the group?");
        assert_eq!(daemon.end(Signal::SIGTERM), "");
    }
}

const NOBODY: u32 = 65534;

/// A connection that another user has made, if that user may, in `group`.
fn as_nobody(socket: &Path, group: u32) -> Option<UnixStream> {
    let connect = || {
        for (call, number) in [(libc::SYS_setresgid, group), (libc::SYS_setresuid, NOBODY)] {
            // SAFETY: numbers only. Called so and not through the C library it changes this one thread, which ends at once.
            assert_eq!(unsafe { libc::syscall(call, -1_i32, number, -1_i32) }, 0);
        }
        UnixStream::connect(socket).ok()
    };
    std::thread::scope(|scope| scope.spawn(connect).join().unwrap())
}

#[test]
fn an_empty_file_at_the_path_is_replaced_by_the_socket() {
    let (_watchdog, directory) = watched("an_empty_file_at_the_path_is_replaced_by_the_socket");
    fs::write(directory.path().join("s"), b"").unwrap();
    let daemon = Running::start(directory.path(), &["-s", "{s}", "-m", "10000"]);
    put(&connect(&daemon.socket), id(1), &[7; 9_999]);
    daemon.end(Signal::SIGTERM);
}

#[test]
fn it_says_more_when_asked_to() {
    let (_watchdog, directory) = watched("it_says_more_when_asked_to");
    for (flag, says_where, says_who) in [("-v", true, false), ("-vv", true, true)] {
        let daemon = Running::start(directory.path(), &["-s", "{s}", "-m", "1M", flag]);
        daemon.capacity(); // by now it has seen the end of the connection before this one
        let socket = daemon.socket.to_str().unwrap().to_owned();
        let said = daemon.end(Signal::SIGTERM);
        assert_eq!(said.contains(&socket), says_where, "{said}");
        assert_eq!(said.contains("disconnected"), says_who, "{said}");
    }
}
