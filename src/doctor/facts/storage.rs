//! The store and the overlay filesystems.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::text;

/// The available overlay filesystems.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OverlaySupport {
    /// Whether the kernel has loaded overlayfs; only root loads modules on demand.
    pub known: bool,
    /// Whether this user can open `/dev/fuse`.
    pub fuse: bool,
}

impl OverlaySupport {
    pub(super) fn gather() -> Self {
        let known = text("/proc/filesystems").unwrap_or_default();
        Self {
            known: known.lines().any(|line| line.split_ascii_whitespace().last() == Some("overlay")),
            fuse: access("/dev/fuse", Access::READ_OK | Access::WRITE_OK).is_ok(),
        }
    }
}

/// The store.
#[derive(Debug, Clone, Default)]
pub struct StoreFacts {
    /// The path; it may not exist.
    pub path: PathBuf,
    /// The nearest existing ancestor, or the store itself.
    pub existing: Option<PathBuf>,
    /// Whether `existing` is writable.
    pub writable: bool,
    /// Free bytes for this user.
    pub free: u64,
    /// The type of the filesystem, such as `ext4`.
    pub filesystem: Option<String>,
}

impl StoreFacts {
    pub(super) fn gather(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let existing = path.ancestors().find(|path| path.is_dir()).and_then(|path| path.canonicalize().ok());
        let writable = |directory: &PathBuf| access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        let space = existing.as_ref().and_then(|directory| statvfs(directory).ok());
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self {
            writable: existing.as_ref().is_some_and(writable),
            free: space.map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize)),
            filesystem: existing.as_ref().and_then(|directory| filesystem_of(directory, &mounts)),
            existing,
            path,
        }
    }
}

/// The type of the filesystem that contains `path`, from `/proc/self/mountinfo` (proc(5)).
fn filesystem_of(path: &Path, mounts: &[u8]) -> Option<String> {
    let mounts = String::from_utf8_lossy(mounts);
    let path = path.as_os_str().as_bytes();
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(|point| point.replace("\\040", " ")) else { continue };
        let inside = path.strip_prefix(point.trim_end_matches('/').as_bytes());
        let holds = inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        // The last of several mounts at one mount point is visible.
        if holds && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), right.split(' ').next().unwrap_or_default()));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_holds_a_path() {
        let mounts = b"22 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                       23 22 0:5 / /home rw - nfs4 h:/x rw\n24 22 0:6 / /home/a\\040b rw - xfs /dev/b rw\n\
                       25 22 0:7 / /var/tmp rw - ext4 /dev/a rw\n26 25 0:8 / /var/tmp rw - tmpfs t rw\n";
        for (path, kind) in [
            ("/", "ext4"),
            ("/homes", "ext4"),
            ("/home", "nfs4"),
            ("/home/x", "nfs4"),
            ("/home/a b/c", "xfs"),
            ("/var/tmp/x", "tmpfs"),
        ] {
            assert_eq!(filesystem_of(Path::new(path), mounts).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(filesystem_of(Path::new("/"), b""), None);
    }

    #[test]
    fn a_store_that_is_not_there_yet_will_be_where_it_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let store = StoreFacts::gather(&directory.path().join("a/b"));
        assert_eq!(store.existing, Some(directory.path().canonicalize().unwrap()));
        assert!(store.writable && store.free > 0 && store.filesystem.is_some());
    }
}
