//! Random numbers whose whole future is their seed.

/// SplitMix64: any seed is a good one.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A size between the two, each power of two as likely as the next.
    pub fn size(&mut self, least: u64, most: u64) -> u64 {
        let doublings = (most / least).ilog2().into();
        let base = least << self.below(doublings);
        base + self.below(base)
    }
}
