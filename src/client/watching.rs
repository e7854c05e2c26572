//! Watching objects without a thread: the store knocks at a descriptor when one of them is sealed, for whoever polls many of
//! those. It says only that it is worth to look again.
//!
//! A watch is a want with a number beyond the bells that threads sleep by. The store lists the numbers it has rung in shared memory
//! and then knocks. A number is used again as late as can be: the store may ring it once more after its watch has ended, and then
//! somebody looks for nothing.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};

use crate::client::submit::{Ring, Whose};
use crate::client::{Client, NO_BYTES, lock};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::object::ObjectId;
use crate::shm::ring::record::Record;
use crate::shm::ring::{ALL_BELLS, BELLS};
use crate::transport::knock::listen;

/// Objects that a client can watch.
const MOST: usize = ALL_BELLS - BELLS;

/// What a client watches.
#[derive(Debug)]
pub(super) struct Watches {
    /// The store knocks here, and its end is the store's.
    door: OwnedFd,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    by_id: HashMap<ObjectId, u64>,
    by_number: HashMap<u64, ObjectId>,
    /// The number that was given last.
    last: u64,
    /// How many the store had rung when that was last looked at.
    heard: u64,
    /// Those that were rung and that nobody was told of.
    untold: BTreeSet<ObjectId>,
    has_ended: bool,
}

impl Client {
    /// Watches objects: the descriptor can be read when one of them is sealed, at once if it is already. What is watched
    /// already, or was rung and not told yet, stays so.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the store gives no ring, [`Error::Busy`] when they would be too many,
    /// [`Error::Disconnected`], [`Error::Forked`].
    pub fn watch(&self, ids: &[ObjectId]) -> Result<()> {
        let ring = self.watching_ring()?;
        let mut watched = ring.watches.lock();
        if watched.has_ended {
            return Err(ended());
        }
        for id in ids {
            let Some(bell) = watched.add(*id)? else { continue };
            self.connection.submit(ring, Whose::Nobodys, |_| Record::Want { id: *id, bell }, NO_BYTES)?;
        }
        Ok(())
    }

    /// Watches objects no more. Nobody is told of them later, unless they are watched again.
    ///
    /// # Errors
    /// As for [`Client::watch`], but [`Error::Busy`].
    pub fn unwatch(&self, ids: &[ObjectId]) -> Result<()> {
        let ring = self.watching_ring()?;
        let mut watched = ring.watches.lock();
        for id in ids {
            let Some(bell) = watched.remove(*id) else { continue };
            self.connection.submit(ring, Whose::Nobodys, |_| Record::Unwant { bell }, NO_BYTES)?;
        }
        Ok(())
    }

    /// Takes at most so many watched objects that it is worth to look for: each was sealed since it was watched, or may have been.
    /// They are not watched any more. When they are fewer than `most`, the descriptor is quiet until there are others.
    ///
    /// # Errors
    /// [`Error::Disconnected`] when there are none and will be none; [`Error::Unsupported`], [`Error::Forked`].
    pub fn rung(&self, most: usize) -> Result<Vec<ObjectId>> {
        let ring = self.watching_ring()?;
        let mut watched = ring.watches.lock();
        // Listened first: a knock that comes now is heard the next time.
        watched.has_ended |= !ring.watches.listen();
        let rung = ring.rung_since(watched.heard);
        crash::at(Point::WatchHeard);
        for bell in watched.note(rung) {
            self.connection.submit(ring, Whose::Nobodys, |_| Record::Unwant { bell }, NO_BYTES)?;
        }
        let told: Vec<_> = (0..most).map_while(|_| watched.untold.pop_first()).collect();
        if told.is_empty() && watched.has_ended { Err(ended()) } else { Ok(told) }
    }

    /// What to poll: it can be read when [`Client::rung`] has something to tell. `None` in a forked child, and where nothing can
    /// be watched.
    pub fn watch_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watching_ring().ok().map(|ring| ring.watches.door.as_fd())
    }

    fn watching_ring(&self) -> Result<&Ring> {
        self.check_usable()?;
        let none = || Error::Unsupported("the store gives no ring, so it cannot say when an object is sealed".into());
        self.connection.ring().ok_or_else(none)
    }
}

impl Watches {
    /// None yet.
    pub(super) fn new(door: OwnedFd) -> Self {
        Self { door, watched: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        lock(&self.watched)
    }

    /// Makes the descriptor quiet. Returns whether the store may knock again.
    fn listen(&self) -> bool {
        loop {
            match listen(&self.door) {
                None => return false,
                Some(0) => return true,
                Some(_) => {}
            }
        }
    }
}

impl Watched {
    /// The number by which an object is to be watched from now on; `None` when nothing needs to be done.
    fn add(&mut self, id: ObjectId) -> Result<Option<u64>> {
        if self.by_id.contains_key(&id) || self.untold.contains(&id) {
            return Ok(None);
        }
        if self.by_id.len() >= MOST {
            return Err(Error::Busy(format!("{MOST} objects are watched, and no more can be")));
        }
        let bell = self.free_number();
        self.by_id.insert(id, bell);
        self.by_number.insert(bell, id);
        Ok(Some(bell))
    }

    /// The next one that is not in use, of which there is one.
    fn free_number(&mut self) -> u64 {
        loop {
            let next = self.last + 1;
            self.last = if (BELLS as u64..ALL_BELLS as u64).contains(&next) { next } else { BELLS as u64 };
            if !self.by_number.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// Ends a watch. Returns its number if the store may have to be told.
    fn remove(&mut self, id: ObjectId) -> Option<u64> {
        self.untold.remove(&id);
        let bell = self.by_id.remove(&id)?;
        self.by_number.remove(&bell);
        Some(bell)
    }

    /// What the store has rung. Returns the numbers that it may not have: where it may have been any, all watches end.
    fn note(&mut self, (rung, heard): (Option<Vec<u64>>, u64)) -> Vec<u64> {
        self.heard = heard;
        let is_certain = rung.is_some();
        let numbers = rung.unwrap_or_else(|| self.by_number.keys().copied().collect());
        for number in &numbers {
            if let Some(id) = self.by_number.remove(number) {
                self.by_id.remove(&id);
                self.untold.insert(id);
            }
        }
        if is_certain { Vec::new() } else { numbers }
    }
}

fn ended() -> Error {
    Error::Disconnected("it closed the connection".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId::new([n; 20])
    }

    #[test]
    fn what_is_watched_has_one_number_and_is_told_once() {
        let mut watched = Watched::default();
        let first = watched.add(id(1)).unwrap().unwrap();
        assert_eq!((first, watched.add(id(1)).unwrap()), (BELLS as u64, None));
        let second = watched.add(id(2)).unwrap().unwrap();
        assert!(watched.note((Some(vec![second, second, 7]), 3)).is_empty());
        assert_eq!((watched.heard, &watched.untold), (3, &[id(2)].into()));
        assert_eq!(watched.add(id(2)).unwrap(), None, "it will be told");
        assert_eq!((watched.remove(id(2)), watched.untold.len()), (None, 0));
        assert_eq!(watched.remove(id(1)), Some(first));
        assert!(watched.by_id.is_empty() && watched.by_number.is_empty());
    }

    #[test]
    fn when_more_were_rung_than_are_listed_all_are_worth_a_look() {
        let mut watched = Watched::default();
        (0..9).for_each(|n| assert!(watched.add(id(n)).unwrap().is_some()));
        assert_eq!(watched.note((None, 5000)).len(), 9, "and the store is to ring none of them later");
        assert_eq!((watched.untold.len(), watched.by_id.len(), watched.by_number.len()), (9, 0, 0));
    }

    #[test]
    fn numbers_come_again_when_all_others_did_and_more_than_there_are_is_refused() {
        let mut watched = Watched::default();
        let ids: Vec<_> = (0..MOST as u32)
            .map(|n| ObjectId::from_bytes(&[&[0; 16][..], &n.to_le_bytes()].concat()).unwrap())
            .collect();
        let numbers: BTreeSet<_> = ids.iter().map(|id| watched.add(*id).unwrap().unwrap()).collect();
        assert_eq!((numbers.first(), numbers.last()), (Some(&(BELLS as u64)), Some(&(ALL_BELLS as u64 - 1))));
        assert!(watched.add(id(9)).unwrap_err().to_string().contains("65472"));
        assert_eq!(watched.remove(ids[100]), Some(BELLS as u64 + 100));
        assert_eq!(watched.add(id(9)).unwrap(), Some(BELLS as u64 + 100));
    }
}
