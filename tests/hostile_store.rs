//! Stores that lie, and what listens there and is no store: clients tell what is wrong, and keep nothing that they did not ask for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::unistd::pipe;
use plasma_store::client::{Client, ConnectOptions};
use plasma_store::error::{Error, Result};
use plasma_store::protocol::frame::{Dialect, encode};
use plasma_store::protocol::{Reply, Request, Shared};
use plasma_store::transport::fd_passing::send_descriptor;
use plasma_store::transport::stream::Inbox;
use support::{Watchdog, connect, id};

/// Plays a store for one connection, while `play` is one of its clients.
fn beside<T>(store: impl FnOnce(UnixStream) + Send, play: impl FnOnce(&Path) -> T) -> T {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || store(listener.accept().unwrap().0));
        play(&socket)
    })
}

/// Connects to a listener that answers a hello with these bytes, and then hangs up or waits.
fn connect_to_impostor(answer: &[u8], hang_up: bool) -> Error {
    let impostor = |mut stream: UnixStream| {
        let mut hello = [0; 256];
        assert!(stream.read(&mut hello).unwrap() > 24);
        stream.write_all(answer).unwrap();
        if !hang_up {
            let _ = stream.read(&mut hello);
        }
    };
    beside(impostor, |socket| Client::connect(Some(socket), ConnectOptions::default()).unwrap_err())
}

#[test]
fn whoever_is_no_store_of_ours_is_recognised() {
    let _watchdog = Watchdog::new("whoever_is_no_store_of_ours_is_recognised");
    let (message_type, body) = Reply::Connect { capacity: 10_000_000, abilities: 0 }.encode(Dialect::Plasma);
    let old_store = connect_to_impostor(&encode(Dialect::Plasma, message_type, 0, &body), false);
    assert!(matches!(&old_store, Error::UnsupportedPeer(text) if text.contains("old Plasma")), "{old_store}");
    let (message_type, body) = Reply::DebugString("hello".into()).encode(Dialect::Plasma);
    let others = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), true),
        (vec![0xff; 100], false),
        (encode(Dialect::Plasma, 20, 0, b"no table"), false),
        (encode(Dialect::Plasma, message_type, 0, &body), false),
        (Vec::new(), true),
        (vec![0; 10], true),
    ];
    for (answer, hang_up) in others {
        let error = connect_to_impostor(&answer, hang_up);
        assert!(matches!(error, Error::UnsupportedPeer(_)), "{answer:?}: {error}");
    }
}

/// What a store sends behind an answer of which it said that a descriptor follows, or that none does.
enum Behind {
    Nothing,
    Descriptor(OwnedFd),
    Answer,
    End,
}

/// Answers what is asked about objects so once, and honestly but for that, until the client goes.
fn lie(mut stream: UnixStream, announces: bool, behind: Behind) {
    let (mut inbox, mut dialect, mut behind) = (Inbox::new(Dialect::Plasma), Dialect::Plasma, Some(behind));
    let told = |has_control| Shared { participants: vec!["somebody".into()], has_control, ..Shared::default() };
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        inbox.push(&bytes[..count]);
        while let Some(frame) = inbox.next_frame().unwrap() {
            let (reply, behind) = match Request::decode(frame.message_type, &frame.body).unwrap() {
                Request::Connect { abilities } => (Reply::Connect { capacity: 1 << 20, abilities }, None),
                Request::Index { .. } => (Reply::Index { outcome: Err("not here".into()) }, None),
                _ => (Reply::Share { outcome: Ok(told(announces && behind.is_some())) }, behind.take()),
            };
            let (message_type, body) = reply.encode(dialect);
            let answer = encode(dialect, message_type, frame.number, &body);
            // A client that has found out is gone.
            let _ = stream.write_all(&answer);
            match behind {
                None | Some(Behind::Nothing) => {}
                Some(Behind::Descriptor(gift)) => send_descriptor(stream.as_fd(), gift.as_fd()).unwrap(),
                Some(Behind::Answer) => stream.write_all(&answer).unwrap(),
                Some(Behind::End) => return,
            }
            dialect = Dialect::Native;
            inbox.set_dialect(dialect);
        }
    }
}

/// What a client of such a store says, and what of the next answer. It is still there when `end` is called.
fn heard(announces: bool, behind: Behind, ask: fn(&Client) -> Result<()>, end: impl FnOnce()) -> [Result<()>; 2] {
    beside(
        move |stream| lie(stream, announces, behind),
        |socket| {
            let client = connect(socket);
            let told = [ask(&client), client.contains(id(2)).map(drop)];
            end();
            told
        },
    )
}

fn join(client: &Client) -> Result<()> {
    client.tensor_open_shared(id(1), 0).map(drop)
}

fn check(told: [Result<()>; 2], expected: [&str; 2]) {
    let told = told.map(|told| told.map_or_else(|error| error.to_string(), |()| "done".into()));
    assert!(told.iter().zip(expected).all(|(told, expected)| told.contains(expected)), "{told:?}, not {expected:?}");
}

#[test]
fn a_store_that_lies_about_descriptors_is_told_so() {
    let _watchdog = Watchdog::new("a_store_that_lies_about_descriptors_is_told_so");
    let lost = "a descriptor did not come, 1 are missing";
    check(heard(true, Behind::Answer, join, || {}), [lost; 2]);
    check(heard(true, Behind::End, join, || {}), ["it closed the connection", "disconnected"]);
    check(heard(false, Behind::Nothing, join, || {}), ["the control file of object", "does not fit the question"]);
}

#[test]
fn descriptors_that_are_of_no_use_do_not_stay_in_the_client() {
    let _watchdog = Watchdog::new("descriptors_that_are_of_no_use_do_not_stay_in_the_client");
    let (unfit, out_of_step) = ("does not fit the question", "frame of version");
    let holders = |client: &Client| client.holders(id(1)).map(drop);
    let contains = |client: &Client| client.contains(id(1)).map(drop);
    let cases = [
        (true, join as fn(&Client) -> Result<()>, ["of a file of 0 bytes", unfit]),
        (true, holders, ["done", unfit]),
        (true, contains, [unfit; 2]),
        (false, join, ["the control file of object", out_of_step]),
        (false, holders, ["done", out_of_step]),
        (false, contains, [unfit, out_of_step]),
    ];
    for (announces, ask, expected) in cases {
        let (theirs, gift) = pipe().unwrap();
        // Ends when nobody has the other side any more.
        let is_closed = || assert_eq!(File::from(theirs).read(&mut [0]).unwrap(), 0);
        check(heard(announces, Behind::Descriptor(gift), ask, is_closed), expected);
    }
}
