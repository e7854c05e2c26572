//! External stores behind a real store, with real clients: objects that were evicted come back whole; and an external store that
//! fails, is slow, panics or never ends a call harms nobody but those who need it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests panic")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use plasma_store::client::{Client, CreateOptions};
use plasma_store::error::{Error, Result};
use plasma_store::object::ObjectId;
use plasma_store::protocol::Request;
use plasma_store::store::external::{Contents, ExternalStore};
use plasma_store::store::{Store, StoreOptions};
use support::{Daemon, RawPeer, Watchdog, connect, eventually, id, put};

const CAPACITY: u64 = 1 << 20;
/// Two of these do not fit beside each other.
const LARGE: usize = 600 << 10;

/// An external store that does what the test says.
#[derive(Clone, Default)]
struct Scripted(Arc<(Mutex<Script>, Condvar)>);

#[derive(Default)]
struct Script {
    objects: HashMap<ObjectId, Vec<u8>>,
    /// Calls stay in here until this is false.
    is_closed: bool,
    fails: bool,
    panics: bool,
    /// Calls that were begun.
    begun: Vec<(&'static str, ObjectId)>,
}

impl Scripted {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn close(&self) {
        self.script().is_closed = true;
    }

    fn open(&self) {
        self.script().is_closed = false;
        self.0.1.notify_all();
    }

    fn call(&self, name: &'static str, id: ObjectId) -> Result<MutexGuard<'_, Script>> {
        let mut script = self.script();
        script.begun.push((name, id));
        while script.is_closed {
            script = self.0.1.wait(script).unwrap();
        }
        assert!(!script.panics, "as it was told to");
        match script.fails {
            true => Err(Error::Unsupported("the disk is full".into())),
            false => Ok(script),
        }
    }

    /// Waits until a call was begun.
    fn wait_for(&self, call: (&'static str, ObjectId)) {
        eventually(|| self.script().begun.contains(&call));
    }

    fn has(&self, id: ObjectId) -> bool {
        self.script().objects.contains_key(&id)
    }
}

impl ExternalStore for Scripted {
    fn put(&mut self, id: ObjectId, object: &Contents<'_>) -> Result<()> {
        let mut script = self.call("put", id)?;
        let mut bytes = vec![0; object.size() as usize];
        object.read(0, &mut bytes)?;
        script.objects.insert(id, bytes);
        Ok(())
    }

    fn get(&mut self, id: ObjectId, object: &Contents<'_>) -> Result<()> {
        let script = self.call("get", id)?;
        object.write(0, &script.objects[&id])
    }

    fn delete(&mut self, id: ObjectId) -> Result<()> {
        self.call("delete", id)?.objects.remove(&id);
        Ok(())
    }
}

fn start() -> (Store, Scripted) {
    let external = Scripted::default();
    let options = StoreOptions { capacity: CAPACITY, ..StoreOptions::default() };
    let store = Store::start_before(&options, Some(Box::new(external.clone()))).unwrap();
    (store, external)
}

/// Bytes by which an object is known again.
fn pattern(n: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u64).wrapping_mul(n + 1).to_le_bytes()[1]).collect()
}

fn read(client: &Client, name: ObjectId, timeout_ms: i64) -> Option<(Vec<u8>, Vec<u8>)> {
    let found = client.get(&[name], timeout_ms, Default::default()).unwrap().remove(0)?;
    let mut data = vec![0; found.size() as usize];
    found.read(0, &mut data).unwrap();
    // SAFETY: so many bytes lie there while `found` lives, and nobody writes them.
    let metadata = unsafe { std::slice::from_raw_parts(found.metadata(), found.metadata_size() as usize) };
    Some((data, metadata.to_vec()))
}

#[test]
fn more_than_the_memory_can_be_stored_and_comes_back_with_its_metadata() {
    let _watchdog = Watchdog::new("more_than_the_memory_can_be_stored_and_comes_back_with_its_metadata");
    let url = Some("hashtable://test".into());
    let options = StoreOptions { capacity: CAPACITY, external_store: url, ..StoreOptions::default() };
    let store = Store::start(&options).unwrap();
    let client = connect(store.socket());
    for n in 0..40 {
        let metadata = format!("metadata of {n}");
        let data = pattern(n, 100_000);
        client.create(id(n), 100_000, metadata.as_bytes(), Default::default()).unwrap().write(0, &data).unwrap();
        client.seal(id(n)).unwrap();
    }
    for round in 0..2 {
        for n in 0..40 {
            let (data, metadata) = read(&client, id(n), if round == 0 { 0 } else { -1 }).unwrap();
            assert!(data == pattern(n, 100_000), "object {n} in round {round}");
            assert_eq!(metadata, format!("metadata of {n}").into_bytes());
        }
    }
    assert_eq!(client.list().unwrap().len(), 40);
    for n in 0..40 {
        client.delete(&[id(n)]).unwrap().remove(0).unwrap();
        assert!(read(&client, id(n), 0).is_none());
    }
}

#[test]
fn an_old_client_finds_what_was_evicted() {
    let _watchdog = Watchdog::new("an_old_client_finds_what_was_evicted");
    let daemon = Daemon::start_with(CAPACITY, |command| _ = command.args(["-e", "hashtable://test"]));
    let mut old = RawPeer::old(&daemon.socket());
    for n in 0..20 {
        let (data, metadata) = (pattern(n, 200_000), b"meta".to_vec());
        let request = Request::CreateAndSeal { id: id(n), evict_if_full: true, data, metadata, digest: [7; 8] };
        assert!(matches!(old.ask(&request), plasma_store::protocol::Reply::CreateAndSeal { outcome: Ok(()) }));
    }
    let client = connect(&daemon.socket());
    for n in 0..20 {
        assert!(old.contains(id(n)));
        assert_eq!(old.get(&[id(n)]), [true], "also without patience");
        old.release(id(n));
        assert!(read(&client, id(n), -1).unwrap().0 == pattern(n, 200_000), "object {n}");
    }
    assert!(client.list().unwrap().iter().all(|info| info.digest == [7; 8]), "digests are kept");
}

#[test]
fn a_write_that_fails_keeps_the_object_and_refuses_the_create() {
    let _watchdog = Watchdog::new("a_write_that_fails_keeps_the_object_and_refuses_the_create");
    for panics in [false, true] {
        let (store, external) = start();
        let client = connect(store.socket());
        put(&client, id(1), &pattern(1, LARGE));
        external.script().fails = !panics;
        external.script().panics = panics;
        let error = client.create(id(2), LARGE as u64, b"", Default::default()).unwrap_err().to_string();
        assert!(error.contains(if panics { "panicked" } else { "the disk is full" }), "{error}");
        assert!(read(&client, id(1), 0).unwrap().0 == pattern(1, LARGE));
        external.script().fails = false;
        external.script().panics = false;
        put(&client, id(2), &pattern(2, LARGE));
        assert!(external.has(id(1)));
    }
}

#[test]
fn a_read_that_fails_is_an_absent_object_and_may_succeed_later() {
    let _watchdog = Watchdog::new("a_read_that_fails_is_an_absent_object_and_may_succeed_later");
    let (store, external) = start();
    let client = connect(store.socket());
    put(&client, id(1), &pattern(1, LARGE));
    put(&client, id(2), &pattern(2, 1000));
    assert!(client.evict(LARGE as u64).unwrap() >= LARGE as u64);
    external.script().fails = true;
    assert!(read(&client, id(1), -1).is_none());
    assert!(read(&client, id(2), 0).is_some() && client.contains(id(1)).unwrap());
    external.script().fails = false;
    assert!(read(&client, id(1), 0).unwrap().0 == pattern(1, LARGE));
}

#[test]
fn a_slow_write_keeps_only_those_who_need_its_room() {
    let _watchdog = Watchdog::new("a_slow_write_keeps_only_those_who_need_its_room");
    let (store, external) = start();
    let (client, other) = (connect(store.socket()), connect(store.socket()));
    put(&client, id(1), &pattern(1, LARGE));
    external.close();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| put(&client, id(2), &pattern(2, LARGE)));
        external.wait_for(("put", id(1)));
        // Others are served, and the object itself is there for them.
        assert!(read(&other, id(1), 0).unwrap().0 == pattern(1, LARGE));
        put(&other, id(3), &pattern(3, 100_000));
        assert!(read(&other, id(3), 0).is_some() && !other.contains(id(2)).unwrap());
        // So is the very client that waits, in another thread.
        assert!(client.contains(id(1)).unwrap() && !waiting.is_finished());
        external.open();
        waiting.join().unwrap();
    });
    for (n, size) in [(1, LARGE), (2, LARGE), (3, 100_000)] {
        assert!(read(&other, id(n), -1).unwrap().0 == pattern(n, size), "object {n}");
    }
}

#[test]
fn what_is_deleted_while_it_is_written_is_deleted_there_too() {
    let _watchdog = Watchdog::new("what_is_deleted_while_it_is_written_is_deleted_there_too");
    let (store, external) = start();
    let (client, other) = (connect(store.socket()), connect(store.socket()));
    put(&client, id(1), &pattern(1, LARGE));
    external.close();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| put(&client, id(2), &pattern(2, LARGE)));
        external.wait_for(("put", id(1)));
        other.delete(&[id(1)]).unwrap().remove(0).unwrap();
        assert!(!other.contains(id(1)).unwrap());
        external.open();
        waiting.join().unwrap();
    });
    external.wait_for(("delete", id(1)));
    eventually(|| !external.has(id(1)));
    // The same for what has been written.
    assert!(client.evict(1).unwrap() > 0 && external.has(id(2)));
    other.delete(&[id(2)]).unwrap().remove(0).unwrap();
    eventually(|| !external.has(id(2)));
    assert!(read(&other, id(2), 0).is_none());
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing() {
    let _watchdog = Watchdog::new("a_client_that_leaves_while_it_waits_leaves_nothing");
    let (store, external) = start();
    let client = connect(store.socket());
    put(&client, id(1), &pattern(1, LARGE));
    assert!(client.evict(1).unwrap() > 0);
    put(&client, id(2), &pattern(2, LARGE));
    external.close();
    let mut leaver = RawPeer::native(store.socket());
    leaver.send(&Request::Create {
        id: id(3),
        data_size: 500 << 10,
        metadata_size: 0,
        evict_if_full: true,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    });
    leaver.send(&Request::Get { ids: vec![id(1)], timeout_ms: -1 });
    external.wait_for(("put", id(2)));
    drop(leaver);
    let used = || RawPeer::old(store.socket()).figure("allocated bytes");
    assert_eq!(used(), LARGE as u64);
    external.open();
    eventually(|| external.has(id(2)) && used() <= LARGE as u64);
    assert!(!client.contains(id(3)).unwrap());
    for n in [1, 2] {
        assert!(read(&client, id(n), -1).unwrap().0 == pattern(n, LARGE), "object {n}");
    }
}

#[test]
fn a_store_ends_while_a_call_does_not() {
    let _watchdog = Watchdog::new("a_store_ends_while_a_call_does_not");
    let (store, external) = start();
    let client = connect(store.socket());
    (1..=3).for_each(|n| put(&client, id(n), &pattern(n, 200_000)));
    external.close();
    let mut waiting = RawPeer::native(store.socket());
    waiting.send(&Request::Evict { bytes: u64::MAX });
    external.wait_for(("put", id(1)));
    store.stop().unwrap();
    waiting.expect_end();
    external.open();
    eventually(|| Arc::strong_count(&external.0) == 1);
    assert_eq!(external.script().begun, [("put", id(1))], "what waited in the queue was not begun");
}

#[test]
fn a_daemon_with_an_external_store_ends_in_order() {
    let _watchdog = Watchdog::new("a_daemon_with_an_external_store_ends_in_order");
    let mut daemon = Daemon::start_with(64 << 20, |command| _ = command.args(["-e", "hashtable://x"]));
    let client = connect(&daemon.socket());
    (0..60).for_each(|n| put(&client, id(n), &vec![n as u8; 1 << 20]));
    RawPeer::native(&daemon.socket()).send(&Request::Evict { bytes: u64::MAX });
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn random_traffic_of_many_clients_loses_nothing() {
    let _watchdog = Watchdog::new("random_traffic_of_many_clients_loses_nothing");
    let options =
        StoreOptions { capacity: CAPACITY, external_store: Some("hashtable://t".into()), ..StoreOptions::default() };
    let store = Store::start(&options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let socket = store.socket();
            scope.spawn(move || {
                let (client, mut random) = (connect(socket), support::Random(thread));
                let mut sizes = HashMap::new();
                for step in 0..300 {
                    let n = thread * 1000 + random.below(20);
                    if let Some(size) = sizes.get(&n).copied() {
                        let (data, metadata) = read(&client, id(n), -1).expect("an object is gone");
                        assert!(data == pattern(n, size) && metadata == b"m", "object {n} in step {step}");
                        if random.below(3) == 0 {
                            client.delete(&[id(n)]).unwrap().remove(0).unwrap();
                            sizes.remove(&n);
                        }
                    } else {
                        let size = random.size(1 << 10, 128 << 10) as usize;
                        let buffer = client.create(id(n), size as u64, b"m", CreateOptions::default()).unwrap();
                        buffer.write(0, &pattern(n, size)).unwrap();
                        client.seal(id(n)).unwrap();
                        sizes.insert(n, size);
                    }
                }
            });
        }
    });
}
