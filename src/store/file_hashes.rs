//! Known hashes of files outside of the store. A file is hashed again only if its size or one of its times changed.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use ociforge_layers::entries::fill;
use ociforge_layers::regular::open_regular;
use ociforge_layers::sha256::{Sha256Stream, update_two};
use ociforge_manifests::Digest;
use serde::{Deserialize, Serialize};

use super::dir::{FileFacts, since_1970};
use super::write_atomic;

/// Bytes per read.
const PIECE: usize = 256 << 10;

/// A file that changed later than this before it was read may have the same times after another change.
const SETTLED: Duration = Duration::from_millis(100);

/// The hashes of a store.
#[derive(Debug, Clone)]
pub struct FileHashes {
    directory: PathBuf,
}

/// A file and its hash.
#[derive(Debug, Serialize, Deserialize)]
struct KnownHash {
    facts: HashedFacts,
    sha256: Digest,
}

/// A file with its hash.
#[derive(Debug)]
pub struct HashedFile {
    facts: HashedFacts,
    /// Whether a later build knows the hash.
    is_recorded: bool,
    /// The hash.
    pub sha256: Digest,
}

impl HashedFile {
    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.facts.file.size
    }
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read")
}

/// A file that cannot be hashed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct FileHashError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// The facts of a file with a known hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HashedFacts {
    file: FileFacts,
    /// The time of the last change of its content, attributes or links.
    changed: SystemTime,
}

impl HashedFacts {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { file: FileFacts::of(file)?, changed: since_1970(metadata.ctime(), metadata.ctime_nsec()) })
    }

    /// Whether another change would change the times.
    fn is_settled(&self, now: SystemTime) -> bool {
        let is_old = |time| now.duration_since(time).is_ok_and(|age| age > SETTLED);
        is_old(self.file.modified) && is_old(self.changed)
    }
}

impl FileHashes {
    /// The hashes in `directory`, which need not exist.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The SHA-256 and the size in bytes of each file. Files without a known hash are read, several at a time.
    ///
    /// # Errors
    /// When a file is not a regular file, cannot be read, or changes meanwhile.
    pub fn of_all(&self, paths: &[PathBuf]) -> Result<Vec<(Digest, u64)>, FileHashError> {
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |source| FileHashError { path, source }
        };
        let files = paths.iter().map(|path| open_regular(path).map_err(failed(path)));
        let files: Vec<File> = files.collect::<Result<_, _>>()?;
        let hashed = self.of_files(&files.iter().collect::<Vec<_>>());
        let hashed = hashed.map_err(|(n, source)| failed(&paths[n])(source))?;
        Ok(hashed.into_iter().map(|HashedFile { facts, sha256, .. }| (sha256, facts.file.size)).collect())
    }

    /// The hash of an open file.
    ///
    /// # Errors
    /// As [`Self::of_all`].
    pub fn of_file(&self, file: &File) -> io::Result<HashedFile> {
        let hashed = self.of_files(&[file]).map_err(|(_, error)| error)?.pop();
        Ok(hashed.ok_or(io::ErrorKind::NotFound)?)
    }

    /// The hashes of open files. The error has the number of its file.
    fn of_files(&self, files: &[&File]) -> Result<Vec<HashedFile>, (usize, io::Error)> {
        let found = files.iter().enumerate().map(|(n, file)| self.known(file).map_err(|error| (n, error)));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let mut unknown: Vec<usize> = (0..files.len()).filter(|n| found[*n].1.is_none()).collect();
        unknown.sort_by_key(|n| std::cmp::Reverse(found[*n].0.file.size));
        let begin = SystemTime::now();
        let (facts, mut hashes): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        for (n, hash) in hash_all(files, unknown) {
            let (sha256, now) =
                hash.and_then(|hash| Ok((hash, HashedFacts::of(files[n])?))).map_err(|error| (n, error))?;
            if now != facts[n] {
                return Err((n, changed()));
            }
            if now.is_settled(begin) {
                self.set(now, &sha256);
            }
            hashes[n] = Some(sha256);
        }
        let hashed = facts.into_iter().zip(hashes).filter_map(|(facts, sha256)| {
            let is_recorded = facts.is_settled(begin);
            Some(HashedFile { facts, is_recorded, sha256: sha256? })
        });
        Ok(hashed.collect())
    }

    /// Keeps the hash of a file after a change of its links, which changes its ctime.
    ///
    /// # Errors
    /// When the file has been written since it was hashed.
    pub fn refresh(&self, file: &File, hashed: &HashedFile) -> io::Result<()> {
        let now = HashedFacts::of(file)?;
        if now.file != hashed.facts.file {
            return Err(changed());
        }
        if hashed.is_recorded {
            self.set(now, &hashed.sha256);
        }
        Ok(())
    }

    /// The facts of a file, and its hash if it is known.
    fn known(&self, file: &File) -> io::Result<(HashedFacts, Option<Digest>)> {
        let facts = HashedFacts::of(file)?;
        let read = |bytes: Vec<u8>| serde_json::from_slice::<KnownHash>(&bytes).ok();
        let known = fs::read(self.path(&facts)).ok().and_then(read).filter(|known| known.facts == facts);
        Ok((facts, known.map(|known| known.sha256)))
    }

    /// Records a hash. An error only means that the file is read again.
    fn set(&self, facts: HashedFacts, sha256: &Digest) {
        let path = self.path(&facts);
        if let Ok(json) = serde_json::to_vec(&KnownHash { facts, sha256: sha256.clone() }) {
            let _ = write_atomic(&path, &json);
        }
    }

    fn path(&self, facts: &HashedFacts) -> PathBuf {
        let (device, inode) = facts.file.identity;
        self.directory.join(format!("{device:x}-{inode:x}.json"))
    }
}

/// Hashes the files with these numbers, in this order, with one thread per processor and two files per thread.
fn hash_all(files: &[&File], numbers: Vec<usize>) -> Vec<(usize, io::Result<Digest>)> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(numbers.len());
    let queue = Mutex::new(numbers.into_iter());
    let next = || Some(HashingFile::new(queue.lock().ok()?.next()?));
    let worker = || {
        let (mut done, mut current) = (Vec::new(), [None, None]);
        loop {
            for file in current.iter_mut().filter(|file| file.is_none()) {
                *file = next();
            }
            match &mut current {
                [None, None] => return done,
                [Some(one), None] | [None, Some(one)] => one.read(files[one.number]).update(),
                [Some(a), Some(b)] => {
                    a.read(files[a.number]);
                    b.read(files[b.number]);
                    update_two(&mut a.hash, &a.piece[..a.len], &mut b.hash, &b.piece[..b.len]);
                }
            }
            let ended = current.iter_mut().filter(|file| file.as_ref().is_some_and(HashingFile::has_ended));
            done.extend(ended.filter_map(Option::take).map(HashingFile::finish));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

/// A file that is being hashed.
struct HashingFile {
    number: usize,
    hash: Sha256Stream,
    piece: Vec<u8>,
    /// The length of the piece; zero at the end of the file.
    len: usize,
    error: Option<io::Error>,
}

impl HashingFile {
    fn new(number: usize) -> Self {
        Self { number, hash: Sha256Stream::default(), piece: vec![0; PIECE], len: 0, error: None }
    }

    /// Reads the next piece.
    fn read(&mut self, mut file: &File) -> &mut Self {
        self.len = fill(&mut file, &mut self.piece).unwrap_or_else(|error| {
            self.error = Some(error);
            0
        });
        self
    }

    fn update(&mut self) {
        self.hash.update(&self.piece[..self.len]);
    }

    fn has_ended(&self) -> bool {
        self.len == 0
    }

    fn finish(self) -> (usize, io::Result<Digest>) {
        (self.number, self.error.map_or_else(|| Ok(Digest::from_sha256(&self.hash.finish())), Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FileHashes, Vec<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let hashes = FileHashes::new(directory.path().join("hashes"));
        let paths: Vec<PathBuf> = (0..5).map(|n| directory.path().join(format!("f{n}"))).collect();
        for (n, path) in paths.iter().enumerate() {
            fs::write(path, vec![u8::try_from(n).unwrap(); n * 300_001]).unwrap();
        }
        thread::sleep(SETTLED * 2);
        (directory, hashes, paths)
    }

    fn expected(paths: &[PathBuf]) -> Vec<(Digest, u64)> {
        let hash = |path: &PathBuf| fs::read(path).map(|bytes| (Digest::of(&bytes), bytes.len() as u64)).unwrap();
        paths.iter().map(hash).collect()
    }

    #[test]
    fn unchanged_files_are_not_read_again() {
        let (_directory, hashes, paths) = store();
        assert_eq!(hashes.of_all(&paths).unwrap(), expected(&paths));
        assert_eq!(fs::read_dir(&hashes.directory).unwrap().count(), 5);
        // A wrong hash shows that the file is not read.
        let (facts, _) = hashes.known(&File::open(&paths[1]).unwrap()).unwrap();
        hashes.set(facts, &Digest::of(b"known"));
        assert_eq!(hashes.of_all(&paths).unwrap()[1].0, Digest::of(b"known"));
        thread::sleep(SETTLED * 2);
        fs::write(&paths[1], "new").unwrap();
        assert_eq!(hashes.of_all(&paths).unwrap(), expected(&paths));
        assert!(hashes.of_all(&["/none".into()]).is_err() && hashes.of_all(&["/".into()]).is_err());
    }

    #[test]
    fn a_file_that_just_changed_is_read_again() {
        let (_directory, hashes, paths) = store();
        fs::write(&paths[2], "new").unwrap();
        hashes.of_all(&paths[2..3]).unwrap();
        assert!(hashes.known(&File::open(&paths[2]).unwrap()).unwrap().1.is_none());
    }

    #[test]
    fn a_link_keeps_the_hash() {
        let (directory, hashes, paths) = store();
        hashes.of_all(&paths).unwrap();
        let file = File::open(&paths[1]).unwrap();
        let link = directory.path().join("link");
        let hashed = hashes.of_file(&file).unwrap();
        fs::hard_link(&paths[1], &link).unwrap();
        hashes.refresh(&file, &hashed).unwrap();
        fs::rename(&link, directory.path().join("renamed")).unwrap();
        assert!(hashes.known(&file).unwrap().1.is_none());
        hashes.refresh(&file, &hashed).unwrap();
        assert_eq!(hashes.known(&file).unwrap().1, Some(expected(&paths)[1].0.clone()));
        fs::write(&paths[1], "other").unwrap();
        assert_eq!(hashes.refresh(&file, &hashed).unwrap_err().to_string(), "it changed while it was read");
    }
}
