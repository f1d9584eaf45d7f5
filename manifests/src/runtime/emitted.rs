//! The resulting runtime spec.

use serde_json::Value;

use crate::document::canonical;

/// A runtime spec, and the warnings for the user.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// The spec.
    pub json: Value,
    /// Sentences without a full stop, in the order of their causes.
    pub warnings: Vec<String>,
}

impl Emitted {
    /// The bytes of `config.json`: the same for the same input.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        canonical(&self.json)
    }
}
