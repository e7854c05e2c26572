//! Bodies that nobody wrote on purpose: random ones, and valid ones with damage. Decoding may refuse them, never panic,
//! and what it accepts it can encode again.
//!
//! Every run plays the same bodies; a failure names the seed of its body.
// To clippy, what a test calls is no test.
#![allow(clippy::unwrap_used, clippy::panic)]

use plasma_store::object::{Location, ObjectId, ObjectInfo, ObjectState};
use plasma_store::protocol::notification::{self, Event, Notification};
use plasma_store::protocol::{
    Dialect, Header, InlineObject, Refusal, Refused, Reply, Request, SegmentInfo, ShareAction, Shared, Stats, frame,
};

const BODIES: u64 = 100_000;

/// SplitMix64: any seed is a good one.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Often an edge, else anything.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(3),
            1 => u64::MAX - self.below(3),
            2 => self.below(1 << 20),
            _ => self.next(),
        }
    }

    /// A number that is not negative as a signed one, so far from the edge that two of them can be added.
    fn size(&mut self) -> u64 {
        self.number() >> 2
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    fn digest(&mut self) -> [u8; 8] {
        self.next().to_le_bytes()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes(40)).into_owned()
    }

    fn id(&mut self) -> ObjectId {
        let mut bytes = [0; 20];
        bytes.fill_with(|| self.next() as u8);
        ObjectId::new(bytes)
    }

    fn ids(&mut self) -> Vec<ObjectId> {
        self.several(Self::id)
    }

    fn several<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(6)).map(|_| one(self)).collect()
    }

    fn refusal(&mut self) -> Refusal {
        match self.below(8) {
            0 => Refusal::ObjectExists,
            1 => Refusal::ObjectNotFound,
            2 => Refusal::OutOfMemory,
            3 => Refusal::ObjectNotSealed,
            4 => Refusal::ObjectInUse,
            5 => Refusal::ObjectAlreadySealed,
            6 => Refusal::StillWritable,
            _ => Refusal::Unsupported,
        }
    }

    fn outcome(&mut self) -> Result<(), Refusal> {
        if self.flag() { Ok(()) } else { Err(self.refusal()) }
    }

    fn key(&mut self) -> i32 {
        1 + self.below(i32::MAX as u64) as i32
    }

    fn location(&mut self, segment: i32) -> Location {
        Location { segment, offset: self.size(), data_size: self.size(), metadata_size: self.size() }
    }

    fn object_info(&mut self) -> ObjectInfo {
        let sealed = self.flag();
        ObjectInfo {
            id: self.id(),
            state: if sealed { ObjectState::Sealed } else { ObjectState::Created },
            data_size: self.size(),
            metadata_size: self.size(),
            ref_count: self.below(1 << 31) as u32,
            create_time: self.number() as i64,
            construct_duration: self.number() as i64,
            digest: if sealed { self.digest() } else { [0; 8] },
            pinned: self.flag(),
        }
    }

    fn inline_object(&mut self) -> InlineObject {
        InlineObject { id: self.id(), data: self.bytes(300), metadata: self.bytes(30), digest: self.digest() }
    }

    fn event(&mut self) -> Event {
        if self.flag() {
            return Event::Deleted { id: self.id() };
        }
        Event::Sealed { id: self.id(), data_size: self.size(), metadata_size: self.size(), digest: self.digest() }
    }

    fn request(&mut self) -> Request {
        match self.below(27) {
            0 => Request::Connect { abilities: self.number() },
            1 => Request::Disconnect,
            2 => Request::Create {
                id: self.id(),
                data_size: self.number() as i64,
                metadata_size: self.number() as i64,
                evict_if_full: self.flag(),
                device_num: self.number() as i32,
                ttl_ms: self.number(),
                wait_ms: self.number() as i64,
                immutable: self.flag(),
            },
            3 => Request::CreateAndSeal {
                id: self.id(),
                evict_if_full: self.flag(),
                data: self.bytes(5000),
                metadata: self.bytes(500),
                digest: self.digest(),
            },
            4 => Request::CreateAndSealBatch { objects: self.several(Self::inline_object), evict_if_full: self.flag() },
            5 => Request::Seal { id: self.id(), digest: self.digest() },
            6 => Request::Abort { id: self.id() },
            7 => Request::Get { ids: self.ids(), timeout_ms: self.number() as i64 },
            8 => Request::Release { id: self.id() },
            9 => Request::Delete { ids: self.ids() },
            10 => Request::Contains { id: self.id() },
            11 => Request::List,
            12 => Request::Evict { bytes: self.number() },
            13 => Request::Subscribe,
            14 => Request::SetOptions { client_name: self.text(), quota: self.number() as i64 },
            15 => Request::GetDebugString,
            16 => Request::RefreshLru { ids: self.ids() },
            17 => Request::Pin { ids: self.ids(), pinned: self.flag() },
            18 => Request::CancelCreate { number: self.number(), id: self.id() },
            19 => Request::NativeSubscribe { skip_existing: self.flag() },
            20 => Request::Stats,
            21 => Request::Index { mapped: self.flag() },
            24 => Request::Ring { mapped: self.flag() },
            22 => Request::Segment { segment: self.number() as i32, writable: self.flag() },
            23 => Request::Retired { returned: self.several(|random| random.number() as i32) },
            25 => Request::Share { id: self.id(), action: self.share_action() },
            _ => Request::Cancel { number: self.number() },
        }
    }

    fn reply(&mut self) -> Reply {
        match self.below(22) {
            0 => Reply::Connect { capacity: self.number() as i64, abilities: self.number() },
            1 => self.create_reply(),
            2 => Reply::CreateAndSeal { outcome: self.outcome() },
            3 => self.batch_reply(),
            4 => Reply::Seal { id: self.id(), outcome: self.outcome() },
            5 => Reply::Abort { id: self.id(), outcome: self.outcome() },
            6 => self.get_reply(),
            7 => {
                let ids = self.ids();
                let outcomes = ids.iter().map(|_| self.outcome()).collect();
                Reply::Delete { ids, outcomes }
            }
            8 => Reply::Contains { id: self.id(), present: self.flag() },
            9 => Reply::List { objects: self.several(Self::object_info) },
            10 => Reply::Evict { bytes: self.number() },
            11 => Reply::SetOptions { outcome: self.outcome() },
            12 => Reply::DebugString(self.text()),
            13 => Reply::Pin { outcomes: self.several(Self::outcome) },
            14 => Reply::NativeSubscribe { outcome: if self.flag() { Ok(()) } else { Err(self.text()) } },
            15 => Reply::Stats(self.stats()),
            16 => Reply::Index { outcome: if self.flag() { Ok(self.flag()) } else { Err(self.text()) } },
            17 => Reply::Segment { outcome: if self.flag() { Ok(self.size()) } else { Err(self.text()) } },
            19 => Reply::Ring { outcome: if self.flag() { Ok(self.flag()) } else { Err(self.text()) } },
            18 => Reply::Retired { segments: self.several(|random| random.number() as i32) },
            20 => Reply::Share { outcome: if self.flag() { Ok(self.shared()) } else { Err(self.refused()) } },
            _ => Reply::RefreshLru,
        }
    }

    fn share_action(&mut self) -> ShareAction {
        match self.below(6) {
            0 => ShareAction::Begin { keep: false },
            1 => ShareAction::Begin { keep: true },
            2 => ShareAction::Join,
            3 => ShareAction::Leave,
            4 => ShareAction::Freeze,
            _ => ShareAction::Ask,
        }
    }

    fn shared(&mut self) -> Shared {
        let segment = self.number() as i32;
        Shared {
            location: self.location(segment),
            participant: self.number() as u32,
            participants: self.several(Self::text),
            has_control: self.flag(),
        }
    }

    fn refused(&mut self) -> Refused {
        Refused { refusal: self.refusal(), detail: self.text() }
    }

    fn stats(&mut self) -> Stats {
        Stats {
            capacity: self.number(),
            used_bytes: self.number(),
            held_bytes: self.number(),
            allocated_bytes: self.number(),
            largest_free_extent: self.number(),
            objects: self.number(),
            sealed_objects: self.number(),
            held_objects: self.number(),
            clients: self.number(),
            subscriptions: self.number(),
            waiting_gets: self.number(),
            creates: self.number(),
            gets: self.number(),
            hits: self.number(),
            misses: self.number(),
            evictions: self.number(),
            evicted_bytes: self.number(),
            pinned_bytes: self.number(),
            waiting_creates: self.number(),
            segments: self.number(),
            retired_bytes: self.number(),
            copied_bytes: self.number(),
            pool_bytes: self.number(),
        }
    }

    fn batch_reply(&mut self) -> Reply {
        if self.flag() {
            return Reply::CreateAndSealBatch { outcome: Ok(()), id: None };
        }
        let refused = self.refused();
        Reply::CreateAndSealBatch { outcome: Err(refused), id: self.flag().then(|| self.id()) }
    }

    /// A frame of a subscriber's stream.
    fn notification(&mut self) -> Vec<u8> {
        match self.below(5) {
            0 => notification::encode_end(&self.text()),
            _ => notification::encode(&self.several(Self::event)),
        }
    }

    fn create_reply(&mut self) -> Reply {
        let id = self.id();
        if self.flag() {
            let refused = self.refused();
            return Reply::Create { id, outcome: Err(refused), segment: None };
        }
        let key = self.key();
        let segment = Some(SegmentInfo { key, mmap_size: 1 + self.size() });
        Reply::Create { id, outcome: Ok(self.location(key)), segment }
    }

    fn get_reply(&mut self) -> Reply {
        let ids = self.ids();
        let key = self.key();
        let locations = ids.iter().map(|_| self.flag().then(|| self.location(key))).collect();
        let segments = self.several(|random| SegmentInfo { key: random.key(), mmap_size: 1 + random.size() });
        Reply::Get { ids, locations, segments }
    }

    /// A valid body with a few bytes, words or its end changed, or one without any sense.
    fn body(&mut self) -> (i64, Vec<u8>) {
        let any = self.bytes(200);
        let (message_type, mut body) = match self.below(5) {
            0 => (self.below(40) as i64, any),
            1 | 2 => self.request().encode(),
            _ => self.reply().encode(Dialect::Native),
        };
        for _ in 0..self.below(4) {
            self.damage(&mut body);
        }
        let message_type = if self.below(8) == 0 { self.below(40) as i64 } else { message_type };
        (message_type, body)
    }

    fn damage(&mut self, body: &mut Vec<u8>) {
        let at = self.below(body.len() as u64 + 1) as usize;
        match self.below(4) {
            0 => body.truncate(at),
            // Offsets and lengths are words; small ones still point somewhere.
            1 => {
                let word = self.number().to_le_bytes();
                let length = (body.len() - at).min(4);
                body[at..at + length].copy_from_slice(&word[..length]);
            }
            2 => body.extend(self.bytes(20)),
            _ => body.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
        }
    }
}

/// How many of the bodies `play` accepted; a panic in it is reported with the seed that made the body.
fn accepted(play: fn(i64, &[u8]) -> bool) -> u64 {
    let mut accepted = 0;
    for seed in 0..BODIES {
        let (message_type, body) = Random(seed).body();
        let played = std::panic::catch_unwind(|| play(message_type, &body));
        accepted += u64::from(played.unwrap_or_else(|_| panic!("seed {seed}: type {message_type}, {body:02x?}")));
    }
    accepted
}

#[test]
fn no_body_makes_a_request_panic() {
    let accepted = accepted(|message_type, body| {
        let Ok(request) = Request::decode(message_type, body) else { return false };
        let (message_type, body) = request.encode();
        assert_eq!(Request::decode(message_type, &body).unwrap(), request);
        true
    });
    // Some must get through, or only the first check was tested.
    assert!((BODIES / 20..BODIES * 3 / 4).contains(&accepted), "{accepted}");
}

#[test]
fn no_body_makes_a_reply_panic() {
    let accepted = accepted(|message_type, body| {
        let Ok(reply) = Reply::decode(message_type, body) else { return false };
        let (message_type, body) = reply.encode(Dialect::Native);
        assert_eq!(Reply::decode(message_type, &body).unwrap(), reply);
        reply.encode(Dialect::Plasma);
        true
    });
    assert!((BODIES / 20..BODIES * 3 / 4).contains(&accepted), "{accepted}");
}

#[test]
fn no_stream_makes_a_notification_panic() {
    for seed in 0..BODIES {
        let mut random = Random(seed);
        let mut stream = random.notification();
        random.damage(&mut stream);
        let missing = notification::missing(&stream);
        match notification::decode(&stream) {
            Ok(Some((told, length))) => {
                assert!(length <= stream.len() && matches!(missing, Ok(0)), "seed {seed}");
                let again = notification::encode(&told.events);
                let told = Notification { end: None, ..told };
                assert_eq!(notification::decode(&again).unwrap(), Some((told, again.len())), "seed {seed}");
            }
            Ok(None) => assert!(missing.unwrap() > 0, "seed {seed}"),
            Err(_) => assert!(matches!(missing, Ok(0) | Err(_)), "seed {seed}"),
        }
    }
}

#[test]
fn every_message_comes_back_as_it_was() {
    for seed in 0..BODIES / 10 {
        let mut random = Random(seed);
        let request = random.request();
        let (message_type, body) = request.encode();
        assert_eq!(Request::decode(message_type, &body).unwrap(), request, "seed {seed}");
        let reply = random.reply();
        let (message_type, body) = reply.encode(Dialect::Native);
        assert_eq!(Reply::decode(message_type, &body).unwrap(), reply, "seed {seed}");
        let events = random.several(Random::event);
        let stream = notification::encode(&events);
        let told = Notification { events, end: None };
        assert_eq!(notification::decode(&stream).unwrap(), Some((told, stream.len())), "seed {seed}");
        let reason = random.text();
        let stream = notification::encode_end(&reason);
        let told = Notification { events: vec![], end: Some(reason) };
        assert_eq!(notification::decode(&stream).unwrap(), Some((told, stream.len())), "seed {seed}");
    }
}

/// Old readers take the body at any place in memory; so do we.
#[test]
fn bodies_may_lie_at_any_address() {
    let mut random = Random(7);
    let (request, reply) = (Request::Get { ids: random.ids(), timeout_ms: -1 }, random.get_reply());
    for offset in 0..16 {
        let place = |body: Vec<u8>| [vec![0; offset], body].concat();
        let (message_type, body) = request.encode();
        assert_eq!(Request::decode(message_type, &place(body)[offset..]).unwrap(), request);
        let (message_type, body) = reply.encode(Dialect::Native);
        assert_eq!(Reply::decode(message_type, &place(body)[offset..]).unwrap(), reply);
    }
}

/// One string that all entries of a long vector point to would be copied once for each of them.
#[test]
fn a_body_cannot_grow_by_being_decoded() {
    let entries = 20_000_u32;
    let (message_type, mut body) = Request::RefreshLru { ids: vec![ObjectId::new([1; 20])] }.encode();
    let vector = body.windows(8).position(|window| window == [1, 0, 0, 0, 4, 0, 0, 0]).unwrap();
    let id = body.split_off(vector + 8);
    body.truncate(vector);
    body.extend(entries.to_le_bytes());
    body.extend((0..entries).flat_map(|index| ((entries - index) * 4).to_le_bytes()));
    body.extend(id);
    let error = Request::decode(message_type, &body).unwrap_err().to_string();
    assert!(error.contains("Apparent size"), "{error}");
}

#[test]
fn random_headers_are_refused_or_bounded() {
    for seed in 0..BODIES {
        let mut random = Random(seed);
        let dialect = if random.flag() { Dialect::Native } else { Dialect::Plasma };
        let mut bytes = frame::encode(dialect, random.number() as i64, random.number(), &[]);
        random.damage(&mut bytes);
        bytes.extend(random.bytes(10));
        if let Ok(Some(header)) = Header::decode(dialect, &bytes) {
            assert!(header.body_len as u64 <= plasma_store::protocol::MAX_BODY, "seed {seed}");
        }
    }
}
