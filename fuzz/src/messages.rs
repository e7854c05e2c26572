//! Message bodies. What is accepted means the same after it was encoded and decoded again.

use plasma_store::protocol::notification::{self, Notification};
use plasma_store::protocol::{Dialect, Reply, Request};

/// A message type in two bytes, little-endian, and a body.
pub fn request(data: &[u8]) -> bool {
    let Some((kind, body)) = typed(data) else { return false };
    let Ok(request) = Request::decode(kind, body) else { return false };
    assert!(!request.name().is_empty());
    let (again, encoded) = request.encode();
    assert_eq!(again, kind);
    assert_eq!(Request::decode(again, &encoded).expect("we wrote it"), request);
    true
}

/// A message type in two bytes, little-endian, and a body.
pub fn reply(data: &[u8]) -> bool {
    let Some((kind, body)) = typed(data) else { return false };
    let Ok(reply) = Reply::decode(kind, body) else { return false };
    let (again, encoded) = reply.encode(Dialect::Native);
    assert_eq!(again, kind);
    assert_eq!(Reply::decode(again, &encoded).expect("we wrote it"), reply);
    // An old client is told less, and what it is told means the same to everyone.
    let (old_kind, old) = reply.encode(Dialect::Plasma);
    assert_eq!(old_kind, kind);
    let told = Reply::decode(old_kind, &old).expect("we wrote it for old clients");
    assert_eq!(told.encode(Dialect::Plasma), (kind, old));
    true
}

/// The stream of a subscriber.
pub fn notification(data: &[u8]) -> bool {
    let Ok(Some((told, taken))) = notification::decode(data) else { return false };
    let (frame, _) = data.split_at(taken);
    assert_eq!(notification::decode(frame).unwrap(), Some((told.clone(), taken)), "bytes behind it mattered");
    assert!(notification::decode(&frame[..taken - 1]).unwrap().is_none(), "one byte too few is no frame");
    // A reader that takes what is missing, and no more, gets the frame and no more.
    let length = size_of::<i64>() + notification::missing(&frame[..size_of::<i64>()]).unwrap();
    assert_eq!((length, notification::missing(frame).unwrap()), (taken, 0));
    let encoded = match &told.end {
        Some(reason) if told.events.is_empty() => notification::encode_end(reason),
        _ => notification::encode(&told.events),
    };
    let end = told.end.clone().filter(|_| told.events.is_empty());
    let expected = Notification { events: told.events, end };
    assert_eq!(notification::decode(&encoded).expect("we wrote it"), Some((expected, encoded.len())));
    true
}

fn typed(data: &[u8]) -> Option<(i64, &[u8])> {
    let (kind, body) = data.split_first_chunk()?;
    Some((u16::from_le_bytes(*kind).into(), body))
}
