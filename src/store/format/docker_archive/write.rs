//! Writing archives.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ociforge_layers::decompress::decompress;
use ociforge_manifests::document::canonical;
use ociforge_manifests::{DiffId, Hasher, Image, Reference};
use serde_json::json;
use tar::EntryType;

use super::{Item, MANIFEST, familiar};
use crate::content::{BlobReader, Cause, ContentError, Source, cause_of};
use crate::progress::Progress;
use crate::store::blob::beside;
use crate::store::format::tar_file::{BLOCK, header};
use crate::store::temporary::TemporaryFile;

/// Bytes read at once of a layer.
const PIECE: usize = 256 << 10;

/// Writes an image, whose config and manifest are in memory and whose layers come from `source`, as an archive at
/// `path`, which appears whole or not at all and replaces what is there. `names` are what `docker load` will call it.
///
/// The same image gives the same bytes: entries are in a fixed order, without times or owners. Layers are decompressed
/// while they are written, each once however often the image has it, and verified against the config's diff ids.
/// `progress` is told the bytes of the layers as `source` has them.
///
/// # Errors
/// When a layer is missing, damaged or of a kind that is not distributed, a name has a digest, or the file can't be
/// written; a pipe or a device can't, as the size of a layer stands before it and is known after it.
pub async fn write_docker_archive(
    source: &dyn Source,
    image: &Image,
    names: &[Reference],
    path: &Path,
    progress: &dyn Progress,
) -> Result<(), ContentError> {
    let failed = |cause: Cause| cause.of(format!("write the archive {}", path.display()));
    refuse(image, names, path).map_err(failed)?;
    let mut output = Output::begin(image, names, path).map_err(|error| failed(error.into()))?;
    let mut written = BTreeSet::new();
    for (layer, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
        if !written.insert(diff_id) {
            continue;
        }
        // Whoever has the right content has the right blob.
        let (reader, fetch) = BlobReader::sized(source, layer, progress);
        let diff_id = diff_id.clone();
        let work = tokio::task::spawn_blocking(move || output.layer(reader, &diff_id).map(|()| output));
        let ((), done) = tokio::join!(fetch, work);
        let done = done.unwrap_or_else(|error| Err(error.into()));
        output = done.map_err(|error| {
            cause_of(error).of(format!("write layer {} to the archive {}", layer.digest, path.display()))
        })?;
    }
    output.finish().map_err(|error| failed(error.into()))
}

/// Says what can't become an archive before anything is written.
fn refuse(image: &Image, names: &[Reference], path: &Path) -> Result<(), Cause> {
    let (message, hint) = if let Some(layer) = image.manifest.layers.iter().find(|layer| layer.is_elsewhere()) {
        let message = format!("layer {} is one that is not distributed but had elsewhere", layer.digest);
        (message, "an archive for docker has all layers; oci:DIR can do without")
    } else if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        (format!("`{name}` has a digest; images in an archive are called by tags"), "give a tag")
    } else if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let message = "it is no file; a pipe or a device can't be written, as sizes are known in the end only".into();
        (message, "write a file and send that")
    } else {
        return Ok(());
    };
    Err(Cause::Other { message, hint: Some(hint.into()) })
}

/// An archive on its way.
struct Output {
    file: TemporaryFile,
    /// What the file is called in the end.
    name: OsString,
    /// Bytes written so far.
    end: u64,
}

impl Output {
    /// Begins the archive: what it lists, and the config.
    fn begin(image: &Image, names: &[Reference], path: &Path) -> io::Result<Self> {
        let (file, name) = beside(path)?;
        let mut output = Self { file, name, end: 0 };
        let config = format!("{}.json", image.config.digest().hex());
        let layers = image.config.rootfs.diff_ids.iter().map(file_name).collect();
        let item = Item { config, repo_tags: Some(names.iter().map(familiar).collect()), layers: Some(layers) };
        output.document(MANIFEST, &canonical(&json!([item])))?;
        output.document(&item.config, image.config.bytes())?;
        Ok(output)
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(name, |file| file.write_all(bytes).map(|()| bytes.len() as u64))
    }

    /// Appends the layer that `blob` is, decompressed. Its error's inner value is a [`Cause`] where it has one.
    fn layer(&mut self, mut blob: impl BufRead + Send, diff_id: &DiffId) -> io::Result<()> {
        let mut hasher = Hasher::like(&diff_id.0);
        self.entry(&file_name(diff_id), |file| {
            let size = copy(&mut decompress(&mut blob)?, file, &mut hasher)?;
            // A verifying reader speaks its verdict at the end.
            io::copy(&mut blob, &mut io::sink())?;
            Ok(size)
        })?;
        let (expected, actual) = (diff_id.0.clone(), hasher.finish());
        if actual == expected { Ok(()) } else { Err(io::Error::other(Cause::WrongDigest { expected, actual })) }
    }

    /// Appends a file: what `write` writes, whose size it tells in the end. The header comes before it, and last.
    fn entry(&mut self, name: &str, write: impl FnOnce(&mut File) -> io::Result<u64>) -> io::Result<()> {
        let file = self.file.file();
        file.write_all(&[0; BLOCK as usize])?;
        let size = write(file)?;
        file.write_all(&vec![0; (size.next_multiple_of(BLOCK) - size) as usize])?;
        let mut header = header(EntryType::Regular, 0o644, size);
        header.set_path(name)?;
        header.set_cksum();
        file.write_all_at(header.as_bytes(), self.end)?;
        self.end += BLOCK + size.next_multiple_of(BLOCK);
        Ok(())
    }

    /// Ends the archive and gives it its place.
    fn finish(mut self) -> io::Result<()> {
        self.file.file().write_all(&[0; 2 * BLOCK as usize])?;
        self.file.persist(&self.name)
    }
}

/// What the file of a layer is called. No reader takes more from it than that layers differ; a longer digest than
/// SHA-256 would not fit into a header.
fn file_name(diff_id: &DiffId) -> String {
    format!("{:.64}.tar", diff_id.0.hex())
}

/// Copies and hashes, and gives the number of bytes.
fn copy(from: &mut dyn Read, to: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut size = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
