//! What is kept on disk: OCI layouts, archives, and the store that builds work from.

pub mod archive;
mod arrival;
pub mod blob;
pub mod caches;
pub mod check;
pub mod containers;
pub mod descriptors;
pub mod dir;
pub mod docker_archive;
pub mod gc;
pub mod index;
pub mod layout;
pub mod local;
pub mod names;
mod partial;
pub mod roots;
pub mod spool;
pub mod stamp;
pub mod stream;
mod tar_file;
pub mod temporary;
#[cfg(test)]
mod testing;

pub use archive::{Archive, ArchiveWriter, write_archive};
pub use blob::{BlobWriter, write_atomic};
pub use caches::{CacheMount, Caches};
pub use check::{BlobState, Checked};
pub use containers::{ContainerDirectory, prune as prune_containers};
pub use dir::Dir;
pub use docker_archive::{DockerArchive, DockerImage, write_docker_archive};
pub use gc::{Collected, GcOptions, Hold, collect};
pub use layout::{Layout, Locked};
pub use local::{KnownLayer, LayerKey, Store};
pub use names::{Indexed, Names};
pub use roots::{RootState, Roots};
