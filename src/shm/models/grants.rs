//! Grants: nobody writes in room that the store has taken back.

use super::super::ring::grants::{Grantee, Grantor};
use super::super::ring::{PEER_WORDS, STORE_WORDS};
use super::*;

pub(super) const USE_STEPS: &[Step] = &[Step::UseFirst, Step::UseBarrier, Step::UseOrder, Step::RevokeBarrier];

/// A peer fills what it was granted, and leaves it, while the store takes it back for something else. Then both look again.
fn use_and_revoke() {
    let (peers, stores) = (Words::private(PEER_WORDS), Words::private(STORE_WORDS));
    let (grantee, grantor) = (Grantee::new(&peers, &stores).unwrap(), Grantor::new(&peers, &stores).unwrap());
    let room = Bytes::new(0);
    grantor.grant(1);
    let theirs = room.clone();
    let peer = thread::spawn(move || {
        let was_used = grantee.begin(1);
        if was_used {
            theirs.write(1);
            grantee.end(1);
        }
        (was_used, grantee)
    });
    let is_back = grantor.revoke(1);
    if is_back {
        room.write(2);
    }
    let (was_used, grantee) = peer.join().unwrap();
    assert!(is_back || was_used || grantor.revoke(1), "what nobody uses comes back");
    assert!(!grantee.begin(1), "what was taken back is not used again");
}

#[test]
fn room_that_was_taken_back_is_not_written() {
    check(use_and_revoke, USE_STEPS);
}
