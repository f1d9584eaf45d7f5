//! An upload session of a registry, and its requests.

use ociforge_manifests::Descriptor;
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use url::Url;

use crate::content::Cause;
use crate::http::{HttpResponse, Payload, host_of, same_origin};
use crate::registry::body::{BlobPart, Outgoing, Span};
use crate::registry::challenge::Scopes;
use crate::registry::endpoint::Lane;
use crate::registry::fault::{Fault, Subject};
use crate::registry::origin::{Origin, Request, same_digest};

/// An upload (distribution-spec, "Pushing blobs").
pub(super) struct UploadSession {
    /// The URL of the next request. It may be signed for the user, so it must not appear in messages.
    pub url: Url,
    /// The offset of the registry in bytes; `None` if it is unknown.
    pub offset: Option<u64>,
    /// The minimum size of a chunk in bytes, except the last.
    pub least: u64,
}

impl UploadSession {
    /// Begins an upload.
    pub(super) async fn begin(origin: &Origin) -> Result<Self, Fault> {
        let scopes = Scopes::push(&origin.repository);
        let request = Request::new(Method::POST, uploads(origin).await?, &scopes);
        let answer = origin.succeed(&request, Subject::Upload).await?;
        let least = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok(Self { least: least.unwrap_or(0), ..Self::at(location(origin, &answer).await?) })
    }

    /// An upload that another request began.
    pub(super) fn at(url: Url) -> Self {
        Self { url, offset: Some(0), least: 0 }
    }

    /// Queries the offset of the registry. `None` if it does not state it.
    pub(super) async fn ask(&mut self, origin: &Origin) -> Result<Option<u64>, Fault> {
        let scopes = Scopes::push(&origin.repository);
        let request = Request::new(Method::GET, self.url.clone(), &scopes);
        let answer = origin.succeed(&request, Subject::Upload).await?;
        self.follow(origin, &answer).await?;
        Ok(received(&answer))
    }

    /// Sends a chunk; returns the new offset of the registry. `None` if it does not state it.
    pub(super) async fn patch(
        &mut self,
        origin: &Origin,
        blob: &Outgoing<'_>,
        span: Span,
    ) -> Result<Option<u64>, Fault> {
        let scopes = Scopes::push(&origin.repository);
        let part = BlobPart { blob, span };
        let mut request = body(Request::new(Method::PATCH, self.url.clone(), &scopes), &part);
        let range = HeaderValue::from_str(&format!("{}-{}", span.start, span.start + span.length - 1));
        request.headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
        let answer = origin.succeed(&request, Subject::Upload).await?;
        self.follow(origin, &answer).await?;
        Ok(received(&answer))
    }

    /// Ends the upload with its last bytes, if `span` has any.
    pub(super) async fn put(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
        blob: &Outgoing<'_>,
        span: Span,
    ) -> Result<(), Fault> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let scopes = Scopes::push(&origin.repository);
        let part = BlobPart { blob, span };
        let request = body(Request::new(Method::PUT, url, &scopes), &part);
        let answer = origin.succeed(&request, Subject::Upload).await?;
        Ok(same_digest(&answer, &descriptor.digest)?)
    }

    /// Cancels the upload. A registry that refuses this drops it by itself later.
    pub(super) async fn cancel(self, origin: &Origin) {
        let scopes = Scopes::push(&origin.repository);
        let _ = origin.send(&Request::new(Method::DELETE, self.url, &scopes)).await;
    }

    /// Continues at the location of the answer, if any.
    async fn follow(&mut self, origin: &Origin, answer: &HttpResponse) -> Result<(), Fault> {
        if answer.header("location").is_some() {
            self.url = location(origin, answer).await?;
        }
        Ok(())
    }
}

/// The request with a part of the blob as its body.
fn body<'a>(mut request: Request<'a>, part: &'a BlobPart<'a>) -> Request<'a> {
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    request.payload = Payload::Stream(part);
    request.lane = Lane::Held;
    request
}

/// The URL that begins uploads. The path ends in a slash.
pub(super) async fn uploads(origin: &Origin) -> Result<Url, Cause> {
    origin.url(&["blobs", "uploads", ""]).await
}

/// The location of the upload in the answer.
pub(super) async fn location(origin: &Origin, answer: &HttpResponse) -> Result<Url, Fault> {
    let base = origin.endpoint.base().await?;
    let next = answer.header("location").and_then(|text| answer.url().join(text).ok());
    let next = next.filter(|url| matches!(url.scheme(), "http" | "https"));
    let next = next.ok_or_else(|| Fault::wrong("the registry began an upload without a location"))?;
    let host = host_of(&next);
    as_safe_as(base, next)
        .ok_or_else(|| Fault::wrong(format!("the registry asks to send the blob over plain HTTP to {host}")))
}

/// The URL of the upload, as secure as the registry's own. A registry behind a TLS proxy may name itself by plain HTTP,
/// which is corrected; another host by plain HTTP is refused.
pub(super) fn as_safe_as(base: &Url, mut next: Url) -> Option<Url> {
    if next.scheme() == "http" && base.scheme() == "https" {
        let port = next.port().or(base.port());
        next.set_scheme("https").and_then(|()| next.set_port(port)).ok()?;
        return same_origin(&next, base).then_some(next);
    }
    Some(next)
}

/// The offset in the answer.
fn received(answer: &HttpResponse) -> Option<u64> {
    length_of(answer.header("range")?)
}

/// The length of a `Range` in the form of registries, `0-<last>`. By convention `0-0` means no byte or one byte; it is
/// read as no byte, which at worst sends one byte twice.
fn length_of(range: &str) -> Option<u64> {
    let (first, last) = range.trim_start_matches("bytes").trim_start_matches(['=', ' ']).split_once('-')?;
    let last = last.parse::<u64>().ok().filter(|_| first == "0")?;
    if last == 0 { Some(0) } else { last.checked_add(1) }
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

    #[test]
    fn ranges_begin_at_nought() {
        assert_eq!(["0-0", "0-9", "bytes=0-9", "bytes 0-9"].map(length_of), [Some(0), Some(10), Some(10), Some(10)]);
        for bad in ["", "0", "-", "0-", "-9", "1-9", "0-x", "0--1", "0-18446744073709551615"] {
            assert_eq!(length_of(bad), None, "{bad}");
        }
    }
}
