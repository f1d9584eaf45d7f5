//! The entries of stacked layers, merged in memory as an unpacker would merge them in a directory: upper layers replace and
//! remove entries of lower ones. The layers are read as streams, and nothing is unpacked.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};

use crate::decompress::decompress;
use crate::entries::{EntryKind, TarEntries, TarEntry};
use crate::links;
use crate::path::{LayerPath, PathError};
use crate::path_map::PathMap;
use crate::whiteout::{self, Meaning};

/// The maximum length of a path or link target in bytes, as in Linux.
const MAX_PATH: usize = 4096;

/// The data that a merge keeps of an entry.
pub trait MergedEntry: Clone {
    /// Whether the entry is a directory.
    fn is_directory(&self) -> bool;

    /// The target, if the entry is a symbolic link.
    fn link_target(&self) -> Option<&[u8]>;
}

/// Selects the data that a merge keeps.
pub trait EntryFilter {
    /// The kept data of an entry.
    type Kept: MergedEntry;
    /// An error of the filter.
    type Error: Error;

    /// The data to keep of the entry at `path`, if any. Symbolic links must be kept: later entries may lie below them.
    /// `target` is present for hard links. The filter may leave a part of `body` unread.
    ///
    /// # Errors
    /// When `body` cannot be read, or the filter keeps too much.
    fn keep(
        &mut self,
        path: &LayerPath,
        entry: TarEntry,
        target: Option<HardlinkTarget<Self::Kept>>,
        body: &mut dyn Read,
    ) -> Result<Option<Self::Kept>, MergeError<Self::Error>>;

    /// The data to keep of a directory that has no entry but contains one.
    fn keep_implied(&mut self, path: &LayerPath) -> Option<Self::Kept>;
}

/// The target of a hard link.
#[derive(Debug, Clone)]
pub struct HardlinkTarget<K> {
    /// Its path, after the symbolic links above it.
    pub path: LayerPath,
    /// Its data, if they are kept.
    pub kept: Option<K>,
}

/// The error of reading a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError<E: Error> {
    /// The stream ends early, or is no valid archive.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// An invalid name.
    #[error("the layer has an entry with an invalid name")]
    Name(#[from] PathError),
    /// A path above the limit of filesystems.
    #[error("the layer has a path of more than {MAX_PATH} bytes")]
    LongPath,
    /// The filter's error.
    #[error("{0}")]
    Filter(E),
}

/// Merges layers, the lowest first.
#[derive(Debug)]
pub struct LayerMerger<F: EntryFilter> {
    filter: F,
    below: PathMap<F::Kept>,
    /// The entries of the current layer. Its own whiteouts do not apply to them.
    layer: PathMap<F::Kept>,
}

impl<F: EntryFilter> LayerMerger<F> {
    /// A merger without layers.
    pub fn new(filter: F) -> Self {
        Self { filter, below: PathMap::default(), layer: PathMap::default() }
    }

    /// Reads the next layer: a tar, plain or compressed with gzip (any number of members) or zstd, detected by the first
    /// bytes. The reader is read to its end.
    ///
    /// # Errors
    /// When the layer cannot be read or is malformed, or the filter fails.
    pub fn layer(&mut self, mut reader: impl BufRead + Send) -> Result<(), MergeError<F::Error>> {
        self.tar(decompress(&mut reader)?)?;
        // A reader that verifies its content reports an error at the end.
        io::copy(&mut reader, &mut io::sink())?;
        Ok(())
    }

    /// The filter and the kept data of all layers.
    pub fn finish(self) -> (F, PathMap<F::Kept>) {
        (self.filter, self.below)
    }

    fn tar(&mut self, reader: impl Read) -> Result<(), MergeError<F::Error>> {
        let mut entries = TarEntries::new(BufReader::new(reader));
        while let Some(entry) = entries.next_entry().map_err(io::Error::from)? {
            if entry.name.len().max(entry.link.len()) > MAX_PATH {
                return Err(MergeError::LongPath);
            }
            match whiteout::read(LayerPath::new(&entry.name)?)? {
                Meaning::Whiteout(path) => self.below.remove(&self.behind_links(path)),
                Meaning::Opaque(path) => self.below.remove_inside(&self.behind_links(path)),
                Meaning::Entry(path) => self.entry(self.behind_links(path), entry, &mut entries)?,
            }
        }
        // The compressed stream may continue after the end of the tar.
        io::copy(&mut entries.into_inner(), &mut io::sink())?;
        self.below.append(std::mem::take(&mut self.layer));
        Ok(())
    }

    fn entry(&mut self, path: LayerPath, entry: TarEntry, body: &mut dyn Read) -> Result<(), MergeError<F::Error>> {
        if path.is_root() && entry.kind != EntryKind::Directory {
            return Ok(());
        }
        // A directory merges with an existing one. Every other entry replaces the existing entry.
        if entry.kind != EntryKind::Directory || self.get(&path).is_some_and(|kept| !kept.is_directory()) {
            self.remove(&path);
        }
        self.add_parents(&path);
        let target = match entry.kind {
            EntryKind::Hardlink => {
                let path = self.behind_links(LayerPath::new(&entry.link)?);
                Some(HardlinkTarget { kept: self.get(&path).cloned(), path })
            }
            _ => None,
        };
        if let Some(kept) = self.filter.keep(&path, entry, target, body)? {
            self.layer.insert(path, kept);
        }
        Ok(())
    }

    /// Makes every kept parent of `path` a directory.
    fn add_parents(&mut self, path: &LayerPath) {
        for parent in path.ancestors() {
            match self.get(&parent) {
                Some(kept) if kept.is_directory() => return,
                Some(_) => self.remove(&parent),
                None => {}
            }
            if let Some(kept) = self.filter.keep_implied(&parent) {
                self.layer.insert(parent, kept);
            }
        }
    }

    fn remove(&mut self, path: &LayerPath) {
        self.below.remove(path);
        self.layer.remove(path);
    }

    fn get(&self, path: &LayerPath) -> Option<&F::Kept> {
        self.layer.get(path).or_else(|| self.below.get(path))
    }

    /// The path of an entry after the symbolic links above it, as an unpacker follows them.
    fn behind_links(&self, path: LayerPath) -> LayerPath {
        links::behind_links(path, |path| self.get(path)?.link_target())
    }
}

impl<K: MergedEntry> PathMap<K> {
    /// `path` after all of its symbolic links; `None` for a loop.
    #[must_use]
    pub fn follow(&self, path: &LayerPath) -> Option<LayerPath> {
        let target = |path: &LayerPath| self.get(path)?.link_target().map(<[u8]>::to_vec);
        links::follow(path, |path| Ok::<_, Infallible>(target(path))).unwrap_or_default()
    }
}
