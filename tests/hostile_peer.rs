//! Peers that lie, stall, flood and leave. Old Plasma's store died of one wrong byte from anybody, blocked for all while
//! one frame was incomplete, and kept what nobody read; each of those days is a test here. The daemon must close the
//! connection of whoever breaks the protocol, with nothing left of it, while everybody else is served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use plasma_store::error::Error;
use plasma_store::protocol::frame::{Dialect, encode};
use plasma_store::protocol::{InlineObject, Refusal, Reply, Request};
use support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, id, process};

const MEBIBYTE: u64 = 1 << 20;
const FRAMES: u64 = 100_000;

/// Runs `attack` while a well-behaved client puts, gets and deletes; it must be served throughout.
fn beside_a_healthy_peer(daemon: &Daemon, attack: impl FnOnce()) {
    let (over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = connect(&daemon.socket());
            while !over.load(Ordering::Relaxed) {
                healthy_round(&client, rounds.load(Ordering::Relaxed));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        attack();
        let before = rounds.load(Ordering::Relaxed);
        eventually(|| rounds.load(Ordering::Relaxed) > before + 1);
        over.store(true, Ordering::Relaxed);
    });
}

fn healthy_round(client: &plasma_store::client::Client, round: u64) {
    let name = id(1 << 40 | round);
    let buffer = match client.create(name, 1000, b"", Default::default()) {
        // The attackers may have taken what there is, until they are gone.
        Err(Error::StoreFull(_)) => return,
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
}

/// Whether the daemon is as it was before: descriptors, memory, bytes used.
fn check_nothing_left(daemon: &mut Daemon, descriptors: usize, memory: u64) {
    daemon.check_healthy();
    let pid = daemon.pid();
    assert_eq!(daemon.descriptors_at_rest(), descriptors);
    let grown = process::memory(pid).saturating_sub(memory);
    assert!(grown <= 32 * MEBIBYTE, "the daemon's memory grew by {grown} bytes");
    let mut peer = RawPeer::old(&daemon.socket());
    peer.ask(&Request::Evict { bytes: u64::MAX });
    assert_eq!((peer.figure("allocated bytes"), peer.figure("pinned bytes")), (0, 0));
}

/// Some valid request.
fn request(random: &mut Random) -> Request {
    let name = id(random.below(6));
    let ids = |random: &mut Random| (0..random.below(4)).map(|_| id(random.below(6))).collect();
    match random.below(18) {
        0 => Request::Connect { abilities: random.below(2) },
        1..=3 => {
            let (data_size, metadata_size) = (random.below(5000) as i64, random.below(50) as i64);
            Request::Create {
                id: name,
                data_size,
                metadata_size,
                evict_if_full: random.below(2) == 0,
                device_num: 0,
                ttl_ms: random.below(20),
                wait_ms: random.below(3) as i64 - 1,
            }
        }
        4 | 5 => Request::Seal { id: name, digest: [7; 8] },
        6 => Request::Get { ids: ids(random), timeout_ms: random.below(3) as i64 - 1 },
        7 => Request::Release { id: name },
        8 => Request::Delete { ids: ids(random) },
        9 => Request::Contains { id: name },
        10 => Request::List,
        11 => Request::GetDebugString,
        12 => Request::RefreshLru { ids: ids(random) },
        13 => Request::Cancel { number: random.below(5) },
        14 => Request::CreateAndSealBatch {
            objects: vec![InlineObject { id: name, data: vec![1; 9], metadata: vec![], digest: [0; 8] }],
            evict_if_full: true,
        },
        15 => Request::NativeSubscribe { skip_existing: random.below(2) == 0 },
        16 => Request::Stats,
        _ => Request::Abort { id: name },
    }
}

/// A frame that means nothing, or nearly so.
fn random_frame(random: &mut Random) -> Vec<u8> {
    let length = random.below(100);
    let mut frame = random.bytes(length);
    let header = [0, random.below(40) as i64, random.below(200) as i64];
    if random.below(4) > 0 {
        let words: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        frame.splice(0..0, words);
    }
    frame
}

/// Connects, says all that, and leaves without listening.
fn say(socket: &Path, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The store may have hung up in the middle.
    let _ = stream.write_all(bytes);
}

/// Lets four threads say `each(thread's random numbers)` until `count` were said.
fn say_in_threads(socket: &Path, count: u64, each: impl Fn(&mut Random) -> Vec<u8> + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let each = &each;
            scope.spawn(move || {
                let mut random = Random(thread);
                (0..count / 4).for_each(|_| say(socket, &each(&mut random)));
            });
        }
    });
}

#[test]
fn random_frames_are_survived() {
    let _watchdog = Watchdog::lasting("random_frames_are_survived", Duration::from_secs(300));
    let mut daemon = Daemon::start(16 * MEBIBYTE);
    daemon.check_healthy();
    let (descriptors, memory) = (daemon.descriptors_at_rest(), process::memory(daemon.pid()));
    beside_a_healthy_peer(&daemon, || say_in_threads(&daemon.socket(), FRAMES, random_frame));
    check_nothing_left(&mut daemon, descriptors, memory);
}

#[test]
fn damaged_frames_are_survived() {
    let _watchdog = Watchdog::lasting("damaged_frames_are_survived", Duration::from_secs(300));
    let mut daemon = Daemon::start(16 * MEBIBYTE);
    daemon.check_healthy();
    let (descriptors, memory) = (daemon.descriptors_at_rest(), process::memory(daemon.pid()));
    // Four valid ones and a damaged one to a connection, in either dialect.
    let conversation = |random: &mut Random| {
        let mut said = Vec::new();
        let mut dialect = Dialect::Plasma;
        if random.below(2) == 0 {
            let (message_type, body) = Request::Connect { abilities: 1 }.encode();
            said.extend(encode(dialect, message_type, 0, &body));
            dialect = Dialect::Native;
        }
        for last in [false, false, false, false, true] {
            let (message_type, body) = request(random).encode();
            let mut frame = encode(dialect, message_type, random.below(4), &body);
            for _ in 0..if last { 1 + random.below(4) } else { 0 } {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] = if random.below(2) == 0 { random.next() as u8 } else { frame[at] ^ 1 << random.below(8) };
            }
            said.extend(frame);
        }
        said
    };
    beside_a_healthy_peer(&daemon, || say_in_threads(&daemon.socket(), FRAMES, conversation));
    check_nothing_left(&mut daemon, descriptors, memory);
}

#[test]
fn half_a_frame_keeps_nobody_else_waiting_and_can_still_be_completed() {
    let _watchdog = Watchdog::new("half_a_frame_keeps_nobody_else_waiting_and_can_still_be_completed");
    let mut daemon = Daemon::start(MEBIBYTE);
    let descriptors = daemon.descriptors_at_rest();
    let memory = process::memory(daemon.pid());
    let mut slow: Vec<(RawPeer, Vec<u8>)> = Vec::new();
    for cut in 1..60 {
        let mut peer = RawPeer::old(&daemon.socket());
        let frame = peer.frame(&Request::Contains { id: id(1) });
        peer.stream.write_all(&frame[..cut]).unwrap();
        slow.push((peer, frame[cut..].to_vec()));
    }
    // And some that announce much and send little.
    let announced = encode(Dialect::Plasma, 9, 0, &vec![0; 60 << 20]);
    let liars: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    liars.iter().for_each(|mut liar| liar.write_all(&announced[..1000]).unwrap());
    beside_a_healthy_peer(&daemon, || {
        for (peer, rest) in &mut slow {
            for byte in rest {
                peer.stream.write_all(&[*byte]).unwrap();
            }
            assert_eq!(peer.next(), Some(Reply::Contains { id: id(1), present: false }));
        }
    });
    drop((slow, liars));
    check_nothing_left(&mut daemon, descriptors, memory);
}

/// Sends a request over and over, reading nothing, until the store does not take any more. Returns how often.
fn flood(peer: &mut RawPeer, request: &Request) -> u64 {
    peer.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut stuck) = (0, 0);
    while stuck < 50 {
        let frame = peer.frame(request);
        let mut rest = &frame[..];
        while !rest.is_empty() && stuck < 50 {
            match peer.stream.write(rest) {
                Ok(count) => (rest, stuck) = (&rest[count..], 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stuck += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("{error}"),
            }
        }
        sent += u64::from(rest.is_empty());
        if !rest.is_empty() && rest.len() < frame.len() {
            // Half a frame is in the socket: the rest has to follow when there is room.
            peer.stream.set_nonblocking(false).unwrap();
            let (mut stream, rest) = (peer.stream.try_clone().unwrap(), rest.to_vec());
            std::thread::spawn(move || stream.write_all(&rest));
            sent += 1;
        }
    }
    peer.stream.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_peer_that_reads_no_answers_costs_little_and_gets_them_all_in_the_end() {
    let _watchdog = Watchdog::new("a_peer_that_reads_no_answers_costs_little_and_gets_them_all_in_the_end");
    let mut daemon = Daemon::start(MEBIBYTE);
    let descriptors = daemon.descriptors_at_rest();
    let mut maker = RawPeer::native(&daemon.socket());
    (0..1000).for_each(|n| maker.put(id(n), 10));
    let memory = process::memory(daemon.pid());
    let all: Vec<_> = (0..1000).map(id).collect();
    for request in [Request::List, Request::Get { ids: all, timeout_ms: 0 }] {
        let mut flooders: Vec<RawPeer> = (0..4).map(|_| RawPeer::native(&daemon.socket())).collect();
        let sent: Vec<u64> = flooders.iter_mut().map(|peer| flood(peer, &request)).collect();
        beside_a_healthy_peer(&daemon, || {});
        let grown = process::memory(daemon.pid()).saturating_sub(memory);
        assert!(grown <= 32 * MEBIBYTE, "the daemon's memory grew by {grown} bytes");
        for (peer, sent) in flooders.iter_mut().zip(sent) {
            (0..sent).for_each(|_| assert!(peer.next().is_some()));
            assert!(sent > 5, "only {sent} requests fitted");
        }
    }
    drop(maker);
    check_nothing_left(&mut daemon, descriptors, memory);
}

#[test]
fn lengths_and_versions_that_cannot_be_end_that_connection() {
    let _watchdog = Watchdog::new("lengths_and_versions_that_cannot_be_end_that_connection");
    let daemon = Daemon::start(MEBIBYTE);
    let mut witness = RawPeer::old(&daemon.socket());
    let headers = [[0, 9, -1], [0, 9, i64::MIN], [0, 9, i64::MAX], [0, 9, (64 << 20) + 1], [1, 17, 0], [-1, 17, 0]];
    for words in headers {
        let mut peer = RawPeer::old(&daemon.socket());
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        peer.stream.write_all(&header).unwrap();
        peer.expect_end();
    }
    for words in [[0, 17, 0, 1], [1, 17, -1, 1], [2, 17, 0, 1]] {
        let mut peer = RawPeer::native(&daemon.socket());
        let header: Vec<u8> = words.iter().flat_map(|word: &i64| word.to_le_bytes()).collect();
        peer.stream.write_all(&header).unwrap();
        peer.expect_end();
    }
    assert!(!witness.contains(id(1)));
}

#[test]
fn the_log_says_for_what_a_connection_was_closed() {
    let _watchdog = Watchdog::new("the_log_says_for_what_a_connection_was_closed");
    let log = tempfile::NamedTempFile::new().unwrap();
    let daemon = Daemon::start_with(MEBIBYTE, |command| {
        command.stderr(log.reopen().unwrap());
    });
    for words in [[0, 9, -1234], [77_001, 17, 0], [0, 88_002, 0]] {
        let mut peer = RawPeer::old(&daemon.socket());
        let header: Vec<u8> = words.iter().flat_map(|word: &i64| word.to_le_bytes()).collect();
        peer.stream.write_all(&header).unwrap();
        peer.expect_end();
    }
    for number in ["-1234", "77001", "88002"] {
        eventually(|| {
            let said = std::fs::read_to_string(log.path()).unwrap();
            said.lines().filter(|line| line.contains(number)).count() == 1
        });
    }
}

#[test]
fn defect_1_what_is_wrong_in_a_message_ends_its_sender_only() {
    let _watchdog = Watchdog::new("defect_1_what_is_wrong_in_a_message_ends_its_sender_only");
    let daemon = Daemon::start(MEBIBYTE);
    let mut witness = RawPeer::old(&daemon.socket());
    witness.create(id(1), 10).unwrap();
    // Types that are none, or not a client's to send, or not served.
    for message_type in [-1, 2, 12, 20, 24, 25, 27, 36, 99, i64::MAX] {
        for mut peer in [RawPeer::old(&daemon.socket()), RawPeer::native(&daemon.socket())] {
            let frame = encode(peer.dialect, message_type, 5, &[]);
            peer.stream.write_all(&frame).unwrap();
            peer.expect_end();
        }
    }
    let (seal, mut body) = Request::Seal { id: id(1), digest: [9; 8] }.encode();
    let digest = body.windows(12).rposition(|bytes| bytes == [8, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]).unwrap();
    body[digest] = 7;
    let mut peer = RawPeer::old(&daemon.socket());
    peer.stream.write_all(&encode(Dialect::Plasma, seal, 0, &body)).unwrap();
    peer.expect_end();
    // Wrong ids and sizes have answers.
    let mut peer = RawPeer::old(&daemon.socket());
    assert_eq!(peer.seal(id(77)), Err(Refusal::ObjectNotFound));
    peer.release(id(77));
    peer.release(id(1));
    assert_eq!(peer.create(id(2), -1).unwrap_err().refusal, Refusal::OutOfMemory);
    assert_eq!(peer.create(id(2), i64::MIN).unwrap_err().refusal, Refusal::OutOfMemory);
    peer.send(&Request::Abort { id: id(1) });
    peer.expect_end();
    assert_eq!(witness.seal(id(1)), Ok(()));
}

#[test]
fn defects_3_and_4_duplicates_are_waited_for_and_waiting_gets_may_be_left() {
    let _watchdog = Watchdog::new("defects_3_and_4_duplicates_are_waited_for_and_waiting_gets_may_be_left");
    let mut daemon = Daemon::start(MEBIBYTE);
    let (mut maker, mut reader) = (RawPeer::old(&daemon.socket()), RawPeer::old(&daemon.socket()));
    maker.put(id(1), 10);
    reader.send(&Request::Get { ids: vec![id(1), id(1), id(2)], timeout_ms: -1 });
    reader.send(&Request::Get { ids: vec![id(2), id(2)], timeout_ms: -1 });
    assert!(!reader.contains(id(2)), "the gets wait, and the contains is answered first");
    let mut leaver = RawPeer::old(&daemon.socket());
    (0..3).for_each(|_| leaver.send(&Request::Get { ids: vec![id(2), id(3)], timeout_ms: -1 }));
    leaver.contains(id(1));
    drop(leaver);
    maker.put(id(2), 10);
    for length in [3, 2] {
        match reader.next() {
            Some(Reply::Get { locations, .. }) => assert!(locations.len() == length && !locations.contains(&None)),
            other => panic!("{other:?}"),
        }
    }
    daemon.check_healthy();
}

#[test]
fn defects_5_and_6_a_failing_create_evicts_nobody_and_no_mark_outlives_its_object() {
    let _watchdog = Watchdog::new("defects_5_and_6_a_failing_create_evicts_nobody_and_no_mark_outlives_its_object");
    let daemon = Daemon::start(MEBIBYTE);
    let mut peer = RawPeer::old(&daemon.socket());
    peer.put(id(1), 1000);
    assert_eq!(peer.create(id(2), MEBIBYTE as i64 + 1).unwrap_err().refusal, Refusal::OutOfMemory);
    assert!(peer.contains(id(1)));
    peer.create(id(3), 10).unwrap();
    let reply = peer.ask(&Request::Delete { ids: vec![id(3)] });
    assert_eq!(reply, Reply::Delete { ids: vec![id(3)], outcomes: vec![Err(Refusal::ObjectNotSealed)] });
    assert!(matches!(peer.ask(&Request::Abort { id: id(3) }), Reply::Abort { .. }));
    peer.put(id(3), 10);
    assert_eq!(peer.get(&[id(3)]), [true]);
    peer.release(id(3));
    assert!(peer.contains(id(3)));
}

#[test]
fn defects_17_and_18_pinned_bytes_return_to_zero_and_only_creators_seal() {
    let _watchdog = Watchdog::new("defects_17_and_18_pinned_bytes_return_to_zero_and_only_creators_seal");
    let daemon = Daemon::start(MEBIBYTE);
    let (mut maker, mut other) = (RawPeer::native(&daemon.socket()), RawPeer::old(&daemon.socket()));
    maker.create(id(1), 100).unwrap();
    maker.create(id(2), 100).unwrap();
    assert_eq!(other.seal(id(1)), Err(Refusal::ObjectNotFound));
    assert_eq!(other.figure("pinned bytes"), 200);
    maker.ask(&Request::Abort { id: id(2) });
    maker.seal(id(1)).unwrap();
    maker.ask(&Request::Delete { ids: vec![id(1)] });
    maker.create(id(3), 100).unwrap();
    maker.release(id(1));
    assert!(!maker.contains(id(1)));
    drop(maker);
    eventually(|| other.figure("allocated bytes") == 0);
    assert_eq!(other.figure("pinned bytes"), 0);
}

#[test]
fn defect_20_programs_that_a_store_starts_get_none_of_its_descriptors() {
    let _watchdog = Watchdog::new("defect_20_programs_that_a_store_starts_get_none_of_its_descriptors");
    let daemon = Daemon::start(MEBIBYTE);
    let mut peer = RawPeer::old(&daemon.socket());
    peer.put(id(1), 10);
    let inherited = process::inheritable_descriptors();
    let numbers = process::descriptor_numbers(daemon.pid());
    let own: Vec<_> = numbers.iter().filter(|number| !inherited.contains(number)).collect();
    assert!(own.len() >= 6, "{own:?}");
    own.iter().for_each(|number| assert!(process::closes_on_exec(daemon.pid(), number), "descriptor {number}"));
    let descriptor: &OwnedFd = &peer.descriptors[0];
    let flags = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & 1, 1, "what a client gets is close-on-exec too");
}

#[test]
fn many_connections_in_a_row_and_at_once() {
    let _watchdog = Watchdog::new("many_connections_in_a_row_and_at_once");
    let mut daemon = Daemon::start(MEBIBYTE);
    daemon.check_healthy();
    let (descriptors, memory) = (daemon.descriptors_at_rest(), process::memory(daemon.pid()));
    for n in 0..1000 {
        let mut peer = RawPeer::old(&daemon.socket());
        assert!(!peer.contains(id(n)));
    }
    let mut peers: Vec<RawPeer> = (0..500).map(|_| RawPeer::native(&daemon.socket())).collect();
    for (n, peer) in (0..).zip(&mut peers) {
        peer.put(id(n), 100);
    }
    peers.iter_mut().rev().for_each(|peer| assert!(peer.contains(id(250))));
    drop(peers);
    check_nothing_left(&mut daemon, descriptors, memory);
}

#[test]
fn without_descriptors_left_the_daemon_refuses_and_neither_spins_nor_ends() {
    let _watchdog = Watchdog::new("without_descriptors_left_the_daemon_refuses_and_neither_spins_nor_ends");
    let mut daemon = Daemon::start_with(MEBIBYTE, |command| {
        // SAFETY: `setrlimit` is async-signal-safe.
        unsafe { command.pre_exec(|| setrlimit(Resource::RLIMIT_NOFILE, 64, 64).map_err(Into::into)) };
    });
    let mut first = RawPeer::native(&daemon.socket());
    first.put(id(1), 10);
    let mut crowd: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    assert!(first.contains(id(1)));
    let before = process::time(daemon.pid());
    std::thread::sleep(Duration::from_secs(1));
    let spent = process::time(daemon.pid()) - before;
    assert!(spent < 50, "{spent} hundredths of a second of work while nothing happened");
    // The first ones are served, the last ones were told that they are not.
    assert_eq!(crowd[199].read(&mut [0; 8]).unwrap_or(0), 0);
    assert!(first.contains(id(1)));
    drop(crowd);
    drop(first);
    daemon.descriptors_at_rest();
    daemon.check_healthy();
}

#[test]
fn native_peers_break_their_rules_too() {
    let _watchdog = Watchdog::new("native_peers_break_their_rules_too");
    let daemon = Daemon::start(MEBIBYTE);
    let mut twice = RawPeer::native(&daemon.socket());
    twice.send(&Request::Connect { abilities: 1 });
    twice.expect_end();
    let mut peer = RawPeer::native(&daemon.socket());
    for number in [0, 1, 5, u64::MAX] {
        peer.send(&Request::Cancel { number });
    }
    assert!(!peer.contains(id(1)), "a cancel of nothing is nothing");
    peer.put(id(1), 10);
    for _ in 0..20_000 {
        peer.release(id(1));
        peer.release(id(2));
    }
    assert_eq!(peer.get(&[id(1)]), [true]);
    let mut witness = RawPeer::native(&daemon.socket());
    let reply = witness.ask(&Request::Delete { ids: vec![id(1)] });
    assert_eq!(reply, Reply::Delete { ids: vec![id(1)], outcomes: vec![Err(Refusal::ObjectInUse)] });
}

#[test]
fn descriptors_sent_to_the_store_do_not_stay_there() {
    let _watchdog = Watchdog::new("descriptors_sent_to_the_store_do_not_stay_there");
    let daemon = Daemon::start(MEBIBYTE);
    daemon.descriptors_at_rest();
    let mut peer = RawPeer::old(&daemon.socket());
    assert!(!peer.contains(id(1)));
    let descriptors = process::descriptors(daemon.pid());
    let file = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..300 {
        let frame = peer.frame(&Request::Contains { id: id(1) });
        let files = [file.as_raw_fd(); 20];
        let rights = [ControlMessage::ScmRights(&files)];
        let sent = sendmsg::<()>(peer.stream.as_raw_fd(), &[IoSlice::new(&frame)], &rights, MsgFlags::empty(), None);
        assert_eq!(sent, Ok(frame.len()));
        assert_eq!(peer.next(), Some(Reply::Contains { id: id(1), present: false }));
    }
    assert_eq!(process::descriptors(daemon.pid()), descriptors);
}
