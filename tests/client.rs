//! The client under many threads, signals, forks, and stores that stop, vanish or were never stores.
//!
//! The leader that reads the socket for all is where calls could get lost: each test that hangs here found such a loss.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use plasma_store::client::tensor::{TensorMemory, TensorOptions};
use plasma_store::client::{Buffer, Client, ConnectOptions, CreateOptions, GetOptions};
use plasma_store::error::{Error, Result};
use plasma_store::store::{Store, StoreOptions};
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;
use support::{Daemon, Random, RawPeer, Signalled, Watchdog, catch_signals, connect, eventually, id, put, store};

const MEBIBYTE: u64 = 1 << 20;

fn bytes_of(buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.size() as usize];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

fn get_one(client: &Client, name: u64) -> Buffer {
    client.get(&[id(name)], -1, GetOptions::default()).unwrap().remove(0).unwrap()
}

/// Interrupts until gets of which nobody knows when they begin have ended.
fn interrupt_until(client: &Client, ended: impl Fn() -> bool) {
    eventually(|| {
        client.interrupt();
        ended()
    });
}

#[test]
fn a_get_that_waits_keeps_no_other_call_waiting() {
    let _watchdog = Watchdog::new("a_get_that_waits_keeps_no_other_call_waiting");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| bytes_of(&get_one(&client, 1)))).collect();
        for n in 10..200 {
            put(&client, id(n), b"other");
            assert_eq!(bytes_of(&get_one(&client, n)), b"other");
            assert_eq!(client.get(&[id(2)], 0, GetOptions::default()).unwrap().len(), 1);
        }
        put(&client, id(1), b"at last");
        waiting.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), b"at last"));
    });
}

#[test]
fn timeouts_are_at_least_as_long_as_asked_and_negative_ones_are_refused() {
    let _watchdog = Watchdog::new("timeouts_are_at_least_as_long_as_asked_and_negative_ones_are_refused");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put(&client, id(1), b"x");
    for ms in [0, 1, 70] {
        let begin = Instant::now();
        let got = client.get(&[id(1), id(2)], ms, GetOptions::default()).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(ms as u64));
        assert_eq!((got[0].is_some(), got[1].is_some()), (true, false));
    }
    let error = client.get(&[id(1)], -7, GetOptions::default()).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)) && error.to_string().contains("-7"));
    assert!(client.get(&[], -1, GetOptions::default()).unwrap().is_empty());
}

#[test]
fn one_object_and_several_are_got_alike() {
    let _watchdog = Watchdog::new("one_object_and_several_are_got_alike");
    let store = store(MEBIBYTE);
    let (maker, client) = (connect(store.socket()), connect(store.socket()));
    put(&maker, id(1), b"first");
    put(&maker, id(2), b"second");
    let options = GetOptions::default();
    let one = |n: u64, ms: i64| client.get_one(id(n), ms, options).unwrap();
    // The first get asks the store, which sends the segment; the second finds the object by itself.
    for _ in 0..2 {
        assert_eq!(bytes_of(&one(1, -1).unwrap()), b"first");
    }
    for ms in [0, 30] {
        let begin = Instant::now();
        assert!(one(9, ms).is_none() && begin.elapsed() >= Duration::from_millis(ms as u64));
        let sizes = client.get_each(&[id(2), id(9), id(1), id(2)], ms, options, |buffer| buffer.size()).unwrap();
        assert_eq!(sizes, [Some(6), None, Some(5), Some(6)]);
    }
    assert!(client.get_one(id(1), -7, options).unwrap_err().to_string().contains("-7"));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| one(3, -1));
        std::thread::sleep(Duration::from_millis(20));
        put(&maker, id(3), b"late");
        assert_eq!(bytes_of(&waiting.join().unwrap().unwrap()), b"late");
    });
    client.delete(&[id(1), id(2), id(3)]).unwrap().into_iter().for_each(|outcome| outcome.unwrap());
}

#[test]
fn duplicates_in_one_get_share_one_hold() {
    let _watchdog = Watchdog::new("duplicates_in_one_get_share_one_hold");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    let mut witness = RawPeer::old(store.socket());
    put(&client, id(1), b"one");
    put(&client, id(2), b"two");
    let mut got = client.get(&[id(1), id(2), id(1), id(9), id(1)], 0, GetOptions::default()).unwrap();
    let present: Vec<bool> = got.iter().map(Option::is_some).collect();
    assert_eq!(present, [true, true, true, false, true]);
    let again = get_one(&client, 1);
    got.truncate(1);
    eventually(|| witness.figure("pinned bytes") == 3);
    drop(again);
    assert!(matches!(client.delete(&[id(1)]).unwrap()[0], Err(Error::ObjectInUse(_))));
    assert_eq!(bytes_of(got[0].as_ref().unwrap()), b"one");
    drop(got);
    assert!(!client.contains(id(1)).unwrap());
    assert_eq!(witness.figure("pinned bytes"), 0);
}

#[test]
fn a_private_buffer_is_written_for_its_owner_only() {
    let _watchdog = Watchdog::new("a_private_buffer_is_written_for_its_owner_only");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put(&client, id(1), &[7; 10_000]);
    put(&client, id(2), b"");
    let private = GetOptions { private: true, ..Default::default() };
    let mine = client.get(&[id(1), id(2)], 0, private).unwrap();
    let mine = [mine[0].as_ref().unwrap(), mine[1].as_ref().unwrap()];
    // SAFETY: private memory of this buffer, 10 000 bytes long.
    unsafe { mine[0].private_data().unwrap().add(5000).write(1) };
    assert_eq!((bytes_of(mine[0])[4999..5001].to_vec(), mine[1].size()), (vec![7, 1], 0));
    let shared = get_one(&client, 1);
    assert!(shared.private_data().is_none());
    assert_eq!(bytes_of(&shared), [7; 10_000]);
}

#[test]
fn metadata_that_look_like_ours_stay_the_users() {
    let _watchdog = Watchdog::new("metadata_that_look_like_ours_stay_the_users");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    for (name, metadata) in (0..).zip([&b"user"[..], b"\0\0\0\0PLSMETA1", b"user\0\0\0\0PLSMETA1\0\0\0\0PLSMETA1"]) {
        let buffer = client.create(id(name), 8, metadata, CreateOptions::default()).unwrap();
        assert_eq!(buffer.metadata_size().unwrap(), metadata.len() as u64);
        client.seal(id(name)).unwrap();
        let got = get_one(&client, name);
        // SAFETY: readable for so many bytes while the buffer lives, and nobody writes sealed objects here.
        let bytes = unsafe { std::slice::from_raw_parts(got.metadata(), got.metadata_size() as usize) };
        assert_eq!(bytes, metadata);
    }
}

#[test]
fn writing_a_sealed_object_is_a_fault_and_changes_nothing() {
    let _watchdog = Watchdog::new("writing_a_sealed_object_is_a_fault_and_changes_nothing");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put(&client, id(1), b"immutable");
    let held = get_one(&client, 1);
    let address = held.data().cast_mut();
    // SAFETY: the child does nothing that is not async-signal-safe.
    match unsafe { fork() }.unwrap() {
        // SAFETY: it writes one byte to where it may not write, and ends, one way or the other.
        ForkResult::Child => unsafe {
            address.write_volatile(b'X');
            libc::_exit(0)
        },
        ForkResult::Parent { child } => {
            assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Signaled(_, Signal::SIGSEGV, _)));
        }
    }
    assert_eq!(bytes_of(&held), b"immutable");
}

#[test]
fn buffers_outlive_client_object_and_store() {
    let _watchdog = Watchdog::new("buffers_outlive_client_object_and_store");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put(&client, id(1), b"kept");
    let held = get_one(&client, 1);
    drop(client);
    let other = connect(store.socket());
    assert!(matches!(other.delete(&[id(1)]).unwrap()[0], Err(Error::ObjectInUse(_))));
    put(&other, id(2), &[0; 900_000]);
    assert_eq!(bytes_of(&held), b"kept");
    store.stop().unwrap();
    assert_eq!(bytes_of(&held), b"kept");
    assert!(matches!(other.list(), Err(Error::Disconnected(_))));
    drop(held);
}

#[test]
fn abort_waits_for_its_buffer_and_seal_ends_writing() {
    let _watchdog = Watchdog::new("abort_waits_for_its_buffer_and_seal_ends_writing");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    let buffer = client.create(id(1), 600_000, b"", CreateOptions::default()).unwrap();
    assert!(matches!(client.abort(id(1)), Err(Error::Busy(_))));
    drop(buffer);
    client.abort(id(1)).unwrap();
    assert!(matches!(client.abort(id(1)), Err(Error::ObjectNotFound(_))));
    let buffer = client.create(id(1), 600_000, b"", CreateOptions::default()).unwrap();
    assert!(buffer.mutable_data().is_some());
    client.seal(id(1)).unwrap();
    assert!(buffer.mutable_data().is_none());
    assert!(matches!(client.seal(id(1)), Err(Error::ObjectAlreadySealed(_))));
    assert!(matches!(client.abort(id(1)), Err(Error::Busy(_) | Error::ObjectAlreadySealed(_))));
    assert!(matches!(client.seal(id(2)), Err(Error::ObjectNotFound(_))));
    let full = client.create(id(3), 600_000, b"", CreateOptions::default()).unwrap_err().to_string();
    assert!(full.contains("600000") && full.contains("1048576"), "{full}");
    drop(buffer);
    client.create(id(3), 600_000, b"", CreateOptions::default()).unwrap();
    let negative = client.create(id(4), u64::MAX, b"", CreateOptions::default()).unwrap_err();
    assert!(matches!(&negative, Error::StoreFull(text) if text.contains(&u64::MAX.to_string())));
}

#[test]
fn what_a_client_leaves_unsealed_is_aborted_but_not_under_a_buffer() {
    let _watchdog = Watchdog::new("what_a_client_leaves_unsealed_is_aborted_but_not_under_a_buffer");
    let store = store(MEBIBYTE);
    let mut witness = RawPeer::old(store.socket());
    let client = connect(store.socket());
    drop(client.create(id(1), 100, b"", CreateOptions::default()).unwrap());
    let kept = client.create(id(2), 1000, b"", CreateOptions::default()).unwrap();
    let sealed = client.create(id(3), 10_000, b"", CreateOptions::default()).unwrap();
    client.seal(id(3)).unwrap();
    drop(client);
    eventually(|| witness.figure("allocated bytes") == 11_000);
    kept.write(0, &[1; 1000]).unwrap();
    drop(kept);
    eventually(|| witness.figure("allocated bytes") == 10_000);
    assert_eq!(witness.figure("pinned bytes"), 10_000);
    drop(sealed);
    eventually(|| witness.figure("pinned bytes") == 0);
    assert_eq!(witness.figure("allocated bytes"), 10_000);
}

#[test]
fn threads_that_race_for_one_name_do_not_take_each_others_objects() {
    let _watchdog = Watchdog::new("threads_that_race_for_one_name_do_not_take_each_others_objects");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..1500 {
                    let Ok(buffer) = client.create(id(1), 100, b"", CreateOptions::default()) else { continue };
                    assert!(buffer.mutable_data().is_some(), "another thread's end was taken for this one's");
                    if (round + thread) % 2 == 0 {
                        drop(buffer);
                        client.abort(id(1)).unwrap();
                    } else {
                        client.seal(id(1)).unwrap();
                        client.delete(&[id(1)]).unwrap();
                    }
                }
            });
        }
    });
    assert!(client.list().unwrap().is_empty(), "somebody's hold was lost");
}

/// One of many things a thread does with a client; what it got it lets go at once.
fn do_something(client: &Client, random: &mut Random, own: u64) -> Result<()> {
    // A late answer may hold the last one for a moment yet, so each time it is another.
    let (mine, shared) = (id(random.next() | 1 << 63), id(random.below(5)));
    match random.below(6) {
        0 => {
            put(client, mine, &own.to_le_bytes());
            let got = client.get(&[mine, mine], -1, GetOptions::default());
            client.delete(&[mine])?;
            assert_eq!(bytes_of(got?[1].as_ref().unwrap()), own.to_le_bytes());
        }
        1 => drop(client.get(&[shared, mine, id(77)], random.below(3) as i64, GetOptions::default())?),
        2 => drop(client.get(&[id(78), shared, shared], 1, GetOptions { private: true, ..Default::default() })?),
        3 => drop(client.contains(shared)?),
        4 => drop(client.list()?),
        _ => drop(client.get(&[shared], 0, GetOptions::default())?),
    }
    Ok(())
}

/// Sixteen threads at work on one client, beside `disturb`, which can send them signals.
fn crowd(client: &Client, rounds: u64, disturb: impl Fn(&[Signalled])) {
    let signalled: Vec<Signalled> = (0..16).map(|_| Signalled::default()).collect();
    let work = |own: u64, signalled: &Signalled| {
        signalled.enter();
        let mut random = Random(own);
        for _ in 0..rounds {
            match do_something(client, &mut random, own) {
                Ok(()) | Err(Error::Interrupted) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..).zip(&signalled).map(|(own, one)| scope.spawn(move || work(own, one))).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            disturb(&signalled);
        }
    });
}

#[test]
fn many_threads_share_a_client_while_signals_and_interrupts_fly() {
    let _watchdog =
        Watchdog::lasting("many_threads_share_a_client_while_signals_and_interrupts_fly", Duration::from_secs(180));
    catch_signals();
    for return_on_signal in [false, true] {
        let store = store(MEBIBYTE);
        let options = ConnectOptions { return_on_signal, ..ConnectOptions::default() };
        let client = Client::connect(Some(store.socket()), options).unwrap();
        (0..5).for_each(|n| put(&client, id(n), &[n as u8; 100]));
        let turn = AtomicU64::new(0);
        crowd(&client, 300, |threads| {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            match turn % 3 {
                0 => client.interrupt(),
                _ => threads[turn as usize % threads.len()].signal(),
            }
            std::thread::sleep(Duration::from_micros(200));
        });
        // Every hold of every answer, taken or abandoned, was given back: the latest by the next call that needs the store,
        // as nobody else reads.
        let mut witness = RawPeer::old(store.socket());
        eventually(|| client.list().is_ok() && witness.figure("pinned bytes") == 0);
        eventually(|| witness.figure("allocated bytes") == 500);
    }
}

#[test]
fn no_answer_is_lost_between_one_leader_and_the_next() {
    let _watchdog = Watchdog::lasting("no_answer_is_lost_between_one_leader_and_the_next", Duration::from_secs(180));
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..4000).for_each(|n| assert!(!client.contains(id(n)).unwrap())));
        }
        // Two that often sleep, and wake each other by a seal.
        for side in 0..2 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..500 {
                    put(client, id(10_000 + 2 * n + side), b"ball");
                    get_one(client, 10_000 + 2 * n + 1 - side);
                }
            });
        }
    });
}

#[test]
fn an_interrupt_ends_all_gets_that_wait_and_nothing_else() {
    let _watchdog = Watchdog::new("an_interrupt_ends_all_gets_that_wait_and_nothing_else");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    client.interrupt();
    put(&client, id(1), b"x");
    assert!(client.get(&[id(1), id(2)], 5, GetOptions::default()).is_ok(), "an interrupt is not kept for later");
    (10..14).for_each(|n| put(&client, id(n), b"y"));
    let held = || client.list().unwrap().iter().filter(|info| info.ref_count > 0).count();
    for _ in 0..20 {
        std::thread::scope(|scope| {
            let gets = [(10, -1), (11, 1_000_000), (12, -1), (13, -1)];
            let client = &client;
            let get = |own, ms| move || client.get(&[id(1), id(own), id(2)], ms, GetOptions::default());
            let waiting = gets.map(|(own, ms)| scope.spawn(get(own, ms)));
            // Each holds one of its own while it waits in the store.
            eventually(|| held() == 5);
            client.interrupt();
            for thread in waiting {
                assert!(matches!(thread.join().unwrap(), Err(Error::Interrupted)));
            }
        });
        // The abandoned answers came with holds, four of them on one object.
        eventually(|| held() == 0);
    }
}

#[test]
fn a_signal_ends_a_get_where_that_was_asked_for() {
    let _watchdog = Watchdog::new("a_signal_ends_a_get_where_that_was_asked_for");
    catch_signals();
    let store = store(MEBIBYTE);
    let options = ConnectOptions { return_on_signal: true, ..ConnectOptions::default() };
    let client = Client::connect(Some(store.socket()), options).unwrap();
    get_while_signals_come(&client, -1, |outcome| assert!(matches!(outcome, Err(Error::Interrupted))));
    let deaf = connect(store.socket());
    get_while_signals_come(&deaf, 100, |outcome| assert!(matches!(outcome.as_deref(), Ok([None]))));
}

/// Three threads get what is not there. A signal that comes before the wait begins is no reason to end it, so signals are
/// sent until all are done.
fn get_while_signals_come(client: &Client, timeout_ms: i64, check: impl Fn(Result<Vec<Option<Buffer>>>) + Sync) {
    let signalled: [Signalled; 3] = Default::default();
    let get = |one: &Signalled| {
        one.enter();
        check(client.get(&[id(1)], timeout_ms, GetOptions::default()));
    };
    let get = &get;
    std::thread::scope(|scope| {
        let waiting: Vec<_> = signalled.iter().map(|one| scope.spawn(move || get(one))).collect();
        while waiting.iter().any(|thread| !thread.is_finished()) {
            signalled.iter().for_each(Signalled::signal);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn giving_much_back_does_not_wait_for_a_store_that_waits_for_us() {
    // Answers to abandoned gets, which nobody reads, fill the store's queue; it then reads no requests, and what a thread
    // sends that waits for no answer fills the socket.
    let _watchdog = Watchdog::new("giving_much_back_does_not_wait_for_a_store_that_waits_for_us");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    let mut maker = RawPeer::native(store.socket());
    let names: Vec<_> = (0..20_000).map(id).collect();
    names.iter().for_each(|name| maker.put(*name, 1));
    let held = client.get(&names, 0, GetOptions::default()).unwrap();
    let mut wanted = names.clone();
    wanted.push(id(1 << 30));
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| client.get(&wanted, -1, GetOptions::default()))).collect();
        interrupt_until(&client, || waiting.iter().all(|thread| thread.is_finished()));
        waiting.into_iter().for_each(|thread| assert!(matches!(thread.join().unwrap(), Err(Error::Interrupted))));
    });
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    // A call that needs the store reads what is left of those answers; `contains` of what is there would not.
    eventually(|| client.list().is_ok() && maker.figure("pinned bytes") == 0);
}

#[test]
fn a_forked_child_reads_what_is_held_and_disturbs_nobody() {
    let _watchdog = Watchdog::new("a_forked_child_reads_what_is_held_and_disturbs_nobody");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put(&client, id(1), b"inherited");
    let held = get_one(&client, 1);
    let unsealed = client.create(id(2), 10, b"", CreateOptions::default()).unwrap();
    // SAFETY: the child uses the allocator, which survives a fork, no other lock, and does not panic.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let forked = |outcome: Result<()>| matches!(outcome, Err(Error::Forked));
            let mut bytes = [0; 9];
            let mut failures = i32::from(held.read(0, &mut bytes).is_err() || &bytes != b"inherited");
            failures += 2 * i32::from(!forked(client.get(&[id(1)], 0, GetOptions::default()).map(drop)));
            failures += 4 * i32::from(!forked(client.contains(id(1)).map(drop)));
            failures += 8 * i32::from(!forked(client.seal(id(2))));
            failures += 16 * i32::from(!forked(client.delete(&[id(1)]).map(drop)));
            failures += 32 * i32::from(client.is_usable());
            client.interrupt();
            drop(unsealed);
            drop(held);
            drop(client);
            failures += 64 * i32::from(!forked(store.stop()));
            // SAFETY: async-signal-safe.
            unsafe { libc::_exit(failures) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
    assert!(matches!(client.delete(&[id(1)]).unwrap()[0], Err(Error::ObjectInUse(_))), "the child let go of it");
    client.seal(id(2)).unwrap();
    assert_eq!(bytes_of(&held), b"inherited");
    drop((held, unsealed));
    assert!(!client.contains(id(1)).unwrap());
}

#[test]
fn a_store_that_is_stopped_ends_all_calls() {
    let _watchdog = Watchdog::new("a_store_that_is_stopped_ends_all_calls");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    let path = store.socket().to_owned();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..5).map(|_| scope.spawn(|| client.get(&[id(1)], -1, GetOptions::default()))).collect();
        std::thread::sleep(Duration::from_millis(30));
        store.stop().unwrap();
        for thread in waiting {
            assert!(matches!(thread.join().unwrap(), Err(Error::Disconnected(_))));
        }
    });
    (0..100).for_each(|_| assert!(matches!(client.contains(id(1)), Err(Error::Disconnected(_)))));
    assert!(!path.exists());
}

#[test]
fn the_stores_thread_takes_none_of_the_hosts_signals() {
    let _watchdog = Watchdog::new("the_stores_thread_takes_none_of_the_hosts_signals");
    let _store = store(MEBIBYTE);
    let read = |path: &std::path::Path, name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
    let mut stores: Vec<PathBuf> = Vec::new();
    // A new thread names itself.
    eventually(|| {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        stores = tasks.filter(|task| read(task, "comm").trim() == "plasma-store").collect();
        !stores.is_empty()
    });
    for task in stores {
        let status = read(&task, "status");
        // A thread of another test may end while it is looked at.
        let Some(mask) = status.lines().find_map(|line| line.strip_prefix("SigBlk:")) else { continue };
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGCHLD, Signal::SIGALRM] {
            assert_ne!(mask & 1 << (signal as u64 - 1), 0, "{signal}");
        }
    }
}

#[test]
fn nobody_there_is_told_with_path_and_attempts() {
    let _watchdog = Watchdog::new("nobody_there_is_told_with_path_and_attempts");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nobody");
    for patience in [Duration::ZERO, Duration::from_millis(100)] {
        let options = ConnectOptions { patience: Some(patience), ..ConnectOptions::default() };
        let begin = Instant::now();
        let error = Client::connect(Some(&path), options).unwrap_err();
        assert!(begin.elapsed() >= patience);
        assert!(matches!(&error, Error::ConnectFailed { .. }) && error.to_string().contains("nobody"), "{error}");
    }
    let long = directory.path().join("x".repeat(120));
    let error = Client::connect(Some(&long), ConnectOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::InvalidArgument(text) if text.contains("107")), "{error}");
    // One that comes later is found.
    std::thread::scope(|scope| {
        let late = scope.spawn(|| connect(&path));
        std::thread::sleep(Duration::from_millis(100));
        let options = StoreOptions { socket: Some(path.clone()), capacity: 1000, ..StoreOptions::default() };
        let _store = Store::start(&options).unwrap();
        assert_eq!(late.join().unwrap().capacity(), 1000);
    });
}

#[test]
fn a_store_that_sleeps_does_not_hold_a_get_beyond_its_time_for_ever() {
    // Slow by nature: the client gives a silent store ten seconds of grace.
    let _watchdog =
        Watchdog::lasting("a_store_that_sleeps_does_not_hold_a_get_beyond_its_time_for_ever", Duration::from_secs(120));
    let daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    put(&client, id(1), b"x");
    daemon.freeze();
    std::thread::scope(|scope| {
        let silent = scope.spawn(|| Client::connect(Some(&daemon.socket()), ConnectOptions::default()));
        let interrupted = scope.spawn(|| client.get(&[id(2)], -1, GetOptions::default()));
        let begin = Instant::now();
        interrupt_until(&client, || interrupted.is_finished());
        let interrupted = interrupted.join().unwrap();
        assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
        let got = client.get(&[id(1), id(2)], 100, GetOptions::default()).unwrap();
        // What is in the index needs no store.
        let present: Vec<bool> = got.iter().map(Option::is_some).collect();
        assert!(present == [true, false] && begin.elapsed() >= Duration::from_millis(100));
        assert!(matches!(silent.join().unwrap(), Err(Error::UnsupportedPeer(_))));
    });
    daemon.signal(Signal::SIGCONT);
    assert!(client.contains(id(1)).unwrap());
    // The late answers held the object; nobody wanted them any more.
    eventually(|| client.list().unwrap()[0].ref_count == 0);
    assert!(client.delete(&[id(1)]).unwrap()[0].is_ok());
}

/// Puts a tensor whose bytes count up. Returns how often it was asked for them.
fn put_tensor(client: &Client, name: u64, elements: i64, options: TensorOptions<'_>) -> Result<usize> {
    let layout = Layout::row_major(DType::from_dlpack(1, 8, 1)?, vec![elements])?;
    let bytes = (0..elements).map(|at| at as u8).collect::<Vec<_>>();
    let mut asked = 0;
    client.tensor_put(id(name), &layout, options, |data| {
        asked += 1;
        // SAFETY: it was asked for just so many bytes.
        unsafe { data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    })?;
    Ok(asked)
}

#[test]
fn a_small_tensor_is_put_whole_and_reads_as_any_other() {
    let store = store(8 * MEBIBYTE);
    let client = connect(store.socket());
    let options = TensorOptions { metadata: b"mine", ..TensorOptions::default() };
    for (name, elements) in [0, 1, 1000, 60_000].into_iter().enumerate() {
        assert_eq!(put_tensor(&client, name as u64, elements, options).unwrap(), 1);
        let tensor = client.tensor_read(id(name as u64), 0, GetOptions::default()).unwrap();
        assert_eq!((tensor.layout.shape(), tensor.layout.nbytes()), (&[elements][..], elements as u64));
        // SAFETY: the tensor has so many bytes, and keeps them.
        let bytes = unsafe { std::slice::from_raw_parts(tensor.data(), elements as usize) };
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        let TensorMemory::Sealed(buffer) = &*tensor.memory else { panic!("it is sealed") };
        // SAFETY: the buffer has so many bytes of metadata, and keeps them.
        let metadata = unsafe { std::slice::from_raw_parts(buffer.metadata(), buffer.metadata_size() as usize) };
        assert_eq!(metadata, b"mine");
    }
    // They lie in the store's own segment; this client has none.
    assert_eq!(client.stats().unwrap().segments, 1);
    assert_eq!(client.stats().unwrap().creates, 4);
    for elements in [65_536, MEBIBYTE as i64] {
        put_tensor(&client, 100 + elements as u64, elements, options).unwrap();
    }
    assert_eq!(client.stats().unwrap().segments, 2, "a larger one is filled in place");
}

#[test]
fn a_small_tensor_that_cannot_be_put_is_refused_as_any_other() {
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put_tensor(&client, 1, 10, TensorOptions::default()).unwrap();
    let refusal = |name, elements, create| {
        put_tensor(&client, name, elements, TensorOptions { create, ..TensorOptions::default() }).unwrap_err()
    };
    assert!(matches!(refusal(1, 10, CreateOptions::default()), Error::ObjectExists(name) if name == id(1)));
    put(&client, id(2), &vec![0; (MEBIBYTE - 20_000) as usize]);
    let no_evict = CreateOptions { no_evict: true, ..CreateOptions::default() };
    match refusal(3, 30_000, no_evict) {
        Error::StoreFull(text) => assert!(text.contains("30"), "{text}"),
        other => panic!("{other}"),
    }
    assert!(!client.contains(id(3)).unwrap());
}
