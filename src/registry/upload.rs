//! Putting things into a repository (distribution-spec, "Push").
//!
//! A blob goes in one `PUT`, streamed from its source. Strategies that send a blob in parts and go on where they broke
//! off take the place of [`put_whole`], with the same [`begin`] before it.

use bytes::Bytes;
use ociforge_manifests::Descriptor;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use super::body::{Outgoing, Payload};
use super::challenge::Scopes;
use super::endpoint::Lane;
use super::fault::{Fault, Subject};
use super::http::{Answer, host_of, same_origin};
use super::origin::{Origin, Request, same_digest};
use crate::content::{Cause, Repository};

/// What became of the wish to mount a blob.
pub(super) enum Mount {
    /// It is there.
    Done,
    /// The registry would rather have it pushed, here.
    Begun(Url),
    /// It would not.
    Refused,
}

/// Asks the registry to take a blob over from another of its repositories. Any refusal is an answer; only a registry
/// that can't be reached is an error.
pub(super) async fn mount(origin: &Origin, descriptor: &Descriptor, from: &Repository) -> Result<Mount, Cause> {
    let mut url = uploads(origin).await?;
    let blob = descriptor.digest.as_str();
    url.query_pairs_mut().append_pair("mount", blob).append_pair("from", &from.name);
    let scopes = Scopes::push(&origin.repository).and(Scopes::pull(&from.name));
    let request = Request::new(Method::POST, url, &scopes);
    let mut retries = origin.retries();
    loop {
        let fault = match origin.succeed(&request, Subject::Upload).await {
            Ok(answer) if answer.status() == StatusCode::CREATED => {
                return Ok(same_digest(&answer, &descriptor.digest).map_or(Mount::Refused, |()| Mount::Done));
            }
            Ok(answer) => return Ok(location(origin, &answer).await.map_or(Mount::Refused, Mount::Begun)),
            Err(fault) => fault,
        };
        match retries.pause(fault).await {
            Ok(()) => {}
            Err(cause @ Cause::Network { .. }) => return Err(cause),
            Err(_) => return Ok(Mount::Refused),
        }
    }
}

/// Pushes a blob, again from its beginning whenever the connection breaks. `begun` is an upload that the registry has
/// begun already.
pub(super) async fn push_blob(
    origin: &Origin,
    descriptor: &Descriptor,
    blob: &Outgoing<'_>,
    mut begun: Option<Url>,
) -> Result<(), Cause> {
    let mut retries = origin.retries();
    loop {
        let place = match begun.take() {
            Some(url) => Ok(url),
            None => begin(origin).await,
        };
        let pushed = match place {
            Ok(url) => put_whole(origin, descriptor, blob, url).await,
            Err(fault) => Err(fault),
        };
        match pushed {
            Ok(()) => return Ok(()),
            Err(fault) => retries.pause(fault).await?,
        }
        // It may have been the answer that got lost, not the blob.
        if origin.holds(descriptor).await? {
            return Ok(());
        }
    }
}

/// Puts a manifest under a tag or its digest; what the registry answered.
pub(super) async fn put_manifest(
    origin: &Origin,
    descriptor: &Descriptor,
    bytes: &Bytes,
    name: &str,
) -> Result<Answer, Cause> {
    let scopes = Scopes::push(&origin.repository);
    let mut request = Request::new(Method::PUT, origin.url(&["manifests", name]).await?, &scopes);
    let media_type = HeaderValue::from_str(&descriptor.media_type);
    request.headers.extend(media_type.ok().map(|value| (CONTENT_TYPE, value)));
    request.payload = Payload::Bytes(bytes);
    let mut retries = origin.retries();
    loop {
        match origin.succeed(&request, Subject::Upload).await {
            Ok(answer) => return same_digest(&answer, &descriptor.digest).map(|()| answer),
            Err(fault) => retries.pause(fault).await?,
        }
    }
}

/// Begins an upload; where its bytes go.
async fn begin(origin: &Origin) -> Result<Url, Fault> {
    let scopes = Scopes::push(&origin.repository);
    let request = Request::new(Method::POST, uploads(origin).await?, &scopes);
    let answer = origin.succeed(&request, Subject::Upload).await?;
    location(origin, &answer).await
}

/// Sends a blob in one request.
async fn put_whole(origin: &Origin, descriptor: &Descriptor, blob: &Outgoing<'_>, mut url: Url) -> Result<(), Fault> {
    url.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
    let scopes = Scopes::push(&origin.repository);
    let mut request = Request::new(Method::PUT, url, &scopes);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    request.payload = Payload::Blob(blob);
    request.lane = Lane::Upload;
    let answer = origin.succeed(&request, Subject::Upload).await.map_err(|mut fault| {
        // The upload is no longer known: a registry that was restarted, or another one behind the same name.
        fault.transient |= fault.status == Some(StatusCode::NOT_FOUND);
        fault
    })?;
    Ok(same_digest(&answer, &descriptor.digest)?)
}

/// Where uploads begin. The path ends in a slash.
async fn uploads(origin: &Origin) -> Result<Url, Cause> {
    origin.url(&["blobs", "uploads", ""]).await
}

/// Where the upload goes on that the answer tells of.
async fn location(origin: &Origin, answer: &Answer) -> Result<Url, Fault> {
    let base = origin.endpoint.base().await?;
    let next = answer.header("location").and_then(|text| answer.url().join(text).ok());
    let next = next.filter(|url| matches!(url.scheme(), "http" | "https"));
    let next = next.ok_or_else(|| Fault::wrong("the registry began an upload, but does not say where"))?;
    let host = host_of(&next);
    as_safe_as(base, next).ok_or_else(|| Fault::wrong(format!("the registry wants it sent over plain HTTP, to {host}")))
}

/// The address for the upload, no less safe than the registry's own. A registry behind a proxy that speaks TLS for it
/// may name itself by plain HTTP, which means the same place; another host by plain HTTP is none to send to.
fn as_safe_as(base: &Url, mut next: Url) -> Option<Url> {
    if next.scheme() == "http" && base.scheme() == "https" {
        let port = next.port().or(base.port());
        next.set_scheme("https").and_then(|()| next.set_port(port)).ok()?;
        return same_origin(&next, base).then_some(next);
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_stays_as_safe_as_the_registry() {
        for (base, next, expected) in [
            ("https://r.example/v2/", "https://r.example/up?a=b", Some("https://r.example/up?a=b")),
            ("https://r.example/v2/", "http://r.example/up?a=b", Some("https://r.example/up?a=b")),
            ("https://r.example:5000/v2/", "http://r.example:5000/up", Some("https://r.example:5000/up")),
            ("https://r.example:5000/v2/", "http://r.example/up", Some("https://r.example:5000/up")),
            ("https://r.example/v2/", "https://store.example/up", Some("https://store.example/up")),
            ("https://r.example/v2/", "http://store.example/up", None),
            ("https://r.example/v2/", "http://r.example:8080/up", None),
            ("http://r.example/v2/", "http://store.example/up", Some("http://store.example/up")),
        ] {
            let safe = as_safe_as(&base.parse().unwrap(), next.parse().unwrap());
            assert_eq!(safe.as_ref().map(Url::as_str), expected, "{base} {next}");
        }
    }
}
