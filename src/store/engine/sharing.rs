//! Objects that several peers write before they are sealed. The creator shares one when its bytes are in order; the others join,
//! write where it lies, and leave. Who has to agree with whom, and about what, is theirs alone: the store only says who is there.
#![forbid(unsafe_code)]

use crate::crash::{self, Point};
use crate::object::ObjectId;
use crate::protocol::{Refusal, Refused, Reply, ShareAction, Shared};
use crate::shm::shared::MOST_PARTICIPANTS;
use crate::store::engine::{Asker, Effect, Engine, Now};
use crate::store::leases::NOBODY;
use crate::store::peers::PeerId;
use crate::store::space::{Pages, Place};

impl<P: Pages> Engine<P> {
    /// Serves what a peer asks for an object that is shared, or is to be.
    pub(super) fn share(&mut self, asker: Asker, id: ObjectId, action: ShareAction, now: Now) {
        let outcome = match action {
            ShareAction::Begin { keep } => self.begin_sharing(asker.peer, id, keep),
            ShareAction::Join => self.join(asker.peer, id),
            ShareAction::Leave => self.leave_sharing(asker.peer, id),
            ShareAction::Freeze => self.freeze(asker.peer, id, now),
            ShareAction::Ask => self.shared(id).map(|_| self.told(asker.peer, id)),
        };
        match (action, outcome) {
            (ShareAction::Begin { .. } | ShareAction::Join, Ok(shared)) => {
                self.effects.push(Effect::Share { asker, shared });
            }
            (_, outcome) => self.reply(asker, Reply::Share { outcome }),
        }
    }

    /// Whether a peer is one of several who write a segment.
    pub(super) fn shares(&self, peer: PeerId, segment: i32) -> bool {
        let lies_there =
            |id: &ObjectId| self.objects.get(id).and_then(|object| object.place).map(|place| place.segment);
        self.peers.get(&peer).is_some_and(|peer| peer.sharing.keys().any(|id| lies_there(id) == Some(segment)))
    }

    /// The creator makes it everybody's.
    fn begin_sharing(&mut self, peer: PeerId, id: ObjectId, keep: bool) -> Result<Shared, Refused> {
        let object = self.objects.get(&id).filter(|object| object.created_by.peer == peer && object.populated);
        let object = object.ok_or_else(|| missing(id))?;
        if object.is_sealed() {
            return Err(refused(Refusal::ObjectAlreadySealed, format!("object {id} is sealed, and cannot be shared")));
        }
        let Some(place) = object.place.filter(|_| object.immutable) else {
            let text = format!("object {id} has no segment for itself, as immutable ones have, and cannot be shared");
            return Err(refused(Refusal::Unsupported, text));
        };
        let no_file = |error| refused(Refusal::OutOfMemory, format!("object {id} gets no control file: {error}"));
        self.space.share(place).map_err(no_file)?;
        if let Some(object) = self.objects.get_mut(&id) {
            object.shared = Some(keep);
            object.created_by.peer = NOBODY;
        }
        crash::at(Point::SharingBegun);
        let Some(creator) = self.peers.get_mut(&peer) else { return Err(missing(id)) };
        creator.unsealed.remove(&id);
        creator.sharing.insert(id, 0);
        self.space.turn_life(place, 0);
        Ok(self.told(peer, id))
    }

    fn join(&mut self, peer: PeerId, id: ObjectId) -> Result<Shared, Refused> {
        let place = self.shared(id)?;
        if self.objects.get(&id).is_some_and(|object| object.doomed) {
            return Err(missing(id));
        }
        if self.participant(peer, id).is_some() {
            return Err(refused(Refusal::ObjectInUse, format!("this client shares object {id} already")));
        }
        let taken: Vec<u32> = self.participants(id).map(|(_, participant)| participant).collect();
        let free = (0..MOST_PARTICIPANTS).find(|participant| !taken.contains(participant));
        let participant = free.ok_or_else(|| {
            refused(Refusal::OutOfMemory, format!("object {id} has {} participants, and no more can be", taken.len()))
        })?;
        self.hold(peer, id);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.sharing.insert(id, participant);
        }
        crash::at(Point::ParticipantEntered);
        self.space.turn_life(place, participant);
        Ok(self.told(peer, id))
    }

    fn leave_sharing(&mut self, peer: PeerId, id: ObjectId) -> Result<Shared, Refused> {
        let sharing = self.peers.get_mut(&peer).and_then(|peer| peer.sharing.remove(&id));
        let participant = sharing.ok_or_else(|| missing(id))?;
        self.participant_left(id, participant);
        self.release(peer, id);
        Ok(Shared::default())
    }

    /// One participant less, whose hold is still to be ended.
    pub(super) fn participant_left(&mut self, id: ObjectId, participant: u32) {
        crash::at(Point::ParticipantLeft);
        if let Ok(place) = self.shared(id) {
            self.space.turn_life(place, participant);
        }
    }

    /// Seals it. The one who asks has unmapped it.
    fn freeze(&mut self, peer: PeerId, id: ObjectId, now: Now) -> Result<Shared, Refused> {
        let place = self.shared(id)?;
        let participant = self.participant(peer, id).ok_or_else(|| missing(id))?;
        let others: Vec<_> = self.participants(id).map(|(peer, _)| peer).filter(|other| *other != peer).collect();
        if !others.is_empty() {
            return Err(refused(Refusal::StillWritable, self.names(others.into_iter()).join(", ")));
        }
        match self.space.make_readable(place) {
            Ok(true) => {}
            Ok(false) => {
                let text = "a process that did not join, such as a forked child, or a device".into();
                return Err(refused(self.still_writable(peer), text));
            }
            Err(error) => return Err(refused(Refusal::OutOfMemory, format!("object {id} is not sealed: {error}"))),
        }
        self.space.turn_life(place, participant);
        self.space.end_sharing(place);
        crash::at(Point::SharingEnded);
        self.objects.get_mut(&id).into_iter().for_each(|object| object.shared = None);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.sharing.remove(&id);
        }
        self.mark_sealed(id, [0; 8], now);
        self.publish(std::iter::once(id));
        self.release(peer, id);
        Ok(Shared::default())
    }

    /// Where it lies, if it is shared.
    fn shared(&self, id: ObjectId) -> Result<Place, Refused> {
        let object = self.objects.get(&id).filter(|object| object.shared.is_some());
        object.and_then(|object| object.place).ok_or_else(|| missing(id))
    }

    fn participant(&self, peer: PeerId, id: ObjectId) -> Option<u32> {
        self.peers.get(&peer)?.sharing.get(&id).copied()
    }

    /// Who shares it, and which participant each is.
    fn participants(&self, id: ObjectId) -> impl Iterator<Item = (PeerId, u32)> {
        self.peers.iter().filter_map(move |(peer, state)| Some((*peer, *state.sharing.get(&id)?)))
    }

    fn told(&self, peer: PeerId, id: ObjectId) -> Shared {
        Shared {
            location: self.objects.get(&id).map(super::Object::location).unwrap_or_default(),
            participant: self.participant(peer, id).unwrap_or_default(),
            participants: self.names(self.participants(id).map(|(peer, _)| peer)),
            has_control: false,
        }
    }

    /// Peers as people are told of them, in the order in which they connected.
    fn names(&self, peers: impl Iterator<Item = PeerId>) -> Vec<String> {
        let mut peers: Vec<_> = peers.collect();
        peers.sort_unstable();
        let process = |peer: &PeerId| self.peers.get(peer).map(|peer| peer.process.clone());
        peers.iter().filter_map(process).collect()
    }
}

fn refused(refusal: Refusal, detail: String) -> Refused {
    Refused { refusal, detail }
}

fn missing(id: ObjectId) -> Refused {
    refused(Refusal::ObjectNotFound, format!("nobody shares an object {id}, or not with this client"))
}
