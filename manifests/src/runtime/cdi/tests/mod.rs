//! Files of CDI, sound and hostile, and what their edits do to specs.

mod apply;
mod documents;
mod registry;
mod yaml;

use serde_json::{Value, json};

use super::parse::parse;
use super::*;

/// A document with one device, changed by `edit`.
fn document(edit: impl FnOnce(&mut Value)) -> Value {
    let mut document = json!({
        "cdiVersion": "1.1.0", "kind": "vendor.com/device",
        "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}],
    });
    edit(&mut document);
    document
}

/// The same, with these edits of the file.
fn with(edits: Value) -> Value {
    document(|document| document["containerEdits"] = edits)
}

fn fault(document: &Value) -> String {
    said(&document.to_string())
}

/// What is said of a file with that text.
fn said(text: &str) -> String {
    parse(text.as_bytes()).map_or_else(|fault| fault.to_string(), |_| "fine".into())
}

const HEAD: &str = "cdiVersion: 0.5.0\nkind: vendor.com/device\n";
