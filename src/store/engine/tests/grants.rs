//! Room that producers have ahead: whose it is, when it comes back, and objects that are made there.

use std::os::fd::AsFd;

use super::*;
use crate::shm::ring::files::{NewRing, open_ring};
use crate::shm::ring::grants::Grantee;
use crate::shm::ring::{GRANTS, MOST_GRANTED};
use crate::shm::seeded::Seeded;
use crate::store::grants::Grant;
use crate::store::queue::NewObject;

const MEBIBYTE: u64 = 1 << 20;

fn lab_with_leases(limit: u64) -> Lab {
    let lab = lab(limit);
    lab.pages.0.borrow_mut().can_lease = true;
    lab
}

fn new(name: u8, data_size: u64) -> NewObject {
    NewObject { id: id(name), data_size, metadata_size: 0, evict: true, ttl_ms: 0, immutable: false }
}

impl Lab {
    /// A peer that can be granted room.
    fn grantee(&mut self) -> (PeerId, Grantee) {
        let peer = self.native();
        let (ring, outcomes) = NewRing::create().unwrap();
        let submissions = ring.submissions.as_fd().try_clone_to_owned().unwrap();
        let (_, grantee, _) = open_ring(&submissions, &outcomes).unwrap();
        self.engine.add_grantee(peer, ring.collect().unwrap().1);
        (peer, grantee)
    }

    /// A peer with room for so many bytes.
    fn granted(&mut self, size: u64) -> (PeerId, Grantee, Grant) {
        let (peer, grantee) = self.grantee();
        self.warm(peer, 200, size);
        let grant = self.engine.grant(peer, size).unwrap();
        (peer, grantee, grant)
    }

    /// Has memory lie free in a segment of this peer's, under an object that stays.
    fn warm(&mut self, peer: PeerId, name: u8, size: u64) {
        self.put(peer, name, 64);
        self.put(peer, name + 1, size as i64);
        self.delete(peer, &[name + 1]);
    }

    fn publish(&mut self, peer: PeerId, number: u64, new: NewObject) -> Result<(), Refusal> {
        let asker = Asker { peer, number: self.next_number };
        self.engine.publish_granted(asker, number, new, self.now)
    }
}

#[test]
fn an_object_is_made_where_it_was_filled_and_the_rest_is_free() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (peer, grantee, grant) = lab.granted(MEBIBYTE);
    assert!(grantee.begin(grant.number));
    lab.publish(peer, grant.number, new(1, 1000)).unwrap();
    let place = lab.engine.objects[&id(1)].place.unwrap();
    assert_eq!((place.segment, place.extent.offset), (grant.place.segment, grant.place.extent.offset));
    assert_eq!((place.extent.len, lab.used()), (1024, 64 + 1000));
    assert!(lab.contains(peer, 1));
    lab.effects();
    let next = lab.engine.grant(peer, MEBIBYTE - 1024).unwrap();
    assert_eq!(next.place.extent.offset, place.extent.offset + 1024, "the rest was free");
    assert_ne!(next.number, grant.number);
}

#[test]
fn only_memory_that_lies_free_in_its_own_segments_is_granted() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (peer, _grantee) = lab.grantee();
    assert_eq!(lab.engine.grant(peer, 100), None, "it has no segment");
    lab.put(peer, 1, MEBIBYTE as i64);
    assert_eq!(lab.engine.grant(peer, MEBIBYTE), None, "no memory lies there, and none did where it puts");
    lab.put(peer, 2, MEBIBYTE as i64 / 2);
    lab.delete(peer, &[2]);
    let warm = lab.pages.0.borrow().backed;
    for size in [0, MOST_GRANTED + 1, u64::MAX] {
        assert_eq!(lab.engine.grant(peer, size), None);
    }
    assert!(lab.engine.grant(peer, MEBIBYTE / 2).is_some());
    assert_eq!(lab.pages.0.borrow().backed, warm);
    assert_eq!(lab.engine.grant(peer, MEBIBYTE / 2), None);
    let (stranger, _words) = lab.grantee();
    assert_eq!(lab.engine.grant(stranger, 64), None);
    let without_a_ring = lab.native();
    lab.warm(without_a_ring, 10, MEBIBYTE);
    assert_eq!(lab.engine.grant(without_a_ring, 64), None);
}

#[test]
fn who_uses_the_same_memory_again_gets_as_much_more() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (peer, _grantee) = lab.grantee();
    lab.put(peer, 1, MEBIBYTE as i64 / 2);
    let before = lab.pages.0.borrow().backed;
    lab.delete(peer, &[1]);
    lab.put(peer, 2, MEBIBYTE as i64 / 2);
    assert!(lab.engine.grant(peer, MEBIBYTE / 2).is_some());
    assert_eq!(lab.pages.0.borrow().backed, before + MEBIBYTE / 2);
    // In a store that is full of memory nobody does.
    let mut lab = lab_with_leases(MEBIBYTE);
    let (peer, _grantee) = lab.grantee();
    lab.put(peer, 1, 600_000);
    lab.delete(peer, &[1]);
    lab.put(peer, 2, 600_000);
    assert_eq!(lab.engine.grant(peer, 600_000), None);
}

#[test]
fn there_is_a_bound_and_beyond_it_what_is_not_used_makes_place() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (peer, grantee, first) = lab.granted(MEBIBYTE);
    assert!(grantee.begin(first.number));
    lab.warm(peer, 10, MEBIBYTE);
    let others: Vec<_> = (1..GRANTS).map(|_| lab.engine.grant(peer, 64).unwrap()).collect();
    let beyond = lab.engine.grant(peer, 64).unwrap();
    assert!(others.iter().all(|grant| !grantee.begin(grant.number)), "they were taken back");
    assert!(grantee.begin(beyond.number));
    lab.publish(peer, first.number, new(1, 100)).unwrap();
}

#[test]
fn room_that_nobody_uses_is_in_nobodys_way() {
    let mut lab = lab_with_leases(32 * MEBIBYTE);
    let (idle, grantee, grant) = lab.granted(MEBIBYTE);
    lab.delete(idle, &[200]);
    assert_eq!((lab.engine.stats().segments, lab.used()), (1, 0));
    // Memory is short, then nobody does anything; both take it back.
    let busy = lab.native();
    lab.put(busy, 1, 32 * MEBIBYTE as i64);
    lab.delete(busy, &[1]);
    lab.put(busy, 2, 32 * MEBIBYTE as i64);
    lab.calm_down();
    assert_eq!(lab.engine.stats().segments, 1);
    assert!(!grantee.begin(grant.number));
}

#[test]
fn room_in_use_stays_until_its_object_is_there() {
    let mut lab = lab_with_leases(32 * MEBIBYTE);
    let (peer, grantee, grant) = lab.granted(MEBIBYTE);
    lab.delete(peer, &[200]);
    assert!(grantee.begin(grant.number));
    lab.pass(1);
    lab.calm_down();
    assert_eq!(lab.engine.stats().segments, 1);
    lab.publish(peer, grant.number, new(1, 1000)).unwrap();
    lab.delete(peer, &[1]);
    lab.pass(1);
    lab.calm_down();
    assert_eq!(lab.engine.stats().segments, 0);
}

#[test]
fn a_create_of_another_size_finds_the_room_that_was_ahead() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (peer, grantee, grant) = lab.granted(MEBIBYTE);
    let segments = lab.engine.stats().segments;
    // Nothing else of this size is left in the first segment.
    lab.put(peer, 1, 3 * MEBIBYTE as i64 / 2);
    assert_eq!(lab.engine.stats().segments, segments);
    assert!(!grantee.begin(grant.number));
}

#[test]
fn what_is_refused_leaves_the_room_as_it_was() {
    let mut lab = lab_with_leases(4 * MEBIBYTE);
    let (peer, grantee, grant) = lab.granted(MEBIBYTE);
    assert!(grantee.begin(grant.number));
    assert_eq!(lab.publish(peer, grant.number, new(200, 100)), Err(Refusal::ObjectExists));
    lab.put(peer, 1, 2 * MEBIBYTE as i64);
    let other = lab.old();
    lab.put(other, 2, 3 * MEBIBYTE as i64 / 2);
    lab.get(peer, &[1, 2, 200], 0);
    assert_eq!(lab.publish(peer, grant.number, new(3, MEBIBYTE)), Err(Refusal::OutOfMemory));
    let mut kept = new(4, 1000);
    kept.evict = false;
    lab.publish(peer, grant.number, kept).unwrap();
    assert!(lab.contains(peer, 4));
}

#[test]
fn others_are_evicted_for_it_as_for_any_other() {
    let mut lab = lab_with_leases(4 * MEBIBYTE);
    let (peer, grantee, grant) = lab.granted(MEBIBYTE);
    let other = lab.native();
    lab.put(other, 1, 3 * MEBIBYTE as i64);
    assert!(grantee.begin(grant.number));
    lab.publish(peer, grant.number, new(2, MEBIBYTE)).unwrap();
    assert!(!lab.contains(peer, 1) || !lab.contains(peer, 200));
    assert!(lab.contains(peer, 2));
}

#[test]
fn who_was_not_granted_room_is_closed() {
    let cases: [(u64, u64); 4] = [(0, 100), (2, 100), (u64::MAX, 100), (1, 0)];
    for (number, size) in cases {
        let mut lab = lab_with_leases(100 * MEBIBYTE);
        let (peer, _grantee, grant) = lab.granted(MEBIBYTE);
        assert_eq!(grant.number, 1);
        assert_eq!(lab.publish(peer, number, new(1, size)), Err(Refusal::OutOfMemory));
        let effects = lab.effects();
        let [Effect::Close { peer: closed, reason }] = effects.as_slice() else { panic!("{effects:?}") };
        assert!(*closed == peer && reason.contains(&number.to_string()) && reason.contains(&size.to_string()));
    }
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (peer, _grantee, grant) = lab.granted(MEBIBYTE);
    assert!(lab.publish(peer, grant.number, new(1, MEBIBYTE + 64)).is_err());
    assert!(matches!(lab.effects().as_slice(), [Effect::Close { .. }]));
}

#[test]
fn who_goes_takes_nothing_along() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (peer, grantee, grant) = lab.granted(MEBIBYTE);
    assert!(grantee.begin(grant.number));
    lab.engine.disconnect(peer);
    let last = lab.native();
    lab.delete(last, &[200]);
    assert_eq!((lab.engine.stats().segments, lab.used()), (0, 0));
}

/// Peers that put by grants and by creates, delete, pause and go, in any order, while memory is short: what [`Lab::check`] says holds, and
/// nothing is left.
#[test]
fn thousands_of_steps_lose_no_room() {
    let mut random = Seeded(11);
    let mut lab = lab_with_leases(4 * MEBIBYTE);
    let mut peers: Vec<(PeerId, Grantee, Vec<Grant>)> = Vec::new();
    let mut published = 0;
    for _ in 0..40_000 {
        if peers.len() < 3 {
            let (peer, grantee) = lab.grantee();
            peers.push((peer, grantee, Vec::new()));
        }
        let at = random.below(peers.len() as u64) as usize;
        let (name, size) = (random.below(60) as u8, 1 + random.below(300_000));
        let (peer, grantee, grants) = &mut peers[at];
        let peer = *peer;
        match random.below(100) {
            0..25 => {
                lab.send(peer, create_of(name, size as i64, 0));
                lab.work();
                lab.send(peer, Request::Seal { id: id(name), digest: [0; 8] });
                lab.send(peer, Request::Release { id: id(name) });
            }
            25..45 => grants.extend(lab.engine.grant(peer, size)),
            45..80 => {
                let fitting = grants.iter().position(|grant| grant.place.extent.len >= size);
                if let Some(grant) =
                    fitting.map(|at| grants.swap_remove(at)).filter(|grant| grantee.begin(grant.number))
                {
                    match lab.publish(peer, grant.number, new(name, size)) {
                        Ok(()) => published += 1,
                        Err(_) if random.below(2) == 0 => {
                            grantee.end(grant.number);
                            grants.push(grant);
                        }
                        Err(_) => grantee.end(grant.number),
                    }
                }
            }
            80..97 => drop(lab.send(peer, Request::Delete { ids: ids(&[name]) })),
            97 => lab.pass(3000),
            98 => lab.pass(6000),
            _ => {
                lab.engine.disconnect(peer);
                peers.swap_remove(at);
            }
        }
        lab.effects();
    }
    assert!(published > 300, "{published}");
    peers.into_iter().for_each(|(peer, ..)| lab.engine.disconnect(peer));
    let last = lab.native();
    lab.ask(last, Request::Evict { bytes: u64::MAX });
    lab.calm_down();
    lab.check();
    assert_eq!((lab.used(), lab.engine.stats().segments), (0, 0));
}
