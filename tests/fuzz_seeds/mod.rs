//! The seeds of the fuzzers: valid inputs for every target, made from the captured frames and pyarrow's tensors, and where
//! nothing was captured, from what we send ourselves. They are checked in below `fuzz/corpus/`.

#[path = "../fixtures/mod.rs"]
mod fixtures;

use fixtures::cases;
use plasma_store::object::{Location, ObjectId, ObjectInfo, ObjectState};
use plasma_store::protocol::notification::{self, Event};
use plasma_store::protocol::{Dialect, InlineObject, Refusal, Refused, Reply, Request, SegmentInfo, Stats, frame};
use plasma_store::shm::ring::record::Record;
use plasma_store::tensor::dtype::DType;
use plasma_store::tensor::layout::Layout;
use plasma_store::tensor::{arrow_ipc, bundle, description};

const FRAMES: &str = include_str!("../fixtures/plasma_frames.txt");
const ID: ObjectId = ObjectId::new([b'a'; 20]);
const OTHER: ObjectId = ObjectId::new([b'b'; 20]);
const PLACE: Location = Location { segment: 1, offset: 4096, data_size: 100, metadata_size: 5 };
/// Tensors that differ in more than the element type; the bytes of a long one add nothing.
const TENSORS: [&str; 7] =
    ["int32 2x3", "float16 2x3", "column-major", "0-d", "empty, 3 dimensions", "named dimensions", "before 0.15"];

/// An input and the name of its file.
pub type Seed = (String, Vec<u8>);

/// All seeds of a target.
pub fn seeds(target: &str) -> Vec<Seed> {
    match target {
        "frame" => streams(),
        "request" => {
            let mut seeds = bodies("request", requests().iter().map(Request::encode));
            seeds.extend(native_requests());
            seeds
        }
        "reply" => {
            let mut seeds = bodies("reply", replies().iter().map(|reply| reply.encode(Dialect::Native)));
            seeds.extend(native_replies());
            seeds
        }
        "notification" => notifications(),
        "tensor" => tensors(),
        "bundle" => bundles(),
        "metadata" => trailers(),
        "engine" => games(),
        "ring" => records(),
        other => panic!("no target {other}"),
    }
}

/// Name, numbers of the title, and body of every captured frame.
fn captured() -> Vec<(&'static str, Vec<i64>, Vec<u8>)> {
    let mut frames: Vec<(&str, Vec<i64>, Vec<u8>)> = Vec::new();
    for line in FRAMES.lines() {
        let words = line.split('#').next().unwrap_or_default();
        if let Some((name, numbers)) = words.strip_prefix('[').and_then(|title| title.split_once(']')) {
            frames.push((name, numbers.split_whitespace().map(hex).collect(), Vec::new()));
        } else if let Some((_, _, body)) = frames.last_mut() {
            for word in words.split_whitespace() {
                match word.strip_prefix('*') {
                    Some(times) => body.extend(vec![*body.last().unwrap(); times.parse::<usize>().unwrap() - 1]),
                    None => body.push(hex(word) as u8),
                }
            }
        }
    }
    assert!(frames.iter().all(|(_, numbers, body)| *numbers.last().unwrap() == body.len() as i64));
    frames
}

fn hex(word: &str) -> i64 {
    i64::from_str_radix(word, 16).unwrap()
}

/// All captured frames of one direction in a row, in the old dialect and in ours; each begins with how it arrives.
fn streams() -> Vec<Seed> {
    let stream = |dialect, direction: &str, how: u8| {
        let frames = captured().into_iter().filter(|(name, ..)| name.contains(direction));
        let frames = frames.enumerate().flat_map(|(at, (_, numbers, body))| {
            let body = &body[..body.len().min(40)];
            frame::encode(dialect, numbers[0], at as u64, body)
        });
        std::iter::once(how).chain(frames).collect()
    };
    vec![
        ("old_client".into(), stream(Dialect::Plasma, "_request", 0xfe)),
        ("old_store_bytewise".into(), stream(Dialect::Plasma, "_reply", 0)),
        ("native_client".into(), stream(Dialect::Native, "_request", 33)),
    ]
}

/// Captured bodies, and ours for the types of which none was captured, behind their types.
fn bodies(direction: &str, ours: impl Iterator<Item = (i64, Vec<u8>)>) -> Vec<Seed> {
    let captured = captured().into_iter().filter(|(name, ..)| name.contains(&format!("_{direction}")));
    let captured: Vec<_> = captured.map(|(name, numbers, body)| (name.to_owned(), numbers[0], body)).collect();
    let known: Vec<i64> = captured.iter().map(|(_, kind, _)| *kind).collect();
    let ours = ours.filter(|(kind, _)| !known.contains(kind)).enumerate();
    let ours = ours.map(|(at, (kind, body))| (format!("our_{direction}_{kind}_{at}"), kind, body));
    let typed = |kind: i64, body| [u16::try_from(kind).unwrap().to_le_bytes().to_vec(), body].concat();
    captured.into_iter().chain(ours).map(|(name, kind, body)| (name, typed(kind, body))).collect()
}

/// One request of every kind.
fn requests() -> Vec<Request> {
    let inline = |id| InlineObject { id, data: b"data".to_vec(), metadata: b"m".to_vec(), digest: [3; 8] };
    vec![
        Request::Disconnect,
        Request::Abort { id: ID },
        Request::Release { id: ID },
        Request::Delete { ids: vec![ID, OTHER] },
        Request::Contains { id: ID },
        Request::List,
        Request::Evict { bytes: 1 << 20 },
        Request::SetOptions { client_name: "name".into(), quota: 1 << 20 },
        Request::GetDebugString,
        Request::CreateAndSealBatch { objects: vec![inline(ID), inline(OTHER)], evict_if_full: true },
        Request::RefreshLru { ids: vec![ID, OTHER] },
        Request::Cancel { number: 7 },
        Request::Pin { ids: vec![ID, OTHER], pinned: true },
        Request::CancelCreate { number: 7, id: ID },
        Request::NativeSubscribe { skip_existing: true },
        Request::Stats,
        Request::Index { mapped: true },
        Request::Ring { mapped: true },
    ]
}

/// One reply of every kind that was not captured.
fn replies() -> Vec<Reply> {
    let info = |id, state, construct_duration, digest| ObjectInfo {
        id,
        state,
        data_size: 100,
        metadata_size: 5,
        ref_count: 1,
        create_time: 1_700_000_000,
        construct_duration,
        digest,
        pinned: state == ObjectState::Sealed,
    };
    vec![
        Reply::Abort { id: ID, outcome: Err(Refusal::ObjectAlreadySealed) },
        Reply::Contains { id: ID, present: true },
        Reply::List {
            objects: vec![info(ID, ObjectState::Sealed, 2, [4; 8]), info(OTHER, ObjectState::Created, -1, [0; 8])],
        },
        Reply::Evict { bytes: 1 << 20 },
        Reply::SetOptions { outcome: Ok(()) },
        Reply::DebugString("figures".into()),
        Reply::CreateAndSealBatch {
            outcome: Err(Refused { refusal: Refusal::ObjectExists, detail: "it exists".into() }),
            id: Some(OTHER),
        },
        Reply::RefreshLru,
        Reply::Pin { outcomes: vec![Ok(()), Err(Refusal::ObjectNotSealed)] },
        Reply::NativeSubscribe { outcome: Err("no more".into()) },
        Reply::Index { outcome: Ok(true) },
        Reply::Ring { outcome: Ok(true) },
        Reply::Stats(Stats { capacity: 1 << 20, gets: 7, evicted_bytes: 1, ..Stats::default() }),
    ]
}

/// What old stores do not send: a refusal with its reason, a get of two objects of which one is not there.
fn native_replies() -> Vec<Seed> {
    let refused = Refused { refusal: Refusal::OutOfMemory, detail: "no room".into() };
    let segments = vec![SegmentInfo { key: PLACE.segment, mmap_size: 1 << 20 }];
    let get = Reply::Get { ids: vec![ID, OTHER], locations: vec![Some(PLACE), None], segments };
    let replies = [("refusal", Reply::Create { id: ID, outcome: Err(refused), segment: None }), ("get_of_two", get)];
    let seed = |(name, reply): (&str, Reply)| {
        let (kind, body) = reply.encode(Dialect::Native);
        (format!("our_{name}"), [(kind as u16).to_le_bytes().to_vec(), body].concat())
    };
    replies.into_iter().map(seed).collect()
}

/// What old clients do not send: a create with all that is ours.
fn native_requests() -> Vec<Seed> {
    let (id, data_size, metadata_size) = (ID, 100, 5);
    let (evict_if_full, device_num, ttl_ms, wait_ms) = (true, 0, 50, -1);
    let create =
        Request::Create { id, data_size, metadata_size, evict_if_full, device_num, ttl_ms, wait_ms, immutable: true };
    let (kind, body) = create.encode();
    vec![("our_create".into(), [(kind as u16).to_le_bytes().to_vec(), body].concat())]
}

fn notifications() -> Vec<Seed> {
    let captured = captured().into_iter().filter(|(name, ..)| name.contains("_notification"));
    let framed = |numbers: &[i64], body: Vec<u8>| [numbers[0].to_le_bytes().to_vec(), body].concat();
    let mut seeds: Vec<_> = captured.map(|(name, numbers, body)| (name.to_owned(), framed(&numbers, body))).collect();
    let sealed = Event::Sealed { id: ID, data_size: 100, metadata_size: 5, digest: [5; 8] };
    seeds.push(("our_batch".into(), notification::encode(&[sealed, Event::Deleted { id: OTHER }])));
    seeds.push(("our_end".into(), notification::encode_end("too slow")));
    seeds
}

fn tensors() -> Vec<Seed> {
    let cases = cases("arrow_tensors.json").into_iter().filter(|case| TENSORS.contains(&case.text("case")));
    let seeds: Vec<Seed> = cases.map(|case| (file_name(case.text("case")), case.bytes("message"))).collect();
    assert_eq!(seeds.len(), TENSORS.len());
    seeds.into_iter().chain(carried_tensors()).collect()
}

/// Tensors of types that Arrow does not have: the message, the data, and the trailer that says what they are.
fn carried_tensors() -> Vec<Seed> {
    let names = ["bool", "bfloat16", "complex64", "complex128", "float8_e4m3fn", "float6_e2m3fn", "float4_e2m1fn"];
    let dtypes = names.map(|name| DType::all().find(|dtype| dtype.name() == name).unwrap());
    let seed = |dtype: DType| {
        let layout = Layout::row_major(dtype, vec![2, 3]).unwrap();
        let mut object = arrow_ipc::encode_header(&layout, &[]).unwrap();
        object.resize(object.len() + layout.nbytes() as usize, 7);
        (dtype.name().to_owned(), description::describe(&layout).unwrap().append_to(&object))
    };
    dtypes.map(seed).into()
}

/// Bundles of ours, and what others may write.
fn bundles() -> Vec<Seed> {
    let layout = |name: &str, shape: &[i64]| {
        let dtype = DType::all().find(|dtype| dtype.name() == name).unwrap();
        Layout::row_major(dtype, shape.to_vec()).unwrap()
    };
    let ours = |tensors: &[(&str, Layout)], metadata: &[(&str, &str)]| {
        let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let plan = bundle::Plan::new(tensors, &metadata).unwrap();
        let mut object = plan.head;
        object.resize(plan.size as usize, 5);
        object
    };
    let theirs =
        |json: &str, data: usize| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![7; data]].concat();
    let many = [("a", layout("float32", &[2, 3])), ("ü", layout("bool", &[])), ("z", layout("float4_e2m1fn", &[2, 2]))];
    let tensor = r#""t":{"dtype":"I16","shape":[1,2],"data_offsets":[2,6]}"#;
    let empty = r#""e":{"shape":[0],"data_offsets":[2,2],"dtype":"C64"}"#;
    let first = r#""s":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#;
    [
        ("empty", ours(&[], &[])),
        ("ours", ours(&many, &[("key", "value"), ("other", "")])),
        ("one", ours(&many[..1], &[])),
        // What is damaged in its data is a bundle still.
        ("mostly data", ours(&[("d", layout("uint16", &[200]))], &[])),
        ("any order", theirs(&format!("{{{tensor},{empty},{first}}} "), 6)),
        ("metadata", theirs(&format!("{{{first},\"__metadata__\":{{\"a\":\"\\u00e9\"}}}}"), 2)),
    ]
    .map(|(name, object)| (file_name(name), object))
    .into()
}

/// The vectors that have a trailer.
fn trailers() -> Vec<Seed> {
    let cases = cases("metadata_trailer.json").into_iter().filter(|case| case.text("entries") != "null");
    cases.map(|case| (file_name(case.text("case")), case.bytes("stored"))).collect()
}

fn file_name(case: &str) -> String {
    case.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// One record of every kind, and a row of them.
fn records() -> Vec<Seed> {
    let (data_size, metadata_size) = (100, 5);
    let records = [
        ("put", Record::Put { id: ID, data_size, metadata_size, staged: 4096, evict: true }),
        ("create", Record::Create { id: ID, data_size, metadata_size, evict: false, ttl_ms: 50 }),
        ("seal", Record::Seal { id: ID, release: false, next: 0 }),
        ("seal_and_release", Record::Seal { id: ID, release: true, next: 100 }),
        ("publish", Record::Publish { id: OTHER, data_size, metadata_size, evict: true, granted: 1, next: 100 }),
        ("abort", Record::Abort { id: ID }),
        ("release", Record::Release { id: ID }),
        ("delete", Record::Delete { id: OTHER }),
        ("want", Record::Want { id: ID, bell: 7 }),
        ("unwant", Record::Unwant { bell: 7 }),
    ];
    let bytes = |record: &Record| record.encode().iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let row = ("row".into(), records.iter().flat_map(|(_, record)| bytes(record)).collect());
    records.iter().map(|(name, record)| ((*name).to_owned(), bytes(record))).chain([row]).collect()
}

/// Games of the engine, in the bytes that `fuzz/src/engine.rs` reads: the limit, then steps. A request is step 9, the peer,
/// the number, the kind and its fields; a create's fields are id, size, how the size is meant, metadata, evict, device. Kind 3 is
/// a create with a time to live and a time to wait in front of them.
fn games() -> Vec<Seed> {
    const OLD: &[u8] = &[0];
    const NATIVE: &[u8] = &[1];
    /// One that asks for segments.
    const OURS: &[u8] = &[1, 1];
    let create = |peer, name, size| vec![9, peer, 1, 0, name, size, 2, 3, 1, 0];
    // The last byte makes it immutable.
    let lone = |peer, name, size| vec![9, peer, 1, 0, name, size, 2, 3, 1, 1];
    let seal = |peer, name| vec![9, peer, 2, 5, name, 6];
    let release = |peer, name| vec![9, peer, 3, 10, name];
    let get = |peer, names: [u8; 2], timeout| vec![9, peer, 4, 8, 2, names[0], names[1], timeout];
    let put = |peer, name, size| [create(peer, name, size), seal(peer, name), release(peer, name)].concat();
    // Of nearly the whole store; the last is which of the times to wait.
    let wait = |peer, name, time| vec![9, peer, 6, 3, 0, time, name, 150, 2, 3, 1, 0];
    let timed = [&[9, 0, 1, 3, 2, 1, 1, 9, 2, 3, 1, 0][..], &seal(0, 1), &release(0, 1)].concat();
    let pin = |name| vec![9, 0, 1, 24, 1, name, 1];
    let game = |limit: u8, steps: &[&[u8]]| [&[limit][..], &steps.concat()].concat();
    let delete = [9, 0, 1, 13, 1, 1];
    let spill = [put(0, 1, 70), put(0, 2, 70), create(1, 3, 70)].concat();
    let back = [get(0, [1, 2], 0), get(1, [1, 1], 1)].concat();
    let big = [9, 0, 1, 0, 3, 60, 5, 0, 1, 0];
    vec![
        ("put_and_get".into(), game(1, &[OLD, NATIVE, &put(0, 1, 9), &get(1, [1, 1], 0), &release(1, 1)])),
        ("get_waits".into(), game(1, &[OLD, NATIVE, &get(1, [1, 2], 0), &put(0, 1, 9), &put(0, 2, 9), &[2, 1]])),
        ("get_expires".into(), game(1, &[NATIVE, &get(0, [1, 2], 3), &[3, 200]])),
        ("get_cancelled".into(), game(1, &[NATIVE, &get(0, [1, 2], 0), &[9, 0, 5, 18, 4]])),
        ("evict".into(), game(0, &[OLD, NATIVE, &put(0, 1, 70), &put(1, 2, 70), &put(0, 3, 70), &put(1, 4, 70)])),
        ("pages_run_out".into(), game(3, &[NATIVE, &[4, 9], &big, &[5, 5], &seal(0, 3), &[4, 0], &big, &[5, 5, 5]])),
        ("creator_leaves".into(), game(2, &[OLD, OLD, &create(0, 1, 5), &get(1, [1, 1], 0), &[2, 0], &put(0, 1, 5)])),
        ("delete_in_use".into(), game(2, &[OLD, &create(0, 1, 5), &seal(0, 1), &[9, 0, 1, 13, 1, 1], &release(0, 1)])),
        ("abort".into(), game(2, &[NATIVE, &create(0, 1, 5), &[9, 0, 1, 12, 1], &[9, 0, 1, 12, 1]])),
        ("inline".into(), game(1, &[OLD, &[9, 0, 1, 19, 4, 1, 2, 1], &[9, 0, 1, 20, 2, 4, 1, 3, 5, 2, 4, 1]])),
        ("subscribe_and_quota".into(), game(1, &[OLD, &[9, 0, 1, 22, 0], &[9, 0, 1, 21, 1, 9, 4], &put(0, 1, 9)])),
        (
            "waits_for_room".into(),
            game(
                0,
                &[NATIVE, NATIVE, &create(0, 1, 150), &wait(1, 2, 0), &wait(1, 3, 3), &[3, 60], &[9, 0, 1, 12, 1, 5]],
            ),
        ),
        ("create_cancelled".into(), game(0, &[NATIVE, &create(0, 1, 150), &wait(0, 2, 0), &[9, 0, 6, 25, 6, 2]])),
        ("pinned_and_timed".into(), game(0, &[NATIVE, &timed, &pin(1), &put(0, 2, 150), &put(0, 3, 150), &[3, 60]])),
        (
            "external".into(),
            game(128, &[OLD, NATIVE, &spill, &[8, 1], &seal(1, 3), &release(1, 3), &back, &[8, 1, 8, 1]]),
        ),
        (
            "external_fails".into(),
            game(129, &[OLD, NATIVE, &spill, &[8, 0], &[9, 1, 1, 16, 90, 4], &back, &[8, 1, 8, 0]]),
        ),
        ("external_meanwhile".into(), game(128, &[NATIVE, NATIVE, &spill, &back, &delete, &[2, 1], &[8, 1, 8, 1]])),
        (
            "subscribe_native".into(),
            game(1, &[NATIVE, &put(0, 1, 9), &[9, 0, 1, 26, 0], &[9, 0, 2, 26, 1], &put(0, 2, 9)]),
        ),
        // A record is step 23, the peer, the number, the object, the bell and the kind: want, want, unwant, seal and release.
        (
            "by_ring".into(),
            game(
                1,
                &[
                    NATIVE,
                    NATIVE,
                    &[23, 1, 1, 1, 0, 0, 23, 1, 2, 2, 1, 0],
                    &create(0, 1, 9),
                    &[23, 0, 3, 1, 0, 3],
                    &[23, 1, 4, 1, 1, 0, 23, 1, 5, 2, 2, 1, 23, 1, 6, 2, 2, 2],
                ],
            ),
        ),
        // Sealed until it is done, read, copied for an old client; another one that is aborted, and one whose creator goes.
        (
            "immutable".into(),
            game(
                2,
                &[
                    OLD,
                    OURS,
                    &lone(1, 1, 9),
                    &seal(1, 1),
                    &seal(1, 1),
                    &get(0, [1, 1], 1),
                    &lone(1, 2, 9),
                    &[9, 1, 1, 12, 2],
                    &lone(1, 3, 9),
                    &[2, 1],
                ],
            ),
        ),
        (
            "immutable_comes_back".into(),
            game(
                128,
                &[OURS, &lone(0, 1, 70), &seal(0, 1), &seal(0, 1), &release(0, 1), &create(0, 2, 150), &[8, 1], &back],
            ),
        ),
        ("wire".into(), game(1, &[OLD, &[6, 0, 0, 19, 0, 0, 6, 0, 0, 17, 0, 0]])),
    ]
}
