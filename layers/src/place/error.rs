//! Why a tree can't be placed.

use crate::path::{LayerPath, PathError};
use crate::tree::TreeError;

/// A tree that can't be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The base's files must be known.
    #[error("the base has to be read to place {0}")]
    Unknown(LayerPath),
    /// Links lead in a circle.
    #[error("cannot place {path}: the links of the layers below lead in a circle")]
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
        /// Where the file is.
        layer: String,
    },
    /// A file in the place of a directory.
    #[error("cannot place the file {path}: {directory} is a directory in {layer}")]
    OntoDirectory {
        /// The file.
        path: LayerPath,
        /// The directory.
        directory: LayerPath,
        /// Where the directory is.
        layer: String,
    },
    /// A layer that hides everything below it, of which runtimes do not take the same view.
    #[error("cannot place an opaque root directory (`.wh..wh..opq` at the top): docker and podman ignore it")]
    OpaqueRoot,
    /// A path that no entry can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries of the tree that come to one place contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl PlaceError {
    /// Names the entry, where it is about a directory that leads there.
    pub(super) fn of(self, entry: LayerPath) -> Self {
        match self {
            Self::Loop { .. } => Self::Loop { path: entry },
            Self::NotADirectory { above, layer, .. } => Self::NotADirectory { path: entry, above, layer },
            other => other,
        }
    }
}
