//! Files read through memory maps.

mod truncated;

use std::fs::{File, Metadata};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};

use crate::regular::open_regular;
use truncated::ProtectedMap;

/// A read-only file, mapped. Cloning shares the map.
#[derive(Clone)]
pub struct MappedFile {
    path: PathBuf,
    shared: Arc<SharedMap>,
}

struct SharedMap {
    /// Dropped before the map.
    _protected: ProtectedMap,
    map: Mmap,
    facts: MappedFacts,
}

/// The facts that show whether a file was written.
#[derive(PartialEq, Eq)]
struct MappedFacts {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl MappedFacts {
    fn of(metadata: &Metadata) -> Self {
        let inode = (metadata.dev(), metadata.ino());
        Self { inode, size: metadata.size(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&open_regular(path)?, path)
    }

    /// Maps an open file, which may be unlinked; `path` is for messages.
    ///
    /// # Errors
    /// When it is not a regular file or cannot be mapped.
    pub fn of(file: &File, path: &Path) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        #[expect(unsafe_code, reason = "a map has no safe constructor: the file may change under it")]
        // SAFETY: the bytes are only ever read as foreign input that every reader checks (lengths, CRC, hashes), and
        // `ProtectedMap` replaces those that are truncated meanwhile.
        let map = unsafe { Mmap::map(file)? };
        let shared = SharedMap { _protected: ProtectedMap::new(&map), map, facts: MappedFacts::of(&metadata) };
        Ok(Self { path: path.to_owned(), shared: Arc::new(shared) })
    }

    /// Fails if the file was written since it was mapped. A file that was only renamed or removed is unchanged.
    ///
    /// # Errors
    /// When it was written.
    pub fn check_unchanged(&self) -> io::Result<()> {
        let facts = &self.shared.facts;
        match self.path.metadata().map(|metadata| MappedFacts::of(&metadata)) {
            Ok(now) if now.inode == facts.inode && now != *facts => {
                Err(io::Error::other(format!("{} changed while it was read", self.path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Releases the memory of the pages read so far; later reads load them from the file again. Readers of large files
    /// call this every [`MappedFile::STRETCH`] bytes, so that the pages do not count as this process's memory.
    pub fn release(&self) {
        #[expect(unsafe_code, reason = "the call is dangerous for maps that are written to")]
        // SAFETY: the map is shared and read-only, so that the pages' content is the file's, before and after.
        let _ = unsafe { self.shared.map.unchecked_advise(UncheckedAdvice::DontNeed) };
    }

    /// The number of bytes to read between calls of [`MappedFile::release`].
    pub const STRETCH: usize = 8 << 20;

    /// The path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.shared.map
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.shared.map
    }
}

impl std::fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MappedFile({})", self.path.display())
    }
}
