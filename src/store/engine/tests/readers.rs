//! Objects that peers get by the index: nothing they read goes, and what waits for them goes on when they let go.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::shm::pins::files::{IndexFile, open_peer};
use crate::shm::pins::peer::{Held, Lookup, Peer as Reader};

/// A reader, and whether it has kicked.
struct Process {
    peer: PeerId,
    reader: Reader,
    kicked: Arc<AtomicBool>,
}

impl Process {
    fn get(&self, name: u8) -> Held {
        match self.reader.hold(&id(name)) {
            Lookup::Found(pin) => pin,
            other => panic!("{other:?}"),
        }
    }

    fn misses(&self, name: u8) -> bool {
        match self.reader.hold(&id(name)) {
            Lookup::Found(pin) => {
                self.reader.release(pin);
                false
            }
            lookup => matches!(lookup, Lookup::Missing),
        }
    }
}

/// A store with an index, and its descriptor.
struct Library {
    lab: Lab,
    file: IndexFile,
    index: OwnedFd,
}

impl Library {
    fn new(limit: u64) -> Self {
        let mut lab = lab(limit);
        let (file, index, descriptor) = IndexFile::create(64).unwrap();
        lab.engine = Engine::new(limit, lab.pages.clone()).unwrap().with_index(index);
        Self { lab, file, index: descriptor }
    }

    fn reader(&mut self) -> Process {
        let peer = self.lab.native();
        let file = self.file.new_pins().unwrap();
        let pins = file.as_fd().try_clone_to_owned().unwrap();
        let kicked = Arc::new(AtomicBool::new(false));
        let bell = kicked.clone();
        let reader = open_peer(&self.index, &pins, move || bell.store(true, Ordering::Relaxed)).unwrap();
        self.lab.engine.add_reader(peer, &self.file.pins_of_peer(&file.written_by_peer().unwrap()).unwrap()).unwrap();
        Process { peer, reader, kicked }
    }

    fn delete(&mut self, peer: PeerId, name: u8) -> Result<(), Refusal> {
        match self.lab.ask(peer, Request::Delete { ids: ids(&[name]) }).as_slice() {
            [Reply::Delete { outcomes, .. }] => outcomes[0],
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_sealed_can_be_read_until_it_goes() {
    let mut library = Library::new(1000);
    let _alive = library.file.hold_alive().unwrap();
    let process = library.reader();
    assert!(process.misses(1));
    library.lab.put(process.peer, 1, 100);
    let pin = process.get(1);
    assert_eq!((process.reader.location(&pin).data_size, pin.is_doomed()), (100, false));
    process.reader.release(pin);
    assert_eq!(library.delete(process.peer, 1), Ok(()));
    assert!(process.misses(1));
    library.lab.check();
}

#[test]
fn what_is_read_is_not_evicted_and_what_was_read_goes_later() {
    let mut library = Library::new(300);
    let _alive = library.file.hold_alive().unwrap();
    let process = library.reader();
    (1..=3).for_each(|name| library.lab.put(process.peer, name, 100));
    let held = process.get(1);
    process.reader.release(process.get(2));
    library.lab.put(process.peer, 4, 100);
    assert!(process.misses(3), "the only one that nobody read");
    library.lab.put(process.peer, 5, 100);
    assert!(process.misses(2) && !process.misses(1));
    let refused = library.lab.create(process.peer, 6, 250).unwrap_err();
    assert!(refused.detail.contains("200 bytes") || refused.detail.contains("100 cannot"), "{}", refused.detail);
    assert!(!process.misses(4) && !process.misses(5), "nothing goes in vain");
    process.reader.release(held);
    library.lab.create(process.peer, 6, 250).unwrap();
    assert!([1, 4, 5].into_iter().all(|name| process.misses(name)));
}

#[test]
fn what_is_deleted_while_it_is_read_goes_with_a_kick_of_its_last_reader() {
    let mut library = Library::new(1000);
    let _alive = library.file.hold_alive().unwrap();
    let (one, other) = (library.reader(), library.reader());
    library.lab.put(one.peer, 1, 100);
    let pins = (one.get(1), other.get(1));
    assert_eq!(library.delete(one.peer, 1), Err(Refusal::ObjectInUse));
    assert!(library.lab.engine.may_sleep(library.lab.now));
    one.reader.release(pins.0);
    library.lab.engine.look_at_readers();
    assert_eq!(library.lab.engine.space.used(), 100, "the other one reads on");
    assert!(library.lab.engine.may_sleep(library.lab.now));
    other.reader.release(pins.1);
    assert!(other.kicked.load(Ordering::Relaxed));
    library.lab.engine.woke();
    library.lab.engine.look_at_readers();
    assert!(one.misses(1) && library.lab.engine.space.used() == 0);
}

#[test]
fn a_peer_that_is_gone_reads_nothing() {
    let mut library = Library::new(1000);
    let _alive = library.file.hold_alive().unwrap();
    let (one, other) = (library.reader(), library.reader());
    library.lab.put(one.peer, 1, 100);
    let _never_released = other.get(1);
    assert_eq!(library.delete(one.peer, 1), Err(Refusal::ObjectInUse));
    let still = one.get(1);
    assert!(still.is_doomed(), "it can be got until it goes");
    one.reader.release(still);
    library.lab.engine.disconnect(other.peer);
    assert_eq!(library.lab.engine.space.used(), 0);
}

#[test]
fn a_last_release_that_was_missed_keeps_the_store_awake() {
    let mut library = Library::new(1000);
    let _alive = library.file.hold_alive().unwrap();
    let process = library.reader();
    library.lab.put(process.peer, 1, 100);
    let pin = process.get(1);
    assert_eq!(library.delete(process.peer, 1), Err(Refusal::ObjectInUse));
    process.reader.release(pin);
    assert!(!process.kicked.load(Ordering::Relaxed));
    assert!(!library.lab.engine.may_sleep(library.lab.now));
    assert_eq!(library.lab.engine.space.used(), 0);
}

#[test]
fn a_create_that_waits_is_served_when_a_reader_lets_go() {
    let mut library = Library::new(100);
    let _alive = library.file.hold_alive().unwrap();
    let process = library.reader();
    library.lab.put(process.peer, 1, 100);
    let pin = process.get(1);
    let mut waiting = create_of(2, 100, 0);
    let Request::Create { wait_ms, .. } = &mut waiting else { unreachable!() };
    *wait_ms = -1;
    assert!(library.lab.ask(process.peer, waiting).is_empty());
    assert!(library.lab.engine.may_sleep(library.lab.now));
    process.reader.release(pin);
    assert!(process.kicked.load(Ordering::Relaxed));
    library.lab.engine.woke();
    library.lab.engine.look_at_readers();
    library.lab.engine.work(library.lab.now);
    assert!(process.misses(1));
}

#[test]
fn figures_count_what_is_read() {
    let mut library = Library::new(1000);
    let _alive = library.file.hold_alive().unwrap();
    let process = library.reader();
    library.lab.put(process.peer, 1, 100);
    let _pin = process.get(1);
    let replies = library.lab.ask(process.peer, Request::Stats);
    let [Reply::Stats(stats)] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!((stats.held_bytes, stats.held_objects), (100, 1));
    let replies = library.lab.ask(process.peer, Request::List);
    let [Reply::List { objects }] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!(objects[0].ref_count, 1);
}
