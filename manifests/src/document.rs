//! Documents: bytes and their meaning together.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::skimmed::Skimmed;

/// Largest manifest or config that is read, in bytes. Registries accept 4 MiB manifests; configs may be larger.
pub const MAX_DOCUMENT: u64 = 16 << 20;

/// A JSON document: the bytes as they were read, the typed view `T` of them, and, once it is asked for, the JSON.
///
/// What was read keeps its bytes, so its digest never changes. An edit works on the JSON, so fields that `T` does not
/// know survive, and is written with sorted keys, so the same content always gives the same bytes.
#[derive(Debug, Clone)]
pub struct Document<T> {
    bytes: Bytes,
    json: OnceLock<Value>,
    value: T,
}

/// Bytes that are not the document that they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// No JSON, or JSON of another form.
    #[error("not a valid {what}")]
    Json {
        /// What the bytes should have been.
        what: &'static str,
        /// Where and why parsing ended.
        source: serde_json::Error,
    },
    /// One program takes it for a manifest and another for an index, or two programs read other values from it.
    #[error("the document is ambiguous: {0}")]
    Ambiguous(String),
    /// A manifest of Docker's first schema.
    #[error("it is a {}manifest of Docker's schema 1, which is not supported", if *.signed { "signed " } else { "" })]
    SchemaOne {
        /// Whether it holds signatures.
        signed: bool,
    },
    /// Content of a type that is neither a manifest's nor an index's.
    #[error("it is neither an image nor an index; its type is {0}")]
    Foreign(String),
}

impl DocumentError {
    /// What can be done about it, as a sentence without a capital or a full stop.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Ambiguous(_) => Some(
                "programs interpret such a document in different ways (CVE-2021-41190): build the image again with a \
                    current tool",
            ),
            Self::SchemaOne { .. } => {
                Some("push the image again with a current tool, or convert it: `skopeo copy --format v2s2`")
            }
            Self::Json { .. } | Self::Foreign(_) => None,
        }
    }
}

/// What a document is called in errors, and what it must be besides JSON of its form.
pub trait DocumentType {
    /// For instance `image manifest`.
    const NAME: &'static str;

    /// Looks at the bytes before they are read as this document.
    ///
    /// # Errors
    /// When they are not JSON, or are not this document to every reader.
    fn check(bytes: &[u8]) -> Result<(), DocumentError> {
        // What could not become a `Value` must not become a document.
        let skimmed: Result<Skimmed, _> = serde_json::from_slice(bytes);
        skimmed.map(drop).map_err(|source| DocumentError::Json { what: Self::NAME, source })
    }
}

impl<T: DeserializeOwned + DocumentType> Document<T> {
    /// Reads a document.
    ///
    /// # Errors
    /// When the bytes are not JSON, or not of `T`'s form.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, DocumentError> {
        let bytes = bytes.into();
        T::check(&bytes)?;
        Self::checked(bytes)
    }

    /// Reads a document whose bytes have passed `T`'s check.
    pub(crate) fn checked(bytes: Bytes) -> Result<Self, DocumentError> {
        let value = serde_json::from_slice(&bytes).map_err(named::<T>)?;
        Ok(Self { bytes, json: OnceLock::new(), value })
    }

    /// Makes a document of JSON, its bytes with sorted keys.
    ///
    /// # Errors
    /// When the JSON is not of `T`'s form.
    pub fn from_json(json: Value) -> Result<Self, DocumentError> {
        let bytes = canonical(&json);
        T::check(&bytes)?;
        let value = T::deserialize(&json).map_err(named::<T>)?;
        Ok(Self { bytes: bytes.into(), json: json.into(), value })
    }

    /// The document's bytes, exactly.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same bytes, shared.
    #[must_use]
    pub fn shared(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The whole JSON, unknown fields included.
    #[must_use]
    pub fn json(&self) -> &Value {
        // That the bytes are JSON was seen when they were read.
        self.json.get_or_init(|| serde_json::from_slice(&self.bytes).unwrap_or_default())
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The descriptor of the bytes under `media_type`.
    #[must_use]
    pub fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor::of(media_type, &self.bytes)
    }
}

impl<T> std::ops::Deref for Document<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

fn named<T: DocumentType>(source: serde_json::Error) -> DocumentError {
    DocumentError::Json { what: T::NAME, source }
}

/// JSON without spaces and with sorted keys, whatever order serde_json's maps have in this build.
#[must_use]
pub fn canonical(json: &Value) -> Vec<u8> {
    fn sorted(json: &Value) -> Value {
        match json {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                Value::Object(entries.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect::<Map<_, _>>())
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            scalar => scalar.clone(),
        }
    }
    // `Value`'s Display is serde_json's compact form and has no way to fail.
    sorted(json).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Any {}
    impl DocumentType for Any {
        const NAME: &'static str = "test document";
    }

    #[test]
    fn what_was_read_keeps_its_bytes_and_what_is_made_is_sorted() {
        let odd = br#"{ "b": 1, "a": {"z":1,"y":[{"d":1,"c":2}]} }"#.to_vec();
        let read = Document::<Any>::parse(odd.clone()).unwrap();
        assert_eq!(read.bytes(), odd);
        let made = Document::<Any>::from_json(read.json().clone()).unwrap();
        assert_eq!(made.bytes(), br#"{"a":{"y":[{"c":2,"d":1}],"z":1},"b":1}"#);
    }

    #[test]
    fn an_error_names_the_document() {
        let error = Document::<Any>::parse(b"<html>".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "not a valid test document");
    }

    #[test]
    fn what_lies_too_deep_is_refused_also_where_nobody_looks() {
        let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
        assert!(!Document::<Any>::parse(nested(100)).unwrap().json().is_null());
        assert!(Document::<Any>::parse(nested(1000)).is_err());
    }
}
