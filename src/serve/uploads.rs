//! The end points of uploads (distribution-spec, "Pushing Blobs").

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use ociforge_manifests::Digest;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::answer::{Answer, ApiError, CONTENT_DIGEST, Code, Headers, empty};
use super::route::parse_digest;
use super::session::{Session, SessionError};
use super::{Query, Registry, blocking, drain};
use crate::content::{ByteStream, Cause};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Begins an upload. With `mount` the blob may be there already; with `digest` the body is the whole blob.
pub(super) async fn start(registry: &Arc<Registry>, name: &str, query: &Query, body: ByteStream) -> Answer {
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
    let session = open(registry, id).await?;
    match receive(session, body, None).await {
        Ok(session) => finish(registry, name, session, digest).await,
        Err(error) => {
            // The client never learnt where this upload is.
            if let Ok(session) = open(registry, id).await {
                blocking(move || session.discard()).await??;
            }
            Err(error)
        }
    }
}

/// Takes the next chunk.
pub(super) async fn patch(
    registry: &Arc<Registry>,
    name: &str,
    id: Uuid,
    request: &HeaderMap,
    body: ByteStream,
) -> Answer {
    let session = open(registry, id).await?;
    let session = take(session, name, id, request, body).await?;
    Ok(accepted(StatusCode::ACCEPTED, name, id, session.length()))
}

/// Takes the last chunk, if there is a body, and makes the upload a blob.
pub(super) async fn put(
    registry: &Arc<Registry>,
    name: &str,
    id: Uuid,
    query: &Query,
    request: &HeaderMap,
    body: ByteStream,
) -> Answer {
    let no_digest = || ApiError::new(Code::DigestInvalid, "the parameter digest is missing");
    let digest = query.get("digest").ok_or_else(no_digest).and_then(parse_digest)?;
    let mut session = open(registry, id).await?;
    let algorithm = digest.algorithm().to_owned();
    let session = blocking(move || session.hash_with(&algorithm).map(|()| session)).await??;
    let session = take(session, name, id, request, body).await?;
    finish(registry, name, session, digest).await
}

/// Says how far the upload is.
pub(super) fn status(registry: &Registry, name: &str, id: Uuid) -> Answer {
    Ok(accepted(StatusCode::NO_CONTENT, name, id, registry.sessions.length(id)?))
}

/// Gives the upload up.
pub(super) fn cancel(registry: &Registry, id: Uuid) -> Answer {
    registry.sessions.open(id)?.discard()?;
    Ok(empty(StatusCode::NO_CONTENT, Vec::new()))
}

async fn open(registry: &Arc<Registry>, id: Uuid) -> Result<Session, ApiError> {
    let sessions = Arc::clone(&registry.sessions);
    Ok(blocking(move || sessions.open(id)).await??)
}

/// Takes a chunk to the end of the upload if that is where it belongs.
async fn take(
    session: Session,
    name: &str,
    id: Uuid,
    request: &HeaderMap,
    body: ByteStream,
) -> Result<Session, ApiError> {
    let (start, there) = (session.length(), session.length().saturating_sub(1));
    let expected = match Chunk::parse(request) {
        Ok(None) => None,
        Ok(Some(chunk)) if chunk.start == start => Some(chunk.length),
        Ok(Some(chunk)) => {
            drain(body).await;
            let message = format!("the chunk begins at {}, but {start} bytes are there", chunk.start);
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

/// Writes and hashes a body. With another length than `expected` nothing of it stays. What came of a body that was cut
/// off does stay: the client can ask how much there is and go on.
async fn receive(session: Session, mut body: ByteStream, expected: Option<u64>) -> Result<Session, ApiError> {
    let start = session.length();
    // Hashing is work for a thread of its own. It has one piece while the next waits and a third arrives.
    let (sender, receiver) = mpsc::channel(1);
    let writer = spawn_blocking(move || write(session, receiver));
    let mut cut = None;
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => {
                if sender.send(piece).await.is_err() {
                    drain(body).await;
                    break;
                }
            }
            Err(error) => {
                cut = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let mut session = writer.await.map_err(std::io::Error::other)??;
    if let Some(error) = cut {
        return Err(ApiError::new(Code::BlobUploadInvalid, format!("the body did not arrive whole: {error}")));
    }
    let length = session.length() - start;
    match expected {
        Some(expected) if expected != length => {
            blocking(move || session.truncate(start)).await??;
            let message = format!("Content-Range says {expected} bytes, but {length} came");
            Err(ApiError::new(Code::SizeInvalid, message))
        }
        _ => Ok(session),
    }
}

/// Writes what `receiver` brings. A fault, such as a full disk, ends the upload and frees its space.
fn write(mut session: Session, mut receiver: mpsc::Receiver<Bytes>) -> Result<Session, Cause> {
    while let Some(piece) = receiver.blocking_recv() {
        if let Err(error) = session.append(&piece) {
            session.discard()?;
            return Err(error);
        }
    }
    Ok(session)
}

async fn finish(registry: &Arc<Registry>, name: &str, session: Session, digest: Digest) -> Answer {
    let path = registry.layout.blob_path(&digest);
    let (outcome, digest) = blocking(move || (session.finish(&digest, &path), digest)).await?;
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

/// Where the upload is and how far it has come. By custom no byte is told as `0-0`, as one byte is.
fn accepted(status: StatusCode, name: &str, id: Uuid, length: u64) -> Response {
    let range = format!("0-{}", length.saturating_sub(1));
    let headers: Headers = vec![location(name, id), (header::RANGE, range), (UPLOAD_UUID, id.to_string())];
    empty(status, headers)
}

fn location(name: &str, id: Uuid) -> (HeaderName, String) {
    (header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}"))
}

/// Where a chunk belongs, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    start: u64,
    length: u64,
}

impl Chunk {
    /// Reads `Content-Range`, which here is `<first>-<last>`; nothing when the client leaves it out.
    fn parse(request: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(header) = request.get(header::CONTENT_RANGE) else { return Ok(None) };
        let text = header.to_str().unwrap_or_default();
        let bad = || ApiError::new(Code::BlobUploadInvalid, format!("`{text}` is no Content-Range of the form 0-99"));
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let (start, last) = number(first).zip(number(last)).ok_or_else(bad)?;
        let length = last.checked_add(1).and_then(|end| end.checked_sub(start)).ok_or_else(bad)?;
        let declared = request.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
        match declared {
            Some(declared) if declared != length => {
                let message = format!("Content-Range says {length} bytes, Content-Length {declared}");
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
