//! A ring in plain buffers, by one thread: each rule alone, and words of any value.

use super::geometry::{AT_TAIL, Delivery, Geometry, MOST_DIMENSIONS, MOST_READERS, MOST_SLOTS, Settings};
use super::{AT_FLAGS, Acquire, Handle, Header, Publish, Reader, Ring, Take};
use crate::error::Error;
use crate::shm::seeded::Seeded;
use crate::shm::shared::control::Control;
use crate::shm::shared::{CONTROL_WORDS, FIRST_LIFE};
use crate::shm::sync::{AtomicU64, Ordering};
use crate::shm::words::Words;

pub(super) fn settings(slots: u64, delivery: Delivery, drops_oldest: bool) -> Settings {
    Settings { slots, slot_bytes: 64, is_paged: false, delivery, drops_oldest }
}

/// A ring and all that is shared.
pub(super) struct Shared {
    pub words: Words<AtomicU64>,
    pub control: Words<AtomicU64>,
    pub bytes: u64,
}

impl Shared {
    pub fn new(settings: Settings) -> Self {
        let geometry = Geometry::new(settings).unwrap();
        let words = Words::private(geometry.words());
        let shared = Self { words, control: Words::private(CONTROL_WORDS), bytes: geometry.bytes() };
        shared.turn_life(0);
        let control = Control::new(&shared.control).unwrap();
        Ring::create(&shared.words, settings, control.clone(), control.tag_of(0).unwrap()).unwrap();
        shared
    }

    /// A participant joins or goes.
    pub fn turn_life(&self, participant: usize) {
        self.control.all()[FIRST_LIFE + participant].fetch_add(1, Ordering::SeqCst);
    }

    pub fn attach(&self, participant: u32) -> Ring {
        let control = Control::new(&self.control).unwrap();
        let tag = control.tag_of(participant).unwrap();
        Ring::attach(&self.words, self.bytes, control, tag).unwrap()
    }

    pub fn join(&self, participant: u32) -> Ring {
        self.turn_life(participant as usize);
        self.attach(participant)
    }
}

fn ring(slots: u64) -> (Shared, Ring) {
    let shared = Shared::new(settings(slots, Delivery::AtMostOnce, false));
    let ring = shared.attach(0);
    (shared, ring)
}

impl Ring {
    pub(super) fn acquired(&self) -> Handle {
        match self.try_acquire().unwrap() {
            Acquire::Slot(handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn put(&self, number: u64) -> Publish {
        let (handle, header) = (self.acquired(), Header { bytes: number, ..Header::default() });
        self.publish(handle, &header).unwrap()
    }

    fn number(&self, take: Take) -> u64 {
        let Take::Message(handle) = take else { panic!("{take:?}") };
        self.header(&handle).unwrap().bytes
    }

    fn taken(&self) -> Handle {
        match self.try_take().unwrap() {
            Take::Message(handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    /// Takes a message and is done with it.
    fn get(&self) -> u64 {
        let handle = self.taken();
        self.release(handle).unwrap();
        self.header(&handle).unwrap().bytes
    }

    fn read(&self, reader: &mut Reader) -> Handle {
        match self.try_read(reader).unwrap() {
            Take::Message(handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    /// All slots are free: each can be had once.
    pub(super) fn all_are_free(&self) {
        let handles: Vec<_> = (0..self.geometry().slots()).map(|_| self.acquired()).collect();
        assert_eq!(self.held_by_me().unwrap(), handles.len() as u64);
        assert_eq!(self.try_acquire().unwrap(), Acquire::Nothing);
        handles.into_iter().for_each(|handle| self.abandon(handle).unwrap());
    }
}

fn is_refused<T: std::fmt::Debug>(outcome: Result<T, Error>, number: &str) {
    match outcome {
        Err(Error::InvalidArgument(text) | Error::Corrupt(text)) => assert!(text.contains(number), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_geometry_has_room_for_all_and_names_what_cannot_be() {
    for (slots, slot_bytes, is_paged) in
        [(1, 0, false), (16, 64, false), (3, 4095, true), (65535, 4096, false), (7, 100, false)]
    {
        let settings = Settings { slots, slot_bytes, is_paged, delivery: Delivery::Broadcast, drops_oldest: true };
        let geometry = Geometry::new(settings).unwrap();
        let align = if is_paged || slot_bytes >= 4096 { 4096 } else { 64 };
        let mut end = geometry.words() as u64 * 8;
        for slot in 0..slots as u32 {
            let memory = geometry.memory(slot);
            assert!(
                memory.start >= end && memory.start.is_multiple_of(align) && memory.end - memory.start == slot_bytes
            );
            end = memory.end;
        }
        assert!(end <= geometry.bytes());
        let words = Words::private(geometry.words());
        geometry.write(&words);
        assert_eq!(Geometry::read(&words, geometry.bytes()).unwrap(), geometry);
        is_refused(Geometry::read(&words, geometry.bytes() - 1), &geometry.bytes().to_string());
    }
    let of = |slots, slot_bytes| Geometry::new(Settings { slot_bytes, ..settings(slots, Delivery::AtMostOnce, false) });
    is_refused(of(0, 1), "not 0");
    is_refused(of(MOST_SLOTS + 1, 1), "65536");
    is_refused(of(1, u64::MAX), "18446744073709551615");
    is_refused(of(2, 1 << 62), "4611686018427387904");
}

#[test]
fn a_ring_that_is_none_is_refused() {
    let (shared, _ring) = ring(4);
    let control = Control::new(&shared.control).unwrap();
    let tag = control.tag_of(0).unwrap();
    for (at, value, number) in
        [(0, 77, "0x4d"), (1, 70000, "70000"), (2, 1 << 63, "9223372036854775808"), (3, 3, "0x3"), (3, 16, "0x10")]
    {
        let old = shared.words.all()[at].swap(value, Ordering::SeqCst);
        is_refused(Ring::attach(&shared.words, shared.bytes, control.clone(), tag), number);
        shared.words.all()[at].store(old, Ordering::SeqCst);
    }
    let few = shared.words.part(0..4).unwrap();
    is_refused(Ring::attach(&few, shared.bytes, control.clone(), tag), "words");
    let few = shared.words.part(0..8).unwrap();
    assert!(matches!(Ring::attach(&few, shared.bytes, control, tag), Err(Error::Protocol(_))));
}

#[test]
fn messages_come_in_order_and_say_what_they_are() {
    let (shared, producer) = ring(3);
    let consumer = shared.join(1);
    assert_eq!(consumer.try_take().unwrap(), Take::Nothing);
    for round in 0..100 {
        (0..3).for_each(|n| assert_eq!(producer.put((round + n) % 64), Publish::Published));
        assert_eq!(producer.try_acquire().unwrap(), Acquire::Nothing);
        (0..3).for_each(|n| assert_eq!(consumer.get(), (round + n) % 64));
        assert_eq!(consumer.try_take().unwrap(), Take::Nothing);
    }
    let shape: Vec<i64> = (0..MOST_DIMENSIONS as i64).map(|size| size - 5).collect();
    let handle = producer.acquired();
    let header = Header { bytes: 64, dtype: (2, 32, 4), shape: &shape };
    is_refused(producer.publish(handle, &Header { bytes: 65, ..header }), "65 bytes in a slot of 64");
    let long = [0; MOST_DIMENSIONS + 1];
    is_refused(producer.publish(handle, &Header { shape: &long, ..header }), "33");
    producer.publish(handle, &header).unwrap();
    let handle = consumer.taken();
    let described = consumer.header(&handle).unwrap();
    let mut found = vec![0; described.ndim];
    consumer.shape(&handle, &mut found).unwrap();
    assert_eq!((described.bytes, described.dtype, found), (64, (2, 32, 4), shape));
    consumer.release(handle).unwrap();
    producer.all_are_free();
}

#[test]
fn many_at_once_are_the_same_as_one_by_one() {
    let (shared, producer) = ring(4);
    let consumer = shared.join(1);
    let shape = [];
    let header = |bytes| Header { bytes, dtype: (0, 0, 0), shape: &shape };
    for _ in 0..10 {
        let messages: Vec<_> = (0..4).map(|n| (producer.acquired(), header(n))).collect();
        assert!(matches!(producer.publish_many(&messages), (4, Ok(Publish::Published))));
        let taken: Vec<_> = (0..4).map(|_| consumer.taken()).collect();
        assert_eq!(consumer.try_take().unwrap(), Take::Nothing);
        let numbers: Vec<_> = taken.iter().map(|handle| consumer.header(handle).unwrap().bytes).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        taken.iter().for_each(|handle| consumer.release(*handle).unwrap());
        is_refused(consumer.release(taken[0]), "slot");
    }
    let messages: Vec<_> = (0..2).map(|n| (producer.acquired(), header(n))).collect();
    producer.close().unwrap();
    assert!(matches!(producer.publish_many(&messages), (0, Ok(Publish::Closed))));
    producer.abandon(messages[1].0).unwrap();
}

#[test]
fn a_handle_is_good_once() {
    let (shared, producer) = ring(1);
    let consumer = shared.join(1);
    let handle = producer.acquired();
    is_refused(producer.release(handle), "slot 0");
    is_refused(consumer.abandon(handle), "slot 0");
    is_refused(consumer.publish(handle, &Header::default()), "slot 0");
    producer.publish(handle, &Header::default()).unwrap();
    is_refused(producer.publish(handle, &Header::default()), "slot 0");
    is_refused(producer.abandon(handle), "slot 0");
    let taken = consumer.taken();
    is_refused(producer.release(taken), "slot 0");
    consumer.release(taken).unwrap();
    is_refused(consumer.release(taken), "slot 0");
    let again = producer.acquired();
    is_refused(producer.abandon(handle), "slot 0");
    is_refused(producer.abandon(Handle { slot: 7, ..again }), "7");
    producer.abandon(again).unwrap();
    producer.all_are_free();
}

#[test]
fn who_holds_all_slots_can_know_it() {
    let (shared, producer) = ring(2);
    let consumer = shared.join(1);
    producer.put(1);
    assert_eq!((producer.held_by_me().unwrap(), consumer.held_by_me().unwrap()), (0, 0));
    let _taken = consumer.taken();
    let _mine = producer.acquired();
    assert_eq!((producer.held_by_me().unwrap(), consumer.held_by_me().unwrap()), (1, 1));
}

#[test]
fn a_closed_ring_gives_what_was_published_and_then_the_end() {
    let (shared, producer) = ring(3);
    let consumer = shared.join(1);
    let late = producer.acquired();
    producer.put(1);
    producer.put(2);
    consumer.close().unwrap();
    consumer.close().unwrap();
    assert!(producer.is_closed() && !producer.is_aborted());
    assert_eq!(producer.try_acquire().unwrap(), Acquire::Closed);
    assert_eq!(producer.publish(late, &Header::default()).unwrap(), Publish::Closed);
    is_refused(producer.abandon(late), "slot 0");
    assert_eq!((consumer.get(), consumer.get()), (1, 2));
    assert_eq!(consumer.try_take().unwrap(), Take::End);
    assert_eq!(shared.join(2).try_take().unwrap(), Take::End);
}

#[test]
fn who_dies_while_closing_has_closed() {
    let (shared, producer) = ring(3);
    producer.put(1);
    let handle = producer.acquired();
    shared.control.all()[AT_FLAGS].fetch_or(super::CLOSED, Ordering::SeqCst);
    producer.publish(handle, &Header { bytes: 2, ..Header::default() }).unwrap();
    let consumer = shared.join(1);
    assert_eq!((consumer.get(), consumer.get()), (1, 2));
    assert_eq!(consumer.try_take().unwrap(), Take::End);
}

#[test]
fn an_aborted_ring_is_over_at_once() {
    let (shared, producer) = ring(3);
    let consumer = shared.join(1);
    let late = producer.acquired();
    producer.put(1);
    consumer.abort();
    assert!(producer.is_closed() && producer.is_aborted());
    assert_eq!(producer.try_acquire().unwrap(), Acquire::Aborted);
    assert_eq!(producer.publish(late, &Header::default()).unwrap(), Publish::Aborted);
    assert_eq!(consumer.try_take().unwrap(), Take::Aborted);
}

#[test]
fn the_oldest_is_dropped_where_that_was_chosen() {
    let shared = Shared::new(settings(2, Delivery::AtMostOnce, true));
    let (producer, consumer) = (shared.attach(0), shared.join(1));
    producer.put(1);
    producer.put(2);
    for n in 3..200 {
        let Acquire::Dropped(handle) = producer.try_acquire().unwrap() else { panic!("{n}") };
        producer.publish(handle, &Header { bytes: n % 64, ..Header::default() }).unwrap();
    }
    let taken = consumer.taken();
    assert_eq!(consumer.header(&taken).unwrap().bytes, 198 % 64);
    let Acquire::Dropped(handle) = producer.try_acquire().unwrap() else { panic!() };
    assert_eq!(producer.try_acquire().unwrap(), Acquire::Nothing);
    producer.abandon(handle).unwrap();
    consumer.release(taken).unwrap();
    assert_eq!(consumer.try_take().unwrap(), Take::Nothing);
    producer.all_are_free();
}

#[test]
fn what_the_dead_had_comes_back() {
    for (delivery, comes) in [(Delivery::AtMostOnce, false), (Delivery::AtLeastOnce, true)] {
        let shared = Shared::new(settings(4, delivery, false));
        let (alive, dead) = (shared.attach(0), shared.join(1));
        alive.put(7);
        dead.put(8);
        let taken = dead.taken();
        let written = dead.acquired();
        let shown = dead.acquired();
        assert!(dead.turn(shown.slot, dead.mine(super::State::Writing, shown), dead.mine(super::State::Shown, shown)));
        assert!(!alive.repair_now().unwrap(), "it lives");
        shared.turn_life(1);
        assert!(alive.repair().unwrap());
        assert!(!alive.repair().unwrap(), "nobody came or went");
        is_refused(dead.abandon(written), "slot");
        let numbers = std::iter::from_fn(|| match alive.try_take().unwrap() {
            Take::Nothing => None,
            take => {
                let Take::Message(handle) = take else { panic!("{take:?}") };
                alive.release(handle).unwrap();
                Some(alive.number(take))
            }
        });
        let numbers = numbers.collect::<Vec<_>>();
        assert_eq!(numbers, if comes { vec![7, 8] } else { vec![8] });
        is_refused(dead.release(taken), "slot");
        alive.all_are_free();
    }
}

#[test]
fn what_the_dead_had_comes_also_after_the_end() {
    let shared = Shared::new(settings(4, Delivery::AtLeastOnce, false));
    let (alive, dead) = (shared.attach(0), shared.join(1));
    alive.put(7);
    let _taken = dead.taken();
    alive.close().unwrap();
    assert_eq!(alive.try_take().unwrap(), Take::End);
    shared.turn_life(1);
    assert_eq!(alive.get(), 7);
    assert_eq!(alive.try_take().unwrap(), Take::End);
}

#[test]
fn one_who_is_taken_for_dead_and_goes_on_fills_no_line() {
    let (shared, alive) = ring(1);
    for number in 1..40 {
        let zombie = shared.join(number);
        let shown = zombie.acquired();
        assert!(zombie.turn(0, zombie.mine(super::State::Writing, shown), zombie.mine(super::State::Shown, shown)));
        shared.turn_life(number as usize);
        assert!(alive.repair().unwrap());
        zombie.line_up(0, shown.generation).unwrap();
        if number % 3 == 0 {
            assert_eq!(alive.put(u64::from(number)), Publish::Published);
            assert_eq!(alive.get(), u64::from(number));
        }
    }
    alive.close().unwrap();
    assert_eq!(alive.try_take().unwrap(), Take::End);
}

fn all(slots: u64, drops_oldest: bool) -> (Shared, Ring, Ring) {
    let shared = Shared::new(settings(slots, Delivery::Broadcast, drops_oldest));
    let (producer, consumer) = (shared.attach(0), shared.join(1));
    (shared, producer, consumer)
}

#[test]
fn every_reader_gets_everything_since_it_came() {
    let (_shared, producer, consumer) = all(2, false);
    assert_eq!(producer.put(1), Publish::Published, "nobody reads it");
    producer.all_are_free();
    let (mut first, mut second) = (consumer.join().unwrap(), consumer.join().unwrap());
    for n in 0..50 {
        producer.put(n);
        let taken = consumer.read(&mut first);
        assert_eq!(consumer.header(&taken).unwrap().bytes, n);
        assert_eq!(consumer.try_read(&mut first).unwrap(), Take::Nothing);
        consumer.release_read(&first, taken).unwrap();
        is_refused(consumer.release_read(&first, taken), "slot");
        is_refused(consumer.release_read(&second, taken), "slot");
        if n % 2 == 1 {
            assert_eq!(producer.try_acquire().unwrap(), Acquire::Nothing);
            for n in [n - 1, n] {
                let taken = consumer.read(&mut second);
                assert_eq!(consumer.header(&taken).unwrap().bytes, n);
                assert_eq!(consumer.held_by_me().unwrap(), 1);
                consumer.release_read(&second, taken).unwrap();
            }
        }
    }
    producer.put(50);
    producer.close().unwrap();
    let taken = consumer.read(&mut first);
    assert_eq!(consumer.try_read(&mut first).unwrap(), Take::End);
    consumer.release_read(&first, taken).unwrap();
    consumer.leave(second).unwrap();
    assert_eq!(consumer.held_by_me().unwrap(), 0);
    assert!(
        producer.geometry().slots() == 2
            && (0..2).all(|slot| producer.state(slot).unwrap().state == super::State::Free)
    );
    is_refused(producer.try_take(), "join");
}

#[test]
fn a_reader_that_leaves_or_dies_keeps_nothing() {
    let (shared, producer, consumer) = all(3, false);
    let dead = shared.join(2);
    let (mut stays, mut leaves, mut dies) = (consumer.join().unwrap(), consumer.join().unwrap(), dead.join().unwrap());
    for n in 0..3 {
        producer.put(n);
    }
    let _held = (consumer.read(&mut leaves), dead.read(&mut dies));
    for _ in 0..3 {
        let taken = consumer.read(&mut stays);
        consumer.release_read(&stays, taken).unwrap();
    }
    consumer.leave(leaves).unwrap();
    assert_eq!(producer.acquire_or_repair().unwrap(), Acquire::Nothing);
    shared.turn_life(2);
    let Acquire::Slot(handle) = producer.acquire_or_repair().unwrap() else { panic!() };
    producer.abandon(handle).unwrap();
    producer.all_are_free();
    // Their places can be had again, and what comes then is for those who have them.
    let mut readers: Vec<_> = (1..MOST_READERS).map(|_| consumer.join().unwrap()).collect();
    assert!(matches!(consumer.join(), Err(Error::Busy(text)) if text.contains("22")));
    producer.put(9);
    for reader in readers.iter_mut().chain([&mut stays]) {
        let taken = consumer.read(reader);
        assert_eq!(consumer.header(&taken).unwrap().bytes, 9);
        consumer.release_read(reader, taken).unwrap();
    }
    producer.all_are_free();
}

#[test]
fn a_slow_reader_loses_the_oldest_and_a_held_one_stays() {
    let (_shared, producer, consumer) = all(3, true);
    let (mut fast, mut slow) = (consumer.join().unwrap(), consumer.join().unwrap());
    producer.put(0);
    let held = consumer.read(&mut fast);
    for n in 1..100 {
        let handle = match producer.try_acquire().unwrap() {
            Acquire::Slot(handle) if n < 3 => handle,
            Acquire::Dropped(handle) if n >= 3 => handle,
            other => panic!("{n}: {other:?}"),
        };
        let header = Header { bytes: n % 60, ..Header::default() };
        assert_eq!(producer.publish(handle, &header).unwrap(), Publish::Published, "{n}");
    }
    assert_eq!(consumer.header(&held).unwrap().bytes, 0);
    for reader in [&mut fast, &mut slow] {
        let read: Vec<_> = (0..2).map(|_| consumer.read(reader)).collect();
        let numbers: Vec<_> = read.iter().map(|handle| consumer.header(handle).unwrap().bytes).collect();
        assert_eq!(numbers, [98 % 60, 99 % 60]);
        assert_eq!(consumer.try_read(reader).unwrap(), Take::Nothing);
        read.into_iter().for_each(|handle| consumer.release_read(reader, handle).unwrap());
    }
    consumer.release_read(&fast, held).unwrap();
    producer.all_are_free();
}

#[test]
fn a_reader_of_a_closed_ring_whose_end_is_elsewhere_is_told_so() {
    let (shared, producer, consumer) = all(3, false);
    let mut reader = consumer.join().unwrap();
    shared.words.all()[AT_TAIL].fetch_add(1, Ordering::SeqCst);
    producer.close().unwrap();
    is_refused(consumer.try_read(&mut reader), &reader.next.to_string());
}

/// One look of each kind, whatever comes of it.
fn play(ring: &Ring, random: &mut Seeded, reader: &mut Option<Reader>) {
    let outcome = match random.below(7) {
        0 => ring.try_acquire().map(|found| match found {
            Acquire::Slot(handle) | Acquire::Dropped(handle) => drop(ring.publish(handle, &Header::default())),
            _ => {}
        }),
        1 => ring.try_take().map(|found| {
            if let Take::Message(handle) = found {
                drop((ring.header(&handle), ring.release(handle)));
            }
        }),
        2 => ring.repair_now().map(drop),
        3 => ring.held_by_me().map(drop),
        4 if reader.is_none() => ring.join().map(|joined| *reader = Some(joined)),
        5 => ring.make_room(),
        _ => reader.as_mut().map_or(Ok(()), |reader| {
            ring.try_read(reader).map(|found| {
                if let Take::Message(handle) = found {
                    drop((ring.header(&handle), ring.release_read(reader, handle)));
                }
            })
        }),
    };
    assert!(
        matches!(outcome, Ok(()) | Err(Error::Corrupt(_) | Error::InvalidArgument(_) | Error::Busy(_))),
        "{outcome:?}"
    );
}

#[test]
fn words_of_any_value_are_errors_and_nothing_else() {
    let mut random = Seeded(5);
    for round in 0..300 {
        let delivery = [Delivery::AtMostOnce, Delivery::AtLeastOnce, Delivery::Broadcast][round % 3];
        let shared = Shared::new(settings(1 + random.below(5), delivery, round % 2 == 0));
        let (ring, mut reader) = (shared.attach(0), None);
        for _ in 0..60 {
            let words = if random.below(5) == 0 { &shared.control } else { &shared.words };
            let at = 4 + random.below(words.all().len() as u64 - 4) as usize;
            let old = words.all()[at].load(Ordering::SeqCst);
            let value =
                [random.below(u64::MAX), old ^ 1 << random.below(64), old.wrapping_add(1)][random.below(3) as usize];
            // No alarm is rung: nobody sleeps.
            if words.all().len() != CONTROL_WORDS || at > 31 {
                words.all()[at].store(value, Ordering::SeqCst);
            }
            (0..5).for_each(|_| play(&ring, &mut random, &mut reader));
        }
    }
}
