//! A tree becomes a layer blob.

use std::io;

use ociforge_manifests::{Descriptor, DiffId};

use crate::path::LayerPath;
use crate::tree::{LayerTree, TreeError};

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 0 to 9.
    Gzip(u32),
    /// zstd, level 1 to 19.
    Zstd(i32),
}

/// A packed layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Media type, digest and size of the blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Length of the uncompressed tar in bytes.
    pub uncompressed: u64,
}

/// Packing failed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the tree could not be read, or is not what the tree says.
    #[error("cannot read {path} for the layer")]
    Content {
        /// The entry.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
    /// The blob could not be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// The tree contradicts itself.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Writes `tree` to `out` as a layer blob, in one pass, with up to `threads` threads (which change nothing in it).
///
/// # Errors
/// When content can't be read or is not as the tree says, or `out` fails.
pub fn pack(
    tree: &LayerTree,
    compression: Compression,
    threads: usize,
    out: impl io::Write + Send,
) -> Result<Layer, PackError> {
    let _ = (tree, compression, threads, out);
    Err(PackError::Write(io::ErrorKind::Unsupported.into()))
}
