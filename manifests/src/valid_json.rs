//! Validation of JSON without storing it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// JSON that is validated as for a [`Value`](serde_json::Value), and not stored.
pub(crate) struct ValidJson;

impl<'de> Deserialize<'de> for ValidJson {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = ValidJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E>(self, _: bool) -> Result<ValidJson, E> {
                Ok(ValidJson)
            }

            fn visit_i64<E>(self, _: i64) -> Result<ValidJson, E> {
                Ok(ValidJson)
            }

            fn visit_u64<E>(self, _: u64) -> Result<ValidJson, E> {
                Ok(ValidJson)
            }

            fn visit_f64<E>(self, _: f64) -> Result<ValidJson, E> {
                Ok(ValidJson)
            }

            fn visit_str<E>(self, _: &str) -> Result<ValidJson, E> {
                Ok(ValidJson)
            }

            fn visit_unit<E>(self) -> Result<ValidJson, E> {
                Ok(ValidJson)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ValidJson, A::Error> {
                while items.next_element::<ValidJson>()?.is_some() {}
                Ok(ValidJson)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<ValidJson, A::Error> {
                while fields.next_entry::<IgnoredAny, ValidJson>()?.is_some() {}
                Ok(ValidJson)
            }
        }
        input.deserialize_any(Anything)
    }
}
