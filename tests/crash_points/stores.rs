//! The store dies at each of its points: every call of its clients ends with an error, what they hold stays as it is, and the next
//! store at the same place works.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plasma_store::client::{Buffer, Client, ConnectOptions, GetOptions};
use plasma_store::crash::{Point, Side};
use plasma_store::error::Error;

use crate::play::{Player, check};
use crate::support::{Daemon, Watchdog, connect, eventually, id, progress, put, report, times};
use crate::{CAPACITY, Death, ENDS, MEBIBYTE, deaths, is_chosen};

type Kept = Mutex<Vec<(u64, Buffer)>>;

/// Starts a daemon with a small index and some memory made ready; it listens when this returns, or has died.
fn start(socket: &Path, change: impl FnOnce(&mut Command)) -> Child {
    let mut command = Daemon::command(socket, CAPACITY);
    command.args(["--max-objects", "16", "--pool", &(4 * MEBIBYTE).to_string()]);
    change(&mut command);
    let mut child = command.spawn().unwrap();
    eventually(|| child.try_wait().unwrap().is_some() || UnixStream::connect(socket).is_ok());
    child
}

/// Whether a call ended as it must when there is no store.
fn says_that_it_is_gone(error: &Error) -> bool {
    matches!(error, Error::Disconnected(_) | Error::ConnectFailed { .. })
}

/// Waits for what nobody puts.
fn sleep(client: &Result<Client, Error>) -> Option<Error> {
    client
        .as_ref()
        .map_err(|error| {
            assert!(says_that_it_is_gone(error), "{error}");
            Error::Disconnected(error.to_string())
        })
        .and_then(|client| client.get_one(id(77), -1, GetOptions::default()))
        .err()
}

/// Plays until the store dies. What is held is still held when this returns.
fn play(socket: &Path, kept: &Kept, store: Pid) {
    // Connected before the others, who look at how many there are.
    let client = Client::connect(Some(socket), ConnectOptions::default());
    let [played, slept] = thread::scope(|scope| {
        let sleeper = scope.spawn(|| sleep(&client));
        let player = || Player::new(socket, 1 << 20, Side::Store, kept).and_then(|player| player.play()).err();
        let played = catch_unwind(AssertUnwindSafe(player));
        if !matches!(&played, Ok(Some(error)) if says_that_it_is_gone(error)) {
            // Else the sleeper would hide what went wrong.
            kill(store, Signal::SIGKILL).unwrap();
        }
        [played.unwrap_or_else(|panic| resume_unwind(panic)), sleeper.join().unwrap()]
    });
    let played = played.expect("the store has never come to that point so often");
    assert!(says_that_it_is_gone(&played), "{played}");
    let slept = slept.expect("nobody puts that");
    assert!(says_that_it_is_gone(&slept), "{slept}");
}

/// Files of ours where memory is a directory.
fn files() -> BTreeSet<String> {
    let names = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.contains("plasma")).collect()
}

/// The next store at that place works.
fn check_next(socket: &Path) {
    let mut next = start(socket, |_| {});
    let client = connect(socket);
    put(&client, id(1), b"next");
    put(&client, id(2), &vec![1; 3 << 20]);
    let got = client.get_one(id(1), 0, GetOptions::default()).unwrap().unwrap();
    let mut bytes = [0; 4];
    got.read(0, &mut bytes).unwrap();
    assert_eq!((&bytes, client.stats().unwrap().objects), (b"next", 2));
    kill(Pid::from_raw(next.id() as i32), Signal::SIGTERM).unwrap();
    assert!(next.wait().unwrap().success());
}

fn die(death: &Death) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let mut child = start(&socket, |command| death.order(command));
    let kept = Kept::default();
    play(&socket, &kept, Pid::from_raw(child.id() as i32));
    death.expect(&mut child);
    let kept = kept.into_inner().unwrap();
    kept.iter().for_each(|(name, buffer)| check(*name, buffer));
    check_next(&socket);
    // Also beside a living store they are what they were.
    kept.iter().for_each(|(name, buffer)| check(*name, buffer));
    kept.len()
}

#[cfg_attr(crash_points, test)]
fn a_store_that_dies_at_any_point_ends_all_calls_and_leaves_what_is_held() {
    let _watchdog = Watchdog::new("a_store_that_dies_at_any_point_ends_all_calls_and_leaves_what_is_held");
    let before = files();
    let (mut played, mut kept) = (0, 0);
    let all: Vec<_> = deaths(Side::Store).collect();
    for death in &all {
        println!("{death:?}");
        kept += die(death);
        played += 1;
        progress(played, all.len() as u64, "deaths of stores");
    }
    assert!(
        kept > 0 || !Point::ALL.iter().all(|(point, _)| is_chosen(point)),
        "nothing was ever held: they died too early"
    );
    assert!(files().is_subset(&before), "files were left: {:?}", files());
    let rounds = times(2, 100);
    report(&format!("{played} stores died, {rounds} at each point by each of {ENDS:?}: all calls ended"));
}
