//! The content of OCI images: trees of files, packed to layer blobs and unpacked from them.
//!
//! The crate is synchronous and may use threads. It is independent of registries, recipes and terminals.

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
pub mod merge;
pub mod owner;
pub mod pack;
pub mod path;
pub mod path_map;
pub mod place;
pub mod regular;
#[cfg(test)]
mod seeded_random;
pub mod sha256;
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
