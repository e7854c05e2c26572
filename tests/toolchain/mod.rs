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
        succeed(self.link(&mut command));
        program
    }

    /// Has a compiler link with the library, so that the program finds it without further settings.
    pub fn link<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("-L").arg(self.directory.path()).arg("-lplasma_store").arg("-lpthread");
        command.arg(format!("-Wl,-rpath,{}", self.directory.path().display()))
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

/// The same program, ready to be given arguments.
pub fn again(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    again
}

/// A Python that can run the examples: what `$PLASMA_TEST_PYTHON` names, else python3; it needs numpy.
pub fn python() -> Option<PathBuf> {
    let named = env::var_os("PLASMA_TEST_PYTHON").map(PathBuf::from);
    let Some(python) = named.or_else(|| find("python3")) else {
        println!("SKIPPED: python3 is not installed");
        return None;
    };
    if !finish(Command::new(&python).args(["-c", "import numpy"])).status.success() {
        println!("SKIPPED: {} has no numpy", python.display());
        return None;
    }
    Some(python)
}

/// An example in Python, with our package and the library that is tested.
pub fn python_example(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(root().join("c-examples").join(name));
    command.env("PYTHONPATH", root().join("python-ctypes")).env("PLASMA_STORE_LIBRARY", shared_library());
    command
}

/// What both halves of the tutorial print, in every language.
pub const TUTORIAL: [&str; 2] = ["put 1000 float32 of value 2\n", "got 1000 float32 from 2 to 2, sum 2000\n"];

/// One writes the tutorial's tensor, the other reads it, twice: what the first time left is replaced.
pub fn pass_tutorial(writer: &Command, reader: &Command, socket: &Path) {
    for _ in 0..2 {
        assert_eq!(succeed(again(writer).arg(socket).arg("put")), TUTORIAL[0]);
        assert_eq!(succeed(again(reader).arg(socket).arg("get")), TUTORIAL[1]);
    }
}

/// valgrind, which fails where memory is misused or lost.
pub fn memcheck() -> Option<Command> {
    let Some(valgrind) = find("valgrind") else {
        println!("SKIPPED: valgrind is not installed");
        return None;
    };
    let mut command = Command::new(valgrind);
    // Threads take turns: since calls need no kernel, one that asks again and again would never let another run.
    command.args(["-q", "--fair-sched=yes", "--error-exitcode=99", "--errors-for-leak-kinds=definite"]);
    command.arg("--show-leak-kinds=definite");
    Some(command)
}
