//! What two new peers speak beyond old Plasma, and how they find out: fields of the Connect exchange that old peers do
//! not look at. Anything new that is sent without that exchange kills an old peer.
#![forbid(unsafe_code)]

use super::body::{Body, Writer};
use super::generated::plasma as fbs;
use crate::error::Result;

/// Frames carry request numbers: the header of [`super::frame::Dialect::Native`], codes beyond the old ones, and
/// [`super::Request::Cancel`]. When request and reply of the Connect exchange both showed it, all that follows is native.
pub const ABILITY_REQUEST_NUMBERS: u64 = 1;

/// The request number in a Cancel.
pub(super) fn decode_cancel(body: Body<'_>) -> Result<u64> {
    Ok(body.root::<fbs::NativeCancelRequest<'_>>()?.number())
}

/// A Cancel of the get with request number `number`.
pub(super) fn encode_cancel(number: u64) -> Vec<u8> {
    Writer::small().finish(|b| fbs::NativeCancelRequest::create(b, &fbs::NativeCancelRequestArgs { number }))
}
