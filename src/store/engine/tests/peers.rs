//! Hello and goodbye: what a connection may say, and what is left when it ends. In every state: nothing.

use super::*;

#[test]
fn a_native_peer_says_hello_once_and_an_old_one_as_often_as_it_likes() {
    let mut lab = lab(1234);
    let (old, native) = (lab.old(), lab.native());
    for _ in 0..2 {
        let replies = lab.ask(old, Request::Connect { abilities: 0 });
        assert_eq!(replies, [Reply::Connect { capacity: 1234, abilities: 0 }]);
    }
    let unknown = lab.ask(old, Request::Connect { abilities: 2 });
    assert_eq!(unknown, [Reply::Connect { capacity: 1234, abilities: 0 }], "what we cannot do is not promised");
    assert!(lab.ask_and_be_closed(native, Request::Connect { abilities: 1 }).contains("hello"));
}

#[test]
fn requests_of_a_peer_that_is_gone_do_nothing() {
    let mut lab = lab(1000);
    let peer = lab.native();
    lab.engine.disconnect(peer);
    lab.engine.disconnect(peer);
    lab.send(peer, create_of(1, 10, 0));
    lab.send(peer, Request::Get { ids: ids(&[1]), timeout_ms: -1 });
    lab.check_empty();
}

#[test]
fn a_goodbye_takes_back_what_was_left_unfinished_and_keeps_what_was_sealed() {
    for native in [false, true] {
        let mut lab = lab(10_000);
        let (leaver, stayer) = (if native { lab.native() } else { lab.old() }, lab.native());
        lab.put(stayer, 1, 100);
        lab.put(leaver, 2, 100);
        lab.create(leaver, 3, 100).unwrap();
        lab.seal(leaver, 3).unwrap();
        lab.create(leaver, 4, 100).unwrap();
        lab.get(leaver, &[1, 2, 1], 0);
        lab.get(leaver, &[1], 0);
        assert_eq!(lab.get(stayer, &[4], -1), None);
        for timeout in [-1, 50, 60] {
            assert_eq!(lab.get(leaver, &[1, 4, 77], timeout), None);
        }
        lab.engine.disconnect(leaver);
        lab.pass(1000);
        assert_eq!(lab.replies(), [], "nobody is answered who is gone");
        assert_eq!(lab.names(), [1, 2, 3]);
        assert_eq!((lab.used(), lab.figure("pinned bytes")), (300, 0));
        // The id is free again, and the one who waits for it gets the new object.
        lab.create(stayer, 4, 50).unwrap();
        let replies = lab.ask(stayer, Request::Seal { id: id(4), digest: [0; 8] });
        assert_eq!(found_in(&replies[0], &[4]), [true]);
        lab.engine.disconnect(stayer);
        assert_eq!(lab.ask(leaver, Request::Evict { bytes: u64::MAX }), [], "it is gone");
        let last = lab.old();
        assert_eq!(lab.ask(last, Request::Evict { bytes: u64::MAX }), [Reply::Evict { bytes: 350 }]);
        lab.check_empty();
    }
}

#[test]
fn the_debug_string_speaks_as_old_plasma_did() {
    let mut lab = lab(1000);
    let peer = lab.old();
    lab.put(peer, 1, 100);
    lab.create(peer, 2, 50).unwrap();
    let replies = lab.ask(peer, Request::GetDebugString);
    let [Reply::DebugString(text)] = replies.as_slice() else { panic!("{replies:?}") };
    let keys: Vec<&str> = text.lines().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = [
        "num clients with quota",
        "quota map size",
        "pinned quota map size",
        "allocated bytes",
        "allocation limit",
        "pinned bytes",
        "(global lru) capacity",
        "(global lru) used",
        "(global lru) num objects",
        "(global lru) num evictions",
        "(global lru) bytes evicted",
    ];
    assert_eq!(keys, expected);
    assert_eq!((lab.figure("allocated bytes"), lab.figure("pinned bytes")), (150, 50));
    assert_eq!((lab.figure("(global lru) used"), lab.figure("(global lru) num objects")), (10, 1));
}

#[test]
fn a_goodbye_ends_the_connection() {
    let mut lab = lab(1000);
    let peer = lab.old();
    assert!(lab.ask_and_be_closed(peer, Request::Disconnect).contains("goodbye"));
}
