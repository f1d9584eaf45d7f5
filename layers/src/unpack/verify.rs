//! A reader that verifies a diff id.

use std::io::{self, BufRead, Read};

use ociforge_manifests::{DiffId, Hasher};

/// The uncompressed content has another digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the digest of the uncompressed content is {found}, not {expected}")]
pub struct Mismatch {
    /// The diff id in the image's config.
    pub expected: DiffId,
    /// The digest of the content.
    pub found: DiffId,
}

/// Reads the uncompressed content of a layer. Ends in a [`Mismatch`] if it does not match the expected diff id.
pub(super) struct VerifiedReader<R> {
    reader: R,
    expected: DiffId,
    /// `None` after the end.
    hash: Option<Hasher>,
}

impl<R: Read> VerifiedReader<R> {
    pub(super) fn new(reader: R, expected: &DiffId) -> Self {
        Self { reader, hash: Some(Hasher::like(&expected.0)), expected: expected.clone() }
    }

    fn end(&mut self) -> Result<(), Mismatch> {
        match self.hash.take().map(|hash| DiffId(hash.finish())) {
            Some(found) if found != self.expected => Err(Mismatch { expected: self.expected.clone(), found }),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> BufRead for VerifiedReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reader.fill_buf()?.is_empty() {
            self.end().map_err(io::Error::other)?;
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // Consumed bytes are already in the buffer, so this reads nothing.
        if let (Ok(bytes), Some(hash)) = (self.reader.fill_buf(), &mut self.hash) {
            hash.update(&bytes[..count]);
        }
        self.reader.consume(count);
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        if count == 0 && !buffer.is_empty() {
            self.end().map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use ociforge_manifests::Digest;
    use sha2::{Digest as _, Sha512};

    use super::*;

    #[test]
    fn content_is_what_it_should_be_or_an_error() {
        for digest in [Digest::of(b"hello"), Digest::from_sha512(&Sha512::digest(b"hello").into())] {
            let expected = DiffId(digest);
            let read = |bytes: &[u8]| VerifiedReader::new(bytes, &expected).read_to_end(&mut Vec::new());
            assert_eq!(read(b"hello").unwrap(), 5);
            for other in [b"hell".as_slice(), b"hello!", b"hallo", b""] {
                let error = read(other).unwrap_err().downcast::<Mismatch>().unwrap();
                assert_eq!(error.expected, expected);
            }
        }
    }
}
