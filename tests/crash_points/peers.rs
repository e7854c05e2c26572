//! A client dies at each of its points, beside others who go on: nothing of it is left but what it sealed, and that is whole.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use nix::sys::resource::{Resource, setrlimit};
use plasma_store::client::{Buffer, Client, GetOptions};
use plasma_store::crash::{Point, Side};
use plasma_store::object::{ObjectInfo, ObjectState};

use crate::play::{Player, check};
use crate::support::{Daemon, RawPeer, Watchdog, connect, eventually, id, process, progress, put, report, times};
use crate::{CAPACITY, Death, ENDS, deaths, is_chosen, pattern};

/// What the survivor has, and how much of it.
const KEPT: [u64; 3] = [1, 2, 3];
const KEPT_SIZE: u64 = 300_000;
/// Names of those who die begin here.
const FIRST: u64 = 1 << 20;

/// No test, but what the test below starts: a client that plays until it dies.
#[test]
fn part() {
    let Some(socket) = std::env::var_os("PLASMA_TEST_SOCKET").map(PathBuf::from) else { return };
    // An abort is to leave no file.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    let kept = Mutex::default();
    Player::new(&socket, FIRST, Side::Peer, &kept).unwrap().play().unwrap();
}

/// Plays in a process of its own, to its death.
fn die(socket: &Path, death: &Death) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "peers::part", "--nocapture", "--test-threads=1"]).env("PLASMA_TEST_SOCKET", socket);
    death.order(&mut command);
    death.expect(&mut command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
}

/// Those who are connected all the time: a client of ours, and an old one.
struct Survivors {
    client: Client,
    old: RawPeer,
    held: Vec<Buffer>,
}

impl Survivors {
    fn new(socket: &Path) -> Self {
        let (client, old) = (connect(socket), RawPeer::old(socket));
        KEPT.into_iter().for_each(|name| put(&client, id(name), &pattern(name, KEPT_SIZE)));
        let held = KEPT.map(|name| client.get_one(id(name), 0, GetOptions::default()).unwrap().unwrap()).into();
        Self { client, old, held }
    }

    /// What those who died left, which is sealed and whole. Deletes it.
    fn clear(&self) -> usize {
        let left: Vec<ObjectInfo> = self.client.list().unwrap();
        let theirs: Vec<_> = left.into_iter().filter(|info| name_of(info) >= FIRST).collect();
        for info in &theirs {
            assert_eq!(info.state, ObjectState::Sealed, "{info:?}");
            check(name_of(info), &self.client.get_one(info.id, 0, GetOptions::default()).unwrap().unwrap());
            let outcome = self.client.delete(&[info.id]).unwrap().remove(0);
            assert!(outcome.is_ok(), "{info:?}: {outcome:?}");
        }
        theirs.len()
    }

    /// All figures are those of what the survivors have. The whole room that is left can be had.
    fn check(&mut self, pid: u32) {
        let kept = KEPT.len() as u64;
        let stats = self.client.stats().unwrap();
        assert_eq!((stats.used_bytes, stats.held_bytes), (kept * KEPT_SIZE, kept * KEPT_SIZE));
        assert_eq!((stats.objects, stats.held_objects, stats.sealed_objects), (kept, kept, kept));
        assert_eq!((stats.waiting_gets, stats.waiting_creates, stats.copied_bytes), (0, 0, 0));
        let room = self.client.create(id(9), CAPACITY - kept * KEPT_SIZE, b"", Default::default()).unwrap();
        drop(room);
        self.client.abort(id(9)).unwrap();
        eventually(|| self.client.stats().unwrap().retired_bytes == 0);
        if let Some(bytes) = process::segment_bytes(pid) {
            assert_eq!(bytes, self.client.stats().unwrap().allocated_bytes, "as the kernel says, and the store");
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        for (name, buffer) in KEPT.into_iter().zip(&self.held) {
            let mut bytes = vec![0; buffer.size() as usize];
            buffer.read(0, &mut bytes).unwrap();
            assert!(bytes == pattern(name, KEPT_SIZE));
        }
        put(&self.client, id(10), b"native");
        self.old.put(id(11), 100);
        assert_eq!(self.old.get(&[id(10), id(11)]), [true, true]);
        self.old.release(id(10));
        self.old.release(id(11));
        // The old one's releases may be behind; then they go with them.
        let _ = self.client.delete(&[id(10), id(11)]).unwrap();
        eventually(|| [10, 11].into_iter().all(|name| !self.client.contains(id(name)).unwrap()));
    }
}

fn name_of(info: &ObjectInfo) -> u64 {
    u64::from_le_bytes(info.id.as_bytes()[..8].try_into().unwrap())
}

#[cfg_attr(crash_points, test)]
fn a_client_that_dies_at_any_point_leaves_nothing() {
    let _watchdog = Watchdog::new("a_client_that_dies_at_any_point_leaves_nothing");
    let mut daemon = Daemon::start_with(CAPACITY, |command| _ = command.args(["--max-objects", "64"]));
    let mut survivors = Survivors::new(&daemon.socket());
    let descriptors = process::descriptors(daemon.pid());
    let (mut played, mut left) = (0, 0);
    let all: Vec<_> = deaths(Side::Peer).collect();
    for death in &all {
        println!("{death:?}");
        die(&daemon.socket(), death);
        eventually(|| survivors.client.stats().unwrap().clients == 2);
        left += survivors.clear();
        survivors.check(daemon.pid());
        played += 1;
        progress(played, all.len() as u64, "deaths of clients");
    }
    daemon.check_healthy();
    eventually(|| process::descriptors(daemon.pid()) <= descriptors + 8);
    assert!(
        left > 0 || !Point::ALL.iter().all(|(point, _)| is_chosen(point)),
        "nobody left anything: they died too early"
    );
    let rounds = times(2, 100);
    report(&format!("{played} clients died, {rounds} at each point by each of {ENDS:?}: nothing left"));
}
