//! What is kept on disk: OCI layouts, and the store that builds work from.

pub mod blob;
pub mod layout;

pub use blob::BlobWriter;
pub use layout::{Layout, RefName};
