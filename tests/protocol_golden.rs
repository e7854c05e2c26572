//! Frames captured from Apache Arrow 11.0.0 mean to us what they meant there, and what we send means the same.
//!
//! The bytes lie in `tests/fixtures/plasma_frames.txt` with a remark on every field, the digests in
//! `tests/fixtures/digests.txt`.
// To clippy, what a test calls is no test.
#![allow(clippy::unwrap_used, clippy::panic)]

use plasma_store::error::Error;
use plasma_store::object::{Location, ObjectId, ObjectInfo, ObjectState};
use plasma_store::protocol::notification::{self, Event, Notification};
use plasma_store::protocol::{
    Dialect, Header, InlineObject, Refusal, Refused, Reply, Request, SegmentInfo, digest, frame,
};

const FRAMES: &str = include_str!("fixtures/plasma_frames.txt");
const DIGESTS: &str = include_str!("fixtures/digests.txt");
const ID1: ObjectId = ObjectId::new(*b"abcdefghijklmnopqrst");
const ID2: ObjectId = ObjectId::new([b'n'; 20]);
const DIGEST1: [u8; 8] = [0x95, 0x2b, 0xcc, 0x10, 0x6f, 0xf0, 0xe5, 0x28];
const PLACE1: Location = Location { segment: 4, offset: 64, data_size: 100, metadata_size: 5 };
const SEGMENT: SegmentInfo = SegmentInfo { key: 4, mmap_size: 10_092_544 };

/// The numbers behind `[name]`, and the body, whose length is checked against the last of them.
fn fixture(name: &str) -> (i64, Vec<u8>) {
    let title = format!("[{name}]");
    let mut lines = FRAMES.lines().skip_while(|line| !line.starts_with(&title));
    let head: Vec<i64> = hex_words(lines.next().unwrap_or_else(|| panic!("no {title}")));
    let mut body = Vec::new();
    for word in lines.take_while(|line| !line.starts_with('[')).flat_map(words) {
        match word.strip_prefix('*') {
            Some(times) => body.extend(vec![*body.last().unwrap(); times.parse::<usize>().unwrap() - 1]),
            None => body.push(u8::from_str_radix(word, 16).unwrap()),
        }
    }
    assert_eq!(body.len() as i64, *head.last().unwrap(), "{name}");
    (head[0], body)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#').next().unwrap_or_default().split_whitespace()
}

fn hex_words(title: &str) -> Vec<i64> {
    words(title).skip(1).map(|word| i64::from_str_radix(word, 16).unwrap()).collect()
}

/// The captured frame means `request`; so does ours, which has the same type, and no bytes that the old one saves.
#[track_caller]
fn check_request(name: &str, request: Request) {
    let (message_type, body) = fixture(name);
    assert_eq!(Request::decode(message_type, &body).unwrap(), request, "{name}");
    let (our_type, ours) = request.encode();
    assert_eq!(our_type, message_type, "{name}");
    assert_eq!(Request::decode(our_type, &ours).unwrap(), request, "{name}");
    assert!(ours.len() <= body.len() + 8, "{name}: {} bytes for {}", ours.len(), body.len());
}

#[track_caller]
fn check_reply(name: &str, reply: Reply) {
    let (message_type, body) = fixture(name);
    assert_eq!(Reply::decode(message_type, &body).unwrap(), reply, "{name}");
    for dialect in [Dialect::Plasma, Dialect::Native] {
        let (our_type, ours) = reply.encode(dialect);
        assert_eq!(our_type, message_type, "{name}");
        assert_eq!(Reply::decode(our_type, &ours).unwrap(), reply, "{name}");
        assert!(ours.len() <= body.len() + 8, "{name}: {} bytes for {}", ours.len(), body.len());
    }
}

#[test]
fn captured_requests() {
    check_request("connect_request", Request::Connect { abilities: 0 });
    check_request("subscribe_request", Request::Subscribe);
    check_request(
        "create_request",
        Request::Create {
            id: ID1,
            data_size: 100,
            metadata_size: 5,
            evict_if_full: true,
            device_num: 0,
            ttl_ms: 0,
            wait_ms: 0,
            immutable: false,
        },
    );
    check_request("seal_request", Request::Seal { id: ID1, digest: DIGEST1 });
    check_request("get_request", Request::Get { ids: vec![ID1], timeout_ms: -1 });
    check_request(
        "create_and_seal_request",
        Request::CreateAndSeal {
            id: ID2,
            evict_if_full: true,
            data: b"data1".to_vec(),
            metadata: b"md".to_vec(),
            digest: digest(b"data1", b"md"),
        },
    );
}

#[test]
fn captured_replies() {
    check_reply("connect_reply", Reply::Connect { capacity: 10_000_000, abilities: 0 });
    check_reply("create_reply", Reply::Create { id: ID1, outcome: Ok(PLACE1), segment: Some(SEGMENT) });
    let refused = Refused { refusal: Refusal::ObjectExists, detail: String::new() };
    check_reply("create_reply_exists", Reply::Create { id: ID1, outcome: Err(refused), segment: None });
    check_reply("seal_reply", Reply::Seal { id: ID1, outcome: Ok(()) });
    check_reply("get_reply", Reply::Get { ids: vec![ID1], locations: vec![Some(PLACE1)], segments: vec![SEGMENT] });
    check_reply("delete_reply", Reply::Delete { ids: vec![ID1], outcomes: vec![Err(Refusal::ObjectInUse)] });
    check_reply("create_and_seal_reply", Reply::CreateAndSeal { outcome: Ok(()) });
}

#[test]
fn captured_notifications() {
    let sealed = Event::Sealed { id: ID1, data_size: 100, metadata_size: 5, digest: DIGEST1 };
    for (name, event) in [("sealed_notification", sealed), ("deleted_notification", Event::Deleted { id: ID2 })] {
        let (length, body) = fixture(name);
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend(body);
        for frame in [&frame, &notification::encode(&[event])] {
            let told = Notification { events: vec![event], end: None };
            assert_eq!(notification::decode(frame).unwrap(), Some((told, frame.len())), "{name}");
            assert!((0..frame.len()).all(|short| notification::decode(&frame[..short]).unwrap().is_none()), "{name}");
        }
    }
    let both = [sealed, Event::Deleted { id: ID2 }];
    let mut stream = notification::encode(&both);
    let length = stream.len();
    stream.extend(notification::encode(&[sealed]));
    let told = Notification { events: both.to_vec(), end: None };
    assert_eq!(notification::decode(&stream).unwrap(), Some((told, length)));
}

#[test]
fn an_old_header_in_front_of_a_captured_body() {
    let (message_type, body) = fixture("connect_reply");
    let mut bytes = [0_i64, 0x14, 0x18].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    bytes.extend(&body);
    assert_eq!(frame::encode(Dialect::Plasma, message_type, 77, &body), bytes);
    let header = Header::decode(Dialect::Plasma, &bytes).unwrap();
    assert_eq!(header, Some(Header { message_type: 0x14, body_len: 0x18, number: 0 }));
}

#[test]
fn digests_are_those_of_old_clients() {
    let mut seen = 0;
    for line in DIGESTS.lines().filter(|line| !line.starts_with('#')) {
        let [data, metadata, expected] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
        let data: Vec<u8> = match data.split_once(':').unwrap() {
            ("text", text) => text.into(),
            ("zeros", length) => vec![0; length.parse().unwrap()],
            ("mod251", length) => (0..length.parse::<usize>().unwrap()).map(|i| (i % 251) as u8).collect(),
            (kind, _) => panic!("{kind}"),
        };
        let metadata = if metadata == "-" { "" } else { metadata };
        let hex: String = digest(&data, metadata.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{line}");
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// Where `string` lies in `body` as a FlatBuffers string: its length in front, a NUL behind.
fn holds_string(body: &[u8], string: &[u8]) -> bool {
    let mut framed = (string.len() as u32).to_le_bytes().to_vec();
    framed.extend_from_slice(string);
    framed.push(0);
    body.windows(framed.len()).any(|window| window == framed)
}

/// Debug builds of old peers look for the NUL, and want everything aligned from the start of the body.
#[test]
fn strings_of_any_bytes_end_in_a_nul() {
    let id = ObjectId::new([0xff; 20]);
    let (_, body) = Request::Seal { id, digest: [0x80; 8] }.encode();
    assert!(holds_string(&body, &[0xff; 20]) && holds_string(&body, &[0x80; 8]));
    let object = InlineObject { id, data: vec![0xfe; 3], metadata: vec![0xfd; 4], digest: [0x80; 8] };
    let batch = Request::CreateAndSealBatch { objects: vec![object.clone(), object], evict_if_full: false };
    let (message_type, body) = batch.encode();
    for string in [&[0xff; 20][..], &[0xfe; 3], &[0xfd; 4], &[0x80; 8]] {
        assert!(holds_string(&body, string));
    }
    assert_eq!(Request::decode(message_type, &body).unwrap(), batch);
}

/// Zeros are not on the wire: the dumps' own smallest bodies.
#[test]
fn zero_fields_are_left_out() {
    for dialect in [Dialect::Plasma, Dialect::Native] {
        let (_, captured) = fixture("create_and_seal_reply");
        assert_eq!(Reply::CreateAndSeal { outcome: Ok(()) }.encode(dialect).1.len(), captured.len());
        assert_eq!(Reply::RefreshLru.encode(dialect).1.len(), captured.len());
    }
    let (_, old) = Request::Connect { abilities: 0 }.encode();
    assert_eq!(old.len(), fixture("connect_request").1.len());
    let (message_type, ours) = Request::Connect { abilities: 1 }.encode();
    assert!(ours.len() > old.len());
    assert_eq!(Request::decode(message_type, &ours).unwrap(), Request::Connect { abilities: 1 });
}

/// An object that is not there: -1 for its size, all else zero, its id listed all the same.
#[test]
fn unavailable_objects_have_a_size_of_minus_one() {
    let reply = Reply::Get {
        ids: vec![ID2, ID1, ID2],
        locations: vec![None, Some(PLACE1), None],
        segments: vec![SEGMENT, SegmentInfo { key: 9, mmap_size: 4096 }],
    };
    let (message_type, body) = reply.encode(Dialect::Plasma);
    assert_eq!(Reply::decode(message_type, &body).unwrap(), reply);
    let mut unavailable = [0; 48];
    unavailable[16..24].fill(0xff);
    assert_eq!(body.windows(48).filter(|window| *window == unavailable).count(), 2);
    assert!(body.windows(8).any(|window| window == 4104_u64.to_le_bytes()), "4096 is announced as 8 more");
}

#[test]
fn the_state_in_a_list_is_the_length_of_the_digest() {
    let sealed = ObjectInfo {
        id: ID1,
        state: ObjectState::Sealed,
        data_size: 100,
        metadata_size: 5,
        ref_count: 2,
        create_time: 1_700_000_000,
        construct_duration: 3,
        digest: [0; 8],
        pinned: true,
    };
    let created = ObjectInfo { id: ID2, state: ObjectState::Created, construct_duration: -1, ..sealed.clone() };
    let reply = Reply::List { objects: vec![sealed, created] };
    let (message_type, body) = reply.encode(Dialect::Plasma);
    assert_eq!(Reply::decode(message_type, &body).unwrap(), reply);
}

/// Old clients abort on anything over 3, except in the reply to Delete, and never see our fields.
#[test]
fn old_clients_get_codes_that_they_survive() {
    let all = [1, 2, 3, 4, 5, 6].map(|code| {
        let (message_type, body) = fixture("create_reply_exists");
        let body = [&body[..0x48], &[code], &body[0x49..]].concat();
        let Ok(Reply::Create { outcome: Err(refused), .. }) = Reply::decode(message_type, &body) else { panic!() };
        assert_eq!(i32::from(code), refused.refusal.code());
        refused.refusal
    });
    let through = |reply: Reply, dialect| {
        let (message_type, body) = reply.encode(dialect);
        Reply::decode(message_type, &body).unwrap()
    };
    for refusal in all {
        let survivable = if refusal.code() <= 3 { refusal } else { Refusal::ObjectNotFound };
        let seal = |refusal| Reply::Seal { id: ID1, outcome: Err(refusal) };
        assert_eq!(through(seal(refusal), Dialect::Plasma), seal(survivable));
        assert_eq!(through(seal(refusal), Dialect::Native), seal(refusal));

        let create = |refusal, detail: &str| {
            let refused = Refused { refusal, detail: detail.into() };
            Reply::Create { id: ID1, outcome: Err(refused), segment: None }
        };
        assert_eq!(through(create(refusal, "why"), Dialect::Plasma), create(survivable, ""));
        assert_eq!(through(create(refusal, "why"), Dialect::Native), create(refusal, "why"));

        let abort = |outcome| Reply::Abort { id: ID1, outcome };
        assert_eq!(through(abort(Err(refusal)), Dialect::Plasma), abort(Ok(())));
        assert_eq!(through(abort(Err(refusal)), Dialect::Native), abort(Err(refusal)));

        let delete = Reply::Delete { ids: vec![ID1], outcomes: vec![Err(refusal)] };
        assert_eq!(through(delete.clone(), Dialect::Plasma), delete);
    }
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, Error>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error:?}");
    assert!(parts.iter().all(|part| error.to_string().contains(part)), "{error}");
}

/// Each captured frame with one thing wrong in it.
#[test]
fn refusals_name_the_message_and_the_number() {
    let broken = |name: &str, at: usize, byte: u8| {
        let (message_type, mut body) = fixture(name);
        assert_ne!(body[at], byte);
        body[at] = byte;
        (message_type, body)
    };
    let request = |(message_type, body): (i64, Vec<u8>)| Request::decode(message_type, &body);
    let reply = |(message_type, body): (i64, Vec<u8>)| Reply::decode(message_type, &body);
    refused(request(broken("seal_request", 0x18, 19)), &["PlasmaSealRequest", "id of 19 bytes"]);
    refused(request(broken("seal_request", 0x18, 21)), &["id of 21 bytes"]);
    refused(request(broken("seal_request", 0x34, 7)), &["digest of 7 bytes"]);
    refused(request(broken("seal_request", 0x0a, 0)), &["no digest in 68 bytes"]);
    refused(request(broken("get_request", 0x24, 200)), &["PlasmaGetRequest", "72 bytes"]);
    refused(reply(broken("delete_reply", 0x14, 2)), &["PlasmaDeleteReply", "count 2 for 1"]);
    refused(reply(broken("delete_reply", 0x44, 0)), &["0 errors, where 1"]);
    refused(reply(broken("delete_reply", 0x48, 9)), &["error code 9"]);
    refused(reply(broken("get_reply", 0x94, 0)), &["PlasmaGetReply", "0 segment sizes, where 1"]);
    refused(reply(broken("get_reply", 0x9a, 0)), &["segment 4 of 8 bytes"]);
    refused(reply(broken("get_reply", 0x70, 0xa5)), &["metadata at 165", "100 bytes of data at 64"]);
    refused(reply(broken("get_reply", 0x58, 0)), &["segment 0"]);
    refused(reply(broken("create_reply", 0x20, 5)), &["PlasmaCreateReply", "segment 5 for an object in 4"]);
    refused(reply(broken("create_reply", 0x50, 1)), &["device 1"]);
    refused(reply(broken("create_reply", 0x5c, 0)), &["id of 0 bytes"]);
    for message_type in [2, 12, 24, 25, 26, 27, 36, -1, i64::MAX] {
        refused(Request::decode(message_type, &[]), &["not a request"]);
    }
    for message_type in [1, 12, 24, 27, 99, 1000] {
        refused(Reply::decode(message_type, &[]), &["not a reply"]);
    }
    refused(Request::decode(99, &[]), &["message type 99"]);
}

#[test]
fn log_lines_call_requests_what_the_protocol_calls_them() {
    assert_eq!(Request::Subscribe.name(), "PlasmaSubscribeRequest");
    assert_eq!(Request::Cancel { number: 1 }.name(), "NativeCancelRequest");
}

/// Old stores do not look at five bodies, so there may be none; every other message must have one.
#[test]
fn only_bodies_that_say_nothing_may_be_empty() {
    for (message_type, request) in [
        (0, Request::Disconnect),
        (17, Request::List),
        (19, Request::Connect { abilities: 0 }),
        (23, Request::Subscribe),
        (30, Request::GetDebugString),
    ] {
        assert_eq!(Request::decode(message_type, &[]).unwrap(), request);
    }
    for message_type in [1, 3, 5, 7, 9, 11, 13, 15, 21, 28, 32, 34, 1000] {
        refused(Request::decode(message_type, &[]), &["0 bytes"]);
    }
    for message_type in [2, 4, 6, 8, 10, 14, 16, 18, 20, 22, 29, 31, 33, 35] {
        refused(Reply::decode(message_type, &[]), &["0 bytes"]);
    }
}

#[test]
fn names_for_people_need_not_be_utf8() {
    let request = Request::SetOptions { client_name: "abcdef".into(), quota: 5 };
    let (message_type, mut body) = request.encode();
    let at = body.windows(6).position(|window| window == b"abcdef").unwrap();
    body[at + 1] = 0xff;
    let request = Request::SetOptions { client_name: "a\u{fffd}cdef".into(), quota: 5 };
    assert_eq!(Request::decode(message_type, &body).unwrap(), request);
}
