//! Create, seal and abort: who may, what fits, and who has to go for it.

use super::*;

#[test]
fn an_object_lies_at_a_multiple_of_64_with_its_metadata_behind() {
    let mut lab = lab(10_000);
    let peer = lab.native();
    let first = lab.create_with(peer, create_of(1, 100, 5)).unwrap();
    let second = lab.create(peer, 2, 10).unwrap();
    assert_eq!((first.segment, first.data_size, first.metadata_size), (SEGMENT, 100, 5));
    assert_eq!((first.offset % 64, second.offset % 64), (0, 0));
    assert_eq!(lab.used(), 115);
}

const SEGMENT: i32 = crate::store::space::SHARED_SEGMENT;

#[test]
fn an_id_is_taken_from_create_on() {
    let mut lab = lab(1000);
    let (one, other) = (lab.native(), lab.old());
    lab.create(one, 1, 10).unwrap();
    for peer in [one, other] {
        let refused = lab.create(peer, 1, 20).unwrap_err();
        assert_eq!(refused.refusal, Refusal::ObjectExists);
        assert!(refused.detail.contains(&id(1).to_string()));
    }
    lab.seal(one, 1).unwrap();
    assert_eq!(lab.create(other, 1, 10).unwrap_err().refusal, Refusal::ObjectExists);
    assert_eq!(lab.used(), 10);
}

#[test]
fn sizes_that_cannot_be_are_refused_with_their_numbers() {
    let mut lab = lab(1000);
    let peer = lab.old();
    lab.put(peer, 9, 400);
    let cases = [(-1, 0, "-1"), (0, -7, "-7"), (i64::MIN, i64::MIN, "-9223372036854775808"), (601, 400, "1001")];
    for (data, metadata, number) in cases {
        let refused = lab.create_with(peer, create_of(1, data, metadata)).unwrap_err();
        assert_eq!(refused.refusal, Refusal::OutOfMemory);
        assert!(refused.detail.contains(number), "{}", refused.detail);
    }
    let most = lab.create_with(peer, create_of(1, i64::MAX, i64::MAX)).unwrap_err();
    assert!(most.detail.contains("18446744073709551614"), "{}", most.detail);
    let device = Request::Create {
        id: id(1),
        data_size: 1,
        metadata_size: 0,
        evict_if_full: true,
        device_num: 3,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    };
    assert!(lab.create_with(peer, device).unwrap_err().detail.contains('3'));
    assert_eq!(lab.names(), [9], "nothing went for an object that cannot be");
}

#[test]
fn capacity_is_exact() {
    for limit in [1, 64, 65, 10_000, 1_000_000] {
        let mut lab = lab(limit as u64);
        let peer = lab.native();
        let refused = lab.create(peer, 1, limit + 1).unwrap_err();
        assert!(refused.detail.contains(&limit.to_string()) && refused.detail.contains(&(limit + 1).to_string()));
        lab.create_with(peer, create_of(1, limit - 1, 1)).unwrap();
        assert_eq!(lab.create(peer, 2, 1).unwrap_err().refusal, Refusal::OutOfMemory);
        lab.create(peer, 3, 0).unwrap();
    }
    assert!(Engine::new(0, FakePages::default()).is_err());
    let error = Engine::new(u64::MAX, FakePages::default()).unwrap_err().to_string();
    assert!(error.contains(&u64::MAX.to_string()), "{error}");
}

#[test]
fn an_object_without_bytes_is_an_object() {
    let mut lab = lab(1000);
    let peer = lab.old();
    lab.put(peer, 1, 0);
    assert!(lab.contains(peer, 1));
    assert_eq!(lab.get(peer, &[1], 0), Some(vec![true]));
    assert_eq!(lab.used(), 0);
}

#[test]
fn only_the_creator_seals_and_only_once() {
    let mut lab = lab(1000);
    let (creator, other, old) = (lab.native(), lab.native(), lab.old());
    assert_eq!(lab.seal(creator, 1), Err(Refusal::ObjectNotFound));
    lab.create(creator, 1, 10).unwrap();
    assert_eq!(lab.seal(other, 1), Err(Refusal::ObjectNotFound));
    assert_eq!(lab.seal(old, 1), Err(Refusal::ObjectNotFound));
    assert!(!lab.contains(creator, 1));
    lab.now.unix_seconds += 7;
    assert_eq!(lab.seal(creator, 1), Ok(()));
    assert_eq!(lab.seal(creator, 1), Err(Refusal::ObjectAlreadySealed));
    assert_eq!(lab.seal(old, 1), Err(Refusal::ObjectAlreadySealed));
    let replies = lab.ask(old, Request::List);
    let [Reply::List { objects }] = replies.as_slice() else { panic!("{replies:?}") };
    let info = &objects[0];
    assert_eq!((info.construct_duration, info.digest, info.ref_count), (7, [1; 8], 1));
    assert_eq!(info.state, ObjectState::Sealed);
}

#[test]
fn a_clock_set_back_makes_no_negative_duration() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.create(peer, 1, 10).unwrap();
    lab.now.unix_seconds -= 100;
    lab.seal(peer, 1).unwrap();
    assert_eq!(lab.engine.objects[&id(1)].construct_duration, 0);
}

#[test]
fn abort_takes_back_an_unsealed_object_of_ones_own() {
    let mut lab = lab(1000);
    let (creator, other) = (lab.native(), lab.native());
    lab.create(creator, 1, 600).unwrap();
    let abort = |lab: &mut Lab, peer| match lab.ask(peer, Request::Abort { id: id(1) }).as_slice() {
        [Reply::Abort { outcome, .. }] => *outcome,
        unexpected => panic!("{unexpected:?}"),
    };
    assert_eq!(abort(&mut lab, other), Err(Refusal::ObjectNotFound));
    assert_eq!(abort(&mut lab, creator), Ok(()));
    assert_eq!(abort(&mut lab, creator), Err(Refusal::ObjectNotFound));
    lab.check_empty();
    lab.create(other, 1, 1000).unwrap();
    lab.seal(other, 1).unwrap();
    assert_eq!(abort(&mut lab, other), Err(Refusal::ObjectAlreadySealed));
}

#[test]
fn an_old_client_is_cut_off_when_its_abort_has_no_answer() {
    let mut lab = lab(1000);
    let (creator, old) = (lab.native(), lab.old());
    lab.create(creator, 1, 10).unwrap();
    let reason = lab.ask_and_be_closed(old, Request::Abort { id: id(1) });
    assert!(reason.contains(&id(1).to_string()), "{reason}");
    assert_eq!(lab.names(), [1]);
}

/// Ten objects of 99 000 bytes in a store of 1 000 000.
fn ten_objects(lab: &mut Lab) {
    let peer = lab.old();
    (0..10).for_each(|name| lab.put(peer, name, 99_000));
}

#[test]
fn for_an_old_client_a_fifth_of_the_store_goes_at_least() {
    let mut lab = lab(1_000_000);
    ten_objects(&mut lab);
    let old = lab.old();
    lab.create(old, 10, 99_000).unwrap();
    assert_eq!(lab.names(), [3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn for_a_native_client_no_more_goes_than_is_needed() {
    let mut lab = lab(1_000_000);
    ten_objects(&mut lab);
    let native = lab.native();
    lab.create(native, 10, 99_000).unwrap();
    assert_eq!(lab.names(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    lab.create(native, 11, 250_000).unwrap();
    assert_eq!(lab.names(), [4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn nobody_goes_for_a_create_that_fails_anyway() {
    let mut lab = lab(1_000_000);
    ten_objects(&mut lab);
    let (old, native) = (lab.old(), lab.native());
    for peer in [old, native] {
        assert!(lab.create(peer, 10, 1_000_001).is_err());
    }
    // Half of the store is held: what is left would not do.
    assert!(lab.get(native, &[5, 6, 7, 8, 9], 0).is_some());
    assert!(lab.create(native, 10, 600_000).is_err());
    let polite = Request::Create {
        id: id(10),
        data_size: 99_000,
        metadata_size: 0,
        evict_if_full: false,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    };
    assert!(lab.create_with(native, polite).is_err());
    assert_eq!(lab.names(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn the_order_of_eviction_is_that_of_the_last_release() {
    let mut lab = lab(1000);
    let peer = lab.native();
    (0..4).for_each(|name| lab.put(peer, name, 250));
    lab.get(peer, &[0], 0);
    lab.release(peer, 0);
    assert_eq!(lab.ask(peer, Request::RefreshLru { ids: ids(&[1, 77]) }), [Reply::RefreshLru]);
    lab.create(peer, 4, 1).unwrap();
    assert_eq!(lab.names(), [0, 1, 3, 4]);
    assert_eq!(lab.ask(peer, Request::Evict { bytes: 251 }), [Reply::Evict { bytes: 500 }]);
    assert_eq!(lab.names(), [1, 4]);
    assert_eq!(lab.ask(peer, Request::Evict { bytes: 0 }), [Reply::Evict { bytes: 0 }]);
    assert_eq!(lab.ask(peer, Request::Evict { bytes: u64::MAX }), [Reply::Evict { bytes: 250 }]);
    assert_eq!(lab.names(), [4]);
}
