//! What two new peers speak beyond old Plasma, and how they find out: fields of the Connect exchange that old peers do
//! not look at. Anything new that is sent without that exchange kills an old peer.
#![forbid(unsafe_code)]

use super::body::{Body, ID_BYTES, Writer};
use super::generated::plasma as fbs;
use super::refusal::{Refusal, code, outcome};
use super::{Dialect, Reply, Request};
use crate::error::Result;
use crate::object::ObjectId;

/// Frames carry request numbers: the header of [`Dialect::Native`], codes beyond the old ones, and the requests that old peers
/// do not have, from [`Request::Cancel`] on. When request and reply of the Connect exchange both showed it, all that follows is native.
pub const ABILITY_REQUEST_NUMBERS: u64 = 1;

/// Objects can be got without asking: [`Request::Index`].
pub const ABILITY_INDEX: u64 = 2;

/// The peer asks for the segments it needs ([`Request::Segment`]), and lets go of them when told to ([`Request::Retired`]). No
/// descriptor comes with other answers, and objects it creates lie in segments that only it writes.
pub const ABILITY_SEGMENTS: u64 = 4;

/// Requests come through shared memory as well: [`Request::Ring`].
pub const ABILITY_RING: u64 = 8;

/// Objects can be shared before they are sealed: [`Request::Share`].
pub const ABILITY_SHARING: u64 = 16;

/// The request number in a Cancel.
pub(super) fn decode_cancel(body: Body<'_>) -> Result<u64> {
    Ok(body.root::<fbs::NativeCancelRequest<'_>>()?.number())
}

/// A Cancel of the get with request number `number`.
pub(super) fn encode_cancel(number: u64) -> Vec<u8> {
    Writer::small().finish(|b| fbs::NativeCancelRequest::create(b, &fbs::NativeCancelRequestArgs { number }))
}

pub(super) fn decode_subscribe(body: Body<'_>) -> Result<Request> {
    Ok(Request::NativeSubscribe { skip_existing: body.root::<fbs::NativeSubscribeRequest<'_>>()?.skip_existing() })
}

pub(super) fn encode_subscribe(skip_existing: bool) -> Vec<u8> {
    Writer::small()
        .finish(|b| fbs::NativeSubscribeRequest::create(b, &fbs::NativeSubscribeRequestArgs { skip_existing }))
}

/// Why there is no subscription, if there is none.
pub(super) fn decode_subscribed(body: Body<'_>) -> Result<Result<(), String>> {
    let refusal = body.root::<fbs::NativeSubscribeReply<'_>>()?.refusal();
    refusal.map_or(Ok(Ok(())), |refusal| body.text("refusal", Some(refusal)).map(Err))
}

pub(super) fn encode_subscribed(outcome: &Result<(), String>) -> Vec<u8> {
    let mut writer = Writer::with_extra(outcome.as_ref().err().map_or(0, String::len));
    let refusal = outcome.as_ref().err().map(|refusal| writer.string(refusal.as_bytes()));
    writer.finish(|b| fbs::NativeSubscribeReply::create(b, &fbs::NativeSubscribeReplyArgs { refusal }))
}

/// Whether files were mapped, or are asked for: those of the index or of a ring.
pub(super) fn decode_mapped(body: Body<'_>) -> Result<bool> {
    Ok(body.root::<fbs::NativeIndexRequest<'_>>()?.mapped())
}

pub(super) fn encode_mapped(mapped: bool) -> Vec<u8> {
    Writer::small().finish(|b| fbs::NativeIndexRequest::create(b, &fbs::NativeIndexRequestArgs { mapped }))
}

/// Whether files follow, or why the peer has to do without.
pub(super) fn decode_files(body: Body<'_>) -> Result<Result<bool, String>> {
    let table = body.root::<fbs::NativeIndexReply<'_>>()?;
    let refusal = table.refusal().map(|refusal| body.text("refusal", Some(refusal))).transpose()?;
    Ok(refusal.map_or(Ok(table.has_files()), Err))
}

pub(super) fn encode_files(outcome: &Result<bool, String>) -> Vec<u8> {
    let mut writer = Writer::with_extra(outcome.as_ref().err().map_or(0, String::len));
    let refusal = outcome.as_ref().err().map(|refusal| writer.string(refusal.as_bytes()));
    let has_files = *outcome.as_ref().unwrap_or(&false);
    writer.finish(|b| fbs::NativeIndexReply::create(b, &fbs::NativeIndexReplyArgs { has_files, refusal }))
}

pub(super) fn decode_segment(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::NativeSegmentRequest<'_>>()?;
    Ok(Request::Segment { segment: table.segment(), writable: table.writable() })
}

pub(super) fn encode_segment(segment: i32, writable: bool) -> Vec<u8> {
    let args = fbs::NativeSegmentRequestArgs { segment, writable };
    Writer::small().finish(|b| fbs::NativeSegmentRequest::create(b, &args))
}

/// The length of the segment, or why there is none.
pub(super) fn decode_segment_reply(body: Body<'_>) -> Result<Reply> {
    let table = body.root::<fbs::NativeSegmentReply<'_>>()?;
    let refusal = table.refusal().map(|refusal| body.text("refusal", Some(refusal))).transpose()?;
    let mmap_size = body.unsigned("mmap_size", table.mmap_size())?;
    Ok(Reply::Segment { outcome: refusal.map_or(Ok(mmap_size), Err) })
}

pub(super) fn encode_segment_reply(outcome: &Result<u64, String>) -> Vec<u8> {
    let mut writer = Writer::with_extra(outcome.as_ref().err().map_or(0, String::len));
    let refusal = outcome.as_ref().err().map(|refusal| writer.string(refusal.as_bytes()));
    let mmap_size = outcome.as_ref().map_or(0, |size| size.cast_signed());
    writer.finish(|b| fbs::NativeSegmentReply::create(b, &fbs::NativeSegmentReplyArgs { mmap_size, refusal }))
}

pub(super) fn decode_retired(body: Body<'_>) -> Result<Request> {
    let returned = body.present("returned", body.root::<fbs::NativeRetiredRequest<'_>>()?.returned())?;
    Ok(Request::Retired { returned: returned.iter().collect() })
}

pub(super) fn encode_retired(returned: &[i32]) -> Vec<u8> {
    let mut writer = Writer::with_extra(size_of_val(returned));
    let returned = Some(writer.builder().create_vector(returned));
    writer.finish(|b| fbs::NativeRetiredRequest::create(b, &fbs::NativeRetiredRequestArgs { returned }))
}

pub(super) fn decode_retired_reply(body: Body<'_>) -> Result<Reply> {
    let segments = body.present("segments", body.root::<fbs::NativeRetiredReply<'_>>()?.segments())?;
    Ok(Reply::Retired { segments: segments.iter().collect() })
}

pub(super) fn encode_retired_reply(segments: &[i32]) -> Vec<u8> {
    let mut writer = Writer::with_extra(size_of_val(segments));
    let segments = Some(writer.builder().create_vector(segments));
    writer.finish(|b| fbs::NativeRetiredReply::create(b, &fbs::NativeRetiredReplyArgs { segments }))
}

pub(super) fn decode_pin(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::NativePinRequest<'_>>()?;
    Ok(Request::Pin { ids: body.ids(table.object_ids())?, pinned: table.pinned() })
}

pub(super) fn encode_pin(ids: &[ObjectId], pinned: bool) -> Vec<u8> {
    let mut writer = Writer::with_extra(ids.len() * ID_BYTES);
    let object_ids = Some(writer.ids(ids));
    writer.finish(|b| fbs::NativePinRequest::create(b, &fbs::NativePinRequestArgs { object_ids, pinned }))
}

pub(super) fn decode_pin_reply(body: Body<'_>) -> Result<Reply> {
    let errors = body.present("errors", body.root::<fbs::NativePinReply<'_>>()?.errors())?;
    Ok(Reply::Pin { outcomes: errors.iter().map(|error| outcome(body, error)).collect::<Result<_>>()? })
}

pub(super) fn encode_pin_reply(outcomes: &[Result<(), Refusal>]) -> Vec<u8> {
    let mut writer = Writer::with_extra(size_of_val(outcomes));
    let codes = outcomes.iter().map(|outcome| code(Dialect::Native, *outcome));
    let errors = Some(writer.builder().create_vector_from_iter(codes));
    writer.finish(|b| fbs::NativePinReply::create(b, &fbs::NativePinReplyArgs { errors }))
}

pub(super) fn decode_cancel_create(body: Body<'_>) -> Result<Request> {
    let table = body.root::<fbs::NativeCancelCreateRequest<'_>>()?;
    Ok(Request::CancelCreate { number: table.number(), id: body.id(table.object_id())? })
}

pub(super) fn encode_cancel_create(number: u64, id: &ObjectId) -> Vec<u8> {
    let mut writer = Writer::small();
    let object_id = Some(writer.string(id.as_bytes()));
    let args = fbs::NativeCancelCreateRequestArgs { number, object_id };
    writer.finish(|b| fbs::NativeCancelCreateRequest::create(b, &args))
}
