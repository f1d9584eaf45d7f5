//! Layouts as sources and targets of copies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::graph::Index;
use ociforge_manifests::{Descriptor, Digest, Document};
use tokio::task::spawn_blocking;

use super::Layout;
use crate::content::{ByteStream, Cause, ContentError, Source, Target, or_data};
use crate::progress::Progress;
use crate::store::arrival::Arrival;
use crate::store::stream::stream;
use crate::store::{Indexed, index};

/// The pause between two checks for the end of another writer of the same blob.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[async_trait]
impl Source for Layout {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let operation = || format!("read {} from {}", descriptor.digest, self.root.display());
        let fetched = match self.open_blob(&descriptor.digest) {
            Ok((file, length)) => Ok(stream(file, offset, length.saturating_sub(offset))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Cause::NotFound.of(operation())),
            Err(error) => Err(Cause::Io(error).of(operation())),
        };
        or_data(fetched, descriptor, offset)
    }

    fn location(&self, _: &Descriptor) -> String {
        self.place()
    }
}

impl Indexed for Layout {
    fn index(&self) -> Result<Document<Index>, Cause> {
        Self::index(self)
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        Self::blob_size(self, digest)
    }
}

#[async_trait]
impl Target for Layout {
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        Ok(self.claim_blob(&descriptor.digest) == Some(descriptor.size))
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        self.receive(descriptor, source, progress, false).await
    }

    async fn replace(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        self.receive(descriptor, source, progress, true).await
    }

    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        let operation = format!("list {} in {}", manifest.digest, self.root.display());
        let entry = manifest.clone();
        let bytes = Bytes::copy_from_slice(bytes);
        self.list(manifest, bytes, operation, move |manifests| index::keep(manifests, &entry)).await
    }

    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError> {
        self.tag_all(manifest, &Bytes::copy_from_slice(bytes), &[tag.to_owned()]).await
    }

    async fn tag_all(&self, manifest: &Descriptor, bytes: &Bytes, tags: &[String]) -> Result<(), ContentError> {
        let operation = format!("name {} `{}` in {}", manifest.digest, tags.join("`, `"), self.root.display());
        let (entry, tags) = (manifest.clone(), tags.to_vec());
        let edit =
            move |manifests: &mut Vec<Descriptor>| tags.iter().for_each(|tag| index::tag(manifests, &entry, tag));
        self.list(manifest, bytes.clone(), operation, edit).await
    }
}

impl Layout {
    /// Writes a manifest and changes the list of manifests, on a thread that may block.
    async fn list(
        &self,
        manifest: &Descriptor,
        bytes: Bytes,
        operation: String,
        edit: impl FnOnce(&mut Vec<Descriptor>) + Send + 'static,
    ) -> Result<(), ContentError> {
        let (layout, manifest) = (self.clone(), manifest.clone());
        let work = move || {
            layout.put_document(&manifest, &bytes)?;
            layout.edit_index(edit).map_err(|cause| cause.of(operation))
        };
        let joined = spawn_blocking(work).await.map_err(io::Error::other);
        joined.map_err(|error| Cause::Io(error).of(format!("write to {}", self.root.display())))?
    }

    fn put_document(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        let there = self.claim_blob(&manifest.digest) == Some(manifest.size);
        // Documents are small: a damaged one is written again.
        let damaged = || self.read_blob(&manifest.digest, manifest.size).ok().as_deref() != Some(bytes);
        if !there || (bytes.len() as u64 == manifest.size && damaged()) {
            let put = self.write_blob(&manifest.digest, bytes).map_err(Cause::Io);
            put.map_err(|cause| cause.of(format!("write {} to {}", manifest.digest, self.root.display())))?;
        }
        Ok(())
    }

    /// Writes the blob, unless it exists and `replace` is false.
    async fn receive(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
        replace: bool,
    ) -> Result<(), ContentError> {
        let operation = format!("write {} to {}", descriptor.digest, self.root.display());
        let failed = |error: io::Error| Cause::Io(error).of(&operation);
        let partial = loop {
            match self.claim_partial(&descriptor.digest).map_err(failed)? {
                Some(partial) => break partial,
                // Another process writes it.
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        let mut outcome = Ok(());
        let there = !replace && self.contains(descriptor).await?;
        if there {
            progress.advance(descriptor.size);
        } else {
            let arrival = Arrival { file: Arc::clone(partial.file()), begin: 0, held: () };
            outcome = arrival.receive(descriptor, source, progress, &operation).await.map(|_| ());
        }
        let (layout, digest, whole) = (self.clone(), descriptor.digest.clone(), outcome.is_ok());
        let end = move || match (there, whole) {
            (true, _) => partial.discard(),
            (_, true) => partial.persist(&layout.blob_directory(&digest)?, digest.hex().as_ref()),
            (_, false) => partial.discard_empty(),
        };
        let ended = spawn_blocking(end).await.map_err(io::Error::other).and_then(|ended| ended);
        self.remove_empty_partials();
        outcome.and_then(|()| ended.map_err(failed))
    }
}
