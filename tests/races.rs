//! A store and several clients in one process, with threads that share clients, all at once: create, seal, get, release,
//! delete, evict, subscribe. It is the game that ThreadSanitizer watches (docs/testing.md), and is played without it too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use plasma_store::client::{Buffer, Client, PutItem};
use plasma_store::error::Error;
use plasma_store::object::ObjectId;
use support::{Random, Watchdog, connect, eventually, id, store, times};

const CAPACITY: u64 = 1 << 20;
/// Objects that come and go, of some bytes each: together more than the capacity.
const IDS: u64 = 60;
const MOST_BYTES: u64 = 60_000;
const CLIENTS: usize = 3;
const THREADS_EACH: u64 = 2;
/// Buffers that a thread holds at once.
const HELD: usize = 4;

/// The byte that fills an object whenever it is there.
fn byte_of(n: u64) -> u8 {
    n as u8 ^ 0x5a
}

fn check(n: u64, buffer: &Buffer) {
    let mut bytes = vec![0; buffer.size() as usize];
    buffer.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == byte_of(n)), "object {n} has other bytes");
}

/// Makes an object, or part of one, unless it is there or there is no room.
fn make(client: &Client, random: &mut Random, n: u64) {
    let buffer = match client.create(id(n), 1 + random.below(MOST_BYTES), b"some", Default::default()) {
        Ok(buffer) => buffer,
        Err(Error::ObjectExists(_) | Error::StoreFull(_)) => return,
        Err(error) => panic!("{error}"),
    };
    buffer.write(0, &vec![byte_of(n); buffer.size() as usize]).unwrap();
    match random.below(8) {
        0 => {
            drop(buffer);
            gone_is_fine(client.abort(id(n)));
        }
        _ => gone_is_fine(client.seal(id(n))),
    }
}

/// Another thread of this client may have been first.
fn gone_is_fine(outcome: Result<(), Error>) {
    match outcome {
        Ok(()) | Err(Error::ObjectNotFound(_) | Error::ObjectAlreadySealed(_) | Error::Busy(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What one thread does for as long as it takes, with a client that others use as well. Returns how many objects it got.
fn play(client: &Client, mut random: Random, turns: u64) -> u64 {
    let mut held: [Option<(u64, Buffer)>; HELD] = Default::default();
    let mut got = 0;
    for _ in 0..turns {
        let n = random.below(IDS);
        match random.below(12) {
            0..4 => make(client, &mut random, n),
            4..9 => {
                let found = client.get(&[id(n)], random.below(2) as i64, Default::default()).unwrap().remove(0);
                found.iter().for_each(|buffer| check(n, buffer));
                got += u64::from(found.is_some());
                held[random.below(HELD as u64) as usize] = found.map(|buffer| (n, buffer));
            }
            9 => drop(client.delete(&[id(n)]).unwrap()),
            10 => drop(client.evict(random.below(CAPACITY / 4)).unwrap()),
            _ => drop((client.contains(id(n)).unwrap(), client.stats().unwrap())),
        }
        held.iter().flatten().for_each(|(n, buffer)| check(*n, buffer));
    }
    got
}

/// Objects of a batch, that one thread puts and all others get and delete like any other.
fn put_batches(client: &Client, mut random: Random, turns: u64) {
    for _ in 0..turns / 4 {
        let names: [(ObjectId, Vec<u8>); 2] = [(); 2].map(|()| {
            let n = random.below(IDS);
            (id(n), vec![byte_of(n); 100])
        });
        let items =
            names.iter().map(|(id, data)| PutItem { id: *id, data, metadata: b"", name: None }).collect::<Vec<_>>();
        match client.put_batch(&items, Default::default()) {
            Ok(()) | Err(Error::ObjectExists(_) | Error::StoreFull(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn threads_of_a_store_and_its_clients_do_not_race() {
    let _watchdog = Watchdog::new("threads_of_a_store_and_its_clients_do_not_race");
    let store = store(CAPACITY);
    let clients: Vec<Client> = (0..CLIENTS).map(|_| connect(store.socket())).collect();
    let (got, turns) = (AtomicU64::new(0), times(400, 4_000));
    let events = clients[0].subscribe(Default::default()).unwrap();
    std::thread::scope(|scope| {
        for (n, client) in (0..).zip(&clients) {
            for thread in 0..THREADS_EACH {
                let (seed, got) = (Random(n << 8 | thread), &got);
                scope.spawn(move || got.fetch_add(play(client, seed, turns), Ordering::Relaxed));
            }
            scope.spawn(move || put_batches(client, Random(n << 16), turns));
        }
        scope.spawn(|| while events.next(500).is_ok() {});
    });
    assert!(got.into_inner() > turns / 10, "next to nothing was got");
    drop(events);
    let client = connect(store.socket());
    drop(clients);
    eventually(|| {
        client.evict(u64::MAX).unwrap();
        client.stats().unwrap().used_bytes == 0
    });
    drop(client);
    store.stop().unwrap();
}
