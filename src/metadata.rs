//! An object's metadata: the user's bytes, and behind them what this library has to say about the object.
//!
//! Ours is a trailer, found from the end: entries (key u16, length u32, that many bytes), then the entries' total
//! length (u32), then the magic `PLSMETA1`; all little-endian. Bytes that do not parse completely as a trailer are the
//! user's own, so metadata of programs that know nothing of us come out as they went in. Vectors:
//! `tests/fixtures/metadata_trailer.json`; the layout in pictures: `docs/formats.md`.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// The last bytes of a trailer, length and magic: all that a reader needs to know how much to copy.
pub const TAIL_SIZE: usize = 12;

/// A trailer, tail included, is at most this long. What claims more is the user's.
pub const MAX_TRAILER_SIZE: usize = 64 * 1024;

/// Key of the element type: DLPack code (u8), bits (u8), lanes (u16).
pub const KEY_DTYPE: u16 = 1;
/// Key of the shape: one i64 per dimension.
pub const KEY_SHAPE: u16 = 2;
/// Key of the name: UTF-8, without a NUL.
pub const KEY_NAME: u16 = 3;
/// Key of how long acquires wait in a ring: milliseconds (i64).
pub const KEY_ACQUIRE_MS: u16 = 4;

const MAGIC: &[u8; 8] = b"PLSMETA1";
const ENTRY_HEAD_SIZE: usize = 6;

/// Our part of an object's metadata: entries in the order they lie in. Keys we do not know are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    entries: Vec<(u16, Vec<u8>)>,
}

impl Trailer {
    /// The value of the first entry with this key.
    pub fn get(&self, key: u16) -> Option<&[u8]> {
        self.entries().find(|&(found, _)| found == key).map(|(_, value)| value)
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.entries.iter().map(|(key, value)| (*key, value.as_slice()))
    }

    /// Adds an entry at the end.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the trailer would grow beyond [`MAX_TRAILER_SIZE`]; it is unchanged then.
    pub fn push(&mut self, key: u16, value: &[u8]) -> Result<()> {
        let size = self.encoded_size().saturating_add(ENTRY_HEAD_SIZE).saturating_add(value.len());
        if size > MAX_TRAILER_SIZE {
            return Err(Error::InvalidArgument(format!(
                "metadata entry {key} of {} bytes makes a trailer of {size} bytes, the limit is {MAX_TRAILER_SIZE}",
                value.len()
            )));
        }
        self.entries.push((key, value.to_vec()));
        Ok(())
    }

    /// The trailer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_size());
        for (key, value) in &self.entries {
            bytes.extend_from_slice(&key.to_le_bytes());
            // `push` and `parse` keep every length below MAX_TRAILER_SIZE.
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        let entries_size = bytes.len() as u32;
        bytes.extend_from_slice(&entries_size.to_le_bytes());
        bytes.extend_from_slice(MAGIC);
        bytes
    }

    /// The metadata to store: the user's bytes, then this trailer.
    ///
    /// Without entries nothing is added, except when the user's own bytes end like a trailer: an empty one then keeps
    /// them the user's. So [`split`] always gives back exactly `user`.
    pub fn append_to(&self, user: &[u8]) -> Vec<u8> {
        let mut metadata = user.to_vec();
        if !self.entries.is_empty() || split(user).1.is_some() {
            metadata.extend_from_slice(&self.encode());
        }
        metadata
    }

    /// Reads a trailer that takes up all of `bytes`; `None` when they are anything else.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut rest, tail) = bytes.split_last_chunk::<TAIL_SIZE>()?;
        if trailer_size(tail, bytes.len() as u64)? != bytes.len() {
            return None;
        }
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (head, after) = rest.split_first_chunk::<ENTRY_HEAD_SIZE>()?;
            let [k0, k1, l0, l1, l2, l3] = *head;
            let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
            let (value, after) = after.split_at_checked(length)?;
            entries.push((u16::from_le_bytes([k0, k1]), value.to_vec()));
            rest = after;
        }
        Some(Self { entries })
    }

    fn encoded_size(&self) -> usize {
        TAIL_SIZE + self.entries.iter().map(|(_, value)| ENTRY_HEAD_SIZE + value.len()).sum::<usize>()
    }
}

/// How many bytes at the end of metadata of `metadata_size` bytes may be a trailer, told by the last [`TAIL_SIZE`].
///
/// For metadata in shared memory, where bytes can change under the reader: copy the tail out, ask here, copy that
/// many bytes out, and give the copy to [`split`], which judges it again. `None`: all of it is the user's.
pub fn trailer_size(tail: &[u8; TAIL_SIZE], metadata_size: u64) -> Option<usize> {
    let entries_size = u32::from_le_bytes(*tail.first_chunk()?);
    let size = usize::try_from(entries_size).ok()?.checked_add(TAIL_SIZE)?;
    let fits = size <= MAX_TRAILER_SIZE && size as u64 <= metadata_size;
    (tail.ends_with(MAGIC) && fits).then_some(size)
}

/// How many of these bytes are the user's, and the trailer behind them if there is one.
///
/// Also right for a copy of only the last bytes of the metadata, as long as the trailer is whole in it.
pub fn split(metadata: &[u8]) -> (usize, Option<Trailer>) {
    let found = metadata.last_chunk().and_then(|tail| trailer_size(tail, metadata.len() as u64)).and_then(|size| {
        let (user, bytes) = metadata.split_at_checked(metadata.len() - size)?;
        Some((user.len(), Trailer::parse(bytes)?))
    });
    match found {
        Some((user, trailer)) => (user, Some(trailer)),
        None => (metadata.len(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_bytes_come_back_whatever_they_are() {
        let mut trailer = Trailer::default();
        let inner = trailer.append_to(&trailer.encode());
        for user in [&b""[..], b"user", MAGIC, &Trailer::default().encode(), &inner] {
            assert_eq!(split(&Trailer::default().append_to(user)).0, user.len());
        }
        trailer.push(KEY_NAME, b"n").unwrap();
        let stored = trailer.append_to(b"user");
        assert_eq!(split(&stored), (4, Some(trailer)));
    }

    #[test]
    fn metadata_without_entries_are_left_alone() {
        assert_eq!(Trailer::default().append_to(b"user"), b"user");
    }

    #[test]
    fn every_truncation_is_the_users() {
        let mut trailer = Trailer::default();
        trailer.push(KEY_SHAPE, &7_i64.to_le_bytes()).unwrap();
        trailer.push(77, b"").unwrap();
        let whole = trailer.encode();
        for cut in 1..whole.len() {
            assert_eq!(split(&whole[cut..]), (whole.len() - cut, None), "front cut by {cut}");
            assert_eq!(split(&whole[..cut]), (cut, None), "cut to {cut}");
        }
    }

    #[test]
    fn the_limit_holds_in_both_directions() {
        let mut trailer = Trailer::default();
        trailer.push(9, &vec![1; MAX_TRAILER_SIZE - TAIL_SIZE - ENTRY_HEAD_SIZE]).unwrap();
        let bytes = trailer.encode();
        assert_eq!(bytes.len(), MAX_TRAILER_SIZE);
        assert_eq!(split(&bytes).0, 0);
        let refused = trailer.push(10, b"").unwrap_err().to_string();
        assert!(refused.contains("65542"), "{refused}");
        assert_eq!(trailer.entries().count(), 1);

        let mut longer = vec![0; 1];
        longer.extend_from_slice(&bytes);
        let at = longer.len() - TAIL_SIZE;
        longer[at..at + 4].copy_from_slice(&(MAX_TRAILER_SIZE as u32 - 11).to_le_bytes());
        assert_eq!(split(&longer), (longer.len(), None));
    }

    #[test]
    fn a_reader_of_shared_memory_learns_how_much_to_copy() {
        let mut trailer = Trailer::default();
        trailer.push(KEY_NAME, b"name").unwrap();
        let stored = trailer.append_to(&[5; 1000]);
        let tail = stored.last_chunk().unwrap();
        let size = trailer_size(tail, stored.len() as u64).unwrap();
        assert_eq!(size, trailer.encode().len());
        assert_eq!(split(&stored[stored.len() - size..]), (0, Some(trailer)));
        assert_eq!(trailer_size(tail, size as u64 - 1), None);
        assert_eq!(trailer_size(b"\0\0\0\0PLSMETA2", 100), None);
        assert_eq!(trailer_size(b"\xff\xff\xff\xffPLSMETA1", u64::MAX), None);
    }
}
