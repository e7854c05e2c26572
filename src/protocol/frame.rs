//! The frame around every message on a connection: a header of 64-bit words, then the body.
//!
//! ```text
//! offset  size  word
//!      0     8  version: 0 in the Plasma dialect, 1 in the native one
//!      8     8  message type
//!     16     8  length of the body in bytes
//!     24     8  request number, native dialect only; a reply carries the number of its request
//! ```
//!
//! All words are little-endian. The Connect exchange is in the Plasma dialect on every connection; both sides change to
//! the native one behind it when each has shown the ability (`native.rs`).
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// The longest body that we accept, in bytes. Old peers know no limit, and allocate what they are told.
pub const MAX_BODY: u64 = 64 << 20;

/// How frames look on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// What Apache Arrow's Plasma speaks: replies come in the order of their requests, except those of waiting gets.
    #[default]
    Plasma,
    /// Ours: frames carry request numbers, so any number of requests may be open.
    Native,
}

impl Dialect {
    /// Bytes in front of the body.
    pub const fn header_size(self) -> usize {
        match self {
            Self::Plasma => 24,
            Self::Native => 32,
        }
    }

    const fn version(self) -> i64 {
        match self {
            Self::Plasma => 0,
            Self::Native => 1,
        }
    }
}

/// What the words in front of a body say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is; any value, known or not.
    pub message_type: i64,
    /// Bytes that follow the header, at most [`MAX_BODY`].
    pub body_len: usize,
    /// Which request this is or answers; 0 in the Plasma dialect, which has no numbers.
    pub number: u64,
}

impl Header {
    /// The header at the start of `bytes`, or `None` while fewer than [`Dialect::header_size`] bytes are there.
    ///
    /// # Errors
    /// [`Error::Protocol`] naming a version that is not the dialect's, or a length that is negative or over [`MAX_BODY`].
    pub fn decode(dialect: Dialect, bytes: &[u8]) -> Result<Option<Self>> {
        let Some(header) = bytes.get(..dialect.header_size()) else { return Ok(None) };
        let word = |at| header.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| i64::from_le_bytes(*word));
        let version = word(0);
        if version != dialect.version() {
            return Err(Error::Protocol(format!("frame of version {version}, not {}", dialect.version())));
        }
        // The Plasma header ends before the number, which is then 0.
        Ok(Some(Self { message_type: word(8), body_len: checked_length(word(16))?, number: word(24).cast_unsigned() }))
    }
}

/// A length that a peer announced, if it is one that we accept.
pub(super) fn checked_length(announced: i64) -> Result<usize> {
    match usize::try_from(announced) {
        Ok(length) if length as u64 <= MAX_BODY => Ok(length),
        _ => Err(Error::Protocol(format!("body of {announced} bytes, where 0 to {MAX_BODY} are allowed"))),
    }
}

/// The whole frame in one piece, so that one write sends it. `number` is left out in the Plasma dialect.
///
/// A body over [`MAX_BODY`] is framed all the same: our peers will refuse it, so its maker has to look before.
pub fn encode(dialect: Dialect, message_type: i64, number: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(dialect.header_size() + body.len());
    frame.extend_from_slice(&dialect.version().to_le_bytes());
    frame.extend_from_slice(&message_type.to_le_bytes());
    frame.extend_from_slice(&(body.len() as u64).to_le_bytes());
    if dialect == Dialect::Native {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: [i64; 3]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn headers_round_trip_in_both_dialects() {
        for (dialect, number) in [(Dialect::Plasma, 0), (Dialect::Native, u64::MAX - 6)] {
            let frame = encode(dialect, 9, number, b"abc");
            assert_eq!(frame.len(), dialect.header_size() + 3);
            let header = Header { message_type: 9, body_len: 3, number };
            assert_eq!(Header::decode(dialect, &frame).unwrap(), Some(header));
            assert!(frame.ends_with(b"abc"));
        }
    }

    #[test]
    fn an_incomplete_header_asks_for_more() {
        for dialect in [Dialect::Plasma, Dialect::Native] {
            let frame = encode(dialect, 1, 1, b"");
            for length in 0..frame.len() {
                assert_eq!(Header::decode(dialect, &frame[..length]).unwrap(), None);
            }
        }
    }

    #[test]
    fn refusals_name_the_number() {
        let longest = MAX_BODY as i64;
        assert!(Header::decode(Dialect::Plasma, &words([0, 1, longest])).unwrap().is_some());
        for (header, number) in [
            ([7, 1, 0], "version 7"),
            ([1, 1, 0], "version 1"),
            ([0, 1, -5], "-5 bytes"),
            ([0, 1, longest + 1], "67108865 bytes"),
            ([0, 1, i64::MIN], "-9223372036854775808 bytes"),
        ] {
            let error = Header::decode(Dialect::Plasma, &words(header)).unwrap_err().to_string();
            assert!(error.contains(number), "{error}");
        }
    }
}
