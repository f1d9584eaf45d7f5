//! Sources of a mirror.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ociforge_manifests::{Descriptor, Digest, ImageName, Reference};

use super::MirrorLocation;
use super::documents::Documents;
use super::known_blobs::KnownBlobs;
use crate::content::{ByteStream, Cause, ContentError, Named, Repository, Source, in_memory, read_document};
use crate::registry::Client;
use crate::store::Names;
use crate::transport;

/// The source of a mirror.
pub(super) enum MirrorOrigin {
    /// The registries of the images' names, or one registry, by host and prefix, that has all images.
    Registries { client: Client, place: Option<(String, String)> },
    /// A layout or an archive.
    Layout(Names),
}

impl MirrorOrigin {
    pub(super) fn open(location: Option<&MirrorLocation>, client: &Client) -> Result<Self, ContentError> {
        let place = match location {
            Some(MirrorLocation::Layout(name)) => return Ok(Self::Layout(transport::of(name).names()?)),
            Some(MirrorLocation::Registry { registry, prefix }) => Some((registry.clone(), prefix.clone())),
            None => None,
        };
        Ok(Self::Registries { client: client.clone(), place })
    }

    /// The repository of `name`.
    pub(super) fn repository(&self, name: &Reference) -> Result<Arc<dyn Named>, ContentError> {
        match self {
            Self::Registries { client, .. } => Ok(Arc::new(client.repository(&self.found_at(name)?))),
            Self::Layout(names) => Ok(Arc::new(names.of(super::repository(name)))),
        }
    }

    /// The manifest or index of `name` in its `repository`.
    pub(super) async fn read(
        &self,
        name: &Reference,
        repository: &dyn Named,
    ) -> Result<(Descriptor, Vec<u8>), ContentError> {
        let missing = || Cause::NotFound.of(format!("read the manifest of {}", super::full(name)));
        match (name.digest(), self) {
            (None, _) => repository.tagged(name.tag().unwrap_or("latest")).await?.ok_or_else(missing),
            (Some(_), Self::Registries { client, .. }) => client.repository(&self.found_at(name)?).resolve().await,
            (Some(digest), Self::Layout(names)) => {
                let entry = names.entries().into_iter().find(|(_, entry)| entry.digest.as_str() == digest);
                let (_, entry) = entry.ok_or_else(missing)?;
                let bytes = read_document(names, &entry).await?;
                Ok((entry, bytes))
            }
        }
    }

    /// All named entries of a layout or an archive; `None` for registries.
    pub(super) fn entries(&self) -> Option<Vec<(String, Descriptor)>> {
        match self {
            Self::Registries { .. } => None,
            Self::Layout(names) => Some(names.entries()),
        }
    }

    /// Whether this blob exists, without a request: always true for registries.
    pub(super) fn holds(&self, blob: &Descriptor) -> bool {
        match self {
            Self::Registries { .. } => true,
            Self::Layout(names) => {
                names.blob_size(&blob.digest) == Some(blob.size) || matches!(blob.data(), Some(Ok(_)))
            }
        }
    }

    fn found_at(&self, name: &Reference) -> Result<Reference, ContentError> {
        match self {
            Self::Registries { place: Some((registry, prefix)), .. } => {
                MirrorLocation::in_registry(registry, prefix, name)
                    .map_err(|error| Cause::Other { message: error.why, hint: None }.of(format!("name {}", error.name)))
            }
            _ => Ok(name.clone()),
        }
    }
}

/// A repository that caches its documents, names and referrers: the preflight and the copy both read them.
pub(super) struct CachedRepository {
    repository: Arc<dyn Named>,
    documents: Arc<Documents>,
    tagged: Mutex<HashMap<String, Option<Descriptor>>>,
    referrers: Mutex<HashMap<Digest, Vec<Descriptor>>>,
}

impl CachedRepository {
    pub(super) fn new(repository: Arc<dyn Named>, documents: Arc<Documents>) -> Self {
        Self { repository, documents, tagged: Mutex::default(), referrers: Mutex::default() }
    }

    /// Caches a document that was not read through this.
    pub(super) fn keep(&self, digest: &Digest, bytes: &[u8]) {
        self.documents.keep(digest, bytes);
    }
}

fn get<K: Hash + Eq, V: Clone>(map: &Mutex<HashMap<K, V>>, key: &K) -> Option<V> {
    map.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

fn put<K: Hash + Eq, V>(map: &Mutex<HashMap<K, V>>, key: K, value: V) {
    map.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
}

#[async_trait]
impl Source for CachedRepository {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        if !descriptor.is_document() {
            return self.repository.fetch(descriptor, offset).await;
        }
        if let Some(kept) = self.documents.read(&descriptor.digest, offset) {
            return Ok(kept);
        }
        let bytes = read_document(&*self.repository, descriptor).await?;
        self.keep(&descriptor.digest, &bytes);
        Ok(in_memory(bytes, offset))
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.repository.location(descriptor)
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.repository.repository(descriptor)
    }
}

#[async_trait]
impl Named for CachedRepository {
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError> {
        let key = tag.to_owned();
        match get(&self.tagged, &key) {
            Some(None) => return Ok(None),
            Some(Some(descriptor)) => {
                let bytes = read_document(self, &descriptor).await?;
                return Ok(Some((descriptor, bytes)));
            }
            None => {}
        }
        let found = self.repository.tagged(tag).await?;
        if let Some((descriptor, bytes)) = &found {
            self.keep(&descriptor.digest, bytes);
        }
        put(&self.tagged, key, found.as_ref().map(|(descriptor, _)| descriptor.clone()));
        Ok(found)
    }

    async fn tags(&self) -> Result<Vec<String>, ContentError> {
        self.repository.tags().await
    }

    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        if let Some(known) = get(&self.referrers, &subject.digest) {
            return Ok(known);
        }
        let found = self.repository.referrers(subject).await?;
        put(&self.referrers, subject.digest.clone(), found.clone());
        Ok(found)
    }
}

/// A repository to copy from. Other repositories of the target may have some of its blobs.
pub(super) struct MirrorSource<'a> {
    pub(super) read: &'a CachedRepository,
    pub(super) client: &'a Client,
    pub(super) known_blobs: &'a KnownBlobs,
    /// The repository of the target, if it is in a registry.
    pub(super) own: Option<&'a Repository>,
}

#[async_trait]
impl Source for MirrorSource<'_> {
    /// Reads from the source or, if a delta omits the blob and it could not be mounted, from the target itself.
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let failed = match self.read.fetch(descriptor, offset).await {
            Err(error) if error.is_not_found() => error,
            fetched => return fetched,
        };
        let Some(home) = self.known_blobs.home(&descriptor.digest) else { return Err(failed) };
        match format!("{}/{}", home.registry, home.name).parse() {
            Ok(ImageName::Registry(home)) => self.client.repository(&home).fetch(descriptor, offset).await,
            _ => Err(failed),
        }
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.read.location(descriptor)
    }

    /// Another repository of the target's registry that has the blob, or else the source's.
    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        let home = self.known_blobs.home(&descriptor.digest).filter(|home| Some(home) != self.own);
        home.or_else(|| self.read.repository(descriptor))
    }
}

#[async_trait]
impl Named for MirrorSource<'_> {
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError> {
        self.read.tagged(tag).await
    }

    async fn tags(&self) -> Result<Vec<String>, ContentError> {
        self.read.tags().await
    }

    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        self.read.referrers(subject).await
    }
}
