//! The known contents of the targets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{ByteStream, ContentError, Repository, Source, Target};
use crate::progress::Progress;

/// The blobs that are known to be at the target, so that it is queried once.
#[derive(Default)]
pub(super) struct KnownBlobs(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The blobs by repository as the user writes it; a layout counts as one repository.
    present: HashMap<String, HashSet<Digest>>,
    /// A repository that has the content.
    homes: HashMap<Digest, Arc<Repository>>,
    /// All repositories of `homes`, shared.
    repositories: HashSet<Arc<Repository>>,
    /// The digests of all blobs, shared so that each text is in memory once.
    digests: HashSet<Digest>,
}

impl KnownBlobs {
    pub(super) fn has(&self, repository: &str, digest: &Digest) -> bool {
        self.known().present.get(repository).is_some_and(|present| present.contains(digest))
    }

    pub(super) fn note(&self, repository: &str, digest: &Digest, home: Option<&Repository>) {
        let digest = self.shared(digest);
        let mut known = self.known();
        if !known.present.contains_key(repository) {
            known.present.insert(repository.to_owned(), HashSet::new());
        }
        known.present.get_mut(repository).map(|present| present.insert(digest.clone()));
        if let Some(home) = home.filter(|_| !known.homes.contains_key(&digest)) {
            let home = known.repositories.get(home).cloned().unwrap_or_else(|| Arc::new(home.clone()));
            known.repositories.insert(Arc::clone(&home));
            known.homes.insert(digest, home);
        }
    }

    /// The same digest, with the text that all copies of this digest share.
    pub(super) fn shared(&self, digest: &Digest) -> Digest {
        let mut known = self.known();
        if let Some(shared) = known.digests.get(digest) {
            return shared.clone();
        }
        known.digests.insert(digest.clone());
        digest.clone()
    }

    /// A repository at the target that has the blob, and can give it to others of the same registry.
    pub(super) fn home(&self, digest: &Digest) -> Option<Repository> {
        self.known().homes.get(digest).map(|home| (**home).clone())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A target that is not queried for blobs of `known_blobs`, and that records the blobs it gets.
pub(super) struct RecordingTarget<'a> {
    pub(super) target: &'a dyn Target,
    pub(super) repository: &'a str,
    /// The repository with the host that requests go to; `None` for a layout.
    pub(super) home: Option<&'a Repository>,
    pub(super) known_blobs: &'a KnownBlobs,
    /// The digests of the names at the target.
    pub(super) names: &'a HashMap<String, Digest>,
    /// Annotations of named manifests.
    pub(super) annotations: &'a BTreeMap<String, String>,
    /// How many blobs and documents were written.
    pub(super) written: AtomicUsize,
}

impl RecordingTarget<'_> {
    fn wrote(&self, descriptor: &Descriptor) {
        self.known_blobs.note(self.repository, &descriptor.digest, self.home);
        self.written.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Source for RecordingTarget<'_> {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        self.target.fetch(descriptor, offset).await
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.target.location(descriptor)
    }
}

#[async_trait]
impl Target for RecordingTarget<'_> {
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        // Another runner may have uploaded the missing blob in the meantime.
        let there =
            self.known_blobs.has(self.repository, &descriptor.digest) || self.target.contains(descriptor).await?;
        if there {
            self.known_blobs.note(self.repository, &descriptor.digest, self.home);
        }
        Ok(there)
    }

    async fn mount(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool, ContentError> {
        let mounted = self.target.mount(descriptor, from).await?;
        if mounted {
            self.wrote(descriptor);
        }
        Ok(mounted)
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        self.target.push(descriptor, source, progress).await?;
        self.wrote(descriptor);
        Ok(())
    }

    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        let known = self.known_blobs.has(self.repository, &manifest.digest);
        self.target.keep(manifest, bytes).await?;
        if !known {
            self.wrote(manifest);
        }
        Ok(())
    }

    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError> {
        self.tag_all(manifest, &Bytes::copy_from_slice(bytes), &[tag.to_owned()]).await
    }

    async fn tag_all(&self, manifest: &Descriptor, bytes: &Bytes, tags: &[String]) -> Result<(), ContentError> {
        // Some registries refuse to write an existing tag, even with the same digest.
        let new = tags.iter().filter(|tag| self.names.get(*tag) != Some(&manifest.digest));
        let new: Vec<String> = new.cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut manifest = manifest.clone();
        manifest.annotations.extend(self.annotations.clone());
        self.target.tag_all(&manifest, bytes, &new).await?;
        self.wrote(&manifest);
        Ok(())
    }
}
