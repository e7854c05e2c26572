//! Searches against changes of the hash table. An object that is there all the time is never called missing.

use super::*;

pub(super) const REBUILD_STEPS: &[Step] = &[Step::MissCheck, Step::FlipOrder, Step::ClearOrder];
pub(super) const REUSE_STEPS: &[Step] = &[Step::PassTombstones];

/// Gets id 1, which is there; the index may not be able to tell, which is no lie.
fn get(peer: &Peer) {
    match peer.hold(&id(1)) {
        Lookup::Found(held) => {
            assert_eq!(peer.location(&held).offset, 1, "another object");
            peer.release(held);
        }
        Lookup::Missing => panic!("it was there all the time"),
        Lookup::AskStore => {}
    }
}

/// Id 0 goes from the slot before, and two new tables later id 1 is in its place.
fn rebuild() {
    let mut store = Store::new(2);
    let before = store.insert(0);
    store.insert(1);
    store.shared.evict(before).unwrap();
    let (peer, _) = store.peer();
    let reader = thread::spawn(move || get(&peer));
    store.shared.index().rebuild();
    store.shared.index().rebuild();
    reader.join().unwrap();
}

#[test]
fn a_rebuilt_table_hides_nothing() {
    check(rebuild, REBUILD_STEPS);
}

/// Id 0 goes from the slot before, and id 2 comes into it.
fn reuse() {
    let mut store = Store::new(2);
    let before = store.insert(0);
    store.insert(1);
    let (peer, _) = store.peer();
    let reader = thread::spawn(move || get(&peer));
    if store.shared.evict(before).is_ok() {
        store.insert(2);
    }
    reader.join().unwrap();
}

#[test]
fn a_reused_slot_hides_nothing() {
    check(reuse, REUSE_STEPS);
}
