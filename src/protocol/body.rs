//! One message body: verified and read field by field with refusals that name the message and the number, or built.
#![forbid(unsafe_code)]

use std::fmt::Display;

use flatbuffers::{
    FlatBufferBuilder, Follow, ForwardsUOffset, Vector, Verifiable, VerifierOptions, WIPOffset, root_with_opts,
};

use super::generated::plasma::MessageType;
use crate::error::{Error, Result};
use crate::object::{OBJECT_ID_SIZE, ObjectId};

/// Bytes of a digest.
pub(super) const DIGEST_SIZE: usize = 8;
/// What one more id adds to a body: its offset, its length, its bytes, the NUL and padding.
pub(super) const ID_BYTES: usize = 32;
/// Room for any message without vectors, details and payload; a get or create reply with one segment fits, too.
const SMALL: usize = 192;

/// A vector of strings of any bytes.
type Strings<'a> = Vector<'a, ForwardsUOffset<&'a [u8]>>;

/// A body as it came, and what it claims to be.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) message: MessageType,
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    pub(super) fn new(message_type: i64, bytes: &'a [u8]) -> Self {
        Self { message: MessageType(message_type), bytes }
    }

    pub(super) fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The body's table, once every offset in it was found to stay inside.
    ///
    /// Honest writers store nothing twice and nest tables in a root table only, which bounds what verifying can cost and
    /// what decoding can allocate by the body's own length. The body may lie at any address: the crate reads scalars
    /// bytewise, and its verifier looks at alignment within the body.
    pub(super) fn root<T: Follow<'a, Inner = T> + Verifiable + 'a>(self) -> Result<T> {
        let limits = VerifierOptions {
            max_depth: 2,
            max_tables: self.bytes.len() / 8 + 1,
            max_apparent_size: 4 * self.bytes.len() + 64,
            ..VerifierOptions::default()
        };
        root_with_opts::<T>(&limits, self.bytes).map_err(|invalid| {
            let invalid = invalid.to_string();
            let reason = invalid.lines().next().unwrap_or_default();
            self.refuse(format_args!("no valid table in {} bytes: {reason}", self.bytes.len()))
        })
    }

    /// The error about this message.
    pub(super) fn refuse(self, why: impl Display) -> Error {
        match self.message.variant_name() {
            Some(name) => Error::Protocol(format!("{name}: {why}")),
            None => Error::Protocol(format!("message type {}: {why}", self.message.0)),
        }
    }

    /// A field that has to be there.
    pub(super) fn present<T>(self, name: &str, field: Option<T>) -> Result<T> {
        field.ok_or_else(|| self.refuse(format_args!("no {name} in {} bytes", self.bytes.len())))
    }

    pub(super) fn id(self, field: Option<&[u8]>) -> Result<ObjectId> {
        self.exactly::<OBJECT_ID_SIZE>("object id", field).map(ObjectId::new)
    }

    pub(super) fn digest(self, field: Option<&[u8]>) -> Result<[u8; DIGEST_SIZE]> {
        self.exactly("digest", field)
    }

    fn exactly<const N: usize>(self, name: &str, field: Option<&[u8]>) -> Result<[u8; N]> {
        let bytes = self.present(name, field)?;
        bytes.try_into().map_err(|_| self.refuse(format_args!("{name} of {} bytes, not {N}", bytes.len())))
    }

    /// Text for people, which is not worth a failure: what is not UTF-8 in it is replaced.
    pub(super) fn text(self, name: &str, field: Option<&[u8]>) -> Result<String> {
        Ok(String::from_utf8_lossy(self.present(name, field)?).into_owned())
    }

    /// A number that a signed field may not make negative.
    pub(super) fn unsigned<S: Copy + Display, U: TryFrom<S>>(self, name: &str, value: S) -> Result<U> {
        U::try_from(value).map_err(|_| self.refuse(format_args!("{name} of {value}")))
    }

    pub(super) fn ids(self, field: Option<Strings<'_>>) -> Result<Vec<ObjectId>> {
        self.present("object ids", field)?.iter().map(|id| self.id(Some(id))).collect()
    }

    /// Ids behind a count of their own, which old peers loop over.
    pub(super) fn counted_ids(self, count: i32, field: Option<Strings<'_>>) -> Result<Vec<ObjectId>> {
        let ids = self.ids(field)?;
        if i64::from(count) != ids.len() as i64 {
            return Err(self.refuse(format_args!("count {count} for {} object ids", ids.len())));
        }
        Ok(ids)
    }

    /// A vector that has to run parallel to another one of `length` entries.
    pub(super) fn parallel<'v, T>(
        self,
        name: &str,
        field: Option<Vector<'v, T>>,
        length: usize,
    ) -> Result<Vector<'v, T>> {
        let vector = self.present(name, field)?;
        if vector.len() != length {
            return Err(self.refuse(format_args!("{} {name}, where {length} are due", vector.len())));
        }
        Ok(vector)
    }
}

/// A body under construction.
pub(super) struct Writer(FlatBufferBuilder<'static>);

impl Writer {
    /// For a message without vectors and payload.
    pub(super) fn small() -> Self {
        Self::with_extra(0)
    }

    /// For a message with about `extra` bytes of vectors and payload.
    pub(super) fn with_extra(extra: usize) -> Self {
        Self(FlatBufferBuilder::with_capacity(SMALL + extra))
    }

    /// A string of any bytes, with the NUL behind it that debug builds of old peers look for.
    pub(super) fn string(&mut self, bytes: &[u8]) -> WIPOffset<&'static [u8]> {
        self.0.create_byte_string(bytes)
    }

    pub(super) fn strings<'s>(&mut self, strings: impl Iterator<Item = &'s [u8]>) -> WIPOffset<Strings<'static>> {
        let offsets: Vec<_> = strings.map(|bytes| self.string(bytes)).collect();
        self.0.create_vector(&offsets)
    }

    pub(super) fn ids(&mut self, ids: &[ObjectId]) -> WIPOffset<Strings<'static>> {
        self.strings(ids.iter().map(|id| id.as_bytes().as_slice()))
    }

    /// What has no method here.
    pub(super) fn builder(&mut self) -> &mut FlatBufferBuilder<'static> {
        &mut self.0
    }

    /// The body whose root table `create` builds.
    pub(super) fn finish<T>(mut self, create: impl FnOnce(&mut FlatBufferBuilder<'static>) -> WIPOffset<T>) -> Vec<u8> {
        let root = create(&mut self.0);
        self.0.finish_minimal(root);
        // The builder fills its buffer from the end.
        let (mut buffer, start) = self.0.collapse();
        buffer.drain(..start);
        buffer
    }
}
