//! Directories that steps keep for the next build, such as the downloads of a package manager.
//!
//! ```text
//! caches/KIND/HASH/id      the id in the recipe
//! caches/KIND/HASH/lock    the lock of all builds that use it
//! caches/KIND/HASH/files/  the content
//! ```
//!
//! The possible owners of files depend on the rights of the writer, as for unpacked layers: each kind of rights has its
//! own directories.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ociforge_manifests::Digest;

use super::write_atomic;
use crate::store::dir::there;
use crate::store::file_lock::{try_lock, try_lock_shared};

const ID: &str = "id";
const LOCK: &str = "lock";
const FILES: &str = "files";

/// The pause between two attempts to lock a cache.
const PAUSE: Duration = Duration::from_millis(50);

/// All caches of the store.
#[derive(Debug, Clone)]
pub struct Caches {
    directory: PathBuf,
}

/// A cache, locked while this value exists.
#[derive(Debug)]
pub struct CacheMount {
    files: PathBuf,
    _lock: File,
}

impl Caches {
    /// The caches in `directory`, which may not exist.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The cache `id` (any text) of the ownership `kind` (a plain file name). It is created with mode 0755 if it is
    /// missing. A `locked` cache has one user at a time; otherwise it is shared by all users without `locked`. Waits
    /// for other users: calls `waiting` once, and polls `cancelled`.
    ///
    /// # Errors
    /// When it cannot be created, and when `cancelled` is true ([`io::ErrorKind::Interrupted`]).
    pub fn open(
        &self,
        kind: &str,
        id: &str,
        locked: bool,
        waiting: &dyn Fn(),
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<CacheMount> {
        let place = self.directory.join(kind).join(Digest::of(id.as_bytes()).hex());
        let mut told = false;
        loop {
            // Files of root with setuid bits must not be accessible to others.
            match fs::DirBuilder::new().recursive(true).mode(0o700).create(&place) {
                // Another process removed it between the two checks.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && may_be_directory(&place) => continue,
                made => made?,
            }
            let file = place.join(LOCK);
            // Another process may be removing it.
            let Some(lock) = there(File::options().create(true).append(true).open(&file))? else { continue };
            let is_ours = if locked { try_lock(&lock)? } else { try_lock_shared(&lock)? };
            match is_ours {
                true if is_at(&lock, &file) => return create_content(&place, id, lock),
                true => continue,
                false => {}
            }
            if cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if !told {
                waiting();
                told = true;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes all unused caches, and returns the number of used ones.
    ///
    /// # Errors
    /// When one of them cannot be removed.
    pub fn prune(&self) -> io::Result<usize> {
        let mut used = 0;
        let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        for place in below(&self.directory).flat_map(|kind| below(&kind).collect::<Vec<_>>()) {
            let file = place.join(LOCK);
            let Some(lock) = there(File::options().create(true).append(true).open(&file))? else { continue };
            match try_lock(&lock)? {
                true if is_at(&lock, &file) => remove(&place)?,
                // Another process removed it, and may have created a new one.
                true => {}
                false => used += 1,
            }
        }
        Ok(used)
    }
}

impl CacheMount {
    /// The directory of its files: an absolute path if that of the store is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.files
    }
}

/// Creates the content of a cache whose lock is held. The id is written last; two users of a shared lock may both do
/// this.
fn create_content(place: &Path, id: &str, lock: File) -> io::Result<CacheMount> {
    let files = place.join(FILES);
    // A step without mounts uses the directory itself, and may have removed it or been killed.
    let made = match fs::create_dir(&files) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        made => made.map(|()| true)?,
    };
    if made || !place.join(ID).exists() {
        // Independent of the umask.
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755))?;
        write_atomic(&place.join(ID), id.as_bytes())?;
    }
    Ok(CacheMount { files, _lock: lock })
}

/// Removes a cache whose lock is held. The lock file is removed last: a waiting process notices this and creates a new
/// one, so the directory may remain.
fn remove(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if path.file_name().is_some_and(|name| name != LOCK) {
            fs::remove_file(path)?;
        }
    }
    fs::remove_file(place.join(LOCK))?;
    let _ = fs::remove_dir(place);
    Ok(())
}

/// Whether the open file is still the file at `path`.
fn is_at(open: &File, path: &Path) -> bool {
    let number = |facts: io::Result<fs::Metadata>| facts.ok().map(|facts| (facts.dev(), facts.ino()));
    number(open.metadata()).is_some_and(|open| number(fs::metadata(path)) == Some(open))
}

/// Whether `path` is a directory or does not exist.
fn may_be_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).map_or(true, |facts| facts.is_dir())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;

    fn open(caches: &Caches, id: &str, locked: bool) -> CacheMount {
        // Programs that other tests start at this moment hold the locks until they run.
        soon(|| is_free(caches, id, locked));
        caches.open("all", id, locked, &|| {}, &|| false).unwrap()
    }

    fn soon(happens: impl Fn() -> bool) {
        let begun = Instant::now();
        while !happens() {
            assert!(begun.elapsed() < Duration::from_secs(120), "it never happens");
            thread::yield_now();
        }
    }

    /// Whether it can be locked without waiting.
    fn is_free(caches: &Caches, id: &str, locked: bool) -> bool {
        let waited = AtomicBool::new(false);
        let opened = caches.open("all", id, locked, &|| waited.store(true, Ordering::Relaxed), &|| true);
        // A cancelled caller does not get the notice about waiting.
        assert!(!waited.into_inner());
        match opened {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::Interrupted);
                false
            }
        }
    }

    #[test]
    fn what_is_in_it_stays_whatever_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let caches = Caches::new(directory.path().join("caches"));
        let long = "x".repeat(5000);
        let ids = ["", ".", "..", "../../etc", "a/b", "a\0b", "\n", long.as_str(), "/root/.cache/pip"];
        for id in ids {
            let cache = open(&caches, id, false);
            assert!(cache.path().starts_with(directory.path().join("caches/all")), "{id}");
            assert_eq!(fs::metadata(cache.path()).unwrap().permissions().mode() & 0o7777, 0o755);
            fs::write(cache.path().join("file"), id).unwrap();
        }
        for id in ids {
            assert_eq!(fs::read_to_string(open(&caches, id, true).path().join("file")).unwrap(), id);
            let other = caches.open("one", id, true, &|| {}, &|| false).unwrap();
            assert!(!other.path().join("file").exists(), "{id}");
        }
    }

    #[test]
    fn locked_ones_are_for_one_and_shared_ones_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let caches = Caches::new(directory.path().to_owned());
        let shared = [open(&caches, "a", false), open(&caches, "a", false)];
        assert!(is_free(&caches, "a", false) && !is_free(&caches, "a", true) && is_free(&caches, "b", true));
        assert_eq!(shared[0].path(), shared[1].path());
        drop(shared);
        let locked = open(&caches, "a", true);
        assert!(!is_free(&caches, "a", false) && !is_free(&caches, "a", true));
        let other = {
            let caches = caches.clone();
            let (told, hear) = std::sync::mpsc::channel();
            let wait = move || caches.open("all", "a", false, &|| told.send(()).unwrap(), &|| false).map(|_| ());
            let thread = thread::spawn(wait);
            hear.recv().unwrap();
            thread
        };
        drop(locked);
        other.join().unwrap().unwrap();
    }

    #[test]
    fn another_process_keeps_it_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let caches = Caches::new(directory.path().to_owned());
        let place = open(&caches, "a", false).path().parent().unwrap().to_owned();
        let mut command = Command::new("flock");
        let mut child = command.arg(place.join(LOCK)).arg("cat").stdin(Stdio::piped()).spawn().unwrap();
        soon(|| !is_free(&caches, "a", false));
        assert_eq!((caches.prune().unwrap(), place.exists()), (1, true));
        drop(child.stdin.take());
        child.wait().unwrap();
        soon(|| is_free(&caches, "a", true));
        soon(|| caches.prune().unwrap() == 0);
        assert!(!place.exists());
    }

    #[test]
    fn a_cache_that_is_removed_meanwhile_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let caches = Caches::new(directory.path().to_owned());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    caches.prune().unwrap();
                }
            });
            let use_it = |locked: bool| {
                for round in 0..20 {
                    let cache = caches.open("all", "a", locked, &|| {}, &|| false).unwrap();
                    let file = cache.path().join(format!("{locked}"));
                    fs::write(&file, round.to_string()).unwrap();
                    assert_eq!(fs::read_to_string(&file).unwrap(), round.to_string());
                }
            };
            let users = [true, false].map(|locked| scope.spawn(move || use_it(locked)));
            let results = users.map(|user| user.join());
            stop.store(true, Ordering::Relaxed);
            assert!(results.into_iter().all(|result| result.is_ok()));
        });
    }
}
