//! What is held for bells is in the figures, and goes with its peer.

use super::*;

/// A bell that a thread can sleep by.
const BELL: u64 = 3;

/// A waiter whose bell was rung for an object of 5000 bytes, which was deleted right after its seal.
fn rung(lab: &mut Lab) -> PeerId {
    let (producer, waiter) = (lab.native(), lab.native());
    lab.engine.want(waiter, BELL, id(1));
    assert_eq!(lab.engine.stats().waiting_gets, 1);
    lab.create(producer, 1, 5000).unwrap();
    lab.send(producer, Request::Seal { id: id(1), digest: [0; 8] });
    assert!(lab.effects().iter().any(|effect| matches!(effect, Effect::Wake { peer, .. } if *peer == waiter)));
    lab.release(producer, 1);
    assert!(lab.delete(producer, &[1])[0].is_err(), "the waiter has not looked");
    waiter
}

#[test]
fn what_is_held_for_a_bell_is_in_the_figures_until_its_peer_goes() {
    let mut lab = lab(1 << 20);
    let waiter = rung(&mut lab);
    let stats = lab.engine.stats();
    assert_eq!((stats.used_bytes, stats.held_bytes, stats.held_objects, stats.waiting_gets), (5000, 5000, 1, 0));
    lab.engine.disconnect(waiter);
    let stats = lab.engine.stats();
    assert_eq!((stats.used_bytes, stats.held_bytes, stats.objects), (0, 0, 0));
}

#[test]
fn what_is_held_for_a_bell_goes_when_the_bell_is_given_back() {
    let mut lab = lab(1 << 20);
    let waiter = rung(&mut lab);
    lab.engine.unwant(waiter, BELL);
    assert_eq!((lab.used(), lab.engine.stats().held_bytes), (0, 0));
}
