//! Creates that wait for room, in the order in which they came.
//!
//! The first one is served first, however small the others are. Creates that do not wait pass the queue while they fit;
//! how many bytes they took is counted here, so that the first one's turn comes.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use foldhash::HashMap;

use crate::object::ObjectId;
use crate::store::peers::PeerId;
use crate::store::waiters::Asker;

/// What a peer wants created. Its sizes can be.
#[derive(Clone, Copy, Debug)]
pub struct NewObject {
    /// Its name.
    pub id: ObjectId,
    /// Bytes of data.
    pub data_size: u64,
    /// Bytes of metadata; together with the data no more than 2^64.
    pub metadata_size: u64,
    /// Whether other objects may go to make room.
    pub evict: bool,
    /// Milliseconds that it lives after its seal; 0 without limit.
    pub ttl_ms: u64,
    /// Whether nobody at all is to write it once it is sealed.
    pub immutable: bool,
}

impl NewObject {
    /// Bytes it counts for.
    pub fn size(&self) -> u64 {
        self.data_size + self.metadata_size
    }
}

/// A create that waits.
#[derive(Clone, Copy, Debug)]
pub struct WaitingCreate {
    /// Who gets the answer.
    pub asker: Asker,
    /// What is to be created.
    pub new: NewObject,
    /// When waiting ends.
    pub deadline: Option<Instant>,
}

/// Names a waiting create; the younger one has the higher ticket.
type Ticket = u64;

/// All creates that wait.
#[derive(Debug, Default)]
pub struct Queue {
    creates: BTreeMap<Ticket, WaitingCreate>,
    by_asker: BTreeSet<(Asker, Ticket)>,
    by_deadline: BTreeSet<(Instant, Ticket)>,
    counts: HashMap<PeerId, usize>,
    next: Ticket,
    passed: u64,
}

impl Queue {
    /// Puts a create at the end.
    pub fn push(&mut self, create: WaitingCreate) {
        let ticket = self.next;
        self.next += 1;
        self.by_asker.insert((create.asker, ticket));
        self.by_deadline.extend(create.deadline.map(|deadline| (deadline, ticket)));
        *self.counts.entry(create.asker.peer).or_default() += 1;
        self.creates.insert(ticket, create);
    }

    /// The create whose turn is next.
    pub fn first(&self) -> Option<&WaitingCreate> {
        self.creates.values().next()
    }

    /// Takes out the create whose turn is next.
    pub fn take_first(&mut self) {
        if let Some(ticket) = self.creates.keys().next() {
            self.take(*ticket);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.creates.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.creates.is_empty()
    }

    /// How many of a peer wait.
    pub fn count_of(&self, peer: PeerId) -> usize {
        self.counts.get(&peer).copied().unwrap_or_default()
    }

    /// A create that does not wait took this many bytes.
    pub fn passed_by(&mut self, bytes: u64) {
        if !self.is_empty() {
            self.passed = self.passed.saturating_add(bytes);
        }
    }

    /// Bytes that creates which do not wait took since the first one here became the first.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// When the next deadline is.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// A create whose deadline has come, if there is one.
    pub fn expired(&mut self, now: Instant) -> Option<WaitingCreate> {
        let (_, ticket) = *self.by_deadline.first().filter(|(deadline, _)| *deadline <= now)?;
        self.take(ticket)
    }

    /// The create that this asker has waiting; the oldest, if the asker gave several the same number.
    pub fn cancel(&mut self, asker: Asker) -> Option<WaitingCreate> {
        let (_, ticket) = *self.by_asker.range((asker, 0)..=(asker, Ticket::MAX)).next()?;
        self.take(ticket)
    }

    /// Forgets all creates of a peer that is gone.
    pub fn forget(&mut self, peer: PeerId) {
        let (first, last) = (Asker { peer, number: 0 }, Asker { peer, number: u64::MAX });
        while let Some((_, ticket)) = self.by_asker.range((first, 0)..=(last, Ticket::MAX)).next().copied() {
            self.take(ticket);
        }
    }

    /// Takes a create out of every list.
    fn take(&mut self, ticket: Ticket) -> Option<WaitingCreate> {
        if self.creates.keys().next() == Some(&ticket) {
            self.passed = 0;
        }
        let create = self.creates.remove(&ticket)?;
        self.by_asker.remove(&(create.asker, ticket));
        if let Some(deadline) = create.deadline {
            self.by_deadline.remove(&(deadline, ticket));
        }
        match self.count_of(create.asker.peer) {
            0 | 1 => self.counts.remove(&create.asker.peer),
            count => self.counts.insert(create.asker.peer, count - 1),
        };
        Some(create)
    }

    /// Whether nothing at all is kept.
    #[cfg(test)]
    pub fn is_clean(&self) -> bool {
        self.is_empty() && self.by_asker.is_empty() && self.by_deadline.is_empty() && self.counts.is_empty()
    }
}
