//! Packing of a tree to a layer blob: tar, DiffId, compression, digest and size in one pass.
//!
//! A gzip layer is a sequence of gzip members (RFC 1952, section 2.2), which makes packing fast and deterministic:
//! segments of the tar have fixed lengths and are compressed independently by any number of threads, and a deflated
//! file becomes a member unchanged. zstd layers are sequences of frames in the same way.

mod compress;
mod header;
mod incompressible;
mod sink;
mod source;
mod walk;

use std::collections::BTreeSet;
use std::io;

use ociforge_manifests::{Descriptor, DiffId, Digest, media_type};
use serde::{Deserialize, Serialize};

use crate::path::LayerPath;
use crate::tree::{Content, DeflatedSlice, LayerTree, NodeKind, TreeError};

/// The compression of a layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// None.
    None,
    /// gzip, level 0 to 9.
    Gzip(u32),
    /// zstd, level 1 to 19.
    Zstd(i32),
}

impl Default for Compression {
    /// gzip at level 6, which every registry and runtime supports.
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl Compression {
    /// The media type of a layer with this compression.
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

/// The tree cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file of the tree cannot be read, or differs from the tree.
    #[error("cannot read {path} for the layer")]
    Content {
        /// The entry.
        path: LayerPath,
        /// The cause.
        source: io::Error,
    },
    /// The blob cannot be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// The tree is inconsistent.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Writes `tree` to `out` as a layer blob in one pass, with up to `threads` threads. Their number does not affect the
/// bytes.
///
/// Entries are in the order of their paths, hard links after all others. Memory: a few MiB per thread, independent of
/// sizes.
///
/// # Errors
/// When content cannot be read or differs from the tree, or `out` fails. The output is then incomplete.
pub fn pack(
    tree: &LayerTree,
    compression: Compression,
    threads: usize,
    out: impl io::Write + Send,
) -> Result<Layer, PackError> {
    let packed = pack_once(tree, compression, threads, out);
    match packed {
        // A change of the files is the cause of whatever is wrong with their content.
        Ok(_) | Err(PackError::Content { .. }) => check_unchanged(tree).and(packed),
        Err(error) => Err(error),
    }
}

/// Fails if a file whose content is in the tree was written since it was opened.
fn check_unchanged(tree: &LayerTree) -> Result<(), PackError> {
    let mut checked = BTreeSet::new();
    for (path, node) in tree.iter() {
        let (NodeKind::File(Content::Slice { file, .. })
        | NodeKind::File(Content::Deflated(DeflatedSlice { file, .. }))) = &node.kind
        else {
            continue;
        };
        if checked.insert(file.path()) {
            file.check_unchanged().map_err(|source| PackError::Content { path: path.clone(), source })?;
        }
    }
    Ok(())
}

fn pack_once(
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
