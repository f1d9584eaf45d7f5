//! Mount targets in the root filesystem. Links are resolved as for a process with that root directory, and never lead
//! out of it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ociforge_layers::regular::open_resolved;
use ociforge_layers::{LayerPath, links};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use super::job::{PathBytes, Reports, SupervisorReport};

/// The root filesystem, and its mounts so far.
pub(super) struct StepRoot {
    directory: OwnedFd,
    mounted: Vec<LayerPath>,
}

/// An open file or directory in the root, below later mounts on it.
pub(super) struct MountTarget {
    pub(super) path: LayerPath,
    file: OwnedFd,
}

/// The required type of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Directory,
    File,
}

impl StepRoot {
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: openat(CWD, path, flags, Mode::empty())?, mounted: Vec::new() })
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The path `path` with links resolved.
    pub(super) fn follow(&self, path: &str) -> io::Result<LayerPath> {
        let path = LayerPath::new(path).map_err(io::Error::other)?;
        let link_at = |path: &LayerPath| match readlinkat(&self.directory, path.as_path(), Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        };
        links::follow(&path, link_at)?.ok_or_else(|| Errno::LOOP.into())
    }

    /// The target at `path`, which has no links; [`io::ErrorKind::NotFound`] if it does not exist.
    pub(super) fn at(&self, path: LayerPath) -> io::Result<MountTarget> {
        let file = self.open_at(&path, OFlags::PATH)?;
        Ok(MountTarget { path, file })
    }

    /// The same; creates it with its parents if it is missing, and reports the new files unless they are in a mount.
    pub(super) fn at_or_made(&self, path: LayerPath, shape: Shape, reports: &mut Reports) -> io::Result<MountTarget> {
        match self.at(path.clone()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        for step in path.steps() {
            let made = if step == path && shape == Shape::File {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                self.parent(&step).and_then(|parent| {
                    openat(parent, name(&step), flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)).map(drop)
                })
            } else {
                self.parent(&step).and_then(|parent| mkdirat(parent, name(&step), Mode::from_raw_mode(0o755)))
            };
            match made {
                Ok(()) if !self.is_mounted(&step) => {
                    reports.tell(&SupervisorReport::Made(PathBytes::new(&Path::new("/").join(step.as_path()))));
                }
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at(path)
    }

    /// Records a mount at `path`.
    pub(super) fn has_mount(&mut self, path: &LayerPath) {
        self.mounted.push(path.clone());
    }

    fn is_mounted(&self, path: &LayerPath) -> bool {
        self.mounted.iter().any(|mounted| path.starts_with(mounted))
    }

    fn parent(&self, path: &LayerPath) -> rustix::io::Result<OwnedFd> {
        self.open_at(&path.parent().unwrap_or_default(), OFlags::PATH | OFlags::DIRECTORY)
    }

    fn open_at(&self, path: &LayerPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_root() { Path::new(".") } else { path.as_path() };
        // Links are already resolved.
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        open_resolved(&self.directory, path, flags, inside)
    }
}

impl MountTarget {
    /// A path for system calls without descriptors.
    pub(super) fn name(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    pub(super) fn is_directory(&self) -> io::Result<bool> {
        Ok(FileType::from_raw_mode(fstat(&self.file)?.st_mode) == FileType::Directory)
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }
}

fn name(path: &LayerPath) -> &OsStr {
    OsStr::from_bytes(path.file_name())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn places_are_made_inside_and_reported() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../../../run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink(place.path(), root.join("out")).unwrap();
        let mut opened = StepRoot::open(root.to_str().unwrap()).unwrap();
        let log = place.path().join("log");
        let mut reports = Reports(File::create(&log).unwrap());
        let mut make = |opened: &StepRoot, path: &str, shape| {
            opened.at_or_made(opened.follow(path).unwrap(), shape, &mut reports).unwrap()
        };
        make(&opened, "/etc/resolv.conf", Shape::File);
        let out = make(&opened, "/out/x", Shape::Directory);
        opened.has_mount(&opened.follow("/etc").unwrap());
        make(&opened, "/etc/pts", Shape::Directory);
        assert!(root.join("run/resolve/stub.conf").is_file() && out.is_directory().unwrap());
        assert!(!place.path().join("x").exists() && !place.path().join("run").exists());
        let inside = place.path().to_str().unwrap();
        let mut expected: Vec<String> = vec!["/run".into(), "/run/resolve".into(), "/run/resolve/stub.conf".into()];
        expected.extend(
            Path::new(inside)
                .ancestors()
                .filter(|path| path.parent().is_some())
                .map(|path| path.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .into_iter()
                .rev(),
        );
        expected.push(format!("{inside}/x"));
        let text = fs::read_to_string(log).unwrap();
        let made = text.lines().map(|line| match serde_json::from_str(line).unwrap() {
            SupervisorReport::Made(path) => path.path().to_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(made.collect::<Vec<_>>(), expected);
    }
}
