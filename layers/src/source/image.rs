//! The files that an image has at one path become a tree. Its layers are read as streams; nothing is unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ignore::Patterns;
use crate::entries::{EntryKind, TarEntry};
use crate::mapped::MappedFile;
use crate::merge::{EntryFilter, HardlinkTarget, MergeError, MergedEntry};
use crate::path::{LayerPath, PathError};
use crate::path_map::PathMap;
use crate::tree::{Content, LayerTree, Metadata, NodeKind, TreeError, TreeNode};

/// The maximum number of entries that are kept in memory.
const MAX_ENTRIES: usize = 4 << 20;

/// The maximum length of all kept content together, with the holes of sparse files, in bytes.
const MAX_CONTENT: u64 = 1 << 44;

/// Bytes that are copied at a time.
const BUFFER: usize = 128 << 10;

/// The error of reading files of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFilesError {
    /// A path that is invalid in a layer.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Too many entries.
    #[error("the image has more than {MAX_ENTRIES} files there")]
    TooMany,
    /// Too much content.
    #[error("the files there have more than {} TiB, with the holes of sparse files", MAX_CONTENT >> 40)]
    TooLarge,
    /// The image has no file at the path.
    #[error("there is no {0} in the image or stage")]
    Missing(LayerPath),
    /// The symbolic links of the path form a loop.
    #[error("the symbolic links at {0} form a loop")]
    Loop(LayerPath),
    /// The content cannot be written.
    #[error("cannot write the content of files to {}", directory.display())]
    Scratch {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The files of an image at one path.
#[derive(Debug)]
pub struct ImageFiles {
    /// The entries, by their paths relative to the path. Its own entry has the root path.
    entries: BTreeMap<LayerPath, KeptFile>,
    contents: MappedContents,
}

impl ImageFiles {
    /// Whether the path is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.entries.get(&LayerPath::root()).is_none_or(KeptFile::is_directory)
    }

    /// The tree of the files at `to`, without those that `exclude` matches relative to the path. An excluded directory
    /// stays if an exception includes something inside it. The first of several names of a file is the file, and the
    /// others are hard links to it.
    ///
    /// # Errors
    /// When a path is too long.
    pub fn tree(self, to: &LayerPath, exclude: &Patterns) -> Result<LayerTree, TreeFromImageError> {
        let Self { entries, contents } = self;
        let is_included = |path: &LayerPath| path.is_root() || !exclude.exclude(path.as_bytes());
        let included = entries.iter().filter(|(path, kept)| !kept.is_directory() && is_included(path));
        let above: BTreeSet<LayerPath> = included.flat_map(|(path, _)| path.ancestors()).collect();
        let (mut tree, mut first) = (LayerTree::new(), BTreeMap::new());
        for (path, KeptFile { metadata, kind }) in entries {
            if !is_included(&path) && !above.contains(&path) {
                continue;
            }
            let at = if path.is_root() { to.clone() } else { to.join(path.as_bytes())? };
            if at.is_root() {
                continue;
            }
            let kind = match kind {
                KeptKind::Other(kind) => kind,
                KeptKind::Unread(target) => return Err(TreeError::Dangling { path: at, target }.into()),
                KeptKind::File(id) => match first.get(&id) {
                    Some(file) => NodeKind::Hardlink(LayerPath::clone(file)),
                    None => {
                        first.insert(id, at.clone());
                        NodeKind::File(contents.get(id))
                    }
                },
            };
            tree.insert(at, TreeNode { metadata, kind })?;
        }
        Ok(tree)
    }
}

/// The error of making a tree of files of an image.
#[derive(Debug, thiserror::Error)]
pub enum TreeFromImageError {
    /// A path that is invalid in a layer.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Two entries contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The result of one pass over the layers.
#[derive(Debug)]
pub enum ImagePass {
    /// The files.
    Complete(ImageFiles),
    /// Symbolic or hard links lead to paths that the pass did not keep: another pass must keep them, too.
    Again(BTreeSet<LayerPath>),
}

/// Keeps the files at some paths of an image, and all symbolic links.
#[derive(Debug)]
pub struct ImageFilesFilter {
    from: LayerPath,
    paths: BTreeSet<LayerPath>,
    contents: FileContents,
    count: usize,
}

/// A kept entry: one of the kept paths, or a symbolic link anywhere.
#[derive(Debug, Clone)]
pub struct KeptFile {
    metadata: Metadata,
    kind: KeptKind,
}

#[derive(Debug, Clone)]
enum KeptKind {
    /// A regular file. Hard links have the same content.
    File(usize),
    /// A hard link to a file that is not kept.
    Unread(LayerPath),
    Other(NodeKind),
}

/// The content of files: one unnamed file.
#[derive(Debug)]
struct FileContents {
    directory: PathBuf,
    file: File,
    len: u64,
    ranges: Vec<Range<u64>>,
    buffer: Vec<u8>,
}

/// The content of files, mapped.
#[derive(Debug)]
struct MappedContents {
    file: MappedFile,
    ranges: Vec<Range<u64>>,
}

impl ImageFilesFilter {
    /// Keeps the files at `from`, and also those at `paths`, see [`ImagePass::Again`]. `scratch` is a directory for
    /// their content; no file remains in it.
    ///
    /// # Errors
    /// When `scratch` cannot be written.
    pub fn new(from: LayerPath, paths: &BTreeSet<LayerPath>, scratch: &Path) -> Result<Self, ImageFilesError> {
        let failed = |source| ImageFilesError::Scratch { directory: scratch.into(), source };
        let file = tempfile::tempfile_in(scratch).map_err(failed)?;
        let contents =
            FileContents { directory: scratch.into(), file, len: 0, ranges: Vec::new(), buffer: vec![0; BUFFER] };
        let paths = paths.iter().cloned().chain([from.clone()]).collect();
        Ok(Self { from, paths, contents, count: 0 })
    }

    /// The files at the path, from the merged layers.
    ///
    /// # Errors
    /// When the image has no such path.
    pub fn files(self, merged: &PathMap<KeptFile>) -> Result<ImagePass, ImageFilesError> {
        let path = merged.follow(&self.from).ok_or_else(|| ImageFilesError::Loop(self.from.clone()))?;
        if !self.is_kept(&path) {
            return Ok(ImagePass::Again([path].into()));
        }
        let inside: Vec<_> = merged.iter().filter(|(other, _)| other.starts_with(&path)).collect();
        if inside.is_empty() && !path.is_root() {
            return Err(ImageFilesError::Missing(self.from));
        }
        let unread = inside.iter().filter_map(|(_, kept)| match &kept.kind {
            KeptKind::Unread(target) => Some(target.clone()),
            _ => None,
        });
        let unread: BTreeSet<LayerPath> = unread.collect();
        if let Some(missing) = unread.iter().find(|target| self.is_kept(target)) {
            return Err(ImageFilesError::Missing(missing.clone()));
        }
        if !unread.is_empty() {
            return Ok(ImagePass::Again(unread));
        }
        let mut entries = BTreeMap::new();
        for (full, kept) in inside {
            entries.insert(relative(full, &path)?, kept.clone());
        }
        entries.entry(LayerPath::root()).or_insert_with(KeptFile::implied_directory);
        Ok(ImagePass::Complete(ImageFiles { entries, contents: self.contents.map()? }))
    }

    fn is_kept(&self, path: &LayerPath) -> bool {
        path.steps().chain([LayerPath::root()]).any(|step| self.paths.contains(&step))
    }
}

impl EntryFilter for ImageFilesFilter {
    type Kept = KeptFile;
    type Error = ImageFilesError;

    fn keep(
        &mut self,
        path: &LayerPath,
        entry: TarEntry,
        target: Option<HardlinkTarget<KeptFile>>,
        body: &mut dyn Read,
    ) -> Result<Option<KeptFile>, MergeError<ImageFilesError>> {
        let linked = target.as_ref().and_then(|target| target.kept.as_ref()?.link_target());
        if !self.is_kept(path) && entry.kind != EntryKind::Symlink && linked.is_none() {
            return Ok(None);
        }
        self.count += 1;
        if self.count > MAX_ENTRIES {
            return Err(MergeError::Filter(ImageFilesError::TooMany));
        }
        let (metadata, device) = (entry.metadata(), entry.device.unwrap_or_default());
        let kind = match (entry.kind, target) {
            (EntryKind::Regular, _) => KeptKind::File(self.contents.add(&entry, body)?),
            (EntryKind::Hardlink, Some(HardlinkTarget { kept: Some(kept), .. })) => return Ok(Some(kept)),
            (EntryKind::Hardlink, target) => KeptKind::Unread(target.map(|target| target.path).unwrap_or_default()),
            (EntryKind::Directory, _) => KeptKind::Other(NodeKind::Directory { opaque: false }),
            (EntryKind::Symlink, _) => KeptKind::Other(NodeKind::Symlink(entry.link)),
            (EntryKind::Fifo, _) => KeptKind::Other(NodeKind::Fifo),
            (EntryKind::CharDevice, _) => KeptKind::Other(NodeKind::CharDevice { major: device.0, minor: device.1 }),
            (EntryKind::BlockDevice, _) => KeptKind::Other(NodeKind::BlockDevice { major: device.0, minor: device.1 }),
        };
        Ok(Some(KeptFile { metadata, kind }))
    }

    fn keep_implied(&mut self, path: &LayerPath) -> Option<KeptFile> {
        self.is_kept(path).then(KeptFile::implied_directory)
    }
}

impl KeptFile {
    fn implied_directory() -> Self {
        Self { metadata: Metadata::root(0o755, 0), kind: KeptKind::Other(NodeKind::Directory { opaque: false }) }
    }
}

impl MergedEntry for KeptFile {
    fn is_directory(&self) -> bool {
        matches!(self.kind, KeptKind::Other(NodeKind::Directory { .. }))
    }

    fn link_target(&self) -> Option<&[u8]> {
        match &self.kind {
            KeptKind::Other(NodeKind::Symlink(target)) => Some(target),
            _ => None,
        }
    }
}

/// `path` relative to the directory `above`.
fn relative(path: &LayerPath, above: &LayerPath) -> Result<LayerPath, PathError> {
    let rest = path.as_bytes().get(above.as_bytes().len()..).unwrap_or_default();
    LayerPath::new(rest.strip_prefix(b"/").unwrap_or(rest))
}

impl FileContents {
    /// Adds the body of a file, and returns its number.
    fn add(&mut self, entry: &TarEntry, body: &mut dyn Read) -> Result<usize, MergeError<ImageFilesError>> {
        let start = self.len;
        // The length of a sparse file is a claim of the layer. Its parts lie inside the file.
        let end = start.checked_add(entry.len()).filter(|len| *len < MAX_CONTENT);
        self.len = end.ok_or(MergeError::Filter(ImageFilesError::TooLarge))?;
        match &entry.sparse {
            None => self.copy(start, entry.body, body)?,
            Some(sparse) => {
                for part in &sparse.stretches {
                    self.copy(start + part.at, part.len, body)?;
                }
            }
        }
        self.ranges.push(start..self.len);
        Ok(self.ranges.len() - 1)
    }

    fn copy(&mut self, mut at: u64, len: u64, body: &mut dyn Read) -> Result<(), MergeError<ImageFilesError>> {
        let mut body = body.take(len);
        loop {
            let read = match body.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let written = self.file.write_all_at(&self.buffer[..read], at);
            let failed = |source| ImageFilesError::Scratch { directory: self.directory.clone(), source };
            written.map_err(|source| MergeError::Filter(failed(source)))?;
            at += read as u64;
        }
    }

    fn map(self) -> Result<MappedContents, ImageFilesError> {
        let Self { directory, file, len, ranges, .. } = self;
        let mapped = file.set_len(len).and_then(|()| MappedFile::of(&file, &directory));
        let file = mapped.map_err(|source| ImageFilesError::Scratch { directory, source })?;
        Ok(MappedContents { file, ranges })
    }
}

impl MappedContents {
    /// The content of a file, by its number.
    fn get(&self, id: usize) -> Content {
        let Range { start, end } = self.ranges.get(id).cloned().unwrap_or_default();
        let offset = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.file.len());
        Content::Slice { file: self.file.clone(), range: offset(start)..offset(end), sha256: None }
    }
}

#[cfg(test)]
mod tests;
