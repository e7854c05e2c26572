//! Get and release: what is there, what is waited for, and who holds it then.

use super::*;

#[test]
fn what_is_sealed_is_found_at_once_and_held() {
    let mut lab = lab(1000);
    let (maker, reader) = (lab.native(), lab.native());
    lab.put(maker, 1, 10);
    for timeout in [-1, 0, 1, 5000, -2, i64::MIN, i64::MAX] {
        assert_eq!(lab.get(reader, &[1], timeout), Some(vec![true]));
        assert_eq!(lab.holders(1), 1);
        lab.release(reader, 1);
        assert_eq!(lab.holders(1), 0);
    }
}

#[test]
fn without_time_a_get_gives_what_there_is() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.put(peer, 2, 10);
    lab.create(peer, 3, 10).unwrap();
    for timeout in [0, -2, -1000, i64::MIN] {
        assert_eq!(lab.get(peer, &[1, 2, 3, 2], timeout), Some(vec![false, true, false, true]));
    }
    assert_eq!(lab.get(peer, &[], -1), Some(vec![]));
    assert_eq!(lab.engine.next_deadline(), None);
}

#[test]
fn time_runs_out_with_a_partial_answer() {
    let mut lab = lab(1000);
    let peer = lab.old();
    lab.put(peer, 2, 10);
    assert_eq!(lab.get(peer, &[1, 2], 100), None);
    assert_eq!(lab.holders(2), 1, "what is there is held while the rest is waited for");
    lab.pass(99);
    assert_eq!(lab.replies(), []);
    lab.pass(1);
    assert_eq!(found_in(&lab.replies()[0], &[1, 2]), [false, true]);
    assert!(lab.engine.waiters.is_empty());
}

#[test]
fn waiting_has_no_end_with_minus_one_and_with_times_beyond_time() {
    let mut lab = lab(1000);
    let peer = lab.native();
    assert_eq!(lab.get(peer, &[1], -1), None);
    assert_eq!(lab.get(peer, &[1], i64::MAX), None);
    lab.pass(1_000_000_000);
    assert_eq!(lab.replies(), []);
    lab.put_and_expect_gets(peer, 1, 2);
}

impl Lab {
    /// Creates and seals; that many gets are answered before the seal is.
    fn put_and_expect_gets(&mut self, peer: PeerId, name: u8, gets: usize) {
        self.create(peer, name, 10).unwrap();
        let replies = self.ask(peer, Request::Seal { id: id(name), digest: [0; 8] });
        let (last, others) = replies.split_last().unwrap();
        assert_eq!(*last, Reply::Seal { id: id(name), outcome: Ok(()) });
        assert_eq!(others.len(), gets);
        assert!(others.iter().all(|reply| matches!(reply, Reply::Get { .. })));
    }
}

#[test]
fn a_seal_answers_those_who_wait_before_the_sealer_and_in_their_order() {
    let mut lab = lab(1000);
    let (maker, first, second) = (lab.native(), lab.old(), lab.native());
    let waiting = [(second, &[1][..]), (first, &[2, 1][..]), (second, &[1, 1][..])];
    let askers = waiting.map(|(peer, names)| lab.send(peer, Request::Get { ids: ids(names), timeout_ms: -1 }));
    lab.create(maker, 1, 10).unwrap();
    let sealer = lab.send(maker, Request::Seal { id: id(1), digest: [0; 8] });
    let order = |lab: &mut Lab| -> Vec<Asker> {
        let asker = |effect| match effect {
            Effect::Reply { to, .. } => to,
            other => panic!("{other:?}"),
        };
        lab.effects().into_iter().map(asker).collect()
    };
    assert_eq!(order(&mut lab), [askers[0], askers[2], sealer]);
    assert_eq!(lab.holders(1), 3);
    lab.create(maker, 2, 10).unwrap();
    let sealer = lab.send(maker, Request::Seal { id: id(2), digest: [0; 8] });
    assert_eq!(order(&mut lab), [askers[1], sealer]);
}

#[test]
fn duplicates_are_waited_for_once_and_answered_as_often_as_asked() {
    let mut lab = lab(1000);
    let peer = lab.old();
    lab.put(peer, 1, 10);
    assert_eq!(lab.get(peer, &[1, 1, 2], 10), None, "two of the same are not two");
    assert_eq!(lab.get(peer, &[2, 2], -1), None);
    lab.create(peer, 2, 10).unwrap();
    let replies = lab.ask(peer, Request::Seal { id: id(2), digest: [0; 8] });
    assert_eq!(found_in(&replies[0], &[1, 1, 2]), [true; 3]);
    assert_eq!(found_in(&replies[1], &[2, 2]), [true; 2]);
    lab.engine.disconnect(peer);
    lab.pass(1000);
    assert_eq!(lab.replies(), []);
}

#[test]
fn an_old_client_holds_an_object_once_and_a_native_one_as_often_as_it_got_it() {
    let mut lab = lab(1000);
    let (old, native) = (lab.old(), lab.native());
    lab.put(native, 1, 10);
    for peer in [old, native] {
        for _ in 0..3 {
            lab.get(peer, &[1, 1], 0);
        }
    }
    assert_eq!(lab.holders(1), 2, "connections are counted");
    lab.release(old, 1);
    lab.release(native, 1);
    lab.release(native, 1);
    assert_eq!(lab.holders(1), 1);
    lab.release(native, 1);
    assert_eq!(lab.holders(1), 0);
}

#[test]
fn releasing_what_is_not_held_changes_nothing() {
    let mut lab = lab(1000);
    let (maker, other) = (lab.native(), lab.old());
    lab.create(maker, 1, 10).unwrap();
    for peer in [maker, other] {
        lab.release(peer, 1);
        lab.release(peer, 99);
    }
    assert_eq!(lab.holders(1), 1, "an unsealed object is not released");
    lab.seal(maker, 1).unwrap();
    lab.release(other, 1);
    assert_eq!(lab.holders(1), 1);
    lab.release(maker, 1);
    lab.release(maker, 1);
    assert_eq!(lab.holders(1), 0);
}

#[test]
fn a_cancelled_get_is_answered_as_it_stands() {
    let mut lab = lab(1000);
    let (peer, other) = (lab.native(), lab.native());
    lab.put(peer, 1, 10);
    let waits = |lab: &mut Lab| lab.send(peer, Request::Get { ids: ids(&[1, 2]), timeout_ms: -1 });
    let (first, second) = (waits(&mut lab), waits(&mut lab));
    for (canceller, number) in [(other, first.number), (peer, 12345), (peer, u64::MAX)] {
        assert_eq!(lab.ask(canceller, Request::Cancel { number }), [], "a cancel of nothing");
    }
    lab.send(peer, Request::Cancel { number: second.number });
    match lab.effects().as_slice() {
        [Effect::Reply { to, reply }] if *to == second => assert_eq!(found_in(reply, &[1, 2]), [true, false]),
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(lab.ask(peer, Request::Cancel { number: second.number }), []);
    assert_eq!(lab.ask(peer, Request::Cancel { number: first.number }).len(), 1);
    assert!(lab.engine.waiters.is_empty());
}

#[test]
fn expired_gets_are_answered_in_the_order_of_their_times() {
    let mut lab = lab(1000);
    let peer = lab.native();
    let askers = [300, 100, 200, 100].map(|ms| lab.send(peer, Request::Get { ids: ids(&[1]), timeout_ms: ms }));
    assert_eq!(lab.engine.next_deadline(), Some(lab.now.instant + Duration::from_millis(100)));
    lab.pass(250);
    let answered: Vec<_> =
        lab.effects().iter().map(|e| if let Effect::Reply { to, .. } = e { *to } else { askers[0] }).collect();
    assert_eq!(answered, [askers[1], askers[3], askers[2]]);
    assert_eq!(lab.engine.next_deadline(), Some(lab.now.instant + Duration::from_millis(50)));
}

#[test]
fn what_a_peer_may_have_waiting_is_bounded() {
    let mut lab = lab(1000);
    let (many, long, healthy) = (lab.native(), lab.native(), lab.native());
    for _ in 0..MAX_WAITING.gets {
        lab.send(many, Request::Get { ids: ids(&[1]), timeout_ms: -1 });
    }
    let reason = lab.ask_and_be_closed(many, Request::Get { ids: ids(&[1]), timeout_ms: -1 });
    assert!(reason.contains(&MAX_WAITING.gets.to_string()), "{reason}");
    lab.engine.disconnect(many); // not quadratic: the watchdog of this test is the reader's patience
    let too_many = Request::Get { ids: vec![id(1); MAX_WAITING.ids + 1], timeout_ms: -1 };
    let reason = lab.ask_and_be_closed(long, too_many);
    assert!(reason.contains(&(MAX_WAITING.ids + 1).to_string()), "{reason}");
    lab.engine.disconnect(long);
    assert_eq!(lab.get(healthy, &[1], -1), None);
    lab.put_and_expect_gets(healthy, 1, 1);
    assert!(lab.engine.waiters.is_empty());
}
