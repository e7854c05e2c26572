//! Who is told of what is sealed and what goes.

use crate::protocol::notification::Event;
use crate::store::engine::{Effect, Engine};
use crate::store::peers::PeerId;
use crate::store::space::Pages;

impl<P: Pages> Engine<P> {
    /// Begins a subscription with what is there. A second one of the same peer changes nothing.
    pub(super) fn subscribe(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_none_or(|peer| peer.native) {
            return self.close(peer, "it subscribed in a way that only old clients know".into());
        }
        if !self.subscribers.insert(peer) {
            return;
        }
        let sealed = self.objects.iter().filter(|(_, object)| object.is_sealed());
        let events: Vec<Event> = sealed.map(|(id, object)| object.sealed_event(*id)).collect();
        // A frame each, as ever: old clients poll the socket, and see no event that lies in their own queue.
        self.effects.extend(events.into_iter().map(|event| Effect::Notify { to: vec![peer], events: vec![event] }));
    }

    /// Ends a subscription: its socket is gone, or full.
    pub fn unsubscribe(&mut self, peer: PeerId) {
        self.subscribers.remove(&peer);
    }

    /// Tells all subscribers of events that belong together.
    pub(super) fn announce(&mut self, events: Vec<Event>) {
        if !self.subscribers.is_empty() && !events.is_empty() {
            self.effects.push(Effect::Notify { to: self.subscribers.iter().copied().collect(), events });
        }
    }
}
