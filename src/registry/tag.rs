//! Lets tags name a manifest, so that none of them ever stays on other bytes than were meant.
//!
//! A manifest that is put under its digest is what it should be, or refused. Registries that can are told the tags with
//! that. With the others it is put under each tag, and what the registry then has is compared: bytes that were changed on
//! their way are put again, and where that does not help the tag gets back what it named before, or is removed. For an
//! image that was there already, only the one request is made that lets a tag name it.

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

/// How often a manifest is put that arrives with other bytes.
const TRIES: usize = 4;

/// In how many bytes a manifest that was changed on its way differs at most from what was sent. One that somebody else
/// has put there differs in a whole digest.
const CHANGED: usize = 8;

/// What a tag names; nothing where it names nothing.
type TagTarget = Option<Digest>;

/// Puts the manifest and lets `tags` name it. `is_new` says that something of the image was not there before.
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
        // One request more would only tell whether the registry can do it.
        [_] if !origin.endpoint.takes_tags() => Vec::new(),
        wanted => by_digest(origin, manifest, bytes, wanted).await?,
    };
    for (tag, before) in open.into_iter().filter(|(tag, _)| !taken.iter().any(|taken| taken == tag)) {
        Put { origin, manifest, bytes, tag, before }.put().await?;
    }
    Ok(())
}

/// Puts the manifest under its digest; which of `tags` the registry says that it has taken with it.
async fn by_digest(origin: &Origin, manifest: &Descriptor, bytes: &Bytes, tags: &[&str]) -> Result<Vec<String>, Cause> {
    let answer = referrers::put_manifest(origin, manifest, bytes, tags).await?;
    let values = answer.headers().get_all("oci-tag").iter().filter_map(|value| value.to_str().ok());
    Ok(values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect())
}

/// What the tag names before it is changed; nothing where that can't be told, as by somebody who may only push.
async fn before(origin: &Origin, tag: &str) -> Result<Option<TagTarget>, Cause> {
    match named(origin, tag).await {
        Ok(names) => Ok(Some(names)),
        Err(Fault { cause: cause @ Cause::Network { .. }, .. }) => Err(cause),
        Err(_) => Ok(None),
    }
}

/// What the tag names now.
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
    /// What the tag named before, if that is known.
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
            // The registry has it; only its answer was lost.
            Ok(Some(now)) if is_of(&now, bytes) => {
                // With another answer it is known whether the registry lists referrers.
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

    /// Puts it until the registry has what was meant, as far as it says what it has.
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

    /// What the tag names after it was put. What it named before is no answer: it may come from a cache.
    async fn look(&self) -> TagTarget {
        let now = named(self.origin, self.tag).await.ok().flatten();
        now.filter(|now| self.before != Some(Some(now.clone())))
    }

    /// Gives the tag back what it named before, if what it names `now` is what was sent and changed on its way. Says
    /// what came of it.
    async fn mend(&self, now: &Digest) -> String {
        let Self { origin, tag, .. } = self;
        let named_now = format!("`{tag}` names {now} now");
        if !self.is_ours(now).await {
            return format!("{named_now}, which somebody else has put there");
        }
        match &self.before {
            Some(Some(old)) if self.restore(old).await.is_ok() => format!("`{tag}` names {old} again, as before"),
            Some(Some(old)) if self.remove(now).await => format!("`{tag}`, which named {old} before, was removed"),
            Some(None) | None if self.remove(now).await => format!("`{tag}` was removed again"),
            _ => format!(
                "{named_now}, which is not what was sent, and {} refuses to take it back: remove that tag there, or push \
                 again",
                origin.endpoint.registry
            ),
        }
    }

    /// Whether the manifest of this digest is what was sent, with a few other bytes.
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

    /// Removes the tag, or, where the registry removes no tags, the manifest that nobody wanted.
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
