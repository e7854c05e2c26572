//! Large objects are gathered in huge pages once they are sealed, where the machine does that, and nothing depends on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests panic")]

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_thp_disable;
use nix::sys::signal::Signal;
use plasma_store::client::{Buffer, Client, GetOptions};
use plasma_store::shm::mapping::{HUGE_PAGE, Mapping};
use plasma_store::shm::segment::Segment;
use support::{Daemon, Watchdog, connect, eventually, id, put};
use tempfile::NamedTempFile;

const CAPACITY: u64 = 64 << 20;
/// At least three huge pages, wherever it begins.
const SIZE: usize = 8 << 20;
/// What the log says where it is not done.
const REFUSED: &str = "not gathered in huge pages";

/// Whether this machine does it for anybody; says so where it does not.
fn is_possible() -> bool {
    let segment = Segment::create("probe", HUGE_PAGE).unwrap();
    segment.allocate(0..HUGE_PAGE).unwrap();
    let outcome = Mapping::read_only(&segment, HUGE_PAGE).unwrap().collapse();
    if let Err(error) = &outcome {
        println!("this machine gathers no pages ({error}), so it is tested that nothing depends on it");
    }
    outcome.is_ok()
}

fn pattern() -> Vec<u8> {
    (0..SIZE as u32).map(|n| (n >> 10) as u8 ^ n as u8).collect()
}

fn get(client: &Client) -> Buffer {
    client.get(&[id(1)], 0, GetOptions::default()).unwrap().remove(0).unwrap()
}

/// Bytes that this process has mapped by entries for whole huge pages around `address`.
fn in_huge_pages(address: u64) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let is_around = |line: &&str| {
        let range = line.split(' ').next().unwrap().split_once('-');
        let number = |text| u64::from_str_radix(text, 16).ok();
        let range = range.and_then(|(start, end)| Some(number(start)?..number(end)?));
        range.is_some_and(|range| range.contains(&address))
    };
    let ours = smaps.lines().skip_while(|line| !is_around(line)).skip(1);
    let figure = |name: &str| {
        // Nothing, when another test has unmapped it meanwhile.
        let line = ours.clone().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
    };
    figure("ShmemPmdMapped:") + figure("FilePmdMapped:")
}

/// The same for files of this name.
fn of_files_in_huge_pages(name: &str) -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let starts = maps.lines().filter(|line| line.contains(name)).filter_map(|line| line.split('-').next());
    starts.map(|start| in_huge_pages(u64::from_str_radix(start, 16).unwrap())).sum()
}

/// Waits until an object that was read already lies in huge pages, or the log says that none will. Returns whether it does.
fn comes_to_lie_in_huge_pages(daemon: &Daemon, log: &NamedTempFile) -> bool {
    let client = connect(&daemon.socket());
    put(&client, id(1), &pattern());
    let object = get(&client);
    let mut bytes = vec![0; SIZE];
    let (mut gathered, mut refused) = (false, false);
    eventually(|| {
        // Whoever has it mapped maps it anew, as it moved.
        object.read(0, &mut bytes).unwrap();
        assert!(bytes == pattern());
        gathered = in_huge_pages(object.data() as u64) >= 3 * HUGE_PAGE;
        refused = fs::read_to_string(log).unwrap().contains(REFUSED);
        gathered || refused
    });
    assert!(!(gathered && refused));
    gathered
}

fn daemon(log: &NamedTempFile, change: impl FnOnce(&mut Command)) -> Daemon {
    Daemon::start_with(CAPACITY, |command| {
        command.arg("-v").stderr(log.reopen().unwrap());
        change(command);
    })
}

#[test]
fn a_large_object_comes_to_lie_in_huge_pages() {
    let _watchdog = Watchdog::new("a_large_object_comes_to_lie_in_huge_pages");
    let log = NamedTempFile::new().unwrap();
    let daemon = daemon(&log, |_| {});
    assert_eq!(comes_to_lie_in_huge_pages(&daemon, &log), is_possible());
    // Its memory is given back all the same, and others come to lie there.
    let client = connect(&daemon.socket());
    let others: Vec<_> = (2..30).map(|n: u8| (n, vec![n; usize::from(n) << 18])).collect();
    for (n, data) in &others {
        put(&client, id(u64::from(*n)), data);
    }
    let found =
        client.get(&others.iter().map(|(n, _)| id(u64::from(*n))).collect::<Vec<_>>(), 0, GetOptions::default());
    let mut count = 0;
    for ((_, data), object) in others.iter().zip(found.unwrap()) {
        let Some(object) = object else { continue };
        let mut bytes = vec![0; data.len()];
        object.read(0, &mut bytes).unwrap();
        assert!(bytes == *data);
        count += 1;
    }
    assert!(count >= 5, "only {count} are left");
}

/// A get among many objects touches another page of each every time.
#[test]
fn index_and_pins_of_a_large_store_come_to_lie_in_huge_pages() {
    let _watchdog = Watchdog::new("index_and_pins_of_a_large_store_come_to_lie_in_huge_pages");
    if !is_possible() {
        return;
    }
    let daemon = Daemon::start_with(8 << 30, |_| {});
    let client = connect(&daemon.socket());
    let ids: Vec<_> = (0..100).map(id).collect();
    ids.iter().for_each(|id| put(&client, *id, id.as_bytes()));
    eventually(|| {
        let found = client.get(&ids, 0, GetOptions::default()).unwrap();
        for (id, object) in ids.iter().zip(found) {
            let mut bytes = [0; 20];
            object.unwrap().read(0, &mut bytes).unwrap();
            assert_eq!(bytes, *id.as_bytes());
        }
        ["plasma_store_index", "plasma_store_pins"].iter().all(|name| of_files_in_huge_pages(name) >= HUGE_PAGE)
    });
}

#[test]
fn files_in_a_directory_are_served_whether_or_not_they_can_be_gathered() {
    let _watchdog = Watchdog::new("files_in_a_directory_are_served_whether_or_not_they_can_be_gathered");
    let directory = tempfile::tempdir().unwrap();
    let log = NamedTempFile::new().unwrap();
    let daemon = daemon(&log, |command| _ = command.arg("-d").arg(directory.path()));
    let gathered = comes_to_lie_in_huge_pages(&daemon, &log);
    assert!(is_possible() || !gathered);
}

#[test]
fn where_it_is_forbidden_the_log_says_so_once() {
    let _watchdog = Watchdog::new("where_it_is_forbidden_the_log_says_so_once");
    let log = NamedTempFile::new().unwrap();
    let mut daemon = daemon(&log, |command| {
        // SAFETY: it makes one system call.
        unsafe { command.pre_exec(|| Ok(set_thp_disable(true)?)) };
    });
    assert!(!comes_to_lie_in_huge_pages(&daemon, &log));
    put(&connect(&daemon.socket()), id(2), &pattern());
    daemon.check_healthy();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches(REFUSED).count(), 1, "{said}");
}

#[test]
fn a_store_ends_while_there_is_much_to_gather() {
    let _watchdog = Watchdog::new("a_store_ends_while_there_is_much_to_gather");
    let log = NamedTempFile::new().unwrap();
    let mut daemon = daemon(&log, |_| {});
    let client = connect(&daemon.socket());
    for n in 1..7 {
        put(&client, id(n), &pattern());
    }
    let object = get(&client);
    let is_possible = is_possible();
    eventually(|| {
        object.read(0, &mut vec![0; SIZE]).unwrap();
        in_huge_pages(object.data() as u64) > 0 || !is_possible
    });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
}
