//! Images in memory: manifest and config, and the addition of layers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::{Config, ConfigEdit};
use crate::descriptor::Descriptor;
use crate::digest::DiffId;
use crate::document::{Document, DocumentError};
use crate::graph::Manifest;
use crate::media_type;
use crate::platform::Platform;

/// A manifest and its config.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest.
    pub manifest: Document<Manifest>,
    /// The config of the manifest.
    pub config: Document<Config>,
}

/// A layer to add to an image.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The command for `history`.
    pub created_by: String,
}

/// An image with inconsistent documents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Manifest and config have different numbers of layers.
    #[error("the manifest has {layers} layers but the config {diff_ids} diff ids")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the config.
        diff_ids: usize,
    },
    /// A document is malformed.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl Image {
    /// Combines a manifest and its config.
    ///
    /// # Errors
    /// When they have different numbers of layers.
    pub fn new(manifest: Document<Manifest>, config: Document<Config>) -> Result<Self, ImageError> {
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers == diff_ids {
            Ok(Self { manifest, config })
        } else {
            Err(ImageError::LayerCount { layers, diff_ids })
        }
    }

    /// The image of `base = "scratch"`, without layers and config.
    ///
    /// # Errors
    /// Never for a valid platform.
    pub fn scratch(platform: &Platform) -> Result<Self, ImageError> {
        let mut config = json!({"config": {}, "history": [], "rootfs": {"type": "layers", "diff_ids": []}});
        if let (Some(object), Ok(Value::Object(fields))) = (config.as_object_mut(), serde_json::to_value(platform)) {
            object.extend(fields);
        }
        let config = Document::from_json(config)?;
        let manifest = Document::from_json(manifest_json(&config, Vec::new(), &BTreeMap::new()))?;
        Self::new(manifest, config)
    }

    /// The image with `layers` on top and `edit` applied: always an OCI image.
    ///
    /// Unknown fields of the config are kept. `created` (RFC 3339) becomes the time of the image and of each new
    /// history entry. `annotations` become those of the manifest; the base's are dropped, because they describe the
    /// base.
    ///
    /// # Errors
    /// When the base's config does not match the specification.
    pub fn append(
        &self,
        layers: &[NewLayer],
        edit: &ConfigEdit,
        created: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, ImageError> {
        let config = Document::from_json(self.append_to_config(layers, edit, created))?;
        let below = self.manifest.layers.iter().map(|layer| {
            let media_type = media_type::layer_as_oci(&layer.media_type).to_owned();
            Descriptor { media_type, ..layer.clone() }
        });
        let all = below.chain(layers.iter().map(|layer| layer.descriptor.clone())).collect();
        let manifest = Document::from_json(manifest_json(&config, all, annotations))?;
        Self::new(manifest, config)
    }

    fn append_to_config(&self, layers: &[NewLayer], edit: &ConfigEdit, created: &str) -> Value {
        let mut json = self.config.json().clone();
        let Some(object) = json.as_object_mut() else { return json };
        object.insert("created".into(), json!(created));
        let diff_ids = self.config.rootfs.diff_ids.iter().chain(layers.iter().map(|layer| &layer.diff_id));
        object.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>()}));

        let mut history = object.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
        // History is optional: a base may have fewer entries than layers. The new entries must not count as the base's.
        let told = self.config.history.iter().filter(|entry| !entry.empty_layer).count();
        for _ in told..self.config.rootfs.diff_ids.len() {
            history.push(json!({"created_by": "unknown"}));
        }
        history.extend(layers.iter().map(|layer| json!({"created": created, "created_by": layer.created_by})));
        object.insert("history".into(), Value::Array(history));

        let process = object.entry("config").or_insert_with(|| json!({}));
        if !process.is_object() {
            *process = Value::Object(Map::new());
        }
        if let Some(process) = process.as_object_mut() {
            edit.apply(process);
        }
        json
    }
}

fn manifest_json(config: &Document<Config>, layers: Vec<Descriptor>, annotations: &BTreeMap<String, String>) -> Value {
    let mut json = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": config.descriptor(media_type::CONFIG),
        "layers": layers,
    });
    if !annotations.is_empty() {
        json["annotations"] = json!(annotations);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn layer(name: &str) -> NewLayer {
        NewLayer {
            descriptor: Descriptor::of(media_type::LAYER_GZIP, name.as_bytes()),
            diff_id: DiffId(Digest::of(name.to_uppercase().as_bytes())),
            created_by: name.into(),
        }
    }

    #[test]
    fn scratch_with_a_layer_is_pinned() {
        let edit = ConfigEdit { workdir: Some("/code".into()), ..ConfigEdit::default() };
        let image = Image::scratch(&Platform::default()).unwrap();
        let image = image.append(&[layer("a")], &edit, "1970-01-01T00:00:00Z", &BTreeMap::new()).unwrap();
        assert_eq!(image.config.config.working_dir, "/code");
        assert_eq!(
            image.manifest.digest().as_str(),
            "sha256:c6af94856e7d96ec3f964c33b201bccf3b41041071fe84d04526de7ab2b170bd"
        );
    }

    #[test]
    fn a_docker_base_becomes_oci_and_keeps_unknown_fields() {
        let config = Document::from_json(json!({
            "architecture": "amd64", "os": "linux", "docker_version": "20.10", "container_config": {"Hostname": "x"},
            "config": {"Env": ["A=1"], "Cmd": null, "OnBuild": null, "Healthcheck": {"Test": ["NONE"]}},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"base")]},
        }))
        .unwrap();
        let mut manifest = manifest_json(&config, vec![layer("base").descriptor], &BTreeMap::new());
        manifest["mediaType"] = json!(media_type::DOCKER_MANIFEST);
        manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
        let base = Image::new(Document::from_json(manifest).unwrap(), config).unwrap();

        let image =
            base.append(&[layer("a")], &ConfigEdit::default(), "2020-01-01T00:00:00Z", &BTreeMap::new()).unwrap();
        assert_eq!(image.manifest.json()["mediaType"], media_type::MANIFEST);
        assert!(image.manifest.layers.iter().all(|layer| layer.media_type == media_type::LAYER_GZIP));
        assert_eq!(image.config.json()["docker_version"], "20.10");
        assert_eq!(image.config.json()["config"]["Healthcheck"]["Test"][0], "NONE");
        let made_by: Vec<_> = image.config.history.iter().filter_map(|h| h.created_by.as_deref()).collect();
        assert_eq!(made_by, ["unknown", "a"]);
    }

    #[test]
    fn layers_and_diff_ids_must_agree() {
        let scratch = Image::scratch(&Platform::default()).unwrap();
        let manifest =
            Document::from_json(manifest_json(&scratch.config, vec![layer("a").descriptor], &BTreeMap::new()));
        let error = Image::new(manifest.unwrap(), scratch.config).unwrap_err();
        assert_eq!(error.to_string(), "the manifest has 1 layers but the config 0 diff ids");
    }
}
