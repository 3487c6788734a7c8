//! Random numbers from a seed: splitmix64 (Steele, Lea and Flood, 2014).
//!
//! Only spreads timeouts; must not be used where a guess could hurt.

use crate::types::MemberId;

#[derive(Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64, id: MemberId) -> Random {
        let [a, b, c, d, e, f, g, h, rest @ ..] = id.0.to_le_bytes();
        let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let mut random = Random { state: seed ^ low.rotate_left(17) ^ u64::from_le_bytes(rest) };
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` up to but without `high`; `low` if that is empty. The bias is below 2^-30 for
    /// ranges of seconds.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low);
        if width == 0 { low } else { low + self.next() % width }
    }
}
