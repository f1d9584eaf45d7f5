//! Manifests, indexes, and what they point to.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::descriptor::{Descriptor, null_as_default};
use crate::document::{Document, DocumentError, Named};
use crate::media_type;
use crate::platform::Platform;

/// An image manifest, OCI's or Docker's schema 2 (image-spec, manifest.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI allows it to be left out.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// What this manifest is a referrer of.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// The type of an artifact that is no image.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Named for Manifest {
    const NAME: &'static str = "image manifest";
}

/// An image index or Docker manifest list (image-spec, image-index.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI allows it to be left out.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The manifests, in order of preference.
    #[serde(deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// What this index is a referrer of.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Named for Index {
    const NAME: &'static str = "image index";
}

impl Index {
    /// The first entry that serves `wanted`. Entries without a platform, and the attestations that BuildKit files
    /// under `unknown/unknown`, are passed over.
    #[must_use]
    pub fn for_platform(&self, wanted: &Platform) -> Option<&Descriptor> {
        self.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(|have| have.serves(wanted)))
    }

    /// The platforms that there are, as text, for messages.
    #[must_use]
    pub fn platforms(&self) -> Vec<String> {
        let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        known.filter(|p| p.os != "unknown").map(ToString::to_string).collect()
    }
}

/// A document that points to others.
#[derive(Debug, Clone)]
pub enum Node {
    /// An image manifest.
    Manifest(Box<Document<Manifest>>),
    /// An image index.
    Index(Box<Document<Index>>),
}

impl Node {
    /// Reads `bytes` as what `media_type` says, or, where that says nothing, as what the document says of itself.
    ///
    /// # Errors
    /// When the bytes are neither a manifest nor an index.
    pub fn parse(media_type: &str, bytes: Vec<u8>) -> Result<Self, DocumentError> {
        if media_type::is_manifest(media_type) || !(media_type::is_index(media_type) || has_manifests(&bytes)) {
            Ok(Self::Manifest(Box::new(Document::parse(bytes)?)))
        } else {
            Ok(Self::Index(Box::new(Document::parse(bytes)?)))
        }
    }

    /// What the document points to and needs: an index's manifests, or a manifest's config and layers. Not `subject`,
    /// which needs the document and not the other way round.
    #[must_use]
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }

    /// What the document is a referrer of.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// The document, which `descriptor` is of, as an entry of its subject's list of referrers (distribution-spec,
    /// "Listing Referrers"): with its annotations, and its type, which for a manifest without one is its config's.
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

    /// The media type to give the document: its own word, or OCI's for its kind.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(media_type::MANIFEST),
            Self::Index(index) => index.media_type.as_deref().unwrap_or(media_type::INDEX),
        }
    }

    /// The document's bytes, exactly.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Manifest(manifest) => manifest.bytes(),
            Self::Index(index) => index.bytes(),
        }
    }

    /// The descriptor of the document.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type(), self.bytes())
    }
}

fn has_manifests(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(default, rename = "mediaType")]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Probe>(bytes)
        .is_ok_and(|probe| media_type::is_index(&probe.media_type) || probe.manifests.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_index_without_a_media_type_is_known_by_its_content() {
        let bytes = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
        assert!(matches!(Node::parse("", bytes).unwrap(), Node::Index(_)));
    }

    #[test]
    fn referrers_are_listed_by_what_they_say() {
        let config = Descriptor::of("c/d", b"{}");
        let listed = |mut json: Value| {
            json["schemaVersion"] = 2.into();
            let bytes = json.to_string().into_bytes();
            let descriptor = Descriptor::of(media_type::MANIFEST, &bytes);
            let node = Node::parse("", bytes).unwrap();
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
