//! The formats of stored images: OCI layouts, and archives of both kinds.

pub mod archive;
pub(super) mod blob_name;
pub mod docker_archive;
pub mod index;
pub mod layout;
pub mod names;
pub(super) mod tar_file;

pub use archive::{Archive, ArchiveWriter, write_archive};
pub use docker_archive::{DockerArchive, DockerImage, write_docker_archive};
pub use layout::{Layout, Locked};
pub use names::{Indexed, Names};
