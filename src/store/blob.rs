//! Atomic writes of files.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ociforge_manifests::Digest;
use sha2::{Digest as _, Sha256};

use super::dir::Dir;
use super::temporary::TemporaryFile;

/// A new blob of a layout: a temporary file beside the blobs, which is hashed while it is written. Dropping it
/// unfinished removes the file.
pub struct BlobWriter {
    file: TemporaryFile,
    hasher: Sha256,
    size: u64,
}

impl BlobWriter {
    /// Creates a blob in `directory` (`blobs/sha256` of a layout).
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(super) fn new(directory: &Dir) -> io::Result<Self> {
        Ok(Self { file: directory.temporary()?, hasher: Sha256::new(), size: 0 })
    }

    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of the bytes written so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_sha256(&self.hasher.clone().finalize().into())
    }

    /// Renames the blob to its digest, and replaces an existing one.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn finish(self) -> io::Result<(Digest, u64)> {
        let (digest, size) = (self.digest(), self.size);
        self.finish_as(&digest)?;
        Ok((digest, size))
    }

    /// Renames the blob to this SHA-256 digest, for a writer that used [`BlobWriter::unhashed`] and hashed its bytes
    /// itself.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn finish_as(self, digest: &Digest) -> io::Result<()> {
        self.file.persist(digest.hex())
    }

    /// The file, for a writer that hashes its bytes itself and ends with [`BlobWriter::finish_as`].
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

/// Writes a small file atomically: to a temporary file beside it, which is then renamed.
///
/// # Errors
/// When the directory cannot be created or written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (directory, name) = Dir::holding(path)?;
    directory.write(name, bytes, false)
}

/// The file to replace for `path`: the target of a symbolic link, not the link.
#[must_use]
pub fn linked(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A temporary file for `path`, and its final name: the target of a symbolic link is replaced, not the link.
///
/// # Errors
/// When the directory cannot be created or written.
pub fn beside(path: &Path) -> io::Result<(TemporaryFile, OsString)> {
    let path = linked(path);
    let (directory, name) = Dir::holding(&path)?;
    Ok((directory.temporary()?, name.to_owned()))
}
