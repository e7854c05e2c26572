//! Rings of shared objects: each message is got once, in order and whole, whoever is faster, leaves, or is taken for dead.

use super::super::shared::control::Control;
use super::super::shared::ring::geometry::{Delivery, Geometry, Settings};
use super::super::shared::ring::{Acquire, FREED, Handle, Header, PUBLISHED, Publish, Reader, Ring, Take};
use super::super::shared::{CONTROL_WORDS, FIRST_LIFE};
use super::*;

use std::time::Duration;

pub(super) const LIFE_STEPS: &[Step] = &[Step::SlotOrder, Step::CellOrder];
pub(super) const LATE_STEPS: &[Step] = &[Step::CompareGeneration, Step::HelpHead];
pub(super) const END_STEPS: &[Step] = &[Step::EndInLine];
pub(super) const WAIT_STEPS: &[Step] = &[Step::AlarmBarrier, Step::AlarmLook];
pub(super) const DEATH_STEPS: &[Step] = &[Step::AskLife, Step::TakeAnew, Step::LookInLine];
pub(super) const READER_STEPS: &[Step] = &[Step::ReadersOrder, Step::LeaveBarrier];
const LONG: Duration = Duration::from_secs(1000);

/// A ring, the bytes of its slots, and the control file.
#[derive(Clone)]
struct Shared {
    words: Words<AtomicU64>,
    control: Words<AtomicU64>,
    bytes: Vec<Arc<Bytes>>,
    size: u64,
}

/// One participant.
struct Side {
    ring: Ring,
    bytes: Vec<Arc<Bytes>>,
}

impl Shared {
    fn new(slots: u64, delivery: Delivery, drops_oldest: bool) -> (Self, Side) {
        futex::reset();
        let settings = Settings { slots, slot_bytes: 64, is_paged: false, delivery, drops_oldest };
        let geometry = Geometry::new(settings).unwrap();
        let (words, control) = (Words::private(geometry.words()), Words::private(CONTROL_WORDS));
        let bytes = (0..slots).map(|_| Bytes::new(0)).collect();
        let shared = Self { words, control, bytes, size: geometry.bytes() };
        shared.turn_life(0);
        let control = Control::new(&shared.control).unwrap();
        Ring::create(&shared.words, settings, control.clone(), control.tag_of(0).unwrap()).unwrap();
        let side = shared.attach(0);
        (shared, side)
    }

    fn turn_life(&self, participant: u32) {
        self.control.all()[FIRST_LIFE + participant as usize].fetch_add(1, Ordering::SeqCst);
    }

    fn attach(&self, participant: u32) -> Side {
        let control = Control::new(&self.control).unwrap();
        let tag = control.tag_of(participant).unwrap();
        let ring = Ring::attach(&self.words, self.size, control, tag).unwrap();
        Side { ring, bytes: self.bytes.clone() }
    }

    fn join(&self, participant: u32) -> Side {
        self.turn_life(participant);
        self.attach(participant)
    }
}

impl Side {
    fn bytes(&self, handle: Handle) -> &Bytes {
        &self.bytes[handle.slot() as usize]
    }

    /// Fills a slot, if there is one.
    fn try_put(&self, value: u64) -> Option<Publish> {
        match self.ring.try_acquire().unwrap() {
            Acquire::Slot(handle) | Acquire::Dropped(handle) => Some(self.publish(handle, value)),
            Acquire::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&self, handle: Handle, value: u64) -> Publish {
        self.bytes(handle).write(value);
        self.ring.publish(handle, &Header { bytes: value, ..Header::default() }).unwrap()
    }

    fn put(&self, value: u64) {
        assert_eq!(self.try_put(value), Some(Publish::Published));
    }

    /// Empties one.
    fn done(&self, handle: Handle) -> u64 {
        let value = self.value(handle);
        self.ring.release(handle).unwrap();
        value
    }

    fn value(&self, handle: Handle) -> u64 {
        let value = self.bytes(handle).read();
        assert_eq!(self.ring.header(&handle).unwrap().bytes, value);
        value
    }

    fn try_get(&self) -> Option<u64> {
        match self.ring.try_take().unwrap() {
            Take::Message(handle) => Some(self.done(handle)),
            Take::Nothing | Take::End => None,
            other => panic!("{other:?}"),
        }
    }

    /// All that is there.
    fn rest(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.try_get()).collect()
    }

    /// Nothing is left with anybody.
    fn all_are_free(&self) {
        for _ in 0..self.bytes.len() {
            assert!(matches!(self.ring.try_acquire().unwrap(), Acquire::Slot(_)), "a slot is lost");
        }
    }

    fn try_read(&self, reader: &mut Reader) -> Option<u64> {
        match self.ring.try_read(reader).unwrap() {
            Take::Message(handle) => {
                let value = self.value(handle);
                self.ring.release_read(reader, handle).unwrap();
                Some(value)
            }
            _ => None,
        }
    }
}

fn join_all<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Two messages through one slot: bytes and header are whole, and the slot is used again.
fn put_and_get() {
    let (shared, producer) = Shared::new(1, Delivery::AtMostOnce, false);
    let consumer = shared.join(1);
    producer.put(1);
    let thread = thread::spawn(move || consumer.rest());
    let second = producer.try_put(2);
    let mut got = thread.join().unwrap();
    got.extend(producer.rest());
    assert_eq!(got, if second.is_some() { vec![1, 2] } else { vec![1] });
    producer.all_are_free();
}

#[test]
fn messages_are_whole_and_slots_are_used_again() {
    check(put_and_get, LIFE_STEPS);
}

/// A message is published while another thread looks for it.
fn publish_and_take() {
    let (shared, producer) = Shared::new(1, Delivery::AtMostOnce, false);
    let consumer = shared.join(1);
    let thread = thread::spawn(move || producer.put(1));
    let got = consumer.try_get();
    thread.join().unwrap();
    assert_eq!(got.or_else(|| consumer.try_get()), Some(1), "a message is lost");
    consumer.all_are_free();
}

#[test]
fn whoever_sees_a_message_in_line_gets_it() {
    check(publish_and_take, &[Step::CellOrder]);
}

/// Two producers share the line, and one takes.
fn two_put() {
    let (shared, consumer) = Shared::new(2, Delivery::AtMostOnce, false);
    let threads = (1..3).map(|number| {
        let producer = shared.join(number);
        thread::spawn(move || producer.put(u64::from(number)))
    });
    let threads: Vec<_> = threads.collect();
    let mut got: Vec<_> = consumer.try_get().into_iter().collect();
    join_all(threads);
    got.extend(consumer.rest());
    got.sort_unstable();
    assert_eq!(got, [1, 2], "each once");
    consumer.all_are_free();
}

#[test]
fn messages_of_two_producers_are_all_got() {
    check_three(two_put);
}

/// Two take, while one fills what is free again.
fn two_get() {
    let (shared, producer) = Shared::new(2, Delivery::AtMostOnce, false);
    (1..3).for_each(|value| producer.put(value));
    let threads = (1..3).map(|number| {
        let consumer = shared.join(number);
        thread::spawn(move || consumer.try_get())
    });
    let threads: Vec<_> = threads.collect();
    let third = producer.try_put(3);
    let mut got: Vec<_> = join_all(threads).into_iter().flatten().collect();
    assert!(got.len() == 2 && !got.contains(&3), "in order");
    got.extend(producer.rest());
    got.sort_unstable();
    assert_eq!(got, if third.is_some() { vec![1, 2, 3] } else { vec![1, 2] }, "each once");
    producer.all_are_free();
}

#[test]
fn two_get_each_message_once() {
    check_three(two_get);
}

/// One takes both messages and publishes in their slots again, while another looks at the first.
fn take_late() {
    let (shared, first) = Shared::new(2, Delivery::AtMostOnce, false);
    let second = shared.join(1);
    (1..3).for_each(|value| first.put(value));
    let late = thread::spawn(move || second.try_get());
    let got = first.try_get();
    first.try_put(3);
    let late = late.join().unwrap().unwrap();
    assert!(late < 3, "{late} came before what was published before it, {got:?}");
    let rest = first.rest();
    assert!(rest.is_sorted() && !rest.contains(&late));
    first.all_are_free();
}

#[test]
fn who_comes_late_takes_nothing_out_of_order() {
    check(take_late, LATE_STEPS);
}

/// A ring is closed while a message is published.
fn close_while_publishing() {
    let (shared, producer) = Shared::new(2, Delivery::AtMostOnce, false);
    let closer = shared.join(1);
    let handle = match producer.ring.try_acquire().unwrap() {
        Acquire::Slot(handle) => handle,
        other => panic!("{other:?}"),
    };
    let thread = thread::spawn(move || {
        let outcome = producer.publish(handle, 1);
        (producer, outcome)
    });
    let consumer = shared.attach(1);
    closer.ring.close().unwrap();
    let mut got = Vec::new();
    loop {
        match consumer.ring.try_take().unwrap() {
            Take::Message(handle) => got.push(consumer.done(handle)),
            Take::End => break,
            other => panic!("{other:?} of a closed ring"),
        }
    }
    let (_producer, outcome) = thread.join().unwrap();
    assert_eq!(got.is_empty(), outcome == Publish::Closed, "published before the end, or not at all");
    assert_eq!(consumer.ring.try_take().unwrap(), Take::End);
}

#[test]
fn what_is_published_comes_before_the_end() {
    check(close_while_publishing, &[]);
}

/// A participant has said that the ring is closed, and another looks for messages meanwhile: both may put the end there.
fn close_while_taking() {
    let (shared, producer) = Shared::new(2, Delivery::AtMostOnce, false);
    let (consumer, closer) = (shared.join(1), shared.join(2));
    let Acquire::Slot(handle) = producer.ring.try_acquire().unwrap() else { panic!() };
    let thread = thread::spawn(move || closer.ring.close().unwrap());
    let takes = thread::spawn(move || {
        let first = consumer.ring.try_take().unwrap();
        (consumer, first)
    });
    let outcome = producer.publish(handle, 1);
    thread.join().unwrap();
    let (consumer, first) = takes.join().unwrap();
    let got = match first {
        Take::Message(handle) => Some(consumer.done(handle)),
        Take::Nothing => consumer.try_get(),
        _ => None,
    };
    assert_eq!(got.is_some(), outcome == Publish::Published, "{first:?}");
    assert_eq!(consumer.ring.try_take().unwrap(), Take::End);
}

#[test]
fn nothing_comes_after_the_end() {
    assert!(runs(close_while_taking, 2, None), "the model does not hold");
    for step in END_STEPS {
        assert!(!runs(close_while_taking, 2, Some(*step)), "nobody noticed that {step:?} was left out");
    }
}

/// One waits for a message, the other for a slot.
fn wait_for_each_other() {
    let (shared, producer) = Shared::new(1, Delivery::AtMostOnce, false);
    let consumer = shared.join(1);
    producer.put(1);
    let thread = thread::spawn(move || {
        let look = || Ok(producer.try_put(2));
        producer.ring.control().alarm(FREED).wait(look, |_| Ok(LONG)).unwrap();
    });
    for value in 1..3 {
        let look = || Ok(consumer.try_get());
        assert_eq!(consumer.ring.control().alarm(PUBLISHED).wait(look, |_| Ok(LONG)).unwrap(), value);
    }
    thread.join().unwrap();
}

#[test]
fn nobody_sleeps_beside_a_message_or_a_free_slot() {
    check(wait_for_each_other, WAIT_STEPS);
}

/// One waits for a message while another closes the ring.
fn wait_for_the_end() {
    let (shared, closer) = Shared::new(1, Delivery::AtMostOnce, false);
    let consumer = shared.join(1);
    let thread = thread::spawn(move || closer.ring.close().unwrap());
    let look = || Ok(Some(consumer.ring.try_take().unwrap()).filter(|found| *found != Take::Nothing));
    assert_eq!(consumer.ring.control().alarm(PUBLISHED).wait(look, |_| Ok(LONG)).unwrap(), Take::End);
    thread.join().unwrap();
}

#[test]
fn nobody_sleeps_beside_a_closed_ring() {
    check(wait_for_the_end, WAIT_STEPS);
}

/// One who lives does all it can while another repairs.
fn repair_beside_the_living() {
    let (shared, one) = Shared::new(2, Delivery::AtMostOnce, false);
    let other = shared.join(1);
    one.put(1);
    let thread = thread::spawn(move || {
        let taken = other.ring.try_take().unwrap();
        let Take::Message(handle) = taken else { panic!("{taken:?}") };
        assert_eq!(other.done(handle), 1);
        other.put(2);
    });
    one.ring.repair().unwrap();
    thread.join().unwrap();
    assert_eq!(one.rest(), [2]);
    one.all_are_free();
}

#[test]
fn nobody_who_lives_loses_anything() {
    check(repair_beside_the_living, &[Step::AskLife]);
}

/// One who is taken for dead goes on, as far as it can; meanwhile another takes what it had taken.
fn hand_out_again() {
    let (shared, heir) = Shared::new(1, Delivery::AtLeastOnce, false);
    let dead = shared.join(1);
    heir.put(1);
    let Take::Message(handle) = dead.ring.try_take().unwrap() else { panic!() };
    let thread = thread::spawn(move || dead.ring.release(handle).is_ok());
    shared.turn_life(1);
    let taken = heir.ring.take_or_repair().unwrap();
    let was_released = thread.join().unwrap();
    match taken {
        Take::Message(handle) => {
            assert!(!was_released, "two had it");
            assert_eq!(heir.done(handle), 1);
        }
        other => assert!(was_released, "{other:?}"),
    }
    heir.all_are_free();
}

#[test]
fn what_the_dead_had_taken_has_one_heir() {
    check(hand_out_again, &[Step::TakeAnew]);
}

/// Two find one who died with a message: one of them takes it.
fn two_heirs() {
    let (shared, one) = Shared::new(2, Delivery::AtLeastOnce, false);
    let (dead, two) = (shared.join(1), shared.join(2));
    one.put(1);
    let Take::Message(_) = dead.ring.try_take().unwrap() else { panic!() };
    shared.turn_life(1);
    let take = |side: Side| match side.ring.take_or_repair().unwrap() {
        Take::Message(handle) => Some(side.done(handle)),
        _ => None,
    };
    let thread = thread::spawn(move || take(two));
    let mut got: Vec<_> = take(one).into_iter().collect();
    got.extend(thread.join().unwrap());
    let last = shared.attach(0);
    got.extend(match last.ring.take_or_repair().unwrap() {
        Take::Message(handle) => Some(last.done(handle)),
        _ => None,
    });
    assert_eq!(got, [1], "once");
    last.all_are_free();
}

#[test]
fn a_message_is_handed_out_again_once() {
    check(two_heirs, &[]);
}

/// A publisher dies, at the end or, taken for dead, in the middle, and another repairs.
fn publish_and_die() {
    let (shared, consumer) = Shared::new(1, Delivery::AtMostOnce, false);
    let dead = shared.join(1);
    let Acquire::Slot(handle) = dead.ring.try_acquire().unwrap() else { panic!() };
    let life = shared.clone();
    let thread = thread::spawn(move || {
        dead.publish(handle, 1);
        life.turn_life(1);
    });
    consumer.ring.repair().unwrap();
    thread.join().unwrap();
    consumer.ring.repair().unwrap();
    assert_eq!(consumer.rest(), [1], "it was published");
    consumer.all_are_free();
}

#[test]
fn what_the_dead_have_published_stays() {
    check(publish_and_die, &[Step::LookInLine]);
}

/// A publisher that is taken for dead goes on while two repair. Its message comes once or never, and the slot comes back.
fn repair_one_who_goes_on() {
    let (shared, consumer) = Shared::new(1, Delivery::AtMostOnce, false);
    let dead = shared.join(1);
    let Acquire::Slot(handle) = dead.ring.try_acquire().unwrap() else { panic!() };
    let thread = thread::spawn(move || dead.ring.publish(handle, &Header { bytes: 7, ..Header::default() }).is_ok());
    shared.turn_life(1);
    consumer.ring.repair().unwrap();
    let mut got: Vec<_> = consumer.take();
    thread.join().unwrap();
    consumer.ring.repair_now().unwrap();
    got.extend(consumer.take());
    assert!(got.len() < 2, "{got:?}");
    consumer.all_are_free();
}

impl Side {
    /// Without a look at the bytes.
    fn take(&self) -> Vec<u64> {
        let mut got = Vec::new();
        while let Take::Message(handle) = self.ring.try_take().unwrap() {
            got.push(self.ring.header(&handle).unwrap().bytes);
            self.ring.release(handle).unwrap();
        }
        got
    }
}

#[test]
fn who_is_taken_for_dead_and_goes_on_publishes_once_or_never() {
    check(repair_one_who_goes_on, &[]);
}

/// Two read a message, and its slot is used again when both have.
fn two_read() {
    let (shared, producer) = Shared::new(1, Delivery::Broadcast, false);
    let (one, two) = (shared.join(1), shared.join(2));
    let (mut first, mut second) = (one.ring.join().unwrap(), two.ring.join().unwrap());
    producer.put(1);
    let thread = thread::spawn(move || assert_eq!(one.try_read(&mut first), Some(1)));
    assert_eq!(two.try_read(&mut second), Some(1));
    let again = producer.try_put(2);
    thread.join().unwrap();
    assert_eq!(two.try_read(&mut second), again.map(|_| 2));
}

#[test]
fn a_slot_is_free_when_all_have_read() {
    check(two_read, &[Step::ReadersOrder]);
}

/// A reader leaves while a message is published for it.
fn leave_while_publishing() {
    let (shared, producer) = Shared::new(1, Delivery::Broadcast, false);
    let one = shared.join(1);
    let reader = one.ring.join().unwrap();
    let thread = thread::spawn(move || one.ring.leave(reader).unwrap());
    producer.put(1);
    thread.join().unwrap();
    producer.all_are_free();
}

#[test]
fn what_was_for_a_reader_that_left_is_free() {
    check(leave_while_publishing, &[Step::LeaveBarrier]);
}

/// A reader comes while a message is published: it gets this one, or begins behind it, and keeps no slot.
fn join_while_publishing() {
    let (shared, producer) = Shared::new(2, Delivery::Broadcast, false);
    let one = shared.join(1);
    let thread = thread::spawn(move || {
        let mut reader = one.ring.join().unwrap();
        let got = one.try_read(&mut reader);
        (one, reader, got)
    });
    producer.put(1);
    let (one, mut reader, got) = thread.join().unwrap();
    let got = got.or_else(|| one.try_read(&mut reader));
    assert!(got.is_none_or(|value| value == 1));
    producer.all_are_free();
}

#[test]
fn a_reader_that_comes_keeps_no_slot() {
    check(join_while_publishing, &[]);
}

/// The oldest is dropped while another takes it.
fn drop_and_take() {
    let (shared, producer) = Shared::new(2, Delivery::AtMostOnce, true);
    let consumer = shared.join(1);
    (1..3).for_each(|value| producer.put(value));
    let thread = thread::spawn(move || (consumer.try_get(), consumer));
    let third = producer.try_put(3);
    let (got, _consumer) = thread.join().unwrap();
    assert!(third.is_some() && got.is_some());
    let mut all = vec![got.unwrap()];
    all.extend(producer.rest());
    assert!(all.is_sorted() && all.ends_with(&[3]) && all.len() >= 2, "{all:?}");
    producer.all_are_free();
}

#[test]
fn a_message_is_dropped_or_taken() {
    check(drop_and_take, &[]);
}

/// The oldest is dropped while its reader begins to read.
fn drop_and_read() {
    let (shared, producer) = Shared::new(1, Delivery::Broadcast, true);
    let one = shared.join(1);
    let mut reader = one.ring.join().unwrap();
    producer.put(1);
    let thread = thread::spawn(move || (one.try_read(&mut reader), one, reader));
    let second = producer.try_put(2);
    let (got, one, mut reader) = thread.join().unwrap();
    let rest = one.try_read(&mut reader);
    assert_eq!(got.into_iter().chain(rest).last(), if second.is_some() { Some(2) } else { Some(1) });
    let Acquire::Slot(_) = producer.ring.try_acquire().unwrap() else { panic!("a slot is lost") };
}

#[test]
fn who_reads_the_oldest_keeps_it() {
    check(drop_and_read, &[Step::ReadersOrder]);
}
