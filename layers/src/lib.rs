//! What an OCI image holds: trees of files, and their way to layer blobs and back.
//!
//! Synchronous; threads are welcome. Nothing here knows a registry, a recipe or a terminal.

pub mod below;
pub mod decompress;
pub mod entries;
mod hardlinks;
mod hierarchy;
pub mod index;
pub mod inflate;
pub mod links;
pub mod mapped;
pub mod materialize;
pub mod owner;
pub mod pack;
pub mod path;
pub mod path_map;
pub mod place;
pub mod regular;
#[cfg(test)]
mod seeded_random;
pub mod source;
pub mod tree;
pub mod unpack;
pub mod whiteout;

pub use below::{BaseFiles, LockedFiles, LowerLayers, PathSources};
pub use index::FileIndex;
pub use mapped::MappedFile;
pub use pack::{Compression, Layer, PackError, pack};
pub use path::{LayerPath, PathError};
pub use place::{PlaceError, Placed, PlacementRules, place};
pub use tree::{Content, DeflatedSlice, LayerTree, Metadata, NodeKind, TreeError, TreeNode};
pub use unpack::rebase;
