//! Gets that wait for objects which are not sealed yet.
//!
//! No step here costs more than the ids of one get (times a logarithm), however many others wait for the same object:
//! what one peer asks for must not keep the rest waiting.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::time::Instant;

use foldhash::HashMap;

use crate::object::{Location, ObjectId};
use crate::store::peers::PeerId;

/// Who asked, and by what number the answer is known to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker {
    /// The connection.
    pub peer: PeerId,
    /// The request's number; 0 from an old client, which has one request in flight.
    pub number: u64,
}

/// Names a waiting get; the younger one has the higher ticket.
type Ticket = u64;

/// A get that waits.
#[derive(Debug)]
pub struct WaitingGet {
    /// Who gets the answer.
    pub asker: Asker,
    /// What was asked for, duplicates included, in the order of the answer.
    pub ids: Vec<ObjectId>,
    /// What is there so far. The asker holds these.
    pub found: HashMap<ObjectId, Location>,
    /// Distinct ids that are still missing.
    missing: usize,
    deadline: Option<Instant>,
}

impl WaitingGet {
    /// The answer as it stands: one entry for each id asked.
    pub fn locations(&self) -> Vec<Option<Location>> {
        self.ids.iter().map(|id| self.found.get(id).copied()).collect()
    }
}

/// What one peer has waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Gets.
    pub gets: usize,
    /// Ids in them, duplicates included.
    pub ids: usize,
}

/// All gets that wait.
#[derive(Debug, Default)]
pub struct Waiters {
    gets: HashMap<Ticket, WaitingGet>,
    by_object: HashMap<ObjectId, BTreeSet<Ticket>>,
    by_asker: BTreeSet<(Asker, Ticket)>,
    by_deadline: BTreeSet<(Instant, Ticket)>,
    loads: HashMap<PeerId, Load>,
    next: Ticket,
}

impl Waiters {
    /// Parks a get until `missing` (distinct ids) are sealed or `deadline` comes; `None` waits without limit.
    pub fn park(
        &mut self,
        asker: Asker,
        ids: Vec<ObjectId>,
        found: HashMap<ObjectId, Location>,
        missing: &[ObjectId],
        deadline: Option<Instant>,
    ) {
        let ticket = self.next;
        self.next += 1;
        for id in missing {
            self.by_object.entry(*id).or_default().insert(ticket);
        }
        self.by_asker.insert((asker, ticket));
        self.by_deadline.extend(deadline.map(|deadline| (deadline, ticket)));
        let load = self.loads.entry(asker.peer).or_default();
        *load = Load { gets: load.gets + 1, ids: load.ids + ids.len() };
        self.gets.insert(ticket, WaitingGet { asker, ids, found, missing: missing.len(), deadline });
    }

    /// What a peer has waiting.
    pub fn load_of(&self, peer: PeerId) -> Load {
        self.loads.get(&peer).copied().unwrap_or_default()
    }

    /// An object was sealed: records it with everyone who waits for it. Returns the peers that now hold it, one entry a
    /// get, and the gets that are complete, oldest first.
    ///
    /// Those that `location` has no place for wait on.
    pub fn sealed(
        &mut self,
        id: ObjectId,
        location: impl Fn(PeerId) -> Option<Location>,
    ) -> (Vec<PeerId>, Vec<WaitingGet>) {
        let tickets = self.by_object.remove(&id).unwrap_or_default();
        let mut holders = Vec::with_capacity(tickets.len());
        let mut complete = Vec::new();
        for ticket in tickets {
            let Some(get) = self.gets.get_mut(&ticket) else { continue };
            let Some(location) = location(get.asker.peer) else {
                self.by_object.entry(id).or_default().insert(ticket);
                continue;
            };
            get.found.insert(id, location);
            get.missing -= 1;
            holders.push(get.asker.peer);
            if get.missing == 0 {
                complete.extend(self.take(ticket));
            }
        }
        (holders, complete)
    }

    /// Whether anybody waits for this object.
    pub fn is_awaited(&self, id: ObjectId) -> bool {
        !self.by_object.is_empty() && self.by_object.contains_key(&id)
    }

    /// Takes every get out that waits for this object, oldest first.
    pub fn give_up(&mut self, id: ObjectId) -> Vec<WaitingGet> {
        let tickets = self.by_object.get(&id).cloned().unwrap_or_default();
        tickets.into_iter().filter_map(|ticket| self.take(ticket)).collect()
    }

    /// When the next deadline is.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// A get whose deadline has come, if there is one.
    pub fn expired(&mut self, now: Instant) -> Option<WaitingGet> {
        let (_, ticket) = *self.by_deadline.first().filter(|(deadline, _)| *deadline <= now)?;
        self.take(ticket)
    }

    /// The get that this asker parked, if it still waits; the oldest, if the asker gave several the same number.
    pub fn cancel(&mut self, asker: Asker) -> Option<WaitingGet> {
        let (_, ticket) = *self.by_asker.range((asker, 0)..=(asker, Ticket::MAX)).next()?;
        self.take(ticket)
    }

    /// Forgets all gets of a peer that is gone.
    pub fn forget(&mut self, peer: PeerId) {
        let (first, last) = (Asker { peer, number: 0 }, Asker { peer, number: u64::MAX });
        while let Some((_, ticket)) = self.by_asker.range((first, 0)..=(last, Ticket::MAX)).next().copied() {
            self.take(ticket);
        }
    }

    /// Takes a get out of every list.
    fn take(&mut self, ticket: Ticket) -> Option<WaitingGet> {
        let get = self.gets.remove(&ticket)?;
        for id in get.ids.iter().filter(|id| !get.found.contains_key(id)) {
            self.unlist(id, ticket);
        }
        self.by_asker.remove(&(get.asker, ticket));
        if let Some(deadline) = get.deadline {
            self.by_deadline.remove(&(deadline, ticket));
        }
        let load = self.load_of(get.asker.peer);
        match load.gets {
            0 | 1 => self.loads.remove(&get.asker.peer),
            gets => self.loads.insert(get.asker.peer, Load { gets: gets - 1, ids: load.ids - get.ids.len() }),
        };
        Some(get)
    }

    /// Removes a ticket from those who wait for an object, and the list when it was the last.
    fn unlist(&mut self, id: &ObjectId, ticket: Ticket) {
        if let Some(tickets) = self.by_object.get_mut(id) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.by_object.remove(id);
            }
        }
    }
    /// How many gets wait.
    pub fn count(&self) -> u64 {
        self.gets.len() as u64
    }

    /// Whether nothing at all is kept.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.gets.is_empty()
            && self.by_object.is_empty()
            && self.by_asker.is_empty()
            && self.by_deadline.is_empty()
            && self.loads.is_empty()
    }
}
