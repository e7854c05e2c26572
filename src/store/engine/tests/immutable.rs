//! Objects that nobody at all can write once they are sealed: where they lie, when they are refused, and that they stay what they are.

use super::*;

const MEBIBYTE: u64 = 1 << 20;

fn lab_with_leases(limit: u64) -> Lab {
    let lab = lab(limit);
    lab.pages.0.borrow_mut().can_lease = true;
    lab
}

/// The same create for an immutable object.
fn immutable(mut request: Request) -> Request {
    let Request::Create { immutable, .. } = &mut request else { unreachable!() };
    *immutable = true;
    request
}

impl Lab {
    fn create_immutable(&mut self, peer: PeerId, name: u8, size: u64) -> Result<Location, Refused> {
        self.create_with(peer, immutable(create_of(name, size as i64, 0)))
    }

    fn put_immutable(&mut self, peer: PeerId, name: u8, size: u64) -> i32 {
        let place = self.create_immutable(peer, name, size).unwrap();
        self.seal(peer, name).unwrap();
        self.release(peer, name);
        place.segment
    }

    fn is_immutable(&self, segment: i32) -> bool {
        self.pages.0.borrow().immutable.contains(&segment)
    }

    /// Whether a peer gets a segment that it asks for.
    fn is_lent(&mut self, peer: PeerId, segment: i32, writable: bool) -> bool {
        self.send(peer, Request::Segment { segment, writable });
        match self.effects().as_slice() {
            [Effect::Segment { .. }] => true,
            [Effect::Reply { reply: Reply::Segment { outcome: Err(_) }, .. }] => false,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_has_a_segment_for_itself_that_goes_with_it() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (one, two) = (lab.native(), lab.native());
    let segments = [(one, 1), (one, 2), (two, 3)].map(|(peer, name)| lab.put_immutable(peer, name, 5000));
    lab.put(one, 4, 5000);
    let fourth = lab.engine.objects[&id(4)].place.unwrap().segment;
    let all: BTreeSet<_> = segments.into_iter().chain([fourth]).collect();
    assert_eq!(all.len(), 4);
    assert!(segments.into_iter().all(|segment| lab.is_immutable(segment)) && !lab.is_immutable(fourth));
    lab.delete(two, &[1, 2, 3]);
    assert_eq!((lab.engine.space.leases().count(), lab.engine.space.leases().count_for_one()), (1, 0));
    lab.delete(two, &[4]);
    lab.check_empty();
}

#[test]
fn its_producer_alone_has_it_before_the_seal_and_nobody_writes_it_after() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (producer, other) = (lab.native(), lab.native());
    let segment = lab.create_immutable(producer, 1, 1000).unwrap().segment;
    assert_eq!([true, false].map(|writable| lab.is_lent(other, segment, writable)), [false, false]);
    assert!(!lab.is_lent(producer, segment, false), "a second mapping would be in the way of the seal");
    assert!(lab.is_lent(producer, segment, true));
    lab.seal(producer, 1).unwrap();
    assert_eq!([producer, other].map(|peer| lab.is_lent(peer, segment, true)), [false, false]);
    assert_eq!([producer, other].map(|peer| lab.is_lent(peer, segment, false)), [true, true]);
}

#[test]
fn while_somebody_can_write_it_it_is_not_sealed_and_can_be_sealed_or_aborted_later() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (producer, reader) = (lab.native(), lab.native());
    assert_eq!(lab.get(reader, &[1], -1), None);
    for name in [1, 2] {
        lab.create_immutable(producer, name, 1000).unwrap();
    }
    lab.pages.0.borrow_mut().is_mapped = true;
    for name in [1, 2, 1] {
        assert_eq!(lab.seal(producer, name), Err(Refusal::StillWritable));
        assert!(!lab.contains(reader, name));
    }
    // One that lets go of it at the same time keeps its hold.
    assert_eq!(lab.engine.seal_and_release(producer, id(1), lab.now), Err(Refusal::StillWritable));
    assert_eq!(lab.holders(1), 1);
    lab.pages.0.borrow_mut().is_mapped = false;
    lab.send(producer, Request::Seal { id: id(1), digest: [0; 8] });
    assert!(matches!(lab.replies()[..], [Reply::Get { .. }, Reply::Seal { outcome: Ok(()), .. }]));
    assert_eq!(lab.ask(producer, Request::Abort { id: id(2) }), [Reply::Abort { id: id(2), outcome: Ok(()) }]);
    assert_eq!(lab.names(), [1]);
}

#[test]
fn who_has_seals_refused_again_and_again_is_cut_off() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let producer = lab.native();
    lab.create_immutable(producer, 1, 1000).unwrap();
    lab.pages.0.borrow_mut().is_mapped = true;
    for _ in 0..MAX_REFUSED_SEALS {
        assert_eq!(lab.seal(producer, 1), Err(Refusal::StillWritable));
    }
    lab.send(producer, Request::Seal { id: id(1), digest: [0; 8] });
    assert!(matches!(&lab.effects()[..], [Effect::Close { reason, .. }, _] if reason.contains("101")));
    lab.engine.disconnect(producer);
    lab.check_empty();
}

#[test]
fn what_was_not_sealed_goes_with_its_producer() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    for turn in 0..10 {
        let producer = lab.native();
        for name in 0..5 {
            lab.create_immutable(producer, name, 1000 * MEBIBYTE / 100).unwrap();
        }
        lab.seal(producer, turn % 5).unwrap();
        lab.engine.disconnect(producer);
        assert_eq!((lab.names(), lab.engine.space.leases().count_for_one()), (vec![turn % 5], 1));
        let last = lab.native();
        lab.delete(last, &[turn % 5]);
        lab.engine.disconnect(last);
        lab.check_empty();
        assert_eq!(lab.engine.space.backed(), 0);
    }
}

#[test]
fn where_there_are_no_segments_for_one_it_is_refused() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let old = lab.old();
    let refused = lab.create_immutable(old, 1, 10).unwrap_err();
    assert!(refused.refusal == Refusal::Unsupported && refused.detail.contains("old client"), "{refused:?}");
    let native = lab.native();
    lab.pages.0.borrow_mut().can_lease = false;
    let refused = lab.create_immutable(native, 1, 10).unwrap_err();
    assert!(refused.refusal == Refusal::Unsupported && refused.detail.contains("-d"), "{refused:?}");
    lab.create(native, 1, 10).unwrap();
}

#[test]
fn there_are_so_many_and_not_more_and_nobody_goes_for_one_more() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    lab.pages.0.borrow_mut().most_for_one = Some(3);
    let producer = lab.native();
    for name in 1..=3 {
        lab.put_immutable(producer, name, 10);
    }
    lab.put(producer, 9, 10);
    let refused = lab.create_immutable(producer, 4, 10).unwrap_err();
    assert!(refused.refusal == Refusal::OutOfMemory && refused.detail.contains("3 may be"), "{refused:?}");
    assert_eq!(lab.names(), [1, 2, 3, 9]);
    lab.delete(producer, &[2]);
    lab.put_immutable(producer, 4, 10);
}

#[test]
fn one_without_bytes_needs_no_segment() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let producer = lab.native();
    lab.put_immutable(producer, 1, 0);
    assert_eq!((lab.get(producer, &[1], 0), lab.engine.space.leases().count()), (Some(vec![true]), 0));
}

#[test]
fn old_clients_get_a_copy_and_it_never_moves_for_them() {
    let mut lab = lab_with_leases(1000);
    let (native, old) = (lab.native(), lab.old());
    let segment = lab.put_immutable(native, 1, 300);
    assert_eq!(lab.get(old, &[1], 0), Some(vec![true]));
    assert_eq!(lab.engine.stats().copied_bytes, 300);
    assert_eq!(lab.engine.objects[&id(1)].place.unwrap().segment, segment);
    lab.release(old, 1);
    lab.delete(native, &[1]);
    // There is no room for both.
    let segment = lab.put_immutable(native, 2, 900);
    assert_eq!(lab.get(old, &[2], 50), None);
    lab.pass(50);
    assert_eq!(lab.replies().iter().map(|reply| found_in(reply, &[2])).collect::<Vec<_>>(), [[false]]);
    assert_eq!(lab.engine.objects[&id(2)].place.unwrap().segment, segment);
}

#[test]
fn compaction_leaves_it_where_it_is() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let producer = lab.native();
    let segment = lab.put_immutable(producer, 1, 100);
    assert!(!lab.engine.compact(), "most of its page is free, and yet it stays");
    lab.put(producer, 2, 100);
    assert!(lab.engine.compact());
    lab.work();
    assert_eq!(lab.pages.0.borrow().copied.len(), 1);
    assert_eq!(lab.engine.objects[&id(1)].place.unwrap().segment, segment);
}

/// A lab with leases and an external store, which the test plays; with a peer.
fn spilling(limit: u64) -> (Lab, PeerId) {
    let pages = FakePages::default();
    pages.0.borrow_mut().can_lease = true;
    let engine = Engine::new(limit, pages.clone()).unwrap().with_external_store();
    let mut lab = Lab::new(engine, pages);
    let peer = lab.native();
    (lab, peer)
}

/// An immutable object of 600 bytes in a store of 1000 that went to the external store; the job that brings it back, ordered by a get.
fn on_its_way_back() -> (Lab, PeerId, Job) {
    let (mut lab, peer) = spilling(1000);
    lab.put_immutable(peer, 1, 600);
    let job = lab.order(peer, Request::Evict { bytes: 1 });
    let (_, replies) = lab.done(job, Ok(()));
    assert_eq!(replies, [Reply::Evict { bytes: 600 }]);
    assert_eq!((lab.used(), lab.engine.space.leases().count_for_one()), (0, 0));
    let job = lab.order(peer, Request::Get { ids: ids(&[1]), timeout_ms: -1 });
    (lab, peer, job)
}

#[test]
fn what_comes_back_is_immutable_again() {
    let (mut lab, peer, job) = on_its_way_back();
    let Work::Get(place) = job.work else { panic!("{job:?}") };
    assert!(!lab.is_immutable(place.segment), "it is to be filled");
    assert_eq!([true, false].map(|writable| lab.is_lent(peer, place.segment, writable)), [false, false]);
    let (_, replies) = lab.done(job, Ok(()));
    assert!(matches!(&replies[..], [reply] if found_in(reply, &[1]) == [true]), "{replies:?}");
    assert!(lab.is_immutable(place.segment) && lab.is_lent(peer, place.segment, false));
}

#[test]
fn what_cannot_become_immutable_again_or_has_no_segment_stays_away() {
    let (mut lab, peer, job) = on_its_way_back();
    lab.pages.0.borrow_mut().is_mapped = true;
    let (_, replies) = lab.done(job, Ok(()));
    assert!(matches!(&replies[..], [reply] if found_in(reply, &[1]) == [false]), "{replies:?}");
    assert_eq!((lab.used(), lab.engine.space.leases().count_for_one()), (0, 0));
    lab.pages.0.borrow_mut().is_mapped = false;
    let job = lab.order(peer, Request::Get { ids: ids(&[1]), timeout_ms: -1 });
    let (_, replies) = lab.done(job, Ok(()));
    assert!(matches!(&replies[..], [reply] if found_in(reply, &[1]) == [true]), "{replies:?}");
}

#[test]
fn files_of_the_pool_are_taken_where_little_of_them_is_left_over() {
    let limit = 1 << 30;
    for (size, is_taken) in [(2 * MEBIBYTE, true), (MEBIBYTE, false), (64 * MEBIBYTE, true), (40 * MEBIBYTE, false)] {
        let pages = FakePages::default();
        {
            let mut ledger = pages.0.borrow_mut();
            (ledger.can_lease, ledger.pool_bytes, ledger.is_ready) = (true, 128 * MEBIBYTE, true);
        }
        let mut lab = Lab::new(Engine::new(limit, pages.clone()).unwrap(), pages);
        let producer = lab.native();
        let calls = lab.pages.0.borrow().calls;
        lab.put_immutable(producer, 1, size);
        assert_eq!(lab.pages.0.borrow().calls == calls, is_taken, "{size} bytes");
        let backed = lab.engine.space.backed() - lab.engine.space.pooled();
        assert_eq!(backed, size);
    }
}
