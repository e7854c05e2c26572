//! What a store is to be: the options of a start, and how a user writes down its size.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::shm::index::layout::MOST_OBJECTS;
use crate::store::available::available;
use crate::store::stock::default_pool;
use crate::transport::access::Access;

/// Most objects that an index can name.
pub const MOST_INDEXED: u32 = MOST_OBJECTS;
/// Bytes of the capacity for which there is one place in the index; objects are rarely smaller where there are many.
const BYTES_PER_OBJECT: u64 = 16 << 10;
/// Places in the smallest index, where nobody says how many.
const LEAST_INDEXED: u64 = 4 << 10;

/// What a store is to be.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Where it listens; `None` for a fresh path in a private directory.
    pub socket: Option<PathBuf>,
    /// Bytes of data and metadata that it holds at most.
    pub capacity: u64,
    /// Where the file lies that objects are in; `None` for memory without a directory (memfd).
    pub directory: Option<PathBuf>,
    /// Huge pages for the objects; a directory must be a hugetlbfs then.
    pub huge_pages: bool,
    /// How many objects the index can name, 1 to [`MOST_INDEXED`]; `None` for one in 16 KiB of the capacity, 4096 to that many.
    pub indexed_objects: Option<u32>,
    /// Bytes of memory that are made ready before anybody needs them, 0 for none; `None` for an eighth of the capacity and at most
    /// 256 MiB, and for none where the capacity is below 64 MiB. With a directory or huge pages there are none.
    pub pool: Option<u64>,
    /// How long the store stays awake when there is nothing to do, so that a request through shared memory needs no wake; it takes a
    /// processor meanwhile.
    pub spin: Duration,
    /// URL of the external store, which takes what is evicted and gives it back.
    pub external_store: Option<String>,
    /// Who may connect.
    pub access: Access,
}

impl StoreOptions {
    /// How many objects the index can name.
    pub fn indexed_objects(&self) -> u32 {
        let fitting = (self.capacity / BYTES_PER_OBJECT).clamp(LEAST_INDEXED, MOST_INDEXED.into());
        self.indexed_objects.unwrap_or(fitting as u32)
    }

    /// How much memory is made ready before anybody needs it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than the capacity.
    pub fn pool(&self) -> Result<u64> {
        match self.pool.unwrap_or_else(|| default_pool(self.capacity)) {
            bytes if bytes <= self.capacity => Ok(bytes),
            bytes => {
                let text = format!("a pool of {bytes} bytes in a store of {}: it is a part of that", self.capacity);
                Err(Error::InvalidArgument(text))
            }
        }
    }
}

/// A capacity as users write it: `1000000`, `512M`, `2G` (powers of 1024), `50%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// So many bytes.
    Bytes(u64),
    /// This share of what there is.
    Percent(u64),
}

impl FromStr for Capacity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
        let shift = match text.get(digits.len()..).unwrap_or_default() {
            "%" => return number.map(Self::Percent).ok_or_else(not_a_capacity),
            "" => Some(0),
            "K" | "k" => Some(10),
            "M" | "m" => Some(20),
            "G" | "g" => Some(30),
            "T" | "t" => Some(40),
            _ => None,
        };
        let bytes = number.zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
        bytes.map(Self::Bytes).ok_or_else(not_a_capacity)
    }
}

fn not_a_capacity() -> Error {
    let text =
        format!("not a number of bytes from 1 to {}, such as 1000000, 512M or 2G, nor one such as 50%", u64::MAX);
    Error::InvalidArgument(text)
}

impl Capacity {
    /// Bytes for a store whose objects lie in `directory`, or in memory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with both numbers for more than there is, unless `overcommit`; [`Error::Io`] when the
    /// system does not tell what there is.
    pub fn bytes(self, directory: Option<&Path>, overcommit: bool) -> Result<u64> {
        match self {
            Self::Bytes(bytes) if overcommit => Ok(bytes),
            _ => self.within(available(directory)?, directory, overcommit),
        }
    }

    fn within(self, available: u64, directory: Option<&Path>, overcommit: bool) -> Result<u64> {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let share = u128::from(available) * u128::from(percent) / 100;
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        };
        if bytes > available && !overcommit {
            let place = directory.map_or("memory".into(), |directory| directory.display().to_string());
            let text = format!(
                "a store of {bytes} bytes: {place} has {available} bytes for it at most; --overcommit allows more"
            );
            return Err(Error::InvalidArgument(text));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_bytes_with_a_suffix_or_a_share() {
        let sizes =
            [("1", 1), ("10000", 10_000), ("3k", 3 << 10), ("512M", 512 << 20), ("2G", 2 << 30), ("1T", 1 << 40)];
        for (text, bytes) in sizes {
            assert_eq!(text.parse::<Capacity>().unwrap(), Capacity::Bytes(bytes));
        }
        assert_eq!("50%".parse::<Capacity>().unwrap(), Capacity::Percent(50));
    }

    #[test]
    fn what_is_no_capacity_is_refused() {
        let wrong = ["", "0", "0%", "-5", "M", "%", "10x", "1.5G", "1GB", "5 M", "0x10", "1e6", "é", "5é"];
        for text in wrong.into_iter().chain(["18446744073709551616", "99999999T"]) {
            assert!(text.parse::<Capacity>().is_err(), "{text}");
        }
    }

    #[test]
    fn more_than_there_is_needs_overcommit() {
        assert_eq!(Capacity::Percent(50).within(1001, None, false).unwrap(), 500);
        assert_eq!(Capacity::Bytes(1000).within(1000, None, false).unwrap(), 1000);
        for (asked, bytes) in [(Capacity::Bytes(1001), 1001), (Capacity::Percent(150), 1500)] {
            let error = asked.within(1000, None, false).unwrap_err().to_string();
            assert!(error.contains(&bytes.to_string()) && error.contains("1000 bytes"), "{error}");
            assert_eq!(asked.within(1000, None, true).unwrap(), bytes);
        }
        assert_eq!(Capacity::Percent(u64::MAX).within(u64::MAX, None, true).unwrap(), u64::MAX);
        assert_eq!(Capacity::Bytes(u64::MAX).bytes(None, true).unwrap(), u64::MAX);
    }
}
