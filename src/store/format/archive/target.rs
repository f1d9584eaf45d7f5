//! Archives as targets of copies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::{Descriptor, Digest, Document, graph::Index, media_type};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::resume::{ArchiveContent, blob_header, document, padded, scan};
use super::rewrite::rewrite;
use crate::content::{ByteStream, Cause, ContentError, Source, Target, in_memory};
use crate::progress::Progress;
use crate::store::arrival::Arrival;
use crate::store::dir::Dir;
use crate::store::format::index::{self, MAX_INDEX};
use crate::store::format::tar_file::{BLOCK, TarRange};
use crate::store::partial::Partial;
use crate::store::stream::stream as read_stream;

/// The blobs that are not written because the reader of the archive already has them.
type Elsewhere = Box<dyn Fn(&Digest) -> bool + Send + Sync>;

/// An `oci-archive` as a target.
///
/// It is written to `FILE.partial` beside the file, one blob after the other in the order of the requests, so that the
/// same copy gives the same bytes: `oci-layout`, the blobs, and `index.json` at the end. It resumes the partial file of
/// a killed process, and finally removes blobs that were not requested. [`ArchiveWriter::finish`] renames the partial
/// file; without it, the partial file stays for the next run.
pub struct ArchiveWriter {
    path: PathBuf,
    elsewhere: Option<Elsewhere>,
    /// The offsets of the complete blobs.
    file: Arc<File>,
    blobs: Blobs,
    /// The requested blobs.
    asked: Mutex<BTreeSet<Digest>>,
    entries: Mutex<Vec<Descriptor>>,
    /// The lock of the writer, granted in the order of the requests.
    tail: Arc<tokio::sync::Mutex<Tail>>,
}

/// The offsets of the complete blobs.
type Blobs = Arc<Mutex<BTreeMap<Digest, TarRange>>>;

/// The end of the partial file.
struct Tail {
    partial: Partial,
    blobs: Blobs,
    /// The end of the last complete entry.
    end: u64,
    /// The incomplete blob after it.
    begun: Option<Begun>,
    /// Bytes that may not be on disk yet.
    unsynced: u64,
}

/// A blob whose header is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Complete blobs are flushed to the disk after this number of bytes. A crash of the machine can damage no more than
/// that and the last blob.
pub(super) const UNSYNCED: u64 = 64 << 20;

impl ArchiveWriter {
    /// Creates an archive at `path`, or resumes one. At the end, the target of a symbolic link is replaced, not the
    /// link.
    ///
    /// # Errors
    /// When the file cannot be written, is not a regular file, or is written by another process.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self, ContentError> {
        let path = path.into();
        let operation = format!("write the archive {}", path.display());
        blocking(move || Self::open(path)).await.map_err(|cause| cause.of(operation))
    }

    /// A delta: blobs for which `has` is true are not written. The documents of the index are always written.
    #[must_use]
    pub fn since(mut self, has: impl Fn(&Digest) -> bool + Send + Sync + 'static) -> Self {
        self.elsewhere = Some(Box::new(has));
        self
    }

    /// The path of the partial file of `file`, or of the target of the link `file`.
    #[must_use]
    pub fn partial_path(file: &Path) -> PathBuf {
        let mut partial = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()).into_os_string();
        partial.push(".partial");
        partial.into()
    }

    /// Writes the index, with entries in the order of the calls, and renames the file when it is on disk.
    ///
    /// # Errors
    /// When it cannot be written, or the index exceeds the limit for reading.
    pub async fn finish(self) -> Result<(), ContentError> {
        let operation = self.operation();
        let entries = std::mem::take(&mut *guard(&self.entries));
        let asked = std::mem::take(&mut *guard(&self.asked));
        let mut tail = Arc::clone(&self.tail).lock_owned().await;
        let path = self.path;
        blocking(move || tail.finish(&entries, &asked, &path)).await.map_err(|cause| cause.of(operation))
    }

    fn open(path: PathBuf) -> Result<Self, Cause> {
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            let message = "the partial file is not a regular file, so the copy cannot resume".into();
            return Err(Cause::Other { message, hint: None });
        }
        let path = fs::canonicalize(&path).unwrap_or(path);
        let partial = Self::partial_path(&path);
        let name = partial.file_name().unwrap_or_default();
        let Some(partial) = Partial::claim(|| Ok(Dir::holding(&partial)?.0), name)? else {
            let message = "another process is writing it".into();
            return Err(Cause::Other { message, hint: Some("wait until it is done".into()) });
        };
        let ArchiveContent { blobs, end, begun } = scan(partial.file())?;
        let file = Arc::clone(partial.file());
        let blobs = Arc::new(Mutex::new(blobs));
        let tail = Tail { partial, blobs: Arc::clone(&blobs), end, begun, unsynced: 0 };
        let tail = Arc::new(tokio::sync::Mutex::new(tail));
        Ok(Self { path, elsewhere: None, file, blobs, asked: Mutex::default(), entries: Mutex::default(), tail })
    }

    fn operation(&self) -> String {
        format!("write the archive {}", self.path.display())
    }

    /// The offset of the blob, if it exists; an error if its size differs from the descriptor.
    fn place(&self, descriptor: &Descriptor) -> Result<Option<TarRange>, ContentError> {
        let place = guard(&self.blobs).get(&descriptor.digest).copied();
        match place {
            Some(TarRange { length, .. }) if length != descriptor.size => {
                let operation = format!("write {} to {}", descriptor.digest, self.path.display());
                Err(Cause::WrongSize { expected: descriptor.size, actual: length }.of(operation))
            }
            place => Ok(place),
        }
    }

    async fn put_document(&self, manifest: &Descriptor, bytes: Bytes) -> Result<(), ContentError> {
        self.push(manifest, &InMemory(bytes), &()).await
    }
}

impl Tail {
    /// Begins or resumes the blob's entry, and returns the offset of its bytes.
    fn begin(&mut self, descriptor: &Descriptor) -> io::Result<u64> {
        let begun = Begun { digest: descriptor.digest.clone(), size: descriptor.size };
        let header = blob_header(&begun)?;
        if self.begun.as_ref() != Some(&begun) {
            let file = self.partial.file();
            file.set_len(self.end)?;
            self.begun = None;
            file.write_all_at(&header, self.end)?;
            self.begun = Some(begun);
        }
        Ok(self.end + header.len() as u64)
    }

    /// Ends the current entry, which is complete. The blob is recorded before the lock is released.
    fn end(&mut self, place: TarRange) -> io::Result<()> {
        let end = padded(place.offset + place.length);
        let file = self.partial.file();
        file.set_len(end)?;
        self.unsynced += end - self.end;
        self.end = end;
        guard(&self.blobs).extend(self.begun.take().map(|blob| (blob.digest, place)));
        if self.unsynced >= UNSYNCED {
            file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Rewrites the archive if it has blobs that were not requested: those of another, killed copy.
    fn leave_out(&mut self, asked: &BTreeSet<Digest>) -> Result<(), Cause> {
        let mut blobs: Vec<_> = guard(&self.blobs).iter().map(|(digest, place)| (digest.clone(), *place)).collect();
        let all = blobs.len();
        blobs.retain(|(digest, _)| asked.contains(digest));
        if blobs.len() < all {
            blobs.sort_by_key(|(_, place)| place.offset);
            (self.partial, self.end) = rewrite(&self.partial, &blobs)?;
        }
        Ok(())
    }

    /// Writes the index and the end of the archive, and renames the file.
    fn finish(&mut self, entries: &[Descriptor], asked: &BTreeSet<Digest>, path: &Path) -> Result<(), Cause> {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries});
        let index: Document<Index> = Document::from_json(index)?;
        let size = index.bytes().len() as u64;
        if size > MAX_INDEX {
            return Err(Cause::TooLarge { size, limit: MAX_INDEX });
        }
        self.leave_out(asked)?;
        let mut last = document("index.json", index.bytes())?;
        // Two blocks of zeroes are the end.
        last.resize(last.len() + 2 * BLOCK as usize, 0);
        let file = self.partial.file();
        file.set_len(self.end)?;
        file.write_all_at(&last, self.end)?;
        let (directory, name) = Dir::holding(path)?;
        self.partial.clone().persist(&directory, name)?;
        Ok(directory.sync()?)
    }
}

#[async_trait]
impl Source for ArchiveWriter {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let place = guard(&self.blobs).get(&descriptor.digest).copied();
        let operation = || format!("read {} from {}", descriptor.digest, self.path.display());
        let place = place.ok_or_else(|| Cause::NotFound.of(operation()))?;
        let file = self.file.try_clone().map_err(|error| Cause::Io(error).of(operation()))?;
        let offset = offset.min(place.length);
        Ok(read_stream(file, place.offset + offset, place.length - offset))
    }

    fn location(&self, _: &Descriptor) -> String {
        self.path.display().to_string()
    }
}

#[async_trait]
impl Target for ArchiveWriter {
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        if self.elsewhere.as_ref().is_some_and(|has| has(&descriptor.digest)) {
            return Ok(true);
        }
        guard(&self.asked).insert(descriptor.digest.clone());
        Ok(self.place(descriptor)?.is_some())
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        let operation = format!("write {} to {}", descriptor.digest, self.path.display());
        guard(&self.asked).insert(descriptor.digest.clone());
        let mut tail = Arc::clone(&self.tail).lock_owned().await;
        if self.place(descriptor)?.is_some() {
            progress.advance(descriptor.size);
            return Ok(());
        }
        let begin = tail.begin(descriptor).map_err(|error| Cause::Io(error).of(&operation))?;
        // The next push waits for the writing thread, even if this push is dropped.
        let arrival = Arrival { file: Arc::clone(&self.file), begin, held: tail };
        let Arrival { held: mut tail, .. } = arrival.receive(descriptor, source, progress, &operation).await?;
        let place = TarRange { offset: begin, length: descriptor.size };
        blocking(move || Ok(tail.end(place)?)).await.map_err(|cause| cause.of(operation))
    }

    /// A blob of an archive cannot be replaced, because other blobs follow it.
    async fn replace(&self, descriptor: &Descriptor, _: &dyn Source, _: &dyn Progress) -> Result<(), ContentError> {
        let message = "the partial file of an earlier run is damaged".into();
        let hint = Some(format!("remove {} and copy again", Self::partial_path(&self.path).display()));
        Err(Cause::Other { message, hint }.of(format!("write {} to {}", descriptor.digest, self.path.display())))
    }

    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        self.put_document(manifest, Bytes::copy_from_slice(bytes)).await?;
        index::keep(&mut guard(&self.entries), manifest);
        Ok(())
    }

    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError> {
        self.tag_all(manifest, &Bytes::copy_from_slice(bytes), &[tag.to_owned()]).await
    }

    async fn tag_all(&self, manifest: &Descriptor, bytes: &Bytes, tags: &[String]) -> Result<(), ContentError> {
        self.put_document(manifest, bytes.clone()).await?;
        tags.iter().for_each(|tag| index::tag(&mut guard(&self.entries), manifest, tag));
        Ok(())
    }
}

/// A document to write.
struct InMemory(Bytes);

#[async_trait]
impl Source for InMemory {
    async fn fetch(&self, _: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        Ok(in_memory(self.0.clone(), offset))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Cause> + Send + 'static) -> Result<T, Cause> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
