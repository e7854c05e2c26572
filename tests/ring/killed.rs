//! Ends with records under way: clients are killed at any moment, and nothing of them is left; a store is killed, and nobody waits
//! for it.
//!
//! Those to be killed are this test program itself, started again (`PLASMA_TEST_PART`) and forked.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use plasma_store::client::Client;
use plasma_store::error::Error;

use crate::support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, id, process, progress, report, times};
use crate::{GET, MEBIBYTE, PUT, Rest, bytes_of, check_client, pattern};

const NAMES: u64 = 40;

/// No test, but what the test below starts: for each line of input, which is a seed, it forks three clients and kills them at a
/// random moment.
#[test]
fn part() {
    let Some(socket) = std::env::var_os("PLASMA_TEST_SOCKET").map(PathBuf::from) else { return };
    println!("PART: ready");
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let mut random = Random(line.parse().unwrap());
        let (mut heard, said) = std::io::pipe().unwrap();
        let clients = [(); 3].map(|()| fork_client(&socket, random.next(), &said));
        drop(said);
        heard.read_exact(&mut [0; 3]).unwrap();
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        clients.iter().for_each(|client| kill(*client, Signal::SIGKILL).unwrap());
        for client in clients {
            assert_eq!(waitpid(client, None).unwrap(), WaitStatus::Signaled(client, Signal::SIGKILL, false));
        }
        println!("PART: killed");
    }
}

fn fork_client(socket: &Path, seed: u64, said: &PipeWriter) -> Pid {
    // SAFETY: this process has one thread that does anything; the child goes on as it would have.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let _ = std::panic::catch_unwind(|| {
                set_pdeathsig(Signal::SIGKILL).unwrap();
                let client = &connect(socket);
                let mut said = said;
                said.write_all(b"!").unwrap();
                std::thread::scope(|scope| {
                    (0..3).for_each(|n| _ = scope.spawn(move || play(client, Random(seed ^ n << 60))));
                });
            });
            // SAFETY: async-signal-safe. It only comes to this when something failed; its parent sees that.
            unsafe { nix::libc::_exit(1) }
        }
    }
}

/// Everything that goes by the ring, for ever.
fn play(client: &Client, mut random: Random) {
    let mut kept = Vec::new();
    loop {
        let name = random.below(NAMES);
        let size = if random.below(8) == 0 { random.below(200_000) } else { random.below(3000) };
        match random.below(9) {
            0 => _ = client.put(id(name), &pattern(name, size), b"meta", PUT),
            1..4 => client.put_async(id(name), &pattern(name, size.min(60_000)), b"meta", PUT).unwrap(),
            4 => {
                let Ok(buffer) = client.create(id(name), size, b"meta", PUT) else { continue };
                buffer.write(0, &pattern(name, size)).unwrap();
                match random.below(4) {
                    0 => kept.push(buffer),
                    1 => client.seal_async(id(name)).unwrap(),
                    2 => client.seal(id(name)).unwrap(),
                    _ => {
                        drop(buffer);
                        client.abort(id(name)).unwrap();
                    }
                }
            }
            5 => _ = client.flush().unwrap(),
            6 => _ = client.delete(&[id(name)]).unwrap(),
            _ => {
                let Some(got) = client.get_one(id(name), random.below(3) as i64, GET).unwrap() else { continue };
                assert!(bytes_of(&got) == pattern(name, got.size()), "object {name} has other bytes");
            }
        }
        if kept.len() > 5 {
            kept.clear();
        }
    }
}

/// Starts this program again, as the one that forks and kills.
fn start_killer(socket: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killed::part", "--nocapture", "--test-threads=1"]).env("PLASMA_TEST_SOCKET", socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn next_words(output: &mut impl BufRead) -> String {
    let words = |line: String| line.split_once("PART: ").map(|(_, words)| words.to_owned());
    output.lines().map(Result::unwrap).find_map(words).expect("the part ended early")
}

#[test]
fn clients_that_are_killed_with_records_under_way_leave_nothing() {
    let _watchdog = Watchdog::new("clients_that_are_killed_with_records_under_way_leave_nothing");
    let mut daemon = Daemon::start(16 * MEBIBYTE);
    let rest = Rest::of(&daemon);
    let mut killer = start_killer(&daemon.socket());
    let (mut orders, mut answers) = (killer.stdin.take().unwrap(), BufReader::new(killer.stdout.take().unwrap()));
    assert_eq!(next_words(&mut answers), "ready");
    let (rounds, mut rounds_with_objects) = (times(80, 3000), 0);
    for round in 0..rounds {
        writeln!(orders, "{round}").unwrap();
        assert_eq!(next_words(&mut answers), "killed");
        // Nobody is connected any more after this.
        daemon.descriptors_at_rest();
        rounds_with_objects += u64::from(RawPeer::old(&daemon.socket()).check_nothing_is_held() > 0);
        rest.check(&mut daemon);
        check_client(&connect(&daemon.socket()), 100);
        progress(round, rounds, "rounds of three kills");
    }
    drop(orders);
    assert!(killer.wait().unwrap().success());
    assert!(rounds_with_objects > rounds / 2, "only {rounds_with_objects} rounds left objects: they died too early");
    rest.check(&mut daemon);
    report(&format!("{} clients killed with records under way: nothing left", 3 * rounds));
}

/// Calls until one says that the store is gone.
fn until_disconnected(mut call: impl FnMut(u64) -> Result<(), Error>, calls: &AtomicUsize) {
    for n in 0.. {
        match call(n) {
            Ok(()) => calls.fetch_add(1, Ordering::Relaxed),
            Err(Error::Disconnected(_)) => return,
            Err(error) => panic!("{error}"),
        };
    }
}

#[test]
fn a_store_that_is_killed_ends_all_calls() {
    let _watchdog = Watchdog::new("a_store_that_is_killed_ends_all_calls");
    for round in 0..times(5, 200) {
        let mut daemon = Daemon::start(16 * MEBIBYTE);
        let (client, calls) = (connect(&daemon.socket()), AtomicUsize::new(0));
        let (client, calls) = (&client, &calls);
        let name = |thread: u64, n: u64| id(thread << 32 | n);
        let call = |thread: u64| {
            move |n: u64| match thread {
                0 => client.put(name(0, n), &pattern(n, 3000), b"", PUT),
                1 => client.put_async(name(1, n), &pattern(n, 3000), b"", PUT),
                2 => client.put_async(name(2, n), b"", b"", PUT).and_then(|()| client.flush()).map(drop),
                3 => client.create(name(3, n), 300, b"", PUT).map(drop).and_then(|()| client.seal_async(name(3, n))),
                4 => client.delete(&[name(0, n)]).map(drop),
                // Nobody puts these.
                thread => client.get_one(name(thread, n), [-1, 1_000_000][n as usize % 2], GET).map(drop),
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || until_disconnected(call(n), calls))).collect();
            eventually(|| calls.load(Ordering::Relaxed) > 100);
            std::thread::sleep(Duration::from_millis(round % 20));
            daemon.signal(Signal::SIGKILL);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        daemon.wait();
        assert!(matches!(client.put(id(1), b"", b"", PUT), Err(Error::Disconnected(_))));
        assert!(matches!(client.get_one(id(1), -1, GET), Err(Error::Disconnected(_))));
        assert!(process::descriptors(std::process::id()) > 0);
    }
}
