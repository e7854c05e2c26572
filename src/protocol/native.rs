//! What two new peers speak beyond old Plasma, and how they find out: fields of the Connect exchange that old peers do
//! not look at. Anything new that is sent without that exchange kills an old peer.
#![forbid(unsafe_code)]

use super::body::{Body, Writer};
use super::generated::plasma as fbs;
use super::request::Request;
use crate::error::Result;

/// Frames carry request numbers: the header of [`super::frame::Dialect::Native`], codes beyond the old ones, and
/// the requests that are ours. When request and reply of the Connect exchange both showed it, all that follows is native.
pub const ABILITY_REQUEST_NUMBERS: u64 = 1;

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
