//! The directories of containers in the store.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::descriptors::raise_descriptor_limit;

/// In every container's directory: locked for as long as its process lives, and those that this has started.
const LOCK: &str = ".lock";

/// In the directory of a container that is to go away with its process.
const PASSING: &str = ".rm";

/// The directory of one container. A container that is to be removed goes away with this value; where its process was
/// killed, the next one removes it.
#[derive(Debug)]
pub struct ContainerDirectory {
    path: PathBuf,
    id: String,
    remove: bool,
    _lock: File,
}

impl ContainerDirectory {
    /// A new one in `containers`, with an id that no other has.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn create(containers: &Path, remove: bool) -> io::Result<Self> {
        fs::create_dir_all(containers)?;
        sweep(containers);
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let path = containers.join(&id);
        // Files of root's with setuid bits are nobody else's business.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        // Processes that this one starts hold it, too: what cleans up after it when it was killed must have come to an
        // end. Runtimes keep it from the container, as they do with all files.
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

    /// The container's name: 12 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the directory goes away with this value.
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

/// Removes all containers whose processes have ended, and returns how many live.
///
/// # Errors
/// When one can't be removed.
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

/// Whether the process of a container lives.
fn is_locked(container: &Path) -> bool {
    let lock = File::open(container.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Removes what killed processes left of containers that were to go away with them. Failing to is no reason to fail.
fn sweep(containers: &Path) {
    for entry in fs::read_dir(containers).into_iter().flatten().flatten() {
        if entry.path().join(PASSING).exists() && !is_locked(&entry.path()) {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes a container's directory, and last what says that it is to go: whoever removes it may be killed meanwhile.
fn remove(container: &Path) -> io::Result<()> {
    for entry in fs::read_dir(container)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match fs::remove_dir_all(entry.path()) {
                // Each level of a directory takes a descriptor.
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

        // One that was killed, and one that lives.
        let killed = ContainerDirectory::create(place.path(), true).unwrap();
        let left = place.path().join("left");
        fs::rename(killed.path(), &left).unwrap();
        drop(killed);
        let living = ContainerDirectory::create(place.path(), true).unwrap();
        // Programs that other tests start at this moment hold the locks for as long as they run.
        let begun = std::time::Instant::now();
        let soon = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it never happens");
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
