//! Quotas: what a client reserves is its own, and no more than that. Figures are those of old Plasma's own tests.

use super::*;

const MEBIBYTE: i64 = 1 << 20;

impl Lab {
    fn set_quota(&mut self, peer: PeerId, quota: i64) -> Result<(), Refusal> {
        match self.ask(peer, Request::SetOptions { client_name: format!("peer{peer}"), quota }).as_slice() {
            [Reply::SetOptions { outcome }] => *outcome,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn grants_leave_three_tenths_for_all_and_come_once() {
    let mut lab = lab(10_000_000);
    let (one, two) = (lab.old(), lab.old());
    assert_eq!(lab.set_quota(one, 8 * MEBIBYTE), Err(Refusal::OutOfMemory));
    assert_eq!(lab.set_quota(one, -1), Err(Refusal::OutOfMemory));
    assert_eq!(lab.set_quota(one, 5 * MEBIBYTE), Ok(()));
    assert_eq!(lab.set_quota(one, 1), Err(Refusal::OutOfMemory), "a second time");
    assert_eq!(lab.set_quota(two, 3 * MEBIBYTE), Err(Refusal::OutOfMemory));
    assert_eq!(lab.set_quota(two, MEBIBYTE), Ok(()));
    assert_eq!(lab.figure("(global lru) capacity"), 10_000_000 - 6 * (1 << 20));
    lab.engine.disconnect(one);
    assert_eq!(lab.figure("(global lru) capacity"), 10_000_000 - (1 << 20));
    assert_eq!(lab.figure("num clients with quota"), 1);
}

#[test]
fn a_client_makes_room_among_its_own() {
    let mut lab = lab(10_000_000);
    let client = lab.old();
    lab.set_quota(client, 5 * MEBIBYTE).unwrap();
    lab.put(client, 1, 3 * MEBIBYTE);
    lab.put(client, 2, 3 * MEBIBYTE);
    assert_eq!(lab.names(), [2]);
    assert!(lab.create(client, 3, 7 * MEBIBYTE).unwrap_err().detail.contains("5242880"));
    assert_eq!(lab.names(), [2], "a create that cannot be evicts nothing");
    lab.put(client, 4, 4 * MEBIBYTE);
    assert_eq!(lab.names(), [4]);
    assert_eq!((lab.figure("(peer0) num objects"), lab.figure("(peer0) num evictions")), (1, 2));
}

#[test]
fn nobody_else_evicts_what_is_owned() {
    let mut lab = lab(1000);
    let (owner, other) = (lab.native(), lab.native());
    lab.set_quota(owner, 500).unwrap();
    lab.put(owner, 1, 400);
    lab.put(other, 2, 500);
    lab.put(other, 3, 500);
    assert_eq!(lab.names(), [1, 3]);
    assert!(lab.create(other, 4, 700).is_err());
    assert_eq!(lab.ask(other, Request::Evict { bytes: u64::MAX }), [Reply::Evict { bytes: 500 }]);
    assert_eq!(lab.names(), [1]);
}

#[test]
fn what_is_in_use_is_demoted_and_goes_with_the_others_later() {
    let mut lab = lab(1000);
    let (owner, reader) = (lab.old(), lab.old());
    lab.set_quota(owner, 500).unwrap();
    lab.put(owner, 1, 400);
    assert_eq!(lab.get(reader, &[1], 0), Some(vec![true]));
    lab.put(owner, 2, 400);
    assert_eq!((lab.names(), lab.figure("quota map size")), (vec![1, 2], 1));
    lab.release(reader, 1);
    assert_eq!(lab.ask(reader, Request::Evict { bytes: 1 }), [Reply::Evict { bytes: 400 }]);
    assert_eq!(lab.names(), [2]);
}

#[test]
fn what_a_client_leaves_behind_is_everybodys_oldest_first() {
    let mut lab = lab(1000);
    let (owner, reader) = (lab.native(), lab.native());
    lab.set_quota(owner, 700).unwrap();
    for name in 1..=3 {
        lab.put(owner, name, 200);
    }
    lab.ask(owner, Request::RefreshLru { ids: ids(&[1]) });
    lab.get(reader, &[3], 0);
    lab.create(owner, 4, 50).unwrap();
    lab.engine.disconnect(owner);
    assert_eq!(lab.names(), [1, 2, 3]);
    assert_eq!(lab.ask(reader, Request::Evict { bytes: 1 }), [Reply::Evict { bytes: 200 }]);
    assert_eq!(lab.names(), [1, 3], "2 was the oldest after 1 was refreshed");
    lab.release(reader, 3);
    assert_eq!(lab.ask(reader, Request::Evict { bytes: 400 }), [Reply::Evict { bytes: 400 }]);
    lab.check_empty();
}

#[test]
fn without_leave_to_evict_the_quota_is_counted_and_not_enforced() {
    let mut lab = lab(1000);
    let owner = lab.old();
    lab.set_quota(owner, 100).unwrap();
    let request = Request::Create {
        id: id(1),
        data_size: 300,
        metadata_size: 0,
        evict_if_full: false,
        device_num: 0,
        ttl_ms: 0,
        wait_ms: 0,
        immutable: false,
    };
    lab.create_with(owner, request).unwrap();
    assert_eq!(lab.used(), 300);
}
