//! Content on disk: OCI layouts and archives (`format`), and the store of builds.

pub(crate) mod abandoned;
mod arrival;
pub mod blob;
pub mod caches;
pub mod check;
pub mod containers;
pub mod descriptors;
pub mod dir;
pub mod file_hashes;
pub(crate) mod file_lock;
mod format;
pub mod gc;
pub mod local;
mod partial;
pub mod roots;
pub mod spool;
pub mod stamp;
pub mod stream;
pub mod temporary;
#[cfg(test)]
mod testing;

pub use blob::{BlobWriter, write_atomic};
pub use caches::{CacheMount, Caches};
pub use check::{BlobState, Checked};
pub use containers::{ContainerDirectory, prune as prune_containers};
pub use dir::Dir;
pub use file_hashes::{FileHashError, FileHashes, HashedFile};
pub use format::{
    Archive, ArchiveWriter, DockerArchive, DockerImage, Indexed, Layout, Locked, Names, archive, docker_archive, index,
    layout, names, write_archive, write_docker_archive,
};
pub use gc::{Collected, GcOptions, Hold, collect};
pub use local::{KnownLayer, LayerKey, Store};
pub use roots::{RootState, Roots};
