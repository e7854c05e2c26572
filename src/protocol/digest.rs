//! The digest that old Plasma clients compute when they seal: XXH64 with seed 0. Nobody verifies it.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use xxhash_rust::xxh64::Xxh64;

/// From this many bytes of data on, the pieces are hashed apart: old clients give them to eight threads.
const PIECEWISE_FROM: u64 = 1 << 20;
const PIECES: u64 = 8;
const BLOCK: u64 = 64;
/// Bytes copied at once out of memory that is read and not lent.
const CHUNK: usize = 64 << 10;

/// The digest of an object in wire order; vectors are in `tests/fixtures/digests.txt`.
///
/// Small data is hashed together with the metadata. Of larger data eight equal pieces (whole blocks of 64 bytes) and the
/// rest, which may be empty, are hashed on their own; their nine hashes and the metadata are hashed again.
pub fn digest(data: &[u8], metadata: &[u8]) -> [u8; 8] {
    let read = |offset: u64, out: &mut [u8]| {
        let range = data.get(offset as usize..).unwrap_or_default();
        out.iter_mut().zip(range).for_each(|(to, from)| *to = *from);
        Ok::<(), Infallible>(())
    };
    match digest_of(data.len() as u64, metadata, read) {
        Ok(digest) => digest,
    }
}

/// The same of data that lies in memory which may only be copied out of: `read` fills its slice from an offset.
///
/// # Errors
/// Those of `read`.
pub fn digest_of<E>(
    data_size: u64,
    metadata: &[u8],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<[u8; 8], E> {
    let mut hash = Xxh64::new(0);
    if data_size < PIECEWISE_FROM {
        update(&mut hash, 0, data_size, &mut read)?;
    } else {
        let piece = data_size / BLOCK / PIECES * BLOCK;
        for start in (0..=PIECES).map(|index| index * piece) {
            let length = if start == PIECES * piece { data_size - start } else { piece };
            let mut part = Xxh64::new(0);
            update(&mut part, start, length, &mut read)?;
            hash.update(&part.digest().to_le_bytes());
        }
    }
    hash.update(metadata);
    Ok(hash.digest().to_le_bytes())
}

fn update<E>(
    hash: &mut Xxh64,
    start: u64,
    length: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut chunk = vec![0; CHUNK.min(length as usize)];
    let mut done = 0;
    while done < length {
        let count = (length - done).min(CHUNK as u64) as usize;
        let part = chunk.get_mut(..count).unwrap_or_default();
        read(start + done, part)?;
        hash.update(part);
        done += count as u64;
    }
    Ok(())
}
