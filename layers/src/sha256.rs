//! SHA-256 of two streams at a time (FIPS 180-4).
//!
//! An instruction of the CPU's SHA extension waits for the result of the one before it. Between the instructions of one
//! stream there is time for those of another: two streams take little longer than one.

use sha2::block_api::compress256;

/// A block of the algorithm, in bytes.
const BLOCK: usize = 64;

/// The initial hash value (section 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The hash of a stream.
#[derive(Debug, Clone)]
pub struct Sha256Stream {
    state: [u32; 8],
    /// The beginning of the next block.
    block: [u8; BLOCK],
    filled: usize,
    len: u64,
}

impl Default for Sha256Stream {
    fn default() -> Self {
        Self { state: INITIAL, block: [0; BLOCK], filled: 0, len: 0 }
    }
}

impl Sha256Stream {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let bytes = self.fill(bytes);
        let (blocks, rest) = bytes.as_chunks();
        compress256(&mut self.state, blocks);
        self.keep(rest);
    }

    /// The hash.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.len.wrapping_mul(8);
        self.update(&[0x80]);
        let zeros = (2 * BLOCK - 8 - self.filled) % BLOCK;
        self.update(&[0; BLOCK][..zeros]);
        self.update(&bits.to_be_bytes());
        let mut hash = [0; 32];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }

    /// Completes the block that was begun, and returns the rest of the bytes.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if self.filled == 0 {
            return bytes;
        }
        let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
        self.block[self.filled..self.filled + now.len()].copy_from_slice(now);
        self.filled += now.len();
        if self.filled == BLOCK {
            compress256(&mut self.state, &[self.block]);
            self.filled = 0;
        }
        later
    }

    /// Keeps less than a block.
    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.block[..rest.len()].copy_from_slice(rest);
            self.filled = rest.len();
        }
    }
}

/// Adds `bytes` to both streams.
pub fn update_both(a: &mut Sha256Stream, b: &mut Sha256Stream, bytes: &[u8]) {
    update_two(a, bytes, b, bytes);
}

/// Adds bytes to each of two streams.
pub fn update_two(a: &mut Sha256Stream, to_a: &[u8], b: &mut Sha256Stream, to_b: &[u8]) {
    let (to_a, to_b) = (a.fill(to_a), b.fill(to_b));
    let ((blocks_a, rest_a), (blocks_b, rest_b)) = (to_a.as_chunks(), to_b.as_chunks());
    let common = blocks_a.len().min(blocks_b.len());
    let ((now_a, later_a), (now_b, later_b)) = (blocks_a.split_at(common), blocks_b.split_at(common));
    compress_two(&mut a.state, now_a, &mut b.state, now_b);
    compress256(&mut a.state, later_a);
    compress256(&mut b.state, later_b);
    a.keep(rest_a);
    b.keep(rest_b);
}

#[cfg(target_arch = "x86_64")]
fn compress_two(a: &mut [u32; 8], blocks_a: &[[u8; BLOCK]], b: &mut [u32; 8], blocks_b: &[[u8; BLOCK]]) {
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3") {
        #[expect(unsafe_code, reason = "the function needs instructions that only some CPUs have")]
        // SAFETY: the CPU has them.
        unsafe {
            x86::compress_two(a, blocks_a, b, blocks_b);
        }
    } else {
        compress256(a, blocks_a);
        compress256(b, blocks_b);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn compress_two(a: &mut [u32; 8], blocks_a: &[[u8; BLOCK]], b: &mut [u32; 8], blocks_b: &[[u8; BLOCK]]) {
    compress256(a, blocks_a);
    compress256(b, blocks_b);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::BLOCK;

    /// The constants of the rounds (section 4.2.2), four in an element.
    const ROUNDS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// The working variables in the order that the instructions need: `a b e f` and `c d g h`.
    #[derive(Clone, Copy)]
    struct Variables {
        abef: __m128i,
        cdgh: __m128i,
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    pub(super) fn compress_two(a: &mut [u32; 8], blocks_a: &[[u8; BLOCK]], b: &mut [u32; 8], blocks_b: &[[u8; BLOCK]]) {
        let (mut first, mut second) = (load(a), load(b));
        for (block_a, block_b) in blocks_a.iter().zip(blocks_b) {
            let (before_first, before_second) = (first, second);
            let (mut words_a, mut words_b) = (words(block_a), words(block_b));
            for (n, constants) in ROUNDS.iter().enumerate() {
                first = rounds(first, words_a[n % 4], constants);
                second = rounds(second, words_b[n % 4], constants);
                if n < 12 {
                    schedule(&mut words_a, n);
                    schedule(&mut words_b, n);
                }
            }
            first = add(first, before_first);
            second = add(second, before_second);
        }
        store(first, a);
        store(second, b);
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn rounds(Variables { abef, cdgh }: Variables, words: __m128i, constants: &[u32; 4]) -> Variables {
        let [k0, k1, k2, k3] = constants.map(u32::cast_signed);
        let sum = _mm_add_epi32(words, _mm_set_epi32(k3, k2, k1, k0));
        let cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
        Variables { abef: _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e)), cdgh }
    }

    /// Replaces the words of rounds `4 * n` by those of 16 rounds later (section 6.2.2, step 1).
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn schedule(words: &mut [__m128i; 4], n: usize) {
        let [now, next, after, last] = [0, 1, 2, 3].map(|ahead| words[(n + ahead) % 4]);
        let partial = _mm_add_epi32(_mm_sha256msg1_epu32(now, next), _mm_alignr_epi8(last, after, 4));
        words[n % 4] = _mm_sha256msg2_epu32(partial, last);
    }

    /// The words of a block, which are big-endian.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn words(block: &[u8; BLOCK]) -> [__m128i; 4] {
        let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let mut words = [order; 4];
        for (words, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
            let bytes = u128::from_le_bytes(*bytes).cast_signed();
            #[expect(clippy::cast_possible_truncation, reason = "the halves of the number")]
            let loaded = _mm_set_epi64x((bytes >> 64) as i64, bytes as i64);
            *words = _mm_shuffle_epi8(loaded, order);
        }
        words
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn load(state: &[u32; 8]) -> Variables {
        let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
        Variables { abef: _mm_set_epi32(a, b, e, f), cdgh: _mm_set_epi32(c, d, g, h) }
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn add(x: Variables, y: Variables) -> Variables {
        Variables { abef: _mm_add_epi32(x.abef, y.abef), cdgh: _mm_add_epi32(x.cdgh, y.cdgh) }
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn store(Variables { abef, cdgh }: Variables, state: &mut [u32; 8]) {
        let [a, b, e, f] = [
            _mm_extract_epi32(abef, 3),
            _mm_extract_epi32(abef, 2),
            _mm_extract_epi32(abef, 1),
            _mm_extract_epi32(abef, 0),
        ];
        let [c, d, g, h] = [
            _mm_extract_epi32(cdgh, 3),
            _mm_extract_epi32(cdgh, 2),
            _mm_extract_epi32(cdgh, 1),
            _mm_extract_epi32(cdgh, 0),
        ];
        *state = [a, b, c, d, e, f, g, h].map(i32::cast_unsigned);
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect()
    }

    #[test]
    fn one_stream_in_any_pieces() {
        for len in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000] {
            let bytes = bytes(len);
            for piece in [1, 7, 64, 65, 1000] {
                let mut stream = Sha256Stream::default();
                bytes.chunks(piece).for_each(|piece| stream.update(piece));
                assert_eq!(stream.finish()[..], Sha256::digest(&bytes)[..], "{len} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn two_streams_of_other_phases_and_lengths() {
        for (before, first, second) in [(0, 640, 640), (512, 5000, 5000), (3, 1000, 1000), (64, 10, 4096), (65, 300, 0)]
        {
            let (begin, to_a, to_b) = (bytes(before), bytes(first), bytes(second));
            let (mut a, mut b) = (Sha256Stream::default(), Sha256Stream::default());
            a.update(&begin);
            update_two(&mut a, &to_a, &mut b, &to_b);
            assert_eq!(a.finish()[..], Sha256::digest([&begin[..], &to_a].concat())[..]);
            assert_eq!(b.finish()[..], Sha256::digest(&to_b)[..]);
        }
    }

    #[test]
    fn the_same_bytes_in_both() {
        let bytes = bytes(100_000);
        let (mut a, mut b) = (Sha256Stream::default(), Sha256Stream::default());
        a.update(&[1; 512]);
        bytes.chunks(4097).for_each(|piece| update_both(&mut a, &mut b, piece));
        assert_eq!(a.finish()[..], Sha256::digest([&[1; 512][..], &bytes].concat())[..]);
        assert_eq!(b.finish()[..], Sha256::digest(&bytes)[..]);
    }
}
