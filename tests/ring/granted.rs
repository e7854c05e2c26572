//! Puts into room that the store granted before.

use std::thread;

use nix::sys::signal::Signal;
use plasma_store::client::Client;
use plasma_store::error::Error;

use crate::support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, id, store, times};
use crate::{GET, MEBIBYTE, PUT, bytes_of, check_client, expect, pattern};

const KIBIBYTE: u64 = 1 << 10;

/// Has the client be granted room for an object of this size: it uses the same memory again and again.
fn warm(client: &Client, size: u64) {
    let bytes = pattern(0, size);
    for _ in 0..3 {
        client.put(id(900), &bytes, b"m", PUT).unwrap();
        assert!(client.delete(&[id(900)]).unwrap()[0].is_ok());
    }
}

/// While the store is stopped nothing is answered.
#[test]
fn objects_are_put_while_the_store_does_nothing() {
    let _watchdog = Watchdog::new("objects_are_put_while_the_store_does_nothing");
    let daemon = Daemon::start(64 * MEBIBYTE);
    let (client, other) = (connect(&daemon.socket()), connect(&daemon.socket()));
    for size in [65 * KIBIBYTE, 300 * KIBIBYTE, 2 * MEBIBYTE] {
        warm(&client, size);
        let bytes = pattern(size, size);
        // A stream of them goes on from grant to grant, without a flush between; where others were there is room for the next.
        for n in 2..5 {
            client.put_async(id(n), &bytes, b"m", PUT).unwrap();
            expect(&other, id(n), &bytes);
            assert!(other.delete(&[id(n)]).unwrap()[0].is_ok());
        }
        // An object is seen before its outcome; what is answered after that is not.
        client.put(id(5), b"", b"", PUT).unwrap();
        daemon.freeze();
        let put = client.put_async(id(1), &bytes, b"m", PUT);
        daemon.signal(Signal::SIGCONT);
        put.unwrap();
        assert!(client.flush().unwrap().is_empty());
        expect(&other, id(1), &bytes);
        assert!(client.delete(&[1, 5].map(id)).unwrap().iter().all(Result::is_ok));
    }
}

/// Threads of some clients put, get and delete objects of all sizes in a store that is too small for all, while an old client takes room
/// as well.
#[test]
fn what_is_put_is_what_is_got_while_memory_is_short() {
    let _watchdog = Watchdog::new("what_is_put_is_what_is_got_while_memory_is_short");
    let store = store(24 * MEBIBYTE);
    let socket = store.socket();
    thread::scope(|scope| {
        for producer in 0..3_u64 {
            scope.spawn(move || {
                let (client, reader) = (connect(socket), connect(socket));
                thread::scope(|scope| {
                    for lane in 2 * producer..2 * producer + 2 {
                        let (client, reader) = (&client, &reader);
                        scope.spawn(move || churn(client, reader, lane));
                    }
                });
            });
        }
        scope.spawn(move || {
            let mut old = RawPeer::old(socket);
            let mut random = Random(77);
            for n in 0..times(60, 2000) {
                if old.create(id(70_000 + n), random.below(3 * MEBIBYTE) as i64).is_ok() {
                    old.seal(id(70_000 + n)).unwrap();
                    old.release(id(70_000 + n));
                }
            }
        });
    });
    check_client(&connect(socket), 90_000);
}

fn churn(client: &Client, reader: &Client, lane: u64) {
    let mut random = Random(lane);
    for n in 0..times(150, 20_000) {
        let size = match random.below(3) {
            0 => random.below(4 * MEBIBYTE),
            _ => 64 * KIBIBYTE + random.below(256 * KIBIBYTE),
        };
        let (name, bytes) = (id(10_000 * lane + n), pattern(n, size));
        let put = match random.below(2) {
            0 => client.put(name, &bytes, b"m", PUT),
            _ => client.put_async(name, &bytes, b"m", PUT).and_then(|()| {
                client.flush().map(|failed| drop(failed.into_iter().inspect(|(_, error)| check_full(error))))
            }),
        };
        put.unwrap_or_else(|error| check_full(&error));
        // It may be evicted by now; if not it is whole.
        if let Some(buffer) = reader.get_one(name, 0, GET).unwrap() {
            assert!(bytes_of(&buffer) == bytes, "{name} has other bytes");
        }
        if random.below(4) > 0 {
            let _ = client.delete(&[name]).unwrap();
        }
    }
}

/// The only reason why something cannot be put here.
fn check_full(error: &Error) {
    assert!(matches!(error, Error::StoreFull(_)), "{error}");
}

#[test]
fn what_is_refused_is_told_with_the_figures_and_the_room_is_there_again() {
    let _watchdog = Watchdog::new("what_is_refused_is_told_with_the_figures_and_the_room_is_there_again");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let (client, other) = (connect(&daemon.socket()), connect(&daemon.socket()));
    warm(&client, MEBIBYTE);
    let bytes = pattern(3, MEBIBYTE);
    client.put(id(1), &bytes, b"", PUT).unwrap();
    assert!(matches!(client.put(id(1), &bytes, b"", PUT), Err(Error::ObjectExists(name)) if name == id(1)));
    // What nobody has sealed yet is not seen before the record is there.
    let unsealed = other.create(id(2), 10, b"", PUT).unwrap();
    assert!(matches!(client.put(id(2), &bytes, b"", PUT), Err(Error::ObjectExists(name)) if name == id(2)));
    client.put_async(id(2), &bytes, b"", PUT).unwrap();
    assert!(matches!(client.flush().unwrap()[..], [(name, Error::ObjectExists(_))] if name == id(2)));
    // Held objects take all the rest.
    let rest = other.create(id(3), 15 * MEBIBYTE - 10, b"", PUT).unwrap();
    let held = client.get_one(id(1), 0, GET).unwrap().unwrap();
    let Err(Error::StoreFull(text)) = client.put(id(4), &bytes, b"", PUT) else { panic!("it is full") };
    assert!(text.contains(&format!("an object of {MEBIBYTE} bytes does not fit")), "{text}");
    client.put_async(id(4), &bytes, b"", PUT).unwrap();
    assert!(
        matches!(client.flush().unwrap()[..], [(name, Error::StoreFull(_) | Error::ObjectNotFound(_))] if name == id(4))
    );
    drop((rest, unsealed));
    other.abort(id(3)).unwrap();
    client.put(id(4), &bytes, b"", PUT).unwrap();
    expect(&other, id(4), &bytes);
    expect(&other, id(1), &bytes);
    drop(held);
}

#[test]
fn room_that_was_ahead_is_no_ones_loss() {
    let _watchdog = Watchdog::new("room_that_was_ahead_is_no_ones_loss");
    let daemon = Daemon::start(32 * MEBIBYTE);
    let clients: Vec<_> = (0..6).map(|_| connect(&daemon.socket())).collect();
    for round in 0..3 {
        clients.iter().for_each(|client| warm(client, MEBIBYTE));
        let last = connect(&daemon.socket());
        last.put(id(round), &pattern(round, 32 * MEBIBYTE - 100), b"", PUT).unwrap();
        last.delete(&[id(round)]).unwrap()[0].as_ref().unwrap();
    }
    drop(clients);
    let last = connect(&daemon.socket());
    eventually(|| last.stats().unwrap().clients == 1);
    assert_eq!(last.stats().unwrap().used_bytes, 0);
}
