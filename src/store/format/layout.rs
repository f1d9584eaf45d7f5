//! OCI layouts on disk (image-spec, image-layout.md).
//!
//! Several processes may use one layout: blobs and the index are renamed into place, and the index is changed under a
//! lock. A partial blob is in `.partial/<algorithm>-<hex>`, locked by its writer, and the next push resumes it.
//!
//! A layout is not trusted. Links in the user's path to its directory are followed, but no link inside of it, and only
//! regular files and directories are accepted (see [`Dir`]).

mod target;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ociforge_manifests::{Descriptor, Digest, Document, Hasher, graph::Index, media_type};
use serde_json::{Value, json};

use super::blob_name::{BLOBS, blob_name};
use super::{index, index::MAX_INDEX};
use crate::content::Cause;
use crate::store::blob::BlobWriter;
use crate::store::dir::{Dir, FileFacts, there};
use crate::store::file_lock::try_lock;
use crate::store::partial::{self, Partial};

/// The annotation that names a manifest in a layout's index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const LOCK: &str = ".lock";
const PARTIALS: &str = ".partial";
/// The directory of a layout for unfinished uploads: files that are locked during a request.
pub const UPLOADS: &str = ".uploads";
/// The lock file of direct writers of the layout.
pub(in crate::store) const WRITERS: &str = ".writers";

/// The top-level names of a layout, and whether they are directories.
const TOP: [(&str, bool); 7] = [
    (LAYOUT, false),
    (INDEX, false),
    (BLOBS, true),
    (LOCK, false),
    (PARTIALS, true),
    (UPLOADS, true),
    (WRITERS, false),
];

/// An OCI layout directory.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    dir: Dir,
}

impl Layout {
    /// Opens the layout in `root`, or creates it if the directory is missing or empty. Partial blobs older than a week
    /// are removed.
    ///
    /// # Errors
    /// When the directory has other content, or cannot be written.
    pub fn create(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let dir = Dir::create(&root)?;
        let layout = Self { root, dir };
        layout.check()?;
        if !layout.dir.is_taken(LAYOUT)? {
            let foreign = fs::read_dir(&layout.root).is_ok_and(|mut entries| entries.next().is_some());
            if foreign && !layout.dir.is_taken(BLOBS)? {
                return Err(io::Error::other("the directory is not empty and not an OCI layout"));
            }
            layout.blobs()?;
            layout.dir.write(LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#, false)?;
        }
        if let Ok(partials) = layout.dir.directory(PARTIALS) {
            partial::sweep(&partials);
            layout.remove_empty_partials();
        }
        Ok(layout)
    }

    /// Opens the layout in `root`.
    ///
    /// # Errors
    /// When it does not exist, or has entries of other types than files and directories.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let none = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the directory is not an OCI layout: the file oci-layout is missing",
            )
        };
        let root = root.into();
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the directory does not exist");
        let dir = Dir::open(&root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _ if is_missing(&error) => none(),
            _ => error,
        })?;
        let layout = Self { root, dir };
        layout.check()?;
        if layout.dir.facts(LAYOUT)?.is_some() { Ok(layout) } else { Err(none()) }
    }

    /// Refuses links and special files at the top of the layout. Blobs are checked when they are opened.
    fn check(&self) -> io::Result<()> {
        TOP.iter().try_for_each(|(name, directory)| self.dir.expect(name, *directory))?;
        let Ok(blobs) = self.dir.directory(BLOBS) else { return Ok(()) };
        // Other names are ignored, except for links, because a listing would follow them.
        ["sha256", "sha512"].iter().try_for_each(|algorithm| blobs.expect(algorithm, true))
    }

    /// The layout's directory, for messages.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layout's directory, to open what is in it.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The path of the blob of this digest, for messages. [`Layout::open_blob`] opens it.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(blob_name(digest))
    }

    /// The directory of blobs for the algorithm of this digest, created if it is missing.
    ///
    /// # Errors
    /// When it cannot be created, or the name has another type.
    pub fn blob_directory(&self, digest: &Digest) -> io::Result<Dir> {
        self.dir.make_directory(BLOBS)?.make_directory(digest.algorithm())
    }

    /// The directory of an algorithm's blobs, if it exists.
    fn algorithm(&self, digest: &Digest) -> io::Result<Dir> {
        self.dir.directory(BLOBS)?.directory(digest.algorithm())
    }

    /// The metadata of the blob of this digest; `None` if it does not exist.
    #[must_use]
    pub fn blob_facts(&self, digest: &Digest) -> Option<FileFacts> {
        self.algorithm(digest).and_then(|directory| directory.facts(digest.hex())).ok().flatten()
    }

    /// The size in bytes of the blob of this digest; `None` if it does not exist.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.blob_facts(digest).map(|facts| facts.size)
    }

    /// As [`Self::blob_size`], and claims the blob: its modification time becomes now, so that garbage collection keeps
    /// it until a manifest refers to it. A collection that has not removed it yet keeps it; if it is already removed,
    /// the result is `None`.
    #[must_use]
    pub fn claim_blob(&self, digest: &Digest) -> Option<u64> {
        // A process without the permission cannot protect blobs. The check must follow the change of the time.
        let _ = self.algorithm(digest).and_then(|directory| directory.touch(digest.hex()));
        self.blob_size(digest)
    }

    /// Opens the blob of this digest, and returns its size in bytes.
    ///
    /// # Errors
    /// When it does not exist or cannot be read.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<(File, u64)> {
        let file = self.algorithm(digest)?.open_file(digest.hex())?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// The bytes of the blob of this digest, of at most `limit`. They are not verified.
    ///
    /// # Errors
    /// When it does not exist, cannot be read, or is larger.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Cause> {
        read_whole(self.open_blob(digest)?.0, limit)
    }

    /// Removes the blob of this digest.
    ///
    /// # Errors
    /// When it does not exist or cannot be removed.
    pub fn remove_blob(&self, digest: &Digest) -> io::Result<()> {
        self.algorithm(digest)?.remove(digest.hex())
    }

    /// Creates a blob.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        BlobWriter::new(&self.blobs()?)
    }

    /// Writes a blob from memory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let mut writer = self.writer()?;
        io::Write::write_all(&mut writer, bytes)?;
        Ok(writer.finish()?.0)
    }

    /// The index; empty if it does not exist yet.
    ///
    /// # Errors
    /// When it cannot be read or is not an index.
    pub fn index(&self) -> Result<Document<Index>, Cause> {
        match self.dir.open_file(INDEX) {
            Ok(file) => Ok(Document::parse(read_whole(file, MAX_INDEX)?)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Document::from_json(empty_index())?),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the index exists.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.dir.is_taken(INDEX).unwrap_or(true)
    }

    /// Changes the list of manifests in the index under its lock.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn edit_index(&self, edit: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), Cause> {
        self.lock()?.edit_index(edit)
    }

    /// Locks the index, and waits for other processes.
    ///
    /// # Errors
    /// When the layout cannot be written.
    pub fn lock(&self) -> io::Result<Locked> {
        let file = self.dir.make_file(LOCK)?;
        file.lock()?;
        Ok(Locked { layout: self.clone(), _file: file })
    }

    /// Locks the index without waiting: `None` if another process has the lock.
    ///
    /// # Errors
    /// When the layout cannot be written.
    pub fn try_lock(&self) -> io::Result<Option<Locked>> {
        let file = self.dir.make_file(LOCK)?;
        Ok(try_lock(&file)?.then(|| Locked { layout: self.clone(), _file: file }))
    }

    /// The manifest `name`, or the only one without a name.
    ///
    /// # Errors
    /// When the index cannot be read, or the manifest does not exist.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Cause> {
        index::find(&*self.index()?, name, "layout")
    }

    /// Whether the index has an image called `name`, or several.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn has_name(&self, name: &str) -> Result<bool, Cause> {
        Ok(self.index()?.manifests.iter().any(|entry| index::name_of(entry) == Some(name)))
    }

    /// Writes a blob from memory, and flushes it to the disk before the rename.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        self.blob_directory(digest)?.write(digest.hex(), bytes, true)
    }

    /// Locks the partial blob of this digest for writing; `None` if another process has it.
    pub(in crate::store) fn claim_partial(&self, digest: &Digest) -> io::Result<Option<Partial>> {
        Partial::claim(|| self.dir.make_directory(PARTIALS), &partial_name(digest))
    }

    /// The directory of partial blobs; `None` if it does not exist.
    pub(in crate::store) fn partials(&self) -> io::Result<Option<Dir>> {
        there(self.dir.directory(PARTIALS))
    }

    /// Removes the directory of partial blobs if it is empty.
    pub(in crate::store) fn remove_empty_partials(&self) {
        let _ = self.dir.remove_directory(PARTIALS);
    }

    /// The directories of blobs, with the names of their algorithms.
    pub(in crate::store) fn algorithms(&self) -> io::Result<Vec<(String, Dir)>> {
        let Some(blobs) = there(self.dir.directory(BLOBS))? else { return Ok(Vec::new()) };
        let known = blobs.names()?.into_iter().filter_map(|name| name.into_string().ok());
        let known = known.filter(|name| Hasher::new(name).is_some());
        known.map(|name| blobs.directory(&name).map(|directory| (name, directory))).collect()
    }

    fn blobs(&self) -> io::Result<Dir> {
        self.dir.make_directory(BLOBS)?.make_directory("sha256")
    }
}

fn partial_name(digest: &Digest) -> OsString {
    format!("{}-{}", digest.algorithm(), digest.hex()).into()
}

/// The bytes of a file, of at most `limit`.
fn read_whole(file: File, limit: u64) -> Result<Vec<u8>, Cause> {
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    // The file may grow during the read.
    if size <= limit && file.take(limit.saturating_add(1)).read_to_end(&mut bytes)? as u64 <= limit {
        return Ok(bytes);
    }
    Err(Cause::TooLarge { size: size.max(bytes.len() as u64), limit })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A layout with a locked index.
#[derive(Debug)]
pub struct Locked {
    layout: Layout,
    _file: File,
}

impl Locked {
    /// Changes the list of manifests in the index.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn edit_index(&self, edit: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), Cause> {
        let old = self.layout.index()?;
        let mut manifests = old.manifests.clone();
        edit(&mut manifests);
        if manifests != old.manifests || !self.layout.has_index() {
            let mut json = old.json().clone();
            json["manifests"] = json!(manifests);
            let new: Document<Index> = Document::from_json(json)?;
            let size = new.bytes().len() as u64;
            if size > MAX_INDEX {
                return Err(Cause::TooLarge { size, limit: MAX_INDEX });
            }
            self.layout.dir.write(INDEX, new.bytes(), true)?;
        }
        Ok(())
    }
}

/// An index without manifests.
fn empty_index() -> Value {
    json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::{Source, Target};
    use crate::store::testing::{Count, End, Script, noise};

    fn layout() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        (directory, layout)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_blob_is_there_whole_or_not_at_all() {
        let (_directory, from) = layout();
        let (_other, to) = layout();
        let digest = from.put(b"hello").unwrap();
        let good = Descriptor::new("text/plain", digest.clone(), 5);
        to.push(&good, &from, &()).await.unwrap();
        assert!(to.contains(&good).await.unwrap());

        let missing = Descriptor::of("text/plain", b"hullo");
        assert!(to.push(&missing, &from, &()).await.is_err());
        fs::write(from.blob_path(&missing.digest), b"damaged").unwrap();
        assert!(to.push(&missing, &from, &()).await.is_err());
        assert_eq!(to.blobs().unwrap().names().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_push_goes_on_where_the_last_one_ended() {
        let (_directory, to) = layout();
        let blob = noise(700_000);
        let descriptor = Descriptor::of("", &blob);
        let source = Script::new(&blob, &[End::Breaks(300_000), End::Hangs(600_000)]);
        assert!(to.push(&descriptor, &source, &()).await.is_err());
        let partials = to.partials().unwrap().unwrap();
        assert_eq!(partials.facts(partial_name(&descriptor.digest)).unwrap().unwrap().size, 300_000);
        // A dropped push also keeps its partial blob.
        source.push_until_it_hangs(&to, &descriptor).await;
        to.push(&descriptor, &source, &()).await.unwrap();
        assert_eq!(fs::read(to.blob_path(&descriptor.digest)).unwrap(), blob);
        let offsets = source.offsets();
        assert_eq!(offsets[..2], [0, 300_000]);
        assert!(offsets[2] > 300_000, "{offsets:?}");
        assert!(to.partials().unwrap().is_none());
    }

    #[tokio::test]
    async fn the_same_blob_is_fetched_once_however_many_want_it() {
        let (_directory, to) = layout();
        let blob = noise(700_000);
        let (descriptor, source, count) = (Descriptor::of("", &blob), Script::new(&blob, &[]), Count::default());
        let pushes = (0..5).map(|_| to.push(&descriptor, &source, &count));
        assert!(futures_util::future::join_all(pushes).await.iter().all(Result::is_ok));
        assert_eq!((source.offsets(), count.get()), (vec![0], 5 * 700_000));
        assert!(to.partials().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_part_of_another_blob_does_not_stay() {
        let (_directory, to) = layout();
        let blob = noise(5000);
        let descriptor = Descriptor::of("", &blob);
        let partials = to.dir().make_directory(PARTIALS).unwrap();
        partials.write(partial_name(&descriptor.digest), &[7; 3000], false).unwrap();
        to.push(&descriptor, &Script::new(&blob, &[]), &()).await.unwrap();
        assert_eq!(fs::read(to.blob_path(&descriptor.digest)).unwrap(), blob);
        let other = Descriptor::of("", b"other");
        assert!(to.push(&other, &Script::new(b"OTHER", &[]), &()).await.is_err());
        assert!(to.partials().unwrap().is_none());
    }

    #[test]
    fn parts_that_were_given_up_are_removed() {
        let (_directory, layout) = layout();
        let [old, new, busy] = ["1", "2", "3"].map(|content| Digest::of(content.as_bytes()));
        let week = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
        for digest in [&old, &new, &busy] {
            let partial = layout.claim_partial(digest).unwrap().unwrap();
            if *digest != new {
                partial.file().set_modified(week).unwrap();
            }
        }
        let claimed = layout.claim_partial(&busy).unwrap();
        assert!(layout.claim_partial(&busy).unwrap().is_none());
        Layout::create(layout.root()).unwrap();
        let left = layout.partials().unwrap().unwrap().names().unwrap();
        let mut expected = [partial_name(&new), partial_name(&busy)];
        expected.sort();
        assert_eq!(left, expected);
        drop(claimed);
    }

    #[tokio::test]
    async fn a_kept_manifest_is_listed_once_and_has_a_name_when_it_is_tagged() {
        let (_directory, layout) = layout();
        let manifest = Descriptor::of(media_type::MANIFEST, b"{}");
        layout.keep(&manifest, b"{}").await.unwrap();
        layout.keep(&manifest, b"{}").await.unwrap();
        assert_eq!(layout.index().unwrap().manifests, std::slice::from_ref(&manifest));
        layout.tag(&manifest, b"{}", "a").await.unwrap();
        assert_eq!(layout.index().unwrap().manifests.len(), 1);
        assert_eq!(layout.find(Some("a")).unwrap().digest, manifest.digest);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_go_on_while_it_waits_for_the_lock() {
        let (_directory, layout) = layout();
        let manifest = Descriptor::of(media_type::MANIFEST, b"{}");
        let (locked, waits) = std::sync::mpsc::channel();
        let (went_on, others) = std::sync::mpsc::channel();
        let holder = {
            let layout = layout.clone();
            std::thread::spawn(move || {
                let lock = layout.lock().unwrap();
                locked.send(()).unwrap();
                let went_on = others.recv_timeout(Duration::from_secs(120)).is_ok();
                drop(lock);
                went_on
            })
        };
        waits.recv().unwrap();
        let other = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            went_on.send(()).unwrap();
        };
        let (kept, tagged, ()) = tokio::join!(layout.keep(&manifest, b"{}"), layout.tag(&manifest, b"{}", "a"), other);
        assert!(kept.is_ok() && tagged.is_ok() && holder.join().unwrap());
        assert_eq!(layout.find(Some("a")).unwrap().digest, manifest.digest);
    }

    #[tokio::test]
    async fn a_tag_moves() {
        let (_directory, layout) = layout();
        for content in [b"a", b"b"] {
            let manifest = Descriptor::new(media_type::MANIFEST, layout.put(content).unwrap(), 1);
            layout.tag(&manifest, content, "latest").await.unwrap();
        }
        assert_eq!(layout.find(Some("latest")).unwrap().digest, Digest::of(b"b"));
        assert_eq!(layout.find(None).unwrap().digest, Digest::of(b"b"));
        assert!(layout.find(Some("old")).is_err());
    }

    #[test]
    fn writers_wait_for_each_other() {
        let (_directory, layout) = layout();
        std::thread::scope(|scope| {
            for n in 0..16 {
                let layout = &layout;
                scope.spawn(move || {
                    let entry = Descriptor::of(media_type::MANIFEST, &[n]);
                    layout.edit_index(|manifests| manifests.push(entry)).unwrap();
                });
            }
        });
        assert_eq!(layout.index().unwrap().manifests.len(), 16);
    }

    #[test]
    fn a_foreign_directory_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("precious"), "").unwrap();
        assert!(Layout::create(directory.path()).is_err());
        assert!(Layout::open(directory.path()).is_err());
    }

    #[test]
    fn nothing_leads_out_of_a_layout() {
        let below = [("blobs/sha256", true), ("blobs/sha512", true)];
        for (name, is_directory) in TOP.into_iter().chain(below) {
            let (directory, layout) = layout();
            let (victim, place) = (directory.path().join("victim"), layout.root().join(name));
            fs::create_dir(&victim).unwrap();
            fs::write(victim.join("file"), "precious").unwrap();
            let target = if is_directory { victim.clone() } else { victim.join("file") };
            let _ = fs::remove_file(&place).or_else(|_| fs::remove_dir_all(&place));
            std::os::unix::fs::symlink(target, &place).unwrap();
            for opened in [Layout::create(layout.root()), Layout::open(layout.root())] {
                let error = opened.unwrap_err().to_string();
                assert!(error.starts_with(&format!("{name} is a symbolic link; expected ")), "{error}");
            }
            assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "precious");
            assert_eq!(fs::read_dir(victim).unwrap().count(), 1);
        }
    }

    #[test]
    fn the_layout_itself_may_be_reached_through_a_link() {
        let (directory, layout) = layout();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(layout.root(), &link).unwrap();
        let digest = Layout::create(&link).unwrap().put(b"x").unwrap();
        assert_eq!(Layout::open(&link).unwrap().blob_size(&digest), Some(1));
    }

    #[tokio::test]
    async fn what_is_called_like_a_blob_and_is_none_is_refused_and_replaced() {
        let (directory, layout) = layout();
        let blob = Descriptor::of("", b"blob");
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = layout.blob_path(&blob.digest);
        let fifo = || rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        let link = || std::os::unix::fs::symlink(&victim, &path).unwrap();
        for (make, is) in [(&link as &dyn Fn(), "a symbolic link"), (&fifo, "a named pipe")] {
            make();
            let error = layout.fetch(&blob, 0).await.err().unwrap();
            assert!(error.cause.to_string().contains(is), "{}", error.cause);
            assert!(!layout.contains(&blob).await.unwrap());
            layout.push(&blob, &Script::new(b"blob", &[]), &()).await.unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"blob");
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        assert!(layout.fetch(&blob, 0).await.err().unwrap().cause.to_string().contains("a directory"));
        let error = layout.push(&blob, &Script::new(b"blob", &[]), &()).await.unwrap_err();
        assert!(error.cause.to_string().contains("is a directory"), "{}", error.cause);
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_damaged_manifest_is_written_again() {
        let (_directory, layout) = layout();
        let manifest = Descriptor::of(media_type::MANIFEST, b"manifest");
        fs::write(layout.blob_path(&manifest.digest), [0; 8]).unwrap();
        layout.tag(&manifest, b"manifest", "x").await.unwrap();
        assert_eq!(fs::read(layout.blob_path(&manifest.digest)).unwrap(), b"manifest");
    }
}
