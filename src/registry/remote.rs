//! A repository as a source and a target.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::{Descriptor, Digest, Reference, media_type};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use serde_json::Value;
use url::Url;

use super::body::Outgoing;
use super::challenge::Scopes;
use super::download::Download;
use super::fault::{Fault, Subject};
use super::origin::{Origin, Request, is_document};
use super::upload::{self, Mount};
use crate::content::{
    ByteStream, Cause, ContentError, Repository, Source, Target, cause_of, read_document, read_verified,
};
use crate::progress::Progress;

/// One repository of a registry, with the mirrors that it is pulled from. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    pub(super) reference: Reference,
    /// Where it is: the mirrors in their order, then the repository itself. Empty when its use is forbidden.
    pub(super) origins: Vec<Origin>,
    /// Which of them last had what was asked for.
    pub(super) serving: Arc<AtomicUsize>,
    /// Uploads that the registry began instead of mounting a blob.
    pub(super) begun: Arc<Mutex<HashMap<Digest, Url>>>,
}

impl Remote {
    /// The manifest or index that the reference names, by its digest or else by its tag: its descriptor and its bytes.
    /// The bytes are those of the digest in the reference, or else of the digest that the registry states.
    ///
    /// # Errors
    /// When it can't be had, is larger than [`MAX_DOCUMENT`], has another digest, or is no manifest.
    pub async fn resolve(&self) -> Result<(Descriptor, Vec<u8>), ContentError> {
        let operation = || format!("read the manifest of {}", self.reference);
        let wanted = self.reference.digest().map(str::parse::<Digest>).transpose();
        let wanted = wanted.map_err(|error| Cause::Algorithm(error.0).of(operation()))?;
        let mut failed = self.forbidden();
        for (index, origin) in self.pull_order() {
            let name = wanted.as_ref().map_or(self.reference.tag().unwrap_or("latest"), Digest::as_str);
            match get_manifest(origin, name, wanted.as_ref()).await {
                Ok(found) => {
                    self.serving.store(index, Ordering::Relaxed);
                    return Ok(found);
                }
                Err(cause) => failed = cause,
            }
        }
        Err(failed.of(operation()))
    }

    /// The repository's name as the user knows it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.reference.registry(), self.reference.repository())
    }

    /// The places to pull from, that which last had something first.
    fn pull_order(&self) -> impl Iterator<Item = (usize, &Origin)> {
        let serving = self.serving.load(Ordering::Relaxed);
        let places = || self.origins.iter().enumerate();
        places().filter(move |(index, _)| *index == serving).chain(places().filter(move |(index, _)| *index != serving))
    }

    /// The repository itself, without its mirrors.
    fn primary(&self) -> Result<&Origin, Cause> {
        self.origins.last().ok_or_else(|| self.forbidden())
    }

    fn forbidden(&self) -> Cause {
        Cause::Other {
            message: format!("registries.conf forbids the use of {}", self.name()),
            hint: Some("remove `blocked = true` there, or use another registry".into()),
        }
    }

    async fn try_mount(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool, Cause> {
        let origin = self.primary()?;
        let own = origin.as_repository();
        if from.registry != own.registry || from.name == own.name || is_document(descriptor) {
            return Ok(false);
        }
        match upload::mount(origin, descriptor, from).await? {
            Mount::Done => return Ok(true),
            Mount::Begun(url) => {
                let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
                begun.insert(descriptor.digest.clone(), url);
            }
            Mount::Refused => {}
        }
        Ok(false)
    }
}

#[async_trait]
impl Source for Remote {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let mut failed = self.forbidden();
        for (index, origin) in self.pull_order() {
            let started = async {
                let (url, headers, subject) = origin.locate(descriptor).await?;
                Download::new(origin, url, headers, subject, descriptor.size, offset).start().await
            };
            match started.await {
                Ok(stream) => {
                    self.serving.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(cause) => failed = cause,
            }
        }
        Err(failed.of(format!("fetch {} from {}", what(descriptor), self.name())))
    }

    fn repository(&self, _: &Descriptor) -> Option<Repository> {
        self.pull_order().next().map(|(_, origin)| origin.as_repository())
    }
}

#[async_trait]
impl Target for Remote {
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        let held = async { self.primary()?.holds(descriptor).await };
        held.await.map_err(|cause| cause.of(format!("look for {} in {}", what(descriptor), self.name())))
    }

    async fn mount(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool, ContentError> {
        let mounted = self.try_mount(descriptor, from).await;
        mounted.map_err(|cause| cause.of(format!("mount {} in {}", what(descriptor), self.name())))
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        let operation = || format!("push {} to {}", what(descriptor), self.name());
        let pushed = async {
            let origin = self.primary()?;
            if is_document(descriptor) {
                let bytes = read_document(source, descriptor).await.map_err(|error| error.cause)?;
                upload::put_manifest(origin, descriptor, &bytes.into(), descriptor.digest.as_str()).await?;
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
            verify(&manifest.digest, &bytes).await?;
            upload::put_manifest(self.primary()?, manifest, &bytes, manifest.digest.as_str()).await
        };
        kept.await.map_err(|cause: Cause| cause.of(format!("push {} to {}", what(manifest), self.name())))
    }

    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError> {
        let operation = || format!("tag {} as {}:{tag}", what(manifest), self.name());
        let tagged = async {
            let bytes = Bytes::copy_from_slice(bytes);
            verify(&manifest.digest, &bytes).await?;
            upload::put_manifest(self.primary()?, manifest, &bytes, tag).await
        };
        tagged.await.map_err(|cause| cause.of(operation()))
    }
}

/// Asks for a manifest by tag or digest.
async fn get_manifest(origin: &Origin, name: &str, wanted: Option<&Digest>) -> Result<(Descriptor, Vec<u8>), Cause> {
    let scopes = Scopes::pull(&origin.repository);
    let mut request = Request::new(Method::GET, origin.url(&["manifests", name]).await?, &scopes);
    request.headers.extend(media_type::MANIFESTS.map(|kind| (ACCEPT, HeaderValue::from_static(kind))));
    let mut retries = origin.retries();
    loop {
        let read = async {
            let mut answer = origin.succeed(&request, Subject::Manifest).await?;
            let bytes = answer.read(MAX_DOCUMENT).await?;
            Ok::<_, Fault>((answer, bytes))
        };
        let (answer, bytes) = match read.await {
            Ok(read) => read,
            Err(fault) => {
                retries.pause(fault).await?;
                continue;
            }
        };
        let stated = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        if let Some(digest) = wanted.or(stated.as_ref()) {
            verify(digest, &bytes).await?;
        }
        let kind = kind_of(answer.header("content-type"), &bytes)?;
        let digest = wanted.cloned().unwrap_or_else(|| Digest::of(&bytes));
        return Ok((Descriptor::new(kind, digest, bytes.len() as u64), bytes));
    }
}

/// Fails unless `bytes` have this digest.
async fn verify(digest: &Digest, bytes: &[u8]) -> Result<(), Cause> {
    let descriptor = Descriptor::new("", digest.clone(), bytes.len() as u64);
    let whole = Bytes::copy_from_slice(bytes);
    let mut stream = read_verified(&descriptor, stream::iter([Ok(whole)]).boxed());
    while let Some(next) = stream.next().await {
        next.map_err(cause_of)?;
    }
    Ok(())
}

/// The media type of a manifest: what it says itself, which its digest covers, or else what the registry says, or else
/// what its form says.
fn kind_of(content_type: Option<&str>, bytes: &[u8]) -> Result<String, Cause> {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let stated = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let known =
        [json["mediaType"].as_str(), stated].into_iter().flatten().find(|kind| media_type::MANIFESTS.contains(kind));
    match known {
        Some(kind) if json.is_object() => Ok(kind.to_owned()),
        None if json["manifests"].is_array() => Ok(media_type::INDEX.to_owned()),
        None if json["config"].is_object() && json["layers"].is_array() => Ok(media_type::MANIFEST.to_owned()),
        _ if json["schemaVersion"] == 1 => Err(Cause::Other {
            message: "it is a manifest of Docker's schema 1, which is no longer supported".into(),
            hint: Some("push the image again with a current tool".into()),
        }),
        _ => Err(Cause::Other {
            message: "what the registry gave is no manifest".into(),
            hint: Some("check that the address is that of a registry".into()),
        }),
    }
}

/// What a descriptor is, for messages: `layer sha256:1fb3…`.
fn what(descriptor: &Descriptor) -> String {
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
