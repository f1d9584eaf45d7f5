//! Documents: bytes with their typed view.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::valid_json::ValidJson;

/// Maximum size of a manifest or config in bytes. Registries accept 4 MiB manifests; configs may be larger.
pub const MAX_DOCUMENT: u64 = 16 << 20;

/// A JSON document: its original bytes, the typed view `T` and, on demand, the JSON value.
///
/// A parsed document keeps its bytes, so its digest never changes. An edit changes the JSON value, so fields that `T`
/// does not have are kept; it is written with sorted keys, so the same content always has the same bytes.
#[derive(Debug, Clone)]
pub struct Document<T> {
    bytes: Bytes,
    json: OnceLock<Value>,
    value: T,
}

/// Bytes that are not the expected document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Invalid JSON, or JSON of another structure.
    #[error("not a valid {what}")]
    Json {
        /// The expected document.
        what: &'static str,
        /// The position and the cause.
        source: serde_json::Error,
    },
    /// A document that some programs read as a manifest and others as an index, or with different values.
    #[error("the document is ambiguous: {0}")]
    Ambiguous(String),
    /// A manifest of Docker's schema 1.
    #[error("it is a {}manifest of Docker's schema 1, which is not supported", if *.signed { "signed " } else { "" })]
    SchemaOne {
        /// Whether it has signatures.
        signed: bool,
    },
    /// Content of a type other than manifest or index.
    #[error("it is neither an image nor an index; its type is {0}")]
    Foreign(String),
}

impl DocumentError {
    /// The hint, as a sentence without a capital or a full stop.
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

/// The name of a document in errors, and its checks besides the JSON structure.
pub trait DocumentType {
    /// For instance `image manifest`.
    const NAME: &'static str;

    /// Checks the bytes before they are parsed.
    ///
    /// # Errors
    /// When they are not valid JSON, or different readers may read them differently.
    fn check(bytes: &[u8]) -> Result<(), DocumentError> {
        // Bytes that cannot become a `Value` must not become a document.
        let valid_json: Result<ValidJson, _> = serde_json::from_slice(bytes);
        valid_json.map(drop).map_err(|source| DocumentError::Json { what: Self::NAME, source })
    }
}

impl<T: DeserializeOwned + DocumentType> Document<T> {
    /// Parses a document.
    ///
    /// # Errors
    /// When the bytes are not JSON, or not of `T`'s structure.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, DocumentError> {
        let bytes = bytes.into();
        T::check(&bytes)?;
        Self::checked(bytes)
    }

    /// Parses a document whose bytes have passed `T`'s check.
    pub(crate) fn checked(bytes: Bytes) -> Result<Self, DocumentError> {
        let value = serde_json::from_slice(&bytes).map_err(named::<T>)?;
        Ok(Self { bytes, json: OnceLock::new(), value })
    }

    /// Creates a document from JSON; its bytes have sorted keys.
    ///
    /// # Errors
    /// When the JSON is not of `T`'s structure.
    pub fn from_json(json: Value) -> Result<Self, DocumentError> {
        let bytes = canonical(&json);
        T::check(&bytes)?;
        let value = T::deserialize(&json).map_err(named::<T>)?;
        Ok(Self { bytes: bytes.into(), json: json.into(), value })
    }

    /// The original bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same bytes, shared.
    #[must_use]
    pub fn shared(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The whole JSON value, with unknown fields.
    #[must_use]
    pub fn json(&self) -> &Value {
        // The bytes were valid JSON when they were parsed.
        self.json.get_or_init(|| serde_json::from_slice(&self.bytes).unwrap_or_default())
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The descriptor of the bytes with this media type.
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

/// JSON without spaces and with sorted keys, independent of the map type of serde_json in this build.
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
    // `Value`'s Display is serde_json's compact form and cannot fail.
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
