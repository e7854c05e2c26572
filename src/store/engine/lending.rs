//! Segments that native peers ask for, and let go of.

use crate::protocol::Reply;
use crate::store::engine::{Asker, Effect, Engine};
use crate::store::space::Pages;

impl<P: Pages> Engine<P> {
    /// Lends a segment to a peer that asks for what it needs.
    pub(super) fn lend(&mut self, asker: Asker, segment: i32, writable: bool) {
        if !self.peers.get(&asker.peer).is_some_and(|peer| peer.pulls) {
            return self.close(asker.peer, "it asked for a segment and has not said that it would".into());
        }
        let most = self.space.limit();
        let shares = self.shares(asker.peer, segment);
        match self.space.leases_mut().lend(asker.peer, segment, writable, shares, most) {
            Ok(()) => self.effects.push(Effect::Segment { asker, segment, writable }),
            Err(why) => self.reply(asker, Reply::Segment { outcome: Err(why) }),
        }
    }

    /// A peer has let go of segments, and is told which others it is to let go of.
    pub(super) fn take_returned(&mut self, asker: Asker, returned: &[i32]) {
        let leases = self.space.leases_mut();
        returned.iter().for_each(|segment| leases.returned(asker.peer, *segment));
        let segments = leases.retired_for(asker.peer);
        self.reply(asker, Reply::Retired { segments });
    }

    /// Who gives the pages, for the plumbing to take descriptors from.
    pub fn pages(&self) -> &P {
        self.space.pages()
    }
}
