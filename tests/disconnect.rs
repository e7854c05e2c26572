//! Ends without a goodbye. Producers and readers are killed in the middle of whatever they do, the daemon is told to end or
//! killed, a program dies while a child it forked lives on. Nothing may leak, and nobody may wait for the dead.
//!
//! Those to be killed are this test program itself, started again with a part to play (`PLASMA_TEST_PART`), or forks of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use plasma_store::client::Client;
use plasma_store::error::Error;
use plasma_store::protocol::Request;
use support::{
    Daemon, Random, RawPeer, Watchdog, connect, eventually, id, process, progress, put, report, store, times,
};

const MEBIBYTE: u64 = 1 << 20;

/// Starts this program again to play a part at `socket`.
fn start(part: &str, socket: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "part", "--nocapture", "--test-threads=1"]);
    command.env("PLASMA_TEST_PART", part).env("PLASMA_TEST_SOCKET", socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// What a part says first, on a line of its own behind a mark.
fn first_words(child: &mut Child) -> String {
    next_words(&mut BufReader::new(child.stdout.as_mut().unwrap()))
}

fn next_words(output: &mut impl BufRead) -> String {
    let words = |line: String| line.split_once("PART: ").map(|(_, words)| words.to_owned());
    output.lines().map(Result::unwrap).find_map(words).expect("the part ended early")
}

/// No test, but the parts that the tests below start.
#[test]
fn part() {
    let Ok(part) = std::env::var("PLASMA_TEST_PART") else { return };
    let socket = PathBuf::from(std::env::var_os("PLASMA_TEST_SOCKET").unwrap());
    match part.as_str() {
        "killer" => fork_and_kill(&socket),
        "host" => host_a_store(),
        other => panic!("no such part: {other}"),
    }
}

/// For each line of input, which is a seed: forks three clients, and kills them all at a random moment. A program that was
/// started once is forked much faster than it is started anew.
fn fork_and_kill(socket: &Path) {
    println!("PART: ready");
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let mut random = Random(line.parse().unwrap());
        let (mut heard, said) = std::io::pipe().unwrap();
        let clients = [0, 1, random.below(3)].map(|what| fork_client(socket, what, random.next(), &said));
        drop(said);
        // Every third round somebody dies before or while connecting.
        let awaited = if random.below(3) == 0 { 2 } else { 3 };
        heard.read_exact(&mut [0; 3][..awaited]).unwrap();
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        clients.iter().for_each(|client| kill(*client, Signal::SIGKILL).unwrap());
        for client in clients {
            assert_eq!(waitpid(client, None).unwrap(), WaitStatus::Signaled(client, Signal::SIGKILL, false));
        }
        println!("PART: killed");
    }
}

/// A child that is a client of one of three kinds, says when it is connected, and dies with its parent.
fn fork_client(socket: &Path, what: u64, seed: u64, said: &PipeWriter) -> Pid {
    let ready = || {
        let mut said = said;
        said.write_all(b"!").unwrap();
    };
    // SAFETY: this process has one thread that does anything; the child goes on as it would have.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let _ = std::panic::catch_unwind(|| {
                set_pdeathsig(Signal::SIGKILL).unwrap();
                match what {
                    0 => produce(&connect(socket), Random(seed), ready),
                    1 => read(&connect(socket), Random(seed), ready),
                    _ => speak_old(RawPeer::old(socket), Random(seed), ready),
                }
            });
            // SAFETY: async-signal-safe. It only comes to this when something failed; its parent sees that.
            unsafe { nix::libc::_exit(1) }
        }
    }
}

/// Creates for ever: some it fills and seals, some it aborts, some it leaves.
fn produce(client: &Client, mut random: Random, ready: impl Fn()) {
    ready();
    let mut kept = Vec::new();
    loop {
        let (name, size) = (id(random.below(40)), random.size(64, MEBIBYTE));
        let Ok(buffer) = client.create(name, size, b"meta", Default::default()) else {
            kept.clear();
            let _ = client.delete(&[name]);
            continue;
        };
        match random.below(4) {
            0 => kept.push(buffer),
            1 => {
                drop(buffer);
                client.abort(name).unwrap();
            }
            _ => {
                buffer.write(0, &vec![1; size.min(10_000) as usize]).unwrap();
                client.seal(name).unwrap();
            }
        }
    }
}

/// Gets for ever, from several threads, holding for a while, waiting for what does not come.
fn read(client: &Client, mut random: Random, ready: impl Fn()) {
    ready();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut random = Random(random.next());
            scope.spawn(move || {
                let mut held = Vec::new();
                loop {
                    let names = [id(random.below(40)), id(random.below(40)), id(random.below(50))];
                    held.push(client.get(&names, random.below(3) as i64, Default::default()).unwrap());
                    if held.len() > 5 {
                        held.clear();
                    }
                    if random.below(10) == 0 {
                        client.delete(&names[..1]).unwrap();
                    }
                }
            });
        }
    });
}

/// What old clients do, with requests that wait for nobody's answers.
fn speak_old(mut peer: RawPeer, mut random: Random, ready: impl Fn()) {
    ready();
    loop {
        let name = id(random.below(40));
        let _ = peer.create(name, random.size(64, MEBIBYTE) as i64);
        let _ = peer.seal(name);
        peer.get(&[name, id(random.below(40))]);
        peer.send(&Request::Get { ids: vec![id(1 << 30)], timeout_ms: -1 });
    }
}

/// Holds a store, forks a child that does nothing, and does nothing either.
fn host_a_store() {
    let store = store(MEBIBYTE);
    let client = connect(store.socket());
    put(&client, id(1), b"kept");
    // SAFETY: the child calls `pause` and `_exit`, which are async-signal-safe.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => loop {
            // SAFETY: as above.
            unsafe { nix::libc::pause() };
        },
        ForkResult::Parent { child } => child,
    };
    println!("PART: {child} {}", store.socket().display());
    loop {
        std::thread::park();
    }
}

#[test]
fn killed_producers_and_readers_leave_nothing() {
    let _watchdog = Watchdog::new("killed_producers_and_readers_leave_nothing");
    let mut daemon = Daemon::start(16 * MEBIBYTE);
    let descriptors = daemon.descriptors_at_rest();
    let memory = process::memory(daemon.pid());
    let mut killer = start("killer", &daemon.socket());
    let mut orders = killer.stdin.take().unwrap();
    let mut answers = BufReader::new(killer.stdout.take().unwrap());
    assert_eq!(next_words(&mut answers), "ready");
    let (rounds, mut rounds_with_objects) = (times(100, 3334), 0);
    for round in 0..rounds {
        writeln!(orders, "{round}").unwrap();
        assert_eq!(next_words(&mut answers), "killed");
        // Nobody is connected any more after this.
        daemon.descriptors_at_rest();
        let mut peer = RawPeer::old(&daemon.socket());
        rounds_with_objects += u64::from(peer.check_nothing_is_held() > 0);
        // What producers sealed lies in segments of their own, which go with it, and so do copies for old clients.
        peer.ask(&Request::Evict { bytes: u64::MAX });
        assert_eq!(peer.check_rest(), 0);
        drop(peer);
        assert_eq!(daemon.descriptors_at_rest(), descriptors, "round {round}");
        progress(round, rounds, "rounds of three kills");
    }
    drop(orders);
    assert!(killer.wait().unwrap().success());
    assert!(rounds_with_objects > rounds / 2, "only {rounds_with_objects} rounds left objects: they died too early");
    let mut peer = RawPeer::old(&daemon.socket());
    peer.ask(&Request::Evict { bytes: u64::MAX });
    peer.put(id(1), 16 * MEBIBYTE as i64);
    daemon.check_healthy();
    let grown = process::memory(daemon.pid()).saturating_sub(memory);
    report(&format!("{} clients killed: nothing left, the daemon's memory grew by {} KiB", 3 * rounds, grown / 1024));
    assert!(grown <= 16 * MEBIBYTE, "the daemon's memory grew by {grown} bytes");
}

#[test]
fn whoever_waits_for_a_dead_producer_gets_the_object_of_the_next() {
    let _watchdog = Watchdog::new("whoever_waits_for_a_dead_producer_gets_the_object_of_the_next");
    let daemon = Daemon::start(MEBIBYTE);
    let reader = connect(&daemon.socket());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.get(&[id(1)], -1, Default::default()).unwrap());
        let mut dying = RawPeer::native(&daemon.socket());
        dying.create(id(1), 10).unwrap();
        drop(dying);
        let next = connect(&daemon.socket());
        eventually(|| next.list().unwrap().is_empty());
        put(&next, id(1), b"alive");
        let got = waiting.join().unwrap();
        let mut bytes = [0; 5];
        got[0].as_ref().unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"alive");
    });
}

#[test]
fn a_killed_host_takes_its_store_along_although_its_child_lives() {
    let _watchdog = Watchdog::new("a_killed_host_takes_its_store_along_although_its_child_lives");
    let mut host = start("host", Path::new(""));
    let words = first_words(&mut host);
    let (grandchild, socket) = words.split_once(' ').unwrap();
    let grandchild = Pid::from_raw(grandchild.parse().unwrap());
    let client = connect(Path::new(socket));
    let held = client.get(&[id(1)], -1, Default::default()).unwrap();
    let outcome = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.get(&[id(2)], -1, Default::default()));
        std::thread::sleep(Duration::from_millis(50));
        host.kill().unwrap();
        host.wait().unwrap();
        waiting.join().unwrap()
    });
    // Only now: all that happened while the child slept.
    kill(grandchild, None).expect("the child lives");
    assert!(matches!(outcome, Err(Error::Disconnected(_))), "{outcome:?}");
    assert!(matches!(client.contains(id(1)), Err(Error::Disconnected(_))));
    let mut bytes = [0; 4];
    held[0].as_ref().unwrap().read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
    // The child listens to nobody, once it has run at all.
    eventually(|| {
        let next = Client::connect(Some(Path::new(socket)), Default::default());
        matches!(next, Err(Error::ConnectFailed { .. }))
    });
    kill(grandchild, Signal::SIGKILL).unwrap();
    let _ = std::fs::remove_file(socket);
}

#[test]
fn a_killed_daemon_ends_its_clients_waits_and_leaves_their_buffers() {
    let _watchdog = Watchdog::new("a_killed_daemon_ends_its_clients_waits_and_leaves_their_buffers");
    let mut daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    put(&client, id(1), b"sealed");
    let held = client.get(&[id(1)], 0, Default::default()).unwrap();
    let writable = client.create(id(2), 10, b"", Default::default()).unwrap();
    let client = &client;
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            [-1, 1_000_000].map(|ms| scope.spawn(move || client.get(&[id(3)], ms, Default::default()))).into();
        std::thread::sleep(Duration::from_millis(50));
        daemon.signal(Signal::SIGKILL);
        for thread in waiting {
            assert!(matches!(thread.join().unwrap(), Err(Error::Disconnected(_))));
        }
    });
    daemon.wait();
    assert!(matches!(client.create(id(4), 1, b"", Default::default()), Err(Error::Disconnected(_))));
    assert!(matches!(client.seal(id(2)), Err(Error::Disconnected(_))));
    writable.write(0, b"still mine").unwrap();
    let mut bytes = [0; 6];
    held[0].as_ref().unwrap().read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"sealed");
}

#[test]
fn a_daemon_that_is_told_to_end_exits_with_success_and_takes_its_socket_along() {
    let _watchdog = Watchdog::new("a_daemon_that_is_told_to_end_exits_with_success_and_takes_its_socket_along");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::start(MEBIBYTE);
        let client = connect(&daemon.socket());
        put(&client, id(1), b"x");
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{signal}");
        assert!(!daemon.socket().exists());
        assert!(matches!(client.list(), Err(Error::Disconnected(_))));
    }
}

#[test]
fn a_second_daemon_is_refused_at_a_live_socket_and_takes_over_a_stale_one() {
    let _watchdog = Watchdog::new("a_second_daemon_is_refused_at_a_live_socket_and_takes_over_a_stale_one");
    let mut daemon = Daemon::start(MEBIBYTE);
    let client = connect(&daemon.socket());
    let second = Daemon::command(&daemon.socket(), MEBIBYTE).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains(daemon.socket().to_str().unwrap()), "{said}");
    put(&client, id(1), b"undisturbed");
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    assert!(daemon.socket().exists(), "a killed daemon leaves its socket");
    let mut third = Daemon::command(&daemon.socket(), MEBIBYTE).spawn().unwrap();
    let client = connect(&daemon.socket());
    assert!(!client.contains(id(1)).unwrap());
    kill(Pid::from_raw(third.id() as i32), Signal::SIGTERM).unwrap();
    assert!(third.wait().unwrap().success());
    // What is not a socket is not removed.
    std::fs::write(daemon.socket(), b"precious").unwrap();
    let refused = Daemon::command(&daemon.socket(), MEBIBYTE).status().unwrap();
    assert_eq!((refused.code(), std::fs::read(daemon.socket()).unwrap()), (Some(1), b"precious".to_vec()));
}

#[test]
fn a_forked_child_does_not_keep_what_its_parent_lets_go_of() {
    let _watchdog = Watchdog::new("a_forked_child_does_not_keep_what_its_parent_lets_go_of");
    let daemon = Daemon::start(MEBIBYTE);
    let mut maker = RawPeer::native(&daemon.socket());
    maker.put(id(1), 10);
    let holder = connect(&daemon.socket());
    let held = holder.get(&[id(1)], 0, Default::default()).unwrap();
    // SAFETY: the child calls `pause` only, which is async-signal-safe.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => loop {
            // SAFETY: as above.
            unsafe { nix::libc::pause() };
        },
        ForkResult::Parent { child } => child,
    };
    maker.ask(&Request::Delete { ids: vec![id(1)] });
    drop((held, holder));
    // The child has the connection too, so only the parent's own word can have let go.
    eventually(|| !maker.contains(id(1)));
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
}
