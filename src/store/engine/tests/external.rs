//! An external store behind the engine: what is evicted leaves, what is got comes back, and whatever fails or is slow in between.

use super::*;

/// A lab whose evicted objects go to an external store, which the test plays.
fn spilling(limit: u64) -> Lab {
    let pages = FakePages::default();
    let engine = Engine::new(limit, pages.clone()).unwrap().with_external_store();
    Lab::new(engine, pages)
}

fn failed() -> Result<()> {
    Err(Error::Unsupported("the disk is full".into()))
}

impl Lab {
    /// Takes the effects: the jobs that were ordered, and the answers.
    pub(super) fn jobs(&mut self) -> (Vec<Job>, Vec<Reply>) {
        let (mut jobs, mut replies) = (Vec::new(), Vec::new());
        for effect in self.effects() {
            match effect {
                Effect::External(job) => jobs.push(job),
                Effect::Reply { reply, .. } => replies.push(reply),
                other => panic!("{other:?}"),
            }
        }
        (jobs, replies)
    }

    /// Hands a request in that has one job for the external store, and no answer yet.
    pub(super) fn order(&mut self, peer: PeerId, request: Request) -> Job {
        self.send(peer, request);
        self.work();
        let (jobs, replies) = self.jobs();
        assert!(jobs.len() == 1 && replies.is_empty(), "{jobs:?} {replies:?}");
        jobs[0]
    }

    /// Ends a job, and returns what follows.
    pub(super) fn done(&mut self, job: Job, outcome: Result<()>) -> (Vec<Job>, Vec<Reply>) {
        self.engine.job_done(job.number, outcome);
        self.work();
        self.jobs()
    }

    /// Puts an object and sends it to the external store.
    fn put_away(&mut self, peer: PeerId, name: u8, size: i64) {
        self.put(peer, name, size);
        let job = self.order(peer, Request::Evict { bytes: 1 });
        assert!(matches!(job.work, Work::Put(_)) && job.id == id(name), "{job:?}");
        let (jobs, replies) = self.done(job, Ok(()));
        assert_eq!((jobs, replies), (vec![], vec![Reply::Evict { bytes: size as u64 }]));
    }

    fn get_of(&mut self, peer: PeerId, name: u8) -> Job {
        self.order(peer, Request::Get { ids: ids(&[name]), timeout_ms: -1 })
    }
}

fn created(replies: &[Reply]) -> Vec<bool> {
    let outcome = |reply: &Reply| match reply {
        Reply::Create { outcome, .. } => outcome.is_ok(),
        other => panic!("{other:?}"),
    };
    replies.iter().map(outcome).collect()
}

#[test]
fn what_is_evicted_is_written_before_its_room_is_used_and_comes_back_as_it_was() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.create_with(peer, create_of(1, 590, 10)).unwrap();
    lab.now.unix_seconds += 5;
    lab.seal(peer, 1).unwrap();
    lab.release(peer, 1);
    let list = |lab: &mut Lab| match lab.ask(peer, Request::List).as_slice() {
        [Reply::List { objects }] => objects.iter().find(|info| info.id == id(1)).cloned().unwrap(),
        other => panic!("{other:?}"),
    };
    let before = list(&mut lab);
    let job = lab.order(peer, create_of(2, 900, 0));
    let Work::Put(place) = job.work else { panic!("{job:?}") };
    assert_eq!((job.id, place.data_size, place.metadata_size, lab.used()), (id(1), 590, 10, 600));
    let (jobs, replies) = lab.done(job, Ok(()));
    assert_eq!((jobs, created(&replies)), (vec![], vec![true]));
    assert_eq!(lab.used(), 900);
    assert!(lab.contains(peer, 1));
    assert_eq!(list(&mut lab), before);
    assert_eq!(lab.create(peer, 1, 10).unwrap_err().refusal, Refusal::ObjectExists);

    lab.seal(peer, 2).unwrap();
    lab.release(peer, 2);
    // It needs room itself: object 2 leaves for it.
    let job = lab.get_of(peer, 1);
    assert_eq!(job.id, id(2));
    let (jobs, _) = lab.done(job, Ok(()));
    let [Job { id: fetched, work: Work::Get(place), .. }] = jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((fetched, place.data_size, place.metadata_size), (id(1), 590, 10));
    let (_, replies) = lab.done(jobs[0], Ok(()));
    assert!(matches!(&replies[..], [Reply::Get { locations, .. }] if *locations == [Some(place)]), "{replies:?}");
    assert_eq!(list(&mut lab), crate::object::ObjectInfo { ref_count: 1, ..before });
}

#[test]
fn large_objects_are_gathered_in_huge_pages_again_when_they_are_back() {
    let mut lab = spilling(10 << 20);
    let peer = lab.native();
    lab.put_away(peer, 1, HUGE_PAGE as i64);
    assert_eq!(lab.gathered.len(), 1);
    let job = lab.get_of(peer, 1);
    let Work::Get(place) = job.work else { panic!("{job:?}") };
    assert_eq!(lab.gathered.len(), 1, "not before it is there");
    lab.done(job, Ok(()));
    assert_eq!(lab.gathered[1..], [place]);
}

#[test]
fn what_was_written_once_need_not_be_written_again() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put_away(peer, 1, 600);
    let job = lab.get_of(peer, 1);
    lab.done(job, Ok(()));
    lab.release(peer, 1);
    assert_eq!(lab.ask(peer, Request::Evict { bytes: 1 }), [Reply::Evict { bytes: 600 }]);
    assert_eq!(lab.used(), 0);
    assert!(lab.contains(peer, 1));
}

#[test]
fn an_object_that_leaves_is_got_held_and_stays_then() {
    let mut lab = spilling(1000);
    let (peer, reader) = (lab.native(), lab.old());
    lab.put(peer, 1, 600);
    let job = lab.order(peer, create_of(2, 600, 0));
    assert_eq!(lab.get(reader, &[1], 0), Some(vec![true]));
    // The write succeeds, but there is no room: the reader has it.
    let (jobs, replies) = lab.done(job, Ok(()));
    assert_eq!((jobs, created(&replies)), (vec![], vec![false]));
    assert_eq!((lab.used(), lab.holders(1)), (600, 1));
    lab.release(reader, 1);
    lab.create(peer, 2, 600).unwrap();
    assert_eq!(lab.used(), 600, "it was written already, so it goes at once");
}

#[test]
fn what_is_got_and_released_on_its_way_out_leaves_all_the_same() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put(peer, 1, 600);
    let job = lab.order(peer, Request::Evict { bytes: 1 });
    assert_eq!(lab.get(peer, &[1], 0), Some(vec![true]));
    lab.release(peer, 1);
    assert_eq!(lab.done(job, Ok(())).1, [Reply::Evict { bytes: 600 }]);
    assert_eq!(lab.used(), 0);
}

#[test]
fn an_object_deleted_on_its_way_out_is_gone_everywhere_but_its_room_waits() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put(peer, 1, 600);
    let put = lab.order(peer, create_of(2, 900, 0));
    lab.send(peer, Request::Delete { ids: ids(&[1]) });
    let (jobs, replies) = lab.jobs();
    assert!(matches!(jobs[..], [Job { work: Work::Delete, .. }]) && jobs[0].id == id(1));
    assert_eq!(replies, [Reply::Delete { ids: ids(&[1]), outcomes: vec![Ok(())] }]);
    assert!(!lab.contains(peer, 1));
    assert_eq!(lab.used(), 600, "it is still being read");
    // The name is free at once, and the next object of that name is another one.
    lab.create(peer, 1, 50).unwrap();
    assert_eq!(created(&lab.done(put, Ok(())).1), [true]);
    assert_eq!(lab.used(), 950);
    lab.engine.disconnect(peer);
    lab.check_empty();
}

#[test]
fn what_is_deleted_outside_is_gone_there_too() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put_away(peer, 1, 600);
    lab.send(peer, Request::Delete { ids: ids(&[1]) });
    let (jobs, replies) = lab.jobs();
    assert!(matches!(jobs[..], [Job { work: Work::Delete, .. }]) && jobs[0].id == id(1), "{jobs:?}");
    assert_eq!(replies, [Reply::Delete { ids: ids(&[1]), outcomes: vec![Ok(())] }]);
    assert_eq!(lab.get(peer, &[1], 0), Some(vec![false]));
    lab.check_empty();
}

#[test]
fn an_object_deleted_on_its_way_back_goes_with_its_last_holder() {
    for somebody_stays in [true, false] {
        let mut lab = spilling(1000);
        let (peer, reader) = (lab.native(), lab.native());
        lab.put_away(peer, 1, 600);
        let get = lab.get_of(reader, 1);
        assert_eq!(lab.delete(peer, &[1]), [Err(Refusal::ObjectInUse)]);
        if !somebody_stays {
            lab.engine.disconnect(reader);
        }
        let (jobs, replies) = lab.done(get, Ok(()));
        if somebody_stays {
            assert!(jobs.is_empty() && found_in(&replies[0], &[1]) == [true]);
            lab.send(reader, Request::Release { id: id(1) });
        }
        let jobs = if somebody_stays { lab.jobs().0 } else { jobs };
        assert!(matches!(jobs[..], [Job { work: Work::Delete, .. }]), "{jobs:?}");
        lab.check_empty();
    }
}

#[test]
fn a_write_that_fails_keeps_the_object_and_refuses_the_create_with_the_reason() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put(peer, 1, 600);
    lab.put(peer, 2, 300);
    let job = lab.order(peer, create_of(3, 500, 0));
    assert_eq!(job.id, id(1));
    let (jobs, replies) = lab.done(job, failed());
    assert!(jobs.is_empty(), "nobody else goes for it: {jobs:?}");
    let [Reply::Create { outcome: Err(refused), .. }] = &replies[..] else { panic!("{replies:?}") };
    assert!(refused.detail.contains("the disk is full") && refused.detail.contains("500"), "{}", refused.detail);
    assert_eq!(lab.names(), [1, 2]);
    assert_eq!(lab.get(peer, &[1], 0), Some(vec![true]));
    lab.release(peer, 1);
    // It is at the young end now, so the next create tries another.
    assert_eq!(lab.order(peer, create_of(3, 300, 0)).id, id(2));
}

#[test]
fn an_evict_is_answered_when_the_bytes_are_free_with_those_that_are() {
    let mut lab = spilling(1000);
    let peer = lab.old();
    (1..=3).for_each(|name| lab.put(peer, name, 100));
    lab.send(peer, Request::Evict { bytes: 300 });
    let (jobs, replies) = lab.jobs();
    assert_eq!((jobs.len(), replies), (3, vec![]));
    assert!(lab.done(jobs[0], Ok(())).1.is_empty());
    assert!(lab.done(jobs[2], failed()).1.is_empty());
    assert_eq!(lab.done(jobs[1], Ok(())).1, [Reply::Evict { bytes: 200 }]);
    assert_eq!(lab.used(), 100);
}

#[test]
fn a_read_that_fails_ends_the_gets_and_keeps_the_object_outside() {
    let mut lab = spilling(1000);
    let (peer, other) = (lab.native(), lab.native());
    lab.put(peer, 2, 100);
    lab.get(other, &[2], 0);
    lab.put_away(peer, 1, 600);
    let get = lab.order(peer, Request::Get { ids: ids(&[2, 1]), timeout_ms: -1 });
    assert!(matches!(get.work, Work::Get(_)));
    assert_eq!(lab.get(other, &[1], 0), None, "a second get waits for the same read");
    let (_, replies) = lab.done(get, failed());
    assert_eq!(found_in(&replies[0], &[2, 1]), [true, false]);
    assert_eq!(found_in(&replies[1], &[1]), [false]);
    assert!(lab.contains(peer, 1));
    assert_eq!(lab.used(), 100);
    // The next try may succeed.
    let get = lab.get_of(other, 1);
    let (_, replies) = lab.done(get, Ok(()));
    assert_eq!(found_in(&replies[0], &[1]), [true]);
}

#[test]
fn a_get_without_patience_waits_for_what_is_outside_and_for_nothing_else() {
    for timeout_ms in [0, -5] {
        let mut lab = spilling(1000);
        let peer = lab.old();
        lab.put_away(peer, 1, 600);
        let get = lab.order(peer, Request::Get { ids: ids(&[1, 9, 1]), timeout_ms });
        lab.pass(1000);
        assert!(lab.effects().is_empty());
        let (_, replies) = lab.done(get, Ok(()));
        assert_eq!(found_in(&replies[0], &[1, 9, 1]), [true, false, true]);
        assert_eq!(lab.get(peer, &[9], timeout_ms), Some(vec![false]));
    }
}

#[test]
fn a_get_whose_time_is_over_does_not_wait_and_the_object_comes_all_the_same() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put_away(peer, 1, 600);
    let get = lab.order(peer, Request::Get { ids: ids(&[1]), timeout_ms: 50 });
    lab.pass(50);
    assert_eq!(found_in(&lab.replies()[0], &[1]), [false]);
    assert!(lab.done(get, Ok(())).1.is_empty());
    assert_eq!(lab.get(peer, &[1], 0), Some(vec![true]));
}

#[test]
fn a_get_that_finds_no_room_ends_and_the_next_may_find_some() {
    let mut lab = spilling(1000);
    let (peer, holder) = (lab.native(), lab.native());
    lab.put_away(peer, 1, 600);
    lab.create(holder, 2, 600).unwrap();
    assert_eq!(lab.get(peer, &[1], -1), Some(vec![false]));
    lab.engine.disconnect(holder);
    let get = lab.get_of(peer, 1);
    let (_, replies) = lab.done(get, Ok(()));
    assert_eq!(found_in(&replies[0], &[1]), [true]);
}

#[test]
fn whoever_leaves_meanwhile_leaves_nothing() {
    let mut lab = spilling(2000);
    let (peer, stayer) = (lab.native(), lab.native());
    lab.put_away(stayer, 1, 600);
    lab.put(stayer, 2, 1500);
    let put = lab.order(peer, Request::Evict { bytes: 1 });
    let inline =
        Request::CreateAndSeal { id: id(4), evict_if_full: true, data: vec![4; 550], metadata: vec![], digest: [0; 8] };
    for request in [create_of(3, 600, 0), Request::Get { ids: ids(&[1]), timeout_ms: -1 }, inline] {
        assert_eq!(lab.ask(peer, request), []);
    }
    assert_eq!((lab.engine.external.line.len(), lab.engine.external.promised), (3, 1750));
    lab.engine.disconnect(peer);
    let (jobs, replies) = lab.done(put, Ok(()));
    assert!(replies.is_empty(), "{replies:?}");
    // What began to return does so, for whoever comes next.
    let [Job { work: Work::Get(_), .. }] = jobs[..] else { panic!("{jobs:?}") };
    lab.done(jobs[0], Ok(()));
    assert_eq!(lab.names(), [1, 2]);
    assert_eq!(lab.get(stayer, &[1], 0), Some(vec![true]));
    assert_eq!(lab.engine.external.promised, 0);
}

#[test]
fn only_those_who_need_the_room_wait_and_they_do_so_in_their_order() {
    let mut lab = spilling(1000);
    let (one, two, three) = (lab.native(), lab.old(), lab.native());
    lab.put(one, 1, 800);
    let put = lab.order(one, create_of(2, 700, 0));
    // 200 bytes are free, but 700 more are promised; 100 fit beside.
    lab.create(three, 4, 100).unwrap();
    assert!(lab.ask(two, create_of(3, 200, 0)).is_empty());
    assert!(lab.contains(three, 1), "others are served meanwhile");
    assert!(lab.create(three, 5, 800).is_err(), "what would not fit afterwards is refused at once");
    let (jobs, replies) = lab.done(put, Ok(()));
    assert!(jobs.is_empty());
    let names: Vec<_> =
        replies.iter().map(|reply| if let Reply::Create { id, .. } = reply { *id } else { id(0) }).collect();
    assert_eq!((names, created(&replies)), (ids(&[2, 3]), vec![true, true]));
    assert_eq!(lab.used(), 1000);
}

#[test]
fn whole_objects_wait_and_are_made_all_at_once_or_not_at_all() {
    for outcome in [true, false] {
        let mut lab = spilling(1000);
        let peer = lab.native();
        lab.put(peer, 1, 500);
        lab.put(peer, 2, 500);
        let object = |name| InlineObject { id: id(name), data: vec![name; 300], metadata: vec![], digest: [0; 8] };
        lab.send(peer, Request::CreateAndSealBatch { objects: vec![object(3), object(4)], evict_if_full: true });
        let (jobs, replies) = lab.jobs();
        assert_eq!((jobs.len(), replies), (2, vec![]), "for all of them at once");
        assert!(lab.done(jobs[0], Ok(())).1.is_empty());
        let (_, replies) = lab.done(jobs[1], if outcome { Ok(()) } else { failed() });
        let [Reply::CreateAndSealBatch { outcome: made, id: None }] = &replies[..] else { panic!("{replies:?}") };
        let expected = if outcome { None } else { Some(Refusal::OutOfMemory) };
        assert_eq!(made.as_ref().err().map(|refused| refused.refusal), expected);
        assert_eq!(lab.names(), if outcome { vec![1, 2, 3, 4] } else { vec![1, 2] });
        lab.check();
    }
}

#[test]
fn bytes_that_wait_with_their_requests_are_bounded() {
    let most: usize = 64 << 20;
    let mut lab = spilling(1 << 30);
    let peer = lab.native();
    lab.put(peer, 1, 1 << 30);
    let inline = |name, size| Request::CreateAndSeal {
        id: id(name),
        evict_if_full: true,
        data: vec![0; size],
        metadata: vec![],
        digest: [0; 8],
    };
    let put = lab.order(peer, inline(2, most));
    assert_eq!(lab.ask(peer, inline(3, 1)), [Reply::CreateAndSeal { outcome: Err(Refusal::OutOfMemory) }]);
    let other = lab.native();
    assert_eq!(lab.ask(other, inline(4, 1)), [], "another peer has its own");
    assert_eq!(lab.done(put, Ok(())).1.len(), 2);
    assert_eq!(lab.ask(peer, inline(3, 1)).len(), 1);
}

#[test]
fn what_has_no_bytes_stays_and_who_has_no_right_to_evict_is_refused_at_once() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put(peer, 1, 0);
    lab.put(peer, 2, 1000);
    let polite = Request::Create {
        id: id(3),
        data_size: 10,
        metadata_size: 0,
        evict_if_full: false,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    };
    assert!(lab.create_with(peer, polite.clone()).is_err());
    let put = lab.order(peer, Request::Evict { bytes: u64::MAX });
    assert_eq!(put.id, id(2));
    assert!(lab.create_with(peer, polite).is_err(), "it does not wait either");
    assert_eq!(lab.done(put, Ok(())).1, [Reply::Evict { bytes: 1000 }]);
    assert_eq!(lab.ask(peer, Request::Evict { bytes: u64::MAX }), [Reply::Evict { bytes: 0 }]);
    assert_eq!(lab.get(peer, &[1], 0), Some(vec![true]));
}

#[test]
fn shortage_of_pages_waits_for_writes_too() {
    for outcome in [true, false] {
        let mut lab = spilling(100 << 20);
        let peer = lab.native();
        lab.put_away(peer, 1, 20 << 20);
        lab.put(peer, 2, 30 << 20);
        let next = lab.pages.0.borrow().calls + 1;
        // Each time once, and once more after free pages were given back.
        lab.pages.0.borrow_mut().failures = next..next + if outcome { 2 } else { 4 };
        let put = lab.order(peer, create_of(3, 60 << 20, 0));
        assert_eq!(put.id, id(2));
        assert_eq!(created(&lab.done(put, if outcome { Ok(()) } else { failed() }).1), [outcome]);
        lab.pages.0.borrow_mut().failures = 0..0;
        assert_eq!(lab.get_of(peer, 1).id, id(1));
    }
}

#[test]
fn what_returns_needs_pages_too() {
    let mut lab = spilling(100 << 20);
    let (peer, holder) = (lab.native(), lab.native());
    lab.put_away(peer, 1, 20 << 20);
    lab.create(holder, 2, 20 << 20).unwrap();
    lab.pages.0.borrow_mut().failures = 0..u64::MAX;
    assert_eq!(lab.get(peer, &[1], -1), Some(vec![false]));
    assert_eq!(lab.used(), 20 << 20);
    lab.pages.0.borrow_mut().failures = 0..0;
    lab.send(peer, Request::Get { ids: ids(&[1]), timeout_ms: -1 });
    assert!(lab.engine.has_work(), "its pages come in slices");
    lab.work();
    assert!(matches!(lab.jobs().0[..], [Job { work: Work::Get(_), .. }]));
}

#[test]
fn subscribers_hear_nothing_of_journeys_and_of_the_end_everything() {
    let mut lab = spilling(1000);
    let (peer, subscriber) = (lab.native(), lab.old());
    lab.put_away(peer, 1, 600);
    lab.subscribe(subscriber, Request::Subscribe);
    assert!(
        matches!(&lab.effects()[..], [Effect::Notify { events, .. }] if matches!(events[..], [Event::Sealed { .. }]))
    );
    let get = lab.get_of(peer, 1);
    assert_eq!(lab.done(get, Ok(())).1.len(), 1);
    lab.release(peer, 1);
    lab.send(peer, Request::Delete { ids: ids(&[1]) });
    let deleted = lab.effects();
    assert!(deleted.iter().any(|effect| matches!(effect, Effect::Notify { .. })), "{deleted:?}");
}

#[test]
fn what_a_quota_pushes_out_leaves_too_and_is_nobodys_own_when_it_returns() {
    let mut lab = spilling(1_000_000);
    let peer = lab.old();
    lab.ask(peer, Request::SetOptions { client_name: "c".into(), quota: 500_000 });
    lab.put(peer, 1, 400_000);
    lab.send(peer, create_of(2, 400_000, 0));
    lab.work();
    let (jobs, replies) = lab.jobs();
    assert_eq!((jobs.len(), created(&replies)), (1, vec![true]), "the store itself has room");
    lab.done(jobs[0], Ok(()));
    assert_eq!(lab.used(), 400_000);
    let get = lab.get_of(peer, 1);
    lab.done(get, Ok(()));
    assert_eq!(lab.engine.objects[&id(1)].owner, None);
}

#[test]
fn the_end_of_a_job_that_nobody_knows_changes_nothing() {
    let mut lab = spilling(1000);
    let peer = lab.native();
    lab.put_away(peer, 1, 600);
    for number in [0, 77, u64::MAX] {
        lab.engine.job_done(number, Ok(()));
        lab.engine.job_done(number, failed());
    }
    assert!(lab.effects().is_empty() && lab.contains(peer, 1));
}

#[test]
fn what_is_being_written_does_not_move_for_an_old_client() {
    let mut lab = spilling(1000);
    lab.pages.0.borrow_mut().can_lease = true;
    let (native, old) = (lab.native(), lab.old());
    lab.put(native, 1, 900);
    let job = lab.order(native, Request::Evict { bytes: 1 });
    let Work::Put(place) = job.work else { panic!("{job:?}") };
    assert_eq!(lab.get(old, &[1], -1), None);
    assert_eq!(lab.engine.objects[&id(1)].location(), place, "the bytes of a location are left alone");
    let (_, replies) = lab.done(job, Ok(()));
    let is_found = |reply: &Reply| matches!(reply, Reply::Get { .. }) && found_in(reply, &[1]) == [true];
    assert!(replies.iter().any(is_found), "{replies:?}");
    assert_ne!(lab.engine.objects[&id(1)].location(), place);
    lab.release(old, 1);
    lab.effects();
    assert_eq!(lab.holders(1), 0);
}
