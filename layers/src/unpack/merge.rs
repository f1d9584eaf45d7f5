//! Applying an unpacked layer to the layers below (image-spec, layer.md, "Applying Changesets").

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, Stat, chmodat, fchmod, fstat, futimens, renameat};
use rustix::io::Errno;

use super::error::{UnpackError, UnpackFault, cannot};
use super::root::{self, Missing, OpenDirectory, ResolvedPath, RootDirectory};
use super::{Unpacked, metadata, unusable};
use crate::path::LayerPath;

/// Moves the unpacked layer in the directory `layer`, whose whiteouts are listed in `unpacked`, onto `root`, which has
/// the layers below and is on the same filesystem.
///
/// First removes the paths hidden by whiteouts and opaque directories. Then a directory merges with an existing one and
/// sets its metadata, unless it is implied; any other entry replaces the existing one. If an implied directory meets a
/// symbolic link, the link is followed inside `root`. Directories whose metadata the layer does not set keep their
/// times. `layer` then has only directories.
///
/// # Errors
/// When an implied directory meets a file or a loop of links, or files cannot be moved. `root` is then incomplete.
pub fn merge(layer: &Path, unpacked: &Unpacked, root: &Path) -> Result<(), UnpackError> {
    let open = |path: &Path| RootDirectory::open(path).map_err(unusable(path));
    let merge = Merge { layer: open(layer)?, root: open(root)?, implied: &unpacked.implied };
    for path in &unpacked.whiteouts {
        merge.hide(path).map_err(at(path))?;
    }
    for path in &unpacked.opaque {
        merge.hide_inside(path).map_err(at(path))?;
    }
    let top = LayerPath::root();
    let place = |root: &RootDirectory| root.place().map_err(cannot(OPEN)).map_err(at(&top));
    merge.directory(place(&merge.layer)?.fd.as_fd(), &place(&merge.root)?, &top)
}

const OPEN: &str = "open the directory";
const MOVE: &str = "move it";
const REMOVE: &str = "remove what the layer hides";

struct Merge<'a> {
    layer: RootDirectory,
    root: RootDirectory,
    /// Sorted.
    implied: &'a [LayerPath],
}

impl Merge<'_> {
    /// Whether no entry of the layer sets the directory's metadata.
    fn is_implied(&self, path: &LayerPath) -> bool {
        self.implied.binary_search(path).is_ok()
    }

    /// The directory of the root at `path`, with links followed, if there is one.
    fn below(&self, path: &LayerPath) -> Result<Option<OpenDirectory>, UnpackFault> {
        match self.root.walk(path, Missing::Stop) {
            Ok(ResolvedPath::There(place)) => Ok(Some(place)),
            Ok(ResolvedPath::Missing(_)) | Err(UnpackFault::NotADirectory(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn hide(&self, path: &LayerPath) -> Result<(), UnpackFault> {
        let Some(parent) = self.below(&path.parent().unwrap_or_default())? else { return Ok(()) };
        change(&parent, || root::remove(parent.fd.as_fd(), path.file_name()))
    }

    fn hide_inside(&self, path: &LayerPath) -> Result<(), UnpackFault> {
        let Some(directory) = self.below(path)? else { return Ok(()) };
        let named = !self.is_implied(path) && self.layer.directory(path.as_bytes()).is_ok();
        if named && directory.path.file_name() != path.file_name() {
            // The layer's directory replaces the link; the target of the link stays.
            return Ok(());
        }
        change(&directory, || root::empty(directory.fd.as_fd()))
    }

    /// Moves the content of the layer's directory `from`, at `path` in the layer, into `to`.
    fn directory(&self, from: BorrowedFd<'_>, to: &OpenDirectory, path: &LayerPath) -> Result<(), UnpackError> {
        let failed = |what: &'static str| {
            let path = path.clone();
            move |error: Errno| UnpackError::Merge { path, fault: cannot(what)(error) }
        };
        let (new, before) = (fstat(from).map_err(failed(OPEN))?, fstat(&to.fd).map_err(failed(OPEN))?);
        open_up(to, &before).map_err(failed(MOVE))?;
        for name in root::names(from).map_err(failed(OPEN))? {
            let child = path.join(&name).map_err(|error| at(path)(error.into()))?;
            self.child(from, to, &name, &child)?;
        }
        if !self.is_implied(path) {
            return metadata::copy(from, &new, to.fd.as_fd()).map_err(failed("set the directory's metadata"));
        }
        restore(to, &before).map_err(failed(MOVE))
    }

    fn child(
        &self,
        from: BorrowedFd<'_>,
        to: &OpenDirectory,
        name: &[u8],
        path: &LayerPath,
    ) -> Result<(), UnpackError> {
        let stat = |directory| root::stat(directory, name).map_err(cannot(MOVE)).map_err(at(path));
        let Some(new) = stat(from)? else { return Ok(()) };
        let old = stat(to.fd.as_fd())?;
        match old.as_ref().map(kind) {
            Some(FileType::Directory) if root::is_directory(&new) => {
                let place = self.joined(to, name).map_err(at(path))?;
                self.descend(from, &place, name, path)
            }
            Some(FileType::Symlink) if root::is_directory(&new) && self.is_implied(path) => {
                self.through_link(from, to, name, path)
            }
            Some(other) if root::is_directory(&new) && self.is_implied(path) => {
                debug_assert_ne!(other, FileType::Directory);
                let there = to.path.join(name).unwrap_or_default();
                Err(at(path)(UnpackFault::NotADirectory(there)))
            }
            old => replace(from, to, name, &new, old).map_err(cannot(MOVE)).map_err(at(path)),
        }
    }

    fn joined(&self, to: &OpenDirectory, name: &[u8]) -> Result<OpenDirectory, UnpackFault> {
        let path = to.path.join(name)?;
        root::check(&path)?;
        Ok(OpenDirectory { fd: root::open(to.fd.as_fd(), name).map_err(cannot(OPEN))?, path })
    }

    fn descend(
        &self,
        from: BorrowedFd<'_>,
        to: &OpenDirectory,
        name: &[u8],
        path: &LayerPath,
    ) -> Result<(), UnpackError> {
        let from = root::open(from, name).map_err(cannot(OPEN)).map_err(at(path))?;
        self.directory(from.as_fd(), to, path)
    }

    /// The directory of the root that the link `name` in `to` leads to, created if it is missing.
    fn through_link(
        &self,
        from: BorrowedFd<'_>,
        to: &OpenDirectory,
        name: &[u8],
        path: &LayerPath,
    ) -> Result<(), UnpackError> {
        let link = to.path.join(name).map_err(|error| at(path)(error.into()))?;
        let mut made = Vec::new();
        let place = match self.root.walk(&link, Missing::Make(&mut made)).map_err(at(path))? {
            ResolvedPath::There(place) => place,
            ResolvedPath::Missing(there) => return Err(at(path)(UnpackFault::NotADirectory(there))),
        };
        self.descend(from, &place, name, path)?;
        for directory in made.iter().rev() {
            let directory = self.root.directory(directory.as_bytes()).map_err(cannot(OPEN)).map_err(at(path))?;
            metadata::set_implied(directory.as_fd()).map_err(at(path))?;
        }
        Ok(())
    }
}

/// Moves `name`, and replaces an existing entry.
fn replace(
    from: BorrowedFd<'_>,
    to: &OpenDirectory,
    name: &[u8],
    new: &Stat,
    old: Option<FileType>,
) -> rustix::io::Result<()> {
    if old.is_some_and(|old| old == FileType::Directory || root::is_directory(new)) {
        root::remove(to.fd.as_fd(), name)?;
    }
    match renameat(from, name, &to.fd, name) {
        // Without privileges, a directory that is not writable cannot be moved.
        Err(Errno::ACCESS) if root::is_directory(new) => {
            chmodat(from, name, mode(new) | Mode::RWXU, AtFlags::empty())?;
            renameat(from, name, &to.fd, name)?;
            chmodat(&to.fd, name, mode(new), AtFlags::empty())
        }
        result => result,
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Changes the content of a directory, and keeps its mode and times.
fn change(directory: &OpenDirectory, change: impl FnOnce() -> rustix::io::Result<()>) -> Result<(), UnpackFault> {
    let change = || {
        let before = fstat(&directory.fd)?;
        open_up(directory, &before)?;
        change()?;
        restore(directory, &before)
    };
    change().map_err(cannot(REMOVE))
}

/// Makes a directory writable. Without privileges, even its owner cannot change it otherwise.
fn open_up(directory: &OpenDirectory, before: &Stat) -> rustix::io::Result<()> {
    let mode = mode(before);
    if mode.contains(Mode::RWXU) { Ok(()) } else { fchmod(&directory.fd, mode | Mode::RWXU) }
}

/// Restores the mode and times of a directory.
fn restore(directory: &OpenDirectory, before: &Stat) -> rustix::io::Result<()> {
    let mode = mode(before);
    if !mode.contains(Mode::RWXU) {
        fchmod(&directory.fd, mode)?;
    }
    futimens(&directory.fd, &metadata::timestamps(before))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn at(path: &LayerPath) -> impl FnOnce(UnpackFault) -> UnpackError {
    |fault| UnpackError::Merge { path: path.clone(), fault }
}
