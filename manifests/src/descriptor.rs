//! Descriptors (image-spec, descriptor.md).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::{Digest, Hasher};
use crate::media_type;
use crate::platform::Platform;

/// A descriptor: media type, digest and size in bytes of the content. Unknown fields are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content's bytes.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: the platform that the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// All other fields (`urls`, `data`, `artifactType`, …), unchanged.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor without annotations or platform.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
            other: Map::new(),
        }
    }

    /// The descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Whether the content may be missing beside the document: a layer to fetch from its `urls`, or a layer of a
    /// non-distributable type.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        let has_urls = self.other.get("urls").and_then(Value::as_array).is_some_and(|urls| !urls.is_empty());
        has_urls || self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }

    /// The inline content (`data`), if any, after a check of its size and digest.
    ///
    /// # Errors
    /// When the data does not match.
    pub fn data(&self) -> Option<Result<Vec<u8>, DataError>> {
        let data = self.other.get("data").filter(|data| !data.is_null())?;
        let decoded = data.as_str().and_then(|text| STANDARD.decode(text).ok());
        let sound = |bytes: &Vec<u8>| {
            let mut hasher = Hasher::like(&self.digest);
            hasher.update(bytes);
            bytes.len() as u64 == self.size && hasher.finish() == self.digest
        };
        Some(decoded.filter(sound).ok_or(DataError))
    }

    /// Whether the content is a manifest or an index.
    #[must_use]
    pub fn is_document(&self) -> bool {
        media_type::is_document(&self.media_type)
    }
}

/// Inline data that does not match its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the `data` of its descriptor does not match size and digest")]
pub struct DataError;

/// Reads JSON's `null`, which Go programs write for an empty slice or map, as the empty value.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_is_the_content_or_an_error() {
        let with = |data: Value| {
            let mut descriptor = Descriptor::of("text/plain", b"hello");
            descriptor.other.insert("data".into(), data);
            descriptor.data()
        };
        assert_eq!(Descriptor::of("text/plain", b"hello").data(), None);
        assert_eq!(with(Value::Null), None);
        assert_eq!(with(json!("aGVsbG8=")), Some(Ok(b"hello".to_vec())));
        for bad in [json!("aHVsbG8="), json!("aGVsbG8"), json!("aGVsbG8h"), json!("!"), json!(5)] {
            assert_eq!(with(bad.clone()), Some(Err(DataError)), "{bad}");
        }
    }
}
