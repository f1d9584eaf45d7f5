//! The end points of manifests.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use futures_util::StreamExt;
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::reference::is_tag;
use ociforge_manifests::{Descriptor, Digest, DocumentError, Hasher, media_type};

use super::answer::{ApiError, ApiResult, CONTENT_DIGEST, Code, ResponseHeaders, bytes, empty};
use super::route::Reference;
use super::{Registry, is_unchanged, names};
use crate::content::ByteStream;
use crate::store::Locked;

/// Largest manifest that is taken, in bytes.
const LIMIT: usize = 4 << 20;
/// The maximum number of tags in one request, besides that in the path.
pub(super) const MOST_TAGS: usize = 64;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// A manifest as it was sent.
pub(super) struct ManifestUpload {
    pub(super) reference: Reference,
    /// Tags that it is to get besides.
    pub(super) tags: Vec<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Answers with the manifest. `host` selects one of several candidates.
pub(super) fn get(
    registry: &Registry,
    host: Option<&str>,
    name: &str,
    reference: &Reference,
    request: &HeaderMap,
    head: bool,
) -> ApiResult {
    let manifest = find(registry, host, name, reference)?;
    refuse_ambiguous(registry, &manifest)?;
    if head {
        // The client may be asking whether it has to push the manifest.
        registry.claim(&manifest.digest);
    }
    let headers =
        vec![(CONTENT_DIGEST, manifest.digest.to_string()), (header::ETAG, format!("\"{}\"", manifest.digest))];
    if is_unchanged(request, &manifest.digest) {
        return Ok(empty(StatusCode::NOT_MODIFIED, headers));
    }
    match registry.documents.read(&manifest.digest)? {
        Some(body) => Ok(bytes(&manifest.media_type, headers, body)),
        // Reported as missing, so that a client pushes it again, which repairs it.
        None if head => Err(unknown(name, manifest.digest.as_str())),
        None => Err(damaged(&manifest.digest)),
    }
}

fn find(registry: &Registry, host: Option<&str>, name: &str, reference: &Reference) -> Result<Descriptor, ApiError> {
    let index = registry.layout.index()?;
    let (found, shown) = match reference {
        Reference::Tag(tag) => {
            let entry =
                names::find(&index.manifests, host, name, tag).map_err(|several| ambiguous(name, tag, &several))?;
            let there = entry.filter(|entry| registry.layout.blob_size(&entry.digest).is_some());
            (there.cloned(), tag.as_str())
        }
        Reference::Digest(digest) => (registry.documents.find(&index, name, digest)?, digest.as_str()),
    };
    found.ok_or_else(|| unknown(name, shown))
}

/// The error of a name that two images of the layout have.
fn ambiguous(name: &str, tag: &str, several: &str) -> ApiError {
    let message = format!("`{name}:{tag}` is ambiguous: use the full name of one of {several}");
    ApiError::new(Code::NameInvalid, message)
}

/// Fails for an ambiguous document of an untrusted layout.
fn refuse_ambiguous(registry: &Registry, manifest: &Descriptor) -> Result<(), ApiError> {
    let kind = manifest.media_type.as_str();
    let known = registry.documents.get(&manifest.digest)?;
    if !manifest.is_document() || known.is_some_and(|facts| facts.is_index == media_type::is_index(kind)) {
        return Ok(());
    }
    // The reader reports a missing one.
    let Ok(bytes) = registry.layout.read_blob(&manifest.digest, LIMIT as u64) else { return Ok(()) };
    match GraphNode::parse(kind, bytes) {
        Err(error @ DocumentError::Ambiguous(_)) => Err(ApiError::new(Code::ManifestInvalid, error.to_string())),
        _ => Ok(()),
    }
}

fn unknown(name: &str, reference: &str) -> ApiError {
    ApiError::new(Code::ManifestUnknown, format!("the repository {name} has no manifest {reference}"))
}

/// The error of a damaged manifest.
fn damaged(digest: &Digest) -> ApiError {
    ApiError::new(Code::Unknown, format!("the manifest {digest} is damaged; push it again"))
}

/// Reads a manifest's body.
pub(super) async fn read(mut body: ByteStream) -> Result<Vec<u8>, ApiError> {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| ApiError::cut(Code::ManifestInvalid, "the manifest", &error))?;
        if all.len() + piece.len() > LIMIT {
            super::drain(body).await;
            let message = format!("the manifest is larger than {LIMIT} bytes");
            return Err(ApiError::new(Code::ManifestInvalid, message).status(413));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// Stores a manifest.
pub(super) fn put(registry: &Registry, lock: &Locked, name: &str, sent: ManifestUpload) -> ApiResult {
    let digest = digest_of(&sent)?;
    let (node, media_type) = parse(sent.content_type.as_deref(), sent.body)?;
    let mut tags = sent.tags;
    if let Some(bad) = tags.iter().find(|tag| !is_tag(tag)) {
        return Err(ApiError::new(Code::ManifestInvalid, format!("`{bad}` is not a tag")));
    }
    if tags.len() > MOST_TAGS {
        return Err(ApiError::new(Code::ManifestInvalid, format!("more than {MOST_TAGS} tags in one request")));
    }
    let mut headers: ResponseHeaders = tags.iter().map(|tag| (OCI_TAG, tag.clone())).collect();
    if let Reference::Tag(tag) = sent.reference {
        tags.push(tag);
    }
    let manifest = Descriptor::new(media_type, digest.clone(), node.bytes().len() as u64);
    // The children stay until the manifest is in the index, because of the lock.
    check_children(registry, &node)?;
    store(registry, &digest, node.bytes())?;
    lock.edit_index(|entries| {
        for tag in &tags {
            names::tag(entries, name, tag, &manifest);
        }
        names::keep(entries, name, manifest);
    })?;
    headers.push((header::LOCATION, format!("/v2/{name}/manifests/{digest}")));
    headers.push((CONTENT_DIGEST, digest.to_string()));
    headers.extend(node.subject().map(|subject| (OCI_SUBJECT, subject.digest.to_string())));
    Ok(empty(StatusCode::CREATED, headers))
}

/// Checks that all children of the manifest exist.
fn check_children(registry: &Registry, node: &GraphNode) -> Result<(), ApiError> {
    for child in node.children() {
        if !child.is_elsewhere() && registry.blob_size(&child.digest).is_none() {
            let message = format!("the manifest refers to {} {}, which is missing", child.media_type, child.digest);
            return Err(ApiError::new(Code::ManifestBlobUnknown, message));
        }
        if matches!(node, GraphNode::Index(_)) && child.is_document() {
            check_kind(registry, child)?;
        }
    }
    Ok(())
}

/// Checks that the manifests of an index are manifests: otherwise their children are unknown.
fn check_kind(registry: &Registry, child: &Descriptor) -> Result<(), ApiError> {
    let facts = registry.documents.get(&child.digest)?;
    if facts.is_some_and(|facts| facts.is_index == media_type::is_index(&child.media_type)) {
        return Ok(());
    }
    let message = format!("the index lists {} as {}, which it is not", child.digest, child.media_type);
    Err(ApiError::new(Code::ManifestInvalid, message))
}

/// The manifest's digest with the algorithm of the request; it must equal that of the request.
fn digest_of(sent: &ManifestUpload) -> Result<Digest, ApiError> {
    match &sent.reference {
        Reference::Tag(_) => Ok(Digest::of(&sent.body)),
        Reference::Digest(expected) => {
            let mut hasher = Hasher::like(expected);
            hasher.update(&sent.body);
            let actual = hasher.finish();
            if actual == *expected {
                return Ok(actual);
            }
            let message = format!("the manifest's digest is {actual}, not {expected}");
            Err(ApiError::new(Code::DigestInvalid, message))
        }
    }
}

/// Parses the sent document, and determines its media type: its own, or else that of the request.
fn parse(content_type: Option<&str>, body: Vec<u8>) -> Result<(GraphNode, String), ApiError> {
    let invalid = |message: String| ApiError::new(Code::ManifestInvalid, message);
    // Parameters and invalid types are ignored.
    let declared = content_type.map_or("", |text| text.split(';').next().unwrap_or_default().trim());
    let declared = if media_type::is_generic(declared) { "" } else { declared };
    if !declared.is_empty() && !media_type::is_document(declared) {
        return Err(invalid(format!("manifests of type {declared} are not supported")));
    }
    let node = GraphNode::parse(declared, body).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        invalid(format!("{error}{cause}"))
    })?;
    let (version, own) = match &node {
        GraphNode::Manifest(manifest) => (manifest.schema_version, manifest.media_type.as_deref()),
        GraphNode::Index(index) => (index.schema_version, index.media_type.as_deref()),
    };
    if version != 2 {
        return Err(invalid(format!("manifests of schema version {version} are not supported")));
    }
    match own {
        Some(own) if !media_type::is_document(own) => {
            Err(invalid(format!("manifests of type {own} are not supported")))
        }
        Some(own) if !declared.is_empty() && own != declared => {
            Err(invalid(format!("the manifest says that it is {own}, but it was sent as {declared}")))
        }
        None if !declared.is_empty() => Ok((node, declared.to_owned())),
        _ => {
            let media_type = node.media_type().to_owned();
            Ok((node, media_type))
        }
    }
}

fn store(registry: &Registry, digest: &Digest, bytes: &[u8]) -> Result<(), ApiError> {
    if registry.layout.read_blob(digest, LIMIT as u64).ok().as_deref() != Some(bytes) {
        // Before the index, which is on disk once it names the manifest.
        registry.layout.write_blob(digest, bytes)?;
    }
    Ok(())
}

/// Removes a tag, or a manifest with all its tags.
pub(super) fn delete(registry: &Registry, lock: &Locked, name: &str, reference: &Reference) -> ApiResult {
    let mut found = false;
    let shown = match reference {
        Reference::Tag(tag) => {
            let index = registry.layout.index()?;
            names::find(&index.manifests, None, name, tag).map_err(|several| ambiguous(name, tag, &several))?;
            lock.edit_index(|entries| found = names::untag(entries, name, tag))?;
            tag.as_str()
        }
        Reference::Digest(digest) => {
            let index = registry.layout.index()?;
            if let Some(holder) = registry.documents.holder(&index, name, digest)? {
                let message = format!("the index {holder} lists this manifest; delete the index first");
                return Err(ApiError::new(Code::Unsupported, message));
            }
            lock.edit_index(|entries| found = names::remove(entries, name, digest))?;
            digest.as_str()
        }
    };
    if found { Ok(empty(StatusCode::ACCEPTED, Vec::new())) } else { Err(unknown(name, shown)) }
}
