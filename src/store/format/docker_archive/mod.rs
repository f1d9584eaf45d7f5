//! Archives of `docker save` and `docker load`: containers-transports' `docker-archive`.
//!
//! An archive is a tar, which may be compressed. `manifest.json` lists its images: the name of the config's file, the
//! images' names, and the names of the layers' files, lowest first. It has image manifests only if it is also an OCI
//! layout, as newer docker writes it.

mod read;
mod write;

use ociforge_manifests::{ImageName, Reference};
use serde::{Deserialize, Serialize};

pub use read::{DockerArchive, DockerImage};
pub use write::write_docker_archive;

/// The file that lists the images.
const MANIFEST: &str = "manifest.json";

/// An image in [`MANIFEST`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    /// The file of the config.
    config: String,
    /// The names of the image as docker shows them; `null` if it has none.
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    /// The files of the layers, lowest first; `null` if it has none.
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Item {
    /// The names of the image in the file.
    fn names(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }

    fn layers(&self) -> &[String] {
        self.layers.as_deref().unwrap_or_default()
    }
}

/// The complete name for a name as docker shows it.
fn complete(shown: &str) -> Option<Reference> {
    match format!("docker://{shown}").parse() {
        Ok(ImageName::Registry(name)) => Some(name),
        _ => None,
    }
}

/// A name as docker shows it: without docker's default registry and namespace, but with the tag.
fn familiar(name: &Reference) -> String {
    let whole = name.whole();
    let short = ["docker.io/library/", "docker.io/"].iter().filter_map(|start| whole.strip_prefix(start));
    short.into_iter().find(|short| complete(short).as_ref() == Some(name)).unwrap_or(&whole).to_owned()
}

#[cfg(test)]
mod tests;
