//! Uploads that have not ended: files beside the blobs, and the state of their hashes.
//!
//! An upload is the file `.uploads/<id>` of the layout and its offset is the file's length, so uploads survive the server.
//! Who writes one holds the file's lock, whatever process it is in. The hash runs along while bytes arrive and is kept in
//! memory between requests; when it is lost, or another process wrote, the file is read again at the end.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ociforge_manifests::{Digest, Hasher};
use uuid::Uuid;

use crate::content::Cause;
use crate::store::gc::UPLOADS;

/// How long a request waits for another one on the same upload. A client whose connection broke may be back before the
/// server has noticed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The unfinished uploads of a layout.
#[derive(Debug)]
pub(super) struct Sessions {
    directory: PathBuf,
    running: Mutex<HashMap<Uuid, Running>>,
}

/// The hash of an upload's bytes so far, and the state of the file that they are in.
#[derive(Debug)]
struct Running {
    hasher: Hasher,
    stamp: Stamp,
}

/// What a file's state is known by.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: SystemTime,
}

/// An upload that one request has for itself.
#[derive(Debug)]
pub(super) struct Session {
    sessions: Arc<Sessions>,
    id: Uuid,
    file: File,
    length: u64,
    hasher: Option<Hasher>,
}

/// Why an upload can't be continued.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("there is no such upload")]
    Unknown,
    #[error("another request is writing this upload")]
    Busy,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Sessions {
    pub(super) fn new(layout: &Path) -> Arc<Self> {
        Arc::new(Self { directory: layout.join(UPLOADS), running: Mutex::default() })
    }

    /// Begins an upload, to be hashed with `algorithm` where that is known yet.
    pub(super) fn begin(&self, algorithm: Option<&str>) -> Result<Uuid, Cause> {
        let hasher = algorithm.map(hasher).transpose()?;
        let id = Uuid::new_v4();
        fs::create_dir_all(&self.directory)?;
        let file = OpenOptions::new().write(true).create_new(true).open(self.path(id))?;
        self.forget();
        if let Some(hasher) = hasher {
            self.running().insert(id, Running { hasher, stamp: Stamp::of(&file)? });
        }
        Ok(id)
    }

    /// How many bytes of an upload are there.
    pub(super) fn length(&self, id: Uuid) -> Result<u64, SessionError> {
        Ok(fs::metadata(self.path(id)).map_err(SessionError::of)?.len())
    }

    /// Takes an upload for one request, waiting a while for another request to end.
    pub(super) fn open(self: &Arc<Self>, id: Uuid) -> Result<Session, SessionError> {
        let mut file = OpenOptions::new().read(true).write(true).open(self.path(id)).map_err(SessionError::of)?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if since.elapsed() > PATIENCE => return Err(SessionError::Busy),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        // Who had it before may have made a blob of it, or removed it.
        let (ours, named) = (file.metadata()?, fs::metadata(self.path(id)).map_err(SessionError::of)?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            return Err(SessionError::Unknown);
        }
        let length = file.seek(SeekFrom::End(0))?;
        let stamp = Stamp::of(&file)?;
        let running = self.running().remove(&id).filter(|running| running.stamp == stamp);
        Ok(Session { sessions: Arc::clone(self), id, file, length, hasher: running.map(|running| running.hasher) })
    }

    /// Forgets the hashes of uploads that are gone: garbage collection removes those that were given up.
    fn forget(&self) {
        self.running().retain(|id, _| self.path(*id).exists());
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.directory.join(id.to_string())
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Uuid, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Puts bytes at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        if self.length == 0 && self.hasher.is_none() {
            self.hasher = Some(Hasher::default());
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// Has all bytes, those before too, hashed with `algorithm`: reads the file again where that has not been done yet.
    pub(super) fn hash_with(&mut self, algorithm: &str) -> Result<(), Cause> {
        if self.hasher.as_ref().is_some_and(|hasher| hasher.algorithm() == algorithm) {
            return Ok(());
        }
        let mut hasher = hasher(algorithm)?;
        let mut buffer = vec![0; 256 << 10];
        self.file.rewind()?;
        loop {
            match self.file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        self.hasher = Some(hasher);
        Ok(())
    }

    /// Takes back what came after the first `length` bytes.
    pub(super) fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.hasher = None;
        self.file.set_len(length)?;
        self.length = self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Makes the blob at `path` of it if the digest is `expected`. Otherwise the upload is gone, and the error is the
    /// digest that it had.
    pub(super) fn finish(mut self, expected: &Digest, path: &Path) -> Result<Result<(), Digest>, Cause> {
        self.hash_with(expected.algorithm())?;
        let actual = self.hasher.take().map(Hasher::finish);
        match actual.filter(|actual| actual != expected) {
            Some(actual) => {
                fs::remove_file(self.sessions.path(self.id))?;
                Ok(Err(actual))
            }
            None => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                // The last bytes may have come long ago, but the manifest is still to come.
                self.file.set_modified(SystemTime::now())?;
                // A crash of the machine must not leave an empty file that is called like the blob.
                self.file.sync_data()?;
                fs::rename(self.sessions.path(self.id), path)?;
                Ok(Ok(()))
            }
        }
    }

    /// Removes the upload.
    pub(super) fn discard(mut self) -> io::Result<()> {
        self.hasher = None;
        fs::remove_file(self.sessions.path(self.id))
    }
}

impl Drop for Session {
    /// Keeps the hash for the next request, while the file is still locked.
    fn drop(&mut self) {
        if let (Some(hasher), Ok(stamp)) = (self.hasher.take(), Stamp::of(&self.file)) {
            self.sessions.running().insert(self.id, Running { hasher, stamp });
        }
    }
}

/// A digest in the making, of an algorithm that a client named.
fn hasher(algorithm: &str) -> Result<Hasher, Cause> {
    Hasher::new(algorithm).ok_or_else(|| Cause::Algorithm(algorithm.to_owned()))
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { length: metadata.len(), modified: metadata.modified()? })
    }
}

impl SessionError {
    fn of(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Unknown } else { Self::Io(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> (tempfile::TempDir, Arc<Sessions>) {
        let directory = tempfile::tempdir().unwrap();
        let sessions = Sessions::new(directory.path());
        (directory, sessions)
    }

    fn finish(directory: &Path, session: Session, content: &[u8]) -> bool {
        let blob = directory.join("blobs/blob");
        let done = session.finish(&Digest::of(content), &blob).unwrap().is_ok();
        assert_eq!(fs::read(blob).ok(), done.then(|| content.to_vec()));
        done
    }

    #[test]
    fn the_hash_is_kept_between_requests() {
        let (directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        for piece in [b"hel", b"lo!"] {
            sessions.open(id).unwrap().append(piece).unwrap();
        }
        let session = sessions.open(id).unwrap();
        assert!(session.hasher.is_some());
        assert!(finish(directory.path(), session, b"hello!"));
        assert!(matches!(sessions.open(id), Err(SessionError::Unknown)));
        assert!(sessions.running().is_empty());
    }

    #[test]
    fn another_server_goes_on_where_the_first_stopped() {
        let (directory, first) = sessions();
        let id = first.begin(Some("sha256")).unwrap();
        first.open(id).unwrap().append(b"hel").unwrap();
        let second = Sessions::new(directory.path());
        assert_eq!(second.length(id).unwrap(), 3);
        second.open(id).unwrap().append(b"lo").unwrap();
        assert!(finish(directory.path(), first.open(id).unwrap(), b"hello"));
    }

    #[test]
    fn a_wrong_digest_and_a_discard_leave_nothing() {
        let (directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        sessions.open(id).unwrap().append(b"hello").unwrap();
        assert!(!finish(directory.path(), sessions.open(id).unwrap(), b"hullo"));
        let id = sessions.begin(Some("sha512")).unwrap();
        sessions.open(id).unwrap().discard().unwrap();
        assert_eq!(fs::read_dir(directory.path().join(".uploads")).unwrap().count(), 0);
        assert!(sessions.running().is_empty());
    }

    #[test]
    fn hashes_of_uploads_that_are_gone_are_forgotten() {
        let (_directory, sessions) = sessions();
        let [gone, stays] = [(), ()].map(|()| sessions.begin(Some("sha256")).unwrap());
        fs::remove_file(sessions.path(gone)).unwrap();
        let new = sessions.begin(Some("sha256")).unwrap();
        let running = sessions.running();
        assert!(!running.contains_key(&gone) && running.contains_key(&stays) && running.contains_key(&new));
    }

    #[test]
    fn what_is_taken_back_is_not_hashed() {
        let (directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        let mut session = sessions.open(id).unwrap();
        session.append(b"hello").unwrap();
        session.truncate(3).unwrap();
        session.append(b"p").unwrap();
        assert!(finish(directory.path(), session, b"help"));
    }

    #[test]
    fn an_algorithm_may_be_named_at_the_end() {
        use sha2::Digest as _;
        let (directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        sessions.open(id).unwrap().append(b"hello").unwrap();
        let digest = Digest::from_sha512(&sha2::Sha512::digest(b"hello").into());
        assert_eq!(sessions.open(id).unwrap().finish(&digest, &directory.path().join("blob")).unwrap(), Ok(()));
        assert!(sessions.begin(Some("md5")).is_err());
    }

    #[test]
    fn one_request_at_a_time() {
        let (_directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        let first = sessions.open(id).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| sessions.open(id).map(|session| session.length()));
            std::thread::sleep(Duration::from_millis(50));
            first.discard().unwrap();
            assert!(matches!(second.join().unwrap(), Err(SessionError::Unknown)));
        });
    }
}
