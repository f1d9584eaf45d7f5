//! The changes of a directory as a tree: for steps in a plain copy, without an overlay.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::Timespec;

use super::capture::files::{CapturedFile, Files, Marks};
pub use super::capture::{CaptureError, CaptureOptions};
use crate::owner::{self, FileIdentity};
use crate::path::LayerPath;
use crate::tree::{LayerTree, Metadata};
use crate::unpack::metadata;

/// The state of a directory before a step.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The content of every directory.
    directories: BTreeMap<LayerPath, BTreeMap<Vec<u8>, FileState>>,
    /// The directory itself.
    top: Option<FileState>,
}

/// The state of one file.
#[derive(Debug, Clone)]
struct FileState {
    identity: FileIdentity,
    /// The last change of the file (ctime): seconds and nanoseconds. No step can set it.
    changed: (i64, u64),
    /// The metadata of a directory in the layers, and its time.
    directory: Option<(Metadata, Timespec)>,
}

/// The resolution of the clock of file times.
const TICK: Duration = Duration::from_millis(12);

/// Records the state of `root`; `owners` are as in [`CaptureOptions`].
///
/// # Errors
/// When a file in it cannot be read.
pub fn snapshot(
    root: &Path,
    owners: Option<&owner::OwnershipTable>,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Snapshot, CaptureError> {
    let options = CaptureOptions { latest: i64::MAX, owners, made: &[], restored: &[], cancelled };
    let files = Files::new(root, options, Marks::None)?;
    let mut snapshot = Snapshot { directories: BTreeMap::new(), top: None };
    let mut ahead = vec![LayerPath::root()];
    while let Some(directory) = ahead.pop() {
        let (place, names) = files.enter(&directory)?;
        if directory.is_root() {
            let found = CapturedFile::new(place.fd.as_fd(), b".", directory.clone())?;
            snapshot.top = found.map(|found| FileState::of(&found, &options)).transpose()?;
        }
        let mut states = BTreeMap::new();
        for name in names {
            // Files that a layer cannot have are permitted unless they change.
            let path = directory.join(&name)?;
            let Some(found) = CapturedFile::new(place.fd.as_fd(), &name, path.clone())? else { continue };
            states.insert(name.clone(), FileState::of(&found, &options)?);
            if found.is_directory() {
                ahead.push(path);
            }
        }
        snapshot.directories.insert(directory, states);
    }
    // Later changes of the step have another time.
    thread::sleep(TICK);
    Ok(snapshot)
}

impl FileState {
    fn of(found: &CapturedFile<'_>, options: &CaptureOptions<'_>) -> Result<Self, CaptureError> {
        let directory = found.is_directory().then(|| found.metadata(options)).transpose()?;
        Ok(Self {
            identity: found.identity()?,
            changed: (found.stat.st_ctime, found.stat.st_ctime_nsec),
            directory: directory.map(|(metadata, _)| (metadata, metadata::modified(&found.stat))),
        })
    }
}

/// The tree of the changes in `root` since `before`.
///
/// The tree refers to the content of files in `root`, which must exist until the tree is packed. If names of a file
/// were added or removed, its other names are in the tree, too.
///
/// # Errors
/// When a file cannot be read or is invalid in a layer.
pub fn changes(root: &Path, before: &Snapshot, options: &CaptureOptions<'_>) -> Result<LayerTree, CaptureError> {
    let mut walk = ChangesWalk { files: Files::new(root, *options, Marks::None)?, before, ahead: Vec::new() };
    walk.top()?;
    while let Some((path, below)) = walk.ahead.pop() {
        walk.directory(&path, below)?;
    }
    walk.files.finish()
}

struct ChangesWalk<'a> {
    files: Files<'a>,
    before: &'a Snapshot,
    /// Directories to walk, and whether they existed before.
    ahead: Vec<(LayerPath, bool)>,
}

impl ChangesWalk<'_> {
    fn top(&mut self) -> Result<(), CaptureError> {
        let path = LayerPath::root();
        let (place, _) = self.files.enter(&path)?;
        let Some(found) = CapturedFile::new(place.fd.as_fd(), b".", path)? else { return Ok(()) };
        self.found_directory(&found, self.before.top.as_ref())
    }

    /// Captures the changes in the directory at `path`.
    fn directory(&mut self, path: &LayerPath, below: bool) -> Result<(), CaptureError> {
        let before = self.before.directories.get(path).filter(|_| below);
        let (place, names) = self.files.enter(path)?;
        let gone = before.iter().flat_map(|before| before.keys()).filter(|name| names.binary_search(name).is_err());
        for name in gone {
            self.files.whiteout(self.files.path(path, name)?)?;
        }
        for name in &names {
            let was = before.and_then(|before| before.get(name));
            let Some(found) = CapturedFile::new(place.fd.as_fd(), name, path.join(name)?)? else { continue };
            if found.is_directory() {
                self.found_directory(&found, was)?;
            } else if !was.map(|was| was.is_still(&found)).transpose()?.unwrap_or(false) {
                self.files.path(path, name)?;
                self.files.file(&found, was.is_some())?;
            }
        }
        Ok(())
    }

    /// Captures a directory, unless only its content changed, and walks it.
    fn found_directory(&mut self, found: &CapturedFile<'_>, was: Option<&FileState>) -> Result<(), CaptureError> {
        let before = was.and_then(|was| was.directory.as_ref().map(|directory| (was, directory)));
        let below = match before {
            Some((was, (metadata, time))) if was.identity == found.identity()? => {
                self.files.directory_since(found, metadata, *time)?;
                true
            }
            // A new directory of the same name: the old content is removed.
            before => {
                self.files.path(&found.path.parent().unwrap_or_default(), found.path.file_name())?;
                self.files.directory(found, before.is_some())?;
                false
            }
        };
        self.ahead.push((found.path.clone(), below));
        Ok(())
    }
}

impl FileState {
    /// Whether it is the same unchanged file.
    fn is_still(&self, found: &CapturedFile<'_>) -> Result<bool, CaptureError> {
        let changed = (found.stat.st_ctime, found.stat.st_ctime_nsec);
        Ok(self.directory.is_none() && self.changed == changed && self.identity == found.identity()?)
    }
}

#[cfg(test)]
mod tests;
