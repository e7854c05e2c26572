//! A process that was let in, and goes for the memory of the others and for the daemon: by every descriptor that it gets, by
//! what it may write, by the kernel's ways into another process, and by taking all there is. Each is tried as the daemon's own
//! user and as another.
//!
//! Each attempt must be refused or harm nobody else: whoever holds an object finds its bytes, whoever puts and gets is
//! served, who waits goes on waiting, the daemon lives, and has what it had when the intruder is gone. What breaks the
//! protocol is in `hostile_peer`, great numbers in `hostile_crowd`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod attacks;
mod bystanders;
#[allow(dead_code, reason = "only what tells of the daemon at rest")]
#[path = "../hostile_crowd/healthy.rs"]
mod healthy;
mod kernel;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use attacks::{CASES, Case, Intruder, Until};
use bystanders::{Bystanders, Witness, awaited};
use healthy::Rest;
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use plasma_store::client::PutItem;
use plasma_store::error::Error;
use support::{Daemon, Watchdog, connect, eventually, id, process, progress, put, report, times};

const MEBIBYTE: u64 = 1 << 20;

/// How many descriptors the daemon may have, and as many may be under way to its peers: fewer than an intruder asks for.
const DESCRIPTORS: u64 = 4096;

/// How many descriptors of segments the daemon may have more for those who put and get all the time.
const SEGMENTS_MORE: usize = 8;

/// Where the tests run as root: the daemon's user, and another.
const OWN: u32 = 65_533;
const OTHER: u32 = 65_534;

/// No test, but what the tests below start: an intruder, for one case.
#[test]
fn part() {
    let Ok(case) = env::var("PLASMA_TEST_PART") else { return };
    let number = |name| env::var(name).ok().map(|text| text.parse::<u32>().unwrap());
    if let Some(user) = number("PLASMA_TEST_USER") {
        become_user(user);
    }
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let socket = PathBuf::from(env::var_os("PLASMA_TEST_SOCKET").unwrap());
    let intruder = Intruder { socket, daemon: number("PLASMA_TEST_DAEMON").unwrap() as i32 };
    let case = CASES.iter().find(|known| known.name == case).unwrap();
    (case.attack)(&intruder);
    println!("TRIED: all");
}

/// For good, and as a process that this user has started.
fn become_user(user: u32) {
    setgroups(&[]).unwrap();
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
    set_dumpable(true).unwrap();
}

/// Starts this program again to play an intruder.
fn start(case: &str, daemon: &Daemon, user: Option<u32>) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "part", "--nocapture", "--test-threads=1"]);
    command.env("PLASMA_TEST_PART", case).env("PLASMA_TEST_SOCKET", daemon.socket());
    command.env("PLASMA_TEST_DAEMON", daemon.pid().to_string());
    user.iter().for_each(|user| _ = command.env("PLASMA_TEST_USER", user.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// What became of a case.
#[derive(Default)]
struct Row {
    refused: u64,
    reasons: BTreeSet<String>,
    /// Attempts that succeeded and that nobody noticed.
    harmless: Vec<String>,
    breaches: Vec<String>,
    is_complete: bool,
}

impl Row {
    /// Takes in what an intruder says. Returns whether it is ready, and waits.
    fn hear(&mut self, said: &str) -> bool {
        match said.split_once(": ") {
            Some(("refused", attempt)) => {
                self.refused += 1;
                self.reasons.extend(attempt.rsplit(": ").next().map(str::to_owned));
            }
            Some(("done", attempt)) => self.harmless.push(attempt.to_owned()),
            Some(("BREACH", attempt)) => self.breaches.push(attempt.to_owned()),
            _ if said == "all" => self.is_complete = true,
            _ => return said == "ready",
        }
        false
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = self.reasons.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.harmless.as_slice() {
            [] => write!(formatter, "{} refused ({reasons})", self.refused),
            [only] if self.refused == 0 => write!(formatter, "harmless: {only}"),
            harmless if self.refused == 0 => write!(formatter, "{} harmless", harmless.len()),
            harmless => write!(formatter, "{} refused ({reasons}), {} harmless", self.refused, harmless.len()),
        }
    }
}

/// A daemon, and those who use it.
struct Scene<'a> {
    daemon: &'a Daemon,
    witness: &'a Witness,
    bystanders: &'a Bystanders,
}

impl Scene<'_> {
    /// The daemon's descriptors when none but those who belong here are connected, which this waits for, and when what the
    /// others have left is gone.
    fn descriptors(&self) -> usize {
        eventually(|| self.witness.client.stats().unwrap().clients == Bystanders::CLIENTS + 1);
        self.witness.client.evict(u64::MAX).unwrap();
        process::descriptors(self.daemon.pid())
    }

    /// Lets an intruder try one case.
    fn play(&self, case: &Case, user: Option<u32>) -> Row {
        let mut child = start(case.name, self.daemon, user);
        let mut words = child.stdin.take().unwrap();
        let mut row = Row::default();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // The line before it may have been begun by the test harness.
            let line = line.unwrap();
            let Some((_, said)) = line.split_once("TRIED: ") else { continue };
            if row.hear(said) {
                match case.until {
                    Until::OthersAreRefused => self.expect_full(child.id()),
                    _ => {
                        self.bystanders.are_served();
                        self.admit_newcomer();
                    }
                }
                writeln!(words).unwrap();
            }
        }
        assert!(
            child.wait().unwrap().success() && row.is_complete,
            "{}: the intruder failed; it said why above",
            case.name
        );
        row
    }

    /// Somebody new gets the descriptors of the index, and of segments.
    fn admit_newcomer(&self) {
        let (newcomer, name) = (connect(&self.daemon.socket()), id(1 << 38));
        put(&newcomer, name, b"new");
        let got = newcomer.get(&[name, id(1 << 40 | 3)], 0, Default::default()).unwrap();
        assert!(got.iter().all(Option::is_some));
        let _ = newcomer.delete(&[name]).unwrap();
    }

    /// Nobody can create what needs the room of another object, and is told on whose account.
    fn expect_full(&self, intruder: u32) {
        let create = || self.witness.client.create(id(1 << 45), 8 * MEBIBYTE, b"", Default::default());
        match create() {
            Err(Error::StoreFull(text)) => {
                let named = format!("process {intruder} (");
                assert!(text.contains(&named) && text.contains("holds most"), "{named} is not in: {text}");
            }
            other => panic!("{:?}", other.map(drop)),
        }
        self.witness.check();
    }

    /// Nobody was harmed, and nothing of the intruder is left.
    fn check(&self, descriptors: usize) {
        self.witness.check();
        self.bystanders.are_served();
        eventually(|| self.descriptors() <= descriptors + SEGMENTS_MORE);
    }
}

/// Plays every case beside healthy clients, and tells what became of them.
fn intrude(who: &str, daemon_user: Option<u32>, user: Option<u32>) {
    let mut daemon = Daemon::start_as(16 * MEBIBYTE, daemon_user, DESCRIPTORS);
    evict_everything(&daemon);
    let rest = Rest::of(&mut daemon);
    let witness = Witness::new(&daemon.socket());
    let bystanders = Bystanders::new(&daemon.socket());
    std::thread::scope(|scope| {
        let end = bystanders.at_the_end();
        let putting = scope.spawn(|| {
            let _end = bystanders.at_the_end();
            bystanders.put();
        });
        let waiting = scope.spawn(|| bystanders.wait());
        play_all(who, &Scene { daemon: &daemon, witness: &witness, bystanders: &bystanders }, user);
        put(&witness.client, awaited(), b"at last");
        assert!(waiting.join().unwrap(), "who waited all the time was served in the end");
        drop(end);
        putting.join().unwrap();
    });
    drop((witness, bystanders));
    evict_everything(&daemon);
    rest.check(&mut daemon);
}

/// Leaves the daemon without objects, and with the segment that it writes itself, which stays once it is there.
fn evict_everything(daemon: &Daemon) {
    let client = connect(&daemon.socket());
    client.put_batch(&[PutItem { id: id(1), data: b"inline", metadata: b"", name: None }], Default::default()).unwrap();
    // Who held something may have left just now.
    eventually(|| {
        client.evict(u64::MAX).unwrap();
        client.stats().unwrap().objects == 0
    });
}

fn play_all(who: &str, scene: &Scene<'_>, user: Option<u32>) {
    let descriptors = scene.descriptors();
    let rounds = times(1, 20);
    for round in 0..rounds {
        for case in &CASES {
            let row = scene.play(case, user);
            assert!(row.breaches.is_empty(), "{who}, {}: {:?}", case.name, row.breaches);
            scene.check(descriptors);
            if round == 0 {
                println!("{who:14} | {:50} | {row}", case.name);
                report(&format!("{who}, {}: {row}", case.name));
            }
        }
        progress(round, rounds, "rounds of intrusions");
    }
}

#[test]
fn an_intruder_of_the_daemons_own_user_harms_nobody() {
    let _watchdog = Watchdog::new("an_intruder_of_the_daemons_own_user_harms_nobody");
    let user = geteuid().is_root().then_some(OWN);
    intrude("the same user", user, user);
}

#[test]
fn an_intruder_of_another_user_harms_nobody() {
    let _watchdog = Watchdog::new("an_intruder_of_another_user_harms_nobody");
    if !geteuid().is_root() {
        println!("SKIPPED: only root can be another user");
        return;
    }
    intrude("another user", Some(OWN), Some(OTHER));
}

/// Where it says what user it has, and what it may, the kernel says what is asked of it here.
#[test]
fn the_daemon_is_closed_to_others() {
    let _watchdog = Watchdog::new("the_daemon_is_closed_to_others");
    let daemon = Daemon::start(MEBIBYTE);
    let read =
        |name: &str| std::fs::read_to_string(Path::new("/proc").join(daemon.pid().to_string()).join(name)).unwrap();
    assert!(read("status").lines().any(|line| line == "NoNewPrivs:\t1"));
    let limit = |name: &str| {
        let limits = read("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size")[..2], ["0", "0"]);
    let [soft, hard] = [0, 1].map(|n| limit("Max open files")[n].parse::<u64>().unwrap());
    assert_eq!(soft, hard.min(65_536));
}
