//! What lies in the memory that peers submit by: records.

use plasma_store::object::Location;
use plasma_store::shm::ring::SLOTS;
use plasma_store::shm::ring::collector::{Collector, Taken};
use plasma_store::shm::ring::files::{NewRing, Staging, open_ring};
use plasma_store::shm::ring::record::{Outcome, Record, RecordWords};
use plasma_store::shm::ring::submitter::Submitter;
use std::cell::RefCell;
use std::os::fd::AsFd;

/// Both sides of a ring, in shared memory as they are in a store.
struct Ring {
    submitter: Submitter,
    peers: Staging,
    collector: Collector,
    stores: Staging,
    /// The number of the next record.
    next: u64,
}

impl Ring {
    fn new() -> Self {
        let (ring, outcomes) = NewRing::create().unwrap();
        let submissions = ring.submissions.as_fd().try_clone_to_owned().unwrap();
        let (submitter, _, peers) = open_ring(&submissions, &outcomes).unwrap();
        let (collector, _, stores) = ring.collect().unwrap();
        Self { submitter, peers, collector, stores, next: 0 }
    }

    /// A record comes out as it went in, and so does what became of it, once.
    fn pass(&mut self, record: &Record, staged: u64) {
        let number = self.next;
        self.next += 1;
        assert_eq!(self.submitter.outcome(number), None);
        let is_awaited = number.is_multiple_of(2);
        match is_awaited {
            true => self.submitter.submit(number, record),
            false => self.submitter.submit_unawaited(number, record),
        }
        assert!(self.collector.has_more());
        assert_eq!(self.collector.take().unwrap(), Some(Taken { number, record: *record, is_awaited }));
        assert!(!self.collector.has_more() && self.collector.take().unwrap().is_none());
        let location = Location { segment: number as i32, offset: staged, data_size: number, metadata_size: !staged };
        let outcome = Outcome { refusal: staged as i32, location };
        self.collector.done(number, &outcome);
        self.collector.served(0);
        assert_eq!((self.submitter.outcome(number), self.submitter.served()), (Some(outcome), number + 1));
        assert!(self.submitter.outcome(number + SLOTS as u64).is_none());
    }

    /// Bytes lie where they were staged, or are refused on both sides.
    fn stage(&self, at: u64, bytes: &[u8]) {
        let mut copy = vec![0; bytes.len()];
        let written = self.peers.write(at, bytes);
        assert_eq!(written.is_ok(), self.stores.read(at, &mut copy).is_ok());
        assert!(written.is_err() || copy == bytes);
        assert!(self.stores.write(at, bytes).is_err(), "the store writes nothing there");
    }
}

thread_local! {
    static RING: RefCell<Ring> = RefCell::new(Ring::new());
}

/// Records, 64 bytes each. What is accepted means the same after it was written again, and comes out of a ring as it went in.
pub fn ring(data: &[u8]) -> bool {
    let mut accepted = false;
    for bytes in data.chunks(64) {
        let mut words = RecordWords::default();
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        let Some(record) = Record::decode(&words) else { continue };
        accepted = true;
        let again = record.encode();
        assert_eq!(Record::decode(&again), Some(record));
        assert!(again.iter().zip(&words).all(|(ours, theirs)| ours & !theirs == 0), "{words:x?} became {again:x?}");
        RING.with_borrow_mut(|ring| {
            ring.pass(&record, words[6]);
            ring.stage(words[6], bytes);
        });
    }
    accepted
}
