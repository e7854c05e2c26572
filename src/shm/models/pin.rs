//! Get and release against evict and reuse.

use super::*;

pub(super) const STEPS: &[Step] = &[
    Step::PinFirst,
    Step::PinBarrier,
    Step::CompareId,
    Step::ReleaseOrder,
    Step::CondemnBarrier,
    Step::Scan,
    Step::PublishOrder,
];

/// Gets id 0, and checks that what it got is that, and complete.
fn get(peer: &Peer, bytes: &Bytes) {
    if let Lookup::Found((index, state)) = peer.find(&id(0)) {
        let Location { offset, metadata_size, .. } = peer.index().location(index);
        assert_eq!((offset, metadata_size), (0, 0), "another object");
        assert_eq!(bytes.read(), state.generation());
        peer.release(Held::new(index, state));
    }
}

/// The place of id 0 is reused for id 1, and in a second round for id 0 again, while peers get id 0.
fn pin_and_reclaim(peers: usize, rounds: u64) {
    let mut store = Store::new(1);
    let bytes = Bytes::new(0);
    let mut descriptor = store.insert(0);
    let threads: Vec<_> = (0..peers)
        .map(|_| {
            let ((peer, _), bytes) = (store.peer(), bytes.clone());
            thread::spawn(move || get(&peer, &bytes))
        })
        .collect();
    let mut generation = 0;
    for _ in 0..rounds {
        descriptor = match store.shared.evict(descriptor) {
            Ok(()) => {
                generation += 1;
                bytes.write(generation);
                store.insert(generation % 2)
            }
            Err(held) => held,
        };
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    store.shared.evict(descriptor).expect("nobody holds it any more");
}

#[test]
fn one_peer_that_gets_while_the_store_evicts() {
    check(|| pin_and_reclaim(1, 2), STEPS);
}

#[test]
fn two_peers_that_get_while_the_store_evicts() {
    check_three(|| pin_and_reclaim(2, 1));
}

/// Two threads of one process, with one row of pins.
#[test]
fn two_threads_of_a_peer_that_get_while_the_store_evicts() {
    let model = || {
        let mut store = Store::new(1);
        let bytes = Bytes::new(0);
        let descriptor = store.insert(0);
        let peer = Arc::new(store.peer().0);
        let (shared_peer, shared_bytes) = (peer.clone(), bytes.clone());
        let thread = thread::spawn(move || get(&shared_peer, &shared_bytes));
        let (shared_peer, shared_bytes) = (peer, bytes.clone());
        let other = thread::spawn(move || get(&shared_peer, &shared_bytes));
        if store.shared.evict(descriptor).is_ok() {
            bytes.write(1);
            store.insert(1);
        }
        thread.join().unwrap();
        other.join().unwrap();
    };
    check_three(model);
}
