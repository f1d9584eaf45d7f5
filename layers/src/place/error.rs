//! The errors of placing a tree.

use crate::path::{LayerPath, PathError};
use crate::tree::TreeError;

/// An error of placing a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The files of the base are needed.
    #[error("cannot place {0}: the files of the base are unknown")]
    Unknown(LayerPath),
    /// Links form a loop.
    #[error("cannot place {path}: the links of the layers below form a loop")]
    Loop {
        /// The directory.
        path: LayerPath,
    },
    /// A file where a directory is needed.
    #[error("cannot place {path}: {above} is a file in {layer}")]
    NotADirectory {
        /// The entry.
        path: LayerPath,
        /// The file.
        above: LayerPath,
        /// The layer of the file.
        layer: String,
    },
    /// A file in the place of a directory.
    #[error("cannot place the file {path}: {directory} is a directory in {layer}")]
    OntoDirectory {
        /// The file.
        path: LayerPath,
        /// The directory.
        directory: LayerPath,
        /// The layer of the directory.
        layer: String,
    },
    /// A layer with an opaque root directory, which runtimes interpret in different ways.
    #[error("cannot place an opaque root directory (`.wh..wh..opq` at the top): docker and podman ignore it")]
    OpaqueRoot,
    /// A path that is invalid for an entry.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries of the tree with the same final path conflict.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl PlaceError {
    /// Replaces a parent directory in the error by the entry.
    pub(super) fn of(self, entry: LayerPath) -> Self {
        match self {
            Self::Loop { .. } => Self::Loop { path: entry },
            Self::NotADirectory { above, layer, .. } => Self::NotADirectory { path: entry, above, layer },
            other => other,
        }
    }
}
