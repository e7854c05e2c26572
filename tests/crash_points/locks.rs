//! A participant of a shared tensor dies at each step of its lock, while another waits for it: that one gets it, and is told if and
//! only if the dead one may have written.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use plasma_store::client::shared::SharedTensor;
use plasma_store::client::tensor::TensorOptions;
use plasma_store::crash::Point;
use plasma_store::error::Error;
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;

use crate::support::{Daemon, Watchdog, connect, eventually, report, times};
use crate::{CAPACITY, Death, ENDS, id};

const NAME: u64 = 1;
/// At each of them: whether the next one is told.
const STEPS: [(Point, bool); 4] =
    [(Point::LockTaken, false), (Point::LockWriting, true), (Point::LockWritten, false), (Point::LockFreed, false)];

/// No test, but what the test below starts: a participant that takes the lock until it dies.
#[test]
fn owner() {
    let Some(socket) = std::env::var_os("PLASMA_TEST_TENSOR").map(PathBuf::from) else { return };
    let client = connect(&socket);
    let shared = client.tensor_open_shared(id(NAME), 0).unwrap();
    loop {
        shared.lock(-1).unwrap();
        shared.unlock().unwrap();
    }
}

/// Whether who takes the lock is told of a dead owner, while one dies.
fn is_told(shared: &SharedTensor, mut command: Command, death: &Death) -> bool {
    let mut owner = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let heir = || {
        let mut told = 0;
        // As long as it lives, and once more.
        for lives in [true, false] {
            loop {
                match shared.lock(-1) {
                    Ok(()) => {}
                    Err(Error::OwnerDied(_)) => told += 1,
                    Err(error) => panic!("{error}"),
                }
                assert_eq!(shared.version() % 2, 1);
                shared.unlock().unwrap();
                // There is no queue: somebody else has a turn.
                std::thread::sleep(Duration::from_micros(200));
                if !lives || owner.try_wait().unwrap().is_some() {
                    break;
                }
            }
        }
        told
    };
    let told = std::thread::scope(|scope| scope.spawn(heir).join().unwrap());
    death.expect(&mut owner);
    assert!(told <= 1, "told {told} times");
    told == 1
}

#[cfg_attr(crash_points, test)]
fn an_owner_that_dies_at_any_step_of_the_lock_leaves_it_to_the_next_one() {
    let _watchdog = Watchdog::new("an_owner_that_dies_at_any_step_of_the_lock_leaves_it_to_the_next_one");
    let daemon = Daemon::start(CAPACITY);
    let client = connect(&daemon.socket());
    let layout = Layout::row_major(DType::from_dlpack(1, 64, 1).unwrap(), vec![10]).unwrap();
    let shared = client.tensor_share(id(NAME), &layout, TensorOptions::default(), false, |_| Ok(())).unwrap();
    for (point, is_to_be_told) in STEPS {
        for ((by, signal), hit) in ENDS.into_iter().flat_map(|end| (1..=times(4, 50)).map(move |hit| (end, hit))) {
            let death = Death { point, hit, by, signal };
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "locks::owner", "--nocapture", "--test-threads=1"]);
            command.env("PLASMA_TEST_TENSOR", daemon.socket());
            death.order(&mut command);
            assert_eq!(is_told(&shared, command, &death), is_to_be_told, "{death:?}");
            eventually(|| client.holders(id(NAME)).unwrap().len() == 1);
        }
    }
    shared.freeze(-1).unwrap();
    report(&format!("owners of a lock died at {STEPS:?}: whoever was to be told was"));
}
