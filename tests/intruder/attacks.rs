//! What an intruder tries, one case after the other. It was let in as any client is; each attempt is refused by the kernel or
//! the store, or harms nobody but the intruder.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg};
use nix::unistd::geteuid;
use plasma_store::protocol::{Reply, Request};
use plasma_store::shm::index::layout::ALIVE_OFFSET;

use crate::kernel::{
    Answer, Area, add_seals, allocate, change_mode, die_with, futex, open_again, set_length, wait_on, ways_into,
    ways_to_change, ways_to_change_its_length, ways_to_seal,
};
use crate::support::{Random, RawPeer, eventually, id, times};

/// When a case is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When the intruder has tried everything.
    Done,
    /// It stays as it is until the others were served beside it.
    OthersAreServed,
    /// It stays until a create of another was refused, with a word on who holds everything.
    OthersAreRefused,
}

/// Something to try.
pub struct Case {
    pub name: &'static str,
    pub attack: fn(&Intruder),
    pub until: Until,
}

pub const CASES: [Case; 18] = [
    Case {
        name: "what nobody protects, to see that attempts work",
        attack: on_a_file_without_seals,
        until: Until::Done,
    },
    Case { name: "every descriptor that the store gives", attack: on_descriptors, until: Until::Done },
    Case { name: "its pins, before they are sealed", attack: on_pins_before_the_seal, until: Until::Done },
    Case { name: "its own segment, before it is sealed", attack: on_a_segment_before_the_seal, until: Until::Done },
    Case { name: "segments that it has no business with", attack: on_foreign_segments, until: Until::Done },
    Case { name: "the daemon's process", attack: on_the_daemon, until: Until::Done },
    Case { name: "waiters on words it can read", attack: on_waiters, until: Until::Done },
    Case { name: "the word that says that the store lives", attack: on_the_alive_word, until: Until::Done },
    Case { name: "random bytes over all its pins", attack: noise_in_pins, until: Until::Done },
    Case { name: "counts of holds that cannot be", attack: counts_that_cannot_be, until: Until::Done },
    Case { name: "holds everything", attack: hold_everything, until: Until::OthersAreRefused },
    Case { name: "wakes the store without end", attack: kick_without_end, until: Until::Done },
    Case { name: "253 descriptors in one message", attack: send_many_descriptors, until: Until::Done },
    Case { name: "never reads its socket", attack: never_read, until: Until::OthersAreServed },
    Case { name: "thousands of connections", attack: connect_often, until: Until::OthersAreServed },
    Case {
        name: "takes none of the descriptors it asks for",
        attack: take_no_descriptors,
        until: Until::OthersAreServed,
    },
    Case { name: "half frames", attack: send_half_frames, until: Until::OthersAreServed },
    Case { name: "deletes and evicts what others hold", attack: delete_everything, until: Until::Done },
];

/// The process that tries.
pub struct Intruder {
    pub socket: PathBuf,
    pub daemon: i32,
}

impl Intruder {
    /// An attempt that must be refused.
    fn must_fail(&self, what: &str, answer: Answer) {
        match answer {
            Ok(()) => println!("TRIED: BREACH: {what}"),
            Err(errno) => println!("TRIED: refused: {what}: {errno:?}"),
        }
    }

    fn all_must_fail(&self, what: &str, answers: impl IntoIterator<Item = (impl AsRef<str>, Answer)>) {
        answers.into_iter().for_each(|(way, answer)| self.must_fail(&format!("{what}: {}", way.as_ref()), answer));
    }

    /// An attempt that may succeed and must not harm anybody: who started this process looks at the others.
    fn did(&self, what: &str) {
        println!("TRIED: done: {what}");
    }

    /// Says that all is set up, and waits for the word to end.
    fn stay(&self) {
        println!("TRIED: ready");
        let mut line = String::new();
        // When there is nobody any more to say it, that is the end as well.
        let _ = std::io::stdin().read_line(&mut line);
    }

    fn peer(&self) -> RawPeer {
        RawPeer::pulling(&self.socket)
    }

    /// A peer that reads the index, with all it was given.
    fn seat(&self) -> Seat {
        let mut seat = self.invited();
        let pins = Area::read_write(seat.pins.as_fd(), length(&seat.pins)).unwrap();
        assert_eq!(seat.peer.ask(&Request::Index { mapped: true }), Reply::Index { outcome: Ok(false) });
        seat.mapped = Some(pins);
        seat
    }

    /// The same before it has mapped anything.
    fn invited(&self) -> Seat {
        let mut peer = self.peer();
        assert_eq!(peer.ask(&Request::Index { mapped: false }), Reply::Index { outcome: Ok(true) });
        let mut given = peer.descriptors.drain(..);
        let [index, pins, bell] = [(); 3].map(|()| given.next().unwrap());
        drop(given);
        Seat { peer, index, pins, bell, mapped: None }
    }
}

/// What the store gave to somebody who reads its index.
struct Seat {
    peer: RawPeer,
    index: OwnedFd,
    pins: OwnedFd,
    bell: OwnedFd,
    /// The pins, once they are.
    mapped: Option<Area>,
}

impl Seat {
    fn pins(&self) -> &Area {
        self.mapped.as_ref().unwrap()
    }

    fn index(&self) -> Area {
        Area::read_only(self.index.as_fd(), length(&self.index)).unwrap()
    }
}

fn metadata(file: &OwnedFd) -> Metadata {
    File::from(file.try_clone().unwrap()).metadata().unwrap()
}

fn length(file: &OwnedFd) -> usize {
    metadata(file).len() as usize
}

/// How much of a file is protected.
enum Protected {
    /// All of it, from everybody but its one writer, who mapped it before. Others may take that one's chances to write
    /// anew, which it does not need.
    Whole,
    /// The same, and this process is the writer: with this mapping.
    ButForMapping(Area),
    /// Its length: old clients map it for writing.
    Length,
}

/// A file that the store gave to this process.
struct Spoil {
    name: &'static str,
    file: OwnedFd,
    protected: Protected,
    /// No seal can be added.
    is_closed: bool,
}

impl Spoil {
    fn new(name: &'static str, file: OwnedFd, protected: Protected) -> Self {
        Self { name, file, protected, is_closed: true }
    }

    /// A segment that has one writer.
    fn lease(name: &'static str, file: OwnedFd, protected: Protected) -> Self {
        Self { name, file, protected, is_closed: false }
    }
}

/// Every file with memory that a peer can get, and the connection they belong to.
fn spoils(intruder: &Intruder) -> (RawPeer, Vec<Spoil>) {
    let Seat { mut peer, index, pins, mapped, .. } = intruder.seat();
    let (segment, own) = own_segment(&mut peer);
    let mut spoils = vec![
        Spoil::new("the index", index, Protected::Whole),
        Spoil::new("its pins", pins, Protected::ButForMapping(mapped.unwrap())),
        own,
        Spoil::new("the old clients' segment", pull(&mut peer, 1, true).unwrap(), Protected::Length),
        Spoil::new("the old clients' segment to read", pull(&mut peer, 1, false).unwrap(), Protected::Length),
    ];
    // The store writes what comes with its request.
    let (name, data) = (id(1 << 42 | 1), vec![7; 100]);
    peer.ask(&Request::CreateAndSeal { id: name, evict_if_full: true, data, metadata: vec![], digest: [0; 8] });
    // Keys are given out one after the other: these are those of everybody who has sealed anything.
    let others = (2..segment + 2).filter(|key| *key != segment);
    let others: Vec<OwnedFd> = others.filter_map(|key| pull(&mut peer, key, false).ok()).collect();
    assert!(others.len() >= 3, "only {} segments of others", others.len());
    spoils.extend(others.into_iter().map(|file| Spoil::lease("another's segment", file, Protected::Whole)));
    (peer, spoils)
}

/// Asks for a segment.
fn pull(peer: &mut RawPeer, segment: i32, writable: bool) -> Result<OwnedFd, String> {
    match peer.ask(&Request::Segment { segment, writable }) {
        Reply::Segment { outcome } => outcome.map(|_| peer.descriptors.pop_front().unwrap()),
        other => panic!("{other:?}"),
    }
}

/// A segment with a sealed object of this peer, and the mapping that it writes with.
fn own_segment(peer: &mut RawPeer) -> (i32, Spoil) {
    let segment = peer.create(id(1 << 42), 10_000).unwrap().segment;
    let file = pull(peer, segment, true).unwrap();
    let area = Area::read_write(file.as_fd(), length(&file)).unwrap();
    peer.seal(id(1 << 42)).unwrap();
    (segment, Spoil::lease("its own segment", file, Protected::ButForMapping(area)))
}

fn on_a_file_without_seals(intruder: &Intruder) {
    let file = memfd_create(c"control", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    set_length(file.as_fd(), 8192).unwrap();
    steal_waiters_of(&file);
    for (what, answer) in ways_to_change(file.as_fd(), 8192).into_iter().chain(ways_to_seal(file.as_fd())) {
        assert_eq!(answer, Ok(()), "{what}: this attempt shows nothing here");
    }
    intruder.did("a file without seals: everything");
    let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let answers = ways_into(child.id() as i32);
    child.kill().unwrap();
    child.wait().unwrap();
    for (what, answer) in answers {
        // A filter or a security module may refuse them to everybody.
        let is_refused = matches!(answer, Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS));
        assert!(answer.is_ok() || is_refused, "{what}: {answer:?}: this attempt shows nothing here");
        assert!(answer.is_ok() || !["maps", "environ", "list"].iter().any(|read| what.contains(read)), "{what}");
        intruder.did(&format!("a process of its own: {what}: {answer:?}"));
    }
}

/// Somebody waits on a word of the file, and is moved elsewhere by a mapping that only reads. Somebody dies who owns it.
fn steal_waiters_of(file: &OwnedFd) {
    let (writer, reader) =
        (Area::read_write(file.as_fd(), 4096).unwrap(), Area::read_only(file.as_fd(), 4096).unwrap());
    let (word, own) = (&writer.words()[0], AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| wait_on(word, 0).unwrap());
        eventually(|| futex(&reader.words()[0], libc::FUTEX_CMP_REQUEUE, 0, &own, 0) == Ok(1));
        assert_eq!(futex(&own, libc::FUTEX_WAKE, 1, &own, 0), Ok(1));
    });
    die_with(word, true);
    assert_eq!(word.swap(0, Ordering::SeqCst) & libc::FUTEX_OWNER_DIED, libc::FUTEX_OWNER_DIED);
}

fn on_descriptors(intruder: &Intruder) {
    let (mut peer, spoils) = spoils(intruder);
    for spoil in &spoils {
        attempt(intruder, spoil, "as it came", &spoil.file);
        for way in ["opened again", "opened again after fchmod"] {
            for flags in [libc::O_RDWR, libc::O_WRONLY] {
                match open_again(spoil.file.as_fd(), flags) {
                    Ok(file) => attempt(intruder, spoil, way, &file),
                    Err(errno) => intruder.must_fail(&format!("{} {way}", spoil.name), Err(errno)),
                }
            }
            // Its own user may do that; it does not help.
            let changed = change_mode(spoil.file.as_fd(), 0o666);
            assert_eq!(changed.is_ok(), metadata(&spoil.file).uid() == geteuid().as_raw(), "{changed:?}");
        }
        if let Protected::ButForMapping(area) = &spoil.protected {
            intruder.must_fail(&format!("{}: give pages back", spoil.name), area.advise(libc::MADV_REMOVE));
            let before = area.words()[0].swap(1, Ordering::SeqCst);
            assert_eq!(area.words()[0].swap(before, Ordering::SeqCst), 1);
        }
    }
    on_the_event_socket(intruder, &mut peer);
}

/// Everything that a descriptor could be good for.
fn attempt(intruder: &Intruder, spoil: &Spoil, way: &str, file: &OwnedFd) {
    let (what, length) = (format!("{} {way}", spoil.name), length(file));
    match spoil.protected {
        Protected::Length => intruder.all_must_fail(&what, ways_to_change_its_length(file.as_fd(), length)),
        _ => intruder.all_must_fail(&what, ways_to_change(file.as_fd(), length)),
    }
    match spoil.is_closed {
        true => intruder.all_must_fail(&what, ways_to_seal(file.as_fd())),
        // Whoever writes it goes on: others see to that.
        false => ways_to_seal(file.as_fd()).iter().for_each(|(how, _)| intruder.did(&format!("{what}: {how}"))),
    }
}

/// What comes from a subscriber is nothing to the store.
fn on_the_event_socket(intruder: &Intruder, peer: &mut RawPeer) {
    let reply = peer.ask(&Request::NativeSubscribe { skip_existing: false });
    assert_eq!(reply, Reply::NativeSubscribe { outcome: Ok(()) });
    let socket = std::os::unix::net::UnixStream::from(peer.descriptors.pop_front().unwrap());
    socket.set_nonblocking(true).unwrap();
    // It may be full, or closed by the store.
    while (&socket).write(&[0xff; 4096]).is_ok_and(|sent| sent > 0) {}
    let _ = socket.shutdown(std::net::Shutdown::Both);
    assert!(!peer.contains(id(7)), "its connection goes on");
    intruder.did("bytes sent on the socket for events");
}

fn on_pins_before_the_seal(intruder: &Intruder) {
    let own_seals: [(&str, i32); 4] = [
        ("no seal", 0),
        ("F_SEAL_WRITE", libc::F_SEAL_WRITE),
        ("F_SEAL_FUTURE_WRITE", libc::F_SEAL_FUTURE_WRITE),
        ("F_SEAL_SEAL", libc::F_SEAL_SEAL),
    ];
    for (name, seal) in own_seals {
        let mut seat = intruder.invited();
        let length = length(&seat.pins);
        intruder.must_fail("cut the pins off", set_length(seat.pins.as_fd(), 0));
        punch(&seat.pins);
        if seal == 0 {
            let area = Area::read_write(seat.pins.as_fd(), length).unwrap();
            area.advise(libc::MADV_REMOVE).unwrap();
            seat.mapped = Some(area);
        } else {
            add_seals(seat.pins.as_fd(), seal).unwrap();
        }
        // It is let in or not. Twice it is not.
        seat.peer.ask(&Request::Index { mapped: true });
        let again = seat.peer.ask(&Request::Index { mapped: true });
        assert!(matches!(again, Reply::Index { outcome: Err(_) }), "{again:?}");
        for mapped in [false, true, true, false] {
            seat.peer.ask(&Request::Index { mapped });
        }
        assert!(!seat.peer.contains(id(7)), "its connection goes on");
        intruder.did(&format!("pins full of holes, with {name}, announced twice"));
    }
    let mut never_asked = intruder.peer();
    let refused = never_asked.ask(&Request::Index { mapped: true });
    assert!(matches!(refused, Reply::Index { outcome: Err(_) }), "{refused:?}");
}

fn on_a_segment_before_the_seal(intruder: &Intruder) {
    let seals: [(&str, i32, bool); 4] = [
        ("no seal", 0, true),
        ("F_SEAL_WRITE", libc::F_SEAL_WRITE, true),
        ("F_SEAL_FUTURE_WRITE", libc::F_SEAL_FUTURE_WRITE, true),
        // The store cannot keep others from writing it: nobody may read it.
        ("F_SEAL_SEAL", libc::F_SEAL_SEAL, false),
    ];
    for ((n, (name, seal, is_taken)), maps) in (0..).zip(seals).flat_map(|case| [(case, false), (case, true)]) {
        if maps && seal & libc::F_SEAL_WRITE != 0 {
            continue;
        }
        let mut peer = intruder.peer();
        let object = id(1 << 46 | n << 1 | u64::from(maps));
        let segment = peer.create(object, 500_000).unwrap().segment;
        let file = pull(&mut peer, segment, true).unwrap();
        intruder.must_fail("cut its segment off", set_length(file.as_fd(), 0));
        let area = maps.then(|| Area::read_write(file.as_fd(), length(&file)).unwrap());
        match &area {
            Some(area) => area.advise(libc::MADV_REMOVE).unwrap(),
            None => punch(&file),
        }
        assert!(seal == 0 || add_seals(file.as_fd(), seal).is_ok());
        let sealed = peer.try_ask(&Request::Seal { id: object, digest: [0; 8] });
        let is_sealed = matches!(sealed, Some(Reply::Seal { outcome: Ok(()), .. }));
        assert_eq!(is_sealed, is_taken, "{name}: {sealed:?}");
        intruder.did(&format!("its segment, full of holes, with {name}, mapped: {maps}"));
        if is_sealed {
            read_whole(intruder, segment);
        }
    }
}

fn punch(file: &OwnedFd) {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    allocate(file.as_fd(), mode, 0, length(file)).unwrap();
}

/// Another client reads all of a segment. There is memory where there are objects.
fn read_whole(intruder: &Intruder, segment: i32) {
    let file = pull(&mut intruder.peer(), segment, false).unwrap();
    let room = metadata(&file).blocks() * 512;
    assert!(room >= 500_000, "{room} bytes of memory");
    let area = Area::read_only(file.as_fd(), length(&file)).unwrap();
    assert_eq!(area.words().iter().map(|word| u64::from(word.load(Ordering::Relaxed))).sum::<u64>(), 0);
}

fn on_foreign_segments(intruder: &Intruder) {
    let mut peer = intruder.peer();
    let own = peer.create(id(1 << 47), 10).unwrap().segment;
    let mut refused = |what: &str, segment, writable| {
        let outcome = pull(&mut peer, segment, writable).map(drop).map_err(|_| Errno::EACCES);
        intruder.must_fail(&format!("{what}, {segment}"), outcome);
    };
    for segment in 2..own {
        refused("to write another's segment", segment, true);
    }
    refused("to read what nobody has sealed", own, false);
    for segment in [0, -1, i32::MIN, i32::MAX, own + 1] {
        refused("a segment that is none", segment, false);
        refused("a segment that is none", segment, true);
    }
    let returned = peer.ask(&Request::Retired { returned: (i32::MIN..i32::MIN + 9).chain(-9..1_000).collect() });
    assert_eq!(returned, Reply::Retired { segments: vec![] });
    intruder.did("segments given back that it never had");
    let mut old = RawPeer::native(&intruder.socket);
    assert_eq!(old.try_ask(&Request::Segment { segment: 1, writable: true }), None, "it has not said that it would");
}

fn on_the_daemon(intruder: &Intruder) {
    intruder.all_must_fail("the daemon", ways_into(intruder.daemon));
}

fn on_waiters(intruder: &Intruder) {
    let (_peer, spoils) = spoils(intruder);
    for spoil in &spoils {
        // Of segments a part is as good as all.
        let length = length(&spoil.file).min(if spoil.name == "the index" { usize::MAX } else { 64 << 10 });
        let area = Area::read_only(spoil.file.as_fd(), length).unwrap();
        let own = AtomicU32::new(0);
        let mut moved = 0;
        for word in area.words() {
            let value = word.load(Ordering::Relaxed);
            moved += futex(word, libc::FUTEX_CMP_REQUEUE, 0, &own, value).unwrap_or(0);
            moved += futex(word, libc::FUTEX_WAKE, i32::MAX as u32, &own, 0).unwrap_or(0);
        }
        let none = if moved == 0 { Err(Errno::ESRCH) } else { Ok(()) };
        intruder.must_fail(&format!("{}: waiters of {} words", spoil.name, area.words().len()), none);
    }
}

fn on_the_alive_word(intruder: &Intruder) {
    let seat = intruder.seat();
    let area = seat.index();
    let word = &area.words()[ALIVE_OFFSET as usize / 4];
    let before = word.load(Ordering::SeqCst);
    let operations = [
        ("FUTEX_LOCK_PI", libc::FUTEX_LOCK_PI),
        ("FUTEX_TRYLOCK_PI", libc::FUTEX_TRYLOCK_PI),
        ("FUTEX_UNLOCK_PI", 7),
        ("FUTEX_WAKE_OP", libc::FUTEX_WAKE_OP),
    ];
    for (name, operation) in operations {
        intruder.must_fail(name, futex(word, operation, 0, word, 0).map(drop));
    }
    die_with(word, false);
    assert_eq!(word.load(Ordering::SeqCst), before);
    intruder.did("ended as the owner of the store's mutex");
}

fn noise_in_pins(intruder: &Intruder) {
    let seat = intruder.seat();
    let mut random = Random(u64::from(std::process::id()));
    for _ in 0..times(300, 3_000) {
        for word in seat.pins().words() {
            word.store(random.next() as u32, Ordering::Relaxed);
        }
    }
    intruder.did("pins written over and over");
}

fn counts_that_cannot_be(intruder: &Intruder) {
    const COUNT: u32 = (1 << 20) - 1;
    let seat = intruder.seat();
    for round in 0..times(300, 3_000) {
        for word in seat.pins().words() {
            match round % 5 {
                0 => word.store(u32::MAX, Ordering::Relaxed),
                1 => word.store(COUNT, Ordering::Relaxed),
                // The count runs over into the uses.
                2 => _ = word.fetch_add(1, Ordering::SeqCst),
                // A release of what is not held.
                3 => _ = word.fetch_sub(1, Ordering::SeqCst),
                _ => word.store(0, Ordering::Relaxed),
            }
        }
    }
    intruder.did("counts that are too high, run over, and are released too often");
}

fn hold_everything(intruder: &Intruder) {
    let mut seat = intruder.seat();
    // There is something to hold: as much as fits.
    for n in 0.. {
        if seat.peer.create(id(1 << 43 | n), 1 << 20).is_err() || n > 100 {
            break;
        }
        seat.peer.seal(id(1 << 43 | n)).unwrap();
        seat.peer.release(id(1 << 43 | n));
        // From now on it cannot be evicted.
        seat.pins().words().iter().for_each(|word| word.store(1, Ordering::SeqCst));
    }
    intruder.did("every object held by a count of one's own");
    intruder.stay();
}

fn kick_without_end(intruder: &Intruder) {
    let seat = intruder.seat();
    // This end blocks, as it says of itself. An eventfd says it for both sides: full, it would have made the store wait for ever.
    for _ in 0..times(20_000, 1_000_000) {
        // Full is as good.
        let _ = send(seat.bell.as_raw_fd(), &[1; 64], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
    intruder.did("the store woken as often as possible");
    // From here on the bell is at its end, which epoll would tell again and again.
    drop(seat.bell);
    intruder.did("the bell taken away");
}

fn send_many_descriptors(intruder: &Intruder) {
    let file = File::open("/dev/null").unwrap();
    let rights = [ControlMessage::ScmRights(&[file.as_raw_fd(); 253])];
    let send = |peer: &RawPeer, bytes: &[u8]| {
        let sent = sendmsg::<()>(peer.stream.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::empty(), None);
        sent == Ok(bytes.len())
    };
    for _ in 0..times(50, 1_000) {
        let mut peers = [RawPeer::old(&intruder.socket), intruder.peer()];
        for peer in &mut peers {
            let frame = peer.frame(&Request::Contains { id: id(7) });
            // The kernel bounds how many may be under way.
            if send(peer, &frame) {
                assert_eq!(peer.next(), Some(Reply::Contains { id: id(7), present: false }));
            }
        }
        // Where one descriptor is due: an old client's subscription.
        let [mut old, _native] = peers;
        old.send(&Request::Subscribe);
        send(&old, b"!");
    }
    intruder.did("253 descriptors in each message");
}

fn never_read(intruder: &Intruder) {
    let mut peers: Vec<RawPeer> = (0..4).map(|_| intruder.peer()).collect();
    for peer in &mut peers {
        peer.stream.set_nonblocking(true).unwrap();
        let mut stuck = 0;
        while stuck < 20 {
            let frame = peer.frame(&Request::List);
            match peer.stream.write(&frame) {
                Ok(sent) if sent == frame.len() => stuck = 0,
                // Half a frame is sent: this peer has nothing more to say.
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stuck += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    intruder.did("as many requests as fit, and no answer read");
    intruder.stay();
}

fn take_no_descriptors(intruder: &Intruder) {
    raise_descriptor_limit();
    let mut peers: Vec<RawPeer> = (0..60).map(|_| intruder.peer()).collect();
    for peer in &mut peers {
        peer.stream.set_nonblocking(true).unwrap();
        for _ in 0..400 {
            let frame = peer.frame(&Request::Segment { segment: 1, writable: false });
            if !peer.stream.write(&frame).is_ok_and(|sent| sent == frame.len()) {
                break;
            }
        }
    }
    intruder.did("as many descriptors under way as the store sends");
    intruder.stay();
}

fn raise_descriptor_limit() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    most
}

fn connect_often(intruder: &Intruder) {
    let most = raise_descriptor_limit();
    for _ in 0..times(1_000, 10_000) {
        drop(std::os::unix::net::UnixStream::connect(&intruder.socket).unwrap());
    }
    let mut crowd = Vec::new();
    for _ in 0..(most / 4).min(300) {
        // The store, or this process, may have no descriptors left for more.
        let Some(mut peer) = RawPeer::try_native(&intruder.socket) else { break };
        if peer.try_ask(&Request::Index { mapped: false }).is_none() {
            break;
        }
        crowd.push(peer);
    }
    intruder.did(&format!("{} connections with pins, at once", crowd.len()));
    intruder.stay();
}

fn send_half_frames(intruder: &Intruder) {
    let mut crowd = Vec::new();
    for n in 0..200 {
        let mut peer = if n % 2 == 0 { intruder.peer() } else { RawPeer::old(&intruder.socket) };
        let frame = peer.frame(&Request::Contains { id: id(7) });
        peer.stream.write_all(&frame[..1 + n % (frame.len() - 1)]).unwrap();
        crowd.push(peer);
    }
    intruder.did("200 connections that wait for the rest of a frame");
    intruder.stay();
}

fn delete_everything(intruder: &Intruder) {
    let mut peer = intruder.peer();
    let Reply::List { objects } = peer.ask(&Request::List) else { panic!("no list") };
    let ids: Vec<_> = objects.iter().map(|object| object.id).collect();
    for id in &ids {
        peer.release(*id);
        peer.seal(*id).unwrap_err();
    }
    peer.ask(&Request::Delete { ids });
    peer.ask(&Request::Evict { bytes: u64::MAX });
    for n in 0..30 {
        // What is free is written again.
        if peer.create(id(1 << 44 | n), 1 << 20).is_err() {
            break;
        }
    }
    intruder.did("everything deleted and evicted, and all free room taken");
}
