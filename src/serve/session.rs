//! Unfinished uploads: files beside the blobs, and the state of their hashes.
//!
//! An upload is the file `.uploads/<id>` of the layout, and its offset is the file's length, so uploads survive the
//! server. The writer holds the file's lock. The hash is computed while bytes arrive and kept in memory between
//! requests; if it is lost, or another process wrote, the file is read again at the end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ociforge_manifests::{Digest, Hasher};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::answer::ApiError;
use super::blocking;
use crate::content::Cause;
use crate::store::dir::{Dir, FileFacts};
use crate::store::file_lock::try_lock;
use crate::store::{Layout, layout::UPLOADS};

/// The time that a request waits for another one on the same upload. A client may reconnect before the server notices a
/// broken connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first and the longest pause between two attempts.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(320)];

/// The unfinished uploads of a layout.
#[derive(Debug)]
pub(super) struct Sessions {
    layout: Layout,
    running: Mutex<HashMap<Uuid, UploadHash>>,
}

/// The hash of an upload's bytes so far, and the state of the file that they are in.
#[derive(Debug)]
struct UploadHash {
    hasher: Hasher,
    facts: FileFacts,
}

/// An upload that one request has for itself.
#[derive(Debug)]
pub(super) struct IncomingUpload {
    sessions: Arc<Sessions>,
    id: Uuid,
    directory: Dir,
    file: File,
    length: u64,
    hasher: Option<Hasher>,
}

/// An error of continuing an upload.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the upload is unknown")]
    Unknown,
    #[error("another request is writing this upload")]
    Busy,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Sessions {
    pub(super) fn new(layout: &Layout) -> Arc<Self> {
        Arc::new(Self { layout: layout.clone(), running: Mutex::default() })
    }

    /// Begins an upload, hashed with `algorithm` if it is known.
    pub(super) fn begin(&self, algorithm: Option<&str>) -> Result<Uuid, Cause> {
        let hasher = algorithm.map(hasher).transpose()?;
        let id = Uuid::new_v4();
        let directory = self.layout.dir().make_directory(UPLOADS)?;
        let file = directory.new_file(id.to_string(), 0o666)?;
        self.forget(&directory);
        if let Some(hasher) = hasher {
            self.running().insert(id, UploadHash { hasher, facts: FileFacts::of(&file)? });
        }
        Ok(id)
    }

    /// The number of received bytes of an upload.
    pub(super) fn length(&self, id: Uuid) -> Result<u64, SessionError> {
        let facts = self.directory()?.facts(id.to_string())?;
        facts.map(|facts| facts.size).ok_or(SessionError::Unknown)
    }

    /// Opens an upload for one request; waits a limited time for another request to end.
    pub(super) async fn open(self: &Arc<Self>, id: Uuid) -> Result<IncomingUpload, ApiError> {
        let (since, mut pause) = (Instant::now(), LOOK_AGAIN[0]);
        loop {
            let sessions = Arc::clone(self);
            match blocking(move || sessions.try_open(id)).await? {
                Err(SessionError::Busy) if since.elapsed() < PATIENCE => {}
                opened => return Ok(opened?),
            }
            // No thread waits: the holder of the upload may wait for a client.
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN[1]);
        }
    }

    /// Locks an upload for one request, unless another one has it.
    fn try_open(self: &Arc<Self>, id: Uuid) -> Result<IncomingUpload, SessionError> {
        let (directory, name) = (self.directory()?, id.to_string());
        let mut file = directory.edit_file(&name).map_err(SessionError::of)?;
        if !try_lock(&file)? {
            return Err(SessionError::Busy);
        }
        // The previous holder may have finished or removed it.
        if !directory.has(&name, &file)? {
            return Err(SessionError::Unknown);
        }
        let length = file.seek(SeekFrom::End(0))?;
        let facts = FileFacts::of(&file)?;
        let running = self.running().remove(&id).filter(|running| running.facts == facts);
        let (sessions, hasher) = (Arc::clone(self), running.map(|running| running.hasher));
        Ok(IncomingUpload { sessions, id, directory, file, length, hasher })
    }

    fn directory(&self) -> Result<Dir, SessionError> {
        self.layout.dir().directory(UPLOADS).map_err(SessionError::of)
    }

    /// Drops the hashes of removed uploads: garbage collection removes abandoned ones.
    fn forget(&self, directory: &Dir) {
        self.running().retain(|id, _| directory.is_taken(id.to_string()).unwrap_or(true));
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Uuid, UploadHash>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IncomingUpload {
    /// The number of received bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends pieces. An error, such as a full disk, ends the upload and frees its space.
    pub(super) fn append_all(mut self, pieces: &[Bytes]) -> Result<Self, Cause> {
        for piece in pieces {
            if let Err(error) = self.append(piece) {
                self.discard()?;
                return Err(error);
            }
        }
        Ok(self)
    }

    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Cause> {
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

    /// Truncates the upload to `length` bytes.
    pub(super) fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.hasher = None;
        self.file.set_len(length)?;
        self.length = self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Renames the upload to the layout's blob if the digest is `expected`. Otherwise the upload is removed, and the
    /// error is its digest.
    pub(super) fn finish(mut self, expected: &Digest) -> Result<Result<(), Digest>, Cause> {
        self.hash_with(expected.algorithm())?;
        let actual = self.hasher.take().map(Hasher::finish);
        match actual.filter(|actual| actual != expected) {
            Some(actual) => {
                self.directory.remove(self.id.to_string())?;
                Ok(Err(actual))
            }
            None => {
                let blobs = self.sessions.layout.blob_directory(expected)?;
                // The last bytes may be old, but the manifest has not arrived yet.
                self.file.set_modified(SystemTime::now())?;
                // A crash of the machine must not leave an empty file under the blob's name.
                self.file.sync_data()?;
                self.directory.rename(self.id.to_string(), &blobs, expected.hex())?;
                Ok(Ok(()))
            }
        }
    }

    /// Removes the upload.
    pub(super) fn discard(mut self) -> io::Result<()> {
        self.hasher = None;
        self.directory.remove(self.id.to_string())
    }
}

impl Drop for IncomingUpload {
    /// Keeps the hash for the next request, while the file is still locked.
    fn drop(&mut self) {
        if let (Some(hasher), Ok(facts)) = (self.hasher.take(), FileFacts::of(&self.file)) {
            self.sessions.running().insert(self.id, UploadHash { hasher, facts });
        }
    }
}

/// A digest in the making, of an algorithm that a client named.
fn hasher(algorithm: &str) -> Result<Hasher, Cause> {
    Hasher::new(algorithm).ok_or_else(|| Cause::Algorithm(algorithm.to_owned()))
}

impl SessionError {
    fn of(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Unknown } else { Self::Io(error) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sessions() -> (tempfile::TempDir, Arc<Sessions>) {
        let directory = tempfile::tempdir().unwrap();
        let sessions = Sessions::new(&Layout::create(directory.path()).unwrap());
        (directory, sessions)
    }

    fn append(session: IncomingUpload, content: &'static [u8]) -> IncomingUpload {
        session.append_all(&[Bytes::from_static(content)]).unwrap()
    }

    fn finish(session: IncomingUpload, content: &[u8]) -> bool {
        let blob = session.sessions.layout.blob_path(&Digest::of(content));
        let done = session.finish(&Digest::of(content)).unwrap().is_ok();
        assert_eq!(fs::read(blob).ok(), done.then(|| content.to_vec()));
        done
    }

    #[test]
    fn the_hash_is_kept_between_requests() {
        let (_directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        for piece in [b"hel", b"lo!"] {
            append(sessions.try_open(id).unwrap(), piece);
        }
        let session = sessions.try_open(id).unwrap();
        assert!(session.hasher.is_some());
        assert!(finish(session, b"hello!"));
        assert!(matches!(sessions.try_open(id), Err(SessionError::Unknown)));
        assert!(sessions.running().is_empty());
    }

    #[test]
    fn another_server_goes_on_where_the_first_stopped() {
        let (_directory, first) = sessions();
        let id = first.begin(Some("sha256")).unwrap();
        append(first.try_open(id).unwrap(), b"hel");
        let second = Sessions::new(&first.layout);
        assert_eq!(second.length(id).unwrap(), 3);
        append(second.try_open(id).unwrap(), b"lo");
        assert!(finish(first.try_open(id).unwrap(), b"hello"));
    }

    #[test]
    fn a_wrong_digest_and_a_discard_leave_nothing() {
        let (directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        append(sessions.try_open(id).unwrap(), b"hello");
        assert!(!finish(sessions.try_open(id).unwrap(), b"hullo"));
        let id = sessions.begin(Some("sha512")).unwrap();
        sessions.try_open(id).unwrap().discard().unwrap();
        assert_eq!(fs::read_dir(directory.path().join(".uploads")).unwrap().count(), 0);
        assert!(sessions.running().is_empty());
    }

    #[test]
    fn hashes_of_uploads_that_are_gone_are_forgotten() {
        let (directory, sessions) = sessions();
        let [gone, stays] = [(), ()].map(|()| sessions.begin(Some("sha256")).unwrap());
        fs::remove_file(directory.path().join(UPLOADS).join(gone.to_string())).unwrap();
        let new = sessions.begin(Some("sha256")).unwrap();
        let running = sessions.running();
        assert!(!running.contains_key(&gone) && running.contains_key(&stays) && running.contains_key(&new));
    }

    #[test]
    fn what_is_taken_back_is_not_hashed() {
        let (_directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        let mut session = append(sessions.try_open(id).unwrap(), b"hello");
        session.truncate(3).unwrap();
        assert!(finish(append(session, b"p"), b"help"));
    }

    #[test]
    fn an_algorithm_may_be_named_at_the_end() {
        use sha2::Digest as _;
        let (_directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        append(sessions.try_open(id).unwrap(), b"hello");
        let digest = Digest::from_sha512(&sha2::Sha512::digest(b"hello").into());
        assert_eq!(sessions.try_open(id).unwrap().finish(&digest).unwrap(), Ok(()));
        assert_eq!(sessions.layout.blob_size(&digest), Some(5));
        assert!(sessions.begin(Some("md5")).is_err());
    }

    #[tokio::test]
    async fn one_request_at_a_time() {
        let (_directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        let first = sessions.try_open(id).unwrap();
        assert!(matches!(sessions.try_open(id), Err(SessionError::Busy)));
        let second = tokio::spawn({
            let sessions = Arc::clone(&sessions);
            async move { sessions.open(id).await.map(|session| session.length()) }
        });
        sleep(Duration::from_millis(50)).await;
        first.discard().unwrap();
        assert_eq!(second.await.unwrap().unwrap_err().status_code(), 404);
    }

    #[test]
    fn nothing_outside_is_written_to_under_the_name_of_an_upload() {
        let (directory, sessions) = sessions();
        let id = sessions.begin(None).unwrap();
        let (upload, victim) = (directory.path().join(UPLOADS).join(id.to_string()), directory.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        let make: [fn(&std::path::Path, &std::path::Path); 3] = [
            |victim, upload| std::os::unix::fs::symlink(victim, upload).unwrap(),
            |victim, upload| fs::hard_link(victim, upload).unwrap(),
            |_, upload| {
                rustix::fs::mknodat(rustix::fs::CWD, upload, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap()
            },
        ];
        for make in make {
            fs::remove_file(&upload).unwrap();
            make(&victim, &upload);
            assert!(matches!(sessions.try_open(id), Err(SessionError::Io(_))));
        }
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }
}
