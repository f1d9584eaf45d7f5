//! Reproducible random numbers, for tests with many mutations.

/// A generator of numbers (xorshift).
pub(crate) struct SeededRandom(u64);

impl Default for SeededRandom {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl SeededRandom {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}
