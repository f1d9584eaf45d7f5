//! Manifests, indexes, and their references to other content.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::{Descriptor, null_as_default};
use crate::document::{Document, DocumentError, DocumentType};
use crate::media_type;
use crate::platform::Platform;
use crate::shape::DocumentShape;

/// An image manifest, OCI's or Docker's schema 2 (image-spec, manifest.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "an object")]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type, which OCI makes optional.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The subject of this referrer.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// The type of an artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

impl DocumentType for Manifest {
    const NAME: &'static str = "image manifest";

    fn check(bytes: &[u8]) -> Result<(), DocumentError> {
        DocumentShape::of(bytes, Self::NAME)?.must_be_manifest()
    }
}

impl Manifest {
    /// The type of the artifact, if this is not an image (image-spec, manifest.md, "Guidelines for Artifact Usage"):
    /// its config is not an image's, or none of its layers has files.
    #[must_use]
    pub fn artifact(&self) -> Option<&str> {
        let config = self.config.media_type.as_str();
        let stated = self.artifact_type.as_deref().filter(|kind| !kind.is_empty());
        if !media_type::is_config(config) {
            return Some(stated.unwrap_or(config));
        }
        if self.layers.iter().any(|layer| media_type::is_layer(&layer.media_type)) {
            return None;
        }
        stated.or(self.layers.first().map(|layer| layer.media_type.as_str()))
    }
}

/// An image index or Docker manifest list (image-spec, image-index.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "an object")]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type, which OCI makes optional.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The manifests, in order of preference.
    #[serde(deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The subject of this referrer.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

impl DocumentType for Index {
    const NAME: &'static str = "image index";

    fn check(bytes: &[u8]) -> Result<(), DocumentError> {
        DocumentShape::of(bytes, Self::NAME)?.must_be_index()
    }
}

impl Index {
    /// The first entry that serves `wanted` according to the index. Skips entries without a platform, whose configs
    /// have it, and BuildKit's attestations with the platform `unknown/unknown`.
    #[must_use]
    pub fn for_platform(&self, wanted: &Platform) -> Option<&Descriptor> {
        self.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(|have| have.serves(wanted)))
    }

    /// The available platforms as text, for messages.
    #[must_use]
    pub fn platforms(&self) -> Vec<String> {
        let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        known.filter(|p| p.os != "unknown").map(ToString::to_string).collect()
    }
}

/// The media type of a document with the type `stated` elsewhere: its own type, which its digest covers, or else
/// `stated`, or else the type of its structure. `None` if it is neither a manifest nor an index.
///
/// # Errors
/// When it is not JSON, or is ambiguous.
pub fn media_type_of(stated: &str, bytes: &[u8]) -> Result<Option<String>, DocumentError> {
    if let Some(signed) = media_type::schema_one(stated) {
        return Err(DocumentError::SchemaOne { signed });
    }
    let shape = DocumentShape::of(bytes, "manifest")?;
    let stated = Some(stated).filter(|stated| media_type::is_document(stated));
    let is_index = stated.map_or(shape.is_index(), media_type::is_index);
    if stated.is_none() && !is_index && !shape.is_manifest() {
        return Ok(None);
    }
    let usual = if is_index {
        shape.must_be_index()?;
        media_type::INDEX
    } else {
        shape.must_be_manifest()?;
        media_type::MANIFEST
    };
    Ok(Some(shape.media_type().or(stated).unwrap_or(usual).to_owned()))
}

/// A document that refers to others.
#[derive(Debug, Clone)]
pub enum GraphNode {
    /// An image manifest.
    Manifest(Box<Document<Manifest>>),
    /// An image index.
    Index(Box<Document<Index>>),
}

impl GraphNode {
    /// Parses `bytes` with the type `media_type` or, if that is generic, with the document's own type.
    ///
    /// # Errors
    /// When the bytes are neither a manifest nor an index, or are ambiguous.
    pub fn parse(media_type: &str, bytes: impl Into<Bytes>) -> Result<Self, DocumentError> {
        if let Some(signed) = media_type::schema_one(media_type) {
            return Err(DocumentError::SchemaOne { signed });
        }
        if !media_type::is_document(media_type) && !media_type::is_generic(media_type) {
            return Err(DocumentError::Foreign(media_type.escape_debug().to_string()));
        }
        let bytes = bytes.into();
        let what = if media_type::is_index(media_type) { Index::NAME } else { Manifest::NAME };
        let shape = DocumentShape::of(&bytes, what)?;
        if media_type::is_index(media_type) || (!media_type::is_manifest(media_type) && shape.is_index()) {
            shape.must_be_index()?;
            Ok(Self::Index(Box::new(Document::checked(bytes)?)))
        } else {
            shape.must_be_manifest()?;
            Ok(Self::Manifest(Box::new(Document::checked(bytes)?)))
        }
    }

    /// The required content: an index's manifests, or a manifest's config and layers. Without `subject`, which requires
    /// this document and is not required by it.
    #[must_use]
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }

    /// The subject of a referrer.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// The document with this descriptor as an entry of its subject's list of referrers (distribution-spec, "Listing
    /// Referrers"): with its annotations and its type; a manifest without a type has its config's.
    #[must_use]
    pub fn as_referrer(&self, descriptor: &Descriptor) -> Descriptor {
        let (json, config, annotations) = match self {
            Self::Manifest(own) => (own.json(), Some(own.config.media_type.as_str()), &own.annotations),
            Self::Index(own) => (own.json(), None, &own.annotations),
        };
        let mut entry = Descriptor::new(&descriptor.media_type, descriptor.digest.clone(), descriptor.size);
        entry.annotations.clone_from(annotations);
        let own = json["artifactType"].as_str().filter(|kind| !kind.is_empty());
        let kind = own.or(config.filter(|kind| !kind.is_empty()));
        entry.other.extend(kind.map(|kind| ("artifactType".into(), kind.into())));
        entry
    }

    /// The media type of the document: its own, or OCI's for its kind.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(media_type::MANIFEST),
            Self::Index(index) => index.media_type.as_deref().unwrap_or(media_type::INDEX),
        }
    }

    /// The original bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Manifest(manifest) => manifest.bytes(),
            Self::Index(index) => index.bytes(),
        }
    }

    /// The same bytes, shared.
    #[must_use]
    pub fn shared(&self) -> Bytes {
        match self {
            Self::Manifest(manifest) => manifest.shared(),
            Self::Index(index) => index.shared(),
        }
    }

    /// The descriptor of the document.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type(), self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::digest::Digest;

    #[test]
    fn an_index_without_a_media_type_is_known_by_its_content() {
        let bytes = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
        assert!(matches!(GraphNode::parse("", bytes).unwrap(), GraphNode::Index(_)));
    }

    #[test]
    fn what_may_be_taken_for_something_else_is_refused() {
        let manifest = br#"{"schemaVersion":2,"config":{"mediaType":"c/d","size":1,"digest":"DIGEST"},"layers":[]}"#;
        let manifest = String::from_utf8_lossy(manifest).replace("DIGEST", Digest::of(b"x").as_str());
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let parse = |kind: &str, text: &str| GraphNode::parse(kind, text.as_bytes().to_vec());
        assert!(parse(media_type::MANIFEST, &manifest).is_ok() && parse(media_type::DOCKER_LIST, index).is_ok());
        let both = manifest.replacen('{', r#"{"manifests":[],"#, 1);
        for kind in ["", media_type::MANIFEST, media_type::INDEX] {
            assert!(matches!(parse(kind, &both), Err(DocumentError::Ambiguous(_))), "{kind}");
        }
        assert!(matches!(parse(media_type::INDEX, &manifest), Err(DocumentError::Ambiguous(_))));
        assert!(matches!(parse(media_type::MANIFEST, index), Err(DocumentError::Ambiguous(_))));
        let other = index.replacen('{', &format!(r#"{{"mediaType":"{}","#, media_type::MANIFEST), 1);
        assert!(matches!(parse("", &other), Err(DocumentError::Ambiguous(_))));
        assert!(matches!(parse("text/html", &manifest), Err(DocumentError::Foreign(kind)) if kind == "text/html"));
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(matches!(parse(signed, "{}"), Err(DocumentError::SchemaOne { signed: true })));
        // Each parser alone is as strict as both together.
        assert!(Document::<Manifest>::parse(both.clone().into_bytes()).is_err());
        assert!(Document::<Index>::parse(both.into_bytes()).is_err());
    }

    #[test]
    fn an_artifact_is_no_image() {
        let artifact = |config: &str, kind: Option<&str>, layers: &[&str]| {
            let layers: Vec<_> = layers.iter().map(|layer| Descriptor::of(*layer, b"x")).collect();
            let mut json = json!({"schemaVersion": 2, "config": Descriptor::of(config, b"{}"), "layers": layers});
            json["artifactType"] = kind.into();
            Document::<Manifest>::from_json(json).unwrap().artifact().map(str::to_owned)
        };
        let gzip = media_type::LAYER_GZIP;
        assert_eq!(artifact(media_type::CONFIG, None, &[gzip]), None);
        assert_eq!(artifact(media_type::CONFIG, None, &[]), None);
        assert_eq!(artifact(media_type::CONFIG, Some("a/b"), &[gzip, "text/plain"]), None);
        assert_eq!(
            artifact("application/octet-stream", None, &["application/vnd.docker.image.rootfs.diff.tar.gzip"]),
            None
        );
        for (config, kind, layers, expected) in [
            ("application/vnd.oci.empty.v1+json", Some("a/b"), &[gzip][..], "a/b"),
            (
                "application/vnd.cncf.helm.config.v1+json",
                None,
                &["application/tar+gzip"],
                "application/vnd.cncf.helm.config.v1+json",
            ),
            ("application/vnd.docker.plugin.v1+json", Some(""), &[gzip], "application/vnd.docker.plugin.v1+json"),
            (media_type::CONFIG, None, &["application/vnd.in-toto+json"], "application/vnd.in-toto+json"),
            (media_type::CONFIG, Some("a/b"), &["text/plain"], "a/b"),
            (media_type::CONFIG, Some("a/b"), &[], "a/b"),
        ] {
            assert_eq!(artifact(config, kind, layers).as_deref(), Some(expected), "{config} {kind:?}");
        }
    }

    #[test]
    fn referrers_are_listed_by_what_they_say() {
        let config = Descriptor::of("c/d", b"{}");
        let listed = |mut json: Value| {
            json["schemaVersion"] = 2.into();
            let bytes = json.to_string().into_bytes();
            let descriptor = Descriptor::of(media_type::MANIFEST, &bytes);
            let node = GraphNode::parse("", bytes).unwrap();
            assert_eq!(node.subject(), None);
            let entry = node.as_referrer(&descriptor);
            assert_eq!(entry.digest, descriptor.digest);
            (entry.other.get("artifactType").and_then(Value::as_str).map(str::to_owned), entry.annotations)
        };
        let (kind, annotations) =
            listed(json!({"artifactType": "a/b", "config": config, "layers": [], "annotations": {"k": "v"}}));
        assert_eq!((kind.as_deref(), annotations["k"].as_str()), (Some("a/b"), "v"));
        assert_eq!(listed(json!({"artifactType": "", "config": config, "layers": []})).0.as_deref(), Some("c/d"));
        assert_eq!(listed(json!({"artifactType": "a/b", "manifests": []})).0.as_deref(), Some("a/b"));
        assert_eq!(listed(json!({"manifests": []})), (None, BTreeMap::new()));
    }

    #[test]
    fn an_attestation_is_no_platform() {
        let entry = |os: &str, digest: char| {
            format!(
                r#"{{"mediaType":"{}","size":1,"digest":"sha256:{}","platform":{{"os":"{os}","architecture":"{}"}}}}"#,
                media_type::MANIFEST,
                digest.to_string().repeat(64),
                if os == "linux" { "amd64" } else { os }
            )
        };
        let json = format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, entry("unknown", 'a'), entry("linux", 'b'));
        let index: Document<Index> = Document::parse(json.into_bytes()).unwrap();
        assert_eq!(index.for_platform(&Platform::default()).unwrap().digest.hex(), "b".repeat(64));
        assert_eq!(index.platforms(), ["linux/amd64"]);
        assert!(index.for_platform(&"linux/arm64".parse().unwrap()).is_none());
    }
}
