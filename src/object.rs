//! The words everyone shares: what an object is called and what is known about it.
#![forbid(unsafe_code)]

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Length of an object id in bytes, fixed by the Plasma wire protocol.
pub const OBJECT_ID_SIZE: usize = 20;

/// The name of an object: 20 opaque bytes. Shown as 40 lower-case hex digits in byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId([u8; OBJECT_ID_SIZE]);

/// As whole words: hash functions are much faster with them than with a row of bytes.
impl Hash for ObjectId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (low, high) = self.0.split_at(size_of::<u128>());
        let low = low.try_into().map(u128::from_le_bytes).unwrap_or_default();
        state.write_u128(low);
        state.write_u32(high.try_into().map(u32::from_le_bytes).unwrap_or_default());
    }
}

impl ObjectId {
    /// The id made of exactly these bytes.
    pub const fn new(bytes: [u8; OBJECT_ID_SIZE]) -> Self {
        Self(bytes)
    }

    /// The id made of these bytes, which must be 20.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the length otherwise.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map_err(|_| {
            Error::InvalidArgument(format!("an object id has {OBJECT_ID_SIZE} bytes, not {}", bytes.len()))
        })?;
        Ok(Self(bytes))
    }

    /// An id that nobody else will make: 160 random bits from the operating system.
    ///
    /// # Errors
    /// [`Error::Io`] when the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; OBJECT_ID_SIZE];
        getrandom::fill(&mut bytes).map_err(|error| Error::io("getrandom", error.into()))?;
        Ok(Self(bytes))
    }

    /// The id of a name: the first 20 bytes of SHA-256(namespace, one zero byte, name).
    ///
    /// Vectors that every language checks itself against are in `tests/fixtures/object_names.json`.
    pub fn from_name(namespace: &str, name: &str) -> Self {
        let digest = Sha256::new().chain_update(namespace).chain_update([0]).chain_update(name).finalize();
        let mut bytes = [0; OBJECT_ID_SIZE];
        bytes.copy_from_slice(&digest[..OBJECT_ID_SIZE]);
        Self(bytes)
    }

    /// The 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; OBJECT_ID_SIZE] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl FromStr for ObjectId {
    type Err = Error;

    /// Reads 40 hex digits, of either case.
    fn from_str(hex: &str) -> Result<Self> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        if hex.chars().count() != 2 * OBJECT_ID_SIZE || digits.len() != 2 * OBJECT_ID_SIZE {
            return Err(Error::InvalidArgument(format!(
                "an object id is written as {} hex digits, not as {hex:?}",
                2 * OBJECT_ID_SIZE
            )));
        }
        let mut bytes = [0; OBJECT_ID_SIZE];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

/// How far an object has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// Created: its creator fills it, nobody else can get it.
    Created,
    /// Sealed: immutable, visible to everyone.
    Sealed,
}

/// What `list` tells about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub id: ObjectId,
    /// Whether it is sealed.
    pub state: ObjectState,
    /// Bytes of data.
    pub data_size: u64,
    /// Bytes of metadata, our trailer included.
    pub metadata_size: u64,
    /// Connections that hold it.
    pub ref_count: u32,
    /// When it was created, in Unix seconds.
    pub create_time: i64,
    /// Whole seconds from create to seal, -1 while unsealed.
    pub construct_duration: i64,
    /// The 8 bytes that its creator gave as digest when it sealed it; zero where none was computed.
    pub digest: [u8; 8],
    /// Whether it is pinned: nothing evicts it.
    pub pinned: bool,
}

/// Where an object's bytes are: data first, metadata right behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Key of the segment: positive, and never used for another segment while the store lives.
    pub segment: i32,
    /// First byte of the data, from the start of the segment; a multiple of 64.
    pub offset: u64,
    /// Bytes of data.
    pub data_size: u64,
    /// Bytes of metadata.
    pub metadata_size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip() {
        let id = ObjectId::new(*b"abcdefghijklmnopqrst");
        assert_eq!(id.to_string(), "6162636465666768696a6b6c6d6e6f7071727374");
        assert_eq!(id.to_string().to_uppercase().parse::<ObjectId>().unwrap(), id);
    }

    #[test]
    fn bad_ids_name_what_was_wrong() {
        assert!(ObjectId::from_bytes(&[0; 19]).unwrap_err().to_string().contains("19"));
        assert!("abc".parse::<ObjectId>().unwrap_err().to_string().contains("abc"));
        assert!("g".repeat(40).parse::<ObjectId>().is_err());
        assert!("é".repeat(20).parse::<ObjectId>().is_err());
    }

    #[test]
    fn names_depend_on_the_namespace() {
        assert_ne!(ObjectId::from_name("a", "bc"), ObjectId::from_name("ab", "c"));
        assert_eq!(ObjectId::from_name("", "x"), ObjectId::from_name("", "x"));
    }
}
