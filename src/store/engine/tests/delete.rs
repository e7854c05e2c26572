//! Delete: at once where nobody is in the way, else when the last one goes; and never the next object of that name.

use super::*;

#[test]
fn what_is_free_goes_at_once_and_what_is_unknown_is_named() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.put(peer, 1, 10);
    assert_eq!(lab.delete(peer, &[1, 2, 1]), [Ok(()), Err(Refusal::ObjectNotFound), Err(Refusal::ObjectNotFound)]);
    assert_eq!(lab.delete(peer, &[]), []);
    lab.check_empty();
}

#[test]
fn what_is_held_goes_with_its_last_holder_and_can_be_got_until_then() {
    let mut lab = lab(1000);
    let (one, two, old) = (lab.native(), lab.native(), lab.old());
    lab.put(one, 1, 10);
    lab.get(one, &[1], 0);
    lab.get(old, &[1], 0);
    assert_eq!(lab.delete(two, &[1]), [Err(Refusal::ObjectInUse)]);
    assert_eq!(lab.delete(two, &[1]), [Err(Refusal::ObjectInUse)], "twice is once");
    lab.release(one, 1);
    assert!(lab.contains(two, 1));
    assert_eq!(lab.get(two, &[1], 0), Some(vec![true]));
    lab.engine.disconnect(old);
    assert!(lab.contains(two, 1));
    lab.release(two, 1);
    lab.check_empty();
}

#[test]
fn what_is_unsealed_goes_when_its_maker_lets_go_of_it_sealed() {
    let mut lab = lab(1000);
    let (maker, other) = (lab.native(), lab.native());
    lab.create(maker, 1, 10).unwrap();
    assert_eq!(lab.delete(other, &[1]), [Err(Refusal::ObjectNotSealed)]);
    lab.seal(maker, 1).unwrap();
    assert!(lab.contains(other, 1));
    lab.release(maker, 1);
    lab.check_empty();
}

#[test]
fn a_get_that_waits_for_a_doomed_object_still_gets_it() {
    let mut lab = lab(1000);
    let (maker, reader) = (lab.native(), lab.old());
    lab.create(maker, 1, 10).unwrap();
    assert_eq!(lab.get(reader, &[1], -1), None);
    assert_eq!(lab.delete(maker, &[1]), [Err(Refusal::ObjectNotSealed)]);
    let replies = lab.ask(maker, Request::Seal { id: id(1), digest: [0; 8] });
    assert_eq!(found_in(&replies[0], &[1]), [true]);
    lab.release(maker, 1);
    assert!(lab.contains(maker, 1));
    lab.release(reader, 1);
    lab.check_empty();
}

#[test]
fn the_next_object_of_that_name_is_not_marked() {
    // Old Plasma kept a list of ids to delete: what came under the name later vanished at its first release.
    let mut lab = lab(1000);
    let keeper = lab.native();
    for aborted in [true, false] {
        let maker = lab.native();
        lab.create(maker, 1, 10).unwrap();
        assert_eq!(lab.delete(keeper, &[1]), [Err(Refusal::ObjectNotSealed)]);
        match aborted {
            true => drop(lab.ask(maker, Request::Abort { id: id(1) })),
            false => lab.engine.disconnect(maker),
        }
        lab.put(keeper, 1, 10);
        lab.get(keeper, &[1], 0);
        lab.release(keeper, 1);
        assert!(lab.contains(keeper, 1));
        assert_eq!(lab.delete(keeper, &[1]), [Ok(())]);
    }
    lab.check_empty();
}
