//! One client with many threads, and a ring that is full: nothing is lost, and everything is in its order.

use std::sync::atomic::{AtomicU64, Ordering};

use plasma_store::client::Client;
use plasma_store::error::Error;
use plasma_store::shm::ring::{MOST_STAGED, SLOTS};

use crate::support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, id, store, times};
use crate::{GET, MEBIBYTE, PUT, bytes_of, check_client, expect, pattern};

/// Does one thing with an object of its own thread's. Returns whether it is there then.
fn step(client: &Client, random: &mut Random, name: u64, is_there: bool) -> bool {
    let id = id(name);
    let bytes = pattern(name, name % 3000);
    if is_there {
        return match random.below(3) {
            0 => {
                expect(client, id, &bytes);
                true
            }
            1 => !client.delete(&[id]).unwrap().into_iter().all(|outcome| outcome.is_ok()),
            _ => client.delete(&[id, id]).unwrap()[0].is_err(),
        };
    }
    match random.below(5) {
        0 => client.put(id, &bytes, b"m", PUT).unwrap(),
        1 => client.put_async(id, &bytes, b"m", PUT).unwrap(),
        2 => {
            assert!(client.get_one(id, random.below(3) as i64, GET).unwrap().is_none());
            return false;
        }
        kind => {
            let buffer = client.create(id, bytes.len() as u64, b"m", PUT).unwrap();
            buffer.write(0, &bytes).unwrap();
            if random.below(2) == 0 {
                drop(buffer);
                if random.below(4) == 0 {
                    client.abort(id).unwrap();
                    return false;
                }
            }
            if kind == 3 { client.seal(id).unwrap() } else { client.seal_async(id).unwrap() }
        }
    }
    true
}

#[test]
fn many_threads_of_a_client_submit_at_once_and_find_what_they_put() {
    let _watchdog = Watchdog::new("many_threads_of_a_client_submit_at_once_and_find_what_they_put");
    let store = store(64 * MEBIBYTE);
    let client = connect(store.socket());
    let client = &client;
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            scope.spawn(move || {
                let (mut random, mut there) = (Random(thread), [false; 30]);
                for _ in 0..times(1500, 100_000) {
                    let n = random.below(30);
                    there[n as usize] = step(client, &mut random, 1000 * thread + n, there[n as usize]);
                    if random.below(50) == 0 {
                        assert_eq!(client.flush().unwrap().len(), 0);
                    }
                }
                for n in (0..30).filter(|n| there[*n as usize]) {
                    expect(client, id(1000 * thread + n), &pattern(1000 * thread + n, (1000 * thread + n) % 3000));
                }
            });
        }
    });
    assert!(client.flush().unwrap().is_empty());
    let mut old = RawPeer::old(store.socket());
    eventually(|| old.figure("pinned bytes") == 0);
    old.check_nothing_is_held();
}

/// Each thread puts, in any way, and waits for what its neighbour puts in the same round.
#[test]
fn threads_of_a_client_wait_for_each_other() {
    const THREADS: u64 = 8;
    let _watchdog = Watchdog::new("threads_of_a_client_wait_for_each_other");
    let store = store(64 * MEBIBYTE);
    let clients = [connect(store.socket()), connect(store.socket())];
    let clients = &clients;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let (client, mut random) = (&clients[(thread % 3 / 2) as usize], Random(thread));
                for round in 0..times(200, 20_000) {
                    let name = |thread: u64| round * THREADS + thread % THREADS;
                    if random.below(3) == 0 {
                        std::thread::yield_now();
                    }
                    // It may look for the object, or give it up, before it makes it.
                    while !step(client, &mut random, name(thread), false) {}
                    let theirs = name(thread + 1);
                    expect(client, id(theirs), &pattern(theirs, theirs % 3000));
                    // Nobody is as far behind as that, since each waits for the next.
                    if let Some(old) = round.checked_sub(2 * THREADS) {
                        client.delete(&[id(old * THREADS + thread)]).unwrap();
                    }
                }
            });
        }
    });
    assert!(clients.iter().all(|client| client.flush().unwrap().is_empty()));
}

/// While the store is stopped, so that nothing is taken.
#[test]
fn a_full_ring_waits_and_loses_nothing() {
    let _watchdog = Watchdog::new("a_full_ring_waits_and_loses_nothing");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let client = connect(&daemon.socket());
    check_client(&client, 10_000);
    // Staged objects lie in one piece, so that there may be room for one less.
    for (size, least, room) in [(20, SLOTS as u64, SLOTS as u64), (MOST_STAGED, 3, 4)] {
        let (client, submitted, count) = (&client, AtomicU64::new(0), 3 * room / 2 + 1);
        let submitted = &submitted;
        daemon.freeze();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..count {
                    client.put_async(id(size + n), &pattern(n, size), b"", PUT).unwrap();
                    submitted.fetch_add(1, Ordering::SeqCst);
                }
            });
            eventually(|| submitted.load(Ordering::SeqCst) >= least);
            // More comes, and must wait.
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(submitted.load(Ordering::SeqCst) <= room);
            daemon.signal(nix::sys::signal::Signal::SIGCONT);
        });
        assert!(client.flush().unwrap().is_empty());
        (0..count).for_each(|n| expect(client, id(size + n), &pattern(n, size)));
    }
}

#[test]
fn objects_of_all_small_sizes_go_round_the_staging() {
    let _watchdog = Watchdog::new("objects_of_all_small_sizes_go_round_the_staging");
    let store = store(64 * MEBIBYTE);
    let client = connect(store.socket());
    let mut random = Random(3);
    let sizes: Vec<u64> = (0..400)
        .map(|n| match n % 4 {
            0 => random.below(MOST_STAGED + 1),
            1 => random.below(200),
            2 => MOST_STAGED - random.below(70),
            _ => [0, 1, 63, 64, 65, MOST_STAGED][random.below(6) as usize],
        })
        .collect();
    for (n, size) in (0..).zip(&sizes) {
        client.put_async(id(n), &pattern(n, *size), b"", PUT).unwrap();
    }
    assert!(client.flush().unwrap().is_empty());
    for (n, size) in (0..).zip(&sizes) {
        expect(&client, id(n), &pattern(n, *size));
    }
    // Data and metadata together are what counts; beyond that an object is created.
    for (n, data) in (1000..).zip([MOST_STAGED - 5, MOST_STAGED - 4, MOST_STAGED + 1]) {
        client.put_async(id(n), &pattern(n, data), b"12345", PUT).unwrap();
    }
    assert!(client.flush().unwrap().is_empty());
    for (n, data) in (1000..).zip([MOST_STAGED - 5, MOST_STAGED - 4, MOST_STAGED + 1]) {
        expect(&client, id(n), &pattern(n, data));
        let got = client.get_one(id(n), 0, GET).unwrap().unwrap();
        assert_eq!(got.metadata_size(), 5);
    }
}

#[test]
fn what_comes_after_a_put_without_waiting_sees_it() {
    let _watchdog = Watchdog::new("what_comes_after_a_put_without_waiting_sees_it");
    let store = store(16 * MEBIBYTE);
    let client = connect(store.socket());
    for round in 0..50 {
        let name = |n| id(100 * round + n);
        let put_async = |n| client.put_async(name(n), &pattern(n, 100), b"", PUT).unwrap();
        put_async(0);
        assert!(matches!(client.put(name(0), b"", b"", PUT), Err(Error::ObjectExists(_))));
        put_async(1);
        assert!(matches!(client.create(name(1), 200_000, b"", PUT), Err(Error::ObjectExists(_))));
        put_async(2);
        assert!(client.delete(&[name(2)]).unwrap()[0].is_ok());
        (3..5).for_each(put_async);
        assert!(client.delete(&[name(3), name(4)]).unwrap().into_iter().all(|outcome| outcome.is_ok()));
        put_async(5);
        assert!(client.list().unwrap().iter().any(|info| info.id == name(5)));
        put_async(6);
        expect(&client, name(6), &pattern(6, 100));
        (7..9).for_each(put_async);
        let got = client.get(&[name(8), name(7)], -1, GET).unwrap();
        let got: Vec<_> = got.iter().map(|buffer| bytes_of(buffer.as_ref().unwrap())).collect();
        assert!(got == [pattern(8, 100), pattern(7, 100)]);
        let batch = [plasma_store::client::PutItem { id: name(9), data: b"", metadata: b"", name: None }];
        put_async(9);
        assert!(matches!(client.put_batch(&batch, PUT), Err(Error::ObjectExists(_))));
    }
    assert!(client.flush().unwrap().is_empty());
}

#[test]
fn what_could_not_be_put_is_told_once_by_the_next_flush() {
    let _watchdog = Watchdog::new("what_could_not_be_put_is_told_once_by_the_next_flush");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    client.put(id(1), b"there", b"", PUT).unwrap();
    let no_evict = plasma_store::client::CreateOptions { no_evict: true, ..PUT };
    // More than there are places, so that most are looked through by those that come after them.
    for n in 0..1500 {
        client.put_async(id(1 + n % 3), b"again", b"", PUT).unwrap();
    }
    (100..120).for_each(|n| client.put_async(id(n), &pattern(n, MOST_STAGED), b"", no_evict).unwrap());
    let failed = client.flush().unwrap();
    let exist = failed.iter().filter(|(_, why)| matches!(why, Error::ObjectExists(_))).count();
    let full = failed.iter().filter(|(_, why)| matches!(why, Error::StoreFull(_))).count();
    assert_eq!((exist, failed.len()), (1498, exist + full));
    assert!((4..20).contains(&full), "{full}");
    assert!(client.flush().unwrap().is_empty(), "it was told before");
    expect(&client, id(1), b"there");
}

/// Its last answers nobody has read, and it says nothing when it goes.
#[test]
fn what_was_put_before_a_client_went_is_there() {
    let _watchdog = Watchdog::new("what_was_put_before_a_client_went_is_there");
    let store = store(16 * MEBIBYTE);
    let witness = connect(store.socket());
    for round in 0..50 {
        let client = connect(store.socket());
        (0..20).for_each(|n| client.put_async(id(100 * round + n), b"put", b"", PUT).unwrap());
        drop(client);
        (0..20).for_each(|n| expect(&witness, id(100 * round + n), b"put"));
    }
}
