//! The visible entries of the layers below, stacked as by overlayfs, without those that the layer on top hides.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::XattrSpace;
use super::metadata;
use super::root::RootDirectory;
use crate::links;
use crate::path::LayerPath;

/// The entry at a path.
pub(super) enum StackEntry {
    /// No entry; lower layers are visible.
    Absent,
    /// No entry; lower layers are hidden.
    Hidden,
    Directory(OwnedFd),
    Link(Vec<u8>),
    Other,
}

/// The visibility of a directory's content in one layer.
#[derive(Clone, Copy)]
enum DirectoryState {
    /// The directory exists. If it or a parent is opaque, it hides lower entries.
    There { hides: bool },
    /// As [`StackEntry::Absent`].
    Absent,
    /// As [`StackEntry::Hidden`].
    Hidden,
}

/// The layers below a new one.
pub(super) struct LayerStack {
    /// Topmost first.
    layers: Vec<RootDirectory>,
    /// Cached states of directories, for each layer: many paths share them.
    ways: RefCell<HashMap<LayerPath, Vec<Option<DirectoryState>>>>,
    /// The paths that the new layer hides.
    gone: BTreeSet<LayerPath>,
    /// Directories whose whole lower content the new layer hides.
    emptied: BTreeSet<LayerPath>,
}

impl LayerStack {
    /// The layers in these directories, topmost first.
    pub(super) fn open(directories: &[PathBuf], space: XattrSpace) -> Result<Self, Errno> {
        let mut layers = Vec::with_capacity(directories.len());
        for directory in directories {
            layers.push(RootDirectory::open(directory)?);
            if hides_all_below(directory, space)? {
                break;
            }
        }
        Ok(Self { layers, ways: RefCell::default(), gone: BTreeSet::new(), emptied: BTreeSet::new() })
    }

    /// The visible entry at `path`.
    pub(super) fn find(&self, path: &LayerPath) -> Result<StackEntry, Errno> {
        if self.is_hidden(path) {
            return Ok(StackEntry::Hidden);
        }
        for n in 0..self.layers.len() {
            match self.look(n, path)? {
                StackEntry::Absent => {}
                found => return Ok(found),
            }
        }
        Ok(StackEntry::Absent)
    }

    /// `path` with links followed; `None` for a loop of links.
    pub(super) fn follow(&self, path: &LayerPath) -> Result<Option<LayerPath>, Errno> {
        links::follow(path, |path| match self.find(path)? {
            StackEntry::Link(target) => Ok(Some(target)),
            _ => Ok(None),
        })
    }

    /// Hides the entry at `path`, if there is one.
    pub(super) fn hide(&mut self, path: LayerPath) -> Result<(), Errno> {
        if !matches!(self.find(&path)?, StackEntry::Absent | StackEntry::Hidden) {
            self.gone.insert(path);
        }
        Ok(())
    }

    /// Hides the content of the directory at `path`, if there is one.
    pub(super) fn empty(&mut self, path: LayerPath) -> Result<(), Errno> {
        if matches!(self.find(&path)?, StackEntry::Directory(_)) {
            self.emptied.insert(path);
        }
        Ok(())
    }

    /// The hidden paths, and the directories with hidden content; without paths that a hidden parent includes.
    pub(super) fn hidden(&self) -> (Vec<LayerPath>, Vec<LayerPath>) {
        let outermost = |paths: &BTreeSet<LayerPath>| {
            paths.iter().filter(|path| !self.is_hidden_with_its_directory(path)).cloned().collect()
        };
        (outermost(&self.gone), outermost(&self.emptied))
    }

    fn is_hidden(&self, path: &LayerPath) -> bool {
        self.gone.contains(path) || self.is_hidden_with_its_directory(path)
    }

    fn is_hidden_with_its_directory(&self, path: &LayerPath) -> bool {
        let mut above = std::iter::successors(path.parent(), LayerPath::parent);
        above.any(|path| self.gone.contains(&path) || self.emptied.contains(&path))
    }

    /// The entry of layer `n` at `path`.
    fn look(&self, n: usize, path: &LayerPath) -> Result<StackEntry, Errno> {
        let layer = &self.layers[n];
        let hides = match path.parent().map(|parent| self.way(n, &parent)).transpose()? {
            None => return Ok(StackEntry::Directory(layer.directory(&[])?)),
            Some(DirectoryState::There { hides }) => hides,
            Some(DirectoryState::Absent) => return Ok(StackEntry::Absent),
            Some(DirectoryState::Hidden) => return Ok(StackEntry::Hidden),
        };
        Ok(match layer.stat(path)? {
            None if hides => StackEntry::Hidden,
            None => StackEntry::Absent,
            Some(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => StackEntry::Directory(layer.directory(path.as_bytes())?),
                FileType::Symlink => StackEntry::Link(layer.read_link(path)?),
                FileType::CharacterDevice if stat.st_rdev == 0 => StackEntry::Hidden,
                _ => StackEntry::Other,
            },
        })
    }

    /// The visibility of the content of the directory `path` in layer `n`.
    fn way(&self, n: usize, path: &LayerPath) -> Result<DirectoryState, Errno> {
        if let Some(Some(way)) = self.ways.borrow().get(path).map(|ways| ways[n]) {
            return Ok(way);
        }
        let above = match path.parent() {
            Some(parent) => self.way(n, &parent)?,
            None => DirectoryState::There { hides: false },
        };
        let way = match above {
            DirectoryState::There { hides } => match self.look(n, path)? {
                StackEntry::Directory(here) => {
                    DirectoryState::There { hides: hides || metadata::is_opaque(here, &XattrSpace::ALL) }
                }
                StackEntry::Absent => DirectoryState::Absent,
                _ => DirectoryState::Hidden,
            },
            nowhere => nowhere,
        };
        let ways = &mut *self.ways.borrow_mut();
        ways.entry(path.clone()).or_insert_with(|| vec![None; self.layers.len()])[n] = Some(way);
        Ok(way)
    }
}

/// Whether the layer in `directory` has an opaque root, which overlayfs ignores.
///
/// # Errors
/// When the directory cannot be opened.
pub(super) fn hides_all_below(directory: &Path, space: XattrSpace) -> Result<bool, Errno> {
    Ok(metadata::is_opaque(RootDirectory::open(directory)?.place()?.fd, &[space]))
}
