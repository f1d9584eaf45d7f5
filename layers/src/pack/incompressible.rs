//! Detection of bytes that deflate cannot make smaller, such as those of pictures and archives, without compressing
//! them.
//!
//! Such bytes look random: all values are about equally frequent, and no sequence repeats. The result depends only on
//! the bytes and on integer arithmetic, so it is the same on every machine.

use std::ops::Range;

/// Results apply to blocks of this size in bytes. Most repeats within deflate's window, which has the same size, are
/// visible in a block.
const BLOCK: usize = 32 << 10;
/// A shorter last block gets the result of the previous one.
const MIN: usize = 4 << 10;
/// The size in bytes of each sample of a block whose values are counted.
const SAMPLE: usize = 1 << 10;
const SAMPLES: usize = 4;
/// One of this number of positions is checked for repeats.
const SPARSE: u32 = 32;
/// Minimum number of repeats that are not random; it corresponds to four thousandths of a block.
const REPEATS: usize = 4;

/// The incompressible ranges of `content`, which are the ranges of files in `bytes` in ascending order. The results do
/// not touch each other.
pub(super) fn find(bytes: &[u8], content: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut detector = Detector { places: vec![0; 1 << HASH] };
    for file in content {
        let mut before = false;
        for start in file.clone().step_by(BLOCK) {
            let range = start..file.end.min(start + BLOCK);
            if range.len() >= MIN {
                before = bytes.get(range.clone()).is_some_and(|block| detector.is_noise(block));
            }
            match found.last_mut() {
                Some(last) if before && last.end == range.start => last.end = range.end,
                _ if before => found.push(range),
                _ => {}
            }
        }
    }
    found
}

/// The number of bits of a hash of four bytes.
const HASH: u32 = 12;

struct Detector {
    /// The last position of four bytes with each hash.
    places: Vec<u16>,
}

impl Detector {
    fn is_noise(&mut self, block: &[u8]) -> bool {
        is_even(block) && !self.repeats(block)
    }

    /// Whether sequences of four bytes repeat.
    fn repeats(&mut self, block: &[u8]) -> bool {
        self.places.fill(0);
        let mut repeats = 0;
        for (at, four) in block.windows(4).enumerate() {
            let &[a, b, c, d] = four else { continue };
            let hash = u32::from_le_bytes([a, b, c, d]).wrapping_mul(0x9e37_79b1);
            if hash % (SPARSE << 8) >= 1 << 8 {
                continue;
            }
            let Some(place) = self.places.get_mut((hash >> (32 - HASH)) as usize) else { continue };
            let earlier = usize::from(std::mem::replace(place, u16::try_from(at).unwrap_or(0)));
            if earlier > 0 && block.get(earlier..earlier + 4) == Some(four) {
                repeats += 1;
                if repeats >= REPEATS {
                    return true;
                }
            }
        }
        false
    }
}

/// Whether all values are about equally frequent.
fn is_even(block: &[u8]) -> bool {
    let mut counts = [0u64; 256];
    let step = (block.len() / SAMPLES).max(1);
    for sample in block.chunks(step).take(SAMPLES) {
        for byte in &sample[..sample.len().min(SAMPLE)] {
            counts[usize::from(*byte)] += 1;
        }
    }
    // For n random bytes, this is slightly more than n²/256.
    let n: u64 = counts.iter().sum();
    let pairs: u64 = counts.iter().map(|count| count * count.saturating_sub(1)).sum();
    pairs * 256 * 16 <= n * n * 17
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Random bytes.
    pub(in crate::pack) fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn chance_is_noise_and_what_is_in_order_or_comes_twice_is_not() {
        let is_noise = |bytes: &[u8]| Detector { places: vec![0; 1 << HASH] }.is_noise(bytes);
        assert!(is_noise(&noise(BLOCK)) && is_noise(&noise(MIN)));
        let deflated = {
            use std::io::Write;
            let text: Vec<u8> = noise(200_000).iter().map(|byte| b'a' + byte % 20).collect();
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        assert!(deflated.chunks_exact(BLOCK).all(is_noise));
        let period = |len: usize| noise(len).into_iter().cycle().take(BLOCK).collect::<Vec<_>>();
        for len in [256, 1000, 20_000, 30_000] {
            assert!(!is_noise(&period(len)), "{len}");
        }
        let base64: Vec<u8> = noise(BLOCK).iter().map(|byte| b'0' + byte % 64).collect();
        let floats: Vec<u8> =
            noise(BLOCK).chunks(4).flat_map(|four| [four[0], four[1], four[2] | 0x80, 0x3f]).collect();
        for ordered in [base64, floats, vec![0; BLOCK], (0..BLOCK).map(|n| n as u8).collect()] {
            assert!(!is_noise(&ordered));
        }
    }

    #[test]
    fn blocks_count_from_the_beginning_of_a_file() {
        let bytes =
            [vec![b' '; 1000], noise(70_000), vec![b' '; 512], noise(3000), vec![b' '; 512], noise(4096)].concat();
        let content = [1000..71_000, 71_512..74_512, 75_024..79_120];
        assert_eq!(find(&bytes, &content), [1000..71_000, 75_024..79_120]);
        let whole = 0..BLOCK + 1000 + MIN;
        assert_eq!(find(&bytes, std::slice::from_ref(&whole)), vec![BLOCK..whole.end; 1]);
    }
}
