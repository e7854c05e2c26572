//! A ring: records and outcomes whole, slots that are used again, and nobody who sleeps on what is there.

use super::super::ring::{PEER_WORDS, SLOTS, STORE_WORDS};
use super::*;

pub(super) const RECORD_STEPS: &[Step] = &[Step::SubmitOrder, Step::DoneOrder];
pub(super) const SLEEP_STEPS: &[Step] = &[Step::SubmitBarrier, Step::SleepBarrier, Step::RecordCheck];
pub(super) const DOZE_STEPS: &[Step] = &[Step::DoneBarrier, Step::DozeFirst, Step::DozeBarrier];

/// Both sides of a new ring.
fn ring() -> (Submitter, Collector) {
    WAKES.set(0);
    let (peers, stores) = (Words::private(PEER_WORDS), Words::private(STORE_WORDS));
    (Submitter::new(&peers, &stores).unwrap(), Collector::new(&peers, &stores).unwrap())
}

/// The `n`-th record and its outcome, which have `n` in the first and the last of their words.
fn record(n: u64) -> Record {
    Record::Put { id: ObjectId::new([n as u8; 20]), data_size: n, metadata_size: n, staged: n, evict: n % 2 == 1 }
}

fn outcome(n: u64) -> Outcome {
    let location = Location { segment: n as i32, offset: n, data_size: n, metadata_size: n };
    Outcome { refusal: n as i32, location }
}

/// Looks until there is something.
fn awaited<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        match look() {
            Some(found) => return found,
            None => thread::yield_now(),
        }
    }
}

/// The store takes what is there and says what became of it, until it has served so many.
fn serve(collector: &mut Collector, count: u64) {
    let mut served = 0;
    while served < count {
        match collector.take().unwrap() {
            Some(Taken { number, record: taken, .. }) => {
                assert_eq!((number, taken), (served, record(served)), "a record in pieces");
                collector.done(number, &outcome(number));
                served += 1;
            }
            None => thread::yield_now(),
        }
    }
}

/// One record more than there are slots: the first one's slot is used again when its outcome was read.
fn submit_and_serve() {
    let (submitter, mut collector) = ring();
    let peer = thread::spawn(move || {
        (0..=SLOTS as u64).for_each(|n| {
            if let Some(before) = n.checked_sub(SLOTS as u64) {
                assert_eq!(awaited(|| submitter.outcome(before)), outcome(before), "an outcome in pieces");
            }
            submitter.submit(n, &record(n));
        });
        (1..=SLOTS as u64).for_each(|n| assert_eq!(awaited(|| submitter.outcome(n)), outcome(n)));
    });
    serve(&mut collector, SLOTS as u64 + 1);
    peer.join().unwrap();
    assert!(collector.take().unwrap().is_none());
}

#[test]
fn records_and_outcomes_are_whole_and_slots_are_used_again() {
    check(submit_and_serve, RECORD_STEPS);
}

/// A peer submits while the store looks whether it may sleep.
fn submit_and_sleep() {
    let mut store = Store::new(1);
    let (reader, kicked) = store.peer();
    let (submitter, collector) = ring();
    let peer = thread::spawn(move || {
        submitter.submit(0, &record(0));
        reader.wake_store();
    });
    let sleeps = store.shared.may_sleep(false) && !collector.has_more();
    peer.join().unwrap();
    let kicked = kicked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(!sleeps || kicked, "the store sleeps on a record");
}

#[test]
fn a_record_wakes_the_store() {
    check(submit_and_sleep, SLEEP_STEPS);
}

/// Two threads of a peer submit, one after the other, as the lock of the client makes them; each looks at the store by itself.
fn two_submit_and_the_store_sleeps() {
    let mut store = Store::new(1);
    let (reader, kicked) = store.peer();
    let (submitter, mut collector) = ring();
    let ends = Arc::new((reader, loom::sync::Mutex::new((submitter, 0))));
    let submit = |ends: Arc<(Peer, loom::sync::Mutex<(Submitter, u64)>)>| {
        move || {
            let mut writing = ends.1.lock().unwrap();
            writing.0.submit(writing.1, &record(writing.1));
            writing.1 += 1;
            drop(writing);
            ends.0.wake_store();
        }
    };
    let threads = [thread::spawn(submit(ends.clone())), thread::spawn(submit(ends))];
    while collector.take().unwrap().is_some() {}
    let sleeps = store.shared.may_sleep(false) && !collector.has_more();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let kicked = kicked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(!sleeps || kicked || !collector.has_more(), "the store sleeps on a record");
}

#[test]
fn records_of_two_threads_wake_the_store() {
    check_three(two_submit_and_the_store_sleeps);
}

/// Whether a thread would go to sleep until a word changes, unless what it waits for is there.
fn sleeps(doze: Doze<'_>, is_there: impl Fn() -> bool) -> bool {
    let old = doze.now();
    !is_there() && doze.begin(old)
}

/// The store is done with a record while a thread is about to sleep until then. The slot was used before, with a sleeper.
fn sleep_until_done() {
    let (submitter, mut collector) = ring();
    (0..SLOTS as u64).for_each(|n| submitter.submit(n, &record(n)));
    assert!(sleeps(submitter.until_done(0), || false));
    serve(&mut collector, SLOTS as u64);
    assert_eq!(WAKES.get(), 1, "one slept");
    submitter.submit(SLOTS as u64, &record(SLOTS as u64));
    WAKES.set(0);
    let number = collector.take().unwrap().unwrap().number;
    let store = thread::spawn(move || collector.done(number, &outcome(number)));
    let sleeps = sleeps(submitter.until_done(number), || submitter.outcome(number).is_some());
    store.join().unwrap();
    assert_eq!(submitter.outcome(number), Some(outcome(number)));
    assert!(!sleeps || WAKES.get() > 0, "nobody wakes who sleeps until a record is done");
}

#[test]
fn whoever_sleeps_until_a_record_is_done_is_woken() {
    check(sleep_until_done, DOZE_STEPS);
}

/// Two records that nobody awaits are served, of which one is refused, and one more has the first one's place.
fn submit_unawaited_and_serve() {
    let (submitter, mut collector) = ring();
    let store = thread::spawn(move || {
        for number in 0..=SLOTS as u64 {
            let taken = awaited(|| collector.take().unwrap());
            assert_eq!((taken.number, taken.record), (number, record(number)), "a record in pieces");
            if number == 1 {
                collector.done(number, &outcome(number));
            }
            collector.served(0);
        }
    });
    (0..SLOTS as u64).for_each(|n| submitter.submit_unawaited(n, &record(n)));
    awaited(|| (submitter.served() > 1).then_some(()));
    assert_eq!((submitter.outcome(0), submitter.outcome(1)), (None, Some(outcome(1))), "served, and no outcome");
    submitter.submit_unawaited(SLOTS as u64, &record(SLOTS as u64));
    awaited(|| (submitter.served() > SLOTS as u64).then_some(()));
    store.join().unwrap();
}

#[test]
fn who_sees_that_records_were_served_sees_which_were_refused() {
    check(submit_unawaited_and_serve, RECORD_STEPS);
}

/// Records are served one by one while a thread is about to sleep until both are.
fn sleep_until_served() {
    let (submitter, mut collector) = ring();
    (0..2).for_each(|n| submitter.submit_unawaited(n, &record(n)));
    let store = thread::spawn(move || {
        for _ in 0..2 {
            collector.take().unwrap();
            collector.served(0);
        }
    });
    let sleeps = sleeps(submitter.until_served(2), || submitter.served() == 2);
    store.join().unwrap();
    assert_eq!(submitter.served(), 2);
    assert!(!sleeps || WAKES.get() > 0, "nobody wakes who sleeps until records are served");
    submitter.end_awaiting();
}

#[test]
fn whoever_sleeps_until_records_are_served_is_woken() {
    check(sleep_until_served, DOZE_STEPS);
}

/// A bell is rung while its thread is about to sleep.
fn sleep_until_rung() {
    let (submitter, collector) = ring();
    let doze = submitter.until_rung(0);
    let old = doze.now();
    let store = thread::spawn(move || collector.ring(0));
    let sleeps = doze.begin(old);
    store.join().unwrap();
    assert_ne!(doze.now(), old);
    assert!(!sleeps || WAKES.get() > 0, "nobody wakes who sleeps until a bell rings");
    submitter.end_waiting(0);
}

#[test]
fn whoever_sleeps_until_a_bell_rings_is_woken() {
    check(sleep_until_rung, DOZE_STEPS);
}

/// Two threads sleep on one record: its own, and one that needs its place.
fn two_sleep_until_done() {
    let (submitter, mut collector) = ring();
    submitter.submit(0, &record(0));
    collector.take().unwrap();
    let submitter = Arc::new(submitter);
    let other = submitter.clone();
    let sleeper = thread::spawn(move || sleeps(other.until_done(0), || other.outcome(0).is_some()));
    let store = thread::spawn(move || collector.done(0, &outcome(0)));
    let slept = sleeps(submitter.until_done(0), || submitter.outcome(0).is_some());
    let other_slept = sleeper.join().unwrap();
    store.join().unwrap();
    assert!(!(slept || other_slept) || WAKES.get() > 0, "nobody wakes one of two");
}

#[test]
fn both_are_woken_who_sleep_until_a_record_is_done() {
    check_three(two_sleep_until_done);
}

/// Bells without a thread are rung, more than are listed, while their peer looks which.
fn list_and_look() {
    let (submitter, collector) = ring();
    let store = thread::spawn(move || (10..13).for_each(|bell| collector.list(bell)));
    let mut before = 0;
    for _ in 0..2 {
        let (rung, count) = submitter.rung_since(before);
        if let Some(rung) = rung {
            assert_eq!(rung, (10 + before..10 + count).collect::<Vec<_>>(), "others than were rung");
        }
        before = count;
    }
    store.join().unwrap();
    assert_eq!(submitter.rung_since(2), (Some(vec![12]), 3));
    assert_eq!(submitter.rung_since(0), (None, 3));
}

#[test]
fn bells_without_a_thread_are_told_as_they_were_rung() {
    check(list_and_look, &[]);
}
