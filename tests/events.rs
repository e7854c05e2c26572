//! Subscriptions of native clients: the stream, its descriptor, what ends a wait, and what a slow reader costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{MsgFlags, send};
use plasma_store::client::subscription::{Event, SubscribeOptions, Subscription, decode_events};
use plasma_store::client::{Client, ConnectOptions, CreateOptions, GetOptions, PutItem};
use plasma_store::error::Error;
use plasma_store::object::ObjectId;
use plasma_store::protocol::{Reply, Request};
use support::{Daemon, RawPeer, Signalled, Watchdog, catch_signals, connect, eventually, id, put, store};

const MEBIBYTE: u64 = 1 << 20;

fn subscribe(client: &Client) -> Subscription {
    client.subscribe(SubscribeOptions::default()).unwrap()
}

fn sealed(name: u64, data_size: u64, metadata_size: u64) -> Event {
    Event::Sealed { id: id(name), data_size, metadata_size, digest: [0; 8] }
}

fn gone(name: u64) -> Event {
    Event::Deleted { id: id(name) }
}

fn item(name: u64, data: &[u8]) -> PutItem<'_> {
    PutItem { id: id(name), data, metadata: b"", name: None }
}

/// Whether the descriptor can be read now.
fn is_readable(subscription: &Subscription) -> bool {
    let mut polled = [PollFd::new(subscription.descriptor().unwrap(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).unwrap() == 1
}

fn expect_nothing(subscription: &Subscription) {
    assert!(!is_readable(subscription));
    assert!(matches!(subscription.next(0), Err(Error::Timeout(0))));
}

#[test]
fn it_begins_with_what_is_there_and_goes_on_with_what_happens() {
    let _watchdog = Watchdog::new("it_begins_with_what_is_there_and_goes_on_with_what_happens");
    let store = store(MEBIBYTE);
    let (maker, reader) = (connect(store.socket()), connect(store.socket()));
    put(&maker, id(1), b"one");
    drop(maker.create(id(9), 5, b"", CreateOptions::default()).unwrap());
    let all = subscribe(&reader);
    let new = reader.subscribe(SubscribeOptions { skip_existing: true }).unwrap();
    assert_eq!(all.next(-1).unwrap(), sealed(1, 3, 0));
    maker.put(id(2), b"second", b"md", CreateOptions::default()).unwrap();
    maker.delete(&[id(1)]).unwrap();
    assert_eq!(maker.evict(1).unwrap(), 8);
    maker.abort(id(9)).unwrap();
    maker.put_batch(&[item(4, b"4"), item(3, b"")], CreateOptions::default()).unwrap();
    for subscription in [&all, &new] {
        let events = [sealed(2, 6, 2), gone(1), gone(2), sealed(4, 1, 0), sealed(3, 0, 0)];
        assert_eq!(events.map(|_| subscription.next(-1).unwrap()), events);
        expect_nothing(subscription);
    }
    let begin = Instant::now();
    assert!(matches!(all.next(30), Err(Error::Timeout(30))));
    assert!(begin.elapsed().as_millis() >= 30);
    assert!(all.next(-2).unwrap_err().to_string().contains("-2"));
}

/// The descriptor can be read exactly while there is an event: a program that polls before each call misses none and never spins.
#[test]
fn the_descriptor_can_be_read_as_long_as_there_is_an_event() {
    let _watchdog = Watchdog::new("the_descriptor_can_be_read_as_long_as_there_is_an_event");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    let subscription = subscribe(&client);
    expect_nothing(&subscription);
    let items: Vec<_> = (0..100).map(|name| item(name, b"x")).collect();
    client.put_batch(&items, CreateOptions::default()).unwrap();
    put(&client, id(100), b"x");
    client.delete(&[id(100)]).unwrap();
    // The answers came after the store had written the events.
    let mut told = 0;
    while is_readable(&subscription) {
        subscription.next(0).unwrap();
        told += 1;
    }
    assert_eq!(told, 102);
    expect_nothing(&subscription);
    drop(store);
    eventually(|| is_readable(&subscription));
    for _ in 0..2 {
        let end = subscription.next(0).unwrap_err();
        assert!(matches!(&end, Error::Disconnected(_)), "{end}");
        assert!(is_readable(&subscription), "the end stays");
    }
}

/// What other programs read from the descriptor are frames, each with one event.
#[test]
fn frames_can_be_read_and_decoded_by_others() {
    let _watchdog = Watchdog::new("frames_can_be_read_and_decoded_by_others");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    let subscription = subscribe(&client);
    let mut socket = File::from(subscription.descriptor().unwrap().try_clone_to_owned().unwrap());
    let mut next = || {
        let mut length = [0; 8];
        socket.read_exact(&mut length).unwrap();
        let mut body = vec![0; u64::from_le_bytes(length) as usize];
        socket.read_exact(&mut body).unwrap();
        body
    };
    client.put_batch(&[item(1, b"x"), item(2, b"xy"), item(3, b"")], CreateOptions::default()).unwrap();
    assert_eq!(decode_events(&next()).unwrap(), [sealed(1, 1, 0)]);
    assert_eq!(subscription.next(-1).unwrap(), sealed(2, 2, 0), "both ways may take turns");
    let mut body = next();
    assert_eq!(decode_events(&body).unwrap(), [sealed(3, 0, 0)]);
    body.truncate(20);
    assert!(decode_events(&body).unwrap_err().to_string().contains("20 bytes"));
}

#[test]
fn the_store_forgets_a_subscription_that_was_dropped() {
    let _watchdog = Watchdog::new("the_store_forgets_a_subscription_that_was_dropped");
    let daemon = Daemon::start(MEBIBYTE);
    let before = daemon.descriptors_at_rest();
    let client = connect(&daemon.socket());
    let subscriptions: Vec<_> = (0..64).map(|_| subscribe(&client)).collect();
    // A forked child would have such a copy.
    let copy = subscriptions[0].descriptor().unwrap().try_clone_to_owned().unwrap();
    assert_eq!(client.stats().unwrap().subscriptions, 64);
    let refused = client.subscribe(SubscribeOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Busy(text) if text.contains("64 subscriptions")), "{refused}");
    drop(subscriptions);
    eventually(|| client.stats().unwrap().subscriptions == 0);
    // It can subscribe again, and the stream is in step.
    let again = subscribe(&client);
    put(&client, id(1), b"x");
    assert_eq!(again.next(-1).unwrap(), sealed(1, 1, 0));
    // The segment that it lies in goes with the object.
    client.delete(&[id(1)]).unwrap();
    assert!(!client.contains(id(1)).unwrap());
    assert!(matches!(again.next(-1).unwrap(), Event::Deleted { .. }));
    drop((client, copy));
    assert_eq!(again.next(0).unwrap_err().to_string(), "timed out after 0 ms", "it outlives its client");
    drop(again);
    assert_eq!(daemon.descriptors_at_rest(), before);
}

#[test]
fn a_client_that_leaves_takes_its_subscriptions_along() {
    let _watchdog = Watchdog::new("a_client_that_leaves_takes_its_subscriptions_along");
    let store = store(MEBIBYTE);
    let witness = connect(store.socket());
    let mut peer = RawPeer::native(store.socket());
    for _ in 0..3 {
        let reply = peer.ask(&Request::NativeSubscribe { skip_existing: false });
        assert!(matches!(reply, Reply::NativeSubscribe { outcome: Ok(()) }), "{reply:?}");
    }
    assert_eq!(witness.stats().unwrap().subscriptions, 3);
    drop(peer);
    eventually(|| witness.stats().unwrap().subscriptions == 0);
}

#[test]
fn many_threads_take_each_event_once() {
    let _watchdog = Watchdog::new("many_threads_take_each_event_once");
    const EVENTS: usize = 2000;
    let store = store(MEBIBYTE);
    let (client, maker) = (connect(store.socket()), connect(store.socket()));
    let subscription = subscribe(&client);
    let told = AtomicUsize::new(0);
    let taken: Vec<Vec<ObjectId>> = std::thread::scope(|scope| {
        let take = || {
            let mut taken = Vec::new();
            while let Ok(event) = subscription.next(-1) {
                let Event::Sealed { id, .. } = event else { panic!("{event:?}") };
                taken.push(id);
                told.fetch_add(1, Ordering::SeqCst);
            }
            taken
        };
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
        for name in 0..EVENTS as u64 {
            put(&maker, id(name), b"");
        }
        eventually(|| told.load(Ordering::SeqCst) == EVENTS);
        eventually(|| {
            client.interrupt();
            readers.iter().all(|reader| reader.is_finished())
        });
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let taken: Vec<_> = taken.into_iter().flatten().collect();
    assert_eq!(taken.len(), EVENTS);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), EVENTS);
}

/// One interrupt is enough for every thread that sleeps, whatever it waits for; later waits are not concerned.
#[test]
fn an_interrupt_ends_all_waits_of_that_client() {
    let _watchdog = Watchdog::new("an_interrupt_ends_all_waits_of_that_client");
    let store = store(MEBIBYTE);
    let (client, other) = (connect(store.socket()), connect(store.socket()));
    let (one, two, others) = (subscribe(&client), subscribe(&client), subscribe(&other));
    for round in 0..20 {
        let threads: [Signalled; 5] = Default::default();
        std::thread::scope(|scope| {
            let begin = |subscription, thread: usize| {
                let thread = &threads[thread];
                scope.spawn(move || {
                    thread.enter();
                    Subscription::next(subscription, -1)
                })
            };
            let waits = [begin(&one, 0), begin(&one, 1), begin(&two, 2)];
            let spared = begin(&others, 3);
            let get = scope.spawn(|| {
                threads[4].enter();
                client.get(&[id(1000)], -1, GetOptions::default())
            });
            eventually(|| threads.iter().all(Signalled::sleeps));
            eventually(|| {
                client.interrupt();
                waits.iter().all(|wait| wait.is_finished()) && get.is_finished()
            });
            assert!(waits.into_iter().all(|wait| matches!(wait.join().unwrap(), Err(Error::Interrupted))));
            assert!(matches!(get.join().unwrap(), Err(Error::Interrupted)));
            put(&other, id(round), b"");
            assert_eq!(spared.join().unwrap().unwrap(), sealed(round, 0, 0));
            assert_eq!([&one, &two].map(|it| it.next(-1).unwrap()), [sealed(round, 0, 0); 2]);
        });
    }
}

#[test]
fn a_wait_ends_with_the_store() {
    let _watchdog = Watchdog::new("a_wait_ends_with_the_store");
    let daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    let subscription = subscribe(&client);
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| subscription.next(-1));
        drop(daemon);
        let end = wait.join().unwrap().unwrap_err();
        assert!(matches!(&end, Error::Disconnected(_)), "{end}");
    });
    let refused = client.subscribe(SubscribeOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Disconnected(_)), "{refused}");
}

#[test]
fn a_subscriber_that_reads_nothing_is_dropped_and_told_why() {
    let _watchdog =
        Watchdog::lasting("a_subscriber_that_reads_nothing_is_dropped_and_told_why", Duration::from_secs(600));
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let daemon = Daemon::start_with(MEBIBYTE, |command| {
        command.stderr(File::create(&log).unwrap());
    });
    let (client, maker) = (connect(&daemon.socket()), connect(&daemon.socket()));
    let slow = subscribe(&client);
    let mut events = 0;
    while maker.stats().unwrap().subscriptions == 1 {
        let names = events..events + 20_000;
        let items: Vec<_> = names.clone().map(|name| item(name, b"")).collect();
        maker.put_batch(&items, CreateOptions::default()).unwrap();
        maker.delete(&names.map(id).collect::<Vec<_>>()).unwrap();
        events += 40_000;
        assert!(events < 2_000_000, "{events} events were not read, and nobody was dropped");
    }
    let mut read = 0;
    let end = loop {
        match slow.next(-1) {
            Ok(_) => read += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(read > 0 && read < events, "{read} of {events}");
    assert!(end.starts_with("disconnected") && end.contains("were not read, and 67108864 may wait"), "{end}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("dropped the subscription") && logged.contains("67108864 may wait"), "{logged}");
    // The connection lives on, and may subscribe again.
    put(&client, id(1), b"");
    assert_eq!(subscribe(&client).next(-1).unwrap(), sealed(1, 0, 0));
}

#[test]
fn a_store_without_descriptors_says_so_and_lives_on() {
    let _watchdog = Watchdog::new("a_store_without_descriptors_says_so_and_lives_on");
    let mut daemon = Daemon::start_with(MEBIBYTE, |command| {
        // SAFETY: `setrlimit` is async-signal-safe.
        unsafe { command.pre_exec(|| setrlimit(Resource::RLIMIT_NOFILE, 64, 64).map_err(Into::into)) };
    });
    let client = connect(&daemon.socket());
    let mut subscriptions = Vec::new();
    let refused = loop {
        match client.subscribe(SubscribeOptions::default()) {
            Ok(subscription) => subscriptions.push(subscription),
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, Error::Busy(text) if text.contains("socketpair")), "{refused}");
    assert_eq!(client.stats().unwrap().subscriptions, subscriptions.len() as u64);
    put(&client, id(1), b"");
    assert!(subscriptions.iter().all(|subscription| subscription.next(-1).unwrap() == sealed(1, 0, 0)));
    drop(subscriptions);
    eventually(|| client.stats().unwrap().subscriptions == 0);
    subscribe(&client);
    daemon.check_healthy();
}

#[test]
fn a_subscriber_that_lies_ends_itself_only() {
    let _watchdog = Watchdog::new("a_subscriber_that_lies_ends_itself_only");
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    // The way of the others, each.
    let mut old = RawPeer::old(store.socket());
    old.send(&Request::NativeSubscribe { skip_existing: false });
    old.expect_end();
    let mut native = RawPeer::native(store.socket());
    native.send(&Request::Subscribe);
    native.expect_end();
    // A native one that does not take its descriptors, and one that sends into its socket.
    let mut peer = RawPeer::native(store.socket());
    (0..70).for_each(|_| peer.send(&Request::NativeSubscribe { skip_existing: false }));
    drop(peer);
    let subscription = subscribe(&client);
    let noise = vec![7; 1000];
    let socket = subscription.descriptor().unwrap().as_raw_fd();
    while send(socket, &noise, MsgFlags::MSG_DONTWAIT).is_ok() {}
    put(&client, id(1), b"x");
    assert_eq!(subscription.next(-1).unwrap(), sealed(1, 1, 0));
    drop(subscription);
    eventually(|| client.stats().unwrap().subscriptions == 0);
}

#[test]
fn signals_end_waits_where_that_was_asked_for() {
    let _watchdog = Watchdog::new("signals_end_waits_where_that_was_asked_for");
    catch_signals();
    let store = store(MEBIBYTE);
    let maker = connect(store.socket());
    for return_on_signal in [true, false] {
        let options = ConnectOptions { return_on_signal, ..ConnectOptions::default() };
        let client = Client::connect(Some(store.socket()), options).unwrap();
        let subscription = client.subscribe(SubscribeOptions { skip_existing: true }).unwrap();
        let thread = Signalled::default();
        std::thread::scope(|scope| {
            let wait = scope.spawn(|| {
                thread.enter();
                subscription.next(-1)
            });
            if return_on_signal {
                eventually(|| {
                    thread.signal();
                    wait.is_finished()
                });
                return assert!(matches!(wait.join().unwrap(), Err(Error::Interrupted)));
            }
            for _ in 0..5 {
                eventually(|| thread.sleeps());
                thread.signal();
            }
            put(&maker, id(5), b"");
            assert_eq!(wait.join().unwrap().unwrap(), sealed(5, 0, 0));
        });
    }
}
