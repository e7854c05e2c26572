//! Peers that map their ring by themselves and write into it what they like. The connection of whoever lies ends, and the log names
//! the number; everybody else is served.

use std::fs::{self, read_to_string};
use std::os::fd::{AsRawFd, OwnedFd};

use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::socket::{MsgFlags, recv, send};
use plasma_store::object::ObjectId;
use plasma_store::protocol::frame::encode;
use plasma_store::protocol::{Refusal, Reply, Request};
use plasma_store::shm::mapping::Mapping;
use plasma_store::shm::ring::record::Record;
use plasma_store::shm::ring::{ALL_BELLS, BELLS, GRANTS, MOST_STAGED, SLOTS, STAGING_BYTES};

use crate::healthy::beside_healthy_peers;
use crate::support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, id, times};
use crate::{MEBIBYTE, Rest, check_client, files_of_rings};

/// Where in its file a peer keeps what.
const TAIL: u64 = 0;
const RECORDS: u64 = 8 * (8 + BELLS as u64 + GRANTS as u64);
const RECORD: u64 = 128;
const STAGING: u64 = RECORDS + RECORD * SLOTS as u64;
const FILE: u64 = STAGING + STAGING_BYTES;
/// Where in its own the store keeps what became of them.
const OUTCOME: u64 = 64;
const OUTCOMES: u64 = OUTCOME * SLOTS as u64 + 64 * BELLS as u64;

/// A peer that has a ring and no manners.
pub struct Liar {
    pub peer: RawPeer,
    file: Mapping,
    outcomes: Mapping,
    tail: u64,
}

impl Liar {
    pub fn new(daemon: &Daemon) -> Self {
        let (mut peer, [submissions, outcomes]) = invited(daemon);
        let file = Mapping::read_write(&submissions, FILE).unwrap();
        let outcomes = Mapping::read_only(&outcomes, OUTCOMES).unwrap();
        assert_eq!(peer.ask(&Request::Ring { mapped: true }), Reply::Ring { outcome: Ok(false) });
        Self { peer, file, outcomes, tail: 0 }
    }

    fn write(&self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.file.write(at, &bytes).unwrap();
    }

    fn submit_words(&mut self, words: &[u64]) -> u64 {
        self.write(RECORDS + self.tail % SLOTS as u64 * RECORD, words);
        self.tail += 1;
        self.write(TAIL, &[self.tail]);
        self.tail - 1
    }

    pub fn submit(&mut self, record: Record) -> u64 {
        self.submit_words(&record.encode())
    }

    /// What became of a record: 0, or why not. The store looks at the ring before it serves what comes by the socket.
    fn outcome(&mut self, number: u64) -> i32 {
        self.peer.contains(id(0));
        let mut words = [0; 16];
        self.outcomes.read(number % SLOTS as u64 * OUTCOME, &mut words).unwrap();
        assert_eq!(words[..8], (number + 1).to_le_bytes(), "record {number} is not done");
        i32::from_le_bytes(words[8..12].try_into().unwrap())
    }

    fn ask(&mut self, record: Record) -> i32 {
        let number = self.submit(record);
        self.outcome(number)
    }

    /// What it says now must not be answered.
    fn expect_end(mut self) {
        assert_eq!(self.peer.try_ask(&Request::Contains { id: id(0) }), None, "it was answered");
    }
}

/// A peer that was given the files of its ring.
fn invited(daemon: &Daemon) -> (RawPeer, [OwnedFd; 2]) {
    let mut peer = RawPeer::pulling(&daemon.socket());
    assert_eq!(peer.ask(&Request::Ring { mapped: false }), Reply::Ring { outcome: Ok(true) });
    // The third is to be polled by those who wait by no thread.
    let [submissions, outcomes, _] = [(); 3].map(|()| peer.descriptors.pop_front().unwrap());
    (peer, [submissions, outcomes])
}

fn put(name: u64, data_size: u64, metadata_size: u64, staged: u64) -> Record {
    Record::Put { id: id(name), data_size, metadata_size, staged, evict: true }
}

fn publish(data_size: u64, metadata_size: u64, granted: u64) -> Record {
    Record::Publish { id: id(1), data_size, metadata_size, evict: true, granted, next: u64::MAX }
}

/// A lie, and what the log must say of it.
type Lie = (fn(&mut Liar), &'static str);

const LIES: [Lie; 18] = [
    (|liar| liar.write(TAIL, &[SLOTS as u64 + 1]), "513 records"),
    (|liar| liar.write(TAIL, &[u64::MAX]), "18446744073709551615 records"),
    (
        |liar| {
            (0..7).for_each(|_| assert_eq!(liar.ask(Record::Release { id: id(9) }), 0));
            liar.write(TAIL, &[2]);
        },
        "18446744073709551611 records",
    ),
    (|liar| _ = liar.submit_words(&[0; 8]), "record 0 is of no known kind: 0x0"),
    (|liar| _ = liar.submit_words(&[0x4d2]), "0x4d2"),
    (|liar| _ = liar.submit(put(1, 2, 0, STAGING_BYTES - 1)), "2 bytes staged at 262143"),
    (|liar| _ = liar.submit(put(1, 1, 0, u64::MAX)), "1 bytes staged at 18446744073709551615"),
    (|liar| _ = liar.submit(put(1, 0, 3, STAGING_BYTES - 2)), "3 bytes staged at 262142"),
    (|liar| _ = liar.submit(put(1, 5, 3, u64::MAX - 2)), "8 bytes staged"),
    (|liar| _ = liar.submit(put(1, MOST_STAGED, 1, 0)), "65536 + 1 bytes"),
    (|liar| _ = liar.submit(put(1, u64::MAX, 2, 0)), "18446744073709551615 + 2 bytes"),
    (|liar| _ = liar.submit(put(1, 1 << 63, 1 << 63, 0)), "9223372036854775808 + 9223372036854775808 bytes"),
    (|liar| _ = liar.submit(Record::Want { id: id(1), bell: ALL_BELLS as u64 }), "bell 65536"),
    (|liar| _ = liar.submit(Record::Want { id: id(1), bell: u64::MAX }), "bell 18446744073709551615"),
    (|liar| _ = liar.submit(Record::Unwant { bell: 1 << 40 }), "bell 1099511627776"),
    (|liar| _ = liar.submit(publish(100, 0, 1)), "100 bytes into room 1, which"),
    (|liar| _ = liar.submit(publish(0, 0, u64::MAX)), "0 bytes into room 18446744073709551615, which"),
    (|liar| _ = liar.submit(publish(u64::MAX, 1, 1)), "18446744073709551615 + 1 bytes"),
];

#[test]
fn a_lie_in_a_ring_ends_the_liars_connection_and_the_log_names_the_number() {
    let _watchdog = Watchdog::new("a_lie_in_a_ring_ends_the_liars_connection_and_the_log_names_the_number");
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut daemon = Daemon::start_with(16 * MEBIBYTE, |command| {
        command.stderr(log.reopen().unwrap());
    });
    let rest = Rest::of(&daemon);
    let client = connect(&daemon.socket());
    for (at, (lie, said)) in (0..).zip(LIES) {
        let mut liar = Liar::new(&daemon);
        lie(&mut liar);
        liar.expect_end();
        eventually(|| read_to_string(log.path()).unwrap().contains(said));
        check_client(&client, 100 + 10 * at);
    }
    let closed = read_to_string(log.path()).unwrap().matches("closed the connection").count();
    assert_eq!(closed, LIES.len(), "others lost theirs");
    drop(client);
    rest.check(&mut daemon);
}

#[test]
fn records_before_a_lie_are_served_and_those_after_it_are_not() {
    let _watchdog = Watchdog::new("records_before_a_lie_are_served_and_those_after_it_are_not");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&daemon);
    let mut liar = Liar::new(&daemon);
    liar.submit(put(1, 100, 5, STAGING_BYTES - 105));
    liar.submit_words(&[77]);
    liar.submit(put(2, 100, 5, 0));
    liar.expect_end();
    let client = connect(&daemon.socket());
    eventually(|| client.contains(id(1)).unwrap());
    assert_eq!(client.list().unwrap().len(), 1);
    drop(client);
    rest.check(&mut daemon);
}

#[test]
fn others_objects_are_out_of_reach_and_sizes_that_cannot_be_are_refused() {
    let _watchdog = Watchdog::new("others_objects_are_out_of_reach_and_sizes_that_cannot_be_are_refused");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&daemon);
    let maker = connect(&daemon.socket());
    let buffer = maker.create(id(1), 4, b"", Default::default()).unwrap();
    maker.put(id(2), b"here", b"", Default::default()).unwrap();
    let held = maker.get_one(id(2), 0, Default::default()).unwrap().unwrap();
    let mut liar = Liar::new(&daemon);
    let create = |data_size, metadata_size| Record::Create {
        id: id(3),
        data_size,
        metadata_size,
        evict: true,
        ttl_ms: u64::MAX,
    };
    let refused = [
        (Record::Seal { id: id(1), release: true, next: 0 }, Refusal::ObjectNotFound),
        (Record::Seal { id: id(2), release: true, next: 0 }, Refusal::ObjectAlreadySealed),
        (Record::Abort { id: id(1) }, Refusal::ObjectNotFound),
        (Record::Abort { id: id(2) }, Refusal::ObjectAlreadySealed),
        (Record::Delete { id: id(1) }, Refusal::ObjectNotSealed),
        (Record::Delete { id: id(77) }, Refusal::ObjectNotFound),
        (put(2, 1, 0, 0), Refusal::ObjectExists),
        (create(u64::MAX, 0), Refusal::OutOfMemory),
        (create(i64::MAX as u64, i64::MAX as u64), Refusal::OutOfMemory),
        (create(MEBIBYTE + 1, 0), Refusal::OutOfMemory),
    ];
    for (record, why) in refused {
        assert_eq!(liar.ask(record), why.code(), "{record:?}");
    }
    for id in [id(1), id(2), id(77)] {
        assert_eq!(liar.ask(Record::Release { id }), 0);
    }
    buffer.write(0, b"mine").unwrap();
    maker.seal(id(1)).unwrap();
    assert!(matches!(maker.delete(&[id(2)]).unwrap()[..], [Err(_)]), "it is held");
    drop((buffer, held, liar, maker));
    rest.check(&mut daemon);
}

/// A hold that came by the socket is another's than the one that goes with a seal.
#[test]
fn a_seal_that_is_refused_lets_go_of_nothing() {
    let _watchdog = Watchdog::new("a_seal_that_is_refused_lets_go_of_nothing");
    let daemon = Daemon::start(MEBIBYTE);
    let mut liar = Liar::new(&daemon);
    assert_eq!(liar.ask(put(1, 4, 0, 0)), 0);
    assert_eq!(liar.peer.get(&[id(1)]), [true]);
    assert_eq!(liar.ask(Record::Seal { id: id(1), release: true, next: 0 }), Refusal::ObjectAlreadySealed.code());
    assert_eq!(liar.ask(Record::Delete { id: id(1) }), Refusal::ObjectInUse.code());
}

/// Whoever closes a connection with answers unread resets it, which the store learns in another way than a goodbye.
#[test]
fn records_of_a_peer_that_read_none_of_its_answers_are_done() {
    let _watchdog = Watchdog::new("records_of_a_peer_that_read_none_of_its_answers_are_done");
    let daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    for round in 0..20 {
        let mut liar = Liar::new(&daemon);
        liar.peer.send(&Request::Contains { id: id(1) });
        let has_answer = || recv(liar.peer.stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK) == Ok(1);
        eventually(has_answer);
        // The store sleeps by now, most likely, and nobody wakes it.
        std::thread::sleep(Duration::from_millis(2));
        (0..10).for_each(|n| _ = liar.submit(put(10 * round + n, 100, 0, 0)));
        drop(liar);
        for n in 0..10 {
            assert!(client.get_one(id(10 * round + n), -1, Default::default()).unwrap().is_some());
        }
    }
}

#[test]
fn numbers_of_records_are_not_for_the_socket() {
    let _watchdog = Watchdog::new("numbers_of_records_are_not_for_the_socket");
    let daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    for number in [1 << 63, 1 << 63 | 5, u64::MAX] {
        let mut liar = Liar::new(&daemon);
        let (message_type, body) = Request::Contains { id: id(1) }.encode();
        let frame = encode(liar.peer.dialect, message_type, number, &body);
        std::io::Write::write_all(&mut liar.peer.stream, &frame).unwrap();
        liar.peer.expect_end();
    }
    check_client(&client, 1);
}

#[test]
fn a_ring_is_given_once_and_only_to_those_who_ask() {
    let _watchdog = Watchdog::new("a_ring_is_given_once_and_only_to_those_who_ask");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&daemon);
    let refused = |peer: &mut RawPeer, mapped| match peer.ask(&Request::Ring { mapped }) {
        Reply::Ring { outcome: Err(why) } => assert!(!why.is_empty()),
        other => panic!("{other:?}"),
    };
    let mut early = RawPeer::pulling(&daemon.socket());
    refused(&mut early, true);
    let (mut peer, _files) = invited(&daemon);
    // Of another user's daemon nobody may know.
    assert!(files_of_rings(daemon.pid()) > 0 || fs::read_link(format!("/proc/{}/fd/0", daemon.pid())).is_err());
    refused(&mut peer, false);
    assert_eq!(peer.ask(&Request::Ring { mapped: true }), Reply::Ring { outcome: Ok(false) });
    refused(&mut peer, true);
    refused(&mut peer, false);
    assert!(!peer.contains(id(1)));
    let mut old = RawPeer::old(&daemon.socket());
    old.send(&Request::Ring { mapped: false });
    old.expect_end();
    drop((early, peer));
    rest.check(&mut daemon);
}

#[test]
fn whoever_says_so_before_it_has_mapped_its_ring_never_can() {
    let _watchdog = Watchdog::new("whoever_says_so_before_it_has_mapped_its_ring_never_can");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&daemon);
    let (mut peer, [submissions, outcomes]) = invited(&daemon);
    assert_eq!(peer.ask(&Request::Ring { mapped: true }), Reply::Ring { outcome: Ok(false) });
    assert!(Mapping::read_write(&submissions, FILE).is_err());
    assert!(Mapping::read_write(&outcomes, OUTCOMES).is_err());
    assert!(!peer.contains(id(1)));
    drop((peer, submissions, outcomes));
    rest.check(&mut daemon);
}

#[test]
fn pages_that_a_peer_gave_back_are_there_again() {
    let _watchdog = Watchdog::new("pages_that_a_peer_gave_back_are_there_again");
    let mut daemon = Daemon::start(MEBIBYTE);
    let rest = Rest::of(&daemon);
    let (mut peer, [submissions, outcomes]) = invited(&daemon);
    let file = Mapping::read_write(&submissions, FILE).unwrap();
    let punch = |file: &OwnedFd| {
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, how, 0, 1 << 18)
    };
    punch(&submissions).unwrap();
    assert_eq!(peer.ask(&Request::Ring { mapped: true }), Reply::Ring { outcome: Ok(false) });
    punch(&submissions).unwrap_err();
    punch(&outcomes).unwrap_err();
    let outcomes = Mapping::read_only(&outcomes, OUTCOMES).unwrap();
    let mut liar = Liar { peer, file, outcomes, tail: 0 };
    assert_eq!(liar.ask(put(1, 4, 0, 0)), 0);
    drop(liar);
    rest.check(&mut daemon);
}

/// Records that may mean something, with few names.
fn likely_words(random: &mut Random) -> [u64; 8] {
    let id = ObjectId::new([random.below(20) as u8; 20]);
    let [_, first, second, third, ..] = Record::Delete { id }.encode();
    let kind = [1, 1, 2, 3, 3, 4, 5, 6, 7, 8, random.next()][random.below(11) as usize] | random.below(2) << 8;
    let mut size = || match random.below(20) {
        0 => random.next(),
        1..5 => random.below(70_000),
        _ => random.below(60),
    };
    [kind, first, second, third, size(), size(), size(), 0]
}

/// Writes over its whole file while the store reads it, until its connection has ended.
fn make_noise(liar: &mut Liar, random: &mut Random, is_likely: bool) {
    let (stream, mut answers) = (liar.peer.stream.as_raw_fd(), [0; 4096]);
    let frame = liar.peer.frame(&Request::Contains { id: id(1) });
    for turn in 1_u64.. {
        match is_likely {
            true => (0..SLOTS as u64).for_each(|slot| liar.write(RECORDS + slot * RECORD, &likely_words(random))),
            false => liar.file.write(8, &random.bytes(STAGING - 8)).unwrap(),
        }
        // It stays near where the store is for a while, and then lies about that as well.
        liar.tail = if turn > 50 { random.next() } else { liar.tail + random.below(SLOTS as u64 / 8) };
        liar.write(TAIL, &[liar.tail]);
        // Has the store look. There may be no room, which is as well.
        let sent = send(stream, &frame, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        let answered = recv(stream, &mut answers, MsgFlags::MSG_DONTWAIT);
        if matches!(sent, Err(Errno::EPIPE | Errno::ECONNRESET)) || matches!(answered, Ok(0) | Err(Errno::ECONNRESET)) {
            return;
        }
    }
}

#[test]
fn noise_in_a_ring_at_full_speed_ends_with_its_connection_and_disturbs_nobody() {
    let _watchdog = Watchdog::new("noise_in_a_ring_at_full_speed_ends_with_its_connection_and_disturbs_nobody");
    let mut daemon = Daemon::start(64 * MEBIBYTE);
    let rest = Rest::of(&daemon);
    let mut random = Random(1);
    let before = connect(&daemon.socket()).stats().unwrap().creates;
    beside_healthy_peers(&daemon, "noise in rings", || {
        for round in 0..times(60, 3000) {
            make_noise(&mut Liar::new(&daemon), &mut random, round % 4 > 0);
        }
        let objects = connect(&daemon.socket()).list().unwrap();
        let noise =
            objects.iter().filter(|info| info.id.as_bytes()[1..].iter().all(|byte| *byte == info.id.as_bytes()[0]));
        assert!(noise.count() > 5, "none of the noise meant anything");
    });
    assert!(connect(&daemon.socket()).stats().unwrap().creates > before + 60);
    daemon.check_healthy();
    rest.check(&mut daemon);
}

#[test]
fn old_peers_and_rings_go_on_beside_each_other() {
    let _watchdog = Watchdog::new("old_peers_and_rings_go_on_beside_each_other");
    let daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    let mut old = RawPeer::old(&daemon.socket());
    for n in 0..50 {
        let (ours, theirs) = (id(2 * n), id(2 * n + 1));
        client.put(ours, &[n as u8; 100], b"m", Default::default()).unwrap();
        assert_eq!(old.get(&[ours]), [true]);
        old.put(theirs, 100);
        assert!(client.get_one(theirs, -1, Default::default()).unwrap().is_some());
        assert!(client.delete(&[ours]).unwrap()[0].is_err(), "the old peer holds it");
        old.release(ours);
        eventually(|| !client.contains(ours).unwrap());
    }
    assert!(old.contains(id(1)));
}
