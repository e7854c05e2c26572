//! Rings of recycled buffers between clients and processes: waiting, ends, back-pressure, and those who are killed with slots in hand.
//!
//! Participants that are killed are this test program, started again with a part to play (`PLASMA_TEST_PART`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::slice;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use plasma_store::client::ring::{AS_CREATED, Delivery, RingOptions, Slot, TensorRing};
use plasma_store::client::{Client, ConnectOptions, CreateOptions};
use plasma_store::error::{Error, Result};
use plasma_store::shm::shared::ring::geometry::Geometry;
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;
use support::{Daemon, Random, Watchdog, connect, eventually, id, times};

const MEBIBYTE: u64 = 1 << 20;
const SLOTS: u64 = 4;

/// Rings of so many numbers of 64 bits.
fn of_numbers(slots: u64) -> RingOptions<'static> {
    RingOptions {
        slots,
        slot_bytes: 0,
        layout: Some(numbers(1)),
        delivery: Delivery::AtMostOnce,
        drops_oldest: false,
        is_guarded: false,
        keep: false,
        acquire_ms: -1,
        create: CreateOptions::default(),
    }
}

fn numbers(count: i64) -> Layout {
    Layout::row_major(DType::from_dlpack(1, 64, 1).unwrap(), vec![count]).unwrap()
}

fn write(slot: &Slot, number: u64) {
    // SAFETY: the slot is the caller's, with room for it.
    unsafe { slot.data.cast::<u64>().write(number) }
}

fn read(slot: &Slot) -> u64 {
    // SAFETY: the slot is the caller's, with a message of that size.
    unsafe { slot.data.cast::<u64>().read() }
}

fn put(ring: &TensorRing, number: u64) -> Result<()> {
    let slot = ring.acquire(AS_CREATED)?;
    write(&slot, number);
    ring.publish(slot.token, None)
}

fn get(ring: &TensorRing, timeout_ms: i64) -> Result<u64> {
    let slot = ring.take(timeout_ms)?;
    let number = read(&slot);
    ring.release(slot.token)?;
    Ok(number)
}

/// A store, two clients of it, and a ring that both take part in.
struct Stage {
    daemon: Daemon,
    clients: [Client; 2],
}

impl Stage {
    fn new() -> Self {
        let daemon = Daemon::start(64 * MEBIBYTE);
        let clients = [connect(&daemon.socket()), connect(&daemon.socket())];
        Self { daemon, clients }
    }

    fn ring(&self, options: &RingOptions<'_>) -> [TensorRing; 2] {
        let first = self.clients[0].ring_create(id(1), options).unwrap();
        [first, self.clients[1].ring_open(id(1), 0).unwrap()]
    }
}

#[test]
fn messages_come_in_order_and_slots_go_round() {
    let _watchdog = Watchdog::new("messages_come_in_order_and_slots_go_round");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(SLOTS));
    for round in 0..100 {
        for n in 0..SLOTS {
            put(&producer, round * SLOTS + n).unwrap();
        }
        assert_eq!(producer.counts().unwrap(), (0, SLOTS));
        assert!(matches!(producer.acquire(0), Err(Error::Timeout(_))));
        let got: Vec<_> = (0..SLOTS).map(|_| get(&consumer, 0).unwrap()).collect();
        assert_eq!(got, (round * SLOTS..(round + 1) * SLOTS).collect::<Vec<_>>());
        assert!(matches!(consumer.take(0), Err(Error::Timeout(_))));
    }
    assert_eq!(consumer.counts().unwrap(), (SLOTS, 0));
    assert_eq!(stage.clients[1].holders(id(1)).unwrap().len(), 2);
}

#[test]
fn a_ring_may_have_more_than_two_gibibytes() {
    let _watchdog = Watchdog::new("a_ring_may_have_more_than_two_gibibytes");
    const COUNT: usize = 3 << 25;
    let daemon = Daemon::start((3 * COUNT as u64 + MEBIBYTE) * 8);
    let client = connect(&daemon.socket());
    let options = RingOptions { layout: Some(numbers(COUNT as i64)), ..of_numbers(3) };
    let producer = client.ring_create(id(1), &options).unwrap();
    let consumer = connect(&daemon.socket()).ring_open(id(1), 0).unwrap();
    let last = |slot: Slot| Slot { data: slot.data.wrapping_add(8 * (COUNT - 1)), ..slot };
    for number in 0..6 {
        let slot = producer.acquire(0).unwrap();
        write(&last(slot), number);
        producer.publish(slot.token, None).unwrap();
        let slot = consumer.take(0).unwrap();
        assert_eq!((slot.size, read(&last(slot))), (8 * COUNT as u64, number));
        consumer.release(slot.token).unwrap();
    }
}

#[test]
fn each_message_may_be_of_another_type_and_shape() {
    let _watchdog = Watchdog::new("each_message_may_be_of_another_type_and_shape");
    let stage = Stage::new();
    let options = RingOptions { layout: None, slot_bytes: 1000, ..of_numbers(2) };
    let [producer, consumer] = stage.ring(&options);
    let (dtypes, shapes) = ([(2, 32), (0, 8), (1, 16)], [vec![2, 3], vec![], vec![0, 5], vec![1; 8], vec![7]]);
    for (code, bits) in dtypes {
        for shape in &shapes {
            let layout = Layout::row_major(DType::from_dlpack(code, bits, 1).unwrap(), shape.clone()).unwrap();
            let slot = producer.acquire(0).unwrap();
            assert_eq!(slot.size, 1000);
            producer.publish(slot.token, Some(&layout)).unwrap();
            let slot = consumer.take(0).unwrap();
            assert_eq!((slot.size, &consumer.tensor(slot.token).unwrap().layout), (layout.nbytes(), &layout));
            consumer.release(slot.token).unwrap();
        }
    }
    let slot = producer.acquire(0).unwrap();
    let too_large = producer.publish(slot.token, Some(&numbers(126))).unwrap_err();
    assert!(too_large.to_string().contains("1008"), "{too_large}");
    assert!(matches!(producer.publish(slot.token, None), Err(Error::InvalidArgument(_))));
    producer.abandon(slot.token).unwrap();
    let [fixed, _] = {
        let first = stage.clients[0].ring_create(id(2), &of_numbers(2)).unwrap();
        [first, stage.clients[1].ring_open(id(2), 0).unwrap()]
    };
    let slot = fixed.acquire(0).unwrap();
    assert!(matches!(fixed.publish(slot.token, Some(&numbers(2))), Err(Error::InvalidArgument(_))));
    fixed.publish(slot.token, Some(&numbers(1))).unwrap();
}

#[test]
fn a_slot_that_was_given_back_is_nobodys() {
    let _watchdog = Watchdog::new("a_slot_that_was_given_back_is_nobodys");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(1));
    let stale = |outcome: Result<()>| assert!(matches!(outcome, Err(Error::InvalidArgument(_))), "{outcome:?}");
    let first = producer.acquire(0).unwrap();
    stale(producer.release(first.token));
    stale(consumer.publish(first.token, None));
    producer.publish(first.token, None).unwrap();
    stale(producer.publish(first.token, None));
    stale(producer.abandon(first.token));
    let taken = consumer.take(0).unwrap();
    stale(consumer.abandon(taken.token));
    consumer.release(taken.token).unwrap();
    stale(consumer.release(taken.token));
    stale(consumer.tensor(taken.token).map(drop));
    let again = producer.acquire(0).unwrap();
    assert!(again.data == first.data && again.token != first.token, "the same memory in another life");
    for token in [first.token, u64::MAX, 77] {
        stale(producer.abandon(token));
    }
    producer.abandon(again.token).unwrap();
}

#[test]
fn a_slot_that_somebody_looks_at_is_not_given_back() {
    let _watchdog = Watchdog::new("a_slot_that_somebody_looks_at_is_not_given_back");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(1));
    let slot = producer.acquire(0).unwrap();
    let view = producer.tensor(slot.token).unwrap();
    assert!(view.data() == slot.data && !view.is_read_only());
    for outcome in [producer.publish(slot.token, None), producer.abandon(slot.token)] {
        assert!(matches!(outcome, Err(Error::Busy(_))), "{outcome:?}");
    }
    drop(view);
    producer.publish(slot.token, None).unwrap();
    let slot = consumer.take(0).unwrap();
    let view = consumer.tensor(slot.token).unwrap();
    assert!(view.is_read_only());
    assert!(matches!(consumer.release(slot.token), Err(Error::Busy(_))));
    // The handle goes, and the view keeps what it looks at.
    drop(consumer);
    assert_eq!(producer.counts().unwrap(), (0, 0));
    drop(view);
    assert_eq!(producer.counts().unwrap(), (1, 0));
}

#[test]
fn each_slot_comes_back_with_its_own_view_when_the_handle_is_gone() {
    let _watchdog = Watchdog::new("each_slot_comes_back_with_its_own_view_when_the_handle_is_gone");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(2));
    let view = || consumer.tensor(consumer.acquire(0).unwrap().token).unwrap();
    let (first, second) = (view(), view());
    drop(consumer);
    assert_eq!(producer.counts().unwrap(), (0, 0));
    drop(first);
    assert_eq!(producer.counts().unwrap(), (1, 0), "the other one keeps no slot but its own");
    drop(second);
    assert_eq!(producer.counts().unwrap(), (2, 0));
}

#[test]
fn a_guarded_slot_can_be_touched_by_who_has_it_also_beside_another_handle() {
    let _watchdog = Watchdog::new("a_guarded_slot_can_be_touched_by_who_has_it_also_beside_another_handle");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&RingOptions { is_guarded: true, ..of_numbers(2) });
    let slot = producer.acquire(0).unwrap();
    let beside = stage.clients[0].ring_open(id(1), 0).unwrap();
    write(&slot, 7);
    producer.publish(slot.token, None).unwrap();
    put(&beside, 8).unwrap();
    assert_eq!([get(&consumer, 0).unwrap(), get(&consumer, 0).unwrap()], [7, 8]);
}

#[test]
fn who_publishes_where_the_line_is_spoilt_gets_an_error_and_not_the_end_of_time() {
    let _watchdog = Watchdog::new("who_publishes_where_the_line_is_spoilt_gets_an_error_and_not_the_end_of_time");
    let stage = Stage::new();
    let [producer, spoiler] = stage.ring(&of_numbers(1));
    let slot = spoiler.acquire(0).unwrap();
    spoiler.abandon(slot.token).unwrap();
    // The line of one slot has 4 cells, behind 9 lines; the slot's memory is behind one line of cells and 5 of its own.
    let words = slot.data.wrapping_sub(15 * 64).cast::<u64>();
    // SAFETY: those are the ring's words, which others may change as well.
    let store = |at: usize, value: u64| unsafe { words.add(at).write_volatile(value) };
    // The head stands far behind, at a cell that has nothing to pass.
    store(8, 1);
    store(72 + 1, u64::MAX << 36);
    let spoilt = put(&producer, 1);
    assert!(matches!(spoilt, Err(Error::Corrupt(_))), "{spoilt:?}");
    assert!(matches!(producer.put_many(1, 0, |_, _| Ok(())), Ok((0, Err(Error::Corrupt(_))))));
    assert_eq!(producer.counts().unwrap(), (1, 0), "its slot is free");
}

/// Whatever a process does with a ring, without waiting for long.
fn play(ring: &TensorRing, random: &mut Random) {
    let outcome = match random.below(8) {
        0..3 => ring.acquire(1).and_then(|slot| ring.publish(slot.token, None).or_else(|_| ring.abandon(slot.token))),
        3..5 => ring.take(1).and_then(|slot| ring.tensor(slot.token).map(drop).and(ring.release(slot.token))),
        5 => ring.counts().map(drop),
        6 => ring.put_many(2, 0, |_, _| Ok(())).map(drop),
        _ => ring.take_many(2, 0, |_, _| Ok(())).map(drop),
    };
    // Whatever it says, it ends.
    drop(outcome);
}

#[test]
fn a_participant_that_writes_noise_into_a_ring_harms_nobody_but_those_who_share_it() {
    let _watchdog = Watchdog::new("a_participant_that_writes_noise_into_a_ring_harms_nobody_but_those_who_share_it");
    let stage = Stage::new();
    let quiet = stage.clients[0].ring_create(id(2), &of_numbers(SLOTS)).unwrap();
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce, Delivery::Broadcast] {
        for drops_oldest in [false, true] {
            let [victim, noisy] = stage.ring(&RingOptions { delivery, drops_oldest, ..of_numbers(3) });
            let slot = noisy.acquire(0).unwrap();
            let geometry = Geometry::new(*noisy.settings()).unwrap();
            let before = geometry.memory((slot.token & 0xFFFF) as u32).start as usize;
            // SAFETY: the words of the ring lie before its slots, as long as the handle lives.
            let words =
                unsafe { slice::from_raw_parts(slot.data.wrapping_sub(before).cast::<AtomicU64>(), geometry.words()) };
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut random = Random(7);
                    while !is_over.load(Ordering::Relaxed) {
                        let word = &words[8 + random.below(words.len() as u64 - 8) as usize];
                        let old = word.load(Ordering::Relaxed);
                        let new = [old.wrapping_add(1), old ^ 1 << random.below(64), random.below(u64::MAX), 0];
                        word.store(new[random.below(4) as usize], Ordering::Relaxed);
                        thread::yield_now();
                    }
                });
                let mut random = Random(9);
                (0..times(300, 10_000)).for_each(|_| play(&victim, &mut random));
                let _ = victim.close();
                (0..20).for_each(|_| play(&victim, &mut random));
                is_over.store(true, Ordering::Relaxed);
            });
            (0..20).for_each(|_| play(&victim, &mut Random(3)));
            drop((victim, noisy));
            put(&quiet, 1).unwrap();
            assert_eq!(get(&quiet, 0).unwrap(), 1);
        }
    }
}

#[test]
fn who_stays_awake_hears_time_and_interrupts() {
    let _watchdog = Watchdog::new("who_stays_awake_hears_time_and_interrupts");
    let stage = Stage::new();
    let options = ConnectOptions { spin: Duration::from_secs(100_000), ..ConnectOptions::default() };
    let awake = Client::connect(Some(&stage.daemon.socket()), options).unwrap();
    let ring = awake.ring_create(id(1), &of_numbers(1)).unwrap();
    assert!(matches!(ring.take(5), Err(Error::Timeout(5))));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ring.take(-1).map(drop));
        while !waiting.is_finished() {
            awake.interrupt();
            thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(waiting.join().unwrap(), Err(Error::Interrupted)));
    });
}

#[test]
fn who_has_all_slots_does_not_wait_for_one() {
    let _watchdog = Watchdog::new("who_has_all_slots_does_not_wait_for_one");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(2));
    let slots = [producer.acquire(-1).unwrap(), producer.acquire(-1).unwrap()];
    let refused = producer.acquire(-1).unwrap_err();
    assert!(matches!(&refused, Error::Busy(text) if text.contains('2')), "{refused}");
    slots.iter().for_each(|slot| producer.publish(slot.token, None).unwrap());
    let taken = [consumer.take(-1).unwrap(), consumer.take(-1).unwrap()];
    assert!(matches!(consumer.take(-1), Err(Error::Busy(_))));
    taken.iter().for_each(|slot| consumer.release(slot.token).unwrap());
}

#[test]
fn the_oldest_goes_where_that_was_chosen() {
    let _watchdog = Watchdog::new("the_oldest_goes_where_that_was_chosen");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&RingOptions { drops_oldest: true, ..of_numbers(3) });
    (0..10).for_each(|n| put(&producer, n).unwrap());
    assert_eq!([0; 3].map(|_| get(&consumer, 0).unwrap()), [7, 8, 9]);
    let held = {
        put(&producer, 10).unwrap();
        consumer.take(0).unwrap()
    };
    (11..20).for_each(|n| put(&producer, n).unwrap());
    assert_eq!((read(&held), get(&consumer, 0).unwrap()), (10, 18), "what somebody reads stays");
    consumer.release(held.token).unwrap();
}

#[test]
fn all_readers_see_all_messages() {
    let _watchdog = Watchdog::new("all_readers_see_all_messages");
    let stage = Stage::new();
    let [producer, first] = stage.ring(&RingOptions { delivery: Delivery::Broadcast, ..of_numbers(3) });
    let second = stage.clients[0].ring_open(id(1), 0).unwrap();
    put(&producer, 0).unwrap();
    let nothing = |ring: &TensorRing| assert!(matches!(ring.take(0), Err(Error::Timeout(_))));
    [&first, &second].into_iter().for_each(nothing);
    (1..4).for_each(|n| put(&producer, n).unwrap());
    assert!(matches!(producer.acquire(0), Err(Error::Timeout(_))));
    assert_eq!([0; 3].map(|_| get(&first, 0).unwrap()), [1, 2, 3]);
    assert!(matches!(producer.acquire(0), Err(Error::Timeout(_))), "the other has seen none yet");
    assert_eq!(get(&second, 0).unwrap(), 1);
    put(&producer, 4).unwrap();
    drop(second);
    (5..7).for_each(|n| put(&producer, n).unwrap());
    assert_eq!([0; 3].map(|_| get(&first, 0).unwrap()), [4, 5, 6], "who has left keeps nobody waiting");
}

#[test]
fn closed_it_is_drained_and_then_ends_and_nobody_waits_any_more() {
    let _watchdog = Watchdog::new("closed_it_is_drained_and_then_ends_and_nobody_waits_any_more");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(2));
    put(&producer, 1).unwrap();
    let held = producer.acquire(0).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.take(0).and_then(|_| consumer.take(-1)).map(drop));
        eventually(|| producer.counts().unwrap() == (0, 0));
        consumer.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed(_))));
    });
    assert!(matches!(producer.publish(held.token, None), Err(Error::Closed(_))));
    assert!(matches!(producer.acquire(-1), Err(Error::Closed(_))));
    assert!(matches!(consumer.take(-1), Err(Error::Closed(_))));
    producer.close().unwrap();
    let other = stage.clients[0].ring_create(id(2), &of_numbers(1)).unwrap();
    put(&other, 1).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| other.acquire(-1).map(drop));
        thread::sleep(Duration::from_millis(20));
        other.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed(_))));
    });
    assert_eq!(get(&other, -1).unwrap(), 1, "what was published before is there");
    assert!(matches!(other.take(-1), Err(Error::Closed(_))));
}

#[test]
fn aborted_everybody_stops() {
    let _watchdog = Watchdog::new("aborted_everybody_stops");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(2));
    put(&producer, 1).unwrap();
    let held = producer.acquire(0).unwrap();
    assert_eq!(get(&consumer, 0).unwrap(), 1);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.take(-1).map(drop));
        thread::sleep(Duration::from_millis(20));
        producer.abort().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Aborted(_))));
    });
    assert!(matches!(producer.publish(held.token, None), Err(Error::Aborted(_))));
    assert!(matches!(producer.acquire(0), Err(Error::Aborted(_))));
}

#[test]
fn a_wait_ends_with_time_with_an_interrupt_and_with_the_store() {
    let _watchdog = Watchdog::new("a_wait_ends_with_time_with_an_interrupt_and_with_the_store");
    let mut stage = Stage::new();
    let [_producer, consumer] = stage.ring(&RingOptions { acquire_ms: 5, ..of_numbers(1) });
    assert!(matches!(consumer.take(10), Err(Error::Timeout(10))));
    put(&consumer, 1).unwrap();
    assert!(matches!(consumer.acquire(AS_CREATED), Err(Error::Timeout(5))));
    assert!(matches!(consumer.acquire(-7), Err(Error::InvalidArgument(_))));
    assert_eq!(get(&consumer, 0).unwrap(), 1);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.take(-1).map(drop));
        // It may not have begun to wait.
        while !waiting.is_finished() {
            stage.clients[1].interrupt();
            thread::sleep(Duration::from_millis(5));
        }
        let ended = waiting.join().unwrap();
        assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    });
    thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.take(-1).map(drop));
        thread::sleep(Duration::from_millis(20));
        stage.daemon.signal(nix::sys::signal::Signal::SIGKILL);
        assert!(matches!(waiting.join().unwrap(), Err(Error::Disconnected(_))));
    });
    stage.daemon.wait();
}

#[test]
fn a_descriptor_tells_when_a_take_is_worth_a_try() {
    let _watchdog = Watchdog::new("a_descriptor_tells_when_a_take_is_worth_a_try");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(4));
    let descriptor = consumer.descriptor().unwrap();
    assert_eq!(consumer.descriptor().unwrap(), descriptor);
    // SAFETY: it is the ring's, which lives longer.
    let fd = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let rings =
        |patience: u16| poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(patience)).unwrap() == 1;
    assert!(!rings(20));
    for n in 0..100 {
        put(&producer, n).unwrap();
        put(&producer, n).unwrap();
        assert!(rings(60_000));
        assert_eq!([get(&consumer, 0).unwrap(), get(&consumer, 0).unwrap()], [n, n]);
        assert!(matches!(consumer.take(0), Err(Error::Timeout(_))));
    }
    assert!(!rings(0));
    for n in 0..10 {
        put(&producer, n).unwrap();
        assert!(rings(60_000));
        assert_eq!(consumer.take_many(4, 0, |_, _| Ok(())).unwrap(), 1);
        assert!(matches!(consumer.take_many(4, 0, |_, _| Ok(())), Err(Error::Timeout(_))));
        assert!(!rings(0));
    }
    producer.close().unwrap();
    assert!(rings(60_000));
    assert!(matches!(consumer.take(0), Err(Error::Closed(_))));
}

#[test]
fn who_waits_by_a_descriptor_is_told_that_the_store_is_gone() {
    let _watchdog = Watchdog::new("who_waits_by_a_descriptor_is_told_that_the_store_is_gone");
    let mut stage = Stage::new();
    let [_producer, consumer] = stage.ring(&of_numbers(4));
    // SAFETY: it is the ring's, which lives longer.
    let fd = unsafe { BorrowedFd::borrow_raw(consumer.descriptor().unwrap()) };
    stage.daemon.signal(nix::sys::signal::Signal::SIGKILL);
    stage.daemon.wait();
    assert_eq!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(60_000_u16)).unwrap(), 1);
    let told = consumer.take(0);
    assert!(matches!(told, Err(Error::Disconnected(_))), "{told:?}");
}

#[test]
fn a_forked_child_has_no_part_in_it_and_lets_go_of_its_copy() {
    let _watchdog = Watchdog::new("a_forked_child_has_no_part_in_it_and_lets_go_of_its_copy");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&RingOptions { delivery: Delivery::Broadcast, ..of_numbers(4) });
    // A thread of its own, which the child does not have.
    let descriptor = consumer.descriptor().unwrap();
    put(&producer, 1).unwrap();
    let slot = consumer.take(-1).unwrap();
    // SAFETY: the child only asks and lets go, as a child of a process with threads may with this library.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = matches!(consumer.release(slot.token), Err(Error::Forked))
                && matches!(producer.acquire(0), Err(Error::Forked))
                && matches!(consumer.descriptor(), Err(Error::Forked));
            drop((producer, consumer));
            // SAFETY: it ends here.
            unsafe { libc::_exit(i32::from(!refused)) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
    assert_eq!((read(&slot), consumer.descriptor().unwrap()), (1, descriptor));
    consumer.release(slot.token).unwrap();
    put(&producer, 2).unwrap();
    assert_eq!(get(&consumer, -1).unwrap(), 2);
}

#[test]
fn many_at_once_are_as_many_one_by_one() {
    let _watchdog = Watchdog::new("many_at_once_are_as_many_one_by_one");
    let stage = Stage::new();
    let [producer, consumer] = stage.ring(&of_numbers(100));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while next < 10_000 {
                let count = 1 + next as usize % 333;
                let (done, outcome) = producer
                    .put_many(count, -1, |index, place| {
                        // SAFETY: there is room for one number.
                        unsafe { place.cast::<u64>().write(next + index as u64) };
                        Ok(())
                    })
                    .unwrap();
                outcome.unwrap();
                assert_eq!(done, count);
                next += count as u64;
            }
            producer.close().unwrap();
        });
        let mut next = 0;
        let ended = loop {
            let taken = consumer.take_many(77, -1, |index, place| {
                // SAFETY: there is one number.
                assert_eq!(unsafe { place.cast::<u64>().read() }, next + index as u64);
                Ok(())
            });
            match taken {
                Ok(count) => next += count as u64,
                Err(error) => break error,
            }
        };
        assert!(matches!(ended, Error::Closed(_)) && next >= 10_000, "{ended} after {next}");
    });
}

/// Plays a part when this program was started for that: fills slots, or reads, and ends when the ring does.
#[test]
fn part() {
    let Some(part) = std::env::var_os("PLASMA_TEST_PART") else { return };
    let (part, socket) = (part.into_string().unwrap(), PathBuf::from(std::env::var_os("PLASMA_TEST_SOCKET").unwrap()));
    let client = connect(&socket);
    let ring = client.ring_open(id(1), -1).unwrap();
    match part.split_once(' ').unwrap() {
        ("fill", first) => fill(&ring, first.parse().unwrap()),
        ("read", report) => read_on(&ring, &client.ring_open(id(2), -1).unwrap(), report.parse().unwrap()),
        ("keep", what) => keep(&ring, what),
        other => panic!("{other:?}"),
    }
}

/// Publishes numbers until the ring is closed; every number once.
fn fill(ring: &TensorRing, first: u64) {
    let mut next = first;
    while let Ok(()) = put(ring, next) {
        next += 1;
    }
}

/// Passes on what comes, with a mark of its own.
fn read_on(ring: &TensorRing, next: &TensorRing, mark: u64) {
    while let Ok(slot) = ring.take(-1) {
        let number = read(&slot);
        if put(next, number | mark << 56).is_err() || ring.release(slot.token).is_err() {
            return;
        }
    }
}

/// Has slots in hand until it is killed.
fn keep(ring: &TensorRing, what: &str) {
    let slots: Vec<_> =
        (0..2).map(|_| if what == "write" { ring.acquire(-1) } else { ring.take(-1) }.unwrap()).collect();
    println!("PART: {}", slots.len());
    loop {
        thread::park();
    }
}

fn start(socket: &Path, part: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "part", "--nocapture"]).env("PLASMA_TEST_SOCKET", socket).env("PLASMA_TEST_PART", part);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_the_dead_had_comes_back() {
    let _watchdog = Watchdog::new("what_the_dead_had_comes_back");
    for (delivery, comes_again) in [(Delivery::AtMostOnce, false), (Delivery::AtLeastOnce, true)] {
        let stage = Stage::new();
        let [producer, consumer] = stage.ring(&RingOptions { delivery, ..of_numbers(SLOTS) });
        let writer = start(&stage.daemon.socket(), "keep write");
        eventually(|| producer.counts().unwrap().0 == SLOTS - 2);
        thread::scope(|scope| {
            // Waits for slots that only a dead one has.
            let waiting = scope.spawn(|| (0..SLOTS).for_each(|n| put(&producer, n).unwrap()));
            eventually(|| producer.counts().unwrap().0 == 0);
            kill(writer);
            waiting.join().unwrap();
        });
        let reader = start(&stage.daemon.socket(), "keep read");
        eventually(|| consumer.counts().unwrap().1 == SLOTS - 2);
        thread::scope(|scope| {
            let waiting =
                scope.spawn(|| (0..if comes_again { 4 } else { 2 }).map(|_| get(&consumer, -1).unwrap()).collect());
            if comes_again {
                eventually(|| consumer.counts().unwrap().1 == 0);
            }
            kill(reader);
            let mut got: Vec<u64> = waiting.join().unwrap();
            got.sort_unstable();
            assert_eq!(got, if comes_again { vec![0, 1, 2, 3] } else { vec![2, 3] });
        });
        assert!(matches!(consumer.take(0), Err(Error::Timeout(_))));
        eventually(|| consumer.counts().unwrap() == (SLOTS, 0));
    }
}

#[test]
fn many_processes_lose_and_double_nothing_but_what_dies_with_them() {
    let _watchdog = Watchdog::new("many_processes_lose_and_double_nothing_but_what_dies_with_them");
    let stage = Stage::new();
    let socket = stage.daemon.socket();
    let (first, second) = (of_numbers(16), of_numbers(64));
    let [ring, _] = stage.ring(&RingOptions { delivery: Delivery::AtLeastOnce, ..first });
    let last = stage.clients[0].ring_create(id(2), &second).unwrap();
    let mut random = Random(5);
    let mut children: Vec<_> = (1..=2u64).map(|n| start(&socket, &format!("fill {}", n << 40))).collect();
    children.extend((1..=2).map(|n| start(&socket, &format!("read {n}"))));
    let (mut kills, rounds) = (0, times(12, 400));
    // How often each number came, and by which reader.
    let seen = Mutex::new(BTreeMap::<u64, u64>::new());
    thread::scope(|scope| {
        let counting = scope.spawn(|| {
            while let Ok(number) = get(&last, -1) {
                *seen.lock().unwrap().entry(number & ((1 << 56) - 1)).or_default() += 1;
            }
        });
        for round in 0..rounds {
            let before = seen.lock().unwrap().len();
            eventually(|| seen.lock().unwrap().len() > before + 200);
            let victim = random.below(4) as usize;
            let part = if victim < 2 { format!("fill {}", (10 + round) << 40) } else { format!("read {victim}") };
            kill(std::mem::replace(&mut children[victim], start(&socket, &part)));
            kills += 1;
        }
        ring.close().unwrap();
        for mut child in children {
            child.wait().unwrap();
        }
        last.close().unwrap();
        counting.join().unwrap();
    });
    let seen = seen.into_inner().unwrap();
    // A reader that dies between passing on and release has its message read again: at most one for each kill.
    let doubled = seen.values().filter(|count| **count > 1).count() as u64;
    assert!(doubled <= kills, "{doubled} of {} came twice after {kills} kills", seen.len());
    // Each producer's numbers are without a gap: nothing that was published is lost.
    let mut runs = BTreeMap::<u64, Vec<u64>>::new();
    seen.keys().for_each(|number| runs.entry(number >> 40).or_default().push(*number));
    for (producer, numbers) in runs {
        let whole = (numbers[0]..).take(numbers.len()).eq(numbers.iter().copied());
        assert!(whole && numbers[0] == producer << 40, "of {producer} something is lost");
    }
    assert_eq!(ring.counts().unwrap(), (16, 0), "no slot is lost");
    drop((ring, last));
    eventually(|| stage.clients[0].stats().unwrap().objects == 0);
}

#[test]
fn a_ring_ends_with_its_last_participant_or_stays_until_it_is_deleted() {
    let _watchdog = Watchdog::new("a_ring_ends_with_its_last_participant_or_stays_until_it_is_deleted");
    let stage = Stage::new();
    let [first, second] = stage.ring(&of_numbers(2));
    put(&first, 7).unwrap();
    drop(first);
    assert_eq!(get(&second, 0).unwrap(), 7);
    drop(second);
    let gone = stage.clients[0].ring_open(id(1), 0);
    assert!(matches!(gone, Err(Error::ObjectNotFound(_))), "{gone:?}");
    drop(stage.ring(&RingOptions { keep: true, ..of_numbers(2) }));
    let again = stage.clients[0].ring_open(id(1), 0).unwrap();
    put(&again, 8).unwrap();
    drop(again);
    assert_eq!(get(&stage.clients[1].ring_open(id(1), 0).unwrap(), 0).unwrap(), 8);
    let _ = stage.clients[0].delete(&[id(1)]).unwrap();
    eventually(|| stage.clients[0].stats().unwrap().objects == 0);
}

#[test]
fn what_cannot_be_is_refused_with_the_number() {
    let _watchdog = Watchdog::new("what_cannot_be_is_refused_with_the_number");
    let stage = Stage::new();
    let client = &stage.clients[0];
    let wrong = |options: &RingOptions<'_>, number: &str| {
        let refused = client.ring_create(id(1), options).unwrap_err().to_string();
        assert!(refused.contains(number), "{refused}");
    };
    wrong(&of_numbers(0), "not 0");
    wrong(&of_numbers(65_536), "65536");
    wrong(&RingOptions { slot_bytes: 7, ..of_numbers(1) }, "7");
    wrong(&RingOptions { slot_bytes: u64::MAX, ..of_numbers(2) }, &u64::MAX.to_string());
    wrong(&RingOptions { layout: None, ..of_numbers(2) }, "slot_bytes");
    wrong(&RingOptions { acquire_ms: -3, ..of_numbers(2) }, "-3");
    wrong(&RingOptions { slot_bytes: 1 << 30, ..of_numbers(2) }, "capacity");
    // What is shared and no ring.
    assert!(matches!(client.ring_open(id(9), 0), Err(Error::ObjectNotFound(_))));
    assert_eq!(client.stats().unwrap().objects, 0);
}
