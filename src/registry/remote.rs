//! A repository as a source and a target.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::{Descriptor, Digest, Reference, media_type};
use url::Url;

use super::body::Outgoing;
use super::fetch::Fetch;
use super::manifest::{get_manifest, verify};
use super::origin::Origin;
use super::registries_conf::By;
use super::upload::{self, MountOutcome};
use super::{referrers, tag};
use crate::content::{ByteStream, Cause, ContentError, Repository, Source, Target, or_data, read_document};
use crate::progress::Progress;

/// One repository of a registry, with the mirrors that it is pulled from. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    pub(super) reference: Reference,
    /// The mirrors in their order, then the repository itself. Empty if its use is blocked.
    pub(super) origins: Vec<Origin>,
    /// The index of the last one that served a request.
    pub(super) serving: Arc<AtomicUsize>,
    /// Uploads that the registry began instead of mounting a blob.
    pub(super) begun: Arc<Mutex<HashMap<Digest, Url>>>,
    /// Whether this process pushed new content.
    pub(super) has_news: Arc<AtomicBool>,
}

impl Remote {
    /// The manifest or index of the reference, by its digest or else by its tag: its descriptor and its bytes. The
    /// bytes match the digest of the reference, or else the digest that the registry states.
    ///
    /// # Errors
    /// When it cannot be fetched, is larger than [`MAX_DOCUMENT`](ociforge_manifests::document::MAX_DOCUMENT), has
    /// another digest, or is not a manifest.
    pub async fn resolve(&self) -> Result<(Descriptor, Vec<u8>), ContentError> {
        let operation = || format!("read the manifest of {}", self.reference);
        let wanted = self.reference.digest().map(str::parse::<Digest>).transpose();
        let wanted = wanted.map_err(|error| Cause::Algorithm(error.0).of(operation()))?;
        let (mut failed, mut mirrors) = (self.forbidden(), Vec::new());
        let by = if wanted.is_some() { By::Digest } else { By::Tag };
        for (index, origin) in self.pull_order(by) {
            let name = wanted.as_ref().map_or(self.reference.tag().unwrap_or("latest"), Digest::as_str);
            match get_manifest(origin, name, wanted.as_ref()).await {
                Ok(found) => {
                    self.serving.store(index, Ordering::Relaxed);
                    return Ok(found);
                }
                Err(fault) if self.is_primary(index) => failed = fault.cause,
                Err(fault) => mirrors.push(fault.cause.to_string()),
            }
        }
        Err(besides(failed, &mirrors).of(operation()))
    }

    /// The repository's name for the user.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.reference.registry(), self.reference.repository())
    }

    /// The origins to pull from: first the last one that served a request, which probably has related content, then the
    /// others in the configuration's order.
    pub(super) fn pull_order(&self, by: By) -> impl Iterator<Item = (usize, &Origin)> {
        let serving = self.serving.load(Ordering::Relaxed);
        let usable =
            move |index: usize, origin: &Origin| origin.pulls.allow(by) || (by == By::Digest && index == serving);
        let places = || self.origins.iter().enumerate().filter(move |(index, origin)| usable(*index, origin));
        places().filter(move |(index, _)| *index == serving).chain(places().filter(move |(index, _)| *index != serving))
    }

    /// Whether this is the repository itself, whose 404 is authoritative.
    pub(super) fn is_primary(&self, index: usize) -> bool {
        index + 1 == self.origins.len()
    }

    /// The repository itself, without its mirrors.
    fn primary(&self) -> Result<&Origin, Cause> {
        self.origins.last().ok_or_else(|| self.forbidden())
    }

    pub(super) fn forbidden(&self) -> Cause {
        Cause::Other {
            message: format!("registries.conf blocks {}, or maps it to a host without a repository", self.name()),
            hint: Some(
                "remove `blocked = true` there or name a repository in `location`, or use another registry".into(),
            ),
        }
    }

    /// The content from the first of these origins that has it.
    async fn fetch_from(
        &self,
        places: Vec<(usize, Origin)>,
        descriptor: &Descriptor,
        position: u64,
    ) -> Result<ByteStream, ContentError> {
        let (descriptor, serving) = (descriptor.clone(), Arc::clone(&self.serving));
        let operation = format!("fetch {} from {}", what(&descriptor), self.name());
        let fetch = Fetch { descriptor, places: places.into_iter(), serving, position };
        fetch.start(self.forbidden()).await.map_err(|cause| cause.of(operation))
    }

    async fn try_mount(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool, Cause> {
        let origin = self.primary()?;
        let own = origin.as_repository();
        if from.registry != own.registry || from.name == own.name || descriptor.is_document() {
            return Ok(false);
        }
        match upload::mount(origin, descriptor, from).await? {
            MountOutcome::Done => return Ok(true),
            MountOutcome::Begun(url) => {
                let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
                begun.insert(descriptor.digest.clone(), url);
            }
            MountOutcome::Refused => {}
        }
        Ok(false)
    }
}

#[async_trait]
impl Source for Remote {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let places = self.pull_order(By::Digest).map(|(index, origin)| (index, origin.clone())).collect();
        or_data(self.fetch_from(places, descriptor, offset).await, descriptor, offset)
    }

    fn location(&self, _: &Descriptor) -> String {
        self.name()
    }

    fn repository(&self, _: &Descriptor) -> Option<Repository> {
        self.pull_order(By::Digest).next().map(|(_, origin)| origin.as_repository())
    }
}

#[async_trait]
impl Target for Remote {
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        let held = async { self.primary()?.holds(descriptor).await };
        held.await.map_err(|cause| cause.of(format!("look for {} in {}", what(descriptor), self.name())))
    }

    async fn stored(&self, descriptor: &Descriptor) -> Result<ByteStream, ContentError> {
        let primary = self.origins.iter().cloned().enumerate().next_back();
        self.fetch_from(primary.into_iter().collect(), descriptor, 0).await
    }

    async fn mount(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool, ContentError> {
        let mounted = self.try_mount(descriptor, from).await;
        self.has_news.fetch_or(matches!(mounted, Ok(true)), Ordering::Relaxed);
        mounted.map_err(|cause| cause.of(format!("mount {} in {}", what(descriptor), self.name())))
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        let operation = || format!("push {} to {}", what(descriptor), self.name());
        self.has_news.store(true, Ordering::Relaxed);
        let pushed = async {
            let origin = self.primary()?;
            if descriptor.is_document() {
                let bytes = read_document(source, descriptor).await.map_err(|error| Cause::Source(Box::new(error)))?;
                referrers::put_manifest(origin, descriptor, &bytes.into(), &[]).await?;
                progress.advance(descriptor.size);
                return Ok(());
            }
            let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&descriptor.digest);
            upload::push_blob(origin, descriptor, &Outgoing::new(descriptor, source, progress), begun).await
        };
        pushed.await.map_err(|cause: Cause| cause.of(operation()))
    }

    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        let kept = async {
            let bytes = Bytes::copy_from_slice(bytes);
            verify(&manifest.digest, &bytes)?;
            referrers::put_manifest(self.primary()?, manifest, &bytes, &[]).await.map(drop)
        };
        kept.await.map_err(|cause: Cause| cause.of(format!("push {} to {}", what(manifest), self.name())))
    }

    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError> {
        self.tag_all(manifest, &Bytes::copy_from_slice(bytes), &[tag.to_owned()]).await
    }

    async fn tag_all(&self, manifest: &Descriptor, bytes: &Bytes, tags: &[String]) -> Result<(), ContentError> {
        let operation = || format!("tag {} as {}:{}", what(manifest), self.name(), tags.join(", "));
        let tagged = async {
            verify(&manifest.digest, bytes)?;
            let has_news = self.has_news.load(Ordering::Relaxed);
            tag::set(self.primary()?, manifest, bytes, tags, has_news).await
        };
        tagged.await.map_err(|cause| cause.of(operation()))
    }
}

/// The cause, with the errors of the mirrors in its hint.
fn besides(mut cause: Cause, mirrors: &[String]) -> Cause {
    if let Cause::Status { hint, .. } | Cause::Network { hint, .. } | Cause::Other { hint, .. } = &mut cause
        && !mirrors.is_empty()
    {
        let own = hint.take().map_or_else(String::new, |own| own + "; ");
        *hint = Some(format!("{own}mirrors also failed: {}", mirrors.join(", ")));
    }
    cause
}

/// A descriptor for messages: `layer sha256:1fb3…`.
pub(super) fn what(descriptor: &Descriptor) -> String {
    let kind = descriptor.media_type.as_str();
    let name = match kind {
        _ if media_type::is_index(kind) => "index",
        _ if media_type::is_manifest(kind) => "manifest",
        media_type::CONFIG | media_type::DOCKER_CONFIG => "config",
        _ if kind.contains("layer") || kind.contains("rootfs.diff") => "layer",
        _ => "blob",
    };
    format!("{name} {}:{}…", descriptor.digest.algorithm(), descriptor.digest.short())
}
