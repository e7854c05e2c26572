//! The stream of events on a subscriber's socket: frames of an i64 length and a table, nothing else.
//!
//! It has no version and no type; nothing ever goes the other way. A subscriber of ours gets each event in a frame of its own, so
//! that its descriptor can be read as long as there is an event; and a frame without events, with the reason, when it is dropped.
#![forbid(unsafe_code)]

use flatbuffers::WIPOffset;

use super::body::{Body, ID_BYTES, Writer};
use super::frame::checked_length;
use super::generated::plasma::{self as fbs, MessageType};
use crate::error::Result;
use crate::object::ObjectId;

/// What happened to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was sealed, or it was there when the subscription began.
    Sealed {
        /// Its name.
        id: ObjectId,
        /// Bytes of data.
        data_size: u64,
        /// Bytes of metadata.
        metadata_size: u64,
        /// The digest that its creator gave.
        digest: [u8; 8],
    },
    /// It was deleted or evicted.
    Deleted {
        /// Its name.
        id: ObjectId,
    },
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What happened; to old subscribers, things that happened at once share a frame.
    pub events: Vec<Event>,
    /// Why nothing more will come.
    pub end: Option<String>,
}

/// The whole frame of these events, length included.
pub fn encode(events: &[Event]) -> Vec<u8> {
    encode_with(events, None)
}

/// The whole last frame of a subscription that the store ends for this reason.
pub fn encode_end(reason: &str) -> Vec<u8> {
    encode_with(&[], Some(reason))
}

fn encode_with(events: &[Event], end: Option<&str>) -> Vec<u8> {
    let mut writer = Writer::with_extra(events.len() * (2 * ID_BYTES + 64) + end.map_or(0, str::len));
    let infos: Vec<_> = events.iter().map(|event| encode_event(&mut writer, event)).collect();
    let object_info = Some(writer.builder().create_vector(&infos));
    let end = end.map(|end| writer.string(end.as_bytes()));
    let body = writer.finish(|b| fbs::PlasmaNotification::create(b, &fbs::PlasmaNotificationArgs { object_info, end }));
    let mut frame = Vec::with_capacity(size_of::<i64>() + body.len());
    frame.extend_from_slice(&(body.len() as u64).to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// How many bytes are missing until the frame at the start of `bytes` is whole, or until its length is known; 0 when it is whole.
///
/// # Errors
/// [`crate::error::Error::Protocol`] naming a length that no frame has.
pub fn missing(bytes: &[u8]) -> Result<usize> {
    let length = bytes.first_chunk().map(|length| checked_length(i64::from_le_bytes(*length))).transpose()?;
    Ok((size_of::<i64>() + length.unwrap_or(0)).saturating_sub(bytes.len()))
}

/// What the first frame in `bytes` says and the bytes that it takes, or `None` while it is not there whole.
///
/// # Errors
/// [`crate::error::Error::Protocol`] naming a length that no frame has, or what is wrong with the table.
pub fn decode(bytes: &[u8]) -> Result<Option<(Notification, usize)>> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = checked_length(i64::from_le_bytes(*length))?;
    let Some(body) = rest.get(..length) else { return Ok(None) };
    Ok(Some((decode_body(body)?, size_of::<i64>() + length)))
}

/// What a frame says whose length was taken off.
///
/// # Errors
/// [`crate::error::Error::Protocol`] naming what is wrong with the table.
pub fn decode_body(body: &[u8]) -> Result<Notification> {
    let body = Body::new(MessageType::PlasmaNotification.0, body);
    let table = body.root::<fbs::PlasmaNotification<'_>>()?;
    let infos = body.present("object infos", table.object_info())?;
    let events = infos.iter().map(|info| event(body, info)).collect::<Result<_>>()?;
    let end = table.end().map(|end| body.text("end", Some(end))).transpose()?;
    Ok(Notification { events, end })
}

fn event(body: Body<'_>, info: fbs::ObjectInfo<'_>) -> Result<Event> {
    let id = body.id(info.object_id())?;
    if info.is_deletion() {
        return Ok(Event::Deleted { id });
    }
    Ok(Event::Sealed {
        id,
        data_size: body.unsigned("data size", info.data_size())?,
        metadata_size: body.unsigned("metadata size", info.metadata_size())?,
        digest: body.digest(info.digest())?,
    })
}

/// Only the fields that old stores fill: a deletion has no sizes and no digest.
fn encode_event(writer: &mut Writer, event: &Event) -> WIPOffset<fbs::ObjectInfo<'static>> {
    let args = match event {
        Event::Sealed { id, data_size, metadata_size, digest } => fbs::ObjectInfoArgs {
            object_id: Some(writer.string(id.as_bytes())),
            data_size: data_size.cast_signed(),
            metadata_size: metadata_size.cast_signed(),
            digest: Some(writer.string(digest)),
            ..Default::default()
        },
        Event::Deleted { id } => fbs::ObjectInfoArgs {
            object_id: Some(writer.string(id.as_bytes())),
            is_deletion: true,
            ..Default::default()
        },
    };
    fbs::ObjectInfo::create(writer.builder(), &args)
}
