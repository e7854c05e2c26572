//! Waiting for one object: by a bell where that does, else by the socket, and nobody can tell which.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use plasma_store::client::{Client, ConnectOptions};
use plasma_store::error::{Error, Result};
use plasma_store::object::ObjectId;
use plasma_store::shm::ring::BELLS;
use plasma_store::store::external::{Contents, ExternalStore};
use plasma_store::store::{Store, StoreOptions};

use crate::support::{Signalled, Watchdog, catch_signals, connect, eventually, id, store};
use crate::{GET, MEBIBYTE, PUT, bytes_of, check_client, expect, pattern};

/// How many gets wait in the store.
fn waiting(client: &Client) -> u64 {
    client.stats().unwrap().waiting_gets
}

#[test]
fn a_wait_by_a_bell_ends_with_the_object_or_its_time() {
    let _watchdog = Watchdog::new("a_wait_by_a_bell_ends_with_the_object_or_its_time");
    let store = store(MEBIBYTE);
    let (reader, maker) = (connect(store.socket()), connect(store.socket()));
    for timeout_ms in [1, 20, 150] {
        let begin = Instant::now();
        assert!(reader.get_one(id(1), timeout_ms, GET).unwrap().is_none());
        assert!(begin.elapsed() >= Duration::from_millis(timeout_ms as u64));
    }
    eventually(|| waiting(&maker) == 0);
    for n in 10..40 {
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| bytes_of(&reader.get_one(id(n), -1, GET).unwrap().unwrap()));
            if n % 2 == 0 {
                eventually(|| waiting(&maker) == 1);
            }
            maker.put(id(n), &pattern(n, 1000), b"", PUT).unwrap();
            assert!(waits.join().unwrap() == pattern(n, 1000));
        });
        eventually(|| waiting(&maker) == 0);
    }
}

#[test]
fn interrupts_and_signals_end_waits_by_a_bell() {
    let _watchdog = Watchdog::new("interrupts_and_signals_end_waits_by_a_bell");
    catch_signals();
    let store = store(MEBIBYTE);
    let options = ConnectOptions { return_on_signal: true, ..ConnectOptions::default() };
    let (client, other) = (Client::connect(Some(store.socket()), options).unwrap(), connect(store.socket()));
    for round in 0..20 {
        let (one, client) = (&Signalled::default(), &client);
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || {
                one.enter();
                client.get_one(id(1), if round % 2 == 0 { -1 } else { 1_000_000 }, GET)
            });
            eventually(|| waiting(&other) == 1);
            if round % 4 < 2 {
                client.interrupt();
            } else {
                // One that comes before it sleeps is no reason to end.
                while !waits.is_finished() {
                    one.signal();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            assert!(matches!(waits.join().unwrap(), Err(Error::Interrupted)));
        });
        eventually(|| waiting(&other) == 0);
    }
    check_client(&client, 100);
    let deaf = connect(store.socket());
    let (one, deaf) = (&Signalled::default(), &deaf);
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || {
            one.enter();
            deaf.get_one(id(2), -1, GET).unwrap().is_some()
        });
        eventually(|| waiting(&other) == 1);
        (0..20).for_each(|_| one.signal());
        other.put(id(2), b"x", b"", PUT).unwrap();
        assert!(waits.join().unwrap());
    });
}

#[test]
fn more_threads_wait_than_there_are_bells() {
    let _watchdog = Watchdog::new("more_threads_wait_than_there_are_bells");
    let store = store(MEBIBYTE);
    let (reader, maker) = (connect(store.socket()), connect(store.socket()));
    let (reader, threads) = (&reader, BELLS as u64 + 12);
    std::thread::scope(|scope| {
        let waits: Vec<_> =
            (0..threads).map(|n| scope.spawn(move || expect(reader, id(n / 2), &pattern(n / 2, 500)))).collect();
        eventually(|| waiting(&maker) == threads);
        (0..threads).step_by(2).for_each(|n| maker.put_async(id(n / 2), &pattern(n / 2, 500), b"", PUT).unwrap());
        waits.into_iter().for_each(|thread| thread.join().unwrap());
    });
    eventually(|| waiting(&maker) == 0);
    check_client(reader, 1000);
}

/// Whoever waits when an object is sealed gets it, however soon it is deleted.
#[test]
fn an_object_that_is_deleted_right_after_its_seal_is_got_by_those_who_waited() {
    let _watchdog = Watchdog::new("an_object_that_is_deleted_right_after_its_seal_is_got_by_those_who_waited");
    let store = store(MEBIBYTE);
    let (reader, maker) = (connect(store.socket()), connect(store.socket()));
    let reader = &reader;
    for n in 0..100 {
        std::thread::scope(|scope| {
            let waits = [(); 2].map(|()| scope.spawn(move || expect(reader, id(n), &pattern(n, 200))));
            eventually(|| waiting(&maker) == 2);
            maker.put_async(id(n), &pattern(n, 200), b"", PUT).unwrap();
            // Gone at once, or with its last reader.
            drop(maker.delete(&[id(n)]).unwrap());
            waits.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
    eventually(|| waiting(&maker) == 0 && maker.list().unwrap().is_empty());
}

#[test]
fn objects_that_the_index_has_no_room_for_end_waits() {
    let _watchdog = Watchdog::new("objects_that_the_index_has_no_room_for_end_waits");
    let options = StoreOptions { capacity: MEBIBYTE, indexed_objects: Some(3), ..StoreOptions::default() };
    let store = Store::start(&options).unwrap();
    let (reader, maker) = (connect(store.socket()), connect(store.socket()));
    (100..103).for_each(|n| maker.put(id(n), b"fills the index", b"", PUT).unwrap());
    let reader = &reader;
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..8).map(|n| scope.spawn(move || expect(reader, id(n), &pattern(n, 300)))).collect();
        eventually(|| waiting(&maker) == 8);
        (0..8).for_each(|n| maker.put(id(n), &pattern(n, 300), b"", PUT).unwrap());
        waits.into_iter().for_each(|thread| thread.join().unwrap());
    });
    (0..8).for_each(|n| expect(reader, id(n), &pattern(n, 300)));
    assert!(reader.get_one(id(50), 20, GET).unwrap().is_none());
    check_client(reader, 1000);
}

#[test]
fn what_an_external_store_has_comes_back_to_those_who_wait() {
    let _watchdog = Watchdog::new("what_an_external_store_has_comes_back_to_those_who_wait");
    let external_store = Some("hashtable://ring".into());
    let options = StoreOptions { capacity: MEBIBYTE, external_store, ..StoreOptions::default() };
    let store = Store::start(&options).unwrap();
    let (reader, maker) = (connect(store.socket()), connect(store.socket()));
    // Four times what the memory can hold.
    (0..80).for_each(|n| maker.put_async(id(n), &pattern(n, 50_000), b"", PUT).unwrap());
    let failed = maker.flush().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    for n in (0..80).rev() {
        expect(&reader, id(n), &pattern(n, 50_000));
    }
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| expect(&reader, id(200), b"late"));
        eventually(|| waiting(&maker) == 1);
        maker.put(id(200), b"late", b"", PUT).unwrap();
        waits.join().unwrap();
    });
    check_client(&reader, 1000);
}

/// An external store that takes nothing as long as it is shut.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn set(&self, is_shut: bool) {
        *self.0.0.lock().unwrap() = is_shut;
        self.0.1.notify_all();
    }
}

impl ExternalStore for Gate {
    fn put(&mut self, _: ObjectId, _: &Contents<'_>) -> Result<()> {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |is_shut| *is_shut).unwrap());
        Ok(())
    }

    fn get(&mut self, id: ObjectId, _: &Contents<'_>) -> Result<()> {
        Err(Error::ObjectNotFound(id))
    }

    fn delete(&mut self, _: ObjectId) -> Result<()> {
        Ok(())
    }
}

/// While room for the first of them is being made, what comes behind it waits.
#[test]
fn a_put_that_waits_for_an_external_store_keeps_its_place() {
    let _watchdog = Watchdog::new("a_put_that_waits_for_an_external_store_keeps_its_place");
    let gate = Gate::default();
    let options = StoreOptions { capacity: MEBIBYTE, ..StoreOptions::default() };
    let store = Store::start_before(&options, Some(Box::new(gate.clone()))).unwrap();
    let (client, witness) = (connect(store.socket()), connect(store.socket()));
    for round in 0..5 {
        let name = |n: u64| id(1000 * round + n);
        (0..17).for_each(|n| client.put(name(n), &pattern(n, 60_000), b"", PUT).unwrap());
        gate.set(true);
        client.put_async(name(50), &pattern(50, 60_000), b"", PUT).unwrap();
        client.put_async(name(51), b"behind it", b"", PUT).unwrap();
        std::thread::scope(|scope| {
            let deletes = scope.spawn(|| client.delete(&[name(50)]).unwrap().remove(0));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!witness.contains(name(51)).unwrap(), "it has overtaken the one before it");
            gate.set(false);
            assert!(deletes.join().unwrap().is_ok(), "it has overtaken the put");
        });
        assert!(client.flush().unwrap().is_empty());
        assert!(!witness.contains(name(50)).unwrap());
        expect(&witness, name(51), b"behind it");
    }
}
