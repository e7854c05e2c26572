//! Repeatable random numbers for the property tests of this crate (SplitMix64).
#![forbid(unsafe_code)]

/// A generator whose whole future is its seed, so that a failing run can be repeated.
pub(crate) struct Seeded(pub u64);

impl Seeded {
    /// The next number, below `bound` (which is not 0); slightly uneven for huge bounds, which no test minds.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
