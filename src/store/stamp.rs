//! Telling whether files were changed since they were written: by what the filesystem says of each of them, which no
//! program can set back (the time of the last change of its attributes).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ociforge_manifests::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::write_atomic;

/// What a directory and everything in it, or a file, was like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Of each path with its mode, size and times, in order.
    digest: Digest,
    /// The latest change of attributes: seconds and nanoseconds.
    newest: (i64, i64),
}

/// How a directory compares to its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// It is as it was.
    Same,
    /// Nobody noted what it was like.
    Unknown,
    /// It was changed; with the path inside of it that changed last.
    Changed(PathBuf),
}

impl Stamp {
    /// The stamp of what is at `path` now.
    ///
    /// # Errors
    /// When something can't be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        Walk::of(path).map(|walk| walk.stamp)
    }

    /// Reads the stamp in `file`, and compares it to what is at `path` now.
    ///
    /// # Errors
    /// When what is at `path` can't be read.
    pub fn compare(file: &Path, path: &Path) -> io::Result<Comparison> {
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Self>(&bytes).ok();
        let Some(stamp) = fs::read(file).ok().and_then(read) else { return Ok(Comparison::Unknown) };
        let now = Walk::of(path)?;
        Ok(if now.stamp == stamp { Comparison::Same } else { Comparison::Changed(now.last) })
    }

    /// Notes in `file` what `path` is like now.
    ///
    /// # Errors
    /// When it can't be read, or the file not be written.
    pub fn write(file: &Path, path: &Path) -> io::Result<()> {
        Self::of(path)?.write_to(file)
    }

    /// Writes it to `file`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_to(&self, file: &Path) -> io::Result<()> {
        write_atomic(file, &serde_json::to_vec(self)?)
    }
}

struct Walk {
    stamp: Stamp,
    /// What changed last.
    last: PathBuf,
}

impl Walk {
    fn of(top: &Path) -> io::Result<Self> {
        let (mut hasher, mut newest, mut last) = (Sha256::new(), (i64::MIN, 0), PathBuf::new());
        let mut left = vec![(PathBuf::new(), fs::symlink_metadata(top)?)];
        while let Some((path, found)) = left.pop() {
            // All whiteouts of an overlay are one inode, which changes when overlayfs removes its own name of it.
            let special = found.file_type().is_char_device();
            let changed = if special { (0, 0) } else { (found.ctime(), found.ctime_nsec()) };
            if changed > newest {
                (newest, last) = (changed, path.clone());
            }
            hasher.update((path.as_os_str().len() as u64).to_le_bytes());
            hasher.update(path.as_os_str().as_bytes());
            // Owners look different in another user namespace; the time of a change tells of them, too.
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
            // The clock for files stands still for some milliseconds.
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
