//! Cache of manifests and indexes that are read more than once: short ones in memory up to a limit, others in an
//! unnamed file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ociforge_manifests::Digest;

use crate::content::{ByteStream, in_memory};
use crate::store::spool::temporary_file;
use crate::store::stream::stream;

/// Maximum length in bytes of a document in memory.
const SHORT: usize = 64 << 10;

/// Maximum total in bytes of documents in memory.
const IN_MEMORY: usize = 8 << 20;

/// Documents by their digests.
#[derive(Default)]
pub(super) struct Documents(Mutex<DocumentCache>);

#[derive(Default)]
struct DocumentCache {
    places: HashMap<Digest, DocumentStorage>,
    /// Bytes of documents in memory.
    held: usize,
    file: Option<File>,
    /// Length of the file in bytes.
    end: u64,
}

enum DocumentStorage {
    Memory(Bytes),
    File { offset: u64, length: u64 },
}

impl Documents {
    /// The bytes of a document from `offset`; `None` if it is not cached.
    pub(super) fn read(&self, digest: &Digest, offset: u64) -> Option<ByteStream> {
        let kept = self.kept();
        match kept.places.get(digest)? {
            DocumentStorage::Memory(bytes) => Some(in_memory(bytes.clone(), offset)),
            DocumentStorage::File { offset: begin, length } => {
                let file = kept.file.as_ref()?.try_clone().ok()?;
                let offset = offset.min(*length);
                Some(stream(file, begin + offset, length - offset))
            }
        }
    }

    /// Caches a document. If there is no space, it is not cached, and the caller reads it again.
    pub(super) fn keep(&self, digest: &Digest, bytes: &[u8]) {
        let mut kept = self.kept();
        if kept.places.contains_key(digest) {
            return;
        }
        let place = if bytes.len() <= SHORT && kept.held + bytes.len() <= IN_MEMORY {
            kept.held += bytes.len();
            Ok(DocumentStorage::Memory(Bytes::copy_from_slice(bytes)))
        } else {
            kept.append(bytes)
        };
        kept.places.extend(place.ok().map(|place| (digest.clone(), place)));
    }

    fn kept(&self) -> MutexGuard<'_, DocumentCache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DocumentCache {
    fn append(&mut self, bytes: &[u8]) -> io::Result<DocumentStorage> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(temporary_file()?),
        };
        file.write_all_at(bytes, self.end)?;
        let place = DocumentStorage::File { offset: self.end, length: bytes.len() as u64 };
        self.end += bytes.len() as u64;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn documents_are_there_wherever_they_are_kept() {
        let documents = Documents::default();
        let all: Vec<Vec<u8>> =
            (0..300u32).map(|n| n.to_le_bytes().repeat(if n % 10 == 0 { 100_000 } else { 16_000 })).collect();
        for document in all.iter().chain(&all[..5]) {
            documents.keep(&Digest::of(document), document);
        }
        let read = async |document: &[u8], offset: u64| {
            let pieces: Vec<Bytes> =
                documents.read(&Digest::of(document), offset).unwrap().try_collect().await.unwrap();
            pieces.concat()
        };
        for document in &all {
            assert!(read(document, 0).await == *document);
            assert!(read(document, 70_001).await == document[70_001.min(document.len())..]);
        }
        assert!(documents.read(&Digest::of(b"other"), 0).is_none());
        let kept = documents.kept();
        assert!(kept.held <= IN_MEMORY && kept.held > IN_MEMORY / 2 && kept.end > 0);
    }
}
