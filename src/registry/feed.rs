//! The bytes of a blob from one stream of its source, in chunks, hashed on the way.

use bytes::Bytes;
use futures_util::StreamExt;
use ociforge_manifests::{Descriptor, Digest, Hasher};

use crate::content::{ByteStream, Cause, Source, cause_of};

/// A place in a blob, with the hash of all bytes before it.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// In bytes.
    pub offset: u64,
    pub hasher: Hasher,
}

/// A blob that is being read.
pub(super) struct Feed {
    stream: ByteStream,
    /// Bytes from the source that are not used yet.
    rest: Bytes,
    mark: Mark,
    digest: Digest,
    size: u64,
}

impl Mark {
    /// The blob's beginning.
    pub(super) fn start(descriptor: &Descriptor) -> Self {
        Self { offset: 0, hasher: Hasher::like(&descriptor.digest) }
    }
}

impl Feed {
    /// Opens the source at `mark`.
    pub(super) async fn open(descriptor: &Descriptor, source: &dyn Source, mark: Mark) -> Result<Self, Cause> {
        let fetched = source.fetch(descriptor, mark.offset).await;
        let stream = fetched.map_err(|error| Cause::Source(Box::new(error)))?;
        Ok(Self { stream, rest: Bytes::new(), mark, digest: descriptor.digest.clone(), size: descriptor.size })
    }

    /// The current mark.
    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The next bytes, at least one and at most `limit`. The blob's last bytes are returned only after its
    /// verification: the caller of the last bytes does not poll again.
    pub(super) async fn next(&mut self, limit: u64) -> Result<Bytes, Cause> {
        if self.rest.is_empty() {
            let short = Cause::WrongSize { expected: self.size, actual: self.mark.offset };
            self.rest = self.pull().await?.ok_or(short)?;
        }
        let length = usize::try_from(limit).map_or(self.rest.len(), |limit| limit.min(self.rest.len()));
        let bytes = self.rest.split_to(length);
        self.mark.hasher.update(&bytes);
        self.mark.offset += bytes.len() as u64;
        if self.mark.offset >= self.size {
            self.check().await?;
        }
        Ok(bytes)
    }

    /// Reads on to `offset`.
    pub(super) async fn skip_to(&mut self, offset: u64) -> Result<(), Cause> {
        while self.mark.offset < offset {
            self.next(offset - self.mark.offset).await?;
        }
        Ok(())
    }

    /// The next piece of the source; never an empty one.
    async fn pull(&mut self) -> Result<Option<Bytes>, Cause> {
        while let Some(piece) = self.stream.next().await {
            let piece = piece.map_err(cause_of)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Fails unless that was all, and the right bytes.
    async fn check(&mut self) -> Result<(), Cause> {
        if !self.rest.is_empty() || self.pull().await?.is_some() {
            return Err(Cause::WrongSize { expected: self.size, actual: self.size + 1 });
        }
        let actual = self.mark.hasher.clone().finish();
        if actual == self.digest { Ok(()) } else { Err(Cause::WrongDigest { expected: self.digest.clone(), actual }) }
    }
}
