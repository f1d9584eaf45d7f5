//! OCI layouts in tar files: containers-transports' `oci-archive`.
//!
//! An archive is an uncompressed tar with `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`. It is read in place:
//! opening it notes where each blob lies, and nothing is ever unpacked.

mod target;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::{Descriptor, Digest, Document, graph::Index};
use tar::EntryType;

use super::{Indexed, index, stream::stream};
use crate::content::{ByteStream, Cause, ContentError, Source};

pub use target::ArchiveWriter;
pub use writer::{reachable, write_archive};

/// An `oci-archive` to read from.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    blobs: BTreeMap<Digest, Place>,
    index: Document<Index>,
}

/// Headers and contents begin at multiples of this.
const BLOCK: u64 = 512;

/// Where in the file something lies, in bytes.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("the entry `{0}` points out of the archive's root")]
    Hostile(String),
    #[error("the entry `{name}` is {kind}; an archive holds files and directories only")]
    Kind { name: String, kind: &'static str },
    #[error("the entry `{0}` is there twice")]
    Twice(String),
    #[error("the file ends within the entry `{0}`")]
    Truncated(String),
    #[error("the end is missing: the file was cut off after {length} bytes")]
    Cut { length: u64 },
}

impl Archive {
    /// Opens an archive and notes where its blobs lie. Reads the headers only, not the blobs.
    ///
    /// # Errors
    /// When the file can't be read, is compressed, is no tar file or no OCI layout in one, or has entries that no layout
    /// has: links, devices, paths out of the root, the same blob twice.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ContentError> {
        let path = path.into();
        let operation = format!("open the archive {}", path.display());
        Self::scan(path).map_err(|cause| cause.of(operation))
    }

    fn scan(path: PathBuf) -> Result<Self, Cause> {
        let mut file = File::open(&path)?;
        refuse_compressed(&mut file)?;
        let length = file.metadata()?.len();
        let places = places(&mut file, length)?;
        if !places.contains_key("oci-layout") {
            return Err(no_layout(places.contains_key("manifest.json")));
        }
        let index = places.get("index.json").ok_or_else(|| no_layout(false))?;
        let index = Document::parse(read_whole(&file, *index)?)?;
        let blobs = places.iter().filter_map(|(name, place)| Some((digest_of(name)?, *place))).collect();
        Ok(Self { path, file, blobs, index })
    }

    /// The archive's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The archive's index.
    #[must_use]
    pub fn index(&self) -> &Document<Index> {
        &self.index
    }

    /// The length in bytes of the blob of this digest; `None` when it is not there.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).map(|place| place.length)
    }

    /// The manifest called `name`, or, without a name, the only one there is.
    ///
    /// # Errors
    /// When there is no such manifest.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Cause> {
        index::find(&self.index, name, "archive")
    }
}

#[async_trait]
impl Source for Archive {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let operation = || format!("read {} from {}", descriptor.digest, self.path.display());
        let place = self.blobs.get(&descriptor.digest).ok_or_else(|| Cause::NotFound.of(operation()))?;
        let file = self.file.try_clone().map_err(|error| Cause::Io(error).of(operation()))?;
        let offset = offset.min(place.length);
        Ok(stream(file, place.offset + offset, place.length - offset))
    }
}

impl Indexed for Archive {
    fn index(&self) -> Result<Document<Index>, Cause> {
        Ok(self.index.clone())
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// Where the files that a layout has lie in the tar file, by their normal names.
fn places(file: &mut File, length: u64) -> Result<BTreeMap<String, Place>, Cause> {
    let mut places = BTreeMap::new();
    let mut end = 0;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(no_tar)? {
        let entry = entry.map_err(no_tar)?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = Place { offset: entry.raw_file_position(), length: entry.size() };
        end = place.offset.saturating_add(place.length).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            other => return Err(Damage::Kind { name: shown, kind: kind(other) }.into()),
        }
        let name = normal(&entry.path().map_err(no_tar)?).ok_or_else(|| Damage::Hostile(shown.clone()))?;
        if end > length {
            return Err(Damage::Truncated(shown).into());
        }
        let known =
            matches!(name.as_str(), "oci-layout" | "index.json" | "manifest.json") || digest_of(&name).is_some();
        if known && places.insert(name, place).is_some() {
            return Err(Damage::Twice(shown).into());
        }
    }
    // The crate takes the end of the file for the end of the archive, which is a block of zeroes.
    if length < end.saturating_add(BLOCK) {
        return Err(Damage::Cut { length }.into());
    }
    Ok(places)
}

/// A relative path without `.` components, or nothing for one that leads elsewhere.
fn normal(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The digest of a blob by its place in the layout. What lies elsewhere is none of the layout's, and left alone.
fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

fn read_whole(file: &File, place: Place) -> Result<Vec<u8>, Cause> {
    if place.length > MAX_DOCUMENT {
        return Err(Cause::TooLarge { size: place.length, limit: MAX_DOCUMENT });
    }
    let mut bytes = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, place.offset)?;
    Ok(bytes)
}

fn refuse_compressed(file: &mut File) -> Result<(), Cause> {
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic)?;
    file.rewind()?;
    let formats: [(&[u8], &str, &str); 4] = [
        (b"\x1f\x8b", "gzip", "gunzip"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
        (b"\xfd7zXZ\0", "xz", "unxz"),
        (b"BZh", "bzip2", "bunzip2"),
    ];
    match formats.iter().find(|(start, _, _)| magic.starts_with(start)) {
        None => Ok(()),
        Some((_, format, command)) => Err(Cause::Other {
            message: format!(
                "it is compressed with {format}; blobs are read in place, which a compressed file prevents"
            ),
            hint: Some(format!("unpack it with {command}; the layers in it are compressed already")),
        }),
    }
}

fn no_layout(docker: bool) -> Cause {
    let message = "there is no OCI layout in it (no file oci-layout, or no index.json)".into();
    let hint = docker.then(|| "it looks like a docker-archive, as `docker save` writes it".into());
    Cause::Other { message, hint }
}

fn no_tar(error: io::Error) -> Cause {
    Cause::Other { message: format!("it is no tar file, or a damaged one: {error}"), hint: None }
}

fn kind(entry: EntryType) -> &'static str {
    match entry {
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of an unknown type",
    }
}

impl From<Damage> for Cause {
    fn from(damage: Damage) -> Self {
        Self::Other { message: damage.to_string(), hint: Some("get the archive again from where it came".into()) }
    }
}

#[cfg(test)]
mod tests;
