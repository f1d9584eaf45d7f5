//! OCI layouts in tar files: containers-transports' `oci-archive`.
//!
//! An archive is an uncompressed tar with `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`. It is read in
//! place: opening it records the offset of each blob, and nothing is unpacked. A compressed archive is decompressed
//! into a temporary file.

mod resume;
mod rewrite;
mod target;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ociforge_manifests::{Descriptor, Digest, Document, graph::Index};

use super::blob_name::digest_of;
use super::index::MAX_INDEX;
use super::tar_file::{TarFile, TarRange};
use super::{Indexed, index};
use crate::content::{ByteStream, Cause, ContentError, Source, or_data};

pub use target::ArchiveWriter;
pub use writer::{reachable, write_archive};

/// An `oci-archive` as a source.
#[derive(Debug)]
pub struct Archive {
    tar: TarFile,
    blobs: BTreeMap<Digest, TarRange>,
    index: Document<Index>,
}

impl Archive {
    /// Opens an archive and records the offsets of its blobs. It reads only the headers, but decompresses a compressed
    /// file completely.
    ///
    /// # Errors
    /// When the file cannot be read, is not a tar file with an OCI layout, or has entries that are invalid in a layout:
    /// links, devices, paths out of the root, the same blob twice.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ContentError> {
        let path = path.into();
        let operation = format!("open the archive {}", path.display());
        Self::scan(path).map_err(|cause| cause.of(operation))
    }

    fn scan(path: PathBuf) -> Result<Self, Cause> {
        let tar = TarFile::open(path)?;
        let known =
            |name: &str| matches!(name, "oci-layout" | "index.json" | "manifest.json") || digest_of(name).is_some();
        let entries = tar.entries(known, false)?;
        let docker = entries.file("manifest.json")?.is_some();
        let (Some(_), Some((_, index))) = (entries.file("oci-layout")?, entries.file("index.json")?) else {
            return Err(no_layout(docker));
        };
        let index = Document::parse(tar.read_at_most(MAX_INDEX, index)?)?;
        let blobs = entries.files().filter_map(|(name, place)| Some((digest_of(name)?, place))).collect();
        Ok(Self { tar, blobs, index })
    }

    /// The archive's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.tar.path
    }

    /// The archive's index.
    #[must_use]
    pub fn index(&self) -> &Document<Index> {
        &self.index
    }

    /// The size in bytes of the blob of this digest; `None` if it does not exist.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).map(|place| place.length)
    }

    /// The manifest `name`, or the only one without a name.
    ///
    /// # Errors
    /// When the manifest does not exist.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Cause> {
        index::find(&self.index, name, "archive")
    }
}

#[async_trait]
impl Source for Archive {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let place = self.blobs.get(&descriptor.digest).copied();
        or_data(self.tar.fetch(descriptor, place, offset), descriptor, offset)
    }

    fn location(&self, _: &Descriptor) -> String {
        self.place()
    }
}

impl Indexed for Archive {
    fn index(&self) -> Result<Document<Index>, Cause> {
        Ok(self.index.clone())
    }

    fn place(&self) -> String {
        self.path().display().to_string()
    }

    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        Self::blob_size(self, digest)
    }
}

fn no_layout(docker: bool) -> Cause {
    let message = "the archive is not an OCI layout: oci-layout or index.json is missing".into();
    let hint = docker.then(|| "the file looks like an archive of `docker save`: use docker-archive:FILE".into());
    Cause::Other { message, hint }
}

#[cfg(test)]
mod tests;
