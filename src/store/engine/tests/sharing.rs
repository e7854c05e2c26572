//! Objects that several peers write before they are sealed: who may, how long they live, and when they are sealed.

use super::*;
use crate::protocol::{ShareAction, Shared};
use crate::shm::shared::MOST_PARTICIPANTS;

const KEEP: ShareAction = ShareAction::Begin { keep: true };
const BEGIN: ShareAction = ShareAction::Begin { keep: false };

fn lab_with_leases() -> Lab {
    let lab = lab(64 << 20);
    lab.pages.0.borrow_mut().can_lease = true;
    lab
}

impl Lab {
    fn share(&mut self, peer: PeerId, name: u8, action: ShareAction) -> Result<Shared, Refused> {
        self.send(peer, Request::Share { id: id(name), action });
        match self.effects().as_slice() {
            [Effect::Share { shared, .. }] if matches!(action, ShareAction::Begin { .. } | ShareAction::Join) => {
                Ok(shared.clone())
            }
            [.., Effect::Reply { reply: Reply::Share { outcome }, .. }] => outcome.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn create_to_share(&mut self, peer: PeerId, name: u8) -> Location {
        let mut request = create_of(name, 5000, 100);
        let Request::Create { immutable, .. } = &mut request else { unreachable!() };
        *immutable = true;
        self.create_with(peer, request).unwrap()
    }

    /// A new client, with what people are told of it.
    fn named(&mut self, name: &str) -> PeerId {
        let peer = self.native();
        self.engine.name_process(peer, name.into());
        peer
    }

    /// Whether a peer gets a segment to write it.
    fn is_writer(&mut self, peer: PeerId, segment: i32) -> bool {
        self.send(peer, Request::Segment { segment, writable: true });
        match self.effects().as_slice() {
            [Effect::Segment { .. }] => true,
            [Effect::Reply { reply: Reply::Segment { outcome: Err(_) }, .. }] => false,
            other => panic!("{other:?}"),
        }
    }

    fn lives(&self, segment: i32) -> Vec<(u32, u64)> {
        self.pages.0.borrow().lives[&segment].iter().map(|(number, turns)| (*number, *turns)).collect()
    }
}

fn refusal(outcome: Result<Shared, Refused>) -> Refusal {
    outcome.unwrap_err().refusal
}

#[test]
fn those_who_joined_write_and_nobody_else() {
    let mut lab = lab_with_leases();
    let (one, two, other) = (lab.named("one"), lab.named("two"), lab.named("other"));
    let place = lab.create_to_share(one, 1);
    assert_eq!(refusal(lab.share(two, 1, ShareAction::Join)), Refusal::ObjectNotFound);
    let shared = Shared { location: place, participant: 0, participants: vec!["one".into()], has_control: false };
    assert_eq!(lab.share(one, 1, BEGIN), Ok(shared));
    let joined = lab.share(two, 1, ShareAction::Join).unwrap();
    assert_eq!((joined.location, joined.participant), (place, 1));
    assert_eq!(lab.share(other, 1, ShareAction::Ask).unwrap().participants, ["one", "two"]);
    assert_eq!([one, two, other].map(|peer| lab.is_writer(peer, place.segment)), [true, true, false]);
    assert_eq!(lab.lives(place.segment), [(0, 1), (1, 1)]);
    lab.share(two, 1, ShareAction::Leave).unwrap();
    assert!(!lab.is_writer(two, place.segment));
    assert_eq!(lab.lives(place.segment), [(0, 1), (1, 2)]);
    // Its number is somebody else's next time, in another life.
    assert_eq!(lab.share(other, 1, ShareAction::Join).unwrap().participant, 1);
    assert_eq!(lab.lives(place.segment), [(0, 1), (1, 3)]);
}

#[test]
fn it_ends_with_its_last_participant_however_that_goes() {
    let mut lab = lab_with_leases();
    let (one, two) = (lab.native(), lab.native());
    let segment = lab.create_to_share(one, 1).segment;
    lab.share(one, 1, BEGIN).unwrap();
    lab.share(two, 1, ShareAction::Join).unwrap();
    lab.engine.disconnect(one);
    assert_eq!(lab.lives(segment), [(0, 2), (1, 1)]);
    assert_eq!(lab.names(), [1]);
    lab.share(two, 1, ShareAction::Leave).unwrap();
    assert_eq!(lab.names(), [0; 0]);
    lab.check_empty();
}

#[test]
fn what_is_kept_lives_until_it_is_deleted() {
    let mut lab = lab_with_leases();
    let (one, two) = (lab.native(), lab.native());
    lab.create_to_share(one, 1);
    lab.share(one, 1, KEEP).unwrap();
    lab.engine.disconnect(one);
    lab.share(two, 1, ShareAction::Join).unwrap();
    assert_eq!(lab.delete(two, &[1]), [Err(Refusal::ObjectNotSealed)]);
    assert_eq!(refusal(lab.share(two, 1, ShareAction::Join)), Refusal::ObjectNotFound);
    assert_eq!(lab.names(), [1]);
    lab.engine.disconnect(two);
    lab.check_empty();
    // Nor when nobody has it.
    let one = lab.native();
    lab.create_to_share(one, 2);
    lab.share(one, 2, KEEP).unwrap();
    lab.share(one, 2, ShareAction::Leave).unwrap();
    assert_eq!(lab.delete(one, &[2]), [Ok(())]);
    lab.check_empty();
}

#[test]
fn frozen_it_is_an_object_as_any_other_and_immutable() {
    let mut lab = lab_with_leases();
    let (one, two, reader) = (lab.named("one"), lab.named("two"), lab.native());
    let segment = lab.create_to_share(one, 1).segment;
    lab.share(one, 1, KEEP).unwrap();
    lab.share(two, 1, ShareAction::Join).unwrap();
    assert_eq!(lab.get(reader, &[1], -1), None);
    let refused = lab.share(one, 1, ShareAction::Freeze).unwrap_err();
    assert_eq!((refused.refusal, refused.detail.as_str()), (Refusal::StillWritable, "two"));
    lab.share(two, 1, ShareAction::Leave).unwrap();
    lab.pages.0.borrow_mut().is_mapped = true;
    assert_eq!(refusal(lab.share(one, 1, ShareAction::Freeze)), Refusal::StillWritable);
    // It can be joined all the same.
    lab.share(two, 1, ShareAction::Join).unwrap();
    lab.share(two, 1, ShareAction::Leave).unwrap();
    lab.pages.0.borrow_mut().is_mapped = false;
    lab.share(one, 1, ShareAction::Freeze).unwrap();
    assert!(lab.pages.0.borrow().immutable.contains(&segment));
    assert_eq!(refusal(lab.share(two, 1, ShareAction::Join)), Refusal::ObjectNotFound);
    assert_eq!(refusal(lab.share(one, 1, ShareAction::Leave)), Refusal::ObjectNotFound);
    assert_eq!(lab.holders(1), 1, "the reader has it");
    lab.release(reader, 1);
    assert_eq!(lab.delete(reader, &[1]), [Ok(())]);
    lab.check_empty();
}

#[test]
fn what_cannot_be_shared_is_refused_and_is_what_it_was() {
    let mut lab = lab_with_leases();
    let (one, two) = (lab.native(), lab.native());
    lab.create(one, 1, 1000).unwrap();
    assert_eq!(refusal(lab.share(one, 1, BEGIN)), Refusal::Unsupported);
    lab.create_to_share(one, 2);
    assert_eq!(refusal(lab.share(two, 2, BEGIN)), Refusal::ObjectNotFound);
    lab.seal(one, 2).unwrap();
    assert_eq!(refusal(lab.share(one, 2, BEGIN)), Refusal::ObjectAlreadySealed);
    for action in [BEGIN, ShareAction::Join, ShareAction::Leave, ShareAction::Freeze, ShareAction::Ask] {
        assert_eq!(refusal(lab.share(two, 9, action)), Refusal::ObjectNotFound);
    }
    lab.create_to_share(one, 3);
    lab.share(one, 3, BEGIN).unwrap();
    for peer in [one, two] {
        assert_eq!(lab.seal(peer, 3), Err(Refusal::ObjectNotFound));
        let outcome = Err(Refusal::ObjectNotFound);
        assert_eq!(lab.ask(peer, Request::Abort { id: id(3) }), [Reply::Abort { id: id(3), outcome }]);
        lab.release(peer, 3);
    }
    assert_eq!(refusal(lab.share(one, 3, ShareAction::Join)), Refusal::ObjectInUse);
    assert_eq!(refusal(lab.share(two, 3, ShareAction::Freeze)), Refusal::ObjectNotFound);
    assert_eq!(lab.share(two, 3, ShareAction::Ask).unwrap().participants.len(), 1);
}

#[test]
fn there_is_an_end_to_participants() {
    let mut lab = lab_with_leases();
    let one = lab.native();
    lab.create_to_share(one, 1);
    lab.share(one, 1, BEGIN).unwrap();
    for participant in 1..MOST_PARTICIPANTS {
        let peer = lab.native();
        assert_eq!(lab.share(peer, 1, ShareAction::Join).unwrap().participant, participant);
    }
    let last = lab.native();
    let refused = lab.share(last, 1, ShareAction::Join).unwrap_err();
    assert!(refused.detail.contains(&MOST_PARTICIPANTS.to_string()), "{refused:?}");
}
