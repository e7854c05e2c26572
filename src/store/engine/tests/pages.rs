//! Memory behind objects: large ones grow in slices, and when there is none the books stay right and the store usable.

use super::*;

/// More than one slice, see `space.rs`.
const LARGE: i64 = 20 << 20;

#[test]
fn a_large_object_is_answered_when_all_its_pages_are_there_and_others_are_served_meanwhile() {
    let mut lab = lab(100 << 20);
    let (one, two, small) = (lab.native(), lab.old(), lab.native());
    let first = lab.send(one, create_of(1, LARGE, 0));
    let second = lab.send(two, create_of(2, LARGE, 0));
    assert!(lab.engine.has_work());
    lab.send(small, create_of(3, 10, 0));
    assert!(matches!(lab.effects().as_slice(), [Effect::Reply { to, .. }] if to.peer == small));
    let mut answered = Vec::new();
    while lab.engine.has_work() {
        let before = lab.pages.0.borrow().backed;
        lab.engine.work(lab.now);
        assert!(lab.pages.0.borrow().backed - before <= 8 << 20, "one slice a turn");
        answered.extend(lab.effects());
    }
    let order: Vec<_> =
        answered.iter().map(|effect| if let Effect::Reply { to, .. } = effect { Some(*to) } else { None }).collect();
    assert_eq!(order, [Some(first), Some(second)], "they take turns");
}

#[test]
fn objects_that_may_have_huge_pages_are_gathered_once_they_are_sealed() {
    const LEAST: i64 = HUGE_PAGE as i64;
    let mut lab = lab(100 << 20);
    let peer = lab.native();
    let large = lab.create_with(peer, create_of(1, LEAST - 1, 1)).unwrap();
    lab.create_with(peer, create_of(2, LEAST - 1, 0)).unwrap();
    assert_eq!(lab.gathered, []);
    lab.seal(peer, 1).unwrap();
    lab.seal(peer, 2).unwrap();
    assert_eq!(lab.gathered, [large]);
    assert_eq!(lab.seal(peer, 1), Err(Refusal::ObjectAlreadySealed));
    let whole = InlineObject { id: id(3), data: vec![0; LEAST as usize], metadata: vec![], digest: [0; 8] };
    let request = Request::CreateAndSealBatch { objects: vec![whole], evict_if_full: true };
    lab.ask(peer, request);
    assert_eq!((lab.gathered.len(), lab.gathered[1].data_size), (2, HUGE_PAGE));
}

#[test]
fn an_object_that_still_grows_is_nobodys_yet() {
    let mut lab = lab(100 << 20);
    let (maker, other) = (lab.native(), lab.native());
    let asker = lab.send(maker, create_of(1, LARGE, 0));
    for request in [Request::Seal { id: id(1), digest: [0; 8] }, Request::Abort { id: id(1) }] {
        lab.send(maker, request);
    }
    lab.send(maker, Request::Release { id: id(1) });
    lab.send(other, create_of(1, 10, 0));
    lab.send(other, Request::Delete { ids: ids(&[1]) });
    assert_eq!(
        lab.replies().as_slice(),
        [
            Reply::Seal { id: id(1), outcome: Err(Refusal::ObjectNotFound) },
            Reply::Abort { id: id(1), outcome: Err(Refusal::ObjectNotFound) },
            Reply::Create {
                id: id(1),
                outcome: Err(Refused {
                    refusal: Refusal::ObjectExists,
                    detail: format!("object {} already exists", id(1))
                }),
                segment: None
            },
            Reply::Delete { ids: ids(&[1]), outcomes: vec![Err(Refusal::ObjectNotSealed)] },
        ]
    );
    lab.work();
    assert!(matches!(lab.effects().as_slice(), [Effect::Reply { to, .. }] if *to == asker));
    lab.seal(maker, 1).unwrap();
}

#[test]
fn a_peer_that_leaves_while_its_object_grows_leaves_nothing() {
    let mut lab = lab(100 << 20);
    let (leaver, stayer) = (lab.native(), lab.native());
    lab.send(leaver, create_of(1, LARGE, 0));
    lab.send(leaver, create_of(2, LARGE, 0));
    lab.engine.work(lab.now);
    lab.engine.disconnect(leaver);
    assert!(!lab.engine.has_work());
    lab.check_empty();
    lab.create(stayer, 1, LARGE).unwrap();
}

#[test]
fn whichever_page_allocation_fails_the_store_stays_right_and_usable() {
    let mut refused = 0;
    for failing in 1.. {
        let mut lab = lab(100 << 20);
        let (old, native) = (lab.old(), lab.native());
        // Each call fails twice in a row: once, and once more after free pages were given back.
        lab.pages.0.borrow_mut().failures = failing..failing + 2;
        for (name, size) in [(1, 100), (2, LARGE), (3, 5 << 20), (4, 4097)] {
            let peer = if name % 2 == 0 { old } else { native };
            match lab.create(peer, name, size) {
                Ok(_) => lab.seal(peer, name).unwrap(),
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.refusal, Refusal::OutOfMemory);
                    assert!(error.detail.contains("No space left"), "{}", error.detail);
                    assert!(!lab.names().contains(&name));
                }
            }
        }
        lab.pages.0.borrow_mut().failures = 0..0;
        lab.engine.disconnect(old);
        lab.engine.disconnect(native);
        let last = lab.native();
        lab.ask(last, Request::Evict { bytes: u64::MAX });
        lab.create(last, 9, 100 << 20).unwrap();
        lab.engine.disconnect(last);
        lab.check_empty();
        if lab.pages.0.borrow().calls < failing {
            break;
        }
    }
    assert!(refused >= 5, "{refused} creates met a failure");
}

#[test]
fn a_single_failure_is_overcome_by_giving_back_what_lies_free() {
    let mut lab = lab(100 << 20);
    let peer = lab.native();
    lab.put(peer, 1, 5 << 20);
    lab.delete(peer, &[1]);
    let warm = lab.pages.0.borrow().backed;
    assert_eq!(warm, 5 << 20, "pages of what was deleted stay warm");
    let next = lab.pages.0.borrow().calls + 1;
    lab.pages.0.borrow_mut().failures = next..next + 1;
    lab.create(peer, 2, 6 << 20).unwrap();
    assert_eq!(lab.pages.0.borrow().backed, 6 << 20);
}

#[test]
fn shortage_of_pages_evicts_for_those_who_may_and_spares_objects_without_bytes() {
    let mut lab = lab(100 << 20);
    let peer = lab.native();
    lab.put(peer, 1, 1 << 20);
    lab.put(peer, 2, 0);
    let next = lab.pages.0.borrow().calls + 1;
    lab.pages.0.borrow_mut().failures = next..next + 2;
    lab.create(peer, 3, 1 << 20).unwrap();
    assert_eq!(lab.names(), [2, 3], "object 1 went, and with it came the memory");
    let next = lab.pages.0.borrow().calls + 1;
    lab.pages.0.borrow_mut().failures = next..u64::MAX;
    assert!(lab.create(peer, 4, 2 << 20).is_err());
    assert_eq!(lab.names(), [2, 3], "object 2 has nothing to give");
}

#[test]
fn memory_stays_below_its_bound_under_churn() {
    let limit = 4 << 20;
    let mut lab = lab(limit);
    let peer = lab.native();
    let mut most = 0;
    for round in 0..2000_u32 {
        let name = (round % 200) as u8;
        let size = i64::from(round * 7919 % 60_000 + 1);
        lab.delete(peer, &[name]);
        lab.create(peer, name, size).unwrap();
        lab.seal(peer, name).unwrap();
        lab.release(peer, name);
        most = most.max(lab.pages.0.borrow().backed);
    }
    assert!(most <= limit + limit / 8 + (1 << 20), "{most} bytes backed");
}

#[test]
fn a_segment_of_fixed_length_is_neither_allocated_nor_given_back() {
    let limit = 64 << 20;
    let pages = FakePages::default();
    pages.0.borrow_mut().fixed_length = Some(72 << 20);
    pages.0.borrow_mut().backed = 72 << 20;
    let engine = Engine::new(limit, pages.clone()).unwrap();
    let mut lab = Lab::new(engine, pages);
    let peer = lab.native();
    for name in 0..20 {
        let place = lab.create(peer, name, 5 << 20).unwrap();
        assert!(place.offset + place.data_size <= 72 << 20);
        lab.seal(peer, name).unwrap();
        lab.release(peer, name);
    }
    // Where free room lies in pieces, more goes than the bytes alone would ask for.
    lab.create(peer, 100, limit as i64).unwrap();
    assert_eq!(lab.names(), [100]);
    let ledger = lab.pages.0.borrow();
    assert_eq!((ledger.calls, ledger.backed), (0, 72 << 20));
}
