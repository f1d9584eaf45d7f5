//! Verified reads of content.

use std::io;

use futures_util::{StreamExt, stream};
use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::{Descriptor, Digest, Hasher};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::read_from;
use super::{ByteStream, Cause, ContentError, Source};

/// Wraps `stream`, which begins at the blob's first byte, so that it ends in an error unless its bytes have the
/// descriptor's size and digest. The error's inner value is a [`Cause`].
pub fn read_verified(descriptor: &Descriptor, stream: ByteStream) -> ByteStream {
    checked(Verifier::new(descriptor), stream)
}

/// As [`read_verified`], without a check of the digest: for readers that verify the decompressed content.
pub(super) fn read_sized(descriptor: &Descriptor, stream: ByteStream) -> ByteStream {
    checked(Verifier { hasher: None, ..Verifier::new(descriptor) }, stream)
}

fn checked(check: Verifier, stream: ByteStream) -> ByteStream {
    let state = (stream, Some(check));
    stream::unfold(state, |(mut stream, check)| async move {
        let mut check = check?;
        match stream.next().await {
            Some(Ok(bytes)) => match check.take(&bytes) {
                Ok(()) => Some((Ok(bytes), (stream, Some(check)))),
                Err(cause) => Some((Err(io::Error::other(cause)), (stream, None))),
            },
            Some(Err(error)) => Some((Err(error), (stream, None))),
            None => check.finish().err().map(|cause| (Err(io::Error::other(cause)), (stream, None))),
        }
    })
    .boxed()
}

/// Documents longer than this, in bytes, are read one at a time.
const LARGE: u64 = 1 << 20;

/// Held while a long document is read into memory: documents have up to 16 MiB, and many are read at the same time.
static ONE_LARGE: Semaphore = Semaphore::const_new(1);

/// Waits for the permit to continue reading a document of this current length. One permit per reader is enough.
pub(crate) async fn may_read(length: u64, permit: &mut Option<SemaphorePermit<'static>>) {
    if length > LARGE && permit.is_none() {
        *permit = ONE_LARGE.acquire().await.ok();
    }
}

/// Reads a whole document (manifest, index or config), verified.
///
/// # Errors
/// When it cannot be fetched, is larger than [`MAX_DOCUMENT`], or does not match the descriptor.
pub async fn read_document(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>, ContentError> {
    let operation = || read_from(source, descriptor);
    if descriptor.size > MAX_DOCUMENT {
        return Err(Cause::TooLarge { size: descriptor.size, limit: MAX_DOCUMENT }.of(operation()));
    }
    let raw = source.fetch(descriptor, 0).await?;
    let mut stream = read_verified(descriptor, raw);
    let mut permit = None;
    may_read(descriptor.size, &mut permit).await;
    let mut document = Vec::with_capacity(usize::try_from(descriptor.size).unwrap_or_default());
    while let Some(bytes) = stream.next().await {
        document.extend_from_slice(&bytes.map_err(|error| cause_of(error).of(operation()))?);
    }
    Ok(document)
}

/// Reads content to its end without storing it, to check that it matches the descriptor.
///
/// # Errors
/// When it cannot be fetched or does not match.
pub async fn verify(source: &dyn Source, descriptor: &Descriptor) -> Result<(), ContentError> {
    let operation = || read_from(source, descriptor);
    let mut stream = read_verified(descriptor, source.fetch(descriptor, 0).await?);
    while let Some(bytes) = stream.next().await {
        bytes.map_err(|error| cause_of(error).of(operation()))?;
    }
    Ok(())
}

/// The [`Cause`] inside an error of a verified stream, or the error itself as one.
#[must_use]
pub fn cause_of(error: io::Error) -> Cause {
    error.downcast::<Cause>().unwrap_or_else(Cause::Io)
}

/// Counts and hashes content, and compares it with a descriptor.
pub(crate) struct Verifier {
    expected: Digest,
    size: u64,
    seen: u64,
    /// `None` if only the size is checked.
    hasher: Option<Hasher>,
}

impl Verifier {
    /// Begins at the content's first byte.
    pub(crate) fn new(descriptor: &Descriptor) -> Self {
        let hasher = Some(Hasher::like(&descriptor.digest));
        Self { expected: descriptor.digest.clone(), size: descriptor.size, seen: 0, hasher }
    }

    /// Adds the next bytes. Fails when the content exceeds the expected size.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(Cause::WrongSize { expected: self.size, actual: self.size + 1 });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// Checks size and digest at the end of the content.
    pub(crate) fn finish(self) -> Result<(), Cause> {
        if self.seen != self.size {
            return Err(Cause::WrongSize { expected: self.size, actual: self.seen });
        }
        match self.hasher.map(Hasher::finish) {
            Some(actual) if actual != self.expected => Err(Cause::WrongDigest { expected: self.expected, actual }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    async fn read(expected: &[u8], sent: &[&'static [u8]]) -> Result<Vec<u8>, Cause> {
        let chunks: Vec<io::Result<Bytes>> = sent.iter().map(|c| Ok(Bytes::from_static(c))).collect();
        let descriptor = Descriptor::of("text/plain", expected);
        let mut stream = read_verified(&descriptor, stream::iter(chunks).boxed());
        let mut all = Vec::new();
        while let Some(bytes) = stream.next().await {
            all.extend_from_slice(&bytes.map_err(cause_of)?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn only_the_right_bytes_reach_eof() {
        assert_eq!(read(b"hello", &[b"hel", b"lo"]).await.unwrap(), b"hello");
        assert!(matches!(read(b"hello", &[b"hel"]).await, Err(Cause::WrongSize { actual: 3, .. })));
        assert!(matches!(read(b"hello", &[b"hello", b"!"]).await, Err(Cause::WrongSize { actual: 6, .. })));
        assert!(matches!(read(b"hello", &[b"hullo"]).await, Err(Cause::WrongDigest { .. })));
    }
}
