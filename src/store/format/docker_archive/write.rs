//! Writing of archives.

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

/// Bytes per read of a layer.
const PIECE: usize = 256 << 10;

/// Writes an image, whose config and manifest are in memory and whose layers come from `source`, as an archive to
/// `path`. The write is atomic and replaces an existing file. `docker load` gives the image the names `names`.
///
/// The same image gives the same bytes: entries are in a fixed order, without times or owners. Layers are decompressed
/// while they are written, repeated layers only once, and verified against the config's diff ids. `progress` counts the
/// bytes of the layers in `source`.
///
/// # Errors
/// When a layer is missing, damaged or not distributable, a name has a digest, or the file cannot be written. A pipe or
/// a device cannot be written, because the size of a layer precedes it and is known only after it.
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
        // The verification of the content includes that of the blob.
        let (reader, fetch) = BlobReader::sized(source, layer, progress);
        let diff_id = diff_id.clone();
        let work = tokio::task::spawn_blocking(move || output.layer(reader, &diff_id).map(|()| output));
        let ((), done) = tokio::join!(fetch, work);
        let done = done.unwrap_or_else(|error| Err(error.into()));
        output = done.map_err(|error| {
            // Only the archive's file gives errors of the system: what the reader gives is a `Cause`, or a decoder's.
            let written = error.raw_os_error().is_some();
            let cause = cause_of(error);
            let cause = if written { cause } else { cause.of_source(source, layer) };
            cause.of(format!("write layer {} to the archive {}", layer.digest, path.display()))
        })?;
    }
    output.finish().map_err(|error| failed(error.into()))
}

/// Refuses an image that cannot become an archive, before the first write.
fn refuse(image: &Image, names: &[Reference], path: &Path) -> Result<(), Cause> {
    let (message, hint) = if let Some(layer) = image.manifest.layers.iter().find(|layer| layer.is_elsewhere()) {
        let message = format!("layer {} is not distributable", layer.digest);
        (message, "a docker-archive needs all layers; write oci:DIR instead")
    } else if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        (format!("`{name}` has a digest; the name of an image in an archive has a tag"), "give a tag")
    } else if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let message = "it is not a regular file; ociforge cannot write the archive to a pipe or a device".into();
        (message, "write to a regular file first")
    } else {
        return Ok(());
    };
    Err(Cause::Other { message, hint: Some(hint.into()) })
}

/// An archive during the write.
struct Output {
    file: TemporaryFile,
    /// The final name of the file.
    name: OsString,
    /// Bytes written so far.
    end: u64,
}

impl Output {
    /// Begins the archive with `manifest.json` and the config.
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

    /// Appends the layer `blob`, decompressed. The error's inner value is a [`Cause`] if it has one.
    fn layer(&mut self, mut blob: impl BufRead + Send, diff_id: &DiffId) -> io::Result<()> {
        let mut hasher = Hasher::like(&diff_id.0);
        self.entry(&file_name(diff_id), |file| {
            let size = copy(&mut decompress(&mut blob)?, file, &mut hasher)?;
            // A verifying reader reports a mismatch at its end.
            io::copy(&mut blob, &mut io::sink())?;
            Ok(size)
        })?;
        let (expected, actual) = (diff_id.0.clone(), hasher.finish());
        if actual == expected { Ok(()) } else { Err(io::Error::other(Cause::WrongDigest { expected, actual })) }
    }

    /// Appends a file. `write` writes its content and returns its size; the header before it is written last.
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

    /// Ends the archive and renames it.
    fn finish(mut self) -> io::Result<()> {
        self.file.file().write_all(&[0; 2 * BLOCK as usize])?;
        self.file.persist(&self.name)
    }
}

/// The name of a layer's file. Readers only need different names for different layers; a longer digest than SHA-256
/// would not fit into a header.
fn file_name(diff_id: &DiffId) -> String {
    format!("{:.64}.tar", diff_id.0.hex())
}

/// Copies and hashes, and returns the number of bytes.
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
