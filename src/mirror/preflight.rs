//! Preflight: the walk of the copy, with a target that writes nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ociforge_manifests::{Descriptor, Digest};

use super::destination::ImageDestination;
use super::known_blobs::KnownBlobs;
use super::origin::MirrorOrigin;
use crate::content::{ByteStream, Cause, ContentError, Source, Target};
use crate::progress::Progress;
use crate::registry::Remote;

/// The location of a blob before the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobOrigin {
    /// At the target, or the recipient of the archive has it.
    There,
    /// At the source, or in another repository of the target.
    Source,
    /// Missing.
    Missing,
}

/// A blob of an image.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) whence: BlobOrigin,
}

/// The blobs and documents of an image, and their locations.
#[derive(Debug, Default)]
pub(super) struct PreflightResult {
    /// The blobs, each once.
    pub(super) blobs: Vec<Blob>,
    /// Manifests and indexes, each once.
    pub(super) documents: HashMap<Digest, u64>,
    /// The digests of the names of the image and its signatures at the target before the copy.
    pub(super) names: HashMap<String, Digest>,
}

/// A target that records everything and writes nothing.
pub(super) struct Preflight<'a> {
    pub(super) origin: &'a MirrorOrigin,
    pub(super) destination: &'a ImageDestination,
    /// Other repositories at the target that may have the blobs that the source omits.
    pub(super) beside: Vec<(String, Remote)>,
    pub(super) known_blobs: &'a KnownBlobs,
    /// Blobs of the earlier archive, which are not copied.
    pub(super) since: &'a HashMap<Digest, String>,
    pub(super) found: Mutex<PreflightResult>,
}

impl Preflight<'_> {
    fn found(&self) -> MutexGuard<'_, PreflightResult> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn document(&self, descriptor: &Descriptor) {
        self.found().documents.insert(descriptor.digest.clone(), descriptor.size);
    }

    async fn is_there(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        let Some(target) = &self.destination.target else { return Ok(false) };
        let ImageDestination { repository, home, .. } = self.destination;
        if self.known_blobs.has(repository, &descriptor.digest) {
            return Ok(true);
        }
        let there = target.contains(descriptor).await?;
        if there {
            self.known_blobs.note(repository, &descriptor.digest, home.as_ref());
        }
        Ok(there)
    }

    /// Whether another repository at the target has the blob.
    async fn is_beside(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        for (repository, remote) in &self.beside {
            if self.known_blobs.has(repository, &descriptor.digest) || remote.contains(descriptor).await? {
                self.known_blobs.note(repository, &descriptor.digest, remote.repository(descriptor).as_ref());
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl Source for Preflight<'_> {
    async fn fetch(&self, descriptor: &Descriptor, _: u64) -> Result<ByteStream, ContentError> {
        Err(Cause::NotFound.of(format!("read {}", descriptor.digest)))
    }
}

#[async_trait]
impl Target for Preflight<'_> {
    /// Always true for blobs, so that none is transferred.
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        if descriptor.is_document() {
            self.document(descriptor);
            self.is_there(descriptor).await?;
            return Ok(true);
        }
        let whence = if self.since.contains_key(&descriptor.digest) || self.is_there(descriptor).await? {
            BlobOrigin::There
        } else if self.origin.holds(descriptor) || self.is_beside(descriptor).await? {
            BlobOrigin::Source
        } else if descriptor.is_elsewhere() {
            return Ok(true);
        } else {
            BlobOrigin::Missing
        };
        let digest = self.known_blobs.shared(&descriptor.digest);
        self.found().blobs.push(Blob { digest, size: descriptor.size, whence });
        Ok(true)
    }

    async fn push(&self, _: &Descriptor, _: &dyn Source, _: &dyn Progress) -> Result<(), ContentError> {
        Ok(())
    }

    async fn keep(&self, manifest: &Descriptor, _: &[u8]) -> Result<(), ContentError> {
        self.document(manifest);
        self.is_there(manifest).await.map(drop)
    }

    async fn tag(&self, manifest: &Descriptor, _: &[u8], tag: &str) -> Result<(), ContentError> {
        self.document(manifest);
        let Some(named) = &self.destination.named else { return Ok(()) };
        match named.tagged(tag).await {
            Ok(Some((now, _))) => {
                self.found().names.insert(tag.to_owned(), now.digest);
            }
            // A layout may name a manifest that it lost: the copy writes it again.
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        Ok(())
    }
}
