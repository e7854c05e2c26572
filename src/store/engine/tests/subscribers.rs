//! Subscriptions: what is there, then what is sealed and what goes, each told once and in its order.

use super::*;

impl Lab {
    /// The frames of events since the last call, with whom they go to; replies are left out.
    fn frames(&mut self) -> Vec<(Vec<PeerId>, Vec<Event>)> {
        let frame = |effect| if let Effect::Notify { to, events } = effect { Some((to, events)) } else { None };
        self.effects().into_iter().filter_map(frame).collect()
    }
}

fn sealed(name: u8, data_size: u64) -> Event {
    Event::Sealed { id: id(name), data_size, metadata_size: 0, digest: [name; 8] }
}

fn gone(name: u8) -> Event {
    Event::Deleted { id: id(name) }
}

#[test]
fn a_subscription_begins_with_what_is_sealed() {
    let mut lab = lab(1000);
    let (maker, subscriber) = (lab.native(), lab.old());
    lab.put(maker, 1, 10);
    lab.create(maker, 2, 10).unwrap();
    lab.send(subscriber, Request::Subscribe);
    assert_eq!(lab.frames(), [(vec![subscriber], vec![sealed(1, 10)])]);
    lab.send(subscriber, Request::Subscribe);
    assert_eq!(lab.frames(), [], "a second time changes nothing");
}

#[test]
fn all_subscribers_are_told_of_seals_deletions_and_evictions_and_of_nothing_else() {
    let mut lab = lab(1000);
    let (maker, one, two) = (lab.native(), lab.old(), lab.old());
    let both = vec![one, two];
    for subscriber in &both {
        lab.send(*subscriber, Request::Subscribe);
    }
    lab.create(maker, 1, 600).unwrap();
    lab.send(maker, Request::Seal { id: id(1), digest: [1; 8] });
    lab.send(maker, Request::Delete { ids: ids(&[1]) });
    assert_eq!(lab.frames(), [(both.clone(), vec![sealed(1, 600)])], "it is in use");
    lab.send(maker, Request::Release { id: id(1) });
    lab.send(maker, create_of(2, 600, 0));
    lab.send(maker, Request::Abort { id: id(2) });
    lab.send(maker, create_of(3, 600, 0));
    lab.send(maker, Request::Seal { id: id(3), digest: [3; 8] });
    lab.send(maker, Request::Release { id: id(3) });
    lab.send(maker, create_of(4, 600, 0));
    let expected = [vec![gone(1)], vec![sealed(3, 600)], vec![gone(3)]];
    assert_eq!(lab.frames(), expected.map(|events| (both.clone(), events)));
    lab.engine.disconnect(one);
    lab.engine.unsubscribe(two);
    lab.send(maker, Request::Seal { id: id(4), digest: [4; 8] });
    assert_eq!(lab.frames(), []);
}

#[test]
fn a_batch_is_one_frame() {
    let mut lab = lab(1000);
    let (maker, subscriber) = (lab.old(), lab.old());
    lab.send(subscriber, Request::Subscribe);
    let object = |name| InlineObject { id: id(name), data: vec![], metadata: vec![], digest: [name; 8] };
    let request = Request::CreateAndSealBatch { objects: vec![object(2), object(1)], evict_if_full: true };
    lab.send(maker, request);
    assert_eq!(lab.frames(), [(vec![subscriber], vec![sealed(2, 0), sealed(1, 0)])]);
}

#[test]
fn a_native_peer_cannot_subscribe_as_old_clients_do() {
    let mut lab = lab(1000);
    let peer = lab.native();
    assert!(lab.ask_and_be_closed(peer, Request::Subscribe).contains("old clients"));
}
