//! The end points of uploads (distribution-spec, "Pushing Blobs").

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use ociforge_manifests::Digest;
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use super::answer::{ApiError, ApiResult, CONTENT_DIGEST, Code, ResponseHeaders, empty};
use super::route::parse_digest;
use super::session::{IncomingUpload, SessionError};
use super::{Query, Registry, blocking, drain};
use crate::content::{ByteStream, Cause};

/// The maximum number of pieces of a body per write.
const PIECES: usize = 16;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Begins an upload. With `mount` the blob may already exist; with `digest` the body is the complete blob.
pub(super) async fn start(registry: &Arc<Registry>, name: &str, query: &Query, body: ByteStream) -> ApiResult {
    if let Some(digest) = query.get("mount") {
        let digest = parse_digest(digest)?;
        // All repositories share their blobs, so it does not matter which one the client would take it from.
        if registry.claim(&digest).is_some() {
            return Ok(created(name, &digest));
        }
    }
    let digest = query.get("digest").map(parse_digest).transpose()?;
    let algorithm = digest.as_ref().map(Digest::algorithm).or(query.get("digest-algorithm")).map(str::to_owned);
    let sessions = Arc::clone(&registry.sessions);
    let id = blocking(move || sessions.begin(algorithm.as_deref())).await??;
    let Some(digest) = digest else {
        return Ok(accepted(StatusCode::ACCEPTED, name, id, 0));
    };
    let session = registry.sessions.open(id).await?;
    match receive(session, body, None).await {
        Ok(session) => finish(name, session, digest).await,
        Err(error) => {
            // The client does not know this upload.
            if let Ok(session) = registry.sessions.open(id).await {
                blocking(move || session.discard()).await??;
            }
            Err(error)
        }
    }
}

/// Receives the next chunk.
pub(super) async fn patch(
    registry: &Arc<Registry>,
    name: &str,
    id: Uuid,
    request: &HeaderMap,
    body: ByteStream,
) -> ApiResult {
    let session = registry.sessions.open(id).await?;
    let session = take(session, name, id, request, body).await?;
    Ok(accepted(StatusCode::ACCEPTED, name, id, session.length()))
}

/// Receives the last chunk, if the request has a body, and finishes the blob.
pub(super) async fn put(
    registry: &Arc<Registry>,
    name: &str,
    id: Uuid,
    query: &Query,
    request: &HeaderMap,
    body: ByteStream,
) -> ApiResult {
    let no_digest = || ApiError::new(Code::DigestInvalid, "the parameter digest is missing");
    let digest = query.get("digest").ok_or_else(no_digest).and_then(parse_digest)?;
    let mut session = registry.sessions.open(id).await?;
    let algorithm = digest.algorithm().to_owned();
    let session = blocking(move || session.hash_with(&algorithm).map(|()| session)).await??;
    let session = take(session, name, id, request, body).await?;
    finish(name, session, digest).await
}

/// Answers with the offset of the upload.
pub(super) fn status(registry: &Registry, name: &str, id: Uuid) -> ApiResult {
    Ok(accepted(StatusCode::NO_CONTENT, name, id, registry.sessions.length(id)?))
}

/// Cancels the upload.
pub(super) async fn cancel(registry: &Registry, id: Uuid) -> ApiResult {
    let session = registry.sessions.open(id).await?;
    blocking(move || session.discard()).await??;
    Ok(empty(StatusCode::NO_CONTENT, Vec::new()))
}

/// Appends a chunk to the upload if its offset matches.
async fn take(
    session: IncomingUpload,
    name: &str,
    id: Uuid,
    request: &HeaderMap,
    body: ByteStream,
) -> Result<IncomingUpload, ApiError> {
    let (start, there) = (session.length(), session.length().saturating_sub(1));
    let expected = match Chunk::parse(request) {
        Ok(None) => None,
        Ok(Some(chunk)) if chunk.start == start => Some(chunk.length),
        Ok(Some(chunk)) => {
            drain(body).await;
            let message = format!("the chunk begins at {}, but the upload has {start} bytes", chunk.start);
            let error = ApiError::new(Code::BlobUploadInvalid, message).status(416);
            return Err(error.headers(vec![location(name, id), (header::RANGE, format!("0-{there}"))]));
        }
        Err(error) => {
            drain(body).await;
            return Err(error);
        }
    };
    receive(session, body, expected).await
}

/// Writes and hashes a body. A body of another length than `expected` is discarded. The received part of an interrupted
/// body stays: the client can query the offset and resume.
async fn receive(session: IncomingUpload, body: ByteStream, expected: Option<u64>) -> Result<IncomingUpload, ApiError> {
    let start = session.length();
    let mut body = body.ready_chunks(PIECES);
    let mut writing = Writing::Done(Box::new(session));
    let mut cut = None;
    // Other threads hash and write, but none waits for the client: while a piece is written, the next one arrives, and
    // a thread holds the session only while it writes.
    while let Some(pieces) = body.next().await {
        let pieces: Vec<_> =
            pieces.into_iter().map_while(|piece| piece.map_err(|error| cut = Some(error)).ok()).collect();
        let session = match writing.done().await {
            Ok(session) => session,
            Err(error) => {
                drain(body.into_inner()).await;
                return Err(error);
            }
        };
        writing = Writing::Running(spawn_blocking(move || session.append_all(&pieces)));
    }
    let mut session = writing.done().await?;
    if let Some(error) = cut {
        return Err(ApiError::cut(Code::BlobUploadInvalid, "the body", &error));
    }
    let length = session.length() - start;
    match expected {
        Some(expected) if expected != length => {
            blocking(move || session.truncate(start)).await??;
            let message = format!("Content-Range specifies {expected} bytes, but the body has {length}");
            Err(ApiError::new(Code::SizeInvalid, message))
        }
        _ => Ok(session),
    }
}

/// An upload that is written to.
enum Writing {
    Done(Box<IncomingUpload>),
    Running(JoinHandle<Result<IncomingUpload, Cause>>),
}

impl Writing {
    /// Waits until all is written.
    async fn done(self) -> Result<IncomingUpload, ApiError> {
        match self {
            Self::Done(session) => Ok(*session),
            Self::Running(job) => Ok(job.await.map_err(std::io::Error::other)??),
        }
    }
}

async fn finish(name: &str, session: IncomingUpload, digest: Digest) -> ApiResult {
    let (outcome, digest) = blocking(move || (session.finish(&digest), digest)).await?;
    match outcome? {
        Ok(()) => Ok(created(name, &digest)),
        Err(actual) => {
            let message = format!("the blob's digest is {actual}, not {digest}; the upload was discarded");
            Err(ApiError::new(Code::DigestInvalid, message))
        }
    }
}

fn created(name: &str, digest: &Digest) -> Response {
    let location = (header::LOCATION, format!("/v2/{name}/blobs/{digest}"));
    empty(StatusCode::CREATED, vec![location, (CONTENT_DIGEST, digest.to_string())])
}

/// The location and offset of the upload. By convention, an empty upload is `0-0`, as one with a single byte.
fn accepted(status: StatusCode, name: &str, id: Uuid, length: u64) -> Response {
    let range = format!("0-{}", length.saturating_sub(1));
    let headers: ResponseHeaders = vec![location(name, id), (header::RANGE, range), (UPLOAD_UUID, id.to_string())];
    empty(status, headers)
}

fn location(name: &str, id: Uuid) -> (HeaderName, String) {
    (header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}"))
}

/// The range of a chunk in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    start: u64,
    length: u64,
}

impl Chunk {
    /// Reads `Content-Range`, which has the form `<first>-<last>` here; `None` without the header.
    fn parse(request: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(header) = request.get(header::CONTENT_RANGE) else { return Ok(None) };
        let text = header.to_str().unwrap_or_default();
        let bad = || ApiError::new(Code::BlobUploadInvalid, format!("`{text}` is not a Content-Range such as 0-99"));
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let (start, last) = number(first).zip(number(last)).ok_or_else(bad)?;
        let length = last.checked_add(1).and_then(|end| end.checked_sub(start)).ok_or_else(bad)?;
        let declared = request.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
        match declared {
            Some(declared) if declared != length => {
                let message = format!("Content-Range specifies {length} bytes, Content-Length {declared}");
                Err(ApiError::new(Code::SizeInvalid, message))
            }
            _ => Ok(Some(Self { start, length })),
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Unknown => Self::new(Code::BlobUploadUnknown, error.to_string()),
            SessionError::Busy => Self::new(Code::BlobUploadInvalid, error.to_string()).status(409),
            SessionError::Io(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(range: &'static str, length: Option<&'static str>) -> Result<Option<Chunk>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
        headers.extend(length.map(|length| (header::CONTENT_LENGTH, length.parse().unwrap())));
        Chunk::parse(&headers)
    }

    #[test]
    fn chunks() {
        assert_eq!(parse("0-99", None).unwrap(), Some(Chunk { start: 0, length: 100 }));
        assert_eq!(parse("5-5", Some("1")).unwrap(), Some(Chunk { start: 5, length: 1 }));
        assert_eq!(Chunk::parse(&HeaderMap::new()).unwrap(), None);
        assert!(parse("0-99", Some("99")).is_err());
        for bad in ["", "-", "5", "5-", "-5", "7-5", "a-b", "+1-2", "bytes 0-9", "0-18446744073709551615"] {
            assert!(parse(bad, None).is_err(), "{bad}");
        }
    }
}
