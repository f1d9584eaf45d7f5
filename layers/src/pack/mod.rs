//! A tree becomes a layer blob: tar, DiffId, compression, digest and size in one pass.
//!
//! A gzip layer is a sequence of gzip members (RFC 1952, section 2.2), and that is what makes it both fast and
//! deterministic: plain stretches of the tar are cut at fixed lengths and compressed one by one, by as many threads as
//! there are, and a file that is deflated already is a member as it stands. zstd layers are sequences of frames alike.

mod compress;
mod header;
mod incompressible;
mod sink;
mod source;
mod walk;

use std::io;

use ociforge_manifests::{Descriptor, DiffId, Digest, media_type};
use serde::{Deserialize, Serialize};

use crate::path::LayerPath;
use crate::tree::{LayerTree, TreeError};

/// The compression of a layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 0 to 9.
    Gzip(u32),
    /// zstd, level 1 to 19.
    Zstd(i32),
}

impl Default for Compression {
    /// gzip at level 6, which every registry and runtime takes.
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl Compression {
    /// The media type of a layer so compressed.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::LAYER_TAR,
            Self::Gzip(_) => media_type::LAYER_GZIP,
            Self::Zstd(_) => media_type::LAYER_ZSTD,
        }
    }
}

/// A packed layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[non_exhaustive]
pub enum PackError {
    /// A file of the tree cannot be read, or differs from the tree.
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

/// Writes `tree` to `out` as a layer blob, in one pass, with up to `threads` threads, which change nothing in the bytes.
///
/// Entries come in the order of their paths, hard links behind everything else. Memory: a few MiB per thread, whatever
/// the sizes.
///
/// # Errors
/// When content cannot be read or differs from the tree, or `out` fails. The output is then incomplete.
pub fn pack(
    tree: &LayerTree,
    compression: Compression,
    threads: usize,
    out: impl io::Write + Send,
) -> Result<Layer, PackError> {
    let output = sink::BlobOutput::new(out);
    let (tar, output) = if threads > 1 {
        sink::threaded(output, compression, threads, |sink| walk::write_tree(tree, compression, sink))?
    } else {
        let mut inline = sink::Inline::new(output, compression);
        let tar = walk::write_tree(tree, compression, &mut inline)?;
        (tar, inline.into_output())
    };
    let (digest, size) = output.finish().map_err(PackError::Write)?;
    Ok(Layer {
        descriptor: Descriptor::new(compression.media_type(), digest, size),
        diff_id: DiffId(Digest::from_sha256(&tar.sha256)),
        uncompressed: tar.len,
    })
}

#[cfg(test)]
mod tests;
