//! Objects whose bytes come with the request: whole or not at all, and held by nobody afterwards.

use super::*;

fn object(name: u8, data: &[u8], metadata: &[u8]) -> InlineObject {
    InlineObject { id: id(name), data: data.to_vec(), metadata: metadata.to_vec(), digest: [name; 8] }
}

fn batch(objects: Vec<InlineObject>) -> Request {
    Request::CreateAndSealBatch { objects, evict_if_full: true }
}

/// Why a batch was refused, and the object that was.
fn refused_batch(lab: &mut Lab, peer: PeerId, objects: Vec<InlineObject>) -> (Refused, Option<ObjectId>) {
    match lab.ask(peer, batch(objects)).as_slice() {
        [Reply::CreateAndSealBatch { outcome: Err(refused), id }] => (refused.clone(), *id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_sealed_written_and_nobodys() {
    let mut lab = lab(1000);
    let (maker, other) = (lab.old(), lab.native());
    let InlineObject { id, data, metadata, digest } = object(1, b"data", b"md");
    let request = Request::CreateAndSeal { id, evict_if_full: true, data, metadata, digest };
    assert_eq!(lab.ask(maker, request.clone()), [Reply::CreateAndSeal { outcome: Ok(()) }]);
    assert_eq!((lab.holders(1), lab.used(), lab.contains(other, 1)), (0, 6, true));
    assert_eq!(lab.pages.0.borrow().written, [(0, b"data".to_vec()), (4, b"md".to_vec())]);
    assert_eq!(lab.ask(maker, request), [Reply::CreateAndSeal { outcome: Err(Refusal::ObjectExists) }]);
    assert_eq!(lab.delete(other, &[1]), [Ok(())]);
    lab.check_empty();
}

#[test]
fn those_who_wait_are_answered_first_and_hold_it() {
    let mut lab = lab(1000);
    let (maker, waiter) = (lab.native(), lab.native());
    assert_eq!(lab.get(waiter, &[1, 2], -1), None);
    let replies = lab.ask(maker, batch(vec![object(1, b"a", b""), object(2, b"", b"")]));
    assert!(matches!(replies.as_slice(), [Reply::Get { .. }, Reply::CreateAndSealBatch { outcome: Ok(()), id: None }]));
    assert_eq!((lab.holders(1), lab.holders(2)), (1, 1));
}

#[test]
fn a_batch_is_made_whole_or_not_at_all() {
    let mut lab = lab(1000);
    let (maker, other) = (lab.old(), lab.old());
    lab.put(other, 3, 10);
    for (objects, refusal, culprit, text) in [
        (vec![object(1, b"a", b""), object(3, b"b", b"")], Refusal::ObjectExists, Some(3), "0303"),
        (
            vec![object(1, b"a", b""), object(2, b"b", b""), object(1, b"c", b"")],
            Refusal::ObjectExists,
            Some(1),
            "0101",
        ),
        (vec![object(1, b"a", b""), object(2, &[0; 1001], b"")], Refusal::OutOfMemory, Some(2), "1001 bytes"),
        (
            vec![object(1, &[0; 995], b""), object(2, b"123456", b"")],
            Refusal::OutOfMemory,
            None,
            "2 objects together: an object of 1001",
        ),
    ] {
        let refused = refused_batch(&mut lab, maker, objects);
        assert_eq!((refused.0.refusal, refused.1), (refusal, culprit.map(id)));
        assert!(refused.0.detail.contains(text), "{refused:?}");
        assert_eq!((lab.names(), lab.used()), (vec![3], 10), "nothing stays behind, and nothing was evicted for it");
    }
    assert_eq!(lab.ask(maker, batch(vec![])), [Reply::CreateAndSealBatch { outcome: Ok(()), id: None }]);
}

#[test]
fn a_shortage_of_pages_leaves_nothing_behind() {
    for failing in 1..4 {
        let mut lab = lab(64 << 20);
        let maker = lab.old();
        // Each failed call is tried once more, when what lay free was given back.
        lab.pages.0.borrow_mut().failures = failing..failing + 2;
        let objects = vec![object(1, &[1; 5000], b""), object(2, &vec![2; 20 << 20], b"")];
        assert_eq!(refused_batch(&mut lab, maker, objects).0.refusal, Refusal::OutOfMemory);
        lab.check_empty();
        lab.put(maker, 1, 100);
    }
}
