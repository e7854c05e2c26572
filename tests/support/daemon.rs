//! A daemon of one's own, and what the kernel says about a process.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use plasma_store::protocol::{Reply, Request};
use tempfile::TempDir;

use super::{RawPeer, eventually};

/// A running `plasma-store-server`; it dies with this value.
pub struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    pub fn start(capacity: u64) -> Self {
        Self::start_with(capacity, |_| {})
    }

    /// Starts one whose command was changed first.
    pub fn start_with(capacity: u64, change: impl FnOnce(&mut Command)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Self::command(&directory.path().join("s"), capacity);
        change(&mut command);
        Self::started(command, directory, capacity)
    }

    /// Starts one that everybody may connect to, as this user where one is named, with so many descriptors at most.
    pub fn start_as(capacity: u64, user: Option<u32>, descriptors: u64) -> Self {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let limit = move || setrlimit(Resource::RLIMIT_NOFILE, most.min(descriptors), most.min(descriptors));
        let open = |command: &mut Command| {
            command.args(["--mode", "0666"]);
            // SAFETY: `setrlimit` is async-signal-safe.
            unsafe { command.pre_exec(move || limit().map_err(Into::into)) };
        };
        let Some(user) = user else { return Self::start_with(capacity, open) };
        let directory = tempfile::tempdir().unwrap();
        chown(directory.path(), Some(user), Some(user)).unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        // By a descriptor, as the user may not be let into the directory where the program lies.
        let program = File::open(env!("CARGO_BIN_EXE_plasma-store-server")).unwrap();
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        Self::fill_in(&mut command, &directory.path().join("s"), capacity);
        open(command.uid(user).gid(user));
        Self::started(command, directory, capacity)
    }

    fn started(mut command: Command, directory: TempDir, capacity: u64) -> Self {
        let mut daemon = Self { child: command.spawn().unwrap(), directory };
        let socket = daemon.socket();
        eventually(|| {
            assert_eq!(daemon.child.try_wait().unwrap(), None, "the daemon ended");
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        // It listens before all else, so only an answer tells that it is complete.
        assert_eq!(RawPeer::old(&socket).figure("allocation limit"), capacity);
        daemon
    }

    /// How a daemon at `socket` is started.
    pub fn command(socket: &Path, capacity: u64) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plasma-store-server"));
        Self::fill_in(&mut command, socket, capacity);
        command
    }

    fn fill_in(command: &mut Command, socket: &Path, capacity: u64) {
        command.arg("-s").arg(socket).arg("-m").arg(capacity.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Stops it, until SIGCONT comes, and returns when it has stopped.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = waitpid(Pid::from_raw(self.child.id() as i32), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// How many descriptors it has while nobody is connected; waits until that is so.
    pub fn descriptors_at_rest(&self) -> usize {
        let mut count = 0;
        eventually(|| {
            // What it accepted before this peer it has seen the end of, when there is one client.
            let Some(mut peer) = RawPeer::try_native(&self.socket()) else { return false };
            let Some(Reply::Stats(stats)) = peer.try_ask(&Request::Stats) else { return false };
            count = process::descriptors(self.pid()).saturating_sub(1);
            stats.clients == 1
        });
        count
    }

    /// It runs, and serves a new peer.
    pub fn check_healthy(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the daemon ended");
        assert!(RawPeer::old(&self.socket()).figure("allocation limit") > 0);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel says about a process.
pub mod process {
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt;

    use super::fs;

    /// How many descriptors it has open. Of a daemon only root may know which; how many, the kernel tells everybody since
    /// Linux 6.2. Before that it is 0 for others.
    pub fn descriptors(pid: u32) -> usize {
        let folder = format!("/proc/{pid}/fd");
        fs::read_dir(&folder).map_or_else(|_| fs::metadata(&folder).unwrap().len() as usize, Iterator::count)
    }

    /// Its own memory in bytes, without what it shares with others.
    pub fn memory(pid: u32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time it took so far, in hundredths of a second.
    pub fn time(pid: u32) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Bytes of memory behind all segments that a process has open, where one may know: of a daemon only root may.
    pub fn segment_bytes(pid: u32) -> Option<u64> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
            let Ok(name) = fs::read_link(entry.path()) else { continue };
            let name = name.display().to_string();
            if name.starts_with("/memfd:plasma_lease") || name.starts_with("/memfd:plasma_store (") {
                let file = fs::metadata(entry.path()).ok()?;
                files.insert(file.ino(), file.blocks() * 512);
            }
        }
        (!files.is_empty()).then(|| files.values().sum())
    }
}
