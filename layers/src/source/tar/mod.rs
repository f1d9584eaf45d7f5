//! A tar archive becomes a tree.

mod links;
mod member;
mod sparse;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ::tar::EntryType;

use self::links::Links;
pub use self::member::Malformed;
use self::member::{Member, Members};
use crate::decompress::{Format, decompress};
use crate::mapped::MappedFile;
use crate::path::{LayerPath, PathError};
use crate::tree::{Content, LayerTree, Metadata, Node, NodeKind, TreeError};
use crate::whiteout::{self, Meaning};

/// How an archive is taken.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// A directory for what must be written to disk: compressed archives and sparse files. Nothing is left in it.
    pub scratch: &'a Path,
    /// Later modification times become this one, seconds since 1970.
    pub latest: Option<i64>,
}

/// After so many members the memory of their pages is given back.
const RELEASE: usize = 512;

/// An archive can't be taken into a layer.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {}{} into a layer", archive.display(), member.as_ref().map(|m| format!(", `{m}`")).unwrap_or_default())]
pub struct TarError {
    /// The archive.
    pub archive: PathBuf,
    /// The member that is at fault, where one is.
    pub member: Option<String>,
    /// Why.
    #[source]
    pub cause: TarCause,
}

/// Why an archive can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum TarCause {
    /// It could not be read, or not be decompressed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no room for what it holds, or the directory for this can't be written.
    #[error("cannot write its content to {}", directory.display())]
    Scratch {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no tar archive, or a damaged one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A name that no file of a layer can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries that contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A symbolic link to nothing.
    #[error("it is a symbolic link with an empty target, or one with a NUL byte")]
    Link,
    /// A device without numbers.
    #[error("it is a device without a number")]
    Device,
}

/// Reads a tar archive, plain or compressed with gzip, bzip2, xz or zstd, told apart by its first bytes.
///
/// Modes, numeric owners, times, extended attributes, devices and links are kept as they are; an entry for the root
/// directory is dropped. Of two entries of one name the later one counts. Whiteouts are read as such. Content stays in
/// the archive, which is mapped; a compressed one is decompressed to an unnamed file first.
///
/// The tree does not depend on the order of the archive: of several links to one file, the first by name is the file.
///
/// # Errors
/// When the archive can't be read, is damaged, or has entries that can't be in a layer.
pub fn read_tar(path: &Path, options: &Options<'_>) -> Result<LayerTree, TarError> {
    let failed = |cause| TarError { archive: path.into(), member: None, cause };
    let file = map(path, options.scratch).map_err(failed)?;
    let mut members = Members::new(&file);
    let mut taking = Taking {
        file: &file,
        options,
        tree: LayerTree::new(),
        links: Links::default(),
        gone: BTreeSet::new(),
        opaque: BTreeSet::new(),
    };
    for n in 1.. {
        let Some(member) = members.next().map_err(|cause| failed(cause.into()))? else { break };
        if n % RELEASE == 0 {
            file.release();
        }
        let name = String::from_utf8_lossy(&member.name).into_owned();
        taking.take(member).map_err(|cause| TarError { member: Some(name), ..failed(cause) })?;
    }
    taking.finish().map_err(|cause| failed(cause.into()))
}

/// Maps the archive, decompressed.
fn map(path: &Path, scratch: &Path) -> Result<MappedFile, TarCause> {
    let file = File::open(path)?;
    let mut beginning = [0; 6];
    let len = file.read_at(&mut beginning, 0)?;
    if Format::of(&beginning[..len]) == Format::Plain {
        return Ok(MappedFile::of(&file, path)?);
    }
    let unwritten = |source| TarCause::Scratch { directory: scratch.into(), source };
    let mut inflated = tempfile::tempfile_in(scratch).map_err(unwritten)?;
    let mut reader = decompress(file)?;
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

/// Like `io::copy`, but tells on which side it failed.
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

/// Members on their way into a tree.
struct Taking<'a> {
    file: &'a MappedFile,
    options: &'a Options<'a>,
    tree: LayerTree,
    links: Links,
    /// What whiteouts say is gone.
    gone: BTreeSet<LayerPath>,
    /// Directories whose content in lower layers is gone.
    opaque: BTreeSet<LayerPath>,
}

impl Taking<'_> {
    fn take(&mut self, member: Member) -> Result<(), TarCause> {
        let path = match whiteout::read(LayerPath::new(&member.name)?)? {
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
            return match member.kind {
                EntryType::Directory => Ok(()),
                _ => Err(PathError::Unusable(String::from_utf8_lossy(&member.name).into_owned()).into()),
            };
        }
        let metadata = Metadata {
            mode: member.mode & 0o7777,
            uid: member.uid,
            gid: member.gid,
            mtime: self.options.latest.map_or(member.mtime, |latest| member.mtime.min(latest)),
            xattrs: member.xattrs.clone(),
        };
        let kind = self.kind(member)?;
        self.links.before_replacing(&path, &mut self.tree)?;
        if let NodeKind::Hardlink(target) = &kind {
            self.links.add(path.clone(), target.clone());
        }
        Ok(self.tree.insert(path, Node { metadata, kind })?)
    }

    fn kind(&self, member: Member) -> Result<NodeKind, TarCause> {
        let device = member.device.ok_or(TarCause::Device);
        Ok(match member.kind {
            EntryType::Directory => NodeKind::Directory { opaque: false },
            EntryType::Symlink if member.link.is_empty() || member.link.contains(&0) => return Err(TarCause::Link),
            EntryType::Symlink => NodeKind::Symlink(member.link),
            EntryType::Link => NodeKind::Hardlink(self.links.target(LayerPath::new(&member.link)?, &self.tree)),
            EntryType::Fifo => NodeKind::Fifo,
            EntryType::Char => device.map(|(major, minor)| NodeKind::CharDevice { major, minor })?,
            EntryType::Block => device.map(|(major, minor)| NodeKind::BlockDevice { major, minor })?,
            _ => NodeKind::File(self.content(member)?),
        })
    }

    fn content(&self, member: Member) -> Result<Content, TarCause> {
        let Some(sparse) = member.sparse else {
            return Ok(Content::Slice { file: self.file.clone(), range: member.content });
        };
        let whole = sparse.expand(&self.file[member.content], self.options.scratch);
        let directory = self.options.scratch.into();
        let file = whole.map_err(|source| TarCause::Scratch { directory, source })?;
        let range = 0..file.len();
        Ok(Content::Slice { file, range })
    }

    fn finish(mut self) -> Result<LayerTree, TreeError> {
        links::settle(&mut self.tree)?;
        let made = Metadata::root(0o755, self.options.latest.unwrap_or(0));
        for path in self.gone {
            // Beside an entry of the same name a whiteout says that nothing of what was there shows through.
            let whiteout = Node { metadata: made.clone(), kind: NodeKind::Whiteout };
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
                Some(Node { kind: NodeKind::Directory { .. }, metadata }) => metadata.clone(),
                Some(_) => return Err(TreeError::NotADirectory { path: path.clone(), above: path }),
                None => made.clone(),
            };
            self.tree.insert(path, Node { metadata, kind: NodeKind::Directory { opaque: true } })?;
        }
        Ok(self.tree)
    }
}

#[cfg(test)]
mod tests;
