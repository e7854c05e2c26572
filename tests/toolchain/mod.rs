//! What the tests of the C side share: the library just built, compilers, a daemon, and programs that cannot hang.
//!
//! A missing tool fails the test with a sentence that says what is missing.

#![allow(dead_code, reason = "each test file is a program of its own and uses its part of this")]

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use tempfile::TempDir;

/// Seconds after which a program that still runs is taken to hang.
const PATIENCE_S: u64 = 300;
/// What a compiler must not complain about.
pub const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
/// Makes a program watch its own memory; the library's `malloc` and `memcpy` are watched with it.
pub const SANITIZED: [&str; 3] = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo puts what it builds for the profile that the tests run in: `target/debug`.
pub fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_plasma-store-server")).parent().unwrap()
}

/// The shared library that belongs to these tests. `cargo test` leaves it among the dependencies; what lies one directory
/// higher may be older.
pub fn shared_library() -> PathBuf {
    built().join("deps/libplasma_store.so")
}

/// A place for a test's programs and sockets.
pub struct Workshop {
    directory: TempDir,
}

impl Workshop {
    /// A fresh directory, in which the library has the names that it is linked and loaded by. The path is short, as
    /// sockets need it.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("plasma-").tempdir_in("/tmp").unwrap();
        for name in ["libplasma_store.so", "libplasma_store.so.1"] {
            symlink(shared_library(), directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A fresh directory in the directory.
    pub fn subdirectory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Compiles and links a program against the shared library, which it finds without further settings.
    pub fn build(&self, name: &str, sources: &[PathBuf], flags: &[&str]) -> PathBuf {
        let program = self.path(name);
        let mut command = compiler(&sources[0]);
        command.args(flags).arg("-I").arg(root().join("include")).args(sources).arg("-o").arg(&program);
        command.arg("-L").arg(self.directory.path()).arg("-lplasma_store").arg("-lpthread");
        command.arg(format!("-Wl,-rpath,{}", self.directory.path().display()));
        succeed(&mut command);
        program
    }

    /// Starts the daemon, with a socket and memory of its own.
    pub fn daemon(&self, capacity: u32) -> Daemon {
        self.daemon_of(Path::new(env!("CARGO_BIN_EXE_plasma-store-server")), capacity)
    }

    /// The same with another program that takes these flags, at the same socket: one after the other.
    pub fn daemon_of(&self, program: &Path, capacity: u32) -> Daemon {
        let socket = self.path("daemon.sock");
        let mut command = Command::new(program);
        command.arg("-s").arg(&socket).arg("-m").arg(capacity.to_string()).stdin(Stdio::null());
        let daemon = Daemon { process: command.spawn().unwrap(), socket };
        let begin = Instant::now();
        while UnixStream::connect(&daemon.socket).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(PATIENCE_S), "the daemon does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        daemon
    }
}

/// A running daemon; it ends with this.
pub struct Daemon {
    process: Child,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The compiler for this source, by its ending: `$CC` or cc, `$CXX` or c++.
pub fn compiler(source: &Path) -> Command {
    match source.extension().and_then(OsStr::to_str) {
        Some("cpp") => tool("CXX", &["c++"], "a C++ compiler"),
        _ => tool("CC", &["cc"], "a C compiler"),
    }
}

/// A program that tests need: what the variable names, else the first of these names that is on PATH.
pub fn tool(variable: &str, names: &[&str], what: &str) -> Command {
    let found = match env::var_os(variable) {
        Some(named) => Some(PathBuf::from(named)),
        None => names.iter().find_map(|name| find(name)),
    };
    Command::new(found.unwrap_or_else(|| {
        panic!("this test needs {what}: none of {names:?} is on PATH, and the variable {variable} names none")
    }))
}

/// A program on PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// The same command under a watchdog that kills it, and all it started, when it takes too long.
///
/// Without cargo's `LD_LIBRARY_PATH`: what lies there may be another build, and programs are to find the library as they do
/// when nobody helps.
pub fn watched(command: &Command) -> Command {
    let mut watched = Command::new("timeout");
    watched.arg("--signal=KILL").arg(PATIENCE_S.to_string()).arg(command.get_program()).args(command.get_args());
    watched.env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => watched.env(name, value),
            None => watched.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        watched.current_dir(directory);
    }
    watched
}

/// Runs a command to its end.
pub fn finish(command: &Command) -> Output {
    watched(command).output().unwrap_or_else(|error| panic!("timeout(1), of coreutils, cannot run: {error}"))
}

/// Runs a command that must succeed; returns what it printed.
pub fn succeed(command: &mut Command) -> String {
    let output = finish(command);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}\nended with {} (137 is a hang)\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}
