//! Writing files so that they are there whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ociforge_manifests::Digest;
use sha2::{Digest as _, Sha256};

use super::dir::Dir;
use super::temporary::TemporaryFile;

/// A blob on its way into a layout: a temporary file beside the blobs, hashed as it is written. Dropped unfinished, it
/// leaves nothing.
pub struct BlobWriter {
    file: TemporaryFile,
    hasher: Sha256,
    size: u64,
}

impl BlobWriter {
    /// Begins a blob in `directory` (`blobs/sha256` of a layout).
    ///
    /// # Errors
    /// When the directory can't be written.
    pub(super) fn new(directory: &Dir) -> io::Result<Self> {
        Ok(Self { file: directory.temporary()?, hasher: Sha256::new(), size: 0 })
    }

    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of what has been written so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_sha256(&self.hasher.clone().finalize().into())
    }

    /// Gives the blob its name, replacing one of the same digest.
    ///
    /// # Errors
    /// When the file can't be renamed.
    pub fn finish(self) -> io::Result<(Digest, u64)> {
        let (digest, size) = (self.digest(), self.size);
        self.finish_as(&digest)?;
        Ok((digest, size))
    }

    /// Gives the blob the name of this SHA-256 digest, for a writer whose bytes went through [`BlobWriter::unhashed`] and
    /// were hashed elsewhere.
    ///
    /// # Errors
    /// When the file can't be renamed.
    pub fn finish_as(self, digest: &Digest) -> io::Result<()> {
        self.file.persist(digest.hex())
    }

    /// The file itself, for a writer that hashes by itself and ends with [`BlobWriter::finish_as`].
    pub fn unhashed(&mut self) -> &mut fs::File {
        self.file.file()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.file().write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.file().flush()
    }
}

/// Writes a small file whole: into a temporary file beside it, then by renaming.
///
/// # Errors
/// When the directory can't be made or written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (directory, name) = Dir::holding(path)?;
    directory.write(name, bytes, false)
}

/// The file to replace for `path`: a symbolic link stays, and what it points to is replaced.
#[must_use]
pub fn linked(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A temporary file for what is to be at `path`, and the name to give it in the end: a symbolic link stays, and what it
/// points to is replaced.
///
/// # Errors
/// When the directory can't be made or written.
pub fn beside(path: &Path) -> io::Result<(TemporaryFile, OsString)> {
    let path = linked(path);
    let (directory, name) = Dir::holding(&path)?;
    Ok((directory.temporary()?, name.to_owned()))
}
