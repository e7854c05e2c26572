//! Those who do nothing wrong: one of our clients and an old one, who must be served whatever the others do.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plasma_store::client::Client;
use plasma_store::error::Error;
use plasma_store::object::{Location, ObjectId};
use plasma_store::protocol::{Reply, Request};

use crate::MEBIBYTE;
use crate::support::{Daemon, RawPeer, connect, eventually, id, is_soaking, process, report};

/// Objects that the old client holds all the time, and their bytes.
const HELD: u64 = 16;
const HELD_SIZE: usize = 5000;

/// Runs `attack` while one of our clients puts, gets and deletes, and an old one reads what it holds. Both must be served
/// throughout.
pub fn beside_healthy_peers(daemon: &Daemon, what: &str, attack: impl FnOnce()) {
    let (over, rounds, reads) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (client, old) = (connect(&daemon.socket()), OldClient::new(daemon));
    std::thread::scope(|scope| {
        let end = EndsAll(&over);
        let ours = scope.spawn(|| put_until(&over, &client, &rounds));
        let theirs = scope.spawn(|| old.read_until(&over, &reads));
        attack();
        let done = || (rounds.load(Ordering::Relaxed), reads.load(Ordering::Relaxed));
        let before = done();
        let served = || done().0 > before.0 + 1 && done().1 > before.1 + 1;
        eventually(|| served() || ours.is_finished() || theirs.is_finished());
        drop(end);
        ours.join().unwrap();
        let slowest = theirs.join().unwrap();
        report(&format!("{what}: survived; the slowest of {reads:?} gets of an old client took {slowest:?}"));
        // A bound for a machine that does nothing else; `make test` has none.
        assert!(!is_soaking() || slowest <= Duration::from_secs(1), "a get took {slowest:?}");
    });
}

/// Tells the others to end, also when a test fails.
struct EndsAll<'a>(&'a AtomicBool);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn put_until(over: &AtomicBool, client: &Client, rounds: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        let served = healthy_round(client, rounds.load(Ordering::Relaxed));
        rounds.fetch_add(u64::from(served), Ordering::Relaxed);
    }
}

/// Returns whether there was room: the attackers may have taken what there is, until they are gone.
fn healthy_round(client: &Client, round: u64) -> bool {
    let name = id(1 << 40 | round);
    let buffer = match client.create(name, 1000, b"", Default::default()) {
        Err(Error::StoreFull(_)) => return false,
        created => created.unwrap(),
    };
    buffer.write(0, &[round as u8; 1000]).unwrap();
    client.seal(name).unwrap();
    let got = client.get(&[name, name], -1, Default::default()).unwrap();
    let mut bytes = [0; 1000];
    got[1].as_ref().unwrap().read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [round as u8; 1000]);
    assert!(client.contains(name).unwrap());
    assert!(client.delete(&[name]).unwrap()[0].is_err(), "it is held");
    drop((buffer, got));
    assert!(!client.contains(name).unwrap());
    true
}

/// An old client with objects whose bytes it knows.
struct OldClient {
    peer: RawPeer,
    memory: File,
    held: Vec<Location>,
}

impl OldClient {
    fn new(daemon: &Daemon) -> Self {
        let mut peer = RawPeer::old(&daemon.socket());
        // What an earlier one left.
        peer.ask(&Request::Delete { ids: (0..HELD).map(held_name).collect() });
        let held: Vec<_> = (0..HELD).map(|n| peer.create(held_name(n), HELD_SIZE as i64).unwrap()).collect();
        let memory = File::from(peer.descriptors.pop_front().unwrap());
        for (n, location) in (0..HELD).zip(&held) {
            memory.write_all_at(&held_bytes(n), location.offset).unwrap();
            peer.seal(held_name(n)).unwrap();
        }
        Self { peer, memory, held }
    }

    /// Reads one after the other. Returns how long the slowest get took.
    fn read_until(mut self, over: &AtomicBool, reads: &AtomicU64) -> Duration {
        let mut slowest = Duration::ZERO;
        while !over.load(Ordering::Relaxed) {
            slowest = slowest.max(self.read(reads.fetch_add(1, Ordering::Relaxed) % HELD));
        }
        slowest
    }

    /// Gets one of its objects, which must be where it was and as it was. Returns how long the store took.
    fn read(&mut self, n: u64) -> Duration {
        let begin = Instant::now();
        let reply = self.peer.ask(&Request::Get { ids: vec![held_name(n)], timeout_ms: -1 });
        let took = begin.elapsed();
        let location = self.held[n as usize];
        assert!(matches!(reply, Reply::Get { locations, .. } if locations == [Some(location)]));
        let mut bytes = vec![0; HELD_SIZE];
        self.memory.read_exact_at(&mut bytes, location.offset).unwrap();
        assert!(bytes == held_bytes(n), "object {n} was written by somebody else");
        took
    }
}

fn held_name(n: u64) -> ObjectId {
    id(1 << 41 | n)
}

fn held_bytes(n: u64) -> Vec<u8> {
    (0..HELD_SIZE).map(|at| (at as u64 * 7 + n) as u8).collect()
}

/// What a daemon has while nobody is connected.
pub struct Rest {
    descriptors: usize,
    memory: u64,
}

impl Rest {
    pub fn of(daemon: &mut Daemon) -> Self {
        daemon.check_healthy();
        Self { descriptors: daemon.descriptors_at_rest(), memory: process::memory(daemon.pid()) }
    }

    /// It must have the same again: descriptors, memory of its own, and bytes of objects that are there.
    pub fn check(&self, daemon: &mut Daemon) {
        daemon.check_healthy();
        assert_eq!(daemon.descriptors_at_rest(), self.descriptors);
        let grown = process::memory(daemon.pid()).saturating_sub(self.memory);
        report(&format!("the daemon's own memory grew by {} KiB", grown / 1024));
        assert!(grown <= 16 * MEBIBYTE, "the daemon's memory grew by {grown} bytes");
        let mut peer = RawPeer::old(&daemon.socket());
        peer.check_rest();
        peer.ask(&Request::Evict { bytes: u64::MAX });
        assert_eq!(peer.check_rest(), 0);
    }
}
