//! Whose turn it is: nobody queues behind all that another one has submitted.

use nix::sys::signal::Signal;
use plasma_store::protocol::{Reply, Request};
use plasma_store::shm::ring::record::Record;

use crate::MEBIBYTE;
use crate::liars::Liar;
use crate::support::{Daemon, RawPeer, Watchdog, id};

/// How many objects a peer creates at once, and how large: to find memory for one takes longer than a turn.
const MANY: u64 = 24;
const SIZE: u64 = 8 * MEBIBYTE;

fn create(name: u64) -> Record {
    Record::Create { id: id(name), data_size: SIZE, metadata_size: 0, evict: false, ttl_ms: 0 }
}

/// How many objects there were when the store answered.
fn answered(peer: &mut RawPeer) -> u64 {
    let Some(Reply::Stats(stats)) = peer.next() else { panic!("no answer") };
    stats.objects
}

/// One peer has submitted many records that take long, and asks something by its socket. Another one that has submitted one, and asks as
/// well, is answered long before all of those are served; the first is answered after.
#[test]
fn who_has_little_to_ask_waits_for_few_of_the_records_of_who_has_much() {
    let _watchdog = Watchdog::new("who_has_little_to_ask_waits_for_few_of_the_records_of_who_has_much");
    // Nothing is made ready, so each object needs new memory.
    let daemon = Daemon::start_with((MANY + 2) * SIZE, |command| _ = command.args(["--pool", "0"]));
    let (mut much, mut little) = (Liar::new(&daemon), Liar::new(&daemon));
    daemon.freeze();
    (1..=MANY).for_each(|name| _ = much.submit(create(name)));
    little.submit(create(MANY + 1));
    [&mut much, &mut little].into_iter().for_each(|peer| peer.peer.send(&Request::Stats));
    daemon.signal(Signal::SIGCONT);
    let (before_little, before_much) = (answered(&mut little.peer), answered(&mut much.peer));
    assert!((1..=MANY / 2).contains(&before_little), "{before_little} records were served first");
    assert!(before_much >= MANY, "{before_much} of its own records were served before its request");
}
