//! The referrers of a manifest (distribution-spec, "Listing Referrers" and "Pushing Manifests with Subject"): from the
//! registry's referrers API, or else from the referrers tag schema, which clients maintain.

use std::collections::BTreeMap;

use bytes::Bytes;
use ociforge_manifests::document::canonical;
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{Descriptor, Digest, media_type};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::fault::Fault;
use super::list::{Pages, no_list};
use super::manifest::get_manifest;
use super::origin::Origin;
use super::{tag, upload};
use crate::content::Cause;
use crate::http::HttpResponse;

/// The answers of registries without the referrers API.
const NO_LIST: [StatusCode; 4] =
    [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED];

/// The manifests and indexes whose subject has this digest, sorted by digest, each once.
pub(super) async fn list(origin: &Origin, subject: &Digest) -> Result<Vec<Descriptor>, Fault> {
    let listed = match by_api(origin, subject).await? {
        Some(listed) => listed,
        None => match tagged_index(origin, subject).await? {
            Some(index) => descriptors(&index).unwrap_or_default(),
            None => Vec::new(),
        },
    };
    let by_digest: BTreeMap<_, _> = listed.into_iter().map(|found| (found.digest.clone(), found)).collect();
    Ok(by_digest.into_values().collect())
}

/// Pushes a manifest by digest with `tags`, if the registry supports that; returns the answer.
pub(super) async fn put_manifest(
    origin: &Origin,
    descriptor: &Descriptor,
    bytes: &Bytes,
    tags: &[&str],
) -> Result<HttpResponse, Cause> {
    let answer = upload::put_manifest(origin, descriptor, bytes, descriptor.digest.as_str(), tags).await?;
    list_if_unlisted(origin, descriptor, bytes, &answer).await?;
    Ok(answer)
}

/// Adds a pushed manifest to the index of the tag schema, if it has a subject and the registry's answer shows no
/// referrers API.
pub(super) async fn list_if_unlisted(
    origin: &Origin,
    descriptor: &Descriptor,
    bytes: &Bytes,
    answer: &HttpResponse,
) -> Result<(), Cause> {
    match entry(descriptor, bytes) {
        Some((subject, entry)) if !answer.headers().contains_key("oci-subject") => {
            enter(origin, &subject, entry).await.map_err(|fault| fault.cause)
        }
        _ => Ok(()),
    }
}

/// Whether the manifest has a subject, and so belongs into a list.
pub(super) fn has_subject(descriptor: &Descriptor, bytes: &Bytes) -> bool {
    entry(descriptor, bytes).is_some()
}

/// The registry's referrers; `None` without the referrers API. Not every registry without it answers 404: some call the
/// address invalid, some answer with a web page.
async fn by_api(origin: &Origin, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Fault> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(media_type::INDEX))]);
    let mut pages = Pages::new(origin, origin.url(&["referrers", subject.as_str()]).await?, headers);
    let page = match pages.next().await {
        Ok(page) => page,
        Err(fault) if fault.status.is_some_and(|status| NO_LIST.contains(&status)) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let index = page.and_then(|page| serde_json::from_reader(page).ok()).unwrap_or_default();
    let Some(mut all) = descriptors(&index) else { return Ok(None) };
    while let Some(page) = pages.next().await? {
        let index = serde_json::from_reader(page).unwrap_or_default();
        all.extend(descriptors(&index).ok_or_else(|| no_list(&origin.endpoint.registry, "referrers"))?);
    }
    Ok(Some(all))
}

/// The index that the tag schema has for a subject.
async fn tagged_index(origin: &Origin, subject: &Digest) -> Result<Option<Value>, Fault> {
    let tag = subject.referrers_tag();
    match get_manifest(origin, &tag, None).await {
        Ok((found, bytes)) if media_type::is_index(&found.media_type) => {
            Ok(Some(serde_json::from_slice(&bytes).unwrap_or_default()))
        }
        Ok(_) => Err(Fault::wrong(format!("the referrers tag `{tag}` does not name an index"))),
        Err(fault) if fault.is_not_found() => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Adds a referrer to the tag schema's index. Only the lock of this process prevents concurrent writes: registries have
/// no conditional requests.
async fn enter(origin: &Origin, subject: &Digest, entry: Descriptor) -> Result<(), Fault> {
    let _alone = origin.endpoint.entering.lock().await;
    let empty = || json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []});
    let mut index = tagged_index(origin, subject).await?.unwrap_or_else(empty);
    let entry = serde_json::to_value(entry).unwrap_or_default();
    let listed = match index.get_mut("manifests") {
        Some(Value::Array(listed)) => listed,
        _ => {
            return Err(Fault::wrong(format!(
                "the referrers tag `{}` names an index without a list",
                subject.referrers_tag()
            )));
        }
    };
    if listed.iter().any(|known| known["digest"] == entry["digest"]) {
        return Ok(());
    }
    listed.push(entry);
    // The index must not depend on the order of writes.
    listed.sort_by(|a, b| a["digest"].as_str().cmp(&b["digest"].as_str()));
    let bytes = canonical(&index);
    let kind = index["mediaType"].as_str().unwrap_or(media_type::INDEX);
    let list = Descriptor::of(kind, &bytes);
    // The index has no subject itself, so the recursion ends.
    Ok(Box::pin(tag::set(origin, &list, &bytes.into(), &[subject.referrers_tag()], true)).await?)
}

/// The digest of the subject that a manifest has, and the manifest as its subject's referrers list it.
fn entry(descriptor: &Descriptor, bytes: &[u8]) -> Option<(Digest, Descriptor)> {
    if !matches!(descriptor.media_type.as_str(), media_type::MANIFEST | media_type::INDEX) {
        return None;
    }
    let node = GraphNode::parse(&descriptor.media_type, bytes.to_vec()).ok()?;
    Some((node.subject()?.digest.clone(), node.as_referrer(descriptor)))
}

/// The possible referrers in an index; `None` if it is not an index. Invalid entries are skipped.
fn descriptors(index: &Value) -> Option<Vec<Descriptor>> {
    let listed = index.get("manifests").filter(|_| index["schemaVersion"] == 2)?;
    let listed = if listed.is_null() { &[] } else { listed.as_array()?.as_slice() };
    let read = listed.iter().filter_map(|entry| serde_json::from_value(entry.clone()).ok());
    Some(read.filter(Descriptor::is_document).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_subject_is_entered() {
        let subject = Descriptor::of(media_type::MANIFEST, b"subject");
        let entered = |mut json: Value, kind: &str| {
            json["schemaVersion"] = 2.into();
            let bytes = json.to_string().into_bytes();
            entry(&Descriptor::of(kind, &bytes), &bytes).map(|(subject, _)| subject)
        };
        let index = json!({"manifests": [], "subject": subject});
        assert_eq!(entered(index.clone(), media_type::INDEX), Some(subject.digest));
        assert_eq!(entered(index, media_type::DOCKER_LIST), None);
        assert_eq!(entered(json!({"manifests": []}), media_type::INDEX), None);
        assert_eq!(entered(json!({}), media_type::MANIFEST), None);
    }

    #[test]
    fn only_manifests_are_referrers() {
        let good = Descriptor::of(media_type::MANIFEST, b"x");
        let layer = Descriptor::of(media_type::LAYER_GZIP, b"y");
        let index = json!({"schemaVersion": 2, "manifests": [good, layer, {"digest": "sha256:0"}, 5]});
        assert_eq!(descriptors(&index), Some(vec![good]));
        assert_eq!(descriptors(&json!({"schemaVersion": 2, "manifests": null})), Some(vec![]));
        assert_eq!(descriptors(&json!({"manifests": 5, "schemaVersion": 2})), None);
        assert_eq!(descriptors(&json!({"schemaVersion": 2})), None);
    }
}
