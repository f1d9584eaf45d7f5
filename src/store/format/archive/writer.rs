//! Writing of archives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::graph::{GraphNode, Index};
use ociforge_manifests::{Descriptor, Digest, Document, media_type};
use serde_json::json;
use tar::{Builder, EntryType};

use super::resume::LAYOUT;
use crate::content::{Cause, ContentError, Verifier, cause_of};
use crate::progress::Progress;
use crate::store::Layout;
use crate::store::blob::beside;
use crate::store::format::blob_name::{BLOBS, blob_name};
use crate::store::format::tar_file::header;

/// Writes `images` of the layout, with all their descendants, as an archive to `path`. The write is atomic, except to a
/// pipe or a device. `images` become the entries of the archive's index, with their annotations.
///
/// The same images give the same bytes: entries are in a fixed order, without times or owners. Each blob is verified
/// while it is read. The call blocks; `progress` counts the bytes of the blobs.
///
/// # Errors
/// When a blob is missing or damaged, or the file cannot be written.
pub fn write_archive(
    layout: &Layout,
    images: &[Descriptor],
    path: &Path,
    progress: &dyn Progress,
) -> Result<(), ContentError> {
    let operation = || format!("write the archive {}", path.display());
    let blobs = reachable(layout, images)?;
    let write = || {
        // A pipe or a device must not be replaced by a file.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = File::options().write(true).open(path)?;
            return write_to(&file, layout, images, &blobs, progress);
        }
        let (mut temporary, name) = beside(path)?;
        write_to(temporary.file(), layout, images, &blobs, progress)?;
        Ok(temporary.persist(name)?)
    };
    write().map_err(|cause: Cause| cause.of(operation()))
}

fn write_to(
    file: &File,
    layout: &Layout,
    images: &[Descriptor],
    blobs: &BTreeMap<Digest, Descriptor>,
    progress: &dyn Progress,
) -> Result<(), Cause> {
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": images});
    let index: Document<Index> = Document::from_json(index)?;
    let mut tar = Builder::new(io::BufWriter::with_capacity(1 << 20, file));
    append(&mut tar, "oci-layout", LAYOUT)?;
    append(&mut tar, "index.json", index.bytes())?;
    let algorithms: BTreeSet<_> = blobs.keys().map(Digest::algorithm).collect();
    append_directory(&mut tar, &format!("{BLOBS}/"))?;
    let mut blobs = blobs.iter().peekable();
    for algorithm in algorithms {
        append_directory(&mut tar, &format!("{BLOBS}/{algorithm}/"))?;
        while let Some((digest, descriptor)) = blobs.next_if(|(digest, _)| digest.algorithm() == algorithm) {
            let (file, _) = layout.open_blob(digest)?;
            let content = Verified { file, check: Some(Verifier::new(descriptor)), progress };
            let name = blob_name(digest);
            let mut header = header(EntryType::Regular, 0o644, descriptor.size);
            tar.append_data(&mut header, name, content).map_err(cause_of)?;
        }
    }
    let buffered = tar.into_inner()?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

/// The content of an archive of `roots`: all their descendants and themselves, each blob once, sorted by digest.
/// Missing layers that are not distributable are skipped.
///
/// # Errors
/// When a blob is missing or has another size, or a manifest cannot be read.
pub fn reachable(layout: &Layout, roots: &[Descriptor]) -> Result<BTreeMap<Digest, Descriptor>, ContentError> {
    let mut blobs = BTreeMap::new();
    let mut waiting = roots.to_vec();
    while let Some(descriptor) = waiting.pop() {
        let operation = || format!("read {} {} from the layout", descriptor.media_type, descriptor.digest);
        let Some(size) = layout.blob_size(&descriptor.digest) else {
            if descriptor.is_elsewhere() {
                continue;
            }
            return Err(Cause::NotFound.of(operation()));
        };
        if size != descriptor.size {
            return Err(Cause::WrongSize { expected: descriptor.size, actual: size }.of(operation()));
        }
        if blobs.insert(descriptor.digest.clone(), descriptor.clone()).is_some() {
            continue;
        }
        if descriptor.is_document() {
            let node = read_node(layout, &descriptor).map_err(|cause| cause.of(operation()))?;
            waiting.extend(node.children().into_iter().cloned());
        }
    }
    Ok(blobs)
}

fn read_node(layout: &Layout, descriptor: &Descriptor) -> Result<GraphNode, Cause> {
    Ok(GraphNode::parse(&descriptor.media_type, layout.read_blob(&descriptor.digest, MAX_DOCUMENT)?)?)
}

pub(super) fn append(tar: &mut Builder<impl io::Write>, name: &str, content: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(EntryType::Regular, 0o644, content.len() as u64), name, content)
}

fn append_directory(tar: &mut Builder<impl io::Write>, name: &str) -> io::Result<()> {
    tar.append_data(&mut header(EntryType::Directory, 0o755, 0), name, io::empty())
}

/// A reader of a blob's file that ends in an error if the content does not match.
struct Verified<'a> {
    file: File,
    check: Option<Verifier>,
    progress: &'a dyn Progress,
}

impl Read for Verified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.check.take().map_or(Ok(()), Verifier::finish).map_err(io::Error::other)?;
        } else if let Some(check) = &mut self.check {
            check.take(&buffer[..read]).map_err(io::Error::other)?;
        }
        self.progress.advance(read as u64);
        Ok(read)
    }
}
