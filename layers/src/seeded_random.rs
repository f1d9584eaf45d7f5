//! Random numbers that are the same every time, for tests that break things in many ways.

/// A generator of numbers (xorshift).
pub(crate) struct SeededRandom(u64);

impl Default for SeededRandom {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl SeededRandom {
    /// A number from 0 up to and excluding `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}
