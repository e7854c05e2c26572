//! The lock of a shared tensor, for threads and processes, and the version by which readers notice writers.
//!
//! The lock's word is 0, or says who has it: participant and thread. Whoever finds that a participant is gone puts itself in its place by one
//! compare-and-swap, so exactly one does. The version is odd from when a writer has the lock until it gives it back; so an odd version in
//! the hand of a new owner tells that the one before it did not come to the end.
//!
//! A reader copies while the version is even, and has a whole copy when the version is the same afterwards. A reader who came to
//! nothing that way a few times takes the lock and leaves the version as it is.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;

use super::control::{Alarm, Control, Tag};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::shm::sync::{AtomicU64, Ordering, Step, fence, order_of, taken};

const AT_LOCK: usize = 24;
const AT_VERSION: usize = 25;
const FREE: u64 = 0;
/// Somebody has the lock: above the tag, below the number of the thread.
const HELD: u64 = 1 << Tag::BITS;
/// A reader whose copies were torn so often takes the lock.
const MOST_TORN: u32 = 4;

thread_local! {
    static THREAD: Cell<u32> = const { Cell::new(0) };
}
static LAST_THREAD: AtomicU32 = AtomicU32::new(0);

/// A thread of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u64);

impl Owner {
    /// The calling thread.
    pub fn here(participant: Tag) -> Self {
        let mut number = THREAD.get();
        if number == 0 {
            number = LAST_THREAD.fetch_add(1, std::sync::atomic::Ordering::Relaxed).wrapping_add(1);
            THREAD.set(number);
        }
        Self::of(participant, number)
    }

    /// A thread by the number that it has among those of its process.
    pub fn of(participant: Tag, thread: u32) -> Self {
        Self(HELD | participant.bits() | u64::from(thread) << 32)
    }
}

/// How a lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// What it protects is as the last owner left it.
    InOrder,
    /// The last owner died with it, and what it protects may be half written.
    OwnerDied,
}

/// What became of an attempt to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The copy is of this version.
    Whole(u64),
    /// Somebody writes, or did: once more.
    Torn,
    /// A writer died, and nobody has taken the lock since.
    OwnerDied,
}

/// The lock and the version in a control file.
#[derive(Clone, Copy, Debug)]
pub struct Lock<'a> {
    control: &'a Control,
}

impl<'a> Lock<'a> {
    /// Those of this file.
    pub fn of(control: &'a Control) -> Self {
        Self { control }
    }

    /// To wait until the lock may be free.
    pub fn freed(self) -> Alarm<'a> {
        self.control.alarm(0)
    }

    /// To wait until a copy may be whole.
    pub fn written(self) -> Alarm<'a> {
        self.control.alarm(1)
    }

    /// Takes the lock for writing, if it is free or its owner is gone.
    ///
    /// # Errors
    /// [`Error::Busy`] when this thread has it already, and would wait for itself.
    pub fn try_take(self, me: Owner) -> Result<Option<Taken>> {
        Ok(if self.try_own(me)? { Some(self.begin_writing()) } else { None })
    }

    fn try_own(self, me: Owner) -> Result<bool> {
        let order = order_of(Step::LockOrder, Ordering::SeqCst);
        match self.word().compare_exchange(FREE, me.0, order, Ordering::SeqCst) {
            Ok(_) => Ok(true),
            Err(held) if held == me.0 => Err(Error::Busy("this thread has the lock already".into())),
            Err(held) if taken(Step::LockOfDead) && !self.is_alive(held) => Ok(self.take_over(held, me)),
            Err(_) => Ok(false),
        }
    }

    /// Whether the last writer died, and nobody has taken the lock since.
    pub fn is_left_behind(self) -> bool {
        let version = self.version();
        version % 2 == 1 && self.is_left_at(version)
    }

    /// The same where the version was odd.
    fn is_left_at(self, version: u64) -> bool {
        let held = self.word().load(Ordering::SeqCst);
        (held == FREE || !self.is_alive(held)) && self.version() == version
    }

    /// Whether another thread of the same participant has the lock.
    pub fn is_held_beside(self, me: Owner) -> bool {
        let held = self.word().load(Ordering::SeqCst);
        held != FREE && held != me.0 && Tag::from_word(held) == Tag::from_word(me.0)
    }

    fn is_alive(self, held: u64) -> bool {
        self.control.is_alive(Tag::from_word(held))
    }

    fn take_over(self, dead: u64, me: Owner) -> bool {
        if taken(Step::TakeOverOnce) {
            return self.word().compare_exchange(dead, me.0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        }
        self.word().swap(me.0, Ordering::SeqCst);
        true
    }

    fn begin_writing(self) -> Taken {
        let version = self.version_word().load(Ordering::Relaxed);
        let is_left = version % 2 == 1;
        crash::at(Point::LockTaken);
        if !is_left && taken(Step::VersionFirst) {
            self.version_word().store(version + 1, order_of(Step::OwnerOrder, Ordering::Release));
        }
        // Who sees something of what is written from here on sees the odd version.
        barrier(Step::VersionBarrier, Ordering::Release);
        crash::at(Point::LockWriting);
        if is_left { Taken::OwnerDied } else { Taken::InOrder }
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when this thread does not have it.
    pub fn release(self, me: Owner) -> Result<()> {
        if !self.is_mine(me) {
            return Err(Error::InvalidArgument("this thread does not have the lock".into()));
        }
        let version = self.version_word().load(Ordering::Relaxed);
        self.version_word().store((version | 1).wrapping_add(1), order_of(Step::VersionOrder, Ordering::Release));
        crash::at(Point::LockWritten);
        self.free();
        self.written().notify_all();
        Ok(())
    }

    /// Leaves the lock, if this thread has it, to the next one, who is told that its owner died.
    pub fn abandon(self, me: Owner) {
        if self.is_mine(me) {
            self.free();
            self.written().notify_all();
        }
    }

    fn free(self) {
        self.word().swap(FREE, order_of(Step::UnlockOrder, Ordering::SeqCst));
        crash::at(Point::LockFreed);
        self.freed().notify_one();
    }

    /// Whether this thread has the lock.
    pub fn is_mine(self, me: Owner) -> bool {
        self.word().load(Ordering::Relaxed) == me.0
    }

    /// Odd while somebody has the lock for writing. Grows with every time that it is taken or given back.
    pub fn version(self) -> u64 {
        self.version_word().load(Ordering::SeqCst)
    }

    /// Copies once, after so many attempts that came to nothing.
    ///
    /// # Errors
    /// What `copy` says.
    pub fn try_copy(self, me: Owner, torn: u32, copy: impl FnOnce() -> Result<()>) -> Result<Copied> {
        if self.is_mine(me) {
            return copy().map(|()| Copied::Whole(self.version()));
        }
        let before = self.version_word().load(order_of(Step::CopyOrder, Ordering::Acquire));
        if before % 2 == 1 {
            return Ok(if self.is_left_at(before) { Copied::OwnerDied } else { Copied::Torn });
        }
        if torn >= MOST_TORN {
            return self.copy_alone(me, copy);
        }
        copy()?;
        barrier(Step::CopyBarrier, Ordering::Acquire);
        let is_whole = !taken(Step::CopyCheck) || self.version_word().load(Ordering::Relaxed) == before;
        Ok(if is_whole { Copied::Whole(before) } else { Copied::Torn })
    }

    /// Copies while nobody can write.
    fn copy_alone(self, me: Owner, copy: impl FnOnce() -> Result<()>) -> Result<Copied> {
        if !self.try_own(me)? {
            return Ok(Copied::Torn);
        }
        // Odd in the hand of one who has only read: its last writer died, and the next one is to be told.
        let version = self.version();
        let outcome =
            if version.is_multiple_of(2) { copy().map(|()| Copied::Whole(version)) } else { Ok(Copied::OwnerDied) };
        self.free();
        self.written().notify_all();
        outcome
    }

    fn word(self) -> &'a AtomicU64 {
        self.control.step();
        self.control.word(AT_LOCK)
    }

    fn version_word(self) -> &'a AtomicU64 {
        self.control.step();
        self.control.word(AT_VERSION)
    }
}

fn barrier(step: Step, order: Ordering) {
    if taken(step) {
        fence(order);
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::shared::files::{ControlFile, map_control};
    use std::os::fd::AsFd;

    /// A file with two participants.
    fn two() -> (ControlFile, Control, [Tag; 2]) {
        let file = ControlFile::create().unwrap();
        let words = map_control(&file.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let control = Control::new(&words).unwrap();
        let tags = [0, 1].map(|number| {
            file.turn_life(number);
            control.tag_of(number).unwrap()
        });
        (file, control, tags)
    }

    #[test]
    fn one_thread_of_one_participant_has_the_lock() {
        let (_file, control, [one, two]) = two();
        let lock = Lock::of(&control);
        let (mine, neighbours, theirs) = (Owner::of(one, 1), Owner::of(one, 2), Owner::of(two, 1));
        assert_eq!((lock.try_take(mine).unwrap(), lock.version()), (Some(Taken::InOrder), 1));
        assert!(matches!(lock.try_take(mine), Err(Error::Busy(_))));
        for other in [neighbours, theirs] {
            assert_eq!(lock.try_take(other).unwrap(), None);
            assert!(matches!(lock.release(other), Err(Error::InvalidArgument(_))));
        }
        lock.release(mine).unwrap();
        assert!(lock.release(mine).is_err());
        assert_eq!((lock.try_take(theirs).unwrap(), lock.version()), (Some(Taken::InOrder), 3));
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        let (_file, _, [one, _]) = two();
        let here = Owner::here(one);
        assert_eq!(here, Owner::here(one));
        assert_ne!(here, std::thread::spawn(move || Owner::here(one)).join().unwrap());
    }

    #[test]
    fn who_finds_a_dead_owner_has_the_lock_and_is_told_once() {
        let (file, control, [one, two]) = two();
        let lock = Lock::of(&control);
        lock.try_take(Owner::of(one, 1)).unwrap();
        let copied = |torn| lock.try_copy(Owner::of(two, 1), torn, || Ok(())).unwrap();
        assert_eq!(copied(0), Copied::Torn);
        file.turn_life(0);
        assert_eq!((copied(0), copied(MOST_TORN)), (Copied::OwnerDied, Copied::OwnerDied));
        assert_eq!(lock.try_take(Owner::of(two, 1)).unwrap(), Some(Taken::OwnerDied));
        assert_eq!((copied(0), lock.try_take(Owner::of(two, 2)).unwrap()), (Copied::Whole(1), None));
        lock.release(Owner::of(two, 1)).unwrap();
        assert_eq!((lock.try_take(Owner::of(two, 2)).unwrap(), lock.version()), (Some(Taken::InOrder), 3));
    }

    #[test]
    fn a_copy_that_was_written_over_is_torn_and_in_the_end_nobody_writes() {
        let (_file, control, [one, two]) = two();
        let lock = Lock::of(&control);
        let (writer, reader) = (Owner::of(one, 1), Owner::of(two, 1));
        let write = || lock.try_take(writer).and_then(|taken| taken.map_or(Ok(()), |_| lock.release(writer)));
        for torn in 0..MOST_TORN {
            assert_eq!(lock.try_copy(reader, torn, write).unwrap(), Copied::Torn);
        }
        assert_eq!(lock.try_copy(reader, MOST_TORN, write).unwrap(), Copied::Whole(u64::from(MOST_TORN) * 2));
        assert!(lock.try_copy(reader, 0, || Err(Error::Interrupted)).is_err());
        assert!(lock.try_copy(reader, MOST_TORN, || Err(Error::Interrupted)).is_err());
        assert_eq!(lock.try_take(writer).unwrap(), Some(Taken::InOrder));
    }

    #[test]
    fn what_a_thread_leaves_at_its_end_is_the_next_ones_who_is_told() {
        let (_file, control, [one, two]) = two();
        let lock = Lock::of(&control);
        lock.try_take(Owner::of(one, 1)).unwrap();
        lock.abandon(Owner::of(one, 2));
        assert_eq!(lock.try_take(Owner::of(two, 1)).unwrap(), None);
        lock.abandon(Owner::of(one, 1));
        assert!(lock.is_left_behind());
        assert_eq!(lock.try_copy(Owner::of(two, 1), 0, || Ok(())).unwrap(), Copied::OwnerDied);
        assert_eq!(lock.try_take(Owner::of(two, 1)).unwrap(), Some(Taken::OwnerDied));
    }

    #[test]
    fn a_reader_who_died_with_the_lock_left_nothing_half_written() {
        let (file, control, [one, two]) = two();
        let lock = Lock::of(&control);
        assert!(lock.try_own(Owner::of(one, 1)).unwrap());
        file.turn_life(0);
        assert_eq!(lock.try_take(Owner::of(two, 1)).unwrap(), Some(Taken::InOrder));
    }
}
