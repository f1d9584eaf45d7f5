//! The finished runtime spec.

use serde_json::Value;

use crate::document::canonical;

/// A runtime spec, and what the user should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// The spec.
    pub json: Value,
    /// Sentences without a full stop, in the order in which they came up.
    pub warnings: Vec<String>,
}

impl Emitted {
    /// The bytes of `config.json`: the same for the same input.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        canonical(&self.json)
    }
}
