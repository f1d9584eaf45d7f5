//! Putting things into a repository (distribution-spec, "Push").
//!
//! A blob that is no longer than a chunk goes in one `PUT`; a longer one goes in chunks, and after whatever breaks one
//! off it goes on from where the registry says that it is. `session` makes the requests about an upload, `strategy` learns
//! from the answers, and `blob` has what happens in which order.

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

/// Puts a manifest under a tag or its digest, `name`; what the registry answered. Together with its digest it can be given
/// `tags` (distribution-spec, "Pushing Manifests"); a registry that can't do that takes no notice of them.
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
            message: format!("{registry} answered {status}, but does not say that the manifest is there"),
            hint: Some("check that the address is that of a registry".into()),
        });
    }
    same_digest(&answer, &descriptor.digest).map(|()| answer)
}

fn content_type(media_type: &str) -> Result<HeaderValue, Cause> {
    HeaderValue::from_str(media_type).map_err(|_| {
        let message = format!("`{}`, as the manifest's media type is given, is none", media_type.escape_debug());
        Cause::Other { message, hint: None }
    })
}

/// Whether an answer to a manifest is that of a registry that has it now: the page of a gateway says 200, too.
fn is_registrys(answer: &HttpResponse) -> bool {
    answer.status() == StatusCode::CREATED || answer.header("docker-content-digest").is_some()
}
