//! Shared tensors between real processes: the lock and what becomes of it when its owner is killed, snapshots, the seal, and how long they
//! live.
//!
//! The other processes are this test program, started again with a part to play (`PLASMA_TEST_PART`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, ftruncate};
use plasma_store::client::shared::SharedTensor;
use plasma_store::client::tensor::{Tensor, TensorOptions};
use plasma_store::client::{Client, GetOptions};
use plasma_store::error::{Error, Result};
use plasma_store::protocol::{Reply, Request, ShareAction};
use plasma_store::shm::mapping::Mapping;
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;
use support::{Daemon, Random, RawPeer, Watchdog, connect, eventually, id, put};

const MEBIBYTE: u64 = 1 << 20;
const ELEMENTS: usize = 5000;
const ROUNDS: u64 = 200;
/// Elements of 8 bytes, of which the last begins behind what 31 bits can count.
const LARGE: usize = (1 << 28) + 512;
const CONTROL_BYTES: u64 = 8192;

fn layout(elements: usize) -> Layout {
    Layout::row_major(DType::from_dlpack(1, 64, 1).unwrap(), vec![elements as i64]).unwrap()
}

fn share(client: &Client, n: u64, keep: bool) -> SharedTensor {
    client.tensor_share(id(n), &layout(ELEMENTS), TensorOptions::default(), keep, |_| Ok(())).unwrap()
}

/// The elements, as all processes see them.
fn elements(tensor: &Tensor) -> Vec<&AtomicU64> {
    let first: *mut AtomicU64 = tensor.data().cast();
    // SAFETY: so many elements lie there, aligned, for as long as the tensor is borrowed; all access to them here is atomic.
    (0..ELEMENTS).map(|at| unsafe { &*first.add(at) }).collect()
}

/// The element at a place that the tensor has.
fn element(tensor: &Tensor, at: usize) -> &AtomicU64 {
    // SAFETY: as above, for one of them.
    unsafe { &*tensor.data().cast::<AtomicU64>().add(at) }
}

/// Adds to each element, in two steps that nobody else may come between.
fn add(tensor: &Tensor, number: u64) {
    let elements = elements(tensor);
    let old: Vec<u64> = elements.iter().map(|element| element.load(Ordering::Relaxed)).collect();
    elements.iter().zip(old).for_each(|(element, old)| element.store(old + number, Ordering::Relaxed));
}

fn snapshot(shared: &SharedTensor, timeout_ms: i64) -> Result<(u64, Vec<u64>)> {
    let mut copy = vec![0; ELEMENTS];
    let version = shared.snapshot(timeout_ms, |data| {
        // SAFETY: as many elements lie there, and the copy has room for them; what is torn is thrown away.
        unsafe { std::ptr::copy_nonoverlapping(data.cast::<u64>(), copy.as_mut_ptr(), ELEMENTS) };
        Ok(())
    })?;
    Ok((version, copy))
}

/// What became of a call that waits for a lock.
fn told(outcome: Result<()>) -> &'static str {
    match outcome {
        Ok(()) => "in order",
        Err(Error::OwnerDied(_)) => "owner died",
        Err(other) => panic!("{other}"),
    }
}

/// A process that plays a part, and is killed in the end.
struct Part {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Part {
    fn start(socket: &Path, part: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "part", "--nocapture", "--test-threads=1"]);
        command.env("PLASMA_TEST_SOCKET", socket).env("PLASMA_TEST_PART", part);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing that it says.
    fn says(&mut self) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        let said = lines.find_map(|line| line.split_once("PART: ").map(|(_, said)| said.to_owned()));
        said.expect("the part ended early")
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

/// No test, but what others start.
#[test]
fn part() {
    let Some(socket) = std::env::var_os("PLASMA_TEST_SOCKET").map(PathBuf::from) else { return };
    let client = connect(&socket);
    let shared = client.tensor_open_shared(id(1), -1).unwrap();
    let tensor = shared.tensor().unwrap();
    match std::env::var("PLASMA_TEST_PART").unwrap().as_str() {
        "add" => (0..ROUNDS).for_each(|_| {
            shared.lock(-1).unwrap();
            add(&tensor, 1);
            shared.unlock().unwrap();
        }),
        "die" => {
            shared.lock(-1).unwrap();
            elements(&tensor)[..ELEMENTS / 2].iter().for_each(|element| element.store(7, Ordering::Relaxed));
        }
        "inherit" => {
            println!("PART: waits");
            println!("PART: {}", told(shared.lock(-1)));
            shared.unlock().unwrap();
        }
        "last" => {
            let last = element(&tensor, LARGE - 1);
            println!("PART: {}", last.load(Ordering::Relaxed));
            last.store(8, Ordering::Relaxed);
        }
        "open" => {}
        other => panic!("{other}"),
    }
    println!("PART: done");
    loop {
        std::thread::park();
    }
}

#[test]
fn processes_add_under_the_lock_and_snapshots_are_whole() {
    let _watchdog = Watchdog::new("processes_add_under_the_lock_and_snapshots_are_whole");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    let mut parts = [(); 3].map(|()| Part::start(&daemon.socket(), "add"));
    let all = ROUNDS * parts.len() as u64;
    let mut seen = 0;
    while seen < all {
        let (version, copy) = snapshot(&shared, -1).unwrap();
        assert!(copy.iter().all(|element| *element == copy[0]), "a torn snapshot of version {version}");
        assert_eq!(version, 2 * copy[0], "as often as somebody added");
        seen = copy[0];
    }
    parts.iter_mut().for_each(|part| assert_eq!(part.says(), "done"));
    assert_eq!(shared.version(), 2 * all);
    parts.into_iter().for_each(Part::kill);
}

#[test]
fn one_is_told_of_an_owner_who_was_killed() {
    let _watchdog = Watchdog::new("one_is_told_of_an_owner_who_was_killed");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    let mut owner = Part::start(&daemon.socket(), "die");
    assert_eq!(owner.says(), "done");
    assert!(matches!(shared.lock(0), Err(Error::Timeout(0))));
    assert!(matches!(snapshot(&shared, 10), Err(Error::Timeout(10))));
    let mut heirs = [(); 2].map(|()| Part::start(&daemon.socket(), "inherit"));
    heirs.iter_mut().for_each(|heir| assert_eq!(heir.says(), "waits"));
    owner.kill();
    let mut told = heirs.each_mut().map(Part::says);
    told.sort();
    assert_eq!(told, ["in order", "owner died"]);
    assert_eq!((shared.lock(-1).map_err(|error| error.to_string()), shared.version()), (Ok(()), 5));
    shared.unlock().unwrap();
    heirs.into_iter().for_each(Part::kill);
}

#[test]
fn what_a_killed_writer_left_is_neither_copied_nor_frozen_before_it_is_in_order() {
    let _watchdog = Watchdog::new("what_a_killed_writer_left_is_neither_copied_nor_frozen_before_it_is_in_order");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    let mut owner = Part::start(&daemon.socket(), "die");
    assert_eq!(owner.says(), "done");
    owner.kill();
    let left = loop {
        match snapshot(&shared, 10) {
            // The store has not noticed yet.
            Err(Error::Timeout(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(left, Err(Error::Corrupt(_))), "{left:?}");
    assert!(matches!(shared.freeze(-1), Err(Error::Corrupt(_))));
    assert_eq!(told(shared.lock(-1)), "owner died");
    assert_eq!(snapshot(&shared, 0).unwrap().1[..2], [7, 7], "the owner sees what is there");
    shared.unlock().unwrap();
    shared.freeze(-1).unwrap();
}

#[test]
fn a_freeze_names_the_holders_and_waits_for_them() {
    let _watchdog = Watchdog::new("a_freeze_names_the_holders_and_waits_for_them");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let (client, reader) = (connect(&daemon.socket()), connect(&daemon.socket()));
    let shared = share(&client, 1, false);
    add(&shared.tensor().unwrap(), 3);
    let mut part = Part::start(&daemon.socket(), "open");
    assert_eq!(part.says(), "done");
    let holders = reader.holders(id(1)).unwrap();
    assert!(holders.len() == 2 && holders[1].contains(&part.pid()), "{holders:?}");
    for timeout_ms in [0, 30] {
        let Err(Error::Busy(text)) = shared.freeze(timeout_ms) else { panic!("it is not frozen") };
        assert!(text.contains(&part.pid()) && !text.contains(&format!("{} ", std::process::id())), "{text}");
    }
    // It is shared as before.
    add(&shared.tensor().unwrap(), 1);
    std::thread::scope(|scope| {
        let frozen = scope.spawn(|| shared.freeze(-1));
        part.kill();
        frozen.join().unwrap().unwrap();
    });
    let tensor = reader.tensor_read(id(1), -1, GetOptions::default()).unwrap();
    assert!(tensor.is_read_only() && tensor.memory.is_immutable());
    let first = tensor.data().cast::<[u64; ELEMENTS]>();
    // SAFETY: so many elements lie there, which nobody can write any more.
    assert!(unsafe { &*first }.iter().all(|element| *element == 4));
    for refused in [shared.lock(0), shared.freeze(0), shared.tensor().map(drop), snapshot(&shared, 0).map(drop)] {
        assert!(matches!(refused, Err(Error::ObjectAlreadySealed(_))), "{refused:?}");
    }
    assert!(matches!(reader.tensor_open_shared(id(1), -1), Err(Error::ObjectAlreadySealed(_))));
    assert!(matches!(reader.holders(id(1)), Err(Error::ObjectNotFound(_))));
}

#[test]
fn own_arrays_and_own_threads_keep_it_from_being_frozen() {
    let _watchdog = Watchdog::new("own_arrays_and_own_threads_keep_it_from_being_frozen");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    let tensor = shared.tensor().unwrap();
    let Err(Error::Busy(text)) = shared.freeze(-1) else { panic!("an array lies there") };
    assert!(text.contains("1 arrays"), "{text}");
    drop(tensor);
    let (locks, ends) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            shared.lock(-1).unwrap();
            locks.wait();
            ends.wait();
            shared.unlock().unwrap();
        });
        locks.wait();
        assert!(matches!(shared.freeze(-1), Err(Error::Busy(_))), "another thread has the lock");
        ends.wait();
    });
    shared.lock(-1).unwrap();
    shared.freeze(-1).unwrap();
    shared.unlock().unwrap();
}

#[test]
fn a_thread_that_ends_with_the_lock_and_a_handle_that_is_closed_with_it_leave_it_to_the_next_one() {
    let _watchdog =
        Watchdog::new("a_thread_that_ends_with_the_lock_and_a_handle_that_is_closed_with_it_leave_it_to_the_next_one");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| shared.lock(-1).unwrap());
        let waits = scope.spawn(|| (told(shared.lock(-1)), shared.unlock().unwrap()).0);
        ends.join().unwrap();
        // The second may have been first.
        let outcome = waits.join().unwrap();
        let left = if outcome == "in order" { told(shared.lock(-1)) } else { outcome };
        assert_eq!(left, "owner died");
    });
    let _ = shared.unlock();
    let other = connect(&daemon.socket()).tensor_open_shared(id(1), 0).unwrap();
    shared.lock(-1).unwrap();
    drop(shared);
    assert_eq!(told(other.lock(-1)), "owner died");
    other.unlock().unwrap();
}

#[test]
fn it_ends_with_its_last_holder_or_is_kept_as_was_chosen() {
    let _watchdog = Watchdog::new("it_ends_with_its_last_holder_or_is_kept_as_was_chosen");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    let mut part = Part::start(&daemon.socket(), "open");
    assert_eq!(part.says(), "done");
    drop(shared);
    assert_eq!(client.holders(id(1)).unwrap().len(), 1);
    part.kill();
    eventually(|| client.list().unwrap().is_empty());
    assert!(matches!(client.tensor_open_shared(id(1), 0), Err(Error::ObjectNotFound(_))));
    assert!(matches!(client.tensor_open_shared(id(1), 20), Err(Error::Timeout(20))));
    let kept = share(&client, 2, true);
    add(&kept.tensor().unwrap(), 9);
    drop((kept, connect(&daemon.socket()).tensor_open_shared(id(2), 0).unwrap()));
    assert_eq!(client.holders(id(2)).unwrap(), Vec::<String>::new());
    let again = client.tensor_open_shared(id(2), 0).unwrap();
    assert_eq!(snapshot(&again, 0).unwrap(), (0, vec![9; ELEMENTS]));
    client.delete(&[id(2)]).unwrap()[0].as_ref().unwrap_err();
    drop(again);
    assert!(client.list().unwrap().is_empty());
    assert_eq!(client.stats().unwrap().used_bytes, 0);
}

#[test]
fn a_new_one_is_zero_where_other_objects_were_and_has_what_it_was_filled_with() {
    let _watchdog = Watchdog::new("a_new_one_is_zero_where_other_objects_were_and_has_what_it_was_filled_with");
    let daemon = Daemon::start(4 * MEBIBYTE);
    let client = connect(&daemon.socket());
    for n in 10..40 {
        put(&client, id(n), &vec![0xee; MEBIBYTE as usize]);
        client.delete(&[id(n)]).unwrap();
        let shared = share(&client, n, false);
        assert_eq!(snapshot(&shared, 0).unwrap(), (0, vec![0; ELEMENTS]));
        elements(&shared.tensor().unwrap()).iter().for_each(|element| element.store(!0, Ordering::Relaxed));
    }
    let fill = |data: *mut u8| {
        // SAFETY: there is room for so many elements, which nobody else has.
        (0..ELEMENTS).for_each(|at| unsafe { data.cast::<u64>().add(at).write(at as u64) });
        Ok(())
    };
    let full = client.tensor_share(id(1), &layout(ELEMENTS), TensorOptions::default(), false, fill).unwrap();
    assert!(snapshot(&full, 0).unwrap().1.into_iter().eq(0..ELEMENTS as u64));
    let failed = client.tensor_share(id(2), &layout(ELEMENTS), TensorOptions::default(), false, |_| {
        Err(Error::Unsupported("on purpose".into()))
    });
    assert!(failed.is_err() && client.list().unwrap().len() == 1);
    let twice = client.tensor_share(id(1), &layout(1), TensorOptions::default(), false, |_| Ok(()));
    assert!(matches!(twice, Err(Error::ObjectExists(_))));
}

#[test]
fn more_than_two_gibibytes_are_shared_locked_and_frozen() {
    let _watchdog = Watchdog::new("more_than_two_gibibytes_are_shared_locked_and_frozen");
    let daemon = Daemon::start(8 * LARGE as u64 + MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = client.tensor_share(id(1), &layout(LARGE), TensorOptions::default(), false, |_| Ok(())).unwrap();
    assert_eq!(shared.nbytes(), 8 * LARGE as u64);
    let tensor = shared.tensor().unwrap();
    shared.lock(-1).unwrap();
    element(&tensor, LARGE - 1).store(7, Ordering::Relaxed);
    shared.unlock().unwrap();
    let mut other = Part::start(&daemon.socket(), "last");
    assert_eq!((other.says(), other.says()), ("7".to_owned(), "done".to_owned()));
    let ends = |data: *const u8| {
        // SAFETY: so many elements lie there, and nobody writes them any more.
        [0, LARGE - 1].map(|at| unsafe { data.cast::<u64>().add(at).read() })
    };
    let mut seen = [1; 2];
    let version = shared.snapshot(-1, |data| {
        seen = ends(data);
        Ok(())
    });
    assert_eq!((version.unwrap(), seen), (2, [0, 8]));
    other.kill();
    drop(tensor);
    shared.freeze(-1).unwrap();
    let sealed = client.tensor_read(id(1), 0, GetOptions::default()).unwrap();
    assert_eq!((sealed.layout.nbytes(), ends(sealed.data())), (8 * LARGE as u64, [0, 8]));
}

#[test]
fn threads_take_turns_and_nobody_waits_for_itself() {
    let _watchdog = Watchdog::new("threads_take_turns_and_nobody_waits_for_itself");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    let again = client.tensor_open_shared(id(1), 0).unwrap();
    assert_eq!(client.holders(id(1)).unwrap().len(), 1, "two handles are one participant");
    std::thread::scope(|scope| {
        for handle in [&shared, &again, &shared] {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    handle.lock(-1).unwrap();
                    add(&handle.tensor().unwrap(), 1);
                    handle.unlock().unwrap();
                }
            });
        }
    });
    assert_eq!(snapshot(&shared, 0).unwrap().1, vec![3 * ROUNDS; ELEMENTS]);
    drop(again);
    shared.lock(0).unwrap();
    assert!(matches!(shared.lock(-1), Err(Error::Busy(_))), "it would wait for itself");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (shared.lock(10), shared.lock(-1), shared.unlock()));
        eventually(|| {
            client.interrupt();
            waiting.is_finished()
        });
        let (late, interrupted, unlocked) = waiting.join().unwrap();
        assert!(matches!(late, Err(Error::Timeout(10) | Error::Interrupted)), "{late:?}");
        assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
        assert!(matches!(unlocked, Err(Error::InvalidArgument(_))), "{unlocked:?}");
    });
    shared.unlock().unwrap();
    assert!(matches!(shared.unlock(), Err(Error::InvalidArgument(_))));
    for refused in [shared.lock(-2), shared.freeze(-2), client.tensor_open_shared(id(1), -2).map(drop)] {
        assert!(matches!(&refused, Err(Error::InvalidArgument(text)) if text.contains("-2")), "{refused:?}");
    }
}

#[test]
fn whoever_waits_for_a_lock_is_told_that_the_store_is_gone() {
    let _watchdog = Watchdog::new("whoever_waits_for_a_lock_is_told_that_the_store_is_gone");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    shared.lock(0).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| shared.lock(-1));
        drop(daemon);
        assert!(matches!(waiting.join().unwrap(), Err(Error::Disconnected(_))));
    });
    // What is mapped stays.
    add(&shared.tensor().unwrap(), 1);
    shared.unlock().unwrap();
    shared.lock(0).unwrap();
}

#[test]
fn a_forked_child_has_the_same_memory_and_keeps_it_from_being_frozen() {
    let _watchdog = Watchdog::new("a_forked_child_has_the_same_memory_and_keeps_it_from_being_frozen");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    let tensor = shared.tensor().unwrap();
    let ((mut hears, mut told), (mut hears_child, mut child_tells)) = (pipe().unwrap(), pipe().unwrap());
    // SAFETY: the child does nothing that another thread's locks could keep it from, allocation apart, which fork takes care of.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop((told, hears_child));
            let is_forked = matches!(shared.lock(0), Err(Error::Forked)) && shared.tensor().is_err();
            add(&tensor, 5);
            let _ = child_tells.write_all(&[u8::from(is_forked)]);
            let _ = hears.read_exact(&mut [0]);
            drop((tensor, shared));
            let _ = child_tells.write_all(&[2]);
            let _ = hears.read_exact(&mut [0]);
            // SAFETY: it ends at once, and runs nothing that was the parent's.
            unsafe { libc::_exit(0) }
        }
    };
    drop((hears, child_tells));
    let mut said = [0];
    hears_child.read_exact(&mut said).unwrap();
    assert_eq!((said, elements(&tensor)[0].load(Ordering::Relaxed)), ([1], 5));
    drop(tensor);
    let Err(Error::Busy(text)) = shared.freeze(0) else { panic!("the child can write it") };
    assert!(text.contains("forked"), "{text}");
    told.write_all(&[0]).unwrap();
    hears_child.read_exact(&mut said).unwrap();
    shared.freeze(-1).unwrap();
    told.write_all(&[0]).unwrap();
    assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0))));
}

/// All that can be written into a control file, until it is over.
fn make_noise(control: &OwnedFd, is_over: &AtomicBool) {
    let mut random = Random(1);
    let mapping = Mapping::read_write(control, CONTROL_BYTES).unwrap();
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    while !is_over.load(Ordering::Relaxed) {
        let (at, bytes) = (8 * random.below(CONTROL_BYTES / 8), random.bytes(8));
        mapping.write(at, &bytes).unwrap();
        match random.below(50) {
            0 => fallocate(control, hole, 0, CONTROL_BYTES as i64).unwrap(),
            // The words that locks are made of, most of all.
            1..40 => mapping.write(8 * (24 + random.below(2)), &random.bytes(8)).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn a_participant_that_writes_noise_harms_nobody_but_those_who_share_with_it() {
    let _watchdog = Watchdog::new("a_participant_that_writes_noise_harms_nobody_but_those_who_share_with_it");
    let mut daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let (shared, quiet) = (share(&client, 1, false), share(&client, 2, false));
    let mut hostile = RawPeer::pulling(&daemon.socket());
    let reply = hostile.ask(&Request::Share { id: id(1), action: ShareAction::Join });
    assert!(matches!(reply, Reply::Share { outcome: Ok(_) }), "{reply:?}");
    let control = hostile.descriptors.pop_back().unwrap();
    for length in [0, 2 * CONTROL_BYTES as i64] {
        assert_eq!(ftruncate(&control, length), Err(Errno::EPERM));
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| make_noise(&control, &is_over));
        for round in 0..ROUNDS {
            // Whatever they say, they end.
            let _ = (shared.lock(1), shared.version(), shared.unlock(), snapshot(&shared, 1), shared.freeze(0));
            let another = connect(&daemon.socket()).tensor_open_shared(id(1), 0).map(|other| other.lock(1));
            assert!(matches!(another, Ok(_) | Err(Error::Protocol(_))), "{another:?}");
            put(&client, id(100 + round), b"others");
            quiet.lock(0).unwrap();
            quiet.unlock().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(snapshot(&quiet, 0).unwrap(), (2 * ROUNDS, vec![0; ELEMENTS]));
    drop(hostile);
    eventually(|| client.holders(id(1)).unwrap().len() == 1);
    drop((shared, quiet));
    assert_eq!(client.list().unwrap().len() as u64, ROUNDS);
    daemon.check_healthy();
}

#[test]
fn holders_who_are_killed_at_any_moment_leave_nothing() {
    let _watchdog = Watchdog::new("holders_who_are_killed_at_any_moment_leave_nothing");
    let daemon = Daemon::start(16 * MEBIBYTE);
    let client = connect(&daemon.socket());
    let shared = share(&client, 1, false);
    for round in 0..20 {
        let parts = [(); 2].map(|()| Part::start(&daemon.socket(), "add"));
        std::thread::sleep(Duration::from_millis(7 * round));
        parts.into_iter().for_each(Part::kill);
        // Whoever was killed while it added left elements of two sums; the next one is told and puts them in order.
        if told(shared.lock(-1)) == "owner died" {
            let tensor = shared.tensor().unwrap();
            let least = elements(&tensor).iter().map(|element| element.load(Ordering::Relaxed)).min().unwrap();
            elements(&tensor).iter().for_each(|element| element.store(least, Ordering::Relaxed));
        }
        shared.unlock().unwrap();
        let (_, copy) = snapshot(&shared, -1).unwrap();
        assert!(copy.iter().all(|element| *element == copy[0]), "somebody was not told");
    }
    eventually(|| client.holders(id(1)).unwrap().len() == 1);
    shared.freeze(-1).unwrap();
}
