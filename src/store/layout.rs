//! OCI layouts on disk (image-spec, image-layout.md).
//!
//! Several processes may work on one layout: blobs and the index appear whole by renaming, and the index is changed
//! under a lock. A blob that was pushed in part lies in `.partial/<algorithm>-<hex>`, locked by who writes it, and the
//! next push of it goes on from there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::{Descriptor, Digest, Document, graph::Index, media_type};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::arrival::Arrival;
use super::blob::{BlobWriter, write_atomic, write_durable};
use super::partial::{self, Partial};
use super::stream::stream;
use super::{Indexed, index, index::MAX_INDEX};
use crate::content::{ByteStream, Cause, ContentError, Source, Target, or_data};
use crate::progress::Progress;

/// The annotation that names a manifest in a layout's index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How long to wait before looking again whether another writer of the same blob is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is written in a layout besides blobs and the index.
const OWN: [&str; 4] = [".lock", ".partial", ".uploads", ".writers"];

/// An OCI layout directory.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout in `root`, which is made if it is missing or empty. Blobs that were begun and not gone on with for a
    /// week are removed.
    ///
    /// # Errors
    /// When the directory holds something else, or can't be written.
    pub fn create(root: impl Into<PathBuf>) -> io::Result<Self> {
        let layout = Self { root: root.into() };
        if !layout.root.join("oci-layout").exists() {
            let foreign = fs::read_dir(&layout.root).is_ok_and(|mut entries| entries.next().is_some());
            if foreign && !layout.root.join("blobs").exists() {
                return Err(io::Error::other("the directory is not empty and not an OCI layout"));
            }
            fs::create_dir_all(layout.blobs())?;
            write_atomic(&layout.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        layout.refuse_links()?;
        partial::sweep(&layout.partials());
        Ok(layout)
    }

    /// The layout that is in `root`.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let layout = Self { root: root.into() };
        if layout.root.join("oci-layout").is_file() {
            layout.refuse_links()?;
            Ok(layout)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "there is no OCI layout (no file oci-layout)"))
        }
    }

    /// A layout that came from elsewhere may lead out of its directory by what is written and removed in it.
    fn refuse_links(&self) -> io::Result<()> {
        let link = OWN.into_iter().find(|name| self.root.join(name).is_symlink());
        link.map_or(Ok(()), |name| Err(io::Error::other(format!("{name} in it is a symbolic link"))))
    }

    /// The layout's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob of this digest is, or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// The length in bytes of the blob of this digest; `None` when it is not there.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// The same for somebody who is about to rely on the blob: its time of modification becomes now, so that garbage
    /// collection leaves it alone until a manifest reaches it. After this a collection that was about to remove it does
    /// not; one that had removed it already makes this `None`.
    #[must_use]
    pub fn claim_blob(&self, digest: &Digest) -> Option<u64> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // Who may not do this has no say in what is collected. The look has to come after the touch.
        let _ = rustix::fs::utimensat(CWD, self.blob_path(digest), &times, AtFlags::empty());
        self.blob_size(digest)
    }

    /// Opens the blob of this digest, and tells its length in bytes.
    ///
    /// # Errors
    /// When it is not there or can't be read.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<(File, u64)> {
        let file = File::open(self.blob_path(digest))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        BlobWriter::new(&self.blobs())
    }

    /// Puts a blob that is in memory.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let mut writer = self.writer()?;
        io::Write::write_all(&mut writer, bytes)?;
        Ok(writer.finish()?.0)
    }

    /// The index, empty where there is none yet.
    ///
    /// # Errors
    /// When it can't be read or is no index.
    pub fn index(&self) -> Result<Document<Index>, Cause> {
        let path = self.root.join("index.json");
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_INDEX => {
                Err(Cause::TooLarge { size: metadata.len(), limit: MAX_INDEX })
            }
            Ok(_) => Ok(Document::parse(fs::read(&path)?)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Document::from_json(empty_index())?),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the list of manifests in the index, alone with it.
    ///
    /// # Errors
    /// When the index can't be read or written.
    pub fn edit_index(&self, edit: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), Cause> {
        self.lock()?.edit_index(edit)
    }

    /// Waits until nobody else changes the index, and keeps it so.
    ///
    /// # Errors
    /// When the layout can't be written.
    pub fn lock(&self) -> io::Result<Locked<'_>> {
        let file = File::options().create(true).append(true).open(self.root.join(".lock"))?;
        file.lock()?;
        Ok(Locked { layout: self, _file: file })
    }

    /// The manifest called `name`, or, without a name, the only one there is.
    ///
    /// # Errors
    /// When the index can't be read, or there is no such manifest.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Cause> {
        index::find(&*self.index()?, name, "layout")
    }

    /// Puts a manifest, changes the list of manifests for it, and waits for the lock and the disk where that may be.
    async fn list(
        &self,
        manifest: &Descriptor,
        bytes: Bytes,
        operation: String,
        edit: impl FnOnce(&mut Vec<Descriptor>) + Send + 'static,
    ) -> Result<(), ContentError> {
        let (layout, manifest) = (self.clone(), manifest.clone());
        let work = move || {
            layout.put_document(&manifest, &bytes)?;
            layout.edit_index(edit).map_err(|cause| cause.of(operation))
        };
        let joined = spawn_blocking(work).await.map_err(io::Error::other);
        joined.map_err(|error| Cause::Io(error).of(format!("write to {}", self.root.display())))?
    }

    fn put_document(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        let there = self.claim_blob(&manifest.digest) == Some(manifest.size);
        // Documents are small: one that is damaged there is written again.
        let damaged = || fs::read(self.blob_path(&manifest.digest)).ok().as_deref() != Some(bytes);
        if !there || (bytes.len() as u64 == manifest.size && damaged()) {
            let put = write_durable(&self.blob_path(&manifest.digest), bytes).map_err(Cause::Io);
            put.map_err(|cause| cause.of(format!("write {} to {}", manifest.digest, self.root.display())))?;
        }
        Ok(())
    }

    /// Where blobs lie that were pushed in part.
    pub(super) fn partials(&self) -> PathBuf {
        self.root.join(".partial")
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.partials().join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }
}

/// A layout whose index nobody else changes.
#[derive(Debug)]
pub struct Locked<'a> {
    layout: &'a Layout,
    _file: File,
}

impl Locked<'_> {
    /// Changes the list of manifests in the index.
    ///
    /// # Errors
    /// When the index can't be read or written.
    pub fn edit_index(&self, edit: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), Cause> {
        let path = self.layout.root.join("index.json");
        let old = self.layout.index()?;
        let mut manifests = old.manifests.clone();
        edit(&mut manifests);
        if manifests != old.manifests || !path.exists() {
            let mut json = old.json().clone();
            json["manifests"] = json!(manifests);
            let new: Document<Index> = Document::from_json(json)?;
            let size = new.bytes().len() as u64;
            if size > MAX_INDEX {
                return Err(Cause::TooLarge { size, limit: MAX_INDEX });
            }
            write_durable(&path, new.bytes())?;
        }
        Ok(())
    }
}

/// An index without manifests.
fn empty_index() -> Value {
    json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []})
}

#[async_trait]
impl Source for Layout {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let operation = || format!("read {} from {}", descriptor.digest, self.root.display());
        let fetched = match self.open_blob(&descriptor.digest) {
            Ok((file, length)) => Ok(stream(file, offset, length.saturating_sub(offset))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Cause::NotFound.of(operation())),
            Err(error) => Err(Cause::Io(error).of(operation())),
        };
        or_data(fetched, descriptor, offset)
    }
}

impl Indexed for Layout {
    fn index(&self) -> Result<Document<Index>, Cause> {
        Self::index(self)
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }
}

#[async_trait]
impl Target for Layout {
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        Ok(self.claim_blob(&descriptor.digest) == Some(descriptor.size))
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        let operation = format!("write {} to {}", descriptor.digest, self.root.display());
        let failed = |error: io::Error| Cause::Io(error).of(&operation);
        let partial = loop {
            match Partial::claim(&self.partial_path(&descriptor.digest)).map_err(failed)? {
                Some(partial) => break partial,
                // Somebody else is at it.
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        let (blob, mut outcome) = (self.blob_path(&descriptor.digest), Ok(()));
        let there = self.contains(descriptor).await?;
        if there {
            progress.advance(descriptor.size);
        } else {
            let arrival = Arrival { file: Arc::clone(partial.file()), begin: 0, held: () };
            outcome = arrival.receive(descriptor, source, progress, &operation).await.map(|_| ());
        }
        let whole = outcome.is_ok();
        let end = move || match (there, whole) {
            (true, _) => partial.discard(),
            (_, true) => partial.persist(&blob),
            (_, false) => partial.discard_empty(),
        };
        let ended = spawn_blocking(end).await.map_err(io::Error::other).and_then(|ended| ended);
        // The directory stays while there is something in it.
        let _ = fs::remove_dir(self.partials());
        outcome.and_then(|()| ended.map_err(failed))
    }

    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        let operation = format!("list {} in {}", manifest.digest, self.root.display());
        let entry = manifest.clone();
        let bytes = Bytes::copy_from_slice(bytes);
        self.list(manifest, bytes, operation, move |manifests| index::keep(manifests, &entry)).await
    }

    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError> {
        self.tag_all(manifest, &Bytes::copy_from_slice(bytes), &[tag.to_owned()]).await
    }

    async fn tag_all(&self, manifest: &Descriptor, bytes: &Bytes, tags: &[String]) -> Result<(), ContentError> {
        let operation = format!("name {} `{}` in {}", manifest.digest, tags.join("`, `"), self.root.display());
        let (entry, tags) = (manifest.clone(), tags.to_vec());
        let edit =
            move |manifests: &mut Vec<Descriptor>| tags.iter().for_each(|tag| index::tag(manifests, &entry, tag));
        self.list(manifest, bytes.clone(), operation, edit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(fs::read_dir(to.blobs()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_push_goes_on_where_the_last_one_ended() {
        let (_directory, to) = layout();
        let blob = noise(700_000);
        let descriptor = Descriptor::of("", &blob);
        let source = Script::new(&blob, &[End::Breaks(300_000), End::Hangs(600_000)]);
        assert!(to.push(&descriptor, &source, &()).await.is_err());
        let partial = to.partial_path(&descriptor.digest);
        assert_eq!(fs::metadata(&partial).unwrap().len(), 300_000);
        // One that nobody waits for any more leaves what it has, too.
        let killed = tokio::time::timeout(Duration::from_millis(300), to.push(&descriptor, &source, &()));
        assert!(killed.await.is_err());
        to.push(&descriptor, &source, &()).await.unwrap();
        assert_eq!(fs::read(to.blob_path(&descriptor.digest)).unwrap(), blob);
        let offsets = source.offsets();
        assert_eq!(offsets[..2], [0, 300_000]);
        assert!(offsets[2] > 300_000, "{offsets:?}");
        assert!(!to.partials().exists());
    }

    #[tokio::test]
    async fn the_same_blob_is_fetched_once_however_many_want_it() {
        let (_directory, to) = layout();
        let blob = noise(700_000);
        let (descriptor, source, count) = (Descriptor::of("", &blob), Script::new(&blob, &[]), Count::default());
        let pushes = (0..5).map(|_| to.push(&descriptor, &source, &count));
        assert!(futures_util::future::join_all(pushes).await.iter().all(Result::is_ok));
        assert_eq!((source.offsets(), count.get()), (vec![0], 5 * 700_000));
        assert!(!to.partials().exists());
    }

    #[tokio::test]
    async fn a_part_of_another_blob_does_not_stay() {
        let (_directory, to) = layout();
        let blob = noise(5000);
        let descriptor = Descriptor::of("", &blob);
        fs::create_dir_all(to.partials()).unwrap();
        fs::write(to.partial_path(&descriptor.digest), [7; 3000]).unwrap();
        to.push(&descriptor, &Script::new(&blob, &[]), &()).await.unwrap();
        assert_eq!(fs::read(to.blob_path(&descriptor.digest)).unwrap(), blob);
        let other = Descriptor::of("", b"other");
        assert!(to.push(&other, &Script::new(b"OTHER", &[]), &()).await.is_err());
        assert!(!to.partials().exists());
    }

    #[test]
    fn parts_that_were_given_up_are_removed() {
        let (_directory, layout) = layout();
        let [old, new, busy] = ["sha256-1", "sha256-2", "sha256-3"].map(|name| layout.partials().join(name));
        let week = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
        for path in [&old, &new, &busy] {
            Partial::claim(path).unwrap();
        }
        for path in [&old, &busy] {
            File::options().write(true).open(path).unwrap().set_modified(week).unwrap();
        }
        let claimed = Partial::claim(&busy).unwrap();
        assert!(Partial::claim(&busy).unwrap().is_none());
        Layout::create(layout.root()).unwrap();
        assert!(!old.exists() && new.exists() && busy.exists());
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
                let went_on = others.recv_timeout(Duration::from_secs(20)).is_ok();
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
        for name in OWN {
            let (directory, layout) = layout();
            let victim = directory.path().join("victim");
            fs::write(&victim, "precious").unwrap();
            std::os::unix::fs::symlink(&victim, layout.root().join(name)).unwrap();
            let error = Layout::create(layout.root()).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} in it is a symbolic link"));
            assert!(Layout::open(layout.root()).is_err());
            assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
        }
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
