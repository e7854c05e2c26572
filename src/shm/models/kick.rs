//! The last release of a deleted object against a store that goes to sleep.

use super::*;

pub(super) const STEPS: &[Step] = &[Step::KickBarrier, Step::SleepBarrier, Step::SleepCheck];

/// Peers hold the object and let go of it while the store deletes it and sleeps.
fn delete_and_sleep(peers: usize) {
    let mut store = Store::new(1);
    let descriptor = store.insert(0);
    let mut kicks = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..peers {
        let (peer, kicked) = store.peer();
        let Lookup::Found(held) = peer.hold(&id(0)) else { panic!("it is there, and nobody evicts it") };
        threads.push(thread::spawn(move || peer.release(held)));
        kicks.push(kicked);
    }
    let asleep = !store.shared.delete(descriptor) && store.shared.may_sleep(false);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let kicked = kicks.iter().any(|kicked| kicked.load(std::sync::atomic::Ordering::Relaxed));
    assert!(!asleep || kicked, "the store sleeps on an object that nobody holds");
    store.shared.woke();
    assert_eq!(store.shared.doomed(), store.shared.reclaim_doomed().len());
}

#[test]
fn a_last_release_wakes_the_store() {
    check(|| delete_and_sleep(1), STEPS);
}

#[test]
fn the_last_of_two_releases_wakes_the_store() {
    check_three(|| delete_and_sleep(2));
}

/// A get that finds another object, or the doomed one, pins it for a moment; that must not keep it for good.
#[test]
fn a_get_that_comes_to_nothing_wakes_the_store() {
    let model = || {
        let mut store = Store::new(1);
        let descriptor = store.insert(0);
        let (peer, kicked) = store.peer();
        let thread = thread::spawn(move || {
            if let Lookup::Found(held) = peer.hold(&id(0)) {
                peer.release(held);
            }
        });
        let asleep = !store.shared.delete(descriptor) && store.shared.may_sleep(false);
        thread.join().unwrap();
        assert!(!asleep || kicked.load(std::sync::atomic::Ordering::Relaxed));
    };
    check(model, &[]);
}
