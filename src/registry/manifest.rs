//! Manifests as a registry gives them.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::{Descriptor, Digest, media_type};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use serde_json::Value;

use super::challenge::Scopes;
use super::fault::{Fault, Subject};
use super::origin::{Origin, Request};
use crate::content::{Cause, cause_of, read_verified};

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
    let mut retries = origin.retries();
    loop {
        let read = async {
            let mut answer = origin.succeed(&request, Subject::Manifest).await?;
            let bytes = answer.read(MAX_DOCUMENT).await?;
            Ok::<_, Fault>((answer, bytes))
        };
        let (answer, bytes) = match read.await {
            Ok(read) => read,
            // Its status tells the caller more than its cause.
            Err(fault) if !fault.transient => return Err(fault),
            Err(fault) => {
                retries.pause(fault).await?;
                continue;
            }
        };
        let stated = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        if let Some(digest) = wanted.or(stated.as_ref()) {
            verify(digest, &bytes).await?;
        }
        let kind = kind_of(answer.header("content-type"), &bytes)?;
        let digest = wanted.cloned().unwrap_or_else(|| Digest::of(&bytes));
        return Ok((Descriptor::new(kind, digest, bytes.len() as u64), bytes));
    }
}

/// Fails unless `bytes` have this digest.
pub(super) async fn verify(digest: &Digest, bytes: &[u8]) -> Result<(), Cause> {
    let descriptor = Descriptor::new("", digest.clone(), bytes.len() as u64);
    let whole = Bytes::copy_from_slice(bytes);
    let mut stream = read_verified(&descriptor, stream::iter([Ok(whole)]).boxed());
    while let Some(next) = stream.next().await {
        next.map_err(cause_of)?;
    }
    Ok(())
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
