//! The end points of blobs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use futures_util::TryStreamExt;
use ociforge_manifests::{Digest, Hasher};

use super::answer::{ApiError, ApiResult, CONTENT_DIGEST, Code, ResponseHeaders, empty};
use super::sound::{self, PIECE};
use super::{Registry, is_unchanged};
use crate::content::Cause;
use crate::store::Locked;
use crate::store::dir::FileFacts;
use crate::store::stream::stream;

/// Answers with the blob, or with the requested range of it.
pub(super) fn get(registry: &Arc<Registry>, digest: &Digest, request: &HeaderMap, head: bool) -> ApiResult {
    if head {
        // The client may be asking whether it has to push the blob.
        registry.claim(digest);
    }
    let (file, length) = registry.layout.open_blob(digest).map_err(|error| missing(error, digest))?;
    if registry.is_damaged(digest) {
        // Reported as missing to `HEAD`, so that a client pushes it again, which repairs it.
        return Err(if head { missing(io::ErrorKind::NotFound.into(), digest) } else { damaged(digest) });
    }
    let etag = format!("\"{digest}\"");
    let mut headers: ResponseHeaders = vec![
        (CONTENT_DIGEST, digest.to_string()),
        (header::ETAG, etag.clone()),
        (header::ACCEPT_RANGES, "bytes".into()),
        (header::CONTENT_TYPE, "application/octet-stream".into()),
    ];
    if is_unchanged(request, digest) {
        return Ok(empty(StatusCode::NOT_MODIFIED, headers));
    }
    let same = request.get(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == etag.as_bytes());
    let range = request.get(header::RANGE).filter(|_| same && !head).and_then(|range| range.to_str().ok());
    let whole = length;
    let (status, start, length) = match RequestedRange::parse(range, length) {
        RequestedRange::Whole => (StatusCode::OK, 0, length),
        RequestedRange::Range { start, end } => {
            headers.push((header::CONTENT_RANGE, format!("bytes {start}-{end}/{length}")));
            (StatusCode::PARTIAL_CONTENT, start, end + 1 - start)
        }
        RequestedRange::None => {
            let error = ApiError::new(Code::SizeInvalid, format!("the blob has {length} bytes")).status(416);
            return Err(error.headers(vec![(header::CONTENT_RANGE, format!("bytes */{length}"))]));
        }
    };
    headers.push((header::CONTENT_LENGTH, length.to_string()));
    let body = if head { Body::empty() } else { body(registry, digest, file, ContentRange { start, length, whole })? };
    Ok((status, AppendHeaders(headers), body).into_response())
}

/// The bytes of an answer.
struct ContentRange {
    start: u64,
    length: u64,
    /// The size of the complete blob.
    whole: u64,
}

/// The body of an answer, which has the blob's last byte only when the blob is sound.
fn body(registry: &Arc<Registry>, digest: &Digest, file: File, span: ContentRange) -> Result<Body, ApiError> {
    let ContentRange { start, length, whole } = span;
    let facts = FileFacts::of(&file)?;
    if length == whole && whole <= PIECE {
        let mut bytes = vec![0; usize::try_from(whole).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        let mut hasher = Hasher::like(digest);
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            registry.note_damage(digest, facts);
            return Err(damaged(digest));
        }
        return Ok(Body::from(bytes));
    }
    let file = Arc::new(file);
    let bytes = match start {
        0 if length == whole => sound::whole(&file, digest, whole),
        _ if start + length == whole => sound::to_the_end(&file, digest, start, whole),
        _ => return Ok(Body::from_stream(stream(file, start, length))),
    };
    let (registry, digest) = (Arc::clone(registry), digest.clone());
    Ok(Body::from_stream(bytes.inspect_err(move |error| {
        if matches!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(Cause::WrongDigest { .. })) {
            registry.note_damage(&digest, facts);
        }
    })))
}

fn damaged(digest: &Digest) -> ApiError {
    ApiError::new(Code::Unknown, format!("the blob {digest} is damaged; push it again"))
}

/// The requested range of a blob; both positions are inclusive.
#[derive(Debug, PartialEq, Eq)]
enum RequestedRange {
    Whole,
    Range {
        start: u64,
        end: u64,
    },
    /// A part that the blob does not have.
    None,
}

impl RequestedRange {
    /// Reads the header `Range`. Several ranges and invalid ones are answered with the complete blob, which HTTP
    /// allows.
    fn parse(header: Option<&str>, length: u64) -> Self {
        let Some((first, last)) = header.and_then(|text| text.strip_prefix("bytes=")?.trim().split_once('-')) else {
            return Self::Whole;
        };
        let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(start), Ok(end)) => (start, end.min(length.saturating_sub(1))),
            (Ok(start), Err(_)) if last.is_empty() => (start, length.saturating_sub(1)),
            (Err(_), Ok(0)) if first.is_empty() => return Self::None,
            (Err(_), Ok(count)) if first.is_empty() => (length.saturating_sub(count), length.saturating_sub(1)),
            _ => return Self::Whole,
        };
        if start < length && start <= end { Self::Range { start, end } } else { Self::None }
    }
}

/// Removes a blob unless a manifest needs it: all repositories share it. The lock prevents new manifests during the
/// check.
pub(super) fn delete(registry: &Registry, _lock: &Locked, digest: &Digest) -> ApiResult {
    registry.layout.blob_size(digest).ok_or_else(|| missing(io::ErrorKind::NotFound.into(), digest))?;
    let index = registry.layout.index()?;
    if let Some(user) = registry.documents.user(&index, digest)? {
        let message = format!("the manifest {user} needs this blob; delete the manifest first, in all repositories");
        return Err(ApiError::new(Code::Unsupported, message));
    }
    registry.layout.remove_blob(digest).map_err(|error| missing(error, digest))?;
    Ok(empty(StatusCode::ACCEPTED, vec![(CONTENT_DIGEST, digest.to_string())]))
}

fn missing(error: io::Error, digest: &Digest) -> ApiError {
    match error.kind() {
        io::ErrorKind::NotFound => ApiError::new(Code::BlobUnknown, format!("the blob {digest} is unknown")),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let part = |text: &str, length| RequestedRange::parse(Some(text), length);
        assert_eq!(part("bytes=0-0", 10), RequestedRange::Range { start: 0, end: 0 });
        assert_eq!(part("bytes=5-", 10), RequestedRange::Range { start: 5, end: 9 });
        assert_eq!(part("bytes=-3", 10), RequestedRange::Range { start: 7, end: 9 });
        assert_eq!(part("bytes=-30", 10), RequestedRange::Range { start: 0, end: 9 });
        assert_eq!(part("bytes=8-99999999999999999999", 10), RequestedRange::Whole);
        assert_eq!(part("bytes=8-18446744073709551615", 10), RequestedRange::Range { start: 8, end: 9 });
        for none in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=5-4"] {
            assert_eq!(part(none, 10), RequestedRange::None, "{none}");
        }
        for whole in ["bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2x"] {
            assert_eq!(part(whole, 10), RequestedRange::Whole, "{whole}");
        }
        assert_eq!(part("bytes=0-", 0), RequestedRange::None);
        assert_eq!(part("bytes=-5", 0), RequestedRange::None);
        assert_eq!(RequestedRange::parse(None, 0), RequestedRange::Whole);
    }
}
