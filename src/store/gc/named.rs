//! Digests in content that is not a valid document.

use std::collections::BTreeSet;
use std::io::Read;

use ociforge_manifests::{Digest, Hasher};

use crate::content::Cause;

/// Bytes per read.
const PIECE: usize = 256 << 10;
/// The lengths of digests as text, of SHA-256 and SHA-512, the longest last.
const LENGTHS: [usize; 2] = [71, 135];

/// All digests in the text of `content`, whose own digest is `expected`.
///
/// # Errors
/// When it cannot be read, or has another digest.
pub(super) fn named_in(mut content: impl Read, expected: &Digest) -> Result<BTreeSet<Digest>, Cause> {
    let mut found = BTreeSet::new();
    let mut hasher = Hasher::like(expected);
    let mut buffer = vec![0; PIECE];
    // A possible beginning of a digest from the last piece, followed by the next piece.
    let mut window: Vec<u8> = Vec::new();
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        window.extend_from_slice(&buffer[..read]);
        let starts = window.windows(4).enumerate().filter(|(_, text)| *text == b"sha2" || *text == b"sha5");
        for (start, _) in starts {
            let texts =
                LENGTHS.iter().filter_map(|length| std::str::from_utf8(window.get(start..start + length)?).ok());
            found.extend(texts.filter_map(|text| text.parse::<Digest>().ok()));
        }
        window.drain(..window.len().saturating_sub(LENGTHS[1] - 1));
    }
    let actual = hasher.finish();
    if actual == *expected { Ok(found) } else { Err(Cause::WrongDigest { expected: expected.clone(), actual }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        for before in [0, 1, PIECE - 71, PIECE - 70, PIECE - 1, PIECE, 3 * PIECE - 35] {
            let content =
                [&vec![b's'; before], one.as_str().as_bytes(), b"\xff\0sha256:", two.as_str().as_bytes()].concat();
            let found = named_in(&content[..], &Digest::of(&content)).unwrap();
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), [one.clone(), two.clone()].into(), "{before}");
        }
        assert!(matches!(named_in(&b"x"[..], &one), Err(Cause::WrongDigest { .. })));
    }
}
