//! The control file of a shared object: made by the store, mapped by it and by all participants for writing.
//!
//! Its length is fixed, so no page of it can ever be behind the end. A participant may take pages away; then whoever touches them has
//! new ones of zeros.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::{ALARM_STEP, ALARMS, CONTROL_WORDS, FIRST_LIFE};
use crate::error::Result;
#[cfg(not(loom))]
use crate::shm::futex;
use crate::shm::mapping::Mapping;
#[cfg(loom)]
use crate::shm::models::futex;
use crate::shm::segment::Segment;
use crate::shm::sync::AtomicU64;
use crate::shm::words::Words;

const BYTES: u64 = (CONTROL_WORDS * size_of::<AtomicU64>()) as u64;

/// The store's side.
#[derive(Debug)]
pub struct ControlFile {
    file: Segment,
    words: Words<AtomicU64>,
}

impl ControlFile {
    /// Makes one. Nobody is alive in it.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] when there is no memory or no descriptor.
    pub fn create() -> Result<Self> {
        let file = Segment::create("plasma_store_control", BYTES)?;
        file.allocate(0..BYTES)?;
        let mapping = Mapping::read_write(&file, BYTES)?;
        Ok(Self { words: Words::of_mapping(&Arc::new(mapping), 0, CONTROL_WORDS)?, file })
    }

    /// A participant has joined, or is gone.
    pub fn turn_life(&self, participant: u32) {
        self.add(FIRST_LIFE + participant as usize, 1);
    }

    /// Wakes everybody who waits, to look again. A look that was made before is known to be old.
    pub fn ring_all(&self) {
        ALARMS.into_iter().for_each(|at| self.add(at, ALARM_STEP));
    }

    fn add(&self, at: usize, number: u32) {
        let Some(word) = self.words.all().get(at) else { return };
        if let Err(errno) = futex::add_and_wake_all(word, number) {
            log::warn!("the kernel cannot change word {at} of a shared object's control file: {errno}");
        }
    }
}

impl AsFd for ControlFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The words of a control file that the store gave, as a participant maps them.
///
/// # Errors
/// [`crate::error::Error::Protocol`] when it is too short, [`crate::error::Error::Io`] when it cannot be mapped.
pub fn map_control(file: &OwnedFd) -> Result<Words<AtomicU64>> {
    Words::of_mapping(&Arc::new(Mapping::read_write(file, BYTES)?), 0, CONTROL_WORDS)
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use nix::fcntl::{FallocateFlags, fallocate};

    use super::*;
    use crate::shm::sync::Ordering;

    #[test]
    fn the_store_changes_lives_and_alarms_also_where_somebody_took_the_memory_away() {
        let control = ControlFile::create().unwrap();
        let words = map_control(&control.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let word = |at: usize| words.all()[at].load(Ordering::SeqCst);
        words.all()[ALARMS[1]].store(1, Ordering::SeqCst);
        control.turn_life(7);
        control.ring_all();
        assert_eq!((word(FIRST_LIFE + 6), word(FIRST_LIFE + 7)), (0, 1));
        assert_eq!(ALARMS.map(word), [2, 3, 2]);
        control.turn_life(7);
        assert_eq!(word(FIRST_LIFE + 7), 2);
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(control.as_fd(), mode, 0, BYTES as i64).unwrap();
        control.turn_life(7);
        assert_eq!(word(FIRST_LIFE + 7), 1);
    }
}
