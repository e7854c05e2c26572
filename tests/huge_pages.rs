//! `-h`: objects in huge pages, for our clients and for old ones. Where the machine has none and we may not set aside any, the
//! refusal; that is tested everywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests panic")]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use plasma_store::client::GetOptions;
use plasma_store::protocol::{Reply, Request};
use plasma_store::shm::mapping::Mapping;
use support::{Daemon, RawPeer, Watchdog, connect, eventually, id, put};

const POOL: &str = "/proc/sys/vm/nr_hugepages";
const CAPACITY: u64 = 8 << 20;

/// The huge pages of the machine, some of them set aside by us if we may; as before when this is dropped.
struct Pool {
    before: String,
}

impl Pool {
    fn fill() -> Self {
        let before = fs::read_to_string(POOL).unwrap();
        // Not everybody may, and not every machine has so much memory in one piece. Then there are no more than before.
        let _ = fs::write(POOL, (before.trim().parse::<u64>().unwrap() + 16).to_string());
        Self { before }
    }

    fn figure(name: &str) -> u64 {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Bytes of a page.
    fn page() -> u64 {
        Self::figure("Hugepagesize") * 1024
    }

    fn free() -> u64 {
        Self::figure("HugePages_Free") - Self::figure("HugePages_Rsvd")
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = fs::write(POOL, &self.before);
    }
}

/// Pages that a store of this many bytes takes.
fn needed(capacity: u64) -> u64 {
    (capacity + capacity / 8).div_ceil(Pool::page())
}

/// What a daemon with these arguments says when it does not start.
fn refusal(capacity: u64, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let mut command = Daemon::command(&socket, capacity);
    let output = command.args(arguments).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!socket.exists(), "it left a socket");
    String::from_utf8(output.stderr).unwrap()
}

/// All in one: the pool is the machine's.
#[test]
fn objects_lie_in_huge_pages_or_the_store_does_not_start() {
    let _watchdog = Watchdog::new("objects_lie_in_huge_pages_or_the_store_does_not_start");
    let _pool = Pool::fill();
    let free = Pool::free();
    println!("{free} huge pages are free");

    let too_much = (free + 10) * Pool::page();
    let said = refusal(too_much, &["-h", "--overcommit"]);
    let pages = format!("{} huge pages of {} kB", needed(too_much), Pool::page() / 1024);
    assert!(said.contains(&pages) && said.contains(&format!("{free} are free")), "{said}");
    assert!(said.contains("vm.nr_hugepages"), "{said}");
    let ordinary = tempfile::tempdir().unwrap();
    let path = ordinary.path().to_str().unwrap();
    let said = refusal(CAPACITY, &["-h", "-d", path]);
    assert!(said.contains(path) && said.contains("hugetlbfs"), "{said}");

    if free < needed(CAPACITY) {
        let said = refusal(CAPACITY, &["-h"]);
        assert!(said.contains(&format!("{} huge pages", needed(CAPACITY))), "{said}");
        return;
    }
    let daemon = Daemon::start_with(CAPACITY, |command| _ = command.args(["-h", "-e", "hashtable://x"]));
    check(&daemon);
    assert_eq!(Pool::free(), free - needed(CAPACITY), "it takes them all at the start");
    drop(daemon);
    // And gives them back at the end.
    eventually(|| Pool::free() == free);
    let mount = tempfile::tempdir().unwrap();
    if mounted(mount.path()) {
        check(&Daemon::start_with(CAPACITY, |command| _ = command.args(["-h", "-d"]).arg(mount.path())));
        assert!(Command::new("umount").arg(mount.path()).status().unwrap().success());
    }
}

fn mounted(path: &Path) -> bool {
    let status = Command::new("mount").args(["-t", "hugetlbfs", "none"]).arg(path).status();
    status.is_ok_and(|status| status.success())
}

fn check(daemon: &Daemon) {
    let socket = daemon.socket();
    // As old clients do: the whole announced length, to be written.
    let mut old = RawPeer::old(&socket);
    let request = Request::Create {
        id: id(1),
        data_size: 1000,
        metadata_size: 4,
        evict_if_full: true,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    };
    let Reply::Create { outcome: Ok(place), segment: Some(segment), .. } = old.ask(&request) else { panic!() };
    assert!(segment.mmap_size.is_multiple_of(Pool::page()) && segment.mmap_size >= CAPACITY);
    let file = File::from(old.descriptors.pop_front().unwrap());
    assert_eq!(fstatfs(&file).unwrap().filesystem_type(), HUGETLBFS_MAGIC);
    let mapping = Mapping::read_write(&file, segment.mmap_size).unwrap();
    assert!(place.offset + 1004 <= mapping.len());
    old.seal(id(1)).unwrap();

    // What comes with a request is written by the store, over the border of two pages too.
    let data: Vec<u8> = (0..3 << 20).map(|n: u32| (n / 7) as u8).collect();
    let request =
        Request::CreateAndSeal { id: id(2), evict_if_full: true, data: data.clone(), metadata: vec![], digest: [0; 8] };
    assert!(matches!(old.ask(&request), Reply::CreateAndSeal { outcome: Ok(()) }));
    let client = connect(&socket);
    let read = |name, options| {
        let found = client.get(&[id(name)], 0, options).unwrap().remove(0)?;
        let mut bytes = vec![0; found.size() as usize];
        found.read(0, &mut bytes).unwrap();
        Some(bytes)
    };
    assert!(read(2, GetOptions::default()).unwrap() == data);
    assert!(
        read(2, GetOptions { private: true, ..Default::default() }).unwrap() == data,
        "a private copy needs no huge pages"
    );
    // Twice what fits, so that room is used again.
    for n in 10..26 {
        put(&client, id(n), &data[n as usize..][..1 << 20]);
        assert!(read(n, GetOptions::default()).unwrap() == data[n as usize..][..1 << 20]);
    }
    if client.contains(id(10)).unwrap() {
        assert!(read(10, GetOptions::default()).unwrap() == data[10..][..1 << 20], "from the external store");
    }
    client.delete(&[id(25)]).unwrap().remove(0).unwrap();
}
