//! The store's side of the pins: nothing is reused that a peer may be reading.

use super::COUNT;
use crate::error::Result;
use crate::object::ObjectId;
use crate::shm::index::encoding::{Sleep, Stage};
use crate::shm::index::writer::{Descriptor, IndexWriter};
use crate::shm::sync::{AtomicU32, Ordering, Step, taken};
use crate::shm::words::Words;

/// An index together with the pins of all live peers. One thread uses it at a time.
#[derive(Debug)]
pub struct SharedIndex {
    index: IndexWriter,
    /// Each with the key that its connection goes by.
    peers: Vec<(u64, Words<AtomicU32>)>,
    /// Deleted objects that somebody held.
    doomed: Vec<Descriptor>,
    /// For each descriptor the gets of all peers when they were last counted.
    uses: Vec<u32>,
    /// Peers were told that the store sleeps.
    sleeps: bool,
}

impl SharedIndex {
    /// Without peers yet.
    pub fn new(index: IndexWriter) -> Self {
        let uses = vec![0; index.capacity()];
        Self { index, peers: Vec::new(), doomed: Vec::new(), uses, sleeps: false }
    }

    /// The index, for what needs no look at pins: [`IndexWriter::insert`] and the like.
    pub fn index(&mut self) -> &mut IndexWriter {
        &mut self.index
    }

    /// From here on the pins of a new peer count. It must not have been told of the index before.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there are fewer pins than descriptors.
    pub fn add_peer(&mut self, key: u64, pins: &Words<AtomicU32>) -> Result<()> {
        self.peers.push((key, pins.part(0..self.index.capacity())?));
        Ok(())
    }

    /// Everything that a peer held is free. Its process must be gone, with its forked children: the connection hung up.
    /// Doomed objects may have become free: [`reclaim_doomed`](Self::reclaim_doomed).
    pub fn remove_peer(&mut self, key: u64) {
        self.peers.retain(|(peer, _)| *peer != key);
    }

    /// Live peers.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Whether a peer has got the object since this was last asked, or it was entered. A hint: peers that come and go
    /// change the answer, and one that lies only changes the order of eviction.
    pub fn was_used(&mut self, descriptor: &Descriptor) -> bool {
        let uses = uses(self.words(descriptor));
        std::mem::replace(&mut self.uses[descriptor.index()], uses) != uses
    }

    /// Whether a peer holds the object at this moment.
    pub fn is_held(&self, descriptor: &Descriptor) -> bool {
        taken(Step::Scan) && self.words(descriptor).any(|word| word & COUNT != 0)
    }

    /// How many peers hold the object at this moment.
    pub fn readers(&self, descriptor: &Descriptor) -> u32 {
        self.words(descriptor).map(|word| u32::from(word & COUNT != 0)).sum()
    }

    /// Whether this peer holds the object at this moment.
    pub fn is_held_by(&self, key: u64, descriptor: &Descriptor) -> bool {
        let pins = self.peers.iter().find(|(peer, _)| *peer == key);
        pins.is_some_and(|(_, pins)| pins.all()[descriptor.index()].load(Ordering::SeqCst) & COUNT != 0)
    }

    /// Takes an object out of the index, unless a peer holds it: then it stays, and its descriptor comes back.
    ///
    /// When it is gone, its memory may be reused at once.
    pub fn evict(&mut self, descriptor: Descriptor) -> Result<(), Descriptor> {
        let before = self.index.condemn(&descriptor);
        self.free_or(descriptor, before)
    }

    /// As [`evict`](Self::evict), but an object that is held goes when it is not held any more. `false`: not yet.
    pub fn delete(&mut self, descriptor: Descriptor) -> bool {
        self.index.condemn(&descriptor);
        match self.free_or(descriptor, Stage::Doomed) {
            Ok(()) => true,
            Err(held) => {
                self.doomed.push(held);
                false
            }
        }
    }

    /// Tells peers that an object was deleted, which goes later for reasons of the caller's.
    pub fn doom(&mut self, descriptor: &Descriptor) {
        self.index.restore(descriptor, Stage::Doomed);
    }

    /// Deleted objects that are still held.
    pub fn doomed(&self) -> usize {
        self.doomed.len()
    }

    /// Takes those deleted objects out of the index that nobody holds any more, and tells which. To be called when a
    /// peer kicked or went, and when memory is short.
    pub fn reclaim_doomed(&mut self) -> Vec<ObjectId> {
        let mut gone = Vec::new();
        for descriptor in std::mem::take(&mut self.doomed) {
            let id = self.index.id(&descriptor);
            // Its state changes only when that will help: a get that meets it would have to wait.
            let outcome = if self.is_held(&descriptor) { Err(descriptor) } else { self.evict(descriptor) };
            match outcome {
                Ok(()) => gone.push(id),
                Err(held) => self.doomed.push(held),
            }
        }
        gone
    }

    /// The store is about to sleep. `false`: it must not, as a doomed object is not held any more.
    ///
    /// After `true` a peer that gives up the last hold of a doomed object kicks, or with `waits_for_room` of any object. The
    /// caller then looks for room once more before it sleeps. Call [`woke`](Self::woke) afterwards in both cases.
    pub fn may_sleep(&mut self, waits_for_room: bool) -> bool {
        self.sleeps = true;
        self.index.set_sleep(if waits_for_room { Sleep::UntilRoom } else { Sleep::UntilDoomed });
        !taken(Step::SleepCheck) || self.doomed.iter().all(|descriptor| self.is_held(descriptor))
    }

    /// The store does not sleep any more.
    pub fn woke(&mut self) {
        // Peers look at the word again and again: what does not change is not written.
        if std::mem::take(&mut self.sleeps) {
            self.index.set_sleep(Sleep::Awake);
        }
    }

    /// Frees a condemned object, or makes it what it shall be when it is held.
    fn free_or(&mut self, descriptor: Descriptor, stage: Stage) -> Result<(), Descriptor> {
        if self.is_held(&descriptor) {
            self.index.restore(&descriptor, stage);
            return Err(descriptor);
        }
        self.uses[descriptor.index()] = uses(self.words(&descriptor));
        self.index.free(descriptor);
        Ok(())
    }

    /// The pin words of all peers for one object.
    fn words(&self, descriptor: &Descriptor) -> impl Iterator<Item = u32> {
        let index = descriptor.index();
        self.peers.iter().map(move |(_, pins)| pins.all()[index].load(Ordering::SeqCst))
    }
}

/// The gets that these words count.
fn uses(words: impl Iterator<Item = u32>) -> u32 {
    words.fold(0, |sum, word| sum.wrapping_add(word & !COUNT))
}
