//! What the layers below show, as overlayfs will stack them, without what the layer on top hides.

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
    /// Nothing, and nothing that hides what is below.
    Absent,
    /// Nothing, and what is below cannot be seen.
    Hidden,
    Directory(OwnedFd),
    Link(Vec<u8>),
    Other,
}

/// What the way to what is inside a directory comes to in one layer.
#[derive(Clone, Copy)]
enum DirectoryState {
    /// The directory is there. What it lacks is hidden below where it, or one above it, is opaque.
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
    /// Ways that were gone already, in each of the layers: many paths share them.
    ways: RefCell<HashMap<LayerPath, Vec<Option<DirectoryState>>>>,
    /// What the new layer hides.
    gone: BTreeSet<LayerPath>,
    /// Directories in which the new layer hides everything.
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

    /// What they show at `path`.
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

    /// Where `path` leads; `None` for a loop of links.
    pub(super) fn follow(&self, path: &LayerPath) -> Result<Option<LayerPath>, Errno> {
        links::follow(path, |path| match self.find(path)? {
            StackEntry::Link(target) => Ok(Some(target)),
            _ => Ok(None),
        })
    }

    /// Hides what is at `path` from now on, if something is.
    pub(super) fn hide(&mut self, path: LayerPath) -> Result<(), Errno> {
        if !matches!(self.find(&path)?, StackEntry::Absent | StackEntry::Hidden) {
            self.gone.insert(path);
        }
        Ok(())
    }

    /// Hides what is inside the directory at `path` from now on, if there is one.
    pub(super) fn empty(&mut self, path: LayerPath) -> Result<(), Errno> {
        if matches!(self.find(&path)?, StackEntry::Directory(_)) {
            self.emptied.insert(path);
        }
        Ok(())
    }

    /// What is hidden, and the directories in which everything is; not what is hidden with a directory that it is in.
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

    /// What layer `n` has at `path`.
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

    /// The way to what is inside the directory `path` in layer `n`.
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

/// Whether the layer in `directory` has an opaque root. Overlayfs looks for that in all directories but this one.
///
/// # Errors
/// When the directory cannot be opened.
pub(super) fn hides_all_below(directory: &Path, space: XattrSpace) -> Result<bool, Errno> {
    Ok(metadata::is_opaque(RootDirectory::open(directory)?.place()?.fd, &[space]))
}
