//! The accounts of an unpacked root filesystem.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ociforge_layers::regular::{open_resolved, read_at_most};
use ociforge_manifests::runtime::UserDatabase;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::Explain;

/// The largest file of accounts that is read, in bytes.
const MAX: u64 = 8 << 20;

/// An error of reading accounts.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {file} of the root filesystem {}", root.display())]
pub struct UsersError {
    root: PathBuf,
    file: &'static str,
    #[source]
    source: io::Error,
}

impl Explain for UsersError {
    fn hint(&self) -> Option<String> {
        Some("give the user by number with --user, such as --user 1000:1000".into())
    }
}

/// Reads `etc/passwd` and `etc/group` below `root`. Links are resolved as in the container; a missing file is empty.
/// Bytes that are not UTF-8 are replaced.
///
/// # Errors
/// When a file cannot be read, is not a regular file, or is too large.
pub fn read(root: &Path) -> Result<UserDatabase, UsersError> {
    let failed = |file| move |source| UsersError { root: root.to_owned(), file, source };
    let directory = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed("the directory")(error.into()))?;
    let text = |file: &'static str| read_file(&directory, file).map_err(failed(file));
    Ok(UserDatabase { passwd: text("etc/passwd")?, group: text("etc/group")? })
}

fn read_file(root: &OwnedFd, file: &str) -> io::Result<String> {
    // Without waiting: a file of an image may be a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match open_resolved(root, file, flags, inside) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let large = || io::Error::other(format!("it is larger than {MAX} bytes"));
    let bytes = read_at_most(file, MAX)?.ok_or_else(large)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

    use super::*;

    /// A root filesystem beside a directory outside of it.
    fn root() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(place.path().join("secret")).unwrap();
        fs::write(place.path().join("secret/passwd"), "outside").unwrap();
        (place, root)
    }

    #[test]
    fn accounts_are_read_and_missing_ones_are_none() {
        let (_place, root) = root();
        fs::write(root.join("etc/passwd"), b"me:x:5:6:\xff:/:\n").unwrap();
        let users = read(&root).unwrap();
        assert_eq!((users.passwd.as_str(), users.group.as_str()), ("me:x:5:6:\u{fffd}:/:\n", ""));
        fs::remove_dir_all(root.join("etc")).unwrap();
        assert_eq!(read(&root).unwrap().passwd, "");
        assert!(read(&root.join("nowhere")).unwrap_err().to_string().contains("nowhere"));
    }

    /// While other processes rename directories, the kernel cannot always decide that `..` stays inside.
    #[test]
    fn renamed_directories_elsewhere_are_no_error() {
        let (place, root) = root();
        symlink("../../../../etc/accounts", root.join("etc/passwd")).unwrap();
        fs::write(root.join("etc/accounts"), "inside").unwrap();
        let (one, other) = (place.path().join("one"), place.path().join("other"));
        fs::create_dir(&one).unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&one, &other).unwrap();
                    fs::rename(&other, &one).unwrap();
                }
            });
            for _ in 0..20_000 {
                let read = read(&root).map(|users| users.passwd).map_err(|error| error.source);
                if !matches!(&read, Ok(text) if text == "inside") {
                    ended.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("{read:?}");
                }
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn links_stay_inside() {
        let (place, root) = root();
        let secret = place.path().join("secret/passwd");
        for outside in [secret.to_str().unwrap(), "../../secret/passwd", "/../../../secret/passwd"] {
            symlink(outside, root.join("etc/passwd")).unwrap();
            assert_eq!(read(&root).unwrap().passwd, "", "{outside}");
            fs::remove_file(root.join("etc/passwd")).unwrap();
        }
        // An absolute link means the root filesystem's own.
        fs::create_dir(root.join("usr")).unwrap();
        fs::write(root.join("usr/accounts"), "inside").unwrap();
        symlink("/usr/accounts", root.join("etc/passwd")).unwrap();
        assert_eq!(read(&root).unwrap().passwd, "inside");
        fs::remove_dir_all(root.join("etc")).unwrap();
        symlink("../secret", root.join("etc")).unwrap();
        assert_eq!(read(&root).unwrap().passwd, "");
    }

    #[test]
    fn what_is_no_file_of_a_usual_size_is_an_error() {
        let (_place, root) = root();
        let passwd = root.join("etc/passwd");
        fs::create_dir(&passwd).unwrap();
        assert!(read(&root).is_err());
        fs::remove_dir(&passwd).unwrap();
        rustix::fs::mknodat(CWD, &passwd, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(read(&root).is_err());
        fs::remove_file(&passwd).unwrap();
        File::create(&passwd).unwrap().set_len(MAX + 1).unwrap();
        assert!(read(&root).is_err());
        fs::remove_file(&passwd).unwrap();
        symlink("passwd", &passwd).unwrap();
        assert!(read(&root).is_err());
    }
}
