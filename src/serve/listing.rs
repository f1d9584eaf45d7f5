//! The end points that list: repositories, tags, referrers.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderName, header};
use ociforge_manifests::{Digest, media_type};
use serde_json::{Value, json};

use super::answer::{ApiError, ApiResult, Code, ResponseHeaders, bytes, json as answer_json};
use super::{Query, Registry, names};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Answers with the names of all repositories.
pub(super) fn catalog(registry: &Registry, query: &Query) -> ApiResult {
    let index = registry.layout.index()?;
    let (page, headers) = page(names::repositories(&index.manifests), query, "/v2/_catalog")?;
    Ok(answer_json(headers, &json!({"repositories": page})))
}

/// Answers with the tags of a repository.
pub(super) fn tags(registry: &Registry, name: &str, query: &Query) -> ApiResult {
    let index = registry.layout.index()?;
    let unknown = || ApiError::new(Code::NameUnknown, format!("the repository {name} is unknown"));
    let tags = names::tags(&index.manifests, name).ok_or_else(unknown)?;
    let (page, headers) = page(tags, query, &format!("/v2/{name}/tags/list"))?;
    Ok(answer_json(headers, &json!({"name": name, "tags": page})))
}

/// The requested page of `all` (`n` entries after `last`), and the link to the next page.
fn page<'a>(all: BTreeSet<&'a str>, query: &Query, path: &str) -> Result<(Vec<&'a str>, ResponseHeaders), ApiError> {
    let last = query.get("last").unwrap_or_default();
    let mut page: Vec<&str> = all.into_iter().filter(|item| *item > last).collect();
    let Some(wanted) = query.get("n") else { return Ok((page, Vec::new())) };
    let bad = |_| ApiError::new(Code::Unsupported, format!("`{wanted}` is not a number of entries")).status(400);
    let wanted: usize = wanted.parse().map_err(bad)?;
    let more = page.len() > wanted;
    page.truncate(wanted);
    let link = page.last().filter(|_| more).map(|last| {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("n", &wanted.to_string())
            .append_pair("last", last)
            .finish();
        (header::LINK, format!("<{path}?{query}>; rel=\"next\""))
    });
    Ok((page, link.into_iter().collect()))
}

/// Answers with an index of the manifests in a repository that have `digest` as their subject. It is empty for a
/// missing repository.
pub(super) fn referrers(registry: &Registry, name: &str, digest: &Digest, query: &Query) -> ApiResult {
    let index = registry.layout.index()?;
    let mut candidates: Vec<Digest> =
        names::entries_of(&index.manifests, name).map(|entry| entry.digest.clone()).collect();
    // Clients of a registry without this endpoint stored the list under a tag.
    let tag = digest.referrers_tag();
    for (_, entry) in names::tagged(&index.manifests, name, &tag) {
        let list = registry.documents.get(&entry.digest)?.filter(|facts| facts.is_index);
        candidates.extend(list.iter().flat_map(|list| list.children.iter().cloned()));
    }
    let mut found: BTreeMap<Digest, Value> = BTreeMap::new();
    for candidate in candidates {
        if let Some(facts) = registry.documents.get(&candidate)?
            && facts.subject.as_ref() == Some(digest)
        {
            found.extend(facts.referrer.clone().map(|referrer| (candidate, referrer)));
        }
    }
    let mut headers = ResponseHeaders::new();
    if let Some(kind) = query.get("artifactType") {
        found.retain(|_, referrer| referrer["artifactType"].as_str() == Some(kind));
        headers.push((FILTERS_APPLIED, "artifactType".into()));
    }
    let manifests: Vec<Value> = found.into_values().collect();
    let list = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests});
    Ok(bytes(media_type::INDEX, headers, list.to_string()))
}
