//! Several participants at once, of whom one after the other dies at any step: what the others count must come out even.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64 as Count, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::deaths::die_after;
use super::geometry::Delivery;
use super::tests::{Shared, settings};
use super::{Acquire, FREED, Handle, Header, PUBLISHED, Publish, Reader, Ring, Take};
use crate::shm::seeded::Seeded;
use crate::shm::shared::ALARMS;
use crate::shm::shared::control::Alarm;

const NAP: Duration = Duration::from_secs(1);
/// A sum that no other number has.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

fn messages(bounded: u64, soak: u64) -> u64 {
    if std::env::var_os("PLASMA_SOAK").is_some() { soak } else { bounded }
}

/// Looks until there is something.
fn wait<T>(alarm: Alarm<'_>, mut look: impl FnMut() -> Option<T>) -> T {
    alarm.wait(|| Ok(look()), |_| Ok(NAP)).unwrap()
}

/// What was written must be what is read: a number, and the same mixed, as the message's shape.
fn shape(number: u64) -> [i64; 2] {
    [number.cast_signed(), number.wrapping_mul(MIX).cast_signed()]
}

fn acquire(ring: &Ring) -> Option<Handle> {
    wait(ring.control().alarm(FREED), || match ring.acquire_or_repair().unwrap() {
        Acquire::Slot(handle) | Acquire::Dropped(handle) => Some(Some(handle)),
        Acquire::Nothing => None,
        Acquire::Closed | Acquire::Aborted => Some(None),
    })
}

fn publish(ring: &Ring, handle: Handle, number: u64) -> Publish {
    loop {
        let header = Header { bytes: number % 65, dtype: (0, 64, 1), shape: &shape(number) };
        match ring.publish(handle, &header).unwrap() {
            Publish::Crowded => thread::sleep(Duration::from_millis(1)),
            outcome => return outcome,
        }
    }
}

fn take(ring: &Ring) -> Option<Handle> {
    wait(ring.control().alarm(PUBLISHED), || match ring.take_or_repair().unwrap() {
        Take::Message(handle) => Some(Some(handle)),
        Take::Nothing => None,
        Take::End | Take::Aborted => Some(None),
    })
}

fn number(ring: &Ring, handle: Handle) -> u64 {
    let mut found = [0; 2];
    ring.shape(&handle, &mut found).unwrap();
    let number = found[0].cast_unsigned();
    let described = ring.header(&handle).unwrap();
    assert_eq!((found, described.bytes, described.ndim), (shape(number), number % 65, 2), "a message in pieces");
    number
}

/// What numbers were published or got: how many, their sum, and a sum that no pair of wrong numbers leaves as it is.
#[derive(Default)]
struct Sums([Count; 3]);

impl Sums {
    fn add(&self, number: u64) {
        let mixed = (number ^ number >> 31).wrapping_mul(MIX);
        let parts = [1, number, mixed ^ mixed >> 29];
        self.0.iter().zip(parts).for_each(|(sum, part)| _ = sum.fetch_add(part, SeqCst));
    }

    fn now(&self) -> [u64; 3] {
        self.0.each_ref().map(|sum| sum.load(SeqCst))
    }
}

/// Several publish and several take, and all that is published is got once.
fn many_to_many(slots: u64, sides: u32, each: u64) {
    let shared = Shared::new(settings(slots, Delivery::AtMostOnce, false));
    let (sent, got) = (Sums::default(), Sums::default());
    let producers: Vec<_> = (1..=sides).map(|number| shared.join(number)).collect();
    let consumers: Vec<_> = (1..=sides).map(|number| shared.join(100 + number)).collect();
    thread::scope(|scope| {
        let (sent, got) = (&sent, &got);
        let takes = |ring: Ring| {
            move || {
                let mut last = HashMap::new();
                while let Some(handle) = take(&ring) {
                    let number = number(&ring, handle);
                    ring.release(handle).unwrap();
                    got.add(number);
                    let before = last.insert(number >> 40, number);
                    assert!(before.is_none_or(|before| before < number), "in order");
                }
            }
        };
        let threads: Vec<_> = consumers.into_iter().map(|ring| scope.spawn(takes(ring))).collect();
        let publishes = |(side, ring): (u64, Ring)| {
            move || {
                for number in (0..each).map(|number| side << 40 | number) {
                    let handle = acquire(&ring).unwrap();
                    assert_eq!(publish(&ring, handle, number), Publish::Published);
                    sent.add(number);
                }
            }
        };
        let all: Vec<_> = (0..).zip(producers).map(|producer| scope.spawn(publishes(producer))).collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
        shared.attach(0).close().unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!((sent.now(), sent.now()[0]), (got.now(), each * u64::from(sides)));
    is_empty(&shared);
}

/// Nobody has anything: all slots are free.
fn is_empty(shared: &Shared) {
    let ring = shared.attach(0);
    ring.repair_now().unwrap();
    assert!((0..ring.geometry().slots() as u32).all(|slot| ring.state(slot).unwrap().state == super::State::Free));
}

#[test]
fn many_to_many_nothing_is_lost_or_doubled() {
    for (slots, sides) in [(1, 1), (2, 2), (16, 2), (5, 3)] {
        many_to_many(slots, sides, messages(3000, 25_000_000 / u64::from(sides)));
    }
}

/// What participants say of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Its publication began; it was said to be published.
    begun: bool,
    published: bool,
    /// It was taken; and released.
    taken: u32,
    released: u32,
    /// Somebody died who had taken it, or may have.
    widowed: u32,
}

/// Participants of whom one after the other dies.
struct Crowd<'a> {
    shared: &'a Shared,
    told: Mutex<HashMap<u64, Told>>,
    next: Count,
    /// Numbers of participants that nobody has.
    free: Mutex<Vec<u32>>,
    is_over: AtomicBool,
    deaths: Count,
}

impl<'a> Crowd<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            told: Mutex::default(),
            next: Count::new(0),
            free: Mutex::new((2..200).collect()),
            is_over: AtomicBool::new(false),
            deaths: Count::new(0),
        }
    }

    fn tell(&self, number: u64, what: impl FnOnce(&mut Told)) {
        what(self.told.lock().unwrap().entry(number).or_default());
    }

    /// A participant comes, lives for some steps, and dies: the store turns its life and rings.
    fn live(&self, random: &mut Seeded, life: impl FnOnce(&Ring)) {
        let number = self.free.lock().unwrap().pop().unwrap();
        let ring = self.shared.join(number);
        die_after(Some(random.below(60) as u32));
        let outcome = catch_unwind(AssertUnwindSafe(|| life(&ring)));
        die_after(None);
        if let Err(why) = outcome {
            assert!(why.is::<super::deaths::Died>(), "a participant failed");
            self.deaths.fetch_add(1, SeqCst);
        }
        self.shared.turn_life(number as usize);
        self.ring_all();
        self.free.lock().unwrap().push(number);
    }

    fn ring_all(&self) {
        for at in ALARMS {
            self.shared.control.all()[at].fetch_add(2, SeqCst);
            crate::shm::futex::wake_all(&self.shared.control.all()[at]);
        }
    }

    fn produce(&self, ring: &Ring) {
        while let Some(handle) = acquire(ring) {
            let number = self.next.fetch_add(1, SeqCst);
            self.tell(number, |told| told.begun = true);
            if publish(ring, handle, number) == Publish::Published {
                self.tell(number, |told| told.published = true);
            }
            if self.is_over.load(SeqCst) {
                return;
            }
        }
    }

    fn consume(&self, ring: &Ring) {
        while let Some(handle) = take(ring) {
            let number = number(ring, handle);
            self.tell(number, |told| told.taken += 1);
            self.tell(number, |told| told.widowed += 1);
            ring.release(handle).unwrap();
            self.tell(number, |told| (told.released, told.widowed) = (told.released + 1, told.widowed - 1));
        }
    }
}

/// Producers and consumers live short lives until there were so many messages. Then the ring is closed, and one who lives on takes
/// the rest.
fn live_and_die(delivery: Delivery, count: u64, seed: u64) {
    let shared = Shared::new(settings(4, delivery, false));
    let crowd = Crowd::new(&shared);
    thread::scope(|scope| {
        let crowd = &crowd;
        for side in 0..4 {
            scope.spawn(move || {
                let mut random = Seeded(seed * 100 + side);
                while !crowd.is_over.load(SeqCst) {
                    let life = |ring: &Ring| if side < 2 { crowd.produce(ring) } else { crowd.consume(ring) };
                    crowd.live(&mut random, life);
                    if crowd.next.load(SeqCst) > count && !crowd.is_over.swap(true, SeqCst) {
                        shared_close(crowd);
                    }
                }
            });
        }
    });
    let last = shared.attach(0);
    crowd.consume(&last);
    is_empty(&shared);
    account(&crowd, delivery);
}

fn shared_close(crowd: &Crowd<'_>) {
    crowd.shared.attach(0).close().unwrap();
}

/// What is published is taken once. More often only after a death with it, where it is handed out again; never only where a
/// taker died before it could say so.
fn account(crowd: &Crowd<'_>, delivery: Delivery) {
    let told = crowd.told.lock().unwrap();
    let deaths = crowd.deaths.load(SeqCst);
    assert!(deaths > 10, "{deaths} died");
    let mut unsaid = 0;
    for (number, told) in told.iter() {
        assert!(told.begun && told.released + told.widowed == told.taken, "{number}: {told:?}");
        match delivery {
            Delivery::AtLeastOnce => {
                assert!(told.released <= 1 + told.widowed && told.taken <= 1 + told.widowed, "{number}: {told:?}");
                assert!(!told.published || told.taken > 0, "{number} is lost: {told:?}");
            }
            _ => {
                assert!(told.taken <= 1, "{number} was taken twice: {told:?}");
                unsaid += u64::from(told.published && told.taken == 0);
            }
        }
    }
    assert!(unsaid <= deaths, "{unsaid} are lost, and {deaths} died");
}

#[test]
fn whoever_dies_at_any_step_harms_nobody() {
    for seed in 0..messages(6, 400) {
        let delivery = [Delivery::AtLeastOnce, Delivery::AtMostOnce][seed as usize % 2];
        live_and_die(delivery, 2000, seed);
    }
}

/// The next message for a reader that waits.
fn read(ring: &Ring, reader: &mut Reader) -> Option<Handle> {
    wait(ring.control().alarm(PUBLISHED), || match ring.try_read(reader).unwrap() {
        Take::Message(handle) => Some(Some(handle)),
        Take::Nothing => None,
        Take::End | Take::Aborted => Some(None),
    })
}

/// One comes, reads, and leaves or dies.
fn read_for_a_while(ring: &Ring, times: u64) {
    let mut reader = ring.join().unwrap();
    let mut before = None;
    for _ in 0..times {
        let Some(handle) = read(ring, &mut reader) else { break };
        let number = number(ring, handle);
        assert!(before.is_none_or(|before| before + 1 == number), "{number} behind {before:?}");
        before = Some(number);
        ring.release_read(&reader, handle).unwrap();
    }
    ring.leave(reader).unwrap();
}

/// Readers come, read some and die or leave, while one stays and gets everything.
fn readers_come_and_go(seed: u64, count: u64) {
    let shared = Shared::new(settings(4, Delivery::Broadcast, false));
    let (producer, stays) = (shared.attach(0), shared.join(1));
    let crowd = &Crowd::new(&shared);
    let mut reader = stays.join().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for wanted in 0..count {
                let handle = read(&stays, &mut reader).unwrap();
                assert_eq!(number(&stays, handle), wanted, "each, in order");
                stays.release_read(&reader, handle).unwrap();
            }
            assert_eq!(read(&stays, &mut reader), None);
            stays.leave(reader).unwrap();
        });
        scope.spawn(move || {
            let mut random = Seeded(seed);
            while !crowd.is_over.load(SeqCst) {
                let times = random.below(20);
                crowd.live(&mut random, |ring| read_for_a_while(ring, times));
            }
        });
        for number in 0..count {
            let handle = acquire(&producer).unwrap();
            assert_eq!(publish(&producer, handle, number), Publish::Published);
        }
        producer.close().unwrap();
        crowd.is_over.store(true, SeqCst);
    });
    is_empty(&shared);
}

#[test]
fn readers_that_come_and_go_keep_no_message_from_who_stays() {
    for seed in 0..messages(4, 400) {
        readers_come_and_go(seed, 2000);
    }
}
