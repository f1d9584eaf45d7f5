//! A confined directory tree.
//!
//! All operations are relative to directory descriptors, and the kernel never gets a path in which it could follow a
//! symbolic link. Links are followed here, step by step, as for a process with this root directory (chroot(2)):
//! absolute targets begin at the root, and `..` of the root is the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::fs::{chmodat, mkdirat, openat, readlinkat, statat, unlinkat};
use rustix::io::{Errno, Result};

use super::error::{UnpackFault, cannot};
use crate::path::LayerPath;
use crate::regular::open_resolved;

/// Maximum number of symbolic links in one path, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Maximum number of components of one path, with links followed.
const MAX_STEPS: usize = 4096;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// The root of the tree.
pub(crate) struct RootDirectory {
    fd: OwnedFd,
}

/// A directory in the tree.
pub(crate) struct OpenDirectory {
    /// Its descriptor.
    pub(crate) fd: OwnedFd,
    /// Its path, without symbolic links.
    pub(crate) path: LayerPath,
}

/// The treatment of missing directories.
pub(crate) enum Missing<'a> {
    /// They are created with access for their owner only, and recorded.
    Make(&'a mut Vec<LayerPath>),
    /// The walk ends there.
    Stop,
}

/// The end of a walk.
pub(crate) enum ResolvedPath {
    /// A directory.
    There(OpenDirectory),
    /// A missing directory; its path.
    Missing(LayerPath),
}

impl RootDirectory {
    /// The tree in the directory at `path`, which may be a link.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { fd: openat(CWD, path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())? })
    }

    /// The root itself.
    pub(crate) fn place(&self) -> Result<OpenDirectory> {
        Ok(OpenDirectory { fd: self.directory(&[])?, path: LayerPath::root() })
    }

    /// Opens the directory at a path without symbolic links.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match open_resolved(&self.fd, path, DIRECTORY, beneath) {
            // Linux before 5.6, and sandboxes that do not support the system call.
            Err(Errno::NOSYS | Errno::PERM) => self.step_by_step(path),
            result => result,
        }
    }

    /// The metadata of `path`, if it exists; its parents must be directories without symbolic links.
    pub(crate) fn stat(&self, path: &LayerPath) -> Result<Option<Stat>> {
        stat(self.fd.as_fd(), path.as_bytes())
    }

    /// The target of the symbolic link at `path`; its parents must be directories.
    pub(crate) fn read_link(&self, path: &LayerPath) -> Result<Vec<u8>> {
        Ok(readlinkat(&self.fd, path.as_bytes(), Vec::new())?.into_bytes())
    }

    fn step_by_step(&self, path: &[u8]) -> Result<OwnedFd> {
        let mut steps = path.split(|byte| *byte == b'/');
        let first = open(self.fd.as_fd(), steps.next().unwrap_or(b"."))?;
        steps.try_fold(first, |fd, step| open(fd.as_fd(), step))
    }

    /// The end of `path`, with symbolic links followed inside the tree.
    pub(crate) fn walk(
        &self,
        path: &LayerPath,
        missing: Missing<'_>,
    ) -> std::result::Result<ResolvedPath, UnpackFault> {
        if let Ok(fd) = self.directory(path.as_bytes()) {
            return Ok(ResolvedPath::There(OpenDirectory { fd, path: path.clone() }));
        }
        PathResolver { root: self, missing, place: self.place().map_err(cannot(OPEN))?, ahead: Vec::new() }.along(path)
    }
}

const OPEN: &str = "open a directory above it";

struct PathResolver<'a> {
    root: &'a RootDirectory,
    missing: Missing<'a>,
    /// The current directory.
    place: OpenDirectory,
    /// The remaining components, the last one first.
    ahead: Vec<Vec<u8>>,
}

impl PathResolver<'_> {
    fn along(mut self, path: &LayerPath) -> std::result::Result<ResolvedPath, UnpackFault> {
        self.push(path.as_bytes());
        let (mut links, mut steps) = (0, 0);
        while let Some(component) = self.ahead.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(UnpackFault::TooLong);
            }
            if component == b".." {
                self.up()?;
                continue;
            }
            let next = self.place.path.join(&component)?;
            check(&next)?;
            match open(self.place.fd.as_fd(), &component) {
                Ok(fd) => self.place = OpenDirectory { fd, path: next },
                Err(Errno::NOENT) => match &mut self.missing {
                    Missing::Stop => return self.beyond(next).map(ResolvedPath::Missing),
                    Missing::Make(made) => {
                        mkdirat(&self.place.fd, &component, Mode::RWXU)
                            .map_err(cannot("create a directory above it"))?;
                        made.push(next);
                        self.ahead.push(component);
                    }
                },
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(UnpackFault::Loop);
                    }
                    self.follow(&component, next)?;
                }
                Err(error) => return Err(cannot(OPEN)(error)),
            }
        }
        Ok(ResolvedPath::There(self.place))
    }

    fn push(&mut self, path: &[u8]) {
        let components = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        self.ahead.extend(components.rev().map(<[u8]>::to_vec));
    }

    fn up(&mut self) -> std::result::Result<(), UnpackFault> {
        let path = self.place.path.parent().unwrap_or_default();
        self.place = OpenDirectory { fd: self.root.directory(path.as_bytes()).map_err(cannot(OPEN))?, path };
        Ok(())
    }

    /// Continues at the target of the symbolic link `name`, which is at `path`.
    fn follow(&mut self, name: &[u8], path: LayerPath) -> std::result::Result<(), UnpackFault> {
        let target = match readlinkat(&self.place.fd, name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::INVAL) => return Err(UnpackFault::NotADirectory(path)),
            Err(error) => return Err(cannot("read a link above it")(error)),
        };
        if target.starts_with(b"/") {
            self.place = self.root.place().map_err(cannot(OPEN))?;
        }
        self.push(&target);
        Ok(())
    }

    /// The remaining path after `path`, which does not exist.
    fn beyond(&self, path: LayerPath) -> std::result::Result<LayerPath, UnpackFault> {
        self.ahead.iter().rev().try_fold(path, |path, name| match name.as_slice() {
            b".." => Ok(path.parent().unwrap_or_default()),
            name => Ok(path.join(name)?),
        })
    }
}

/// Checks that a path can be created.
pub(crate) fn check(path: &LayerPath) -> std::result::Result<(), UnpackFault> {
    path.check_limits().map_err(|_| UnpackFault::TooLong)
}

/// Opens the directory `name` in `directory`; does not follow a link.
pub(crate) fn open(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    openat(directory, name, DIRECTORY, Mode::empty())
}

/// The metadata of `name` in `directory`, if it exists; links are not followed.
pub(crate) fn stat(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is a directory.
pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: impl AsFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes `name` in `directory` with all its content; it may be missing.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    // Without privileges, a directory must be writable for its content to be removed. The removal reports a failure.
    let _ = chmodat(directory, name, Mode::RWXU, AtFlags::empty());
    empty(open(directory, name)?.as_fd())?;
    unlinkat(directory, name, AtFlags::REMOVEDIR)
}

/// Removes all content of `directory`.
pub(crate) fn empty(directory: BorrowedFd<'_>) -> Result<()> {
    names(directory)?.iter().try_for_each(|name| remove(directory, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_open_a_directory_follow_no_links() {
        let scene = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scene.path().join("root/a/b")).unwrap();
        std::fs::write(scene.path().join("root/a/f"), "").unwrap();
        std::os::unix::fs::symlink("a", scene.path().join("root/l")).unwrap();
        std::os::unix::fs::symlink("..", scene.path().join("root/a/up")).unwrap();
        let root = RootDirectory::open(&scene.path().join("root")).unwrap();
        for (path, found) in [
            ("a", true),
            ("a/b", true),
            ("a/f", false),
            ("l", false),
            ("l/b", false),
            ("a/up", false),
            ("a/up/a", false),
        ] {
            assert_eq!(root.directory(path.as_bytes()).is_ok(), found, "{path}");
            assert_eq!(root.step_by_step(path.as_bytes()).is_ok(), found, "{path}");
        }
        assert!(root.directory(b"").is_ok());
    }
}
