//! The files that an image has at one path become a tree. Its layers are read as streams; nothing is unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ignore::Patterns;
use crate::decompress::decompress;
use crate::entries::{EntryKind, TarEntries, TarEntry};
use crate::links;
use crate::mapped::MappedFile;
use crate::path::{LayerPath, PathError};
use crate::path_map::PathMap;
use crate::tree::{Content, LayerTree, Metadata, NodeKind, TreeError, TreeNode};
use crate::whiteout::{self, Meaning};

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
    /// The stream of a layer ends early, or is no sound archive.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// An invalid name in a layer.
    #[error("the layer has an invalid name")]
    Name(#[from] PathError),
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
    entries: BTreeMap<LayerPath, Kept>,
    contents: MappedContents,
}

impl ImageFiles {
    /// Whether the path is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.entries.get(&LayerPath::root()).is_none_or(|kept| kept.kind.is_directory())
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
        let included = entries.iter().filter(|(path, kept)| !kept.kind.is_directory() && is_included(path));
        let above: BTreeSet<LayerPath> = included.flat_map(|(path, _)| path.ancestors()).collect();
        let (mut tree, mut first) = (LayerTree::new(), BTreeMap::new());
        for (path, Kept { metadata, kind }) in entries {
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

/// Reads the layers of an image, the lowest first, and keeps the files at some paths.
#[derive(Debug)]
pub struct ImageFilesReader {
    from: LayerPath,
    kept: BTreeSet<LayerPath>,
    below: PathMap<Kept>,
    /// The entries of the current layer. Its own whiteouts do not apply to them.
    layer: PathMap<Kept>,
    contents: FileContents,
}

/// A kept entry: one of the kept paths, or a symbolic link anywhere.
#[derive(Debug, Clone)]
struct Kept {
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

impl ImageFilesReader {
    /// A reader of the files at `from`. It also keeps the files at `kept`, see [`ImagePass::Again`]. `scratch` is a
    /// directory for their content; no file remains in it.
    ///
    /// # Errors
    /// When `scratch` cannot be written.
    pub fn new(from: LayerPath, kept: &BTreeSet<LayerPath>, scratch: &Path) -> Result<Self, ImageFilesError> {
        let failed = |source| ImageFilesError::Scratch { directory: scratch.into(), source };
        let file = tempfile::tempfile_in(scratch).map_err(failed)?;
        let contents =
            FileContents { directory: scratch.into(), file, len: 0, ranges: Vec::new(), buffer: vec![0; BUFFER] };
        let kept = kept.iter().cloned().chain([from.clone()]).collect();
        Ok(Self { from, kept, below: PathMap::default(), layer: PathMap::default(), contents })
    }

    /// Reads the next layer: a tar, plain or compressed with gzip or zstd. The reader is read to its end.
    ///
    /// # Errors
    /// When the layer cannot be read or is malformed, or the content cannot be written.
    pub fn layer(&mut self, mut reader: impl BufRead + Send) -> Result<(), ImageFilesError> {
        self.tar(decompress(&mut reader)?)?;
        // A reader that verifies its content reports an error at the end.
        io::copy(&mut reader, &mut io::sink())?;
        Ok(())
    }

    fn tar(&mut self, reader: impl Read) -> Result<(), ImageFilesError> {
        let mut entries = TarEntries::new(BufReader::new(reader));
        while let Some(entry) = entries.next_entry().map_err(io::Error::from)? {
            match whiteout::read(LayerPath::new(&entry.name)?)? {
                Meaning::Whiteout(path) => self.below.remove(&self.landed(path)),
                Meaning::Opaque(path) => self.below.remove_inside(&self.landed(path)),
                Meaning::Entry(path) => self.entry(self.landed(path), entry, &mut entries)?,
            }
            if self.below.len() + self.layer.len() > MAX_ENTRIES {
                return Err(ImageFilesError::TooMany);
            }
        }
        // The compressed stream may continue after the end of the tar.
        io::copy(&mut entries.into_inner(), &mut io::sink())?;
        self.below.append(std::mem::take(&mut self.layer));
        Ok(())
    }

    fn get(&self, path: &LayerPath) -> Option<&Kept> {
        self.layer.get(path).or_else(|| self.below.get(path))
    }

    fn link_at(&self, path: &LayerPath) -> Option<&[u8]> {
        match &self.get(path)?.kind {
            KeptKind::Other(NodeKind::Symlink(target)) => Some(target),
            _ => None,
        }
    }

    /// The path of an entry after the symbolic links above it.
    fn landed(&self, path: LayerPath) -> LayerPath {
        links::landed(path, |path| self.link_at(path))
    }

    /// Whether an entry is a symbolic link, or a hard link to one.
    fn is_symlink(&self, entry: &TarEntry) -> bool {
        let linked = || LayerPath::new(&entry.link).is_ok_and(|target| self.link_at(&self.landed(target)).is_some());
        entry.kind == EntryKind::Symlink || entry.kind == EntryKind::Hardlink && linked()
    }

    fn is_kept(&self, path: &LayerPath) -> bool {
        path.steps().chain([LayerPath::root()]).any(|step| self.kept.contains(&step))
    }

    fn entry(&mut self, path: LayerPath, entry: TarEntry, body: &mut impl Read) -> Result<(), ImageFilesError> {
        let is_directory = |kept: &Kept| kept.kind.is_directory();
        for map in [&mut self.below, &mut self.layer] {
            // Two directories become one; any other entry replaces the entry below it.
            if entry.kind != EntryKind::Directory || map.get(&path).is_some_and(|kept| !is_directory(kept)) {
                map.remove(&path);
            }
            for above in path.ancestors().filter(|above| !above.is_root()) {
                if map.get(&above).is_some_and(|kept| !is_directory(kept)) {
                    map.remove(&above);
                }
            }
        }
        let is_kept = self.is_kept(&path);
        if !is_kept && (path.is_root() || !self.is_symlink(&entry)) {
            return Ok(());
        }
        let kept = self.read(entry, body)?;
        self.layer.insert(path, kept);
        Ok(())
    }

    fn read(&mut self, entry: TarEntry, body: &mut impl Read) -> Result<Kept, ImageFilesError> {
        let device = entry.device.unwrap_or_default();
        let kind = match entry.kind {
            EntryKind::Regular => KeptKind::File(self.contents.add(&entry, body)?),
            EntryKind::Hardlink => {
                let target = self.landed(LayerPath::new(&entry.link)?);
                match self.get(&target) {
                    Some(kept) => return Ok(kept.clone()),
                    None => KeptKind::Unread(target),
                }
            }
            EntryKind::Directory => KeptKind::Other(NodeKind::Directory { opaque: false }),
            EntryKind::Symlink => KeptKind::Other(NodeKind::Symlink(entry.link)),
            EntryKind::Fifo => KeptKind::Other(NodeKind::Fifo),
            EntryKind::CharDevice => KeptKind::Other(NodeKind::CharDevice { major: device.0, minor: device.1 }),
            EntryKind::BlockDevice => KeptKind::Other(NodeKind::BlockDevice { major: device.0, minor: device.1 }),
        };
        let (mode, mtime) = (entry.mode & 0o7777, entry.mtime.seconds);
        let metadata = Metadata { mode, uid: entry.uid, gid: entry.gid, mtime, xattrs: entry.xattrs };
        Ok(Kept { metadata, kind })
    }

    /// The files at the path, after all layers.
    ///
    /// # Errors
    /// When the image has no such path.
    pub fn finish(self) -> Result<ImagePass, ImageFilesError> {
        let link_at = |path: &LayerPath| Ok::<_, ImageFilesError>(self.link_at(path).map(<[u8]>::to_vec));
        let path = links::follow(&self.from, link_at)?.ok_or_else(|| ImageFilesError::Loop(self.from.clone()))?;
        if !self.is_kept(&path) {
            return Ok(ImagePass::Again([path].into()));
        }
        let inside: Vec<_> = self.below.iter().filter(|(other, _)| other.starts_with(&path)).collect();
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
        add_directories(&mut entries);
        Ok(ImagePass::Complete(ImageFiles { entries, contents: self.contents.map()? }))
    }
}

impl KeptKind {
    fn is_directory(&self) -> bool {
        matches!(self, Self::Other(NodeKind::Directory { .. }))
    }
}

/// `path` relative to the directory `above`.
fn relative(path: &LayerPath, above: &LayerPath) -> Result<LayerPath, PathError> {
    let rest = path.as_bytes().get(above.as_bytes().len()..).unwrap_or_default();
    LayerPath::new(rest.strip_prefix(b"/").unwrap_or(rest))
}

/// Adds the directories that the layers only imply.
fn add_directories(entries: &mut BTreeMap<LayerPath, Kept>) {
    let above = entries.keys().flat_map(LayerPath::ancestors).chain([LayerPath::root()]);
    let missing: BTreeSet<LayerPath> = above.filter(|path| !entries.contains_key(path)).collect();
    for path in missing {
        let kind = KeptKind::Other(NodeKind::Directory { opaque: false });
        entries.insert(path, Kept { metadata: Metadata::root(0o755, 0), kind });
    }
}

impl FileContents {
    /// Adds the body of a file, and returns its number.
    fn add(&mut self, entry: &TarEntry, body: &mut impl Read) -> Result<usize, ImageFilesError> {
        let start = self.len;
        // The length of a sparse file is a claim of the layer. Its parts lie inside the file.
        self.len = start.checked_add(entry.len()).filter(|len| *len < MAX_CONTENT).ok_or(ImageFilesError::TooLarge)?;
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

    fn copy(&mut self, mut at: u64, len: u64, body: &mut impl Read) -> Result<(), ImageFilesError> {
        let mut body = body.take(len);
        loop {
            let read = match body.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let written = self.file.write_all_at(&self.buffer[..read], at);
            written.map_err(|source| ImageFilesError::Scratch { directory: self.directory.clone(), source })?;
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
        Content::Slice { file: self.file.clone(), range: offset(start)..offset(end) }
    }
}

#[cfg(test)]
mod tests;
