//! The documents of OCI images: digests, references, manifests, the image config and the runtime spec.
//!
//! All functions are pure: nothing in this crate reads a file, the clock, the environment or the network, so the same
//! input gives the same bytes everywhere.

pub mod config;
pub mod convert;
pub mod descriptor;
pub mod digest;
pub mod document;
pub mod expand;
pub mod graph;
pub mod image;
pub mod lint;
pub mod media_type;
mod nearest;
pub mod platform;
pub mod reference;
pub mod runtime;
mod shape;
mod valid_json;

pub use config::{Config, ConfigEdit, ConfigValueError, Expansion};
pub use descriptor::Descriptor;
pub use digest::{ChainId, DiffId, Digest, Hasher};
pub use document::{Document, DocumentError};
pub use image::{Image, ImageError, NewLayer};
pub use platform::Platform;
pub use reference::{ArchivedImage, ImageName, Reference, ReferenceError};
