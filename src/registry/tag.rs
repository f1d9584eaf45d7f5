//! Setting tags, so that no tag stays on other bytes than those pushed.
//!
//! A manifest that is pushed by digest is verified by the registry. Registries that support it get the tags in the same
//! request. For others, the manifest is pushed under each tag, and the stored bytes are compared: changed bytes are
//! pushed again, and if that fails, the tag is restored to its previous manifest, or removed. An image that the
//! registry already has needs only the request that sets the tag.

use bytes::Bytes;
use ociforge_manifests::{Descriptor, Digest, Hasher, media_type};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};

use super::challenge::Scopes;
use super::fault::{Fault, Subject};
use super::manifest::get_manifest;
use super::origin::{Origin, Request};
use super::{referrers, upload};
use crate::content::Cause;
use crate::http::HttpResponse;

/// The number of attempts to push a manifest that arrives with other bytes.
const TRIES: usize = 4;

/// The maximum number of different bytes in a manifest that was damaged in transit. The manifest of another client
/// differs in a complete digest.
const CHANGED: usize = 8;

/// The manifest of a tag; `None` if the tag does not exist.
type TagTarget = Option<Digest>;

/// Pushes the manifest and sets `tags`. `is_new` means that the registry did not have all of the image.
pub(super) async fn set(
    origin: &Origin,
    manifest: &Descriptor,
    bytes: &Bytes,
    tags: &[String],
    is_new: bool,
) -> Result<(), Cause> {
    if let ([tag], false) = (tags, is_new) {
        return Put { origin, manifest, bytes, tag, before: None }.put().await;
    }
    let mut open = Vec::new();
    for tag in tags {
        let before = before(origin, tag).await?;
        if !before.iter().flatten().any(|before| is_of(before, bytes)) {
            open.push((tag.as_str(), before));
        }
    }
    if open.is_empty() && !referrers::has_subject(manifest, bytes) {
        return Ok(());
    }
    let wanted: Vec<_> = open.iter().map(|(tag, _)| *tag).collect();
    let taken = match wanted.as_slice() {
        // Another request would only detect whether the registry supports it.
        [_] if !origin.endpoint.takes_tags() => Vec::new(),
        wanted => by_digest(origin, manifest, bytes, wanted).await?,
    };
    for (tag, before) in open.into_iter().filter(|(tag, _)| !taken.iter().any(|taken| taken == tag)) {
        Put { origin, manifest, bytes, tag, before }.put().await?;
    }
    Ok(())
}

/// Pushes the manifest by digest; returns those of `tags` that the registry confirms.
async fn by_digest(origin: &Origin, manifest: &Descriptor, bytes: &Bytes, tags: &[&str]) -> Result<Vec<String>, Cause> {
    let answer = referrers::put_manifest(origin, manifest, bytes, tags).await?;
    let values = answer.headers().get_all("oci-tag").iter().filter_map(|value| value.to_str().ok());
    Ok(values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect())
}

/// The manifest of the tag before the change; `None` if it cannot be read, as without permission to pull.
async fn before(origin: &Origin, tag: &str) -> Result<Option<TagTarget>, Cause> {
    match named(origin, tag).await {
        Ok(names) => Ok(Some(names)),
        Err(Fault { cause: cause @ Cause::Network { .. }, .. }) => Err(cause),
        Err(_) => Ok(None),
    }
}

/// The current manifest of the tag.
async fn named(origin: &Origin, tag: &str) -> Result<TagTarget, Fault> {
    let scopes = Scopes::push(&origin.repository);
    let mut request = Request::new(Method::HEAD, origin.url(&["manifests", tag]).await?, &scopes);
    request.headers.extend(media_type::MANIFESTS.map(|kind| (ACCEPT, HeaderValue::from_static(kind))));
    let stated = match origin.ask(&request, Subject::Manifest).await {
        Ok(answer) => digest_of(&answer),
        Err(fault) if fault.is_not_found() => return Ok(None),
        Err(fault) => return Err(fault),
    };
    match stated {
        Some(digest) => Ok(Some(digest)),
        None => Ok(Some(get_manifest(origin, tag, None).await?.0.digest)),
    }
}

/// Whether this is the digest of these bytes, of whichever algorithm it is.
fn is_of(digest: &Digest, bytes: &[u8]) -> bool {
    let mut hasher = Hasher::like(digest);
    hasher.update(bytes);
    hasher.finish() == *digest
}

fn digest_of(answer: &HttpResponse) -> Option<Digest> {
    answer.header("docker-content-digest")?.parse().ok()
}

/// A manifest on its way under a tag.
struct Put<'a> {
    origin: &'a Origin,
    manifest: &'a Descriptor,
    bytes: &'a Bytes,
    tag: &'a str,
    /// The previous manifest of the tag, if it is known.
    before: Option<TagTarget>,
}

impl Put<'_> {
    async fn put(&self) -> Result<(), Cause> {
        let Self { origin, manifest, bytes, tag, .. } = self;
        let failed = match self.try_often().await {
            Ok(answer) => return referrers::list_if_unlisted(origin, manifest, bytes, &answer).await,
            Err(failed) => failed,
        };
        if matches!(failed, Cause::WrongDigest { .. })
            && by_digest(origin, manifest, bytes, &[tag])
                .await
                .is_ok_and(|taken| taken.iter().any(|taken| taken == tag))
        {
            return Ok(());
        }
        match named(self.origin, self.tag).await {
            // The registry has it, but its answer was lost.
            Ok(Some(now)) if is_of(&now, bytes) => {
                // Another answer shows whether the registry has the referrers API.
                let listed = !referrers::has_subject(manifest, bytes);
                if listed { Ok(()) } else { by_digest(origin, manifest, bytes, &[]).await.map(drop) }
            }
            Ok(Some(now)) if self.before != Some(Some(now.clone())) => {
                let done = self.mend(&now).await;
                let (Cause::Status { hint, .. } | Cause::Network { hint, .. } | Cause::Other { hint, .. }) = &failed
                else {
                    return Err(Cause::Other { message: format!("{failed}; {done}"), hint: None });
                };
                Err(Cause::Other { message: format!("{failed}; {done}"), hint: hint.clone() })
            }
            _ => Err(failed),
        }
    }

    /// Pushes it until the registry states the right digest, if it states one.
    async fn try_often(&self) -> Result<HttpResponse, Cause> {
        let Self { origin, manifest, bytes, tag, .. } = self;
        let mut wrong = Cause::NotFound;
        for _ in 0..TRIES {
            let (answer, has) = match upload::put_manifest(origin, manifest, bytes, tag, &[]).await {
                Ok(answer) => match digest_of(&answer) {
                    Some(has) => (Some(answer), Some(has)),
                    None => (Some(answer), self.look().await),
                },
                Err(Cause::WrongDigest { actual, .. }) => (None, Some(actual)),
                Err(other) => return Err(other),
            };
            match (answer, has) {
                (_, Some(actual)) if !is_of(&actual, bytes) => {
                    wrong = Cause::WrongDigest { expected: manifest.digest.clone(), actual };
                }
                (Some(answer), _) => return Ok(answer),
                (None, _) => {}
            }
        }
        Err(wrong)
    }

    /// The manifest of the tag after the push. The previous manifest is ignored: it may come from a cache.
    async fn look(&self) -> TagTarget {
        let now = named(self.origin, self.tag).await.ok().flatten();
        now.filter(|now| self.before != Some(Some(now.clone())))
    }

    /// Restores the previous manifest of the tag if the manifest `now` is the pushed one, damaged in transit. Returns a
    /// description of the result.
    async fn mend(&self, now: &Digest) -> String {
        let Self { origin, tag, .. } = self;
        let named_now = format!("`{tag}` names {now} now");
        if !self.is_ours(now).await {
            return format!("{named_now}, which another client pushed");
        }
        match &self.before {
            Some(Some(old)) if self.restore(old).await.is_ok() => {
                format!("ociforge restored `{tag}`, which names {old} again")
            }
            Some(Some(old)) if self.remove(now).await => format!("`{tag}`, which named {old} before, was removed"),
            Some(None) | None if self.remove(now).await => format!("`{tag}` was removed again"),
            _ => format!(
                "{named_now}, which differs from the pushed manifest, and {} refuses to restore it: remove the tag \
                    there, or push again",
                origin.endpoint.registry
            ),
        }
    }

    /// Whether the manifest of this digest is the pushed one with a few changed bytes.
    async fn is_ours(&self, now: &Digest) -> bool {
        let Ok((_, bytes)) = get_manifest(self.origin, now.as_str(), Some(now)).await else { return false };
        let differing = bytes.iter().zip(self.bytes.iter()).filter(|(a, b)| a != b).count();
        bytes.len() == self.bytes.len() && differing <= CHANGED
    }

    async fn restore(&self, old: &Digest) -> Result<(), Fault> {
        let (manifest, bytes) = get_manifest(self.origin, old.as_str(), Some(old)).await?;
        let put = Put { origin: self.origin, manifest: &manifest, bytes: &bytes.into(), tag: self.tag, before: None };
        put.try_often().await?;
        Ok(())
    }

    /// Removes the tag, or, if the registry cannot remove tags, the damaged manifest.
    async fn remove(&self, now: &Digest) -> bool {
        for name in [self.tag, now.as_str()] {
            let scopes = Scopes::delete(&self.origin.repository);
            let Ok(url) = self.origin.url(&["manifests", name]).await else { return false };
            let removed = self.origin.ask(&Request::new(Method::DELETE, url, &scopes), Subject::Upload).await;
            if removed.is_ok() && matches!(named(self.origin, self.tag).await, Ok(None)) {
                return true;
            }
        }
        false
    }
}
