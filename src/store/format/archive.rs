//! OCI layouts in tar files: containers-transports' `oci-archive`.
//!
//! An archive is an uncompressed tar with `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`. It is read in place:
//! opening it notes where each blob lies, and nothing is ever unpacked. Of one that is compressed as a whole, a temporary
//! file with what it decompresses to is read.

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

/// An `oci-archive` to read from.
#[derive(Debug)]
pub struct Archive {
    tar: TarFile,
    blobs: BTreeMap<Digest, TarRange>,
    index: Document<Index>,
}

impl Archive {
    /// Opens an archive and notes where its blobs lie. Reads the headers only, not the blobs, but decompresses the whole
    /// file where it is compressed.
    ///
    /// # Errors
    /// When the file can't be read, is no tar file or no OCI layout in one, or has entries that no layout has: links,
    /// devices, paths out of the root, the same blob twice.
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

    /// The length in bytes of the blob of this digest; `None` when it is not there.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).map(|place| place.length)
    }

    /// The manifest called `name`, or, without a name, the only one there is.
    ///
    /// # Errors
    /// When there is no such manifest.
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
    let message = "there is no OCI layout in it (no file oci-layout, or no index.json)".into();
    let hint = docker.then(|| "it looks like what `docker save` writes: call it docker-archive:FILE".into());
    Cause::Other { message, hint }
}

#[cfg(test)]
mod tests;
