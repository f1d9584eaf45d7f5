//! A tree from a tar archive.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::decompress::{CompressionFormat, decompress};
pub use crate::entries::Malformed;
use crate::entries::{EntriesError, EntryKind, Sparse, TarEntries, TarEntry};
use crate::hardlinks::{self, Links};
use crate::mapped::MappedFile;
use crate::owner;
use crate::path::{LayerPath, PathError, shown};
use crate::regular::open_regular;
use crate::tree::{Content, LayerTree, Metadata, NodeKind, TreeError, TreeNode};
use crate::whiteout::{self, Meaning};

/// The options of reading an archive.
#[derive(Debug, Clone, Copy)]
pub struct TarOptions<'a> {
    /// A directory for temporary files: decompressed archives and sparse files. No file stays in it.
    pub scratch: &'a Path,
    /// Later modification times become this one, seconds since 1970.
    pub latest: Option<i64>,
}

/// The number of members after which the memory of their pages is released.
const RELEASE: usize = 512;

/// An error of adding an archive to a layer.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {}{} into a layer", archive.display(), member.as_ref().map(|m| format!(", `{m}`")).unwrap_or_default())]
pub struct TarError {
    /// The archive.
    pub archive: PathBuf,
    /// The faulty member, if the fault is in a member.
    pub member: Option<String>,
    /// The cause.
    #[source]
    pub cause: TarCause,
}

/// The cause of the error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarCause {
    /// The archive cannot be read or decompressed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The directory for temporary files is full or not writable.
    #[error("cannot write its content to {}", directory.display())]
    Scratch {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a tar archive, or a damaged one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A name that no file of a layer can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries that conflict.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A symbolic link with an empty target.
    #[error("it is a symbolic link whose target is empty or has a NUL byte")]
    Link,
    /// A device without numbers.
    #[error("it is a device without a number")]
    Device,
    /// An owner or group above the limit of the system.
    #[error("its owner is {0}, which is above the limit of user ids")]
    Owner(u64),
}

impl TarError {
    /// The hint for the user, if any.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.cause {
            TarCause::Io(error) if error.kind() == io::ErrorKind::NotFound => return None,
            TarCause::Io(error) if error.raw_os_error().is_some() => return None,
            TarCause::Malformed(Malformed::NotTar) => {
                "use a tar archive, plain or compressed with gzip, bzip2, xz or zstd; `copy` copies other files"
            }
            TarCause::Io(_) | TarCause::Malformed(_) => "the archive is damaged: get it or create it again",
            TarCause::Scratch { .. } => "free some space, or choose another directory with --store",
            TarCause::Path(_) | TarCause::Tree(_) | TarCause::Link | TarCause::Device | TarCause::Owner(_) => {
                "create the archive again without this entry"
            }
        })
    }
}

/// Reads a tar archive, plain or compressed with gzip, bzip2, xz or zstd, detected by its first bytes.
///
/// Keeps modes, numeric owners, times, extended attributes, devices and links; drops an entry for the root directory.
/// The later of two entries with one name counts. Whiteouts are read as whiteouts. Content stays in the mapped archive;
/// a compressed archive is first decompressed to an unnamed file.
///
/// The tree does not depend on the order of the archive: of several links to one file, the first by name is the file.
///
/// # Errors
/// When the archive cannot be read, is damaged, or has entries that are invalid in a layer.
pub fn read_tar(path: &Path, options: &TarOptions<'_>) -> Result<LayerTree, TarError> {
    let failed = |cause| TarError { archive: path.into(), member: None, cause };
    let file = map(path, options.scratch).map_err(failed)?;
    let mut entries = TarEntries::new(&file[..]);
    let mut taking = TarTreeBuilder {
        file: &file,
        options,
        tree: LayerTree::new(),
        links: Links::default(),
        gone: BTreeSet::new(),
        opaque: BTreeSet::new(),
    };
    for n in 1.. {
        let Some(entry) = entries.next_entry().map_err(|error| failed(error.into()))? else { break };
        if n % RELEASE == 0 {
            file.release();
        }
        let body = range(entries.position(), entry.body, &file).map_err(|cause| failed(cause.into()))?;
        let name = shown(&entry.name);
        taking.take(entry, body).map_err(|cause| TarError { member: Some(name), ..failed(cause) })?;
    }
    if !entries.ended() {
        return Err(failed(Malformed::CutOff(entries.position()).into()));
    }
    taking.finish().map_err(|cause| failed(cause.into()))
}

/// The range of the body at `start`.
fn range(start: u64, len: u64, file: &MappedFile) -> Result<Range<usize>, Malformed> {
    let place = usize::try_from(start).ok().zip(usize::try_from(len).ok());
    let range = place.and_then(|(start, len)| Some(start..start.checked_add(len)?));
    range.filter(|range| range.end <= file.len()).ok_or(Malformed::CutOff(file.len() as u64))
}

/// Maps the archive, decompressed.
fn map(path: &Path, scratch: &Path) -> Result<MappedFile, TarCause> {
    let file = open_regular(path)?;
    let mut beginning = [0; 6];
    let len = file.read_at(&mut beginning, 0)?;
    if CompressionFormat::of(&beginning[..len]) == CompressionFormat::Plain {
        return Ok(MappedFile::of(&file, path)?);
    }
    let unwritten = |source| TarCause::Scratch { directory: scratch.into(), source };
    let mut inflated = tempfile::tempfile_in(scratch).map_err(unwritten)?;
    let mut reader = decompress(BufReader::with_capacity(64 << 10, file))?;
    copy(&mut reader, &mut inflated).map_err(|(side, error)| match side {
        Side::Reading => TarCause::Io(error),
        Side::Writing => unwritten(error),
    })?;
    Ok(MappedFile::of(&inflated, path)?)
}

enum Side {
    Reading,
    Writing,
}

/// As `io::copy`, but distinguishes errors of the two sides.
fn copy(reader: &mut dyn Read, file: &mut File) -> Result<(), (Side, io::Error)> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => file.write_all(&buffer[..len]).map_err(|error| (Side::Writing, error))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((Side::Reading, error)),
        }
    }
}

/// The state of reading members into a tree.
struct TarTreeBuilder<'a> {
    file: &'a MappedFile,
    options: &'a TarOptions<'a>,
    tree: LayerTree,
    links: Links,
    /// The whiteouts.
    gone: BTreeSet<LayerPath>,
    /// The opaque directories.
    opaque: BTreeSet<LayerPath>,
}

impl TarTreeBuilder<'_> {
    fn take(&mut self, entry: TarEntry, body: Range<usize>) -> Result<(), TarCause> {
        let path = match whiteout::read(LayerPath::new(&entry.name)?)? {
            Meaning::Entry(path) => path,
            Meaning::Whiteout(path) => {
                self.gone.insert(path);
                return Ok(());
            }
            Meaning::Opaque(path) => {
                self.opaque.insert(path);
                return Ok(());
            }
        };
        if path.is_root() {
            return match entry.kind {
                EntryKind::Directory => Ok(()),
                _ => Err(PathError::Unusable(String::from_utf8_lossy(&entry.name).into_owned()).into()),
            };
        }
        if let Some(id) = [entry.uid, entry.gid].into_iter().find(|id| owner::id(*id).is_none()) {
            return Err(TarCause::Owner(id));
        }
        let mut metadata = entry.metadata();
        metadata.mtime = metadata.mtime.min(self.options.latest.unwrap_or(i64::MAX));
        let kind = self.kind(entry, body)?;
        self.links.before_replacing(&path, &mut self.tree)?;
        if let NodeKind::Hardlink(target) = &kind {
            self.links.add(path.clone(), target.clone());
        }
        Ok(self.tree.insert(path, TreeNode { metadata, kind })?)
    }

    fn kind(&self, entry: TarEntry, body: Range<usize>) -> Result<NodeKind, TarCause> {
        let device = entry.device.ok_or(TarCause::Device);
        Ok(match entry.kind {
            EntryKind::Directory => NodeKind::Directory { opaque: false },
            EntryKind::Symlink if entry.link.is_empty() || entry.link.contains(&0) => return Err(TarCause::Link),
            EntryKind::Symlink => NodeKind::Symlink(entry.link),
            EntryKind::Hardlink => NodeKind::Hardlink(self.links.target(LayerPath::new(&entry.link)?, &self.tree)),
            EntryKind::Fifo => NodeKind::Fifo,
            EntryKind::CharDevice => device.map(|(major, minor)| NodeKind::CharDevice { major, minor })?,
            EntryKind::BlockDevice => device.map(|(major, minor)| NodeKind::BlockDevice { major, minor })?,
            EntryKind::Regular => NodeKind::File(self.content(entry.sparse, body)?),
        })
    }

    fn content(&self, sparse: Option<Sparse>, body: Range<usize>) -> Result<Content, TarCause> {
        let Some(sparse) = sparse else {
            return Ok(Content::Slice { file: self.file.clone(), range: body, sha256: None });
        };
        let whole = expand(&sparse, &self.file[body], self.options.scratch);
        let directory = self.options.scratch.into();
        let file = whole.map_err(|source| TarCause::Scratch { directory, source })?;
        let range = 0..file.len();
        Ok(Content::Slice { file, range, sha256: None })
    }

    fn finish(mut self) -> Result<LayerTree, TreeError> {
        hardlinks::normalize(&mut self.tree)?;
        let made = Metadata::root(0o755, self.options.latest.unwrap_or(0));
        for path in self.gone {
            // A whiteout beside an entry of the same name hides the content of the lower entry.
            let whiteout = TreeNode { metadata: made.clone(), kind: NodeKind::Whiteout };
            let directory = match self.tree.get(&path) {
                Some(node) => matches!(node.kind, NodeKind::Directory { .. }),
                None => match self.tree.insert(path.clone(), whiteout) {
                    Err(TreeError::IsADirectory(_)) => true,
                    outcome => outcome.map(|()| false)?,
                },
            };
            if directory {
                self.opaque.insert(path);
            }
        }
        for path in self.opaque {
            let metadata = match self.tree.get(&path) {
                Some(TreeNode { kind: NodeKind::Directory { .. }, metadata }) => metadata.clone(),
                Some(_) => return Err(TreeError::NotADirectory { path: path.clone(), above: path }),
                None => made.clone(),
            };
            self.tree.insert(path, TreeNode { metadata, kind: NodeKind::Directory { opaque: true } })?;
        }
        Ok(self.tree)
    }
}

/// Expands a sparse file, including holes, to an unnamed file in the directory `scratch`, where holes take no space.
fn expand(sparse: &Sparse, mut body: &[u8], scratch: &Path) -> io::Result<MappedFile> {
    let file = tempfile::tempfile_in(scratch)?;
    file.set_len(sparse.len)?;
    for stretch in &sparse.stretches {
        let len = usize::try_from(stretch.len).unwrap_or(usize::MAX).min(body.len());
        let (part, rest) = body.split_at(len);
        file.write_all_at(part, stretch.at)?;
        body = rest;
    }
    MappedFile::of(&file, scratch)
}

impl From<EntriesError> for TarCause {
    fn from(error: EntriesError) -> Self {
        match error {
            EntriesError::Read(error) => Self::Io(error),
            EntriesError::Malformed(error) => Self::Malformed(error),
        }
    }
}

#[cfg(test)]
mod tests;
