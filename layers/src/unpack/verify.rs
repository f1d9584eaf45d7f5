//! Readers that know what they should read.

use std::io::{self, BufRead, Read};

use ociforge_manifests::{Digest, Hasher};

/// A blob, or what a blob decompresses to, that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It has another length.
    #[error("the blob {digest} should have {expected} bytes, but has {}", shown(*.found, *.expected))]
    Size {
        /// The blob.
        digest: Digest,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that were read.
        found: u64,
    },
    /// It has another digest.
    #[error("the blob should be {expected}, but is {found}")]
    Digest {
        /// What it should be.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
    /// Its uncompressed content has another digest.
    #[error("the uncompressed content should be {expected}, but is {found}")]
    DiffId {
        /// What the image's config says.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
}

fn shown(found: u64, expected: u64) -> String {
    if found > expected { "more".into() } else { format!("{found}") }
}

/// Ends in a [`Mismatch`] instead of the end where the bytes are not those that were asked for.
pub(super) struct Verified<R> {
    reader: R,
    digest: Digest,
    /// A blob's size; `None` for uncompressed content, of which nobody knows it.
    size: Option<u64>,
    read: u64,
    /// `None` after the end.
    hash: Option<Hasher>,
}

impl<R: Read> Verified<R> {
    /// Reads a blob.
    pub(super) fn blob(reader: R, digest: Digest, size: u64) -> Self {
        Self { reader, hash: Some(Hasher::like(&digest)), digest, size: Some(size), read: 0 }
    }

    /// Reads what a blob decompresses to.
    pub(super) fn content(reader: R, digest: Digest) -> Self {
        Self { reader, hash: Some(Hasher::like(&digest)), digest, size: None, read: 0 }
    }

    fn check(&mut self, ended: bool) -> Result<(), Mismatch> {
        if let Some(size) = self.size
            && (self.read > size || (ended && self.read < size))
        {
            return Err(Mismatch::Size { digest: self.digest.clone(), expected: size, found: self.read });
        }
        let expected = self.digest.clone();
        match self.hash.take_if(|_| ended).map(Hasher::finish) {
            Some(found) if found != expected && self.size.is_some() => Err(Mismatch::Digest { expected, found }),
            Some(found) if found != expected => Err(Mismatch::DiffId { expected, found }),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> BufRead for Verified<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reader.fill_buf()?.is_empty() {
            self.check(true).map_err(io::Error::other)?;
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is consumed has been filled in already, so this reads nothing.
        if let (Ok(bytes), Some(hash)) = (self.reader.fill_buf(), &mut self.hash) {
            hash.update(&bytes[..count]);
        }
        self.read += count as u64;
        self.reader.consume(count);
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.read += count as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        self.check(count == 0 && !buffer.is_empty()).map_err(io::Error::other)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha512};

    use super::*;

    #[test]
    fn a_blob_is_what_it_should_be_or_an_error() {
        let digest = Digest::of(b"hello");
        let read = |bytes: &[u8], size| {
            let mut all = Vec::new();
            let error = Verified::blob(bytes, digest.clone(), size).read_to_end(&mut all).err();
            error.map(|error| error.downcast::<Mismatch>().unwrap().to_string())
        };
        assert_eq!(read(b"hello", 5), None);
        for (bytes, message) in [
            (b"hell".as_slice(), "should have 5 bytes, but has 4"),
            (b"hello!", "should have 5 bytes, but has more"),
            (b"hallo", "but is sha256:"),
        ] {
            assert!(read(bytes, 5).unwrap().contains(message), "{bytes:?}");
        }
        let long = Digest::from_sha512(&Sha512::digest(b"hello").into());
        Verified::blob(b"hello".as_slice(), long.clone(), 5).read_to_end(&mut Vec::new()).unwrap();
        Verified::content(b"hello".as_slice(), long.clone()).read_to_end(&mut Vec::new()).unwrap();
        let error = Verified::content(b"hallo".as_slice(), long).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(error.downcast(), Ok(Mismatch::DiffId { .. })));
    }
}
