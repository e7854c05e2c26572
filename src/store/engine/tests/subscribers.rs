//! Subscriptions: what is there, then what is sealed and what goes, each told once and in its order.

use super::*;

impl Lab {
    /// Begins a subscription, whose events are left to be looked at.
    pub(super) fn subscribe(&mut self, peer: PeerId, request: Request) -> SubscriptionId {
        let asker = self.send(peer, request);
        match self.engine.effects.remove(0) {
            Effect::Subscribe { asker: answered, id } if answered == asker => id,
            other => panic!("{other:?}"),
        }
    }

    /// The frames of events since the last call, with whom they go to; replies are left out.
    fn frames(&mut self) -> Vec<(Vec<SubscriptionId>, Vec<Event>)> {
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
    let subscription = lab.subscribe(subscriber, Request::Subscribe);
    assert_eq!(lab.frames(), [(vec![subscription], vec![sealed(1, 10)])]);
    lab.send(subscriber, Request::Subscribe);
    assert_eq!(lab.effects().len(), 0, "a second time changes nothing");
    let native = lab.subscribe(maker, Request::NativeSubscribe { skip_existing: false });
    assert_eq!(lab.frames(), [(vec![native], vec![sealed(1, 10)])]);
    let newcomer = lab.subscribe(maker, Request::NativeSubscribe { skip_existing: true });
    assert_eq!(lab.frames(), [], "what was there is left out");
    lab.send(maker, Request::Delete { ids: ids(&[1]) });
    assert_eq!(lab.frames(), [(vec![subscription, native, newcomer], vec![gone(1)])]);
}

#[test]
fn all_subscribers_are_told_of_seals_deletions_and_evictions_and_of_nothing_else() {
    let mut lab = lab(1000);
    let (maker, one, two) = (lab.native(), lab.old(), lab.old());
    let both = [one, two].map(|subscriber| lab.subscribe(subscriber, Request::Subscribe)).to_vec();
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
    lab.engine.unsubscribe(both[1]);
    lab.send(maker, Request::Seal { id: id(4), digest: [4; 8] });
    assert_eq!(lab.frames(), []);
}

#[test]
fn a_batch_is_one_frame() {
    let mut lab = lab(1000);
    let (maker, subscriber) = (lab.old(), lab.old());
    let subscription = lab.subscribe(subscriber, Request::Subscribe);
    let object = |name| InlineObject { id: id(name), data: vec![], metadata: vec![], digest: [name; 8] };
    let request = Request::CreateAndSealBatch { objects: vec![object(2), object(1)], evict_if_full: true };
    lab.send(maker, request);
    assert_eq!(lab.frames(), [(vec![subscription], vec![sealed(2, 0), sealed(1, 0)])]);
}

#[test]
fn old_and_native_peers_subscribe_each_in_their_own_way() {
    let mut lab = lab(1000);
    let (old, native) = (lab.old(), lab.native());
    assert!(lab.ask_and_be_closed(native, Request::Subscribe).contains("old clients"));
    let request = Request::NativeSubscribe { skip_existing: false };
    assert!(lab.ask_and_be_closed(old, request).contains("native clients"));
}

#[test]
fn a_native_client_has_as_many_subscriptions_as_there_may_be_and_no_more() {
    let mut lab = lab(1000);
    let (peer, other) = (lab.native(), lab.native());
    let request = Request::NativeSubscribe { skip_existing: false };
    let subscriptions: Vec<_> = (0..64).map(|_| lab.subscribe(peer, request.clone())).collect();
    let [Reply::NativeSubscribe { outcome: Err(reason) }] = &lab.ask(peer, request.clone())[..] else { panic!() };
    assert!(reason.contains("64 subscriptions"), "{reason}");
    lab.subscribe(other, request.clone());
    lab.engine.unsubscribe(subscriptions[7]);
    assert!(!subscriptions.contains(&lab.subscribe(peer, request)), "numbers are not used again");
    lab.engine.disconnect(peer);
    assert_eq!(lab.engine.stats().subscriptions, 1);
}
