//! Pins and times to live: what is not evicted, what ends by itself, and which of the two wins.

use super::*;

impl Lab {
    fn pin(&mut self, peer: PeerId, names: &[u8]) -> Vec<Result<(), Refusal>> {
        self.set_pinned(peer, names, true)
    }

    fn unpin(&mut self, peer: PeerId, names: &[u8]) -> Vec<Result<(), Refusal>> {
        self.set_pinned(peer, names, false)
    }

    fn set_pinned(&mut self, peer: PeerId, names: &[u8], pinned: bool) -> Vec<Result<(), Refusal>> {
        match self.ask(peer, Request::Pin { ids: ids(names), pinned }).as_slice() {
            [Reply::Pin { outcomes }] => outcomes.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn evict(&mut self, peer: PeerId, bytes: u64) -> u64 {
        match self.ask(peer, Request::Evict { bytes }).as_slice() {
            [Reply::Evict { bytes }] => *bytes,
            other => panic!("{other:?}"),
        }
    }

    /// Puts an object that lives for this long.
    fn put_for(&mut self, peer: PeerId, name: u8, size: i64, ttl: u64) {
        let mut request = create_of(name, size, 0);
        let Request::Create { ttl_ms, .. } = &mut request else { unreachable!() };
        *ttl_ms = ttl;
        self.create_with(peer, request).unwrap();
        self.seal(peer, name).unwrap();
        self.release(peer, name);
    }

    fn listed_as_pinned(&mut self, peer: PeerId) -> Vec<u8> {
        let replies = self.ask(peer, Request::List);
        let [Reply::List { objects }] = replies.as_slice() else { panic!("{replies:?}") };
        let mut names: Vec<u8> = objects.iter().filter(|info| info.pinned).map(|info| info.id.as_bytes()[0]).collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn what_is_pinned_is_evicted_by_nobody_and_outlives_who_pinned_it() {
    let mut lab = lab(1000);
    let (native, old) = (lab.native(), lab.old());
    (1..=4).for_each(|name| lab.put(old, name, 250));
    assert_eq!(lab.pin(native, &[1, 3, 1]), [Ok(()); 3]);
    lab.engine.disconnect(native);
    assert_eq!(lab.evict(old, u64::MAX), 500);
    assert_eq!(lab.names(), [1, 3]);
    let refused = lab.create(old, 5, 501).unwrap_err();
    assert!(refused.detail.contains("of which 500 cannot be evicted (500 are pinned)"), "{}", refused.detail);
    lab.put(old, 5, 500);
    lab.put(old, 6, 500);
    assert_eq!((lab.names(), lab.listed_as_pinned(old)), (vec![1, 3, 6], vec![1, 3]));
}

#[test]
fn anybody_unpins_once_however_often_it_was_pinned() {
    let mut lab = lab(1000);
    let (one, other) = (lab.native(), lab.native());
    lab.put(one, 1, 600);
    lab.put(one, 2, 400);
    lab.pin(one, &[1]);
    lab.pin(one, &[1]);
    assert_eq!(lab.unpin(other, &[1]), [Ok(())]);
    assert_eq!(lab.unpin(other, &[1]), [Ok(())], "what is not pinned stays so");
    assert_eq!(lab.listed_as_pinned(one), [0_u8; 0]);
    // It is the youngest then, as if it had just been released.
    lab.put(one, 3, 400);
    assert_eq!(lab.names(), [1, 3]);
}

#[test]
fn a_pin_on_what_is_held_lasts_when_it_is_released() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.put(peer, 1, 600);
    lab.get(peer, &[1], 0);
    lab.pin(peer, &[1]);
    lab.release(peer, 1);
    assert_eq!(lab.evict(peer, u64::MAX), 0);
    lab.get(peer, &[1], 0);
    lab.unpin(peer, &[1]);
    assert_eq!(lab.evict(peer, u64::MAX), 0, "it is held");
    lab.release(peer, 1);
    assert_eq!(lab.evict(peer, u64::MAX), 600);
}

#[test]
fn all_are_pinned_or_none() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.put(peer, 1, 10);
    lab.create(peer, 2, 10).unwrap();
    let expected = [Ok(()), Err(Refusal::ObjectNotSealed), Err(Refusal::ObjectNotFound)];
    assert_eq!(lab.pin(peer, &[1, 2, 9]), expected);
    assert_eq!(lab.unpin(peer, &[1, 2, 9]), expected);
    assert_eq!(lab.listed_as_pinned(peer), [0_u8; 0]);
    assert_eq!(lab.pin(peer, &[]), []);
}

#[test]
fn delete_deletes_what_is_pinned() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.put(peer, 1, 10);
    lab.put(peer, 2, 10);
    lab.pin(peer, &[1, 2]);
    lab.get(peer, &[2], 0);
    assert_eq!(lab.delete(peer, &[1, 2]), [Ok(()), Err(Refusal::ObjectInUse)]);
    lab.release(peer, 2);
    lab.engine.disconnect(peer);
    lab.check_empty();
}

#[test]
fn a_pinned_object_leaves_its_quota_rather_than_the_store() {
    let mut lab = lab(1000);
    let (owner, other) = (lab.native(), lab.native());
    lab.ask(owner, Request::SetOptions { client_name: "owner".into(), quota: 500 });
    lab.put(owner, 1, 300);
    lab.pin(other, &[1]);
    lab.put(owner, 2, 400);
    assert_eq!(lab.names(), [1, 2]);
    assert_eq!((lab.figure("(owner) num objects"), lab.figure("(owner) num evictions")), (1, 1));
    lab.engine.disconnect(owner);
    assert_eq!(lab.evict(other, u64::MAX), 400);
    lab.unpin(other, &[1]);
    assert_eq!(lab.evict(other, u64::MAX), 300);
}

#[test]
fn the_time_to_live_runs_from_the_seal_on() {
    let mut lab = lab(1000);
    let peer = lab.native();
    let mut request = create_of(1, 100, 0);
    let Request::Create { ttl_ms, .. } = &mut request else { unreachable!() };
    *ttl_ms = 50;
    lab.create_with(peer, request).unwrap();
    lab.pass(1000);
    lab.calm_down();
    assert_eq!(lab.engine.next_deadline(), None);
    lab.seal(peer, 1).unwrap();
    lab.release(peer, 1);
    assert_eq!(lab.engine.next_deadline(), Some(lab.now.instant + Duration::from_millis(50)));
    lab.pass(49);
    assert!(lab.contains(peer, 1));
    lab.pass(1);
    lab.check_empty();
}

#[test]
fn at_its_end_an_object_goes_as_if_deleted() {
    let mut lab = lab(1000);
    let (peer, watcher) = (lab.native(), lab.old());
    lab.put_for(peer, 1, 100, 50);
    lab.subscribe(watcher, Request::Subscribe);
    assert_eq!(lab.effects().len(), 1, "it is there");
    lab.get(peer, &[1], 0);
    lab.pass(50);
    assert_eq!((lab.effects().len(), lab.names()), (0, vec![1]), "it is in use");
    lab.calm_down();
    assert_eq!(lab.engine.next_deadline(), None);
    lab.send(peer, Request::Release { id: id(1) });
    match lab.effects().as_slice() {
        [Effect::Notify { events, .. }] => assert_eq!(*events, [Event::Deleted { id: id(1) }]),
        other => panic!("{other:?}"),
    }
    lab.check_empty();
}

#[test]
fn a_name_that_is_used_again_begins_anew() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.put_for(peer, 1, 100, 50);
    lab.delete(peer, &[1]);
    lab.put(peer, 1, 100);
    lab.put_for(peer, 2, 100, u64::MAX);
    lab.pass(1_000_000);
    assert_eq!(lab.names(), [1, 2]);
}

#[test]
fn the_time_to_live_wins_over_a_pin() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.put_for(peer, 1, 100, 50);
    lab.pin(peer, &[1]);
    lab.pass(50);
    lab.check_empty();
}
