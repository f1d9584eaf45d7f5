//! Detection of changed files: by the ctime of each file, which no program can set.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ociforge_manifests::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::write_atomic;

/// The recorded state of a file, or of a directory with all its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The digest of each path with its mode, size and times, in order.
    digest: Digest,
    /// The latest change of attributes: seconds and nanoseconds.
    newest: (i64, i64),
}

/// The comparison of a directory with its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// It is unchanged.
    Same,
    /// It has no stamp.
    Unknown,
    /// It is changed; with the path of the last change in it.
    Changed(PathBuf),
}

impl Stamp {
    /// The current stamp of `path`.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        Walk::of(path).map(|walk| walk.stamp)
    }

    /// Reads the stamp in `file`, and compares it with the current state of `path`.
    ///
    /// # Errors
    /// When `path` cannot be read.
    pub fn compare(file: &Path, path: &Path) -> io::Result<Comparison> {
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Self>(&bytes).ok();
        let Some(stamp) = fs::read(file).ok().and_then(read) else { return Ok(Comparison::Unknown) };
        let now = Walk::of(path)?;
        Ok(if now.stamp == stamp { Comparison::Same } else { Comparison::Changed(now.last) })
    }

    /// Writes the current stamp of `path` to `file`.
    ///
    /// # Errors
    /// When it cannot be read, or the file cannot be written.
    pub fn write(file: &Path, path: &Path) -> io::Result<()> {
        Self::of(path)?.write_to(file)
    }

    /// Writes it to `file`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_to(&self, file: &Path) -> io::Result<()> {
        write_atomic(file, &serde_json::to_vec(self)?)
    }
}

struct Walk {
    stamp: Stamp,
    /// The path of the last change.
    last: PathBuf,
}

impl Walk {
    fn of(top: &Path) -> io::Result<Self> {
        let (mut hasher, mut newest, mut last) = (Sha256::new(), (i64::MIN, 0), PathBuf::new());
        let mut left = vec![(PathBuf::new(), fs::symlink_metadata(top)?)];
        while let Some((path, found)) = left.pop() {
            // All whiteouts of an overlay share one inode, which changes when overlayfs removes its own link to it.
            let special = found.file_type().is_char_device();
            let changed = if special { (0, 0) } else { (found.ctime(), found.ctime_nsec()) };
            if changed > newest {
                (newest, last) = (changed, path.clone());
            }
            hasher.update((path.as_os_str().len() as u64).to_le_bytes());
            hasher.update(path.as_os_str().as_bytes());
            // Owners differ between user namespaces; the ctime covers their changes.
            let numbers = [u64::from(found.mode()), found.size(), found.rdev()];
            numbers.iter().for_each(|number| hasher.update(number.to_le_bytes()));
            let times = [found.mtime(), found.mtime_nsec(), changed.0, changed.1];
            times.iter().for_each(|number| hasher.update(number.to_le_bytes()));
            if found.is_dir() {
                let mut inside = Vec::new();
                for entry in fs::read_dir(top.join(&path))? {
                    let entry = entry?;
                    inside.push((path.join(entry.file_name()), entry.metadata()?));
                }
                inside.sort_unstable_by(|a, b| b.0.cmp(&a.0));
                left.extend(inside);
            }
        }
        Ok(Self { stamp: Stamp { digest: Digest::from_sha256(&hasher.finalize().into()), newest }, last })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    #[test]
    fn every_change_is_noticed_and_named() {
        let place = tempfile::tempdir().unwrap();
        let (root, file) = (place.path().join("root"), place.path().join("stamp"));
        let at = |name: &str| root.join(name);
        let again = || {
            fs::remove_dir_all(&root).ok();
            fs::create_dir_all(at("a/b")).unwrap();
            fs::write(at("a/b/c"), "1234").unwrap();
            std::os::unix::fs::symlink("c", at("a/b/l")).unwrap();
            Stamp::write(&file, &root).unwrap();
            // The clock of file times has a resolution of some milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(15));
        };
        assert_eq!(Stamp::compare(&file, place.path()).unwrap(), Comparison::Unknown);
        let flipped = || {
            let times = fs::metadata(at("a/b/c")).unwrap();
            fs::write(at("a/b/c"), "1235").unwrap();
            let times = FileTimes::new().set_modified(times.modified().unwrap());
            File::options().write(true).open(at("a/b/c")).unwrap().set_times(times).unwrap();
        };
        let changes: [(&dyn Fn(), &str); 4] = [
            (&flipped, "a/b/c"),
            (&|| fs::remove_file(at("a/b/l")).unwrap(), "a/b"),
            (&|| fs::write(at("a/new"), "").unwrap(), "a"),
            (&|| fs::rename(at("a/b"), at("a/d")).unwrap(), "a"),
        ];
        for (change, named) in changes {
            again();
            assert_eq!(Stamp::compare(&file, &root).unwrap(), Comparison::Same);
            change();
            let Comparison::Changed(last) = Stamp::compare(&file, &root).unwrap() else { panic!("{named}") };
            assert!(last == Path::new(named) || last.parent() == Some(Path::new(named)), "{last:?} for {named}");
        }
    }
}
