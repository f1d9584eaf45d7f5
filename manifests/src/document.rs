//! Documents: bytes and their meaning together.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::descriptor::Descriptor;
use crate::digest::Digest;

/// Largest manifest or config that is read, in bytes. Registries accept 4 MiB manifests; configs may be larger.
pub const MAX_DOCUMENT: u64 = 16 << 20;

/// A JSON document: the bytes as they were read, the JSON, and the typed view `T` of it.
///
/// What was read keeps its bytes, so its digest never changes. An edit works on the JSON, so fields that `T` does not
/// know survive, and is written with sorted keys, so the same content always gives the same bytes.
#[derive(Debug, Clone)]
pub struct Document<T> {
    bytes: Vec<u8>,
    json: Value,
    value: T,
}

/// Bytes that are not the document that they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// No JSON, or JSON of another form.
    #[error("not a valid {what}")]
    Json {
        /// What the bytes should have been.
        what: &'static str,
        /// Where and why parsing ended.
        source: serde_json::Error,
    },
}

/// What a document is called in errors.
pub trait Named {
    /// For instance `image manifest`.
    const NAME: &'static str;
}

impl<T: DeserializeOwned + Named> Document<T> {
    /// Reads a document.
    ///
    /// # Errors
    /// When the bytes are not JSON, or not of `T`'s form.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, DocumentError> {
        let json: Value = serde_json::from_slice(&bytes).map_err(named::<T>)?;
        let value = T::deserialize(&json).map_err(named::<T>)?;
        Ok(Self { bytes, json, value })
    }

    /// Makes a document of JSON, its bytes with sorted keys.
    ///
    /// # Errors
    /// When the JSON is not of `T`'s form.
    pub fn from_json(json: Value) -> Result<Self, DocumentError> {
        let value = T::deserialize(&json).map_err(named::<T>)?;
        Ok(Self { bytes: canonical(&json), json, value })
    }

    /// The document's bytes, exactly.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole JSON, unknown fields included.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
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

fn named<T: Named>(source: serde_json::Error) -> DocumentError {
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
    impl Named for Any {
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
}
