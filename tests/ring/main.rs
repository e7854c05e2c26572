//! Requests through shared memory, with a real store: peers that lie there, clients and stores that are killed with records under
//! way, many threads on one client, waits by a bell, and histories of old and native clients that are checked per object.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod crowd;
mod granted;
#[allow(dead_code, reason = "who is served while others attack, and the daemon at rest")]
#[path = "../hostile_crowd/healthy.rs"]
mod healthy;
mod histories;
mod killed;
mod liars;
#[path = "../support/mod.rs"]
mod support;
mod waits;

use std::fs;

use plasma_store::client::{Buffer, Client, CreateOptions, GetOptions};
use plasma_store::object::ObjectId;
use plasma_store::protocol::Request;
use support::{Daemon, RawPeer, id, process};

const MEBIBYTE: u64 = 1 << 20;

/// Descriptors of segments that a store keeps for what comes whole.
const SEGMENTS_MORE: usize = 8;

const PUT: CreateOptions = CreateOptions { no_evict: false, ttl_ms: 0, wait_ms: 0, immutable: false, name: None };
const GET: GetOptions = GetOptions { private: false, no_ask: false };

fn bytes_of(buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.size() as usize];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

/// Bytes by which an object is known again.
fn pattern(n: u64, size: u64) -> Vec<u8> {
    (0..size).map(|at| (at ^ at >> 8).wrapping_mul(2 * n + 1) as u8).collect()
}

/// Waits for an object, which must have these bytes.
fn expect(client: &Client, id: ObjectId, bytes: &[u8]) {
    let got = client.get_one(id, -1, GET).unwrap().unwrap();
    assert!(bytes_of(&got) == bytes, "{id} has other bytes");
}

/// What a daemon has while nobody is connected and nothing is stored.
struct Rest {
    capacity: u64,
    descriptors: usize,
    memory: u64,
}

impl Rest {
    fn of(daemon: &Daemon) -> Self {
        let capacity = RawPeer::old(&daemon.socket()).figure("allocation limit");
        clear(daemon, capacity);
        Self { capacity, descriptors: daemon.descriptors_at_rest(), memory: process::memory(daemon.pid()) }
    }

    /// Nothing of any ring is left. The store may keep segments of its own for what comes next.
    fn check(&self, daemon: &mut Daemon) {
        daemon.check_healthy();
        clear(daemon, self.capacity);
        let descriptors = daemon.descriptors_at_rest();
        assert!(descriptors <= self.descriptors + SEGMENTS_MORE, "{descriptors} after {}", self.descriptors);
        assert_eq!(files_of_rings(daemon.pid()), 0);
        let grown = process::memory(daemon.pid()).saturating_sub(self.memory);
        assert!(grown <= 16 * MEBIBYTE, "the daemon's memory grew by {grown} bytes");
    }
}

/// How many files of rings a process has open or mapped, where one may know: of a daemon only root may.
fn files_of_rings(pid: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open = open.filter_map(|entry| fs::read_link(entry.path()).ok()).map(|file| file.display().to_string());
    let is_ring = |file: &str| file.contains("plasma_store_submissions") || file.contains("plasma_store_outcomes");
    maps.lines().filter(|line| is_ring(line)).count() + open.filter(|file| is_ring(file)).count()
}

/// Waits until all are gone, and has everything evicted; one object as large as the store takes its empty segments.
fn clear(daemon: &Daemon, capacity: u64) {
    daemon.descriptors_at_rest();
    let mut peer = RawPeer::old(&daemon.socket());
    peer.check_nothing_is_held();
    peer.ask(&Request::Evict { bytes: u64::MAX });
    peer.put(id(1 << 50), capacity as i64);
    peer.ask(&Request::Delete { ids: vec![id(1 << 50)] });
    assert_eq!(peer.check_rest(), 0);
}

/// A client can do everything.
fn check_client(client: &Client, first: u64) {
    let [put, streamed, filled] = [first, first + 1, first + 2].map(id);
    client.put(put, b"put", b"m", PUT).unwrap();
    client.put_async(streamed, b"streamed", b"", PUT).unwrap();
    let buffer = client.create(filled, 6, b"", PUT).unwrap();
    buffer.write(0, b"filled").unwrap();
    drop(buffer);
    client.seal_async(filled).unwrap();
    assert!(client.flush().unwrap().is_empty());
    expect(client, put, b"put");
    expect(client, streamed, b"streamed");
    expect(client, filled, b"filled");
    let deleted = client.delete(&[put]).unwrap().into_iter().chain(client.delete(&[streamed, filled]).unwrap());
    assert!(deleted.into_iter().all(|outcome| outcome.is_ok()));
    assert!(![put, streamed, filled].into_iter().any(|id| client.contains(id).unwrap()));
}
