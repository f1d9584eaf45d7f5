//! Unfinished uploads, recorded for a later run: one small file each, named after the blob's destination.
//!
//! A file is locked during the upload. Every change replaces it by a new file, which is locked before the rename.
//! Errors only lose the saved progress: this module returns none.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ociforge_manifests::{Descriptor, Digest, Hasher};
use serde::{Deserialize, Serialize};
use url::Url;

use super::feed::Mark;
use crate::content::Repository;
use crate::store::abandoned::{WEEK, remove_abandoned};

/// No note is longer, in bytes.
const LONGEST: u64 = 64 << 10;
const SUFFIX: &str = ".upload";
const TEMPORARY: &str = ".tmp-";

/// A directory of notes.
pub(super) struct Journal {
    directory: PathBuf,
    swept: AtomicBool,
}

/// The locked note of one upload.
pub(super) struct JournalEntry {
    path: PathBuf,
    /// Kept open for its lock.
    _lock: File,
    about: About,
}

/// The recorded state of an upload.
pub(super) struct Note {
    /// The URL of its next request.
    pub url: Url,
    /// The minimum size of a chunk for the registry, in bytes.
    pub least: u64,
    /// An offset up to which the registry has all bytes.
    pub mark: Mark,
}

/// The blob and its destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    registry: String,
    repository: String,
    digest: Digest,
    size: u64,
}

/// The stored form of a note.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    about: About,
    url: Url,
    least: u64,
    offset: u64,
    /// The state of the hash at `offset`, in hexadecimal digits.
    hash: String,
}

impl Journal {
    /// The directory is created on demand.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, swept: AtomicBool::new(false) }
    }

    /// Locks the note of an upload of this blob to `repository`, and returns its content. `None` if another run has it.
    pub(super) fn take(&self, repository: Repository, blob: &Descriptor) -> Option<(JournalEntry, Option<Note>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).ok()?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            remove_abandoned(&self.directory, WEEK, is_note);
        }
        let Repository { registry, name } = repository;
        let about = About { registry, repository: name, digest: blob.digest.clone(), size: blob.size };
        let key = Digest::of(format!("{}\n{}\n{}", about.registry, about.repository, about.digest).as_bytes());
        let path = self.directory.join(format!("{}{SUFFIX}", key.hex()));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).ok()?;
        file.try_lock().ok()?;
        // The previous holder may have removed or replaced it.
        let (ours, named) = (file.metadata().ok()?, fs::metadata(&path).ok()?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            return None;
        }
        let mut text = Vec::new();
        let read = (&file).take(LONGEST).read_to_end(&mut text);
        let note = read.ok().and_then(|_| Note::read(&text, &about));
        Some((JournalEntry { path, _lock: file, about }, note))
    }
}

impl JournalEntry {
    /// Records the offset of the upload. After an error the last note stays, which loses only a few bytes.
    pub(super) fn write(&mut self, note: &Note) {
        if let Ok(file) = self.replace(note) {
            self._lock = file;
        }
    }

    /// The upload has ended.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }

    fn replace(&self, note: &Note) -> io::Result<File> {
        let Note { url, least, mark } = note;
        let (about, hash) = (self.about.clone(), hex::encode(mark.hasher.state()));
        let written = Written { about, url: url.clone(), least: *least, offset: mark.offset, hash };
        let directory = self.path.parent().unwrap_or(Path::new("."));
        // Temporary files are private, and the address may be signed for the user.
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        file.as_file().try_lock()?;
        Ok(file.persist(&self.path)?)
    }
}

impl Note {
    /// The content of `text`, if it is a note of this upload.
    fn read(text: &[u8], about: &About) -> Option<Self> {
        let written: Written = serde_json::from_slice(text).ok()?;
        let hasher = Hasher::restore(about.digest.algorithm(), &hex::decode(&written.hash).ok()?)?;
        let fits = written.about == *about && written.offset <= about.size;
        let mark = Mark { offset: written.offset, hasher };
        fits.then_some(Self { url: written.url, least: written.least, mark })
    }
}

/// Whether a file is the note of an upload, or a temporary file of one.
fn is_note(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(SUFFIX.as_bytes()) || name.starts_with(TEMPORARY.as_bytes())
}
