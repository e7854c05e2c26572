//! What the store answers: every reply of the Plasma protocol.
#![forbid(unsafe_code)]

use super::body::{Body, ID_BYTES, Writer};
use super::frame::Dialect;
use super::generated::plasma::{self as fbs, MessageType, PlasmaObjectSpec};
use super::native;
use super::refusal::{Refusal, Refused, code, outcome};
use super::sharing::{self, Shared};
use super::stats::{self, Stats};
use crate::error::Result;
use crate::object::{Location, ObjectId, ObjectInfo, ObjectState};

/// What is added to a segment's length on the wire: old stores kept their regions apart by 8 bytes, and old clients
/// subtract them again before they map.
const ANNOUNCED_EXTRA: u64 = 8;
/// The data size that marks an unavailable object in a get reply.
const UNAVAILABLE: u64 = u64::MAX;

/// A segment that a reply refers to. Its descriptor follows the reply the first time that a connection sees the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Key of the segment, as in [`Location::segment`].
    pub key: i32,
    /// Bytes that can be mapped. On the wire it is 8 more, which only this module knows.
    pub mmap_size: u64,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The client is welcome.
    Connect {
        /// The store's limit in bytes.
        capacity: i64,
        /// What this connection may use beyond old Plasma, a bit each; 0 from old stores.
        abilities: u64,
    },
    /// Whether an object was made, and where.
    Create {
        /// Its name.
        id: ObjectId,
        /// Where it is, or why it is not. The detail of a refusal reaches native peers only.
        outcome: Result<Location, Refused>,
        /// The location's segment, due with every location; also where the descriptor was sent before.
        segment: Option<SegmentInfo>,
    },
    /// Whether the object was made.
    CreateAndSeal {
        /// Why not.
        outcome: Result<(), Refusal>,
    },
    /// Whether all objects were made.
    CreateAndSealBatch {
        /// Why none was. The detail reaches native peers only.
        outcome: Result<(), Refused>,
        /// The object that was refused, where it was one; only native peers are told.
        id: Option<ObjectId>,
    },
    /// Whether the object is sealed now.
    Seal {
        /// Its name.
        id: ObjectId,
        /// Why not.
        outcome: Result<(), Refusal>,
    },
    /// Whether the object is gone.
    Abort {
        /// Its name.
        id: ObjectId,
        /// Why not; only native peers are told.
        outcome: Result<(), Refusal>,
    },
    /// Where the objects are that are held now.
    Get {
        /// The names asked for, repeated as they were.
        ids: Vec<ObjectId>,
        /// As many as ids; `None` for what is not available.
        locations: Vec<Option<Location>>,
        /// The segments of these locations, each once, in the order of first use.
        segments: Vec<SegmentInfo>,
    },
    /// What became of the objects to delete.
    Delete {
        /// The names asked for.
        ids: Vec<ObjectId>,
        /// As many as ids; [`Refusal::ObjectInUse`] and [`Refusal::ObjectNotSealed`] mean later.
        outcomes: Vec<Result<(), Refusal>>,
    },
    /// Whether a sealed object is there.
    Contains {
        /// Its name.
        id: ObjectId,
        /// Whether it is.
        present: bool,
    },
    /// All objects. The digest of an unsealed one is not sent.
    List {
        /// In no particular order.
        objects: Vec<ObjectInfo>,
    },
    /// What was freed.
    Evict {
        /// In bytes.
        bytes: u64,
    },
    /// The options of this client.
    SetOptions {
        /// Why the quota was refused.
        outcome: Result<(), Refusal>,
    },
    /// The store's statistics; bytes that are not UTF-8 were replaced.
    DebugString(String),
    /// The objects are young now.
    RefreshLru,
    /// Native dialect only: whether the objects are pinned, or not any more. If one is not, nothing was changed.
    Pin {
        /// One for each id of the request, in their order.
        outcomes: Vec<Result<(), Refusal>>,
    },
    /// Whether there is a subscription, to a descriptor that follows then.
    NativeSubscribe {
        /// Why not.
        outcome: Result<(), String>,
    },
    /// Whether the index, the pins and a socket through which each side wakes the other follow, as three descriptors; `false` when
    /// they were mapped.
    Index {
        /// Why the peer has to go on asking for every object.
        outcome: Result<bool, String>,
    },
    /// Whether what the peer writes and what the store writes follow, as two descriptors; `false` when they were mapped.
    Ring {
        /// Why the peer has to go on using the socket.
        outcome: Result<bool, String>,
    },
    /// The length of a segment, whose descriptor follows.
    Segment {
        /// Bytes, or why this peer does not get it.
        outcome: Result<u64, String>,
    },
    /// Segments to let go of.
    Retired {
        /// Keys.
        segments: Vec<i32>,
    },
    /// What was done with a shared object, or is known of it. It says whether a descriptor follows.
    Share {
        /// Why nothing was done.
        outcome: Result<Shared, Refused>,
    },
    /// The store's figures.
    Stats(Stats),
}

impl Reply {
    /// The reply in a frame of this type with this body.
    ///
    /// # Errors
    /// [`crate::error::Error::Protocol`] naming the message and what is wrong with it, as [`super::Request::decode`].
    pub fn decode(message_type: i64, body: &[u8]) -> Result<Self> {
        let body = Body::new(message_type, body);
        match body.message {
            MessageType::PlasmaConnectReply => connect(body),
            MessageType::PlasmaCreateReply => create(body),
            MessageType::PlasmaSealReply => seal(body),
            MessageType::PlasmaAbortReply => abort(body),
            MessageType::PlasmaGetReply => get(body),
            MessageType::PlasmaDeleteReply => delete(body),
            MessageType::PlasmaContainsReply => contains(body),
            MessageType::PlasmaListReply => list(body),
            MessageType::PlasmaCreateAndSealReply => Ok(Self::CreateAndSeal {
                outcome: outcome(body, body.root::<fbs::PlasmaCreateAndSealReply<'_>>()?.error())?,
            }),
            MessageType::PlasmaCreateAndSealBatchReply => create_and_seal_batch(body),
            MessageType::PlasmaSetOptionsReply => {
                Ok(Self::SetOptions { outcome: outcome(body, body.root::<fbs::PlasmaSetOptionsReply<'_>>()?.error())? })
            }
            MessageType::PlasmaEvictReply => {
                Ok(Self::Evict { bytes: body.root::<fbs::PlasmaEvictReply<'_>>()?.num_bytes() })
            }
            MessageType::PlasmaGetDebugStringReply => {
                let table = body.root::<fbs::PlasmaGetDebugStringReply<'_>>()?;
                Ok(Self::DebugString(body.text("debug string", table.debug_string())?))
            }
            MessageType::PlasmaRefreshLRUReply => {
                body.root::<fbs::PlasmaRefreshLRUReply<'_>>().map(|_| Self::RefreshLru)
            }
            MessageType::NativePinReply => native::decode_pin_reply(body),
            MessageType::NativeIndexReply => Ok(Self::Index { outcome: native::decode_files(body)? }),
            MessageType::NativeRingReply => Ok(Self::Ring { outcome: native::decode_files(body)? }),
            MessageType::NativeSegmentReply => native::decode_segment_reply(body),
            MessageType::NativeRetiredReply => native::decode_retired_reply(body),
            MessageType::NativeShareReply => sharing::decode_reply(body),
            MessageType::NativeSubscribeReply => {
                Ok(Self::NativeSubscribe { outcome: native::decode_subscribed(body)? })
            }
            MessageType::NativeStatsReply => stats::decode(body).map(Self::Stats),
            _ => Err(body.refuse("not a reply")),
        }
    }

    /// The type and the body of this reply's frame. `dialect` decides whether codes and fields that are ours appear.
    pub fn encode(&self, dialect: Dialect) -> (i64, Vec<u8>) {
        let (message, body) = match self {
            Self::Connect { capacity, abilities } => {
                (MessageType::PlasmaConnectReply, encode_connect(*capacity, *abilities))
            }
            Self::Create { id, outcome, segment } => {
                (MessageType::PlasmaCreateReply, encode_create(dialect, id, outcome, *segment))
            }
            Self::CreateAndSeal { outcome } => {
                (MessageType::PlasmaCreateAndSealReply, encode_code(code(dialect, *outcome)))
            }
            Self::CreateAndSealBatch { outcome, id } => {
                (MessageType::PlasmaCreateAndSealBatchReply, encode_create_and_seal_batch(dialect, outcome, *id))
            }
            Self::SetOptions { outcome } => (MessageType::PlasmaSetOptionsReply, encode_code(code(dialect, *outcome))),
            Self::Seal { id, outcome } => (MessageType::PlasmaSealReply, encode_seal(id, code(dialect, *outcome))),
            Self::Abort { id, outcome } => (MessageType::PlasmaAbortReply, encode_abort(dialect, id, *outcome)),
            Self::Get { ids, locations, segments } => {
                (MessageType::PlasmaGetReply, encode_get(ids, locations, segments))
            }
            Self::Delete { ids, outcomes } => (MessageType::PlasmaDeleteReply, encode_delete(ids, outcomes)),
            Self::Contains { id, present } => (MessageType::PlasmaContainsReply, encode_contains(id, *present)),
            Self::List { objects } => (MessageType::PlasmaListReply, encode_list(objects)),
            Self::Evict { bytes } => (MessageType::PlasmaEvictReply, encode_evict(*bytes)),
            Self::DebugString(text) => (MessageType::PlasmaGetDebugStringReply, encode_debug_string(text)),
            Self::RefreshLru => (MessageType::PlasmaRefreshLRUReply, encode_refresh_lru()),
            Self::Pin { outcomes } => (MessageType::NativePinReply, native::encode_pin_reply(outcomes)),
            Self::Index { outcome } => (MessageType::NativeIndexReply, native::encode_files(outcome)),
            Self::Ring { outcome } => (MessageType::NativeRingReply, native::encode_files(outcome)),
            Self::Segment { outcome } => (MessageType::NativeSegmentReply, native::encode_segment_reply(outcome)),
            Self::Retired { segments } => (MessageType::NativeRetiredReply, native::encode_retired_reply(segments)),
            Self::Share { outcome } => (MessageType::NativeShareReply, sharing::encode_reply(outcome)),
            Self::NativeSubscribe { outcome } => {
                (MessageType::NativeSubscribeReply, native::encode_subscribed(outcome))
            }
            Self::Stats(stats) => (MessageType::NativeStatsReply, stats::encode(stats)),
        };
        (message.0, body)
    }
}

fn connect(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaConnectReply<'_>>()?;
    Ok(Reply::Connect { capacity: table.memory_capacity(), abilities: table.abilities() })
}

fn create(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaCreateReply<'_>>()?;
    let id = body.id(table.object_id())?;
    let spec = body.present("object", table.plasma_object())?;
    if let Err(refused) = explained(body, table.error(), table.detail())? {
        return Ok(Reply::Create { id, outcome: Err(refused), segment: None });
    }
    let location = location(body, spec)?;
    let segment = match table.store_fd() {
        // Whoever asks for segments is not told of one.
        0 => None,
        key if key == location.segment => Some(segment(body, key, table.mmap_size())?),
        key => return Err(body.refuse(format_args!("segment {key} for an object in {}", location.segment))),
    };
    Ok(Reply::Create { id, outcome: Ok(location), segment })
}

/// An outcome with the text that native stores add.
fn explained(body: Body<'_>, error: i32, detail: Option<&[u8]>) -> Result<Result<(), Refused>> {
    let Err(refusal) = outcome(body, error)? else { return Ok(Ok(())) };
    let detail = detail.map_or(Ok(String::new()), |detail| body.text("detail", Some(detail)))?;
    Ok(Err(Refused { refusal, detail }))
}

fn create_and_seal_batch(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaCreateAndSealBatchReply<'_>>()?;
    let outcome = explained(body, table.error(), table.detail())?;
    let id = table.object_id().filter(|_| outcome.is_err()).map(|id| body.id(Some(id))).transpose()?;
    Ok(Reply::CreateAndSealBatch { outcome, id })
}

fn seal(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaSealReply<'_>>()?;
    Ok(Reply::Seal { id: body.id(table.object_id())?, outcome: outcome(body, table.error())? })
}

fn abort(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaAbortReply<'_>>()?;
    Ok(Reply::Abort { id: body.id(table.object_id())?, outcome: outcome(body, table.error())? })
}

fn get(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaGetReply<'_>>()?;
    let ids = body.ids(table.object_ids())?;
    let objects = body.parallel("objects", table.plasma_objects(), ids.len())?;
    let keys = body.present("segment keys", table.store_fds())?;
    let sizes = body.parallel("segment sizes", table.mmap_sizes(), keys.len())?;
    let locations = objects.iter().map(|spec| match spec.data_size() {
        UNAVAILABLE => Ok(None),
        _ => location(body, spec).map(Some),
    });
    let locations = locations.collect::<Result<_>>()?;
    let segments = keys.iter().zip(sizes).map(|(key, size)| segment(body, key, size)).collect::<Result<_>>()?;
    Ok(Reply::Get { ids, locations, segments })
}

fn delete(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaDeleteReply<'_>>()?;
    let ids = body.counted_ids(table.count(), table.object_ids())?;
    let errors = body.parallel("errors", table.errors(), ids.len())?;
    let outcomes = errors.iter().map(|error| outcome(body, error)).collect::<Result<_>>()?;
    Ok(Reply::Delete { ids, outcomes })
}

fn contains(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaContainsReply<'_>>()?;
    let present = match table.has_object() {
        0 => false,
        1 => true,
        other => return Err(body.refuse(format_args!("an answer of {other}, which is neither 0 nor 1"))),
    };
    Ok(Reply::Contains { id: body.id(table.object_id())?, present })
}

fn list(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::PlasmaListReply<'_>>()?;
    let objects = body.present("objects", table.objects())?;
    Ok(Reply::List { objects: objects.iter().map(|info| object_info(body, info)).collect::<Result<_>>()? })
}

/// An unsealed object is known by a digest of length 0.
fn object_info(body: Body<'_>, info: fbs::ObjectInfo<'_>) -> Result<ObjectInfo> {
    let digest = body.present("digest", info.digest())?;
    let (state, digest) = match digest {
        [] => (ObjectState::Created, [0; 8]),
        _ => (ObjectState::Sealed, body.digest(Some(digest))?),
    };
    Ok(ObjectInfo {
        id: body.id(info.object_id())?,
        state,
        data_size: body.unsigned("data size", info.data_size())?,
        metadata_size: body.unsigned("metadata size", info.metadata_size())?,
        ref_count: body.unsigned("reference count", info.ref_count())?,
        create_time: info.create_time(),
        construct_duration: info.construct_duration(),
        digest,
        pinned: info.is_pinned(),
    })
}

/// An object's place, when it is one that a [`Location`] can name: in host memory, metadata right behind the data.
fn location(body: Body<'_>, spec: &PlasmaObjectSpec) -> Result<Location> {
    if spec.device_num() != 0 {
        return Err(body.refuse(format_args!("an object on device {}", spec.device_num())));
    }
    if spec.segment_index() <= 0 {
        return Err(body.refuse(format_args!("segment {}, where keys are positive", spec.segment_index())));
    }
    let data_end = spec.data_offset().checked_add(spec.data_size());
    let fits = data_end.and_then(|end| end.checked_add(spec.metadata_size())).is_some();
    if !fits || data_end != Some(spec.metadata_offset()) {
        return Err(body.refuse(format_args!(
            "{} bytes of metadata at {}, behind {} bytes of data at {}",
            spec.metadata_size(),
            spec.metadata_offset(),
            spec.data_size(),
            spec.data_offset()
        )));
    }
    Ok(Location {
        segment: spec.segment_index(),
        offset: spec.data_offset(),
        data_size: spec.data_size(),
        metadata_size: spec.metadata_size(),
    })
}

fn segment(body: Body<'_>, key: i32, announced: i64) -> Result<SegmentInfo> {
    let mmap_size = body.unsigned::<_, u64>("segment size", announced)?.saturating_sub(ANNOUNCED_EXTRA);
    if mmap_size == 0 {
        return Err(
            body.refuse(format_args!("segment {key} of {announced} bytes, of which {ANNOUNCED_EXTRA} are none"))
        );
    }
    Ok(SegmentInfo { key, mmap_size })
}

fn encode_connect(memory_capacity: i64, abilities: u64) -> Vec<u8> {
    let args = fbs::PlasmaConnectReplyArgs { memory_capacity, abilities };
    Writer::small().finish(|b| fbs::PlasmaConnectReply::create(b, &args))
}

/// Old clients read the object of a refusal, too: it is there, all zero.
fn encode_create(
    dialect: Dialect,
    id: &ObjectId,
    outcome: &Result<Location, Refused>,
    segment: Option<SegmentInfo>,
) -> Vec<u8> {
    let refused = outcome.as_ref().err();
    let detail = detail_for(dialect, refused);
    let mut writer = Writer::with_extra(detail.map_or(0, str::len));
    let args = fbs::PlasmaCreateReplyArgs {
        object_id: Some(writer.string(id.as_bytes())),
        plasma_object: Some(&outcome.as_ref().map_or_else(|_| PlasmaObjectSpec::default(), spec)),
        error: code(dialect, refused.map_or(Ok(()), |refused| Err(refused.refusal))),
        store_fd: segment.map_or(0, |segment| segment.key),
        mmap_size: segment.map_or(0, announced),
        ipc_handle: None,
        detail: detail.map(|detail| writer.string(detail.as_bytes())),
    };
    writer.finish(|b| fbs::PlasmaCreateReply::create(b, &args))
}

/// What peers of this dialect are told of a refusal beside its code.
fn detail_for(dialect: Dialect, refused: Option<&Refused>) -> Option<&str> {
    refused.map(|refused| refused.detail.as_str()).filter(|detail| dialect == Dialect::Native && !detail.is_empty())
}

fn encode_create_and_seal_batch(dialect: Dialect, outcome: &Result<(), Refused>, id: Option<ObjectId>) -> Vec<u8> {
    let refused = outcome.as_ref().err();
    let detail = detail_for(dialect, refused);
    let mut writer = Writer::with_extra(detail.map_or(0, str::len));
    let id = id.filter(|_| dialect == Dialect::Native && refused.is_some());
    let args = fbs::PlasmaCreateAndSealBatchReplyArgs {
        error: code(dialect, refused.map_or(Ok(()), |refused| Err(refused.refusal))),
        object_id: id.map(|id| writer.string(id.as_bytes())),
        detail: detail.map(|detail| writer.string(detail.as_bytes())),
    };
    writer.finish(|b| fbs::PlasmaCreateAndSealBatchReply::create(b, &args))
}

fn spec(location: &Location) -> PlasmaObjectSpec {
    let Location { segment, offset, data_size, metadata_size } = *location;
    PlasmaObjectSpec::new(segment, offset, data_size, offset + data_size, metadata_size, 0)
}

fn announced(segment: SegmentInfo) -> i64 {
    (segment.mmap_size + ANNOUNCED_EXTRA).cast_signed()
}

/// The replies that consist of an error code are one table under two names.
fn encode_code(error: i32) -> Vec<u8> {
    Writer::small().finish(|b| fbs::PlasmaCreateAndSealReply::create(b, &fbs::PlasmaCreateAndSealReplyArgs { error }))
}

fn encode_seal(id: &ObjectId, error: i32) -> Vec<u8> {
    let mut writer = Writer::small();
    let object_id = Some(writer.string(id.as_bytes()));
    writer.finish(|b| fbs::PlasmaSealReply::create(b, &fbs::PlasmaSealReplyArgs { object_id, error }))
}

/// The error is a field of ours: old clients learn of a refused abort by nothing.
fn encode_abort(dialect: Dialect, id: &ObjectId, outcome: Result<(), Refusal>) -> Vec<u8> {
    let mut writer = Writer::small();
    let object_id = Some(writer.string(id.as_bytes()));
    let error = if dialect == Dialect::Native { code(dialect, outcome) } else { 0 };
    writer.finish(|b| fbs::PlasmaAbortReply::create(b, &fbs::PlasmaAbortReplyArgs { object_id, error }))
}

fn encode_get(ids: &[ObjectId], locations: &[Option<Location>], segments: &[SegmentInfo]) -> Vec<u8> {
    let unavailable = PlasmaObjectSpec::new(0, 0, UNAVAILABLE, 0, 0, 0);
    let specs = locations.iter().map(|location| location.as_ref().map_or(unavailable, spec));
    let mut writer = Writer::with_extra(ids.len() * (ID_BYTES + size_of::<PlasmaObjectSpec>()) + segments.len() * 12);
    let object_ids = Some(writer.ids(ids));
    let builder = writer.builder();
    let args = fbs::PlasmaGetReplyArgs {
        object_ids,
        plasma_objects: Some(builder.create_vector_from_iter(specs)),
        store_fds: Some(builder.create_vector_from_iter(segments.iter().map(|segment| segment.key))),
        mmap_sizes: Some(builder.create_vector_from_iter(segments.iter().map(|segment| announced(*segment)))),
        // For objects on devices, of which there are none; old clients want the vector.
        handles: Some(builder.create_vector::<flatbuffers::WIPOffset<fbs::CudaHandle<'_>>>(&[])),
    };
    writer.finish(|b| fbs::PlasmaGetReply::create(b, &args))
}

/// Old clients survive any code in this reply.
fn encode_delete(ids: &[ObjectId], outcomes: &[Result<(), Refusal>]) -> Vec<u8> {
    let mut writer = Writer::with_extra(ids.len() * (ID_BYTES + size_of::<i32>()));
    let codes = outcomes.iter().map(|outcome| code(Dialect::Native, *outcome));
    let args = fbs::PlasmaDeleteReplyArgs {
        // As many ids as fit in a body count far below 2^31.
        count: ids.len() as i32,
        object_ids: Some(writer.ids(ids)),
        errors: Some(writer.builder().create_vector_from_iter(codes)),
    };
    writer.finish(|b| fbs::PlasmaDeleteReply::create(b, &args))
}

fn encode_contains(id: &ObjectId, present: bool) -> Vec<u8> {
    let mut writer = Writer::small();
    let args =
        fbs::PlasmaContainsReplyArgs { object_id: Some(writer.string(id.as_bytes())), has_object: present.into() };
    writer.finish(|b| fbs::PlasmaContainsReply::create(b, &args))
}

fn encode_list(objects: &[ObjectInfo]) -> Vec<u8> {
    // An entry has an offset, a table of 60 bytes at most, an id, a digest and perhaps a table layout of its own.
    let mut writer = Writer::with_extra(objects.len() * (2 * ID_BYTES + 80));
    let infos: Vec<_> = objects.iter().map(|object| encode_object_info(&mut writer, object)).collect();
    let objects = Some(writer.builder().create_vector(&infos));
    writer.finish(|b| fbs::PlasmaListReply::create(b, &fbs::PlasmaListReplyArgs { objects }))
}

fn encode_object_info(writer: &mut Writer, object: &ObjectInfo) -> flatbuffers::WIPOffset<fbs::ObjectInfo<'static>> {
    let digest: &[u8] = if object.state == ObjectState::Sealed { &object.digest } else { &[] };
    let args = fbs::ObjectInfoArgs {
        object_id: Some(writer.string(object.id.as_bytes())),
        data_size: object.data_size.cast_signed(),
        metadata_size: object.metadata_size.cast_signed(),
        ref_count: object.ref_count.cast_signed(),
        create_time: object.create_time,
        construct_duration: object.construct_duration,
        digest: Some(writer.string(digest)),
        is_deletion: false,
        is_pinned: object.pinned,
    };
    fbs::ObjectInfo::create(writer.builder(), &args)
}

fn encode_evict(num_bytes: u64) -> Vec<u8> {
    Writer::small().finish(|b| fbs::PlasmaEvictReply::create(b, &fbs::PlasmaEvictReplyArgs { num_bytes }))
}

fn encode_debug_string(text: &str) -> Vec<u8> {
    let mut writer = Writer::with_extra(text.len());
    let debug_string = Some(writer.string(text.as_bytes()));
    writer.finish(|b| fbs::PlasmaGetDebugStringReply::create(b, &fbs::PlasmaGetDebugStringReplyArgs { debug_string }))
}

fn encode_refresh_lru() -> Vec<u8> {
    Writer::small().finish(|b| fbs::PlasmaRefreshLRUReply::create(b, &fbs::PlasmaRefreshLRUReplyArgs {}))
}
