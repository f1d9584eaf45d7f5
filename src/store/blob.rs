//! Writing files so that they are there whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ociforge_manifests::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// A blob on its way into a layout: a temporary file beside the blobs, hashed as it is written. Dropped unfinished, it
/// leaves nothing.
pub struct BlobWriter {
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
}

impl BlobWriter {
    /// Begins a blob in `directory` (`blobs/sha256` of a layout).
    ///
    /// # Errors
    /// When the directory can't be made or written.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: temporary(directory)?, hasher: Sha256::new(), size: 0 })
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
        let digest = self.digest();
        let path = self.file.path().with_file_name(digest.hex());
        persist(self.file, &path)?;
        Ok((digest, self.size))
    }

    /// Gives the blob the name `path` on the same filesystem, for a writer whose bytes went through
    /// [`BlobWriter::unhashed`] and were hashed elsewhere.
    ///
    /// # Errors
    /// When the file can't be renamed.
    pub fn finish_at(self, path: &Path) -> io::Result<()> {
        persist(self.file, path)
    }

    /// The file itself, for a writer that hashes by itself and ends with [`BlobWriter::finish_at`].
    pub fn unhashed(&mut self) -> &mut fs::File {
        self.file.as_file_mut()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a small file whole: into a temporary file beside it, then by renaming.
///
/// # Errors
/// When the directory can't be made or written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(directory)?;
    file.write_all(bytes)?;
    persist(file, path)
}

/// As [`write_atomic`], and the bytes are on disk before the file is there: what a crash of the machine leaves is the old
/// file or the new one.
///
/// # Errors
/// When the directory can't be made or written.
pub fn write_durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    persist(file, path)
}

/// A temporary file in `directory`, which is made where it is missing. Its name starts with `.tmp-`.
///
/// # Errors
/// When the directory can't be made or written.
pub fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(directory)?;
    tempfile::Builder::new().prefix(".tmp-").tempfile_in(directory)
}

/// A temporary file for what is to be at `path`, and the path to give it in the end: a symbolic link stays, and what it
/// points to is replaced.
///
/// # Errors
/// When the directory can't be made or written.
pub fn beside(path: &Path) -> io::Result<(NamedTempFile, PathBuf)> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // The parent of a bare file name is empty.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((temporary(directory)?, path))
}

/// Gives a temporary file its place, replacing what is there. It is readable by all then, whatever the umask says
/// (temporary files are private).
///
/// # Errors
/// When the file can't be renamed.
pub fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
