//! Hashing what passes through, and holding it against what it should be.

use std::io::{self, BufRead, Read};

use ociforge_manifests::Digest;
use sha2::{Digest as _, Sha256, Sha512};

/// A blob that is not the one that was asked for.
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
}

fn shown(found: u64, expected: u64) -> String {
    if found > expected { "more".into() } else { format!("{found}") }
}

/// A digest in the making, of the algorithm of another.
pub(super) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(super) fn like(digest: &Digest) -> Self {
        match digest.algorithm() {
            "sha512" => Self::Sha512(Sha512::new()),
            _ => Self::Sha256(Sha256::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::from_sha256(&hash.finalize().into()),
            Self::Sha512(hash) => Digest::from_sha512(&hash.finalize().into()),
        }
    }
}

/// Reads a blob, and ends in a [`Mismatch`] instead of the end where it is another.
pub(super) struct Verified<R> {
    reader: R,
    digest: Digest,
    size: u64,
    read: u64,
    /// `None` after the end.
    hash: Option<Hasher>,
}

impl<R: Read> Verified<R> {
    pub(super) fn new(reader: R, digest: Digest, size: u64) -> Self {
        Self { reader, hash: Some(Hasher::like(&digest)), digest, size, read: 0 }
    }

    fn check(&mut self, ended: bool) -> Result<(), Mismatch> {
        if self.read > self.size || (ended && self.read < self.size) {
            return Err(Mismatch::Size { digest: self.digest.clone(), expected: self.size, found: self.read });
        }
        match self.hash.take_if(|_| ended).map(Hasher::finish) {
            Some(found) if found != self.digest => Err(Mismatch::Digest { expected: self.digest.clone(), found }),
            _ => Ok(()),
        }
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

/// Hashes what is read through it.
pub(super) struct Hashed<R> {
    reader: R,
    hash: Hasher,
    /// How much of the reader's buffer was hashed and not consumed.
    ahead: usize,
}

impl<R: BufRead> Hashed<R> {
    pub(super) fn new(reader: R, hash: Hasher) -> Self {
        Self { reader, hash, ahead: 0 }
    }

    /// Reads what is left; the digest of everything.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        loop {
            match self.fill_buf()?.len() {
                0 => return Ok(self.hash.finish()),
                count => self.consume(count),
            }
        }
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.reader.fill_buf()?;
        // A whole buffer at once, however small the steps in which it is consumed.
        self.hash.update(&bytes[self.ahead..]);
        self.ahead = bytes.len();
        Ok(bytes)
    }

    fn consume(&mut self, count: usize) {
        self.ahead -= count;
        self.reader.consume(count);
    }
}

impl<R: BufRead> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_what_it_should_be_or_an_error() {
        let digest = Digest::of(b"hello");
        let read = |bytes: &[u8], size| {
            let mut all = Vec::new();
            let error = Verified::new(bytes, digest.clone(), size).read_to_end(&mut all).err();
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
        Verified::new(b"hello".as_slice(), long, 5).read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn everything_is_hashed_once() {
        let mut hashed = Hashed::new(b"hello".as_slice(), Hasher::like(&Digest::of(b"")));
        let _ = hashed.fill_buf().unwrap();
        hashed.consume(1);
        let _ = hashed.fill_buf().unwrap();
        hashed.consume(2);
        assert_eq!(hashed.finish().unwrap(), Digest::of(b"hello"));
    }
}
