//! Tar files that are read in place: the offsets of their files are recorded once, and nothing is unpacked.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Component, Path, PathBuf};

use ociforge_layers::decompress::{CompressionFormat, decompress};
use ociforge_layers::regular::open_without_waiting;
use ociforge_manifests::Descriptor;
use ociforge_manifests::document::MAX_DOCUMENT;
use tar::{EntryType, Header};

use crate::content::{ByteStream, Cause, ContentError};
use crate::error::is_full_disk;
use crate::store::spool::temporary_file;
use crate::store::stream::stream;

/// Headers and contents begin at multiples of this, in bytes.
pub(super) const BLOCK: u64 = 512;

/// The maximum size of an entry's headers in bytes.
const MAX_HEADER: u64 = 1 << 20;

/// The maximum length of a chain of links, as in Linux.
const MAX_LINKS: usize = 40;

/// A tar file.
#[derive(Debug)]
pub(super) struct TarFile {
    pub(super) path: PathBuf,
    /// The uncompressed content.
    file: File,
}

/// A range of the file in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct TarRange {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A named entry of a tar file.
#[derive(Debug)]
enum TarFileEntry {
    File(TarRange),
    /// A link to another name: the normalised name, or `None` if it leads out of the archive.
    Link(Option<String>),
}

/// Files and links by their normalised names.
#[derive(Debug, Default)]
pub(super) struct Entries(BTreeMap<String, TarFileEntry>);

/// A fault of an archive.
#[derive(Debug, thiserror::Error)]
enum TarDamage {
    #[error("the entry `{0}` points out of the archive's root")]
    Hostile(String),
    #[error("the entry `{name}` is {kind}, which image archives cannot have")]
    Kind { name: String, kind: &'static str },
    #[error("the archive has the entry `{0}` twice")]
    Twice(String),
    #[error("the link `{0}` is part of a loop")]
    Circle(String),
    #[error("the file ends within the entry `{0}`")]
    Truncated(String),
    #[error("the file is truncated after {length} bytes")]
    Cut { length: u64 },
}

impl TarFile {
    /// Opens a file. A compressed file is decompressed into a temporary file, which takes time.
    pub(super) fn open(path: PathBuf) -> Result<Self, Cause> {
        let file = decompressed(open(&path)?)?;
        Ok(Self { path, file })
    }

    /// Reads the headers. Only files and links whose names are `wanted` are recorded; links are an error unless
    /// `links_allowed`.
    pub(super) fn entries(&self, wanted: impl Fn(&str) -> bool, links_allowed: bool) -> Result<Entries, Cause> {
        let length = self.file.metadata()?.len();
        let mut entries = BTreeMap::new();
        let mut end = 0;
        let left = Cell::new(MAX_HEADER);
        let mut archive = tar::Archive::new(Headers { file: &self.file, left: &left });
        for entry in archive.entries_with_seek().map_err(no_tar)? {
            let mut entry = entry.map_err(no_tar)?;
            left.set(MAX_HEADER);
            let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let place = TarRange { offset: entry.raw_file_position(), length: entry.size() };
            end = place.offset.saturating_add(place.length).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            let kind = entry.header().entry_type();
            match kind {
                EntryType::Regular | EntryType::Continuous => {}
                EntryType::Symlink | EntryType::Link if links_allowed => {}
                EntryType::Directory | EntryType::XGlobalHeader => continue,
                other => return Err(TarDamage::Kind { name: shown, kind: describe(other) }.into()),
            }
            if is_sparse(&mut entry)? {
                return Err(TarDamage::Kind { name: shown, kind: describe(EntryType::GNUSparse) }.into());
            }
            let name = normal(&entry.path().map_err(no_tar)?).ok_or_else(|| TarDamage::Hostile(shown.clone()))?;
            if end > length {
                return Err(TarDamage::Truncated(shown).into());
            }
            let noted = match kind {
                EntryType::Regular | EntryType::Continuous => TarFileEntry::File(place),
                _ => TarFileEntry::Link(target(&name, kind, entry.link_name().map_err(no_tar)?.as_deref())),
            };
            if wanted(&name) && entries.insert(name, noted).is_some() {
                return Err(TarDamage::Twice(shown).into());
            }
        }
        // The crate accepts the end of the file as the end of the archive, which must be a block of zeroes.
        if length < end.saturating_add(BLOCK) {
            return Err(TarDamage::Cut { length }.into());
        }
        Ok(Entries(entries))
    }

    /// A whole document, of at most [`MAX_DOCUMENT`] bytes.
    pub(super) fn read_whole(&self, place: TarRange) -> Result<Vec<u8>, Cause> {
        self.read_at_most(MAX_DOCUMENT, place)
    }

    /// The content of `place`, of at most `limit` bytes.
    pub(super) fn read_at_most(&self, limit: u64, place: TarRange) -> Result<Vec<u8>, Cause> {
        if place.length > limit {
            return Err(Cause::TooLarge { size: place.length, limit });
        }
        let mut bytes = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        Ok(bytes)
    }

    /// Passes the content of `place` to `each`, piece by piece.
    pub(super) fn read(&self, place: TarRange, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(place.length.min(1 << 20)).map_err(io::Error::other)?];
        let mut done = 0;
        while done < place.length {
            let length = usize::try_from(place.length - done).map_or(buffer.len(), |rest| rest.min(buffer.len()));
            self.file.read_exact_at(&mut buffer[..length], place.offset + done)?;
            each(&buffer[..length]);
            done += length as u64;
        }
        Ok(())
    }

    /// The content of `descriptor`, at `place`, from `offset` on; not found without a place.
    pub(super) fn fetch(
        &self,
        descriptor: &Descriptor,
        place: Option<TarRange>,
        offset: u64,
    ) -> Result<ByteStream, ContentError> {
        let operation = || format!("read {} from {}", descriptor.digest, self.path.display());
        let place = place.ok_or_else(|| Cause::NotFound.of(operation()))?;
        let file = self.file.try_clone().map_err(|error| Cause::Io(error).of(operation()))?;
        let offset = offset.min(place.length);
        Ok(stream(file, place.offset + offset, place.length - offset))
    }
}

impl Entries {
    /// The file `name`, with links followed, and its real name; `None` if it does not exist.
    pub(super) fn file<'a>(&'a self, name: &'a str) -> Result<Option<(&'a str, TarRange)>, Cause> {
        let mut at = name;
        for _ in 0..=MAX_LINKS {
            match self.0.get_key_value(at) {
                None => return Ok(None),
                Some((own, TarFileEntry::File(place))) => return Ok(Some((own, *place))),
                Some((_, TarFileEntry::Link(Some(target)))) => at = target,
                Some((_, TarFileEntry::Link(None))) => return Err(TarDamage::Hostile(at.to_owned()).into()),
            }
        }
        Err(TarDamage::Circle(name.to_owned()).into())
    }

    /// All files without links.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, TarRange)> {
        self.0.iter().filter_map(|(name, entry)| match entry {
            TarFileEntry::File(place) => Some((name.as_str(), *place)),
            TarFileEntry::Link(_) => None,
        })
    }
}

/// The archive's file while its headers are read. Long names are read completely, so they have a limit.
struct Headers<'a> {
    file: &'a File,
    left: &'a Cell<u64>,
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| io::Error::other("an entry has a header of more than 1 MiB"))?);
        Ok(read)
    }
}

impl Seek for Headers<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Whether the entry is sparse in the newer format.
fn is_sparse(entry: &mut tar::Entry<'_, impl Read>) -> Result<bool, Cause> {
    let Some(extensions) = entry.pax_extensions().map_err(no_tar)? else { return Ok(false) };
    let mut keys = extensions.filter_map(|extension| extension.ok()?.key().ok().map(str::to_owned));
    Ok(keys.any(|key| key.starts_with("GNU.sparse.")))
}

/// A relative path without `.` components; `None` for a path that leads out of the archive.
pub(super) fn normal(path: &Path) -> Option<String> {
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

/// The normalised target of the link `name`: relative to its directory for a symbolic link, to the root for a hard
/// link. `None` for a target outside of the archive.
fn target(name: &str, kind: EntryType, link: Option<&Path>) -> Option<String> {
    let link = link?;
    if kind == EntryType::Link {
        return normal(link);
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for component in link.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::Prefix(_) | Component::RootDir => return None,
        }
    }
    Some(parts.join("/"))
}

/// The header of an entry without time and owner.
pub(super) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Opens the file at `path` without waiting for the writer of a pipe. The archive needs random access, which a pipe
/// lacks.
fn open(path: &Path) -> Result<File, Cause> {
    let file = open_without_waiting(path)?;
    let is = file.metadata()?.file_type();
    if is.is_file() || is.is_block_device() {
        return Ok(file);
    }
    let is = if is.is_dir() { "a directory" } else { "a pipe or a device" };
    Err(Cause::Other {
        message: format!("it is {is}, not a regular file"),
        hint: Some("write the archive to a regular file first".into()),
    })
}

/// The file itself, or its decompressed content in a temporary file: blobs are read in place, which a compressed file
/// prevents.
fn decompressed(mut file: File) -> Result<File, Cause> {
    let mut beginning = Vec::new();
    file.by_ref().take(6).read_to_end(&mut beginning)?;
    file.rewind()?;
    if CompressionFormat::of(&beginning) == CompressionFormat::Plain {
        return Ok(file);
    }
    let damaged = |error: io::Error| match is_full_disk(&error) {
        true => Cause::Io(error),
        false => Cause::Other { message: format!("it cannot be decompressed: {error}"), hint: Some(GET_AGAIN.into()) },
    };
    let mut output = temporary_file()?;
    let mut reader = decompress(BufReader::with_capacity(256 << 10, file)).map_err(damaged)?;
    io::copy(&mut reader, &mut output).map_err(damaged)?;
    output.rewind()?;
    Ok(output)
}

fn no_tar(error: io::Error) -> Cause {
    let said = error.to_string();
    // For an invalid number, the crate's message repeats the bytes of the file.
    let why = if said.contains(" when getting ") { String::new() } else { format!(": {said}") };
    Cause::Other { message: format!("it is not a valid tar archive{why}"), hint: None }
}

fn describe(entry: EntryType) -> &'static str {
    match entry {
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of an unknown type",
    }
}

/// The hint for a damaged archive.
pub(super) const GET_AGAIN: &str = "get the archive again from its origin";

impl From<TarDamage> for Cause {
    fn from(damage: TarDamage) -> Self {
        Self::Other { message: damage.to_string(), hint: Some(GET_AGAIN.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_may_be_larger_than_octal_digits_can_say() {
        let size = 9 << 30;
        assert_eq!(header(EntryType::Regular, 0o644, size).entry_size().unwrap(), size);
    }

    #[test]
    fn links_stay_inside() {
        let follow = |name: &str, link: &str| target(name, EntryType::Symlink, Some(Path::new(link)));
        assert_eq!(follow("a/layer.tar", "../b/layer.tar").unwrap(), "b/layer.tar");
        assert_eq!(follow("a", "./b").unwrap(), "b");
        for outside in ["../../b", "/b", "../../a/../b"] {
            assert_eq!(follow("a/layer.tar", outside), None, "{outside}");
        }
        let hard = |link: &str| target("a/b", EntryType::Link, Some(Path::new(link)));
        assert_eq!((hard("c/d").unwrap().as_str(), hard("../c")), ("c/d", None));
    }
}
