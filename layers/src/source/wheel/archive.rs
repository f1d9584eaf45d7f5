//! A wheel's zip archive, mistrusted.
//!
//! The `zip` crate reads the central directory and checks it against the local headers (names, sizes, overlaps,
//! headers that nobody lists); what a wheel may not have beyond that is checked here. Nothing is inflated.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};
use std::ops::Range;

use flate2::bufread::DeflateDecoder;
use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config, ZipArchive};

use super::error::Fault;
use crate::mapped::MappedFile;
use crate::path::LayerPath;
use crate::tree::{Content, DeflatedSlice};
use crate::whiteout::{self, Meaning};

/// Deflate can't make more than this of a byte: 258 bytes of two bits.
const MAX_RATIO: u64 = 1032;
/// End of central directory: its signature, and its length without a comment (APPNOTE 4.3.16).
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// What is in the archive.
pub(in crate::source) struct Archive {
    /// The files, in the archive's order.
    pub(in crate::source) members: Vec<Member>,
    /// Names of directories, each with a slash at its end. Nothing is made of them.
    pub(in crate::source) directories: BTreeSet<String>,
}

/// A file in the archive.
#[derive(Debug, Clone)]
pub(in crate::source) struct Member {
    /// Its name: relative, without `.`, `..`, empty components and backslashes.
    pub(in crate::source) name: String,
    /// Whether it is deflated or just stored.
    pub(in crate::source) deflated: bool,
    /// Where its bytes are in the file.
    pub(in crate::source) range: Range<usize>,
    /// CRC-32 of the file.
    pub(in crate::source) crc32: u32,
    /// Length of the file in bytes.
    pub(in crate::source) len: u64,
    /// Whether pip would set its executable bits: it's a regular file with any of them set, seen from Unix.
    pub(in crate::source) executable: bool,
}

impl Member {
    /// The bytes as they are in the archive.
    pub(in crate::source) fn raw<'a>(&self, file: &'a MappedFile) -> &'a [u8] {
        file.get(self.range.clone()).unwrap_or_default()
    }

    /// The member as a file's content; nothing is inflated for it.
    pub(in crate::source) fn content(&self, file: &MappedFile) -> Content {
        match self.deflated_slice(file) {
            _ if self.len == 0 => Content::Bytes(Vec::new()),
            Some(slice) => Content::Deflated(slice),
            None => Content::Slice { file: file.clone(), range: self.range.clone() },
        }
    }

    /// Where the member is deflated, if it is.
    pub(in crate::source) fn deflated_slice(&self, file: &MappedFile) -> Option<DeflatedSlice> {
        let slice =
            || DeflatedSlice { file: file.clone(), range: self.range.clone(), crc32: self.crc32, len: self.len };
        self.deflated.then(slice)
    }

    /// The file's bytes, inflated as they are read; never more than `len`.
    pub(in crate::source) fn reader<'a>(&self, file: &'a MappedFile) -> Box<dyn Read + 'a> {
        let raw = self.raw(file);
        if self.deflated { Box::new(DeflateDecoder::new(raw).take(self.len)) } else { Box::new(raw) }
    }

    /// The whole file in memory, checked against its CRC-32.
    pub(in crate::source) fn read(&self, file: &MappedFile, limit: u64) -> Result<Vec<u8>, Fault> {
        if self.len > limit {
            return Err(Fault::TooLarge { name: self.name.clone(), len: self.len, limit });
        }
        let damaged = |reason| Fault::Damaged { name: self.name.clone(), reason };
        let mut bytes = Vec::new();
        self.reader(file).read_to_end(&mut bytes).map_err(|_| damaged("it does not inflate"))?;
        if bytes.len() as u64 != self.len || crc32fast::hash(&bytes) != self.crc32 {
            return Err(damaged("its length or CRC-32 is wrong"));
        }
        Ok(bytes)
    }
}

/// Lists what is in the archive.
pub(in crate::source) fn read(file: &MappedFile) -> Result<Archive, Fault> {
    let end = file.len().checked_sub(END_LEN).and_then(|start| file.get(start..));
    if !end.is_some_and(|end| end.starts_with(END_SIGNATURE)) {
        // Said by the crate where it is no archive at all, by us where something comes after it.
        ZipArchive::new(Cursor::new(file.as_ref()))?;
        return Err(Fault::Trailing);
    }
    let mut archive =
        ZipArchive::with_config(Config { archive_offset: ArchiveOffset::Known(0) }, Cursor::new(file.as_ref()))?;
    archive.validate_header_consistency()?;
    let mut found = Archive { members: Vec::with_capacity(archive.len()), directories: BTreeSet::new() };
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let name = check_name(entry.name_raw())?;
        if entry.encrypted() {
            return Err(Fault::Encrypted(name));
        }
        let mode = entry.external_attributes() >> 16;
        let directory = name.ends_with('/');
        if !matches!((mode & TYPE_MASK, directory), (0, _) | (REGULAR, false) | (DIRECTORY, true)) {
            return Err(Fault::Special(name));
        }
        let deflated = match entry.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            method => return Err(Fault::Method { name, method: method.to_string() }),
        };
        let (compressed, len) = (entry.compressed_size(), entry.size());
        let range = range(entry.data_start(), compressed, file.len());
        let possible = if deflated { len / MAX_RATIO <= compressed } else { len == compressed };
        let (Some(range), true, false) = (range, possible, directory && len > 0) else {
            return Err(Fault::Sizes { name, compressed, len });
        };
        if directory {
            found.directories.insert(name);
        } else {
            let executable = mode & TYPE_MASK == REGULAR && mode & 0o111 != 0;
            found.members.push(Member { name, deflated, range, crc32: entry.crc32(), len, executable });
        }
    }
    Ok(found)
}

fn range(start: Option<u64>, len: u64, file_len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(start?).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    (end <= file_len).then_some(start..end)
}

/// A member's name as text, if it can be a path below any directory, read in one way by everybody.
fn check_name(raw: &[u8]) -> Result<String, Fault> {
    let refuse = |reason| Fault::Name { name: String::from_utf8_lossy(raw).into_owned(), reason };
    let name = std::str::from_utf8(raw).map_err(|_| refuse("is not UTF-8"))?;
    let path = name.strip_suffix('/').unwrap_or(name);
    if path.contains('\\') {
        return Err(refuse("has a backslash in it"));
    }
    for component in path.split('/') {
        match component {
            "" => return Err(refuse("is absolute, or has an empty component")),
            "." | ".." => return Err(refuse("has a component `.` or `..`")),
            _ => {}
        }
        let path = LayerPath::new(component).map_err(|_| refuse("has a NUL byte or a component over 255 bytes"))?;
        if !matches!(whiteout::read(path), Ok(Meaning::Entry(_))) {
            return Err(refuse("would hide other files in a layer"));
        }
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for good in ["a", "a/b.py", "a/", "a..b/...", "é/日本", &format!("{}/x", "n".repeat(255))] {
            assert_eq!(check_name(good.as_bytes()).unwrap(), good);
        }
        for bad in [
            &b""[..],
            b"/",
            b"/etc/passwd",
            b"..",
            b"a/../b",
            b"a/..",
            b"./a",
            b"a//b",
            b"a\\..\\b",
            b"C:\\x",
            b"a\0b",
            b"\xff",
            b".wh.x",
            b"a/.wh..wh..opq",
            b".wh.d/x",
            &[b'n'; 256],
        ] {
            assert!(matches!(check_name(bad), Err(Fault::Name { .. })), "{}", String::from_utf8_lossy(bad));
        }
    }
}
