//! Pins without and with threads, in plain buffers; Miri runs these too.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::MOST_HOLDS;
use super::peer::{Held, Lookup, Peer};
use super::store::SharedIndex;
use crate::error::Error;
use crate::object::{Location, ObjectId};
use crate::shm::index::layout::{Geometry, alive_word};
use crate::shm::index::reader::IndexReader;
use crate::shm::index::writer::{Descriptor, IndexWriter};
use crate::shm::sync::{AtomicU32, AtomicU64, Ordering};
use crate::shm::words::Words;

const CAPACITY: usize = 4;

fn id(n: u64) -> ObjectId {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    ObjectId::new(bytes)
}

struct Store {
    shared: SharedIndex,
    words: Words<AtomicU64>,
}

impl Store {
    fn new() -> Self {
        let geometry = Geometry::new(CAPACITY as u32).unwrap();
        let words = Words::private(geometry.words());
        alive_word(&words).store(1, Ordering::Relaxed);
        let writer = IndexWriter::create(words.clone(), geometry, 0, [1, 2]).unwrap();
        Self { shared: SharedIndex::new(writer), words }
    }

    fn insert(&mut self, n: u64) -> Descriptor {
        self.shared.index().insert(&id(n), Location { segment: 1, offset: n, data_size: n, metadata_size: 0 }).unwrap()
    }
}

/// A peer, its pin words as the store sees them, and how often it kicked.
struct Attached {
    peer: Peer,
    pins: Words<AtomicU32>,
    kicks: Arc<AtomicUsize>,
}

impl Attached {
    fn new(store: &mut Store, key: u64) -> Self {
        let pins = Words::private(CAPACITY);
        store.shared.add_peer(key, &pins).unwrap();
        let kicks = Arc::new(AtomicUsize::new(0));
        let count = kicks.clone();
        let kick = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let peer = Peer::new(IndexReader::attach(&store.words).unwrap(), pins.clone(), kick).unwrap();
        Self { peer, pins, kicks }
    }

    fn get(&self, n: u64) -> Held {
        match self.peer.hold(&id(n)) {
            Lookup::Found(held) => held,
            other => panic!("{other:?}"),
        }
    }

    fn kicks(&self) -> usize {
        self.kicks.load(Ordering::Relaxed)
    }
}

#[test]
fn what_is_held_stays() {
    let mut store = Store::new();
    let (one, two) = (Attached::new(&mut store, 1), Attached::new(&mut store, 2));
    let mut descriptor = store.insert(5);
    let (first, second) = (one.get(5), two.get(5));
    assert_eq!(one.peer.location(&first).offset, 5);
    for pin in [(&one, first), (&two, second)] {
        descriptor = store.shared.evict(descriptor).unwrap_err();
        assert!(store.shared.is_held(&descriptor));
        let again = one.get(5);
        one.peer.release(again);
        pin.0.peer.release(pin.1);
    }
    store.shared.evict(descriptor).unwrap();
    assert!(matches!(one.peer.hold(&id(5)), Lookup::Missing));
    assert!(store.shared.index().is_empty());
    assert_eq!((one.kicks(), two.kicks()), (0, 0));
}

#[test]
fn the_end_of_a_peer_is_the_end_of_its_pins() {
    let mut store = Store::new();
    let (dying, staying) = (Attached::new(&mut store, 1), Attached::new(&mut store, 2));
    let deleted = store.insert(1);
    let evicted = store.insert(2);
    for n in [1, 2, 2] {
        let _never_released = dying.get(n);
    }
    let kept = staying.get(2);
    assert!(!store.shared.delete(deleted));
    assert_eq!(store.shared.reclaim_doomed(), []);
    store.shared.remove_peer(1);
    assert_eq!((store.shared.peers(), store.shared.reclaim_doomed()), (1, vec![id(1)]));
    let evicted = store.shared.evict(evicted).unwrap_err();
    staying.peer.release(kept);
    store.shared.evict(evicted).unwrap();
}

#[test]
fn a_deleted_object_goes_with_its_last_hold() {
    let mut store = Store::new();
    let attached = Attached::new(&mut store, 1);
    let descriptor = store.insert(1);
    let first = attached.get(1);
    assert!(!store.shared.delete(descriptor));
    let second = attached.get(1); // as in Plasma, it can be had until then
    assert!(store.shared.may_sleep(false));
    attached.peer.release(first);
    assert_eq!(attached.kicks(), 0);
    attached.peer.release(second);
    assert_eq!(attached.kicks(), 1);
    assert!(!store.shared.may_sleep(false));
    store.shared.woke();
    assert_eq!((store.shared.doomed(), store.shared.reclaim_doomed()), (1, vec![id(1)]));
    assert_eq!(store.shared.doomed(), 0);
    let free = store.insert(1);
    assert!(store.shared.delete(free));
}

#[test]
fn a_store_that_is_awake_is_not_kicked() {
    let mut store = Store::new();
    let attached = Attached::new(&mut store, 1);
    let descriptor = store.insert(1);
    let pin = attached.get(1);
    assert!(!store.shared.delete(descriptor));
    attached.peer.release(pin);
    assert_eq!(attached.kicks(), 0);
}

#[test]
fn gets_count_as_uses() {
    let mut store = Store::new();
    let attached = Attached::new(&mut store, 1);
    let descriptor = store.insert(1);
    assert!(!store.shared.was_used(&descriptor));
    let pin = attached.get(1);
    assert!(store.shared.was_used(&descriptor));
    attached.peer.release(pin);
    assert!(!store.shared.was_used(&descriptor));
    // The counter begins again from zero without touching the holds.
    attached.pins.all()[descriptor.index()].store(!0 << 20, Ordering::Relaxed);
    let pin = attached.get(1);
    assert_eq!(attached.pins.all()[descriptor.index()].load(Ordering::Relaxed), 1);
    attached.peer.release(pin);
}

#[test]
fn too_many_holds_are_refused_and_change_none() {
    let mut store = Store::new();
    let attached = Attached::new(&mut store, 1);
    let descriptor = store.insert(1);
    let word = &attached.pins.all()[descriptor.index()];
    word.store(MOST_HOLDS - 1, Ordering::Relaxed);
    let _never_released = attached.get(1);
    assert!(matches!(attached.peer.hold(&id(1)), Lookup::AskStore));
    assert_eq!(word.load(Ordering::Relaxed) % (1 << 20), MOST_HOLDS);
    store.shared.evict(descriptor).unwrap_err();
}

#[test]
fn a_look_ahead_holds_nothing() {
    let mut store = Store::new();
    let attached = Attached::new(&mut store, 1);
    let descriptor = store.insert(3);
    let ids: Vec<_> = (0..30).map(id).collect();
    for at in 0..40 {
        attached.peer.look_ahead(&ids, at);
    }
    assert!(!store.shared.was_used(&descriptor) && !store.shared.is_held(&descriptor));
    // Nor does it fall for a table that names what is not there.
    let table = Geometry::new(CAPACITY as u32).unwrap().words() - 16;
    for slot in store.words.all().iter().skip(table) {
        slot.store(u64::MAX >> 1, Ordering::Relaxed);
    }
    (0..40).for_each(|at| attached.peer.look_ahead(&ids, at));
    store.shared.evict(descriptor).unwrap();
}

#[test]
fn a_condemned_object_is_not_called_missing() {
    let mut store = Store::new();
    let attached = Attached::new(&mut store, 1);
    let descriptor = store.insert(1);
    store.shared.index().condemn(&descriptor);
    assert!(matches!(attached.peer.hold(&id(1)), Lookup::AskStore));
    assert!(!store.shared.is_held(&descriptor));
}

#[test]
fn without_a_store_nothing_is_certain() {
    let mut store = Store::new();
    let attached = Attached::new(&mut store, 1);
    store.insert(1);
    alive_word(&store.words).store(0x4000_0000, Ordering::Relaxed); // its owner died, says the kernel
    assert!(matches!(attached.peer.hold(&id(1)), Lookup::AskStore));
    assert!(matches!(attached.peer.hold(&id(2)), Lookup::AskStore));
}

#[test]
fn too_few_pins_are_refused() {
    let mut store = Store::new();
    let pins = Words::private(CAPACITY - 1);
    assert!(matches!(store.shared.add_peer(1, &pins), Err(Error::Protocol(_))));
    let reader = IndexReader::attach(&store.words).unwrap();
    assert!(matches!(Peer::new(reader, pins, || {}), Err(Error::Protocol(_))));
}

/// Threads get and release while objects are evicted, deleted, and come again. Miri sees every access.
#[test]
fn threads_never_see_another_objects_bytes() {
    const IDS: u64 = 2 * CAPACITY as u64;
    let rounds = if cfg!(miri) { 60 } else { 20_000 };
    let mut store = Store::new();
    let attached: Vec<_> = (0..2).map(|key| Arc::new(Attached::new(&mut store, key))).collect();
    // One word of bytes for each descriptor, plain memory but for the type: relaxed, so it orders nothing.
    let bytes: Arc<[AtomicU64]> = (0..CAPACITY).map(|_| AtomicU64::new(0)).collect();
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let (attached, bytes) = (attached[n % 2].clone(), bytes.clone());
            thread::spawn(move || {
                for round in 0..rounds {
                    let wanted = (round + n as u64) % IDS;
                    if let Lookup::Found((index, state)) = attached.peer.find(&id(wanted)) {
                        assert_eq!(attached.peer.index().location(index).offset, wanted);
                        let expected = wanted << 32 | state.generation();
                        assert_eq!(bytes[index].load(Ordering::Relaxed), expected);
                        attached.peer.release(Held::new(index, state));
                    }
                }
            })
        })
        .collect();
    let mut live: Vec<(u64, Option<Descriptor>)> = (0..IDS).map(|n| (n, None)).collect();
    for round in 0..rounds as usize {
        let (n, place) = &mut live[round * 3 % IDS as usize];
        match place.take() {
            Some(descriptor) => *place = store.shared.evict(descriptor).err(),
            None if store.shared.index().len() < CAPACITY => *place = Some(enter(&mut store, *n, &bytes)),
            None => {}
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for descriptor in live.into_iter().filter_map(|(_, descriptor)| descriptor) {
        store.shared.evict(descriptor).expect("nobody holds it any more");
    }
}

/// Enters an object into the descriptor that comes next, whose bytes are written before.
fn enter(store: &mut Store, n: u64, bytes: &[AtomicU64]) -> Descriptor {
    // Which descriptor comes next, and in which generation, is learnt by entering something that nobody asks for.
    let mut probe = store.insert(1 << 60);
    let next = (probe.index(), store.shared.index().state(&probe).generation() + 1);
    // A thread that looked for what the descriptor named before may hold it for a moment.
    while let Err(held) = store.shared.evict(probe) {
        probe = held;
    }
    bytes[next.0].store(n << 32 | next.1, Ordering::Relaxed);
    let descriptor = store.insert(n);
    assert_eq!((descriptor.index(), store.shared.index().state(&descriptor).generation()), next);
    descriptor
}
