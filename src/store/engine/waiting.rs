//! Creates that wait for room, and what others may take meanwhile.
//!
//! First come, first served: whoever waits passes nobody. Who does not wait takes what fits at that moment, but not for ever:
//! once such creates took as many bytes as the store has since the first in the queue became the first, they are refused
//! until it was served. Only pins can undo that promise: where they leave too little for the first one, the others go on.

use std::time::Duration;

use crate::object::ObjectId;
use crate::protocol::Refused;
use crate::store::engine::creation::{Growing, Lack, Purpose, out_of_memory};
use crate::store::engine::{Asker, Engine, MAX_WAITING, Now};
use crate::store::leases::Producer;
use crate::store::objects::Object;
use crate::store::peers::PeerId;
use crate::store::queue::{NewObject, WaitingCreate};
use crate::store::space::Pages;

impl<P: Pages> Engine<P> {
    /// Whether this peer may wait: old clients ask for one thing at a time, and expect its answer at once.
    pub(super) fn may_wait(&self, peer: PeerId, wait_ms: i64) -> bool {
        (wait_ms == -1 || wait_ms > 0) && self.peers.get(&peer).is_some_and(|peer| peer.native)
    }

    /// Puts a create at the end of the queue.
    pub(super) fn park(&mut self, asker: Asker, new: NewObject, wait_ms: i64, now: Now) {
        let count = self.queue.count_of(asker.peer);
        if count >= MAX_WAITING.gets {
            return self.close(asker.peer, format!("it has {count} creates waiting for room"));
        }
        let patience = u64::try_from(wait_ms).ok().map(Duration::from_millis);
        let deadline = patience.and_then(|patience| now.instant.checked_add(patience));
        self.queue.push(WaitingCreate { asker, new, deadline });
    }

    /// Enters an object for a create that does not wait, if there is room that is not kept for one that does.
    pub(super) fn begin_at_once(
        &mut self,
        asker: Asker,
        new: NewObject,
        producer: Option<Producer>,
        now: Now,
    ) -> Result<(), Lack> {
        if self.is_kept_from(new.size()) {
            return Err(Lack::Full);
        }
        self.begin(asker, new, producer, now)?;
        self.passed_by(&new);
        Ok(())
    }

    /// An object was entered that did not wait.
    pub(super) fn passed_by(&mut self, new: &NewObject) {
        self.queue.passed_by(new.size());
        // Who waits for this name waits in vain from now on.
        self.queue_may_move = true;
    }

    /// Whether room of this size is for those who wait.
    pub(super) fn is_kept_from(&self, size: u64) -> bool {
        let limit = self.space.limit();
        let Some(first) = self.queue.first() else { return false };
        let can_be_served = first.new.size().saturating_add(self.pinned_bytes) <= limit;
        size > 0 && can_be_served && self.queue.passed().saturating_add(size) > limit
    }

    /// Serves the first in the queue, if anything has changed since it was last tried.
    pub(super) fn serve_first(&mut self, now: Now) {
        let Some(&WaitingCreate { asker, new, .. }) = self.queue.first() else { return };
        if !self.queue_may_move {
            return;
        }
        match self.check(asker.peer, &new, now) {
            Err(refused) => self.answer_create(asker, new.id, Err(refused)),
            Ok(()) => match self.begin(asker, new, self.producer(asker.peer, new.immutable), now) {
                Ok(()) => {
                    self.give_to_creator(asker.peer, &new);
                    self.growing.push_back(Growing::new(asker, new.id, new.evict, Purpose::Create));
                }
                // Objects that are being written make it move when they have left.
                Err(Lack::Later | Lack::Full) => return self.queue_may_move = false,
            },
        }
        self.queue.take_first();
        // The next one may fit, too.
        self.queue_may_move = true;
    }

    /// Undoes a create, whether it waits, its pages are being allocated, or it was answered.
    pub(super) fn cancel_create(&mut self, asker: Asker, id: ObjectId) {
        if let Some(create) = self.queue.cancel(asker) {
            self.queue_may_move = true;
            return self.answer_create(asker, create.new.id, Err(cancelled()));
        }
        if self.cancel_in_line(asker) {
            return self.answer_create(asker, id, Err(cancelled()));
        }
        let ours = |object: &Object| !object.is_sealed() && object.created_by == asker;
        let Some(object) = self.objects.get(&id).filter(|object| ours(object)) else { return };
        if !object.populated {
            self.growing.retain(|growing| !(growing.asker == asker && growing.id == id));
            self.answer_create(asker, id, Err(cancelled()));
        }
        self.forget_unsealed(asker.peer, id);
    }
}

fn cancelled() -> Refused {
    out_of_memory("the create was cancelled".into())
}
