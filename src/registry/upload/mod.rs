//! Putting things into a repository (distribution-spec, "Push").
//!
//! A blob up to the size of a chunk is sent in one `PUT`; a longer one in chunks, and after an interruption the upload
//! resumes at the offset of the registry. `session` sends the requests of an upload, `strategy` learns from the
//! answers, and `blob` has the sequence.

mod blob;
mod mount;
mod session;
mod strategy;

use bytes::Bytes;
use ociforge_manifests::Descriptor;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use super::challenge::Scopes;
use super::fault::Subject;
use super::origin::{Origin, Request, same_digest};
use crate::content::Cause;
use crate::http::{HttpResponse, Payload};

pub(super) use self::blob::push_blob;
pub(super) use self::mount::{MountOutcome, mount};
pub(super) use self::strategy::Strategy;

/// Pushes a manifest under `name`, a tag or its digest; returns the answer. A push by digest can set `tags`
/// (distribution-spec, "Pushing Manifests"); a registry without support ignores them.
pub(super) async fn put_manifest(
    origin: &Origin,
    descriptor: &Descriptor,
    bytes: &Bytes,
    name: &str,
    tags: &[&str],
) -> Result<HttpResponse, Cause> {
    let scopes = Scopes::push(&origin.repository);
    let mut url = origin.url(&["manifests", name]).await?;
    if !tags.is_empty() {
        url.query_pairs_mut().extend_pairs(tags.iter().map(|tag| ("tag", tag)));
    }
    let mut request = Request::new(Method::PUT, url, &scopes);
    request.headers.insert(CONTENT_TYPE, content_type(&descriptor.media_type)?);
    request.payload = Payload::Bytes(bytes);
    let put = origin.retries().run(|| origin.succeed(&request, Subject::Upload)).await;
    let answer = put.map_err(|fault| fault.cause)?;
    if !is_registrys(&answer) {
        let (registry, status) = (&origin.endpoint.registry, answer.status());
        return Err(Cause::Other {
            message: format!("{registry} answered {status}, but does not confirm the manifest"),
            hint: Some("check that the address is that of a registry".into()),
        });
    }
    same_digest(&answer, &descriptor.digest).map(|()| answer)
}

fn content_type(media_type: &str) -> Result<HeaderValue, Cause> {
    HeaderValue::from_str(media_type).map_err(|_| {
        let message = format!("`{}`, the media type of the manifest, is invalid", media_type.escape_debug());
        Cause::Other { message, hint: None }
    })
}

/// Whether an answer confirms a pushed manifest: the page of a gateway has the status 200, too.
fn is_registrys(answer: &HttpResponse) -> bool {
    answer.status() == StatusCode::CREATED || answer.header("docker-content-digest").is_some()
}
