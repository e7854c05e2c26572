//! Segments of producers: who may have them, when they go, copies for old clients, and compaction.

use super::*;

const MEBIBYTE: u64 = 1 << 20;

fn lab_with_leases(limit: u64) -> Lab {
    let lab = lab(limit);
    lab.pages.0.borrow_mut().can_lease = true;
    lab
}

impl Lab {
    fn segment_of(&self, name: u8) -> i32 {
        self.engine.objects[&id(name)].place.unwrap().segment
    }

    /// What a peer is told that asks for a segment: `Ok` when it gets the descriptor.
    fn lend(&mut self, peer: PeerId, segment: i32, writable: bool) -> Result<(), String> {
        self.send(peer, Request::Segment { segment, writable });
        match self.effects().as_slice() {
            [Effect::Segment { segment: lent, writable: how, .. }] if (*lent, *how) == (segment, writable) => Ok(()),
            [Effect::Reply { reply: Reply::Segment { outcome: Err(why) }, .. }] => Err(why.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Which segments a peer is to let go of after it has returned others.
    fn retired(&mut self, peer: PeerId, returned: &[i32]) -> Vec<i32> {
        match self.ask(peer, Request::Retired { returned: returned.to_vec() }).as_slice() {
            [Reply::Retired { segments }] => segments.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Whose bells were rung since the last look.
    fn rung(&mut self) -> Vec<PeerId> {
        let bell = |effect| if let Effect::Ring { peer } = effect { Some(peer) } else { None };
        self.effects().into_iter().filter_map(bell).collect()
    }

    fn stats(&self) -> crate::protocol::Stats {
        self.engine.stats()
    }
}

#[test]
fn each_producer_has_segments_of_its_own_and_old_clients_share_one() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (one, two, old) = (lab.native(), lab.native(), lab.old());
    for (name, peer) in [(1, one), (2, two), (3, old), (4, one), (5, old)] {
        lab.put(peer, name, 1000);
    }
    let segments = [1, 2, 3, 4, 5].map(|name| lab.segment_of(name));
    let shared = crate::store::space::SHARED_SEGMENT;
    assert_eq!((segments[2], segments[4]), (shared, shared));
    assert!(segments[0] == segments[3] && segments[0] != segments[1] && segments[0] != shared);
    assert_eq!(lab.stats().segments, 2);
}

#[test]
fn only_its_producer_writes_a_segment_and_only_until_something_is_sealed_there() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (producer, other) = (lab.native(), lab.native());
    lab.create(producer, 1, 1000).unwrap();
    let segment = lab.segment_of(1);
    assert!(lab.lend(other, segment, true).unwrap_err().contains(&segment.to_string()));
    assert!(lab.lend(other, segment, false).unwrap_err().contains("nothing is sealed"));
    lab.lend(producer, segment, true).unwrap();
    lab.seal(producer, 1).unwrap();
    assert!(lab.lend(producer, segment, true).unwrap_err().contains("not any more"));
    lab.lend(other, segment, false).unwrap();
    assert!(lab.lend(other, 99, false).unwrap_err().contains("no segment 99"));
    let old = lab.old();
    assert!(lab.ask_and_be_closed(old, Request::Segment { segment, writable: false }).contains("segment"));
}

#[test]
fn a_segment_goes_with_its_producer_and_its_last_object_and_is_wanted_back() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (producer, reader, other) = (lab.native(), lab.native(), lab.native());
    lab.put(producer, 1, 4 * MEBIBYTE as i64);
    let segment = lab.segment_of(1);
    lab.lend(reader, segment, false).unwrap();
    lab.engine.disconnect(producer);
    assert_eq!((lab.stats().segments, lab.rung()), (1, vec![]));
    lab.send(other, Request::Delete { ids: ids(&[1]) });
    assert_eq!(lab.rung(), [reader]);
    assert_eq!((lab.stats().segments, lab.stats().retired_bytes, lab.used()), (0, 4 * MEBIBYTE, 0));
    assert_eq!(lab.retired(other, &[segment]), [0_i32; 0], "it was not lent to this one");
    assert_eq!(lab.retired(reader, &[]), [segment]);
    assert_eq!(lab.retired(reader, &[segment, segment, 7]), [0_i32; 0]);
    assert_eq!(lab.stats().retired_bytes, 0);
}

#[test]
fn who_is_gone_keeps_no_segment_and_who_keeps_too_much_gets_no_more() {
    let mut lab = lab_with_leases(16 * MEBIBYTE);
    let (reader, hoarder, last) = (lab.native(), lab.native(), lab.native());
    for name in 1..=5 {
        let producer = lab.native();
        lab.put(producer, name, 4 * MEBIBYTE as i64);
        let segment = lab.segment_of(name);
        lab.lend(reader, segment, false).unwrap();
        lab.lend(hoarder, segment, false).unwrap();
        lab.engine.disconnect(producer);
        lab.send(last, Request::Delete { ids: ids(&[name]) });
        lab.effects();
        lab.retired(reader, &[segment]);
    }
    assert_eq!(lab.stats().retired_bytes, 20 * MEBIBYTE);
    lab.put(last, 6, 100);
    let segment = lab.segment_of(6);
    lab.lend(reader, segment, false).unwrap();
    assert!(lab.lend(hoarder, segment, false).unwrap_err().contains(&(20 * MEBIBYTE).to_string()));
    lab.engine.disconnect(hoarder);
    assert_eq!(lab.stats().retired_bytes, 0);
}

#[test]
fn an_idle_producer_gives_back_what_others_need() {
    let mut lab = lab_with_leases(32 * MEBIBYTE);
    let (idle, busy) = (lab.native(), lab.native());
    for name in 1..=6 {
        lab.put(idle, name, 5 * MEBIBYTE as i64);
    }
    let segment = lab.segment_of(1);
    lab.lend(idle, segment, false).unwrap();
    lab.delete(idle, &[1, 2, 3, 4, 5, 6]);
    assert!(lab.stats().allocated_bytes >= 30 * MEBIBYTE, "it keeps its memory warm");
    for name in 11..=16 {
        lab.send(busy, create_of(name, 5 * MEBIBYTE as i64, 0));
        lab.work();
        lab.send(busy, Request::Seal { id: id(name), digest: [0; 8] });
    }
    assert!(lab.rung().contains(&idle));
    assert!((11..=16).all(|name| lab.engine.objects[&id(name)].is_sealed()));
    assert!(lab.stats().allocated_bytes <= 37 * MEBIBYTE);
}

#[test]
fn an_old_client_gets_a_copy_that_others_share_and_that_goes_first() {
    let mut lab = lab_with_leases(1000);
    let (native, old, older) = (lab.native(), lab.old(), lab.old());
    lab.put(native, 1, 300);
    let native_place = lab.engine.objects[&id(1)].location();
    assert_eq!(lab.get(old, &[1], 0), Some(vec![true]), "also without waiting");
    assert_eq!((lab.used(), lab.stats().copied_bytes), (600, 300));
    let found = lab.ask(older, Request::Get { ids: ids(&[1]), timeout_ms: 0 });
    let [Reply::Get { locations, .. }] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(locations[0].unwrap().segment, crate::store::space::SHARED_SEGMENT);
    assert_eq!(lab.pages.0.borrow().copied.len(), 1, "made once");
    assert_eq!(lab.get(native, &[1], 0), Some(vec![true]));
    assert_eq!(lab.engine.objects[&id(1)].location(), native_place);
    assert!(lab.create(native, 2, 500).is_err(), "the copy is in use");
    lab.release(old, 1);
    lab.release(older, 1);
    lab.create(native, 2, 500).unwrap();
    assert_eq!((lab.names(), lab.stats().copied_bytes), (vec![1, 2], 0));
}

#[test]
fn an_object_moves_where_there_is_no_room_for_a_copy_as_soon_as_nobody_reads_it() {
    let mut lab = lab_with_leases(1000);
    let (native, old) = (lab.native(), lab.old());
    lab.create(native, 1, 900).unwrap();
    lab.seal(native, 1).unwrap();
    assert_eq!(lab.get(old, &[1], -1), None, "its producer holds it");
    lab.send(native, Request::Release { id: id(1) });
    lab.work();
    let replies = lab.replies();
    assert!(matches!(&replies[..], [reply @ Reply::Get { .. }] if found_in(reply, &[1]) == [true]), "{replies:?}");
    assert_eq!(lab.segment_of(1), crate::store::space::SHARED_SEGMENT);
    assert_eq!((lab.used(), lab.stats().copied_bytes, lab.holders(1)), (900, 0, 1));
    assert_eq!(lab.get(native, &[1], 0), Some(vec![true]));
}

#[test]
fn an_old_client_that_stops_waiting_leaves_the_object_as_it_was() {
    let mut lab = lab_with_leases(1000);
    let (native, old, other) = (lab.native(), lab.old(), lab.old());
    lab.create(native, 1, 900).unwrap();
    lab.seal(native, 1).unwrap();
    assert_eq!(lab.get(old, &[1], 50), None);
    assert_eq!(lab.get(other, &[1], -1), None);
    lab.pass(50);
    assert_eq!(lab.replies().len(), 1);
    lab.engine.disconnect(other);
    lab.release(native, 1);
    lab.work();
    assert_ne!(lab.segment_of(1), crate::store::space::SHARED_SEGMENT);
    assert_eq!(lab.holders(1), 0);
    lab.delete(native, &[1]);
    lab.check_empty();
}

#[test]
fn what_waits_for_an_object_of_a_native_producer_gets_a_copy_when_it_is_sealed() {
    let mut lab = lab_with_leases(100 * MEBIBYTE);
    let (native, old, reader) = (lab.native(), lab.old(), lab.native());
    assert_eq!(lab.get(old, &[1], -1), None);
    assert_eq!(lab.get(reader, &[1], -1), None);
    lab.create(native, 1, 20 * MEBIBYTE as i64).unwrap();
    lab.send(native, Request::Seal { id: id(1), digest: [0; 8] });
    let replies = lab.replies();
    assert!(matches!(replies[..], [Reply::Get { .. }, Reply::Seal { .. }]), "{replies:?}");
    lab.work();
    assert!(matches!(lab.replies()[..], [Reply::Get { .. }]));
    assert!(lab.pages.0.borrow().copied.len() >= 3, "in slices");
    assert_eq!(lab.holders(1), 3);
}

#[test]
fn compaction_makes_room_where_only_pieces_are_free() {
    let limit = 32 * MEBIBYTE;
    let mut lab = lab_with_leases(limit);
    let producer = lab.native();
    for name in 0..128 {
        lab.put(producer, name, (limit / 128) as i64);
    }
    let every_second: Vec<_> = (0..128).step_by(2).collect();
    lab.delete(producer, &every_second);
    for name in 200..=206 {
        let request = Request::Create {
            id: id(name),
            data_size: 2 * MEBIBYTE as i64,
            metadata_size: 0,
            evict_if_full: false,
            device_num: 0,
            ttl_ms: 0,
            wait_ms: 0,
            immutable: false,
        };
        lab.create_with(producer, request).unwrap();
        assert!(lab.stats().allocated_bytes <= limit + limit / 8 + 3 * MEBIBYTE);
    }
    assert_eq!(lab.names().len(), 64 + 7, "nothing was evicted");
    assert!(!lab.pages.0.borrow().copied.is_empty());
    assert_eq!(lab.used(), 30 * MEBIBYTE);
}

#[test]
fn what_is_held_does_not_move_and_others_are_evicted_instead() {
    let limit = 32 * MEBIBYTE;
    let mut lab = lab_with_leases(limit);
    let (producer, reader) = (lab.native(), lab.native());
    for name in 0..128 {
        lab.put(producer, name, (limit / 128) as i64);
    }
    let every_second: Vec<_> = (0..128).step_by(2).collect();
    lab.delete(producer, &every_second);
    for name in (1..128).step_by(32) {
        lab.get(reader, &[name], 0).unwrap();
    }
    let before = lab.names().len();
    for name in 200..=203 {
        lab.create(producer, name, 2 * MEBIBYTE as i64).unwrap();
    }
    assert_eq!(lab.names().len(), before + 4, "other segments gain enough");
    for name in 204..=230 {
        lab.put(producer, name, 2 * MEBIBYTE as i64);
    }
    assert!((1..128).step_by(32).all(|name| lab.names().contains(&name)));
}

#[test]
fn objects_that_came_with_their_request_lie_where_only_the_store_writes() {
    let mut lab = lab_with_leases(100_000);
    let (native, old) = (lab.native(), lab.old());
    for (peer, name) in [(native, 1), (old, 2)] {
        let (data, metadata) = (vec![name; 100], vec![]);
        let request = Request::CreateAndSeal { id: id(name), evict_if_full: true, data, metadata, digest: [0; 8] };
        lab.ask(peer, request);
    }
    let segment = lab.segment_of(1);
    assert_ne!(segment, crate::store::space::SHARED_SEGMENT);
    assert_eq!(lab.segment_of(2), crate::store::space::SHARED_SEGMENT);
    assert!(lab.lend(native, segment, true).is_err());
    lab.lend(native, segment, false).unwrap();
}

/// Fills a store of 32 MiB so that no page is left, but for those of one small object in a segment of the store's own.
/// Puts small objects from the first number up to the second. Returns how often pages were allocated for them.
fn put_small(lab: &mut Lab, peer: PeerId, from: u32, to: u32) -> u64 {
    let before = lab.pages.0.borrow().calls;
    for number in from..to {
        let mut name = [7; 20];
        name[..4].copy_from_slice(&number.to_le_bytes());
        let object = InlineObject { id: ObjectId::new(name), data: vec![1; 64], metadata: vec![], digest: [0; 8] };
        let request = Request::CreateAndSealBatch { objects: vec![object], evict_if_full: false };
        // Not by the lab, which looks at everything each time.
        lab.engine.handle(Asker { peer, number: 0 }, request, lab.now);
    }
    lab.pages.0.borrow().calls - before
}

#[test]
fn small_objects_find_pages_that_were_allocated_ahead() {
    let mut lab = lab_with_leases(256 * MEBIBYTE);
    let peer = lab.native();
    // 640 kB in steps of a page that is needed and 256 KiB behind it.
    assert_eq!(put_small(&mut lab, peer, 0, 10_000), 6);
    assert!((640_000..1_000_000).contains(&lab.stats().allocated_bytes), "{}", lab.stats().allocated_bytes);
    assert_eq!(lab.stats().allocated_bytes, lab.pages.0.borrow().backed);
    // None are taken ahead that others could need, and a failure to get them is nobody's.
    let calls = lab.pages.0.borrow().calls;
    lab.pages.0.borrow_mut().failures = calls + 2..calls + 3;
    assert_eq!(put_small(&mut lab, peer, 10_000, 16_384), 4);
    let mut small = lab_with_leases(32 * MEBIBYTE);
    let peer = small.native();
    assert_eq!(put_small(&mut small, peer, 0, 640), 10, "a page at a time in a small store");
}

fn lab_without_pages() -> (Lab, PeerId) {
    let mut lab = lab_with_leases(32 * MEBIBYTE);
    let (reader, late) = (lab.native(), lab.native());
    for segment in 0..18 {
        let producer = lab.native();
        let (large, small) = (2 * segment + 1, 2 * segment + 2);
        lab.put(producer, small, 1000);
        lab.put(producer, large, 2 * MEBIBYTE as i64 - 4096);
        lab.get(reader, &[small], 0).unwrap();
        lab.delete(reader, &[large]);
    }
    let (data, metadata) = (vec![1; 100], vec![]);
    let request = Request::CreateAndSeal { id: id(100), evict_if_full: true, data, metadata, digest: [0; 8] };
    lab.ask(late, request);
    (lab, late)
}

#[test]
fn nothing_moves_again_and_again_where_nothing_is_gained() {
    let (mut lab, late) = lab_without_pages();
    lab.pages.0.borrow_mut().copied.clear();
    let mut request = create_of(101, 2 * MEBIBYTE as i64, 0);
    let Request::Create { evict_if_full, .. } = &mut request else { unreachable!() };
    *evict_if_full = false;
    lab.send(late, request);
    for _ in 0..1000 {
        lab.engine.work(lab.now);
    }
    assert!(!lab.engine.has_work(), "it goes on for ever");
    assert!(matches!(lab.replies()[..], [Reply::Create { outcome: Err(_), .. }]));
    assert!(lab.pages.0.borrow().copied.len() <= 1, "a single page was moved again and again");
}

#[test]
fn what_cannot_move_for_want_of_memory_stays_and_nobody_waits_for_it() {
    let limit = 32 * MEBIBYTE;
    let mut lab = lab_with_leases(limit);
    let producer = lab.native();
    for name in 0..128 {
        lab.put(producer, name, (limit / 128) as i64);
    }
    let every_second: Vec<_> = (0..128).step_by(2).collect();
    lab.delete(producer, &every_second);
    // From now on there is no page for anybody.
    let begun = lab.pages.0.borrow().calls;
    lab.pages.0.borrow_mut().failures = begun..u64::MAX;
    let mut request = create_of(200, 6 * MEBIBYTE as i64, 0);
    let Request::Create { evict_if_full, .. } = &mut request else { unreachable!() };
    *evict_if_full = false;
    lab.send(producer, request);
    for _ in 0..10_000 {
        lab.engine.work(lab.now);
    }
    assert!(!lab.engine.has_work(), "it goes on for ever");
    assert!(matches!(lab.replies()[..], [Reply::Create { outcome: Err(_), .. }]));
    assert_eq!(lab.names().len(), 64);
}

#[test]
fn what_is_deleted_while_it_moves_for_the_room_of_others_is_in_nobodys_use() {
    let limit = 64 * MEBIBYTE;
    let mut lab = lab_with_leases(limit);
    let other = lab.native();
    // Objects so large that each moves in several slices, and beside each a piece of its segment that is free.
    for name in 0..7 {
        let producer = lab.native();
        lab.put(producer, name, 8 * MEBIBYTE as i64 + 100_000);
        lab.put(producer, 100, 2 * MEBIBYTE as i64 - 200_000);
        lab.delete(producer, &[100]);
    }
    let moving = |lab: &Lab| {
        let ids = lab.engine.objects.iter().filter(|(_, object)| object.copy.is_some()).map(|(id, _)| id.as_bytes()[0]);
        ids.collect::<Vec<_>>()
    };
    lab.send(other, create_of(50, 6 * MEBIBYTE as i64, 0));
    while moving(&lab).is_empty() {
        assert!(lab.engine.has_work(), "nothing moves");
        lab.engine.work(lab.now);
    }
    let name = moving(&lab)[0];
    lab.send(other, Request::Delete { ids: ids(&[name]) });
    let replies = lab.replies();
    assert!(matches!(&replies[..], [Reply::Delete { outcomes, .. }] if *outcomes == [Ok(())]), "{replies:?}");
    assert!(!lab.names().contains(&name));
    lab.work();
    assert!(matches!(lab.replies()[..], [Reply::Create { outcome: Ok(_), .. }]));
}

#[test]
fn whoever_holds_objects_as_an_old_client_stays_one() {
    let mut lab = lab_with_leases(1000);
    let (native, old) = (lab.native(), lab.old());
    lab.put(native, 1, 300);
    assert_eq!(lab.get(old, &[1], 0), Some(vec![true]));
    let why = lab.ask_and_be_closed(old, Request::Connect { abilities: u64::MAX });
    assert!(why.contains("held 1 objects"), "{why}");
    lab.engine.disconnect(old);
    lab.create(native, 2, 500).unwrap();
}

#[test]
fn what_many_dead_producers_left_is_gathered_in_segments_of_the_store() {
    let mut lab = lab_with_leases(MEBIBYTE);
    let reader = lab.native();
    let mut most = 0;
    for n in 0..700_u32 {
        let mut name = [0; 20];
        name[..4].copy_from_slice(&n.to_le_bytes());
        let (producer, id) = (lab.native(), ObjectId::new(name));
        let create = Request::Create {
            id,
            data_size: 100,
            metadata_size: 0,
            evict_if_full: true,
            device_num: 0,
            ttl_ms: 0,
            wait_ms: 0,
            immutable: false,
        };
        for request in [create, Request::Seal { id, digest: [0; 8] }] {
            lab.engine.handle(Asker { peer: producer, number: 1 }, request, lab.now);
        }
        if n == 0 {
            lab.engine.handle(
                Asker { peer: reader, number: 1 },
                Request::Get { ids: vec![id], timeout_ms: 0 },
                lab.now,
            );
        }
        lab.engine.disconnect(producer);
        lab.work();
        lab.engine.take_effects();
        assert!(n > 510 || lab.pages.0.borrow().copied.is_empty(), "{n} segments are not many");
        most = most.max(lab.stats().segments);
    }
    lab.effects();
    assert!((512..=514).contains(&most), "{most} segments");
    assert_eq!(lab.engine.objects.len(), 700, "none was lost");
    assert_eq!(lab.holders(0), 1, "what is held stayed where it was");
}
