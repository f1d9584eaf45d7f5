//! Verified sending of blobs.
//!
//! A blob is hashed while it is sent. The last bytes of a damaged blob are not sent, so the answer is truncated. The
//! same applies to a range that ends at the blob's end, as for a resumed download. Other ranges are sent without a
//! check: a client that combines ranges must verify the result.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use ociforge_manifests::{Digest, Hasher};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

use crate::content::{ByteStream, Cause};
use crate::store::dir::FileFacts;
use crate::store::stream::stream as read;

/// Bytes per read. A blob up to this size is hashed before the answer begins.
pub(super) const PIECE: u64 = 256 << 10;

/// The damaged blobs, until their files are replaced.
#[derive(Default)]
pub(super) struct Damaged(Mutex<HashMap<Digest, FileFacts>>);

impl Damaged {
    /// Notes that a file is not the blob of this digest.
    pub(super) fn note(&self, digest: &Digest, facts: FileFacts) {
        self.known().insert(digest.clone(), facts);
    }

    /// Whether the file of this blob is known to be damaged.
    pub(super) fn has(&self, digest: &Digest, facts: impl FnOnce() -> Option<FileFacts>) -> bool {
        let mut known = self.known();
        let Some(damaged) = known.get(digest) else { return false };
        let still = facts().as_ref() == Some(damaged);
        if !still {
            known.remove(digest);
        }
        still
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, FileFacts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob's file that is read from its beginning to its end.
struct Reading {
    file: Arc<File>,
    at: u64,
    length: u64,
    digest: Digest,
    hasher: Hasher,
}

impl Reading {
    fn next(mut self) -> io::Result<(Bytes, Self)> {
        let length = PIECE.min(self.length - self.at);
        let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut piece, self.at)?;
        self.hasher.update(&piece);
        self.at += length;
        Ok((piece.into(), self))
    }

    /// Fails unless the read bytes match the digest.
    fn verdict(self) -> io::Result<()> {
        let actual = self.hasher.finish();
        let expected = self.digest;
        if actual == expected { Ok(()) } else { Err(io::Error::other(Cause::WrongDigest { expected, actual })) }
    }
}

/// The `length` bytes of the blob of this digest, from `file`. If they have another digest, the last piece is an error
/// whose inner value is a [`Cause`]. The next piece is read and hashed while the previous one is sent.
pub(super) fn whole(file: &Arc<File>, digest: &Digest, length: u64) -> ByteStream {
    let (file, hasher) = (Arc::clone(file), Hasher::like(digest));
    let reading = Reading { file, at: 0, length, digest: digest.clone(), hasher };
    let begin = |reading: Reading| spawn_blocking(move || reading.next());
    stream::unfold(Some(begin(reading)), move |job: Option<JoinHandle<_>>| async move {
        let (piece, reading) = match job?.await.map_err(io::Error::other).and_then(|read| read) {
            Ok(read) => read,
            Err(error) => return Some((Err(error), None)),
        };
        if reading.at < reading.length {
            return Some((Ok(piece), Some(begin(reading))));
        }
        Some((reading.verdict().map(|()| piece), None))
    })
    .boxed()
}

/// The bytes of the blob from `start` on, as [`whole`]: all except the last are sent while the blob is hashed, the last
/// one after the verification.
pub(super) fn to_the_end(file: &Arc<File>, digest: &Digest, start: u64, length: u64) -> ByteStream {
    let mut hashing = JoinSet::new();
    hashing.spawn(whole(file, digest, length).try_for_each(|_| async { Ok(()) }));
    let (before, last) = (length - start - 1, Arc::clone(file));
    let last = async move {
        let verdict = hashing.join_next().await.unwrap_or(Ok(Ok(())));
        verdict.map_err(io::Error::other).and_then(|verdict| verdict)?;
        read(last, length - 1, 1).next().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    };
    read(Arc::clone(file), start, before).chain(stream::once(last)).boxed()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn received(mut stream: ByteStream) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) => {
                    assert!(matches!(error.downcast().unwrap(), Cause::WrongDigest { .. }));
                    return (bytes, false);
                }
            }
        }
        (bytes, true)
    }

    #[tokio::test]
    async fn damaged_bytes_never_come_to_a_good_end() {
        for length in [1, 2, PIECE as usize - 1, PIECE as usize, PIECE as usize + 1, 700_000] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let digest = Digest::of(&content);
            for flipped in [None, Some(0), Some(length / 2), Some(length - 1)] {
                let mut there = content.clone();
                flipped.into_iter().for_each(|at| there[at] ^= 1);
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&there).unwrap();
                let (file, length) = (Arc::new(file), length as u64);
                let (sent, ended) = received(whole(&file, &digest, length)).await;
                assert_eq!(ended, flipped.is_none());
                assert!(there.starts_with(&sent) && (sent.len() == there.len()) == ended);
                for start in [0, length / 3, length - 1] {
                    let (sent, ended) = received(to_the_end(&file, &digest, start, length)).await;
                    assert_eq!(ended, flipped.is_none());
                    let wanted = &there[start as usize..];
                    assert_eq!(sent, if ended { wanted } else { &wanted[..wanted.len() - 1] });
                }
            }
        }
    }
}
