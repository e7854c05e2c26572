//! What a client asks: every request of the Plasma protocol, and ours.
#![forbid(unsafe_code)]

use super::body::{Body, DIGEST_SIZE, ID_BYTES, Writer};
use super::generated::plasma::{self as fbs, MessageType};
use super::native;
use super::sharing::{self, ShareAction};
use crate::error::Result;
use crate::object::ObjectId;

/// A request. Sizes are in bytes and as the client sent them: nothing here was compared with what a store can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// First message of a client, although old stores do not insist. Answered by [`super::Reply::Connect`].
    Connect {
        /// What the client can do beyond old Plasma, a bit each ([`super::ABILITY_REQUEST_NUMBERS`]); 0 from old clients.
        abilities: u64,
    },
    /// The client is leaving, just as if it had closed the socket. No reply.
    Disconnect,
    /// Make an object that this client will fill.
    Create {
        /// Its name.
        id: ObjectId,
        /// Bytes of data; negative ones arrive here, too.
        data_size: i64,
        /// Bytes of metadata; negative ones arrive here, too.
        metadata_size: i64,
        /// Whether other objects may go to make room.
        evict_if_full: bool,
        /// 0 for host memory.
        device_num: i32,
        /// Milliseconds that the object lives after its seal; 0 for as long as nobody ends it, as always for old clients.
        ttl_ms: u64,
        /// How long to wait for room; -1: for ever; 0 and any other negative number: not at all. Old clients do not wait.
        wait_ms: i64,
        /// Whether the kernel is to keep everybody from writing the object once it is sealed, its creator included. Old clients cannot
        /// have that.
        immutable: bool,
    },
    /// Make a sealed object out of bytes in the message.
    CreateAndSeal {
        /// Its name.
        id: ObjectId,
        /// Whether other objects may go to make room.
        evict_if_full: bool,
        /// Its data.
        data: Vec<u8>,
        /// Its metadata.
        metadata: Vec<u8>,
        /// Its digest, which nobody checks.
        digest: [u8; 8],
    },
    /// Make several sealed objects, or none.
    CreateAndSealBatch {
        /// The objects; ids may repeat, which the store refuses.
        objects: Vec<InlineObject>,
        /// Whether other objects may go to make room.
        evict_if_full: bool,
    },
    /// Make an object immutable and visible.
    Seal {
        /// Its name.
        id: ObjectId,
        /// Its digest, which nobody checks.
        digest: [u8; 8],
    },
    /// Drop an unsealed object of this client.
    Abort {
        /// Its name.
        id: ObjectId,
    },
    /// Hold sealed objects and say where they are. The reply may come late, after replies to younger requests.
    Get {
        /// Names, perhaps repeated.
        ids: Vec<ObjectId>,
        /// How long to wait for those that are not there; -1: for ever; any other negative number: not at all.
        timeout_ms: i64,
    },
    /// Give a hold back. No reply.
    Release {
        /// Name of the object held.
        id: ObjectId,
    },
    /// Remove objects, those in use once nobody holds them.
    Delete {
        /// Their names.
        ids: Vec<ObjectId>,
    },
    /// Ask whether a sealed object is there.
    Contains {
        /// Its name.
        id: ObjectId,
    },
    /// Ask for all objects.
    List,
    /// Free memory of objects that nobody holds.
    Evict {
        /// At least this many bytes, if there are so many.
        bytes: u64,
    },
    /// Send notifications on the descriptor that follows this message at once. No reply.
    Subscribe,
    /// Name the client, and reserve memory for it.
    SetOptions {
        /// Shown in the debug string; bytes that are not UTF-8 were replaced.
        client_name: String,
        /// Bytes reserved.
        quota: i64,
    },
    /// Ask for the store's statistics as text.
    GetDebugString,
    /// Make objects the youngest in the order of eviction.
    RefreshLru {
        /// Their names.
        ids: Vec<ObjectId>,
    },
    /// Native dialect only: end the waiting get with this request number as if its time had run out. The get's own reply
    /// is the answer; there is no other.
    Cancel {
        /// Number of the get's frame.
        number: u64,
    },
    /// Native dialect only: protect sealed objects from eviction, or end that. All of them, or none.
    Pin {
        /// Their names.
        ids: Vec<ObjectId>,
        /// Whether they are pinned from now on.
        pinned: bool,
    },
    /// Native dialect only: undo the create with this request number, if the object is not sealed yet. A create that was not
    /// answered yet is refused; there is no other answer.
    CancelCreate {
        /// Number of the create's frame.
        number: u64,
        /// The name that it asked for.
        id: ObjectId,
    },
    /// Native dialect only: send notifications to a descriptor that the store makes, and that follows the reply.
    NativeSubscribe {
        /// Whether to leave out the objects that are sealed already.
        skip_existing: bool,
    },
    /// Native dialect only: ask for what it takes to get objects without asking, or say that it was mapped.
    Index {
        /// Which of the two.
        mapped: bool,
    },
    /// Native dialect only: ask for what it takes to send requests through shared memory, or say that it was mapped.
    Ring {
        /// Which of the two.
        mapped: bool,
    },
    /// Native dialect only: ask for a segment, to read it or to be the one who writes it.
    Segment {
        /// Its key, as locations name it.
        segment: i32,
        /// Which of the two.
        writable: bool,
    },
    /// Native dialect only: say which segments are not mapped any more, and ask for those to let go of.
    Retired {
        /// Keys.
        returned: Vec<i32>,
    },
    /// Native dialect only: have several peers write an object before it is sealed, or take part in that.
    Share {
        /// Its name.
        id: ObjectId,
        /// What to do.
        action: ShareAction,
    },
    /// Native dialect only: ask for the store's figures as numbers.
    Stats,
}

/// An object that travels inside a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineObject {
    /// Its name.
    pub id: ObjectId,
    /// Its data.
    pub data: Vec<u8>,
    /// Its metadata.
    pub metadata: Vec<u8>,
    /// Its digest, which nobody checks; those in the batches of old clients mean nothing.
    pub digest: [u8; 8],
}

impl InlineObject {
    /// Bytes of data and metadata.
    pub fn size(&self) -> u64 {
        (self.data.len() + self.metadata.len()) as u64
    }
}

impl Request {
    /// The request in a frame of this type with this body.
    ///
    /// # Errors
    /// [`crate::error::Error::Protocol`] naming the message and what is wrong with it: a type that is no request, a body
    /// that is no table, a field that is missing or of a wrong length, vectors that should run parallel and do not.
    pub fn decode(message_type: i64, body: &[u8]) -> Result<Self> {
        let body = Body::new(message_type, body);
        match body.message {
            // The bodies of these say nothing; old stores do not look at them, so neither do we.
            MessageType::PlasmaDisconnectClient => Ok(Self::Disconnect),
            MessageType::PlasmaListRequest => Ok(Self::List),
            MessageType::PlasmaSubscribeRequest => Ok(Self::Subscribe),
            MessageType::PlasmaGetDebugStringRequest => Ok(Self::GetDebugString),
            MessageType::NativeStatsRequest => Ok(Self::Stats),
            MessageType::PlasmaConnectRequest => connect(body),
            MessageType::PlasmaCreateRequest => create(body),
            MessageType::PlasmaCreateAndSealRequest => create_and_seal(body),
            MessageType::PlasmaCreateAndSealBatchRequest => create_and_seal_batch(body),
            MessageType::PlasmaSealRequest => seal(body),
            MessageType::PlasmaGetRequest => get(body),
            MessageType::PlasmaDeleteRequest => delete(body),
            MessageType::PlasmaSetOptionsRequest => set_options(body),
            MessageType::PlasmaAbortRequest => {
                Ok(Self::Abort { id: body.id(body.root::<fbs::PlasmaAbortRequest<'_>>()?.object_id())? })
            }
            MessageType::PlasmaReleaseRequest => {
                Ok(Self::Release { id: body.id(body.root::<fbs::PlasmaReleaseRequest<'_>>()?.object_id())? })
            }
            MessageType::PlasmaContainsRequest => {
                Ok(Self::Contains { id: body.id(body.root::<fbs::PlasmaContainsRequest<'_>>()?.object_id())? })
            }
            MessageType::PlasmaEvictRequest => {
                Ok(Self::Evict { bytes: body.root::<fbs::PlasmaEvictRequest<'_>>()?.num_bytes() })
            }
            MessageType::PlasmaRefreshLRURequest => {
                Ok(Self::RefreshLru { ids: body.ids(body.root::<fbs::PlasmaRefreshLRURequest<'_>>()?.object_ids())? })
            }
            MessageType::NativeCancelRequest => Ok(Self::Cancel { number: native::decode_cancel(body)? }),
            MessageType::NativePinRequest => native::decode_pin(body),
            MessageType::NativeCancelCreateRequest => native::decode_cancel_create(body),
            MessageType::NativeSubscribeRequest => native::decode_subscribe(body),
            MessageType::NativeIndexRequest => Ok(Self::Index { mapped: native::decode_mapped(body)? }),
            MessageType::NativeRingRequest => Ok(Self::Ring { mapped: native::decode_mapped(body)? }),
            MessageType::NativeSegmentRequest => native::decode_segment(body),
            MessageType::NativeRetiredRequest => native::decode_retired(body),
            MessageType::NativeShareRequest => sharing::decode(body),
            _ => Err(body.refuse("not a request")),
        }
    }

    /// The type and the body of this request's frame.
    pub fn encode(&self) -> (i64, Vec<u8>) {
        (self.message().0, self.body())
    }

    /// What the protocol calls it, for log lines.
    pub fn name(&self) -> &'static str {
        self.message().variant_name().unwrap_or_default()
    }

    fn message(&self) -> MessageType {
        match self {
            Self::Connect { .. } => MessageType::PlasmaConnectRequest,
            Self::Disconnect => MessageType::PlasmaDisconnectClient,
            Self::Create { .. } => MessageType::PlasmaCreateRequest,
            Self::CreateAndSeal { .. } => MessageType::PlasmaCreateAndSealRequest,
            Self::CreateAndSealBatch { .. } => MessageType::PlasmaCreateAndSealBatchRequest,
            Self::Seal { .. } => MessageType::PlasmaSealRequest,
            Self::Abort { .. } => MessageType::PlasmaAbortRequest,
            Self::Get { .. } => MessageType::PlasmaGetRequest,
            Self::Release { .. } => MessageType::PlasmaReleaseRequest,
            Self::Delete { .. } => MessageType::PlasmaDeleteRequest,
            Self::Contains { .. } => MessageType::PlasmaContainsRequest,
            Self::List => MessageType::PlasmaListRequest,
            Self::Evict { .. } => MessageType::PlasmaEvictRequest,
            Self::Subscribe => MessageType::PlasmaSubscribeRequest,
            Self::SetOptions { .. } => MessageType::PlasmaSetOptionsRequest,
            Self::GetDebugString => MessageType::PlasmaGetDebugStringRequest,
            Self::RefreshLru { .. } => MessageType::PlasmaRefreshLRURequest,
            Self::Cancel { .. } => MessageType::NativeCancelRequest,
            Self::Pin { .. } => MessageType::NativePinRequest,
            Self::CancelCreate { .. } => MessageType::NativeCancelCreateRequest,
            Self::NativeSubscribe { .. } => MessageType::NativeSubscribeRequest,
            Self::Index { .. } => MessageType::NativeIndexRequest,
            Self::Ring { .. } => MessageType::NativeRingRequest,
            Self::Segment { .. } => MessageType::NativeSegmentRequest,
            Self::Retired { .. } => MessageType::NativeRetiredRequest,
            Self::Share { .. } => MessageType::NativeShareRequest,
            Self::Stats => MessageType::NativeStatsRequest,
        }
    }

    fn body(&self) -> Vec<u8> {
        match self {
            Self::Connect { abilities } => encode_connect(*abilities),
            Self::Disconnect => Vec::new(),
            Self::Create { id, data_size, metadata_size, evict_if_full, device_num, ttl_ms, wait_ms, immutable } => {
                let mut writer = Writer::small();
                let args = fbs::PlasmaCreateRequestArgs {
                    object_id: Some(writer.string(id.as_bytes())),
                    evict_if_full: *evict_if_full,
                    data_size: data_size.cast_unsigned(),
                    metadata_size: metadata_size.cast_unsigned(),
                    device_num: *device_num,
                    ttl_ms: *ttl_ms,
                    wait_ms: *wait_ms,
                    immutable: *immutable,
                };
                writer.finish(|b| fbs::PlasmaCreateRequest::create(b, &args))
            }
            Self::CreateAndSeal { id, evict_if_full, data, metadata, digest } => {
                encode_create_and_seal(id, *evict_if_full, data, metadata, digest)
            }
            Self::CreateAndSealBatch { objects, evict_if_full } => {
                encode_create_and_seal_batch(objects, *evict_if_full)
            }
            Self::Seal { id, digest } => encode_seal(id, digest),
            Self::Abort { id } => encode_abort(id),
            Self::Get { ids, timeout_ms } => encode_get(ids, *timeout_ms),
            Self::Release { id } => encode_release(id),
            Self::Delete { ids } => encode_delete(ids),
            Self::Contains { id } => encode_contains(id),
            Self::Evict { bytes } => encode_evict(*bytes),
            Self::SetOptions { client_name, quota } => encode_set_options(client_name, *quota),
            Self::RefreshLru { ids } => encode_refresh_lru(ids),
            Self::List | Self::Subscribe | Self::GetDebugString | Self::Stats => encode_empty(),
            Self::Cancel { number } => native::encode_cancel(*number),
            Self::Pin { ids, pinned } => native::encode_pin(ids, *pinned),
            Self::CancelCreate { number, id } => native::encode_cancel_create(*number, id),
            Self::NativeSubscribe { skip_existing } => native::encode_subscribe(*skip_existing),
            Self::Index { mapped } | Self::Ring { mapped } => native::encode_mapped(*mapped),
            Self::Segment { segment, writable } => native::encode_segment(*segment, *writable),
            Self::Retired { returned } => native::encode_retired(returned),
            Self::Share { id, action } => sharing::encode(id, *action),
        }
    }
}

/// Old stores do not look at the body, so a client may have sent none.
fn connect(body: Body<'_>) -> Result<Request> {
    if body.is_empty() {
        return Ok(Request::Connect { abilities: 0 });
    }
    Ok(Request::Connect { abilities: body.root::<fbs::PlasmaConnectRequest<'_>>()?.abilities() })
}

fn create(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::PlasmaCreateRequest<'_>>()?;
    Ok(Request::Create {
        id: body.id(table.object_id())?,
        // Unsigned in the table, but clients mean a signed number and stores read one.
        data_size: table.data_size().cast_signed(),
        metadata_size: table.metadata_size().cast_signed(),
        evict_if_full: table.evict_if_full(),
        device_num: table.device_num(),
        ttl_ms: table.ttl_ms(),
        wait_ms: table.wait_ms(),
        immutable: table.immutable(),
    })
}

fn create_and_seal(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::PlasmaCreateAndSealRequest<'_>>()?;
    Ok(Request::CreateAndSeal {
        id: body.id(table.object_id())?,
        evict_if_full: table.evict_if_full(),
        data: body.present("data", table.data())?.to_vec(),
        metadata: body.present("metadata", table.metadata())?.to_vec(),
        digest: body.digest(table.digest())?,
    })
}

fn create_and_seal_batch(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::PlasmaCreateAndSealBatchRequest<'_>>()?;
    let ids = body.ids(table.object_ids())?;
    let data = body.parallel("data", table.data(), ids.len())?;
    let metadata = body.parallel("metadata", table.metadata(), ids.len())?;
    let digests = body.parallel("digests", table.digest(), ids.len())?;
    let contents = data.iter().zip(metadata).zip(digests);
    let objects = ids.into_iter().zip(contents).map(|(id, ((data, metadata), digest))| {
        let digest = batch_digest(body, digest)?;
        Ok(InlineObject { id, data: data.to_vec(), metadata: metadata.to_vec(), digest })
    });
    Ok(Request::CreateAndSealBatch { objects: objects.collect::<Result<_>>()?, evict_if_full: table.evict_if_full() })
}

/// Old stores take the first bytes of a longer digest in a batch, and only there.
fn batch_digest(body: Body<'_>, digest: &[u8]) -> Result<[u8; DIGEST_SIZE]> {
    body.digest(digest.get(..DIGEST_SIZE).or(Some(digest)))
}

fn seal(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::PlasmaSealRequest<'_>>()?;
    Ok(Request::Seal { id: body.id(table.object_id())?, digest: body.digest(table.digest())? })
}

fn get(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::PlasmaGetRequest<'_>>()?;
    Ok(Request::Get { ids: body.ids(table.object_ids())?, timeout_ms: table.timeout_ms() })
}

fn delete(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::PlasmaDeleteRequest<'_>>()?;
    Ok(Request::Delete { ids: body.counted_ids(table.count(), table.object_ids())? })
}

fn set_options(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::PlasmaSetOptionsRequest<'_>>()?;
    Ok(Request::SetOptions {
        client_name: body.text("client name", table.client_name())?,
        quota: table.output_memory_quota(),
    })
}

fn encode_connect(abilities: u64) -> Vec<u8> {
    Writer::small().finish(|b| fbs::PlasmaConnectRequest::create(b, &fbs::PlasmaConnectRequestArgs { abilities }))
}

/// A table without fields, whatever its name.
fn encode_empty() -> Vec<u8> {
    Writer::small().finish(|b| fbs::PlasmaListRequest::create(b, &fbs::PlasmaListRequestArgs {}))
}

fn encode_create_and_seal(id: &ObjectId, evict_if_full: bool, data: &[u8], metadata: &[u8], digest: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_extra(data.len() + metadata.len());
    let args = fbs::PlasmaCreateAndSealRequestArgs {
        object_id: Some(writer.string(id.as_bytes())),
        evict_if_full,
        data: Some(writer.string(data)),
        metadata: Some(writer.string(metadata)),
        digest: Some(writer.string(digest)),
    };
    writer.finish(|b| fbs::PlasmaCreateAndSealRequest::create(b, &args))
}

fn encode_create_and_seal_batch(objects: &[InlineObject], evict_if_full: bool) -> Vec<u8> {
    // Beside its contents, an object has four offsets, four lengths, and four ends to pad.
    let payload: usize = objects.iter().map(|object| object.data.len() + object.metadata.len() + 3 * ID_BYTES).sum();
    let mut writer = Writer::with_extra(payload);
    let args = fbs::PlasmaCreateAndSealBatchRequestArgs {
        object_ids: Some(writer.strings(objects.iter().map(|object| object.id.as_bytes().as_slice()))),
        evict_if_full,
        data: Some(writer.strings(objects.iter().map(|object| object.data.as_slice()))),
        metadata: Some(writer.strings(objects.iter().map(|object| object.metadata.as_slice()))),
        digest: Some(writer.strings(objects.iter().map(|object| object.digest.as_slice()))),
    };
    writer.finish(|b| fbs::PlasmaCreateAndSealBatchRequest::create(b, &args))
}

fn encode_seal(id: &ObjectId, digest: &[u8]) -> Vec<u8> {
    let mut writer = Writer::small();
    let args = fbs::PlasmaSealRequestArgs {
        object_id: Some(writer.string(id.as_bytes())),
        digest: Some(writer.string(digest)),
    };
    writer.finish(|b| fbs::PlasmaSealRequest::create(b, &args))
}

fn encode_abort(id: &ObjectId) -> Vec<u8> {
    let mut writer = Writer::small();
    let object_id = Some(writer.string(id.as_bytes()));
    writer.finish(|b| fbs::PlasmaAbortRequest::create(b, &fbs::PlasmaAbortRequestArgs { object_id }))
}

fn encode_get(ids: &[ObjectId], timeout_ms: i64) -> Vec<u8> {
    let mut writer = Writer::with_extra(ids.len() * ID_BYTES);
    let object_ids = Some(writer.ids(ids));
    writer.finish(|b| fbs::PlasmaGetRequest::create(b, &fbs::PlasmaGetRequestArgs { object_ids, timeout_ms }))
}

fn encode_release(id: &ObjectId) -> Vec<u8> {
    let mut writer = Writer::small();
    let object_id = Some(writer.string(id.as_bytes()));
    writer.finish(|b| fbs::PlasmaReleaseRequest::create(b, &fbs::PlasmaReleaseRequestArgs { object_id }))
}

fn encode_delete(ids: &[ObjectId]) -> Vec<u8> {
    let mut writer = Writer::with_extra(ids.len() * ID_BYTES);
    let object_ids = Some(writer.ids(ids));
    // As many ids as fit in a body count far below 2^31.
    let count = ids.len() as i32;
    writer.finish(|b| fbs::PlasmaDeleteRequest::create(b, &fbs::PlasmaDeleteRequestArgs { count, object_ids }))
}

fn encode_contains(id: &ObjectId) -> Vec<u8> {
    let mut writer = Writer::small();
    let object_id = Some(writer.string(id.as_bytes()));
    writer.finish(|b| fbs::PlasmaContainsRequest::create(b, &fbs::PlasmaContainsRequestArgs { object_id }))
}

fn encode_evict(num_bytes: u64) -> Vec<u8> {
    Writer::small().finish(|b| fbs::PlasmaEvictRequest::create(b, &fbs::PlasmaEvictRequestArgs { num_bytes }))
}

fn encode_set_options(client_name: &str, output_memory_quota: i64) -> Vec<u8> {
    let mut writer = Writer::with_extra(client_name.len());
    let args = fbs::PlasmaSetOptionsRequestArgs {
        client_name: Some(writer.string(client_name.as_bytes())),
        output_memory_quota,
    };
    writer.finish(|b| fbs::PlasmaSetOptionsRequest::create(b, &args))
}

fn encode_refresh_lru(ids: &[ObjectId]) -> Vec<u8> {
    let mut writer = Writer::with_extra(ids.len() * ID_BYTES);
    let object_ids = Some(writer.ids(ids));
    writer.finish(|b| fbs::PlasmaRefreshLRURequest::create(b, &fbs::PlasmaRefreshLRURequestArgs { object_ids }))
}
