//! Who is told of what is sealed and what goes.

use crate::protocol::Reply;
use crate::protocol::notification::Event;
use crate::store::engine::{Asker, Effect, Engine};
use crate::store::peers::PeerId;
use crate::store::space::Pages;

/// Names a subscription for as long as the store lives; never reused.
pub type SubscriptionId = u64;

/// Subscriptions that one native client may have at a time: each costs the store a descriptor, and perhaps a long queue.
const MOST_OF_ONE_CLIENT: usize = 64;

impl<P: Pages> Engine<P> {
    /// Begins the subscription of an old client. A second one of the same peer changes nothing.
    pub(super) fn subscribe(&mut self, asker: Asker) {
        if self.peers.get(&asker.peer).is_none_or(|peer| peer.native) {
            return self.close(asker.peer, "it subscribed in a way that only old clients know".into());
        }
        if self.subscriptions_of(asker.peer) == 0 {
            self.begin_events(asker, false);
        }
    }

    /// Begins one of the subscriptions of a native client.
    pub(super) fn subscribe_native(&mut self, asker: Asker, skip_existing: bool) {
        if self.peers.get(&asker.peer).is_none_or(|peer| !peer.native) {
            return self.close(asker.peer, "it subscribed in a way that only native clients know".into());
        }
        let count = self.subscriptions_of(asker.peer);
        if count >= MOST_OF_ONE_CLIENT {
            let outcome = Err(format!("this client has {count} subscriptions, the most that are possible"));
            return self.reply(asker, Reply::NativeSubscribe { outcome });
        }
        self.begin_events(asker, skip_existing);
    }

    fn subscriptions_of(&self, peer: PeerId) -> usize {
        self.subscribers.values().filter(|subscriber| **subscriber == peer).count()
    }

    fn begin_events(&mut self, asker: Asker, skip_existing: bool) {
        let id = self.next_subscription;
        self.next_subscription += 1;
        self.subscribers.insert(id, asker.peer);
        self.effects.push(Effect::Subscribe { asker, id });
        let sealed = self.objects.iter().filter(|(_, object)| object.is_sealed() && !skip_existing);
        let events: Vec<Event> = sealed.map(|(id, object)| object.sealed_event(*id)).collect();
        // A frame each, as ever: old clients poll the socket, and see no event that lies in their own queue.
        self.effects.extend(events.into_iter().map(|event| Effect::Notify { to: vec![id], events: vec![event] }));
    }

    /// Ends a subscription: its socket is gone, or full.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        self.subscribers.remove(&id);
    }

    /// Tells all subscribers of events that belong together.
    pub(super) fn announce(&mut self, events: impl FnOnce(&Self) -> Vec<Event>) {
        if self.subscribers.is_empty() {
            return;
        }
        let events = events(self);
        if !events.is_empty() {
            self.effects.push(Effect::Notify { to: self.subscribers.keys().copied().collect(), events });
        }
    }
}
