//! Messages that are known again: who published it, the how manieth it is, and numbers that follow from that.

use plasma_store::client::ring::TensorRing;
use plasma_store::error::Result;

/// A number of a message is its producer's above these bits, and below how many that one has published before.
pub const BEHIND_PRODUCER: u32 = 32;
/// Numbers of 64 bits in each message.
pub const WORDS: u64 = 8;

fn word(number: u64, at: u64) -> u64 {
    (number ^ at << 56).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(at as u32)
}

/// Fills the place of a message.
pub fn write(place: *mut u8, number: u64) {
    let all = (1..WORDS).map(|at| word(number, at));
    for (at, value) in std::iter::once(number).chain(all).enumerate() {
        // SAFETY: the slot is the caller's, with room for so many.
        unsafe { place.cast::<u64>().add(at).write(value) }
    }
}

/// The number of a message, which must be whole.
pub fn read(place: *mut u8) -> u64 {
    // SAFETY: the slot is the caller's, with a message of so many.
    let at = |at: u64| unsafe { place.cast::<u64>().add(at as usize).read() };
    let number = at(0);
    assert!((1..WORDS).all(|other| at(other) == word(number, other)), "message {number:#x} is in pieces");
    number
}

/// Publishes one.
pub fn put(ring: &TensorRing, number: u64, timeout_ms: i64) -> Result<()> {
    let slot = ring.acquire(timeout_ms)?;
    write(slot.data, number);
    ring.publish(slot.token, None)
}
