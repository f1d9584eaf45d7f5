//! Files that grow until they are whole, each written by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

/// How long a partial file may lie untouched before it is taken for one that was given up.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What lies there in place of a file is none of ours.
const NO_LINK: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// A partial file that this process alone writes. Dropped, it stays for whoever goes on with it.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    path: PathBuf,
    /// Locked (`flock`) until the last clone is dropped.
    file: Arc<File>,
}

impl Partial {
    /// Opens the file at `path`, which is made where it is missing, and its directory too. `None` while another has it.
    pub(super) fn claim(path: &Path) -> io::Result<Option<Self>> {
        loop {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut options = OpenOptions::new();
            let file = match options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(NO_LINK)
                .open(path)
            {
                // The directory was empty, and removed just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Who had it before may have given it its place, or removed it.
            if is_at(&file, path)? {
                return Ok(Some(Self { path: path.to_owned(), file: Arc::new(file) }));
            }
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts this file where `other` is, which is on the same filesystem and gone then.
    pub(super) fn replace(self, other: &Self) -> io::Result<Self> {
        fs::rename(&self.path, &other.path)?;
        Ok(Self { path: other.path.clone(), file: self.file })
    }

    /// Moves the file to its place on the same filesystem, its bytes safely on disk, replacing what is there.
    pub(super) fn persist(self, place: &Path) -> io::Result<()> {
        // The last bytes may have come long ago, but garbage collection is to leave it alone until its manifest comes.
        self.file.set_modified(SystemTime::now())?;
        self.file.sync_data()?;
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::rename(&self.path, place)
    }

    /// Removes the file.
    pub(super) fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Removes the file if there is nothing in it.
    pub(super) fn discard_empty(self) -> io::Result<()> {
        if self.file.metadata()?.len() == 0 { self.discard() } else { Ok(()) }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the partial files in `directory` that nobody has touched for a week. Failing to is no reason to fail.
pub(super) fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED)
            && let Ok(Some(partial)) = Partial::claim(&entry.path())
        {
            let _ = partial.discard();
        }
    }
    // As long as there is nothing in it.
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_its_place_is_young() {
        let directory = tempfile::tempdir().unwrap();
        let [path, place] = ["partial", "place"].map(|name| directory.path().join(name));
        let partial = Partial::claim(&path).unwrap().unwrap();
        partial.file().set_modified(SystemTime::now() - ABANDONED).unwrap();
        partial.persist(&place).unwrap();
        let age = fs::metadata(place).unwrap().modified().unwrap().elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(60 * 60), "{age:?}");
    }
}
