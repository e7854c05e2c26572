//! What participants of a shared object agree by: nobody sleeps on what is there, one has the lock, also after a death, and copies are whole.

use std::time::Duration;

use super::super::shared::control::{Control, Tag};
use super::super::shared::lock::{Copied, Lock, Owner, Taken as Took};
use super::super::shared::{ALARM_STEP, ALARMS, CONTROL_WORDS, FIRST_LIFE};
use super::*;

pub(super) const ALARM_STEPS: &[Step] =
    &[Step::AlarmBarrier, Step::AlarmCount, Step::AlarmMark, Step::AlarmBegun, Step::AlarmLook];
pub(super) const LOCK_STEPS: &[Step] = &[Step::LockOrder, Step::UnlockOrder, Step::LockOfDead, Step::TakeOverOnce];
pub(super) const VERSION_STEPS: &[Step] = &[
    Step::OwnerOrder,
    Step::VersionFirst,
    Step::VersionBarrier,
    Step::VersionOrder,
    Step::CopyOrder,
    Step::CopyBarrier,
    Step::CopyCheck,
];
const LONG: Duration = Duration::from_secs(1000);

/// A control file, and what the store does with it.
#[derive(Clone)]
struct File {
    words: Words<AtomicU64>,
    control: Control,
}

impl File {
    /// With so many participants.
    fn with(participants: u32) -> (Self, Vec<Tag>) {
        futex::reset();
        let words = Words::private(CONTROL_WORDS);
        let file = Self { control: Control::new(&words).unwrap(), words };
        (0..participants).for_each(|number| file.turn_life(number));
        let tags = (0..participants).map(|number| file.control.tag_of(number).unwrap()).collect();
        (file, tags)
    }

    fn turn_life(&self, participant: u32) {
        self.words.all()[FIRST_LIFE + participant as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// The store notices that a participant is gone.
    fn bury(&self, participant: u32) {
        self.turn_life(participant);
        for word in ALARMS.map(|at| &self.words.all()[at]) {
            futex::add_and_wake_all(word, ALARM_STEP).unwrap();
        }
    }

    fn lock(&self, me: Owner) -> Took {
        let lock = Lock::of(&self.control);
        lock.freed().wait(|| lock.try_take(me), |_| Ok(LONG)).unwrap()
    }

    fn unlock(&self, me: Owner) {
        Lock::of(&self.control).release(me).unwrap();
    }
}

/// Somebody takes what one after the other is given, and sleeps while there is nothing.
fn give_and_take(takers: usize) {
    let (file, _) = File::with(0);
    let things = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..takers)
        .map(|_| {
            let (file, things) = (file.clone(), things.clone());
            thread::spawn(move || {
                let less = |count: u64| count.checked_sub(1);
                let take = || Ok(things.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).ok());
                file.control.alarm(2).wait(take, |_| Ok(LONG)).map(drop).unwrap();
            })
        })
        .collect();
    for _ in 0..takers {
        things.fetch_add(1, Ordering::SeqCst);
        file.control.alarm(2).notify_one();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn nobody_sleeps_on_what_is_there() {
    check(|| give_and_take(1), ALARM_STEPS);
}

#[test]
fn two_who_wait_are_both_woken() {
    check_three(|| give_and_take(2));
}

/// Both count in memory that only the lock protects.
fn add_under_the_lock(participants: u32) {
    let (file, tags) = File::with(participants);
    let bytes = Bytes::new(0);
    let add = |tag: Tag| {
        let (file, bytes) = (file.clone(), bytes.clone());
        move || {
            let me = Owner::of(tag, 1);
            assert_eq!(file.lock(me), Took::InOrder);
            bytes.write(bytes.read() + 1);
            file.unlock(me);
        }
    };
    let threads: Vec<_> = tags.iter().map(|tag| thread::spawn(add(*tag))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(bytes.read(), u64::from(participants));
    assert_eq!(Lock::of(&file.control).version(), 2 * u64::from(participants));
}

#[test]
fn one_at_a_time_has_the_lock() {
    check(|| add_under_the_lock(2), &[Step::LockOrder, Step::UnlockOrder]);
}

#[test]
fn three_get_the_lock_one_after_the_other() {
    check_three(|| add_under_the_lock(3));
}

/// The owner dies while two wait, or before they do.
fn die_with_the_lock() {
    let (file, tags) = File::with(3);
    let dead = Owner::of(tags[0], 1);
    file.lock(dead);
    let bytes = Bytes::new(0);
    let heirs: Vec<_> = [Owner::of(tags[1], 1), Owner::of(tags[2], 1)]
        .into_iter()
        .map(|me| {
            let (file, bytes) = (file.clone(), bytes.clone());
            thread::spawn(move || {
                let took = file.lock(me);
                bytes.write(bytes.read() + 1);
                file.unlock(me);
                took
            })
        })
        .collect();
    file.bury(0);
    let told = heirs.into_iter().map(|thread| thread.join().unwrap()).filter(|took| *took == Took::OwnerDied);
    assert_eq!((told.count(), bytes.read()), (1, 2), "one is told");
}

#[test]
fn one_has_the_lock_of_a_dead_owner_and_is_told() {
    let steps = &[Step::LockOfDead, Step::TakeOverOnce];
    check_three(die_with_the_lock);
    for step in steps {
        assert!(!runs(die_with_the_lock, 2, Some(*step)), "nobody noticed that {step:?} was left out");
    }
}

/// Two words that are always written together.
struct Pair([AtomicU64; 2]);

impl Pair {
    fn new() -> Arc<Self> {
        Arc::new(Self([AtomicU64::new(0), AtomicU64::new(0)]))
    }

    fn write(&self, value: u64) {
        self.0.iter().for_each(|word| word.store(value, Ordering::Relaxed));
    }

    fn read(&self) -> [u64; 2] {
        [0, 1].map(|at: usize| self.0[at].load(Ordering::Relaxed))
    }
}

/// One writes both under the lock, while another copies after so many attempts.
fn write_and_copy(torn: u32) {
    let (file, tags) = File::with(2);
    let pair = Pair::new();
    let (writers, theirs, writer) = (file.clone(), pair.clone(), Owner::of(tags[0], 1));
    let thread = thread::spawn(move || {
        writers.lock(writer);
        theirs.write(7);
        writers.unlock(writer);
    });
    let (lock, mut copy) = (Lock::of(&file.control), [1, 2]);
    let copied = lock.try_copy(Owner::of(tags[1], 1), torn, || {
        copy = pair.read();
        Ok(())
    });
    match copied.unwrap() {
        Copied::Whole(version) => assert_eq!(copy, if version == 0 { [0, 0] } else { [7, 7] }, "version {version}"),
        Copied::Torn => {}
        Copied::OwnerDied => panic!("nobody died"),
    }
    thread.join().unwrap();
}

#[test]
fn a_copy_is_never_torn() {
    check(|| write_and_copy(0), VERSION_STEPS);
}

#[test]
fn a_copy_under_the_lock_is_not_torn_either() {
    check(|| write_and_copy(u32::MAX), &[Step::UnlockOrder]);
}

/// A reader waits for a whole copy beside a writer who is killed, and one who comes after.
#[test]
fn a_copy_of_what_a_dead_writer_left_is_refused_until_it_is_in_order() {
    let model = || {
        let (file, tags) = File::with(3);
        let pair = Pair::new();
        file.lock(Owner::of(tags[0], 1));
        pair.write(3);
        pair.0[0].store(4, Ordering::Relaxed);
        let (heirs, theirs, heir) = (file.clone(), pair.clone(), Owner::of(tags[1], 1));
        let thread = thread::spawn(move || {
            heirs.lock(heir);
            theirs.write(7);
            heirs.unlock(heir);
        });
        file.bury(0);
        let lock = Lock::of(&file.control);
        let copied = lock.written().wait(
            || {
                let mut copy = [0; 2];
                let look = lock.try_copy(Owner::of(tags[2], 1), 0, || {
                    copy = pair.read();
                    Ok(())
                })?;
                Ok((look != Copied::Torn).then_some((look, copy)))
            },
            |_| Ok(LONG),
        );
        let (copied, copy) = copied.unwrap();
        assert!(copied == Copied::OwnerDied || copy == [7, 7], "{copied:?} {copy:?}");
        thread.join().unwrap();
    };
    check(model, &[]);
}
