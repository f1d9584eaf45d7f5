//! The kind of a document by its top-level fields: the same for every reader, or refused (CVE-2021-41190).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::document::DocumentError;
use crate::media_type;
use crate::valid_json::ValidJson;

/// The fields by which readers distinguish documents.
const FIELDS: [&str; 8] =
    ["config", "fsLayers", "history", "layers", "manifests", "mediaType", "schemaVersion", "signatures"];

/// The distinguishing fields of a document that are not `null`.
#[derive(Debug, Default)]
pub(crate) struct DocumentShape {
    /// The fields; those whose value matters have it.
    fields: BTreeMap<&'static str, Value>,
    /// Why readers may interpret the fields differently.
    ambiguous: Option<String>,
}

impl DocumentShape {
    /// Examines a document, which should be a `what`.
    pub(crate) fn of(bytes: &[u8], what: &'static str) -> Result<Self, DocumentError> {
        let shape: Self = serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })?;
        if let Some(why) = shape.ambiguous {
            return Err(DocumentError::Ambiguous(why));
        }
        if shape.is_schema_one() {
            return Err(DocumentError::SchemaOne { signed: shape.has("signatures") });
        }
        Ok(shape)
    }

    /// Whether it looks like an index and not like a manifest.
    pub(crate) fn is_index(&self) -> bool {
        self.media_type().map_or(self.has("manifests"), media_type::is_index)
    }

    /// Whether it looks like a manifest.
    pub(crate) fn is_manifest(&self) -> bool {
        self.media_type().is_some_and(media_type::is_manifest) || (self.has("config") && self.has("layers"))
    }

    /// Fails unless it is unambiguously a manifest.
    pub(crate) fn must_be_manifest(&self) -> Result<(), DocumentError> {
        self.must_be("a manifest", media_type::is_manifest, &["manifests", "fsLayers", "history"])
    }

    /// Fails unless it is unambiguously an index.
    pub(crate) fn must_be_index(&self) -> Result<(), DocumentError> {
        self.must_be("an index", media_type::is_index, &["config", "layers", "fsLayers", "history"])
    }

    fn must_be(&self, what: &str, fits: fn(&str) -> bool, others: &[&str]) -> Result<(), DocumentError> {
        if let Some(own) = self.media_type().filter(|own| !fits(own)) {
            let message = format!("expected {what}, but its mediaType is {}", own.escape_debug());
            return Err(DocumentError::Ambiguous(message));
        }
        match others.iter().find(|field| self.has(field)) {
            Some(field) => Err(DocumentError::Ambiguous(format!("it is {what}, but has `{field}`"))),
            None => Ok(()),
        }
    }

    /// The document's own media type.
    pub(crate) fn media_type(&self) -> Option<&str> {
        self.fields.get("mediaType").and_then(Value::as_str).filter(|own| !own.is_empty())
    }

    fn is_schema_one(&self) -> bool {
        let others = ["config", "layers", "manifests"].iter().any(|field| self.has(field));
        let version = self.fields.get("schemaVersion").and_then(Value::as_u64);
        let stated = self.media_type().is_some_and(|own| media_type::schema_one(own).is_some());
        !others && (stated || version == Some(1) || self.has("fsLayers"))
    }

    fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }
}

/// The field that some reader reads from `key`: Go's parser ignores the case of letters.
fn field_of(key: &str) -> Option<&'static str> {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    let same = |field: &&&str| key.chars().map(fold).eq(field.chars().map(fold));
    FIELDS.iter().find(same).copied()
}

impl<'de> Deserialize<'de> for DocumentShape {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = DocumentShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DocumentShape, A::Error> {
                let (mut shape, mut seen) = (DocumentShape::default(), Vec::new());
                while let Some(key) = map.next_key::<String>()? {
                    let Some(field) = field_of(&key) else {
                        map.next_value::<ValidJson>()?;
                        continue;
                    };
                    if key != field {
                        shape.ambiguous = Some(format!("some programs read `{}` as `{field}`", key.escape_debug()));
                    } else if seen.contains(&field) {
                        shape.ambiguous = Some(format!("`{field}` occurs twice"));
                    }
                    seen.push(field);
                    let value = match field {
                        "mediaType" | "schemaVersion" => map.next_value::<Value>()?,
                        _ if map.next_value::<Option<ValidJson>>()?.is_some() => Value::Bool(true),
                        _ => Value::Null,
                    };
                    if !value.is_null() {
                        shape.fields.insert(field, value);
                    }
                }
                Ok(shape)
            }
        }
        input.deserialize_map(ShapeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(json: &str) -> Result<DocumentShape, DocumentError> {
        DocumentShape::of(json.as_bytes(), "image manifest")
    }

    #[test]
    fn a_document_is_one_thing_to_all_readers() {
        let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(shape(manifest).unwrap().must_be_manifest().is_ok() && shape(index).unwrap().must_be_index().is_ok());
        let nulls = r#"{"config":{},"layers":[],"manifests":null,"mediaType":"","fsLayers":null}"#;
        assert!(shape(nulls).unwrap().must_be_manifest().is_ok());
        for (json, said) in [
            (r#"{"config":{},"layers":[],"manifests":[]}"#, "has `manifests`"),
            (r#"{"config":{},"layers":[],"fsLayers":[]}"#, "has `fsLayers`"),
            (r#"{"config":{},"layers":[],"history":[]}"#, "has `history`"),
            (r#"{"mediaType":"application/vnd.oci.image.index.v1+json","config":{},"layers":[]}"#, "its mediaType is"),
            (r#"{"mediaType":"text/plain","config":{},"layers":[]}"#, "but its mediaType is text/plain"),
        ] {
            let error = shape(json).unwrap().must_be_manifest().unwrap_err();
            assert!(matches!(&error, DocumentError::Ambiguous(why) if why.contains(said)), "{json}: {error}");
        }
        for (json, said) in [
            (r#"{"manifests":[],"config":{}}"#, "has `config`"),
            (r#"{"manifests":[],"layers":[]}"#, "has `layers`"),
            (r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#, "its mediaType is"),
        ] {
            let error = shape(json).unwrap().must_be_index().unwrap_err();
            assert!(matches!(&error, DocumentError::Ambiguous(why) if why.contains(said)), "{json}: {error}");
        }
    }

    #[test]
    fn fields_that_readers_find_differently_are_refused() {
        for (json, said) in [
            (r#"{"layers":[],"layers":[{}]}"#, "`layers` occurs twice"),
            (r#"{"layers":[],"Layers":[{}]}"#, "some programs read `Layers` as `layers`"),
            (r#"{"config":{},"MANIFESTS":[]}"#, "some programs read `MANIFESTS` as `manifests`"),
            ("{\"manifest\u{17f}\":[]}", "as `manifests`"),
            (r#"{"manif\u0065sts":[],"manifests":[]}"#, "`manifests` occurs twice"),
        ] {
            let error = shape(json).unwrap_err();
            assert!(matches!(&error, DocumentError::Ambiguous(why) if why.contains(said)), "{json}: {error}");
        }
        assert!(shape(r#"{"x":1,"x":2,"X":3,"layers":[{"Layers":1,"layers":2}]}"#).is_ok());
    }

    #[test]
    fn schema_one_is_known_signed_or_not() {
        for (json, is_signed) in [
            (r#"{"schemaVersion":1,"name":"a","fsLayers":[],"history":[]}"#, false),
            (r#"{"schemaVersion":1,"fsLayers":[],"signatures":[{}]}"#, true),
            (r#"{"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}"#, false),
        ] {
            let error = shape(json).unwrap_err();
            assert!(matches!(error, DocumentError::SchemaOne { signed } if signed == is_signed), "{json}: {error}");
            assert!(error.hint().unwrap().contains("skopeo copy"));
        }
    }
}
