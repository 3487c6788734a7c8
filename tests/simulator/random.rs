//! The one source of chance: a seed decides everything.

/// A small, fast generator (splitmix64: Steele, Lea and Flood, 2014). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; equal seeds give equal sequences.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high);
        low + self.bits() % (high - low + 1)
    }

    /// True in so many of a thousand cases.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.bits() % 1000 < permille
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        assert!(!of.is_empty());
        &of[self.index(of.len())]
    }

    /// From 0 to `below - 1`.
    pub fn index(&mut self, below: usize) -> usize {
        assert!(below > 0);
        usize::try_from(self.bits() % 0xffff_ffff).unwrap_or(0) % below
    }

    /// Puts them in any order.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for at in (1..of.len()).rev() {
            let other = self.index(at + 1);
            of.swap(at, other);
        }
    }

    /// An independent generator.
    pub fn split(&mut self) -> Random {
        Random::new(self.bits())
    }
}
