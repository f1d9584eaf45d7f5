//! Requests for manifests.

use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::graph::media_type_of;
use ociforge_manifests::{Descriptor, Digest, DocumentError, media_type};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};

use super::challenge::Scopes;
use super::fault::{Fault, Subject};
use super::origin::{Origin, Request};
use crate::content::{Cause, Verifier};

/// Fetches a manifest by tag or digest. Its bytes match the requested digest, or else the digest that the registry
/// states.
pub(super) async fn get_manifest(
    origin: &Origin,
    name: &str,
    wanted: Option<&Digest>,
) -> Result<(Descriptor, Vec<u8>), Fault> {
    let scopes = Scopes::pull(&origin.repository);
    let mut request = Request::new(Method::GET, origin.url(&["manifests", name]).await?, &scopes);
    request.headers.extend(media_type::MANIFESTS.map(|kind| (ACCEPT, HeaderValue::from_static(kind))));
    let (answer, bytes) = origin.read(&request, Subject::Manifest, MAX_DOCUMENT).await?;
    let stated = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    if let Some(digest) = wanted.or(stated.as_ref()) {
        verify(digest, &bytes)?;
    }
    let kind = kind_of(answer.header("content-type"), &bytes)?;
    let digest = wanted.cloned().unwrap_or_else(|| Digest::of(&bytes));
    Ok((Descriptor::new(kind, digest, bytes.len() as u64), bytes))
}

/// Fails unless `bytes` have this digest.
pub(super) fn verify(digest: &Digest, bytes: &[u8]) -> Result<(), Cause> {
    let mut check = Verifier::new(&Descriptor::new("", digest.clone(), bytes.len() as u64));
    check.take(bytes)?;
    check.finish()
}

/// The media type of a manifest with this `Content-Type`.
fn kind_of(content_type: Option<&str>, bytes: &[u8]) -> Result<String, Cause> {
    let stated = content_type.map_or("", |text| text.split(';').next().unwrap_or_default().trim());
    match media_type_of(stated, bytes) {
        Ok(Some(kind)) => Ok(kind),
        Ok(None) | Err(DocumentError::Json { .. }) => Err(Cause::Other {
            message: "the answer of the registry is not a manifest".into(),
            hint: Some("check that the address is that of a registry".into()),
        }),
        Err(error) => Err(error.into()),
    }
}
