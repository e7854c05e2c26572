//! Grants: room in a peer's own segments that it may fill before it asks for anything, and that the store can take back from who does
//! not use it, at once and without asking.
//!
//! For each grant there is a word of the store's, which has the grant's number while it stands, and a word of the peer's, which has it
//! while the room is in use. The peer writes its word and then looks at the store's; the store clears its own and then looks at the
//! peer's. One of the two always sees what the other did, so room that was taken back is not being written. A peer that says of
//! everything that it is in use keeps what it was granted, which is bounded.

use super::{AT_GRANTED, AT_IN_USE, GRANTS, PEER_WORDS, STORE_WORDS};
use crate::crash::{self, Point};
use crate::error::Result;
use crate::shm::sync::{AtomicU64, Ordering, Step, order_of, taken, total_order};
use crate::shm::words::Words;

/// The peer's view.
#[derive(Debug)]
pub struct Grantee {
    own: Words<AtomicU64>,
    stores: Words<AtomicU64>,
}

impl Grantee {
    /// Of a ring: `own` this process alone writes, `stores` the store alone.
    ///
    /// # Errors
    /// As for [`Submitter::new`](super::submitter::Submitter::new).
    pub fn new(own: &Words<AtomicU64>, stores: &Words<AtomicU64>) -> Result<Self> {
        Ok(Self { own: own.part(0..PEER_WORDS)?.for_writing()?, stores: stores.part(0..STORE_WORDS)? })
    }

    /// Begins to use a grant. `false`: it does not stand any more, and its room is somebody else's. Each grant has one user at a time.
    pub fn begin(&self, number: u64) -> bool {
        let (in_use, granted) =
            (&self.own.all()[AT_IN_USE + slot(number)], &self.stores.all()[AT_GRANTED + slot(number)]);
        if taken(Step::UseFirst) {
            in_use.swap(number, Ordering::SeqCst);
            total_order(Step::UseBarrier);
        }
        crash::at(Point::GrantBegun);
        let stands = granted.load(Ordering::SeqCst) == number;
        if !stands {
            self.end(number);
        }
        stands
    }

    /// Nothing is written there any more.
    pub fn end(&self, number: u64) {
        self.own.all()[AT_IN_USE + slot(number)].store(0, order_of(Step::UseOrder, Ordering::Release));
    }
}

/// The store's view. Whatever the peer's words say, nothing here panics.
#[derive(Debug)]
pub struct Grantor {
    peers: Words<AtomicU64>,
    own: Words<AtomicU64>,
}

impl Grantor {
    /// Of a ring: `peers` the peer alone writes, `own` this process alone.
    ///
    /// # Errors
    /// As for [`Collector::new`](super::collector::Collector::new).
    pub fn new(peers: &Words<AtomicU64>, own: &Words<AtomicU64>) -> Result<Self> {
        Ok(Self { peers: peers.part(0..PEER_WORDS)?, own: own.part(0..STORE_WORDS)?.for_writing()? })
    }

    /// A grant stands from now on. Those whose numbers are the same modulo [`GRANTS`] never stand together.
    pub fn grant(&self, number: u64) {
        self.own.all()[AT_GRANTED + slot(number)].store(number, Ordering::Release);
        crash::at(Point::GrantStands);
    }

    /// Takes a grant back. `false`: it is in use, and only the peer can end that; nobody begins to use it again.
    pub fn revoke(&self, number: u64) -> bool {
        self.own.all()[AT_GRANTED + slot(number)].swap(0, Ordering::SeqCst);
        crash::at(Point::GrantRevoked);
        total_order(Step::RevokeBarrier);
        self.peers.all()[AT_IN_USE + slot(number)].load(Ordering::SeqCst) != number
    }
}

fn slot(number: u64) -> usize {
    number as usize % GRANTS
}
