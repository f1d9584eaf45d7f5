//! The directories of containers in the store.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::descriptors::raise_descriptor_limit;
use super::file_lock::try_lock;

/// A file in every container's directory that is locked while its process and the children of the process run.
const LOCK: &str = ".lock";

/// A file in the directory of a container that is removed with its process.
const PASSING: &str = ".rm";

/// The directory of one container. Dropping this value removes a temporary container; after a kill of its process, the
/// next one removes it.
#[derive(Debug)]
pub struct ContainerDirectory {
    path: PathBuf,
    id: String,
    remove: bool,
    _lock: File,
}

impl ContainerDirectory {
    /// Creates a directory in `containers` with a unique id.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn create(containers: &Path, remove: bool) -> io::Result<Self> {
        fs::create_dir_all(containers)?;
        sweep(containers);
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let path = containers.join(&id);
        // Files of root with setuid bits must not be accessible to others.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        // Child processes hold it, too: a cleanup after a kill must have ended. Runtimes do not pass it to the
        // container, as with all descriptors.
        rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?;
        if remove {
            File::create(path.join(PASSING))?;
        }
        Ok(Self { path, id, remove, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container's id: 12 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether dropping this value removes the directory.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.remove
    }
}

impl AsRef<Path> for ContainerDirectory {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for ContainerDirectory {
    fn drop(&mut self) {
        if self.remove {
            let _ = remove(&self.path);
        }
    }
}

/// Removes all containers whose processes have ended, and returns the number of running ones.
///
/// # Errors
/// When one of them cannot be removed.
pub fn prune(containers: &Path) -> io::Result<usize> {
    let mut living = 0;
    for entry in fs::read_dir(containers).into_iter().flatten().flatten() {
        if is_locked(&entry.path()) {
            living += 1;
        } else {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(living)
}

/// Whether the process of a container is running.
fn is_locked(container: &Path) -> bool {
    let lock = File::open(container.join(LOCK));
    lock.is_ok_and(|lock| matches!(try_lock(&lock), Ok(false)))
}

/// Removes temporary containers of killed processes. Errors are ignored.
fn sweep(containers: &Path) {
    for entry in fs::read_dir(containers).into_iter().flatten().flatten() {
        if entry.path().join(PASSING).exists() && !is_locked(&entry.path()) {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes a container's directory. The marker of a temporary container is removed last, because this process may be
/// killed.
fn remove(container: &Path) -> io::Result<()> {
    for entry in fs::read_dir(container)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match fs::remove_dir_all(entry.path()) {
                // Each directory level needs a descriptor.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => {
                    raise_descriptor_limit()?;
                    fs::remove_dir_all(entry.path())?;
                }
                other => other?,
            }
        }
    }
    fs::remove_dir_all(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_to_go_away_goes_away() {
        let place = tempfile::tempdir().unwrap();
        let [kept, gone] = [false, true].map(|remove| ContainerDirectory::create(place.path(), remove).unwrap());
        assert_ne!(kept.id(), gone.id());
        let (kept_path, gone_path) = (kept.path().to_owned(), gone.path().to_owned());
        fs::create_dir_all(gone_path.join("rootfs/etc")).unwrap();
        drop((kept, gone));
        assert!(kept_path.exists() && !gone_path.exists());

        // A killed container and a running one.
        let killed = ContainerDirectory::create(place.path(), true).unwrap();
        let left = place.path().join("left");
        fs::rename(killed.path(), &left).unwrap();
        drop(killed);
        let living = ContainerDirectory::create(place.path(), true).unwrap();
        // Programs that other tests start concurrently hold the locks while they run.
        let begun = std::time::Instant::now();
        let soon = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(begun.elapsed() < std::time::Duration::from_secs(120), "it never happens");
                std::thread::yield_now();
            }
        };
        soon(&|| {
            drop(ContainerDirectory::create(place.path(), true).unwrap());
            !left.exists()
        });
        let other = ContainerDirectory::create(place.path(), true).unwrap();
        assert!(living.path().exists() && kept_path.exists());

        soon(&|| prune(place.path()).unwrap() == 2);
        assert!(!kept_path.exists() && living.path().exists() && other.path().exists());
    }
}
