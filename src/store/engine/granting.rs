//! Objects that a native peer made by itself, in room that it was granted: it says so when they are whole.

use std::iter;

use crate::protocol::Refusal;
use crate::shm::ring::grants::Grantor;
use crate::store::engine::creation::Lack;
use crate::store::engine::{Asker, Engine, Now};
use crate::store::grants::Grant;
use crate::store::peers::PeerId;
use crate::store::queue::NewObject;
use crate::store::space::{Pages, Place};

impl<P: Pages> Engine<P> {
    /// From now on a peer can be granted room.
    pub fn add_grantee(&mut self, peer: PeerId, grantor: Grantor) {
        self.space.leases_mut().add_grantee(peer, grantor);
    }

    /// Grants a peer room for an object of so many bytes, if some lies free in its own segments. Where creates may have to wait for an external
    /// store there is none, since what was filled already cannot wait.
    pub fn grant(&mut self, peer: PeerId, size: u64) -> Option<Grant> {
        if self.external.is_there { None } else { self.space.grant(peer, size) }
    }

    /// Enters an object, sealed, that a peer has filled in the room of this number. Nobody holds it. When it is refused the room is the
    /// peer's as before.
    ///
    /// # Errors
    /// As for a create. A peer that was not granted so much is closed.
    pub fn publish_granted(&mut self, asker: Asker, number: u64, new: NewObject, now: Now) -> Result<(), Refusal> {
        let (peer, size) = (asker.peer, new.size());
        let granted = self.space.leases().granted(peer, number);
        if size == 0 || granted.is_none_or(|grant| grant.place.extent.len < size) {
            self.close(peer, format!("it has put {size} bytes into room {number}, which it was not granted"));
            return Err(Refusal::OutOfMemory);
        }
        self.check(peer, &new, now).map_err(|refused| refused.refusal)?;
        let place = self.take_granted(peer, number, &new).map_err(|_| Refusal::OutOfMemory)?;
        self.enter_new(asker, new, place, now);
        if let Some(Err(error)) = place.map(|place| self.space.make_readable(place)) {
            self.drop_object(new.id);
            self.close(peer, format!("its segment cannot be made readable: {error}"));
            return Err(Refusal::OutOfMemory);
        }
        self.mark_sealed(new.id, [0; 8], now);
        self.hand_over(iter::once(new.id));
        Ok(())
    }

    /// Makes room within the limit for what lies in a grant already.
    fn take_granted(&mut self, peer: PeerId, number: u64, new: &NewObject) -> Result<Option<Place>, Lack> {
        let size = new.size();
        if self.is_kept_from(size) {
            return Err(Lack::Full);
        }
        if new.evict {
            self.make_room_in_quota(peer, size);
        }
        let place =
            self.reserve_with(peer, new.evict, |space, kept| space.reserve_granted(size, kept, peer, number))?;
        self.passed_by(new);
        Ok(place)
    }
}
