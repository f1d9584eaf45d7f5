//! Conversion of Docker's manifests to OCI: other media types, and therefore other digests. Configs and layers keep
//! their bytes.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::document::{Document, DocumentError};
use crate::graph::{GraphNode, Index, Manifest};
use crate::media_type;

/// The manifest with OCI media types; `None` if it already has them.
///
/// # Errors
/// Never for a manifest that was parsed.
pub fn manifest_as_oci(manifest: &Document<Manifest>) -> Result<Option<GraphNode>, DocumentError> {
    let own = manifest.media_type.as_deref().unwrap_or_default();
    let parts = [&manifest.config].into_iter().chain(&manifest.layers);
    if !media_type::is_docker(own) && !parts.into_iter().any(|part| media_type::is_docker(&part.media_type)) {
        return Ok(None);
    }
    let mut json = manifest.json().clone();
    json["mediaType"] = json!(media_type::MANIFEST);
    if media_type::is_config(&manifest.config.media_type) {
        json["config"]["mediaType"] = json!(media_type::CONFIG);
    }
    for layer in json["layers"].as_array_mut().into_iter().flatten() {
        let kind = layer["mediaType"].as_str().map(|kind| media_type::layer_as_oci(kind).to_owned());
        layer["mediaType"] = json!(kind);
    }
    if json["layers"].is_null() {
        json["layers"] = json!([]);
    }
    Ok(Some(GraphNode::Manifest(Box::new(Document::from_json(json)?))))
}

/// The index with the OCI media type and the converted entries; `None` if nothing changes.
///
/// # Errors
/// Never for an index that was parsed.
pub fn index_as_oci(
    index: &Document<Index>,
    became: &HashMap<Digest, Descriptor>,
) -> Result<Option<GraphNode>, DocumentError> {
    let own = index.media_type.as_deref().unwrap_or_default();
    if !media_type::is_docker(own) && !index.manifests.iter().any(|entry| became.contains_key(&entry.digest)) {
        return Ok(None);
    }
    let mut json = index.json().clone();
    json["mediaType"] = json!(media_type::INDEX);
    let entries = index.manifests.iter().map(|entry| match became.get(&entry.digest) {
        Some(new) => {
            let mut entry = entry.clone();
            // The inline data has the old bytes.
            entry.other.remove("data");
            (entry.media_type, entry.digest, entry.size) = (new.media_type.clone(), new.digest.clone(), new.size);
            entry
        }
        None => entry.clone(),
    });
    json["manifests"] = Value::Array(entries.map(|entry| json!(entry)).collect());
    Ok(Some(GraphNode::Index(Box::new(Document::from_json(json)?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker_manifest() -> Document<Manifest> {
        Document::from_json(json!({
            "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "x-own": 1,
            "config": Descriptor::of(media_type::DOCKER_CONFIG, b"{}"),
            "layers": [Descriptor::of("application/vnd.docker.image.rootfs.diff.tar.gzip", b"1"),
                       Descriptor::of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"2")],
        }))
        .unwrap()
    }

    #[test]
    fn a_manifest_gets_ocis_types_and_keeps_the_rest() {
        let docker = docker_manifest();
        let oci = manifest_as_oci(&docker).unwrap().unwrap();
        assert_eq!(oci.media_type(), media_type::MANIFEST);
        let digests = |node: &[&Descriptor]| node.iter().map(|child| child.digest.clone()).collect::<Vec<_>>();
        let before = GraphNode::Manifest(Box::new(docker));
        assert_eq!(digests(&oci.children()), digests(&before.children()));
        let types: Vec<_> = oci.children().iter().map(|child| child.media_type.as_str()).collect();
        let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        assert_eq!(types, [media_type::CONFIG, media_type::LAYER_GZIP, foreign]);
        let GraphNode::Manifest(oci) = oci else { panic!() };
        assert_eq!(oci.json()["x-own"], 1);
        assert!(manifest_as_oci(&oci).unwrap().is_none());
    }

    #[test]
    fn an_index_lists_what_its_entries_became() {
        let old = docker_manifest();
        let new = manifest_as_oci(&old).unwrap().unwrap().descriptor();
        let mut entry = old.descriptor(media_type::DOCKER_MANIFEST);
        entry.platform = Some("linux/arm64/v8".parse().unwrap());
        let other = Descriptor::of(media_type::MANIFEST, b"other");
        let list = |kind: &str| {
            let json = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry, other]});
            Document::<Index>::from_json(json).unwrap()
        };
        let became = HashMap::from([(entry.digest.clone(), new.clone())]);
        for kind in [media_type::DOCKER_LIST, media_type::INDEX] {
            let Some(GraphNode::Index(index)) = index_as_oci(&list(kind), &became).unwrap() else { panic!() };
            assert_eq!(index.media_type.as_deref(), Some(media_type::INDEX));
            assert_eq!(index.manifests[0], Descriptor { platform: entry.platform.clone(), ..new.clone() });
            assert_eq!(index.manifests[1], other);
        }
        assert!(index_as_oci(&list(media_type::INDEX), &HashMap::new()).unwrap().is_none());
    }
}
