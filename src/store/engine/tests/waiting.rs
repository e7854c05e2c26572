//! Creates that wait for room: what ends the waiting, in what order, and what a full store says.

use super::*;

fn waiting(name: u8, size: i64, wait: i64) -> Request {
    let mut request = create_of(name, size, 0);
    let Request::Create { wait_ms, .. } = &mut request else { unreachable!() };
    *wait_ms = wait;
    request
}

impl Lab {
    /// A store of 1000 bytes, of which this peer holds 900 as object 1.
    fn nearly_full() -> (Self, PeerId) {
        let mut lab = lab(1000);
        let holder = lab.native();
        lab.create(holder, 1, 900).unwrap();
        lab.seal(holder, 1).unwrap();
        (lab, holder)
    }

    /// Asks for a create that has to wait.
    fn wait_for(&mut self, peer: PeerId, name: u8, size: i64, wait: i64) -> Asker {
        let asker = self.send(peer, waiting(name, size, wait));
        self.work();
        assert_eq!(self.replies(), []);
        asker
    }

    /// Which creates were answered since the last call, after all work is done.
    fn created(&mut self) -> Vec<(u8, Option<Refusal>)> {
        self.work();
        let create = |reply| match reply {
            Reply::Create { id, outcome, .. } => (id.as_bytes()[0], outcome.err().map(|refused| refused.refusal)),
            other => panic!("{other:?}"),
        };
        let replies = self.replies().into_iter();
        replies.filter(|reply| matches!(reply, Reply::Create { .. })).map(create).collect()
    }

    fn full(&mut self, peer: PeerId, size: i64) -> String {
        self.create(peer, 99, size).unwrap_err().detail
    }
}

const FULL: Option<Refusal> = Some(Refusal::OutOfMemory);

#[test]
fn a_release_lets_the_next_one_in() {
    let (mut lab, holder) = Lab::nearly_full();
    let peer = lab.native();
    lab.wait_for(peer, 2, 500, -1);
    assert!(!lab.engine.has_work() && lab.engine.next_deadline().is_none(), "waiting costs nothing");
    lab.send(holder, Request::Release { id: id(1) });
    assert_eq!(lab.created(), [(2, None)]);
    assert_eq!(lab.names(), [2], "the other was evicted then, and not before");
    lab.seal(peer, 2).unwrap();
}

/// A create of 500 bytes waits, and what `free` does to the object of 900 lets it in.
fn lets_in(free: impl Fn(&mut Lab, PeerId)) {
    let (mut lab, holder) = Lab::nearly_full();
    let peer = lab.native();
    lab.wait_for(peer, 2, 500, -1);
    free(&mut lab, holder);
    assert_eq!(lab.created(), [(2, None)]);
}

#[test]
fn a_delete_an_unpin_and_the_end_of_a_holder_let_in() {
    lets_in(|lab, holder| lab.engine.disconnect(holder));
    lets_in(|lab, holder| {
        assert_eq!(lab.delete(holder, &[1]), [Err(Refusal::ObjectInUse)]);
        lab.send(holder, Request::Release { id: id(1) });
    });
    lets_in(|lab, holder| {
        lab.ask(holder, Request::Pin { ids: ids(&[1]), pinned: true });
        lab.release(holder, 1);
        assert_eq!(lab.created(), [], "it is pinned");
        lab.send(holder, Request::Pin { ids: ids(&[1]), pinned: false });
    });
}

#[test]
fn an_abort_and_the_end_of_a_time_let_in() {
    let mut lab = lab(1000);
    let (holder, peer) = (lab.native(), lab.native());
    lab.create(holder, 1, 900).unwrap();
    lab.wait_for(peer, 2, 500, -1);
    lab.send(holder, Request::Abort { id: id(1) });
    assert_eq!(lab.created(), [(2, None)]);
    lab.ask(peer, Request::Abort { id: id(2) });
    let mut request = create_of(3, 900, 0);
    let Request::Create { ttl_ms, .. } = &mut request else { unreachable!() };
    *ttl_ms = 5;
    lab.create_with(holder, request).unwrap();
    lab.seal(holder, 3).unwrap();
    lab.release(holder, 3);
    lab.ask(holder, Request::Pin { ids: ids(&[3]), pinned: true });
    lab.wait_for(peer, 4, 500, -1);
    lab.pass(5);
    assert_eq!(lab.created(), [(4, None)]);
}

#[test]
fn time_runs_out_with_full() {
    let (mut lab, _) = Lab::nearly_full();
    let peer = lab.native();
    lab.wait_for(peer, 2, 500, 100);
    lab.wait_for(peer, 3, 500, -1);
    lab.wait_for(peer, 4, 500, i64::MAX);
    lab.pass(99);
    assert_eq!(lab.created(), []);
    lab.pass(1);
    assert_eq!(lab.created(), [(2, FULL)]);
    lab.engine.disconnect(peer);
    assert!(lab.engine.queue.is_clean());
}

#[test]
fn whoever_came_first_is_served_first() {
    let (mut lab, holder) = Lab::nearly_full();
    let (one, other) = (lab.native(), lab.native());
    lab.wait_for(one, 2, 500, -1);
    // This one would fit, and waits behind.
    lab.wait_for(other, 3, 50, 10);
    lab.wait_for(other, 4, 500, -1);
    lab.wait_for(one, 5, 10, -1);
    lab.pass(10);
    assert_eq!(lab.created(), [(3, None)], "its time is over: it is tried as if it had not waited");
    lab.send(holder, Request::Release { id: id(1) });
    assert_eq!(lab.created(), [(2, None)]);
    lab.send(one, Request::Abort { id: id(2) });
    assert_eq!(lab.created(), [(4, None), (5, None)]);
}

#[test]
fn who_does_not_wait_passes_but_not_for_ever() {
    let (mut lab, holder) = Lab::nearly_full();
    let (peer, old) = (lab.native(), lab.old());
    lab.wait_for(peer, 2, 500, -1);
    for _ in 0..10 {
        lab.create(old, 3, 100).unwrap();
        lab.send(old, Request::Abort { id: id(3) });
        assert_eq!(lab.created(), []);
    }
    let refused = lab.full(old, 1);
    assert!(refused.contains("creates that wait for room: 1"), "{refused}");
    lab.create(old, 3, 0).unwrap();
    // As long as pins leave too little for the first one, the others are not kept waiting.
    lab.ask(holder, Request::Pin { ids: ids(&[1]), pinned: true });
    lab.create(old, 4, 100).unwrap();
    lab.ask(holder, Request::Pin { ids: ids(&[1]), pinned: false });
    lab.ask(old, Request::Abort { id: id(4) });
    lab.full(old, 1);
    lab.send(holder, Request::Release { id: id(1) });
    assert_eq!(lab.created(), [(2, None)]);
    lab.create(old, 5, 500).unwrap();
}

#[test]
fn what_can_never_be_fails_at_once() {
    let (mut lab, _) = Lab::nearly_full();
    let (peer, old) = (lab.native(), lab.old());
    let refusal = |lab: &mut Lab, peer, request| lab.create_with(peer, request).unwrap_err().refusal;
    assert_eq!(refusal(&mut lab, peer, waiting(2, 1001, -1)), Refusal::OutOfMemory);
    assert_eq!(refusal(&mut lab, peer, waiting(2, -1, -1)), Refusal::OutOfMemory);
    assert_eq!(refusal(&mut lab, peer, waiting(1, 10, -1)), Refusal::ObjectExists);
    assert_eq!(refusal(&mut lab, peer, waiting(2, 500, -2)), Refusal::OutOfMemory);
    assert_eq!(refusal(&mut lab, old, waiting(2, 500, -1)), Refusal::OutOfMemory, "old clients never wait");
    lab.ask(peer, Request::SetOptions { client_name: "p".into(), quota: 400 });
    assert!(lab.create_with(peer, waiting(2, 401, -1)).unwrap_err().detail.contains("quota of 400"));
}

#[test]
fn a_name_that_is_taken_meanwhile_is_told_when_its_turn_comes() {
    let (mut lab, _) = Lab::nearly_full();
    let (peer, other) = (lab.native(), lab.native());
    lab.wait_for(peer, 2, 500, -1);
    lab.wait_for(peer, 3, 100, -1);
    lab.send(other, create_of(2, 50, 0));
    assert_eq!(lab.created(), [(2, None), (2, Some(Refusal::ObjectExists))]);
    lab.send(other, Request::Abort { id: id(2) });
    assert_eq!(lab.created(), [(3, None)]);
}

#[test]
fn a_create_that_may_not_evict_waits_for_what_is_free() {
    let mut lab = lab(1000);
    let (peer, other) = (lab.native(), lab.native());
    lab.put(other, 1, 900);
    let mut request = waiting(2, 500, -1);
    let Request::Create { evict_if_full, .. } = &mut request else { unreachable!() };
    *evict_if_full = false;
    lab.send(peer, request);
    assert_eq!(lab.created(), []);
    lab.delete_and_expect(other, 1, 2);
}

impl Lab {
    fn delete_and_expect(&mut self, peer: PeerId, deleted: u8, created: u8) {
        self.send(peer, Request::Delete { ids: ids(&[deleted]) });
        assert_eq!(self.created(), [(created, None)]);
    }
}

#[test]
fn a_cancelled_create_leaves_nothing_wherever_it_is() {
    let (mut lab, holder) = Lab::nearly_full();
    let peer = lab.native();
    let first = lab.wait_for(peer, 2, 500, -1);
    lab.wait_for(peer, 3, 100, -1);
    // Only who asked cancels.
    lab.send(holder, Request::CancelCreate { number: first.number, id: id(2) });
    assert_eq!(lab.created(), []);
    lab.send(peer, Request::CancelCreate { number: first.number, id: id(2) });
    assert_eq!(lab.created(), [(2, FULL), (3, None)]);
    // Answered already, and then sealed: a later create of the same name is another one's.
    let asker = lab.send(peer, waiting(4, 0, -1));
    assert_eq!(lab.created(), [(4, None)]);
    lab.send(peer, Request::CancelCreate { number: asker.number + 1, id: id(4) });
    assert_eq!(lab.names(), [1, 3, 4]);
    lab.send(peer, Request::CancelCreate { number: asker.number, id: id(4) });
    assert_eq!((lab.created(), lab.names()), (vec![], vec![1, 3]));
    let asker = lab.send(peer, waiting(5, 0, -1));
    lab.send(peer, Request::Seal { id: id(5), digest: [0; 8] });
    lab.send(peer, Request::CancelCreate { number: asker.number, id: id(5) });
    assert_eq!(lab.created(), [(5, None)]);
    assert_eq!(lab.names(), [1, 3, 5]);
}

#[test]
fn a_create_is_cancelled_while_its_pages_are_allocated() {
    let mut lab = lab(64 << 20);
    let peer = lab.native();
    let asker = lab.send(peer, waiting(1, 64 << 20, -1));
    assert!(lab.engine.has_work());
    lab.send(peer, Request::CancelCreate { number: asker.number, id: id(1) });
    assert_eq!(lab.created(), [(1, FULL)]);
    lab.check_empty();
}

#[test]
fn whoever_leaves_the_queue_makes_way() {
    let (mut lab, _) = Lab::nearly_full();
    let (peer, other) = (lab.native(), lab.native());
    lab.wait_for(peer, 2, 500, -1);
    lab.wait_for(other, 3, 100, -1);
    lab.engine.disconnect(peer);
    assert_eq!(lab.created(), [(3, None)]);
}

#[test]
fn too_many_creates_that_wait_end_the_connection() {
    let (mut lab, _) = Lab::nearly_full();
    let peer = lab.native();
    for _ in 0..MAX_WAITING.gets {
        lab.send(peer, waiting(2, 500, -1));
    }
    let reason = lab.ask_and_be_closed(peer, waiting(2, 500, -1));
    assert!(reason.contains("65536 creates"), "{reason}");
    lab.engine.disconnect(peer);
    assert!(lab.engine.queue.is_clean());
}

#[test]
fn full_says_who_has_what() {
    let mut lab = lab(1000);
    let (big, small) = (lab.native(), lab.old());
    lab.put(big, 1, 100);
    lab.put(big, 2, 50);
    lab.ask(big, Request::Pin { ids: ids(&[2]), pinned: true });
    lab.create(big, 3, 400).unwrap();
    lab.create(small, 4, 200).unwrap();
    let expected = "an object of 351 bytes does not fit: capacity 1000, used 750, of which 650 cannot be evicted \
                    (50 are pinned), largest free extent ";
    let text = lab.full(small, 351);
    assert!(text.starts_with(expected) && text.ends_with(", client 0 holds most: 400 bytes"), "{text}");
    lab.engine.name_process(big, "process 42 (trainer)".into());
    assert!(lab.full(small, 351).ends_with(", process 42 (trainer) holds most: 400 bytes"));
    lab.engine.disconnect(big);
    lab.engine.disconnect(small);
    let peer = lab.native();
    lab.ask(peer, Request::Evict { bytes: u64::MAX });
    assert!(!lab.full(peer, 1001).contains("holds most"), "nobody does");
}
