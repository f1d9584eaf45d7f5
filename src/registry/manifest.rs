//! Manifests as a registry gives them.

use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::{Descriptor, Digest, media_type};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use serde_json::Value;

use super::challenge::Scopes;
use super::fault::{Fault, Subject};
use super::origin::{Origin, Request};
use crate::content::{Cause, Check};

/// Asks for a manifest by tag or digest. Its bytes are those of the digest that is wanted, or else of that which the
/// registry states.
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
    let mut check = Check::new(&Descriptor::new("", digest.clone(), bytes.len() as u64));
    check.take(bytes)?;
    check.finish()
}

/// The media type of a manifest: what it says itself, which its digest covers, or else what the registry says, or else
/// what its form says.
fn kind_of(content_type: Option<&str>, bytes: &[u8]) -> Result<String, Cause> {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let stated = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let known =
        [json["mediaType"].as_str(), stated].into_iter().flatten().find(|kind| media_type::MANIFESTS.contains(kind));
    match known {
        Some(kind) if json.is_object() => Ok(kind.to_owned()),
        None if json["manifests"].is_array() => Ok(media_type::INDEX.to_owned()),
        None if json["config"].is_object() && json["layers"].is_array() => Ok(media_type::MANIFEST.to_owned()),
        _ if json["schemaVersion"] == 1 => Err(Cause::Other {
            message: "it is a manifest of Docker's schema 1, which is no longer supported".into(),
            hint: Some("push the image again with a current tool".into()),
        }),
        _ => Err(Cause::Other {
            message: "what the registry gave is no manifest".into(),
            hint: Some("check that the address is that of a registry".into()),
        }),
    }
}
