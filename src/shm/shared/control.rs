//! The words of a control file as its participants use them: who lives, and alarms by which they wait for each other.
//!
//! An [`Alarm`] is a count of events. Who waits changes it and marks it, looks once more at what it waits for, and then sleeps until the
//! count is another. Who changes something looks for the mark afterwards. One of the two always sees what the other did. The
//! store counts on as well when a participant joins or is gone, after it said so in the lives.

use std::time::Duration;

use super::{ALARM_STEP, ALARMS, CONTROL_WORDS, FIRST_LIFE, MOST_PARTICIPANTS};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
#[cfg(not(loom))]
use crate::shm::futex;
#[cfg(loom)]
use crate::shm::models::futex;
use crate::shm::sync::{AtomicU64, Ordering, Step, taken, total_order};
use crate::shm::words::Words;

const NUMBER_BITS: u32 = 9;
const LIFE_BITS: u32 = 21;
/// In an alarm: somebody may sleep.
const ASLEEP: u64 = 1;

/// A participant, told from all others that had its number before or will have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u32);

impl Tag {
    /// Bits that it has.
    pub const BITS: u32 = NUMBER_BITS + LIFE_BITS;

    /// The tag in the lower bits of a word.
    pub fn from_word(word: u64) -> Self {
        Self(word as u32 & ((1 << Self::BITS) - 1))
    }

    /// It as part of a word: below `1 << Tag::BITS`.
    pub fn bits(self) -> u64 {
        u64::from(self.0)
    }

    /// The participant's number.
    pub fn number(self) -> u32 {
        self.0 & (MOST_PARTICIPANTS - 1)
    }

    /// The participant of this number, in the life that the word says.
    fn of_life(number: u32, life: u64) -> Self {
        Self(number | (life as u32 >> 1 & ((1 << LIFE_BITS) - 1)) << NUMBER_BITS)
    }
}

/// A control file as a participant sees it.
#[derive(Clone, Debug)]
pub struct Control {
    words: Words<AtomicU64>,
}

impl Control {
    /// The words of a control file.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there are too few words, [`Error::InvalidArgument`] when they cannot be written.
    pub fn new(words: &Words<AtomicU64>) -> Result<Self> {
        Ok(Self { words: words.part(0..CONTROL_WORDS)?.for_writing()? })
    }

    /// The tag of a participant that has joined and is not gone.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a number that nobody has.
    pub fn tag_of(&self, participant: u32) -> Result<Tag> {
        let life = if participant < MOST_PARTICIPANTS { self.life(participant) } else { 0 };
        if life & 1 == 0 {
            return Err(Error::Protocol(format!("participant {participant} of a shared object does not live")));
        }
        Ok(Tag::of_life(participant, life))
    }

    /// Whether a participant is still there.
    pub fn is_alive(&self, tag: Tag) -> bool {
        let life = self.life(tag.number());
        life & 1 == 1 && Tag::of_life(tag.number(), life) == tag
    }

    fn life(&self, participant: u32) -> u64 {
        self.word(FIRST_LIFE + participant as usize).load(Ordering::SeqCst)
    }

    /// The alarm of this number, which is less than the number of [`ALARMS`].
    pub fn alarm(&self, number: usize) -> Alarm<'_> {
        Alarm {
            word: self.word(ALARMS[number]),
            #[cfg(loom)]
            control: self,
        }
    }

    /// loom looks only for the last one who used a word, and misses the one before where somebody loads a word and then changes it. So in
    /// a model all steps are steps on one word as well, which orders nothing.
    #[inline(always)]
    pub(super) fn step(&self) {
        #[cfg(loom)]
        self.word(FIRST_LIFE - 1).fetch_add(1, Ordering::Relaxed);
    }

    /// The word at a place below [`CONTROL_WORDS`].
    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        &self.words.all()[at]
    }
}

/// By which participants wait until one of them changes something.
#[derive(Clone, Copy, Debug)]
pub struct Alarm<'a> {
    word: &'a AtomicU64,
    #[cfg(loom)]
    control: &'a Control,
}

impl Alarm<'_> {
    /// Wakes one of those who wait, if any do. To be called after the change, which is a sequentially consistent
    /// read-modify-write.
    #[inline]
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// The same for all who wait.
    #[inline]
    pub fn notify_all(&self) {
        self.notify(i32::MAX);
    }

    #[inline]
    fn notify(&self, most: i32) {
        total_order(Step::AlarmBarrier);
        self.step();
        if self.word.load(Ordering::SeqCst) & ASLEEP != 0 {
            self.wake(most);
        }
    }

    #[inline(always)]
    fn step(&self) {
        #[cfg(loom)]
        self.control.step();
    }

    #[cold]
    fn wake(&self, most: i32) {
        self.step();
        let step = if taken(Step::AlarmCount) { u64::from(ALARM_STEP) } else { 0 };
        let now = self.word.fetch_add(step, Ordering::SeqCst).wrapping_add(step);
        crash::at(Point::AlarmCounted);
        if futex::wake(self.word, most) == 0 {
            crash::at(Point::AlarmIdle);
            // Nobody slept. Who marks the alarm changes it, so the mark is taken away only if nobody is about to sleep.
            let _ = self.word.compare_exchange(now, now & !ASLEEP, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// From now on whoever changes something counts on. Returns the count to sleep on; what is waited for is to be looked at once
    /// more before that.
    pub fn begin(&self) -> u64 {
        let marked = |count: u64| if taken(Step::AlarmMark) { marked(count) } else { count };
        self.step();
        let mut count = self.word.load(Ordering::SeqCst);
        while let Err(other) = self.word.compare_exchange(count, marked(count), Ordering::SeqCst, Ordering::Relaxed) {
            count = other;
        }
        total_order(Step::AlarmBegun);
        crash::at(Point::AlarmMarked);
        marked(count)
    }

    /// Sleeps while the count is that which [`begin`](Self::begin) gave, for at most this long. May end early for no reason. Returns
    /// whether a signal handler has run. Who was woken looks at what it waits for before it does anything else, also if it then
    /// gives up: it may be the only one who was woken for that.
    pub fn sleep(&self, since: u64, at_most: Duration) -> bool {
        let was_signalled = futex::wait(self.word, since as u32, at_most);
        crash::at(Point::AlarmHeard);
        was_signalled
    }

    /// Looks until something is found. `patience` is asked before each sleep how long that may be at most, and is told whether a signal
    /// handler has run since it was asked before; its error ends the wait.
    ///
    /// # Errors
    /// What either of them says.
    pub fn wait<T>(
        &self,
        mut look: impl FnMut() -> Result<Option<T>>,
        mut patience: impl FnMut(bool) -> Result<Duration>,
    ) -> Result<T> {
        let mut was_signalled = false;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            let at_most = patience(was_signalled)?;
            let since = self.begin();
            if taken(Step::AlarmLook)
                && let Some(found) = look()?
            {
                return Ok(found);
            }
            was_signalled = self.sleep(since, at_most);
        }
    }
}

/// Always another count, so that whoever has looked for sleepers before knows that there is one more.
fn marked(count: u64) -> u64 {
    count.wrapping_add(u64::from(ALARM_STEP)) | ASLEEP
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::shared::files::{ControlFile, map_control};
    use std::os::fd::AsFd;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    fn control() -> (ControlFile, Control) {
        let file = ControlFile::create().unwrap();
        let words = map_control(&file.as_fd().try_clone_to_owned().unwrap()).unwrap();
        (file, Control::new(&words).unwrap())
    }

    #[test]
    fn a_tag_is_of_one_life() {
        let (file, control) = control();
        assert!(control.tag_of(3).is_err() && control.tag_of(512).is_err() && control.tag_of(u32::MAX).is_err());
        file.turn_life(3);
        let first = control.tag_of(3).unwrap();
        assert!(control.is_alive(first) && first.number() == 3);
        file.turn_life(3);
        assert!(!control.is_alive(first) && control.tag_of(3).is_err());
        file.turn_life(3);
        let second = control.tag_of(3).unwrap();
        assert!(second != first && control.is_alive(second) && !control.is_alive(first));
        assert_eq!(Tag::from_word(second.bits() | 1 << 30 | 1 << 63), second);
    }

    #[test]
    fn the_last_number_has_tags_as_well() {
        let (file, control) = control();
        file.turn_life(511);
        assert_eq!(control.tag_of(511).unwrap().number(), 511);
        assert!(!control.is_alive(Tag::from_word(510)));
    }

    #[test]
    fn an_alarm_without_sleepers_is_not_touched_and_loses_its_mark() {
        let (_file, control) = control();
        let alarm = control.alarm(1);
        alarm.notify_one();
        assert_eq!(alarm.word.load(Ordering::SeqCst), 0);
        let since = alarm.begin();
        alarm.notify_all();
        assert!(alarm.word.load(Ordering::SeqCst) != since && alarm.word.load(Ordering::SeqCst) & ASLEEP == 0);
        // The count is another one, so this does not sleep.
        assert!(!alarm.sleep(since, Duration::from_secs(1000)));
    }

    #[test]
    fn whoever_waits_is_woken_and_patience_ends_a_wait() {
        let (file, control) = control();
        let things = AtomicUsize::new(0);
        let take = || Ok((things.load(std::sync::atomic::Ordering::SeqCst) > 0).then_some(7));
        thread::scope(|scope| {
            let waits = [0, 1].map(|_| scope.spawn(|| control.alarm(0).wait(take, |_| Ok(Duration::from_secs(1000)))));
            while control.alarm(0).word.load(Ordering::SeqCst) & ASLEEP == 0 {
                thread::yield_now();
            }
            things.store(1, std::sync::atomic::Ordering::SeqCst);
            file.ring_all();
            waits.into_iter().for_each(|wait| assert_eq!(wait.join().unwrap().unwrap(), 7));
        });
        let gave_up = control.alarm(2).wait(|| Ok(None::<()>), |_| Err(Error::Interrupted));
        assert!(matches!(gave_up, Err(Error::Interrupted)));
    }
}
