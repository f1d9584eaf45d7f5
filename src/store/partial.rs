//! Partial files, each written by one process at a time.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::abandoned::WEEK;
use super::dir::Dir;
use super::file_lock::try_lock;

/// A partial file, locked by this process. Dropping it keeps the file for a resumed write.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    directory: Dir,
    name: OsString,
    /// Locked (`flock`) until the last clone is dropped.
    file: Arc<File>,
}

impl Partial {
    /// Opens or creates the file `name` in the directory that `directory` returns. `None` if another process has its
    /// lock.
    pub(super) fn claim(directory: impl Fn() -> io::Result<Dir>, name: &OsStr) -> io::Result<Option<Self>> {
        loop {
            let directory = directory()?;
            let file = match directory.make_file(name) {
                // Another process removed the empty directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            if !try_lock(&file)? {
                return Ok(None);
            }
            // The previous holder may have renamed or removed it.
            if directory.has(name, &file)? {
                return Ok(Some(Self { directory, name: name.to_owned(), file: Arc::new(file) }));
            }
        }
    }

    /// Locks the file beside this one with the suffix `ending`.
    pub(super) fn beside(&self, ending: &str) -> io::Result<Option<Self>> {
        let mut name = self.name.clone();
        name.push(ending);
        Self::claim(|| Ok(self.directory.clone()), &name)
    }

    /// The file.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Renames this file over `other` in the same directory.
    pub(super) fn replace(self, other: &Self) -> io::Result<Self> {
        self.directory.rename(&self.name, &other.directory, &other.name)?;
        Ok(Self { name: other.name.clone(), ..self })
    }

    /// Flushes the file to the disk and renames it to `name` in a directory of the same filesystem, and replaces an
    /// existing file.
    pub(super) fn persist(self, directory: &Dir, name: &OsStr) -> io::Result<()> {
        // The last bytes may be old, but garbage collection must keep the blob until its manifest arrives.
        self.file.set_modified(SystemTime::now())?;
        self.file.sync_data()?;
        self.directory.rename(&self.name, directory, name)
    }

    /// Removes the file.
    pub(super) fn discard(self) -> io::Result<()> {
        self.directory.remove(&self.name)
    }

    /// Removes the file if it is empty.
    pub(super) fn discard_empty(self) -> io::Result<()> {
        if self.file.metadata()?.len() == 0 { self.discard() } else { Ok(()) }
    }
}

/// Removes the partial files in `directory` that are older than a week. Errors are ignored.
pub(super) fn sweep(directory: &Dir) {
    let before = SystemTime::now().checked_sub(WEEK).unwrap_or(SystemTime::UNIX_EPOCH);
    for name in directory.names().unwrap_or_default() {
        if matches!(directory.facts(&name), Ok(Some(facts)) if facts.is_older(before))
            && let Ok(Some(partial)) = Partial::claim(|| Ok(directory.clone()), &name)
        {
            let _ = partial.discard();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_gets_its_place_is_young() {
        let directory = tempfile::tempdir().unwrap();
        let dir = Dir::open(directory.path()).unwrap();
        let partial = Partial::claim(|| Ok(dir.clone()), OsStr::new("partial")).unwrap().unwrap();
        partial.file().set_modified(SystemTime::now() - WEEK).unwrap();
        partial.persist(&dir, OsStr::new("place")).unwrap();
        let age = dir.facts("place").unwrap().unwrap().modified.elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(60 * 60), "{age:?}");
    }

    #[test]
    fn a_file_that_has_another_name_elsewhere_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let dir = Dir::open(directory.path()).unwrap();
        dir.write("victim", b"precious", false).unwrap();
        dir.link("victim", "partial").unwrap();
        std::os::unix::fs::symlink("victim", directory.path().join("link")).unwrap();
        for (name, is) in [("partial", "several names"), ("link", "a symbolic link")] {
            let error = Partial::claim(|| Ok(dir.clone()), OsStr::new(name)).unwrap_err();
            assert!(error.to_string().contains(is), "{error}");
        }
    }
}
