//! A wheel's zip archive, which is not trusted.
//!
//! The `zip` crate reads the central directory and compares each entry with its local header; this module checks the
//! further rules for wheels. It inflates members only if two have the same name.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::Range;

use flate2::bufread::DeflateDecoder;
use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config, ZipArchive, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use super::error::WheelFault;
use crate::mapped::MappedFile;
use crate::path::{LayerPath, PathError};
use crate::tree::{Content, DeflatedSlice};
use crate::whiteout::{self, Meaning};

/// Maximum ratio of deflate: 258 bytes from two bits.
const MAX_RATIO: u64 = 1032;
/// End of central directory: its signature, and its length without a comment (APPNOTE 4.3.16).
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const MAX_COMMENT: usize = u16::MAX as usize;
/// Local file header: its signature, its length without name and extra field, and the offsets of their lengths (4.3.7).
const LOCAL_SIGNATURE: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: usize = 30;
const NAME_LEN_AT: usize = 26;
const EXTRA_LEN_AT: usize = 28;
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// The members of the archive.
#[derive(Debug)]
pub(in crate::source) struct WheelArchive {
    /// The files, in the archive's order.
    pub(in crate::source) members: Vec<Member>,
    /// The names of directories, each with a final slash. They are not installed.
    pub(in crate::source) directories: BTreeSet<String>,
}

/// A file in the archive.
#[derive(Debug, Clone)]
pub(in crate::source) struct Member {
    /// Its name: relative, without `.`, `..` and empty components.
    pub(in crate::source) name: String,
    /// Whether it is deflated or just stored.
    pub(in crate::source) deflated: bool,
    /// The range of its bytes in the archive.
    pub(in crate::source) range: Range<usize>,
    /// CRC-32 of the file.
    pub(in crate::source) crc32: u32,
    /// Length of the file in bytes.
    pub(in crate::source) len: u64,
    /// Whether pip sets its executable bits: it is a regular file with one of them set, written on Unix.
    pub(in crate::source) executable: bool,
}

impl Member {
    /// The member of an entry, if it is allowed in a wheel.
    fn of(entry: &ZipFileEntry<'_>, file: &MappedFile) -> Result<Self, WheelFault> {
        let name = member_name(entry.name_raw())?;
        if entry.encrypted() {
            return Err(WheelFault::Encrypted(name));
        }
        let mode = entry.external_attributes() >> 16;
        let directory = name.ends_with('/');
        if !matches!((mode & TYPE_MASK, directory), (0, _) | (REGULAR, false) | (DIRECTORY, true)) {
            return Err(WheelFault::Special(name));
        }
        let deflated = match entry.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            method => return Err(WheelFault::Method { name, method: method.to_string() }),
        };
        let (compressed, len) = (entry.compressed_size(), entry.size());
        let range = range(file, entry.header_start(), compressed);
        let possible = if deflated { len / MAX_RATIO <= compressed } else { len == compressed };
        if directory && len > 0 {
            return Err(WheelFault::Damaged { name, reason: "it is a directory with data" });
        }
        let (Some(range), true) = (range, possible) else {
            return Err(WheelFault::Sizes { name, compressed, len });
        };
        let executable = mode & TYPE_MASK == REGULAR && mode & 0o111 != 0;
        Ok(Self { name, deflated, range, crc32: entry.crc32(), len, executable })
    }

    /// Whether another member has the same content; names and modes may differ.
    pub(in crate::source) fn is_same(&self, other: &Self, file: &MappedFile) -> bool {
        let alike = (self.crc32, self.len) == (other.crc32, other.len);
        alike && equal(self.reader(file), other.reader(file)).unwrap_or(false)
    }

    /// The bytes as they are in the archive.
    pub(in crate::source) fn raw<'a>(&self, file: &'a MappedFile) -> &'a [u8] {
        file.get(self.range.clone()).unwrap_or_default()
    }

    /// The member as content of a file, without inflating it. `sha256` is the hash that it must have, if it is known.
    pub(in crate::source) fn content(&self, file: &MappedFile, sha256: Option<[u8; 32]>) -> Content {
        match self.deflated_slice(file) {
            _ if self.len == 0 => Content::Bytes(Vec::new()),
            Some(slice) => Content::Deflated(DeflatedSlice { sha256, ..slice }),
            None => Content::Slice { file: file.clone(), range: self.range.clone(), sha256 },
        }
    }

    /// The deflate stream of the member, if it is deflated.
    pub(in crate::source) fn deflated_slice(&self, file: &MappedFile) -> Option<DeflatedSlice> {
        let (range, crc32, len) = (self.range.clone(), self.crc32, self.len);
        self.deflated.then(|| DeflatedSlice { file: file.clone(), range, crc32, len, sha256: None })
    }

    /// The file's bytes, inflated as they are read; never more than `len`.
    pub(in crate::source) fn reader<'a>(&self, file: &'a MappedFile) -> Box<dyn Read + 'a> {
        let raw = self.raw(file);
        if self.deflated { Box::new(DeflateDecoder::new(raw).take(self.len)) } else { Box::new(raw) }
    }

    /// The whole file in memory, checked against its CRC-32.
    pub(in crate::source) fn read(&self, file: &MappedFile, limit: u64) -> Result<Vec<u8>, WheelFault> {
        if self.len > limit {
            return Err(WheelFault::TooLarge { name: self.name.clone(), len: self.len, limit });
        }
        let damaged = |reason| WheelFault::Damaged { name: self.name.clone(), reason };
        let mut bytes = Vec::new();
        self.reader(file).read_to_end(&mut bytes).map_err(|_| damaged("it does not inflate"))?;
        if bytes.len() as u64 != self.len || crc32fast::hash(&bytes) != self.crc32 {
            return Err(damaged("its length or CRC-32 is wrong"));
        }
        Ok(bytes)
    }
}

/// Lists the members. Members of one name must have the same content; the last one counts, as in pip.
pub(in crate::source) fn read(file: &MappedFile) -> Result<WheelArchive, WheelFault> {
    check_end(file)?;
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipIterable::try_new(Cursor::new(file.as_ref()), config)?.enforce_header_consistency(true);
    let mut found = WheelArchive { members: Vec::with_capacity(archive.len()), directories: BTreeSet::new() };
    let (mut by_name, mut places, mut directory) = (BTreeMap::new(), Vec::new(), file.len());
    for entry in archive.files()? {
        let entry = entry?;
        let member = Member::of(&entry, file)?;
        directory = directory.min(position(entry.central_header_start()));
        places.push((position(entry.header_start())..member.range.end, member.name.clone()));
        if member.name.ends_with('/') {
            found.directories.insert(member.name);
            continue;
        }
        match by_name.entry(member.name.clone()) {
            Entry::Vacant(new) => {
                new.insert(found.members.len());
                found.members.push(member);
            }
            Entry::Occupied(earlier) => {
                let earlier = &mut found.members[*earlier.get()];
                if !earlier.is_same(&member, file) {
                    return Err(WheelFault::Twice(member.name));
                }
                *earlier = member;
            }
        }
    }
    check_places(places, &file[..directory])?;
    Ok(found)
}

/// Checks that the archive ends at the end of its file, so that all readers find the same end.
fn check_end(file: &MappedFile) -> Result<(), WheelFault> {
    let tail = &file[file.len().saturating_sub(END_LEN + MAX_COMMENT)..];
    let Some(at) = tail.windows(END_SIGNATURE.len()).rposition(|window| window == END_SIGNATURE) else {
        // The crate reports a file that is not an archive, the code below reports data after the archive.
        ZipArchive::new(Cursor::new(file.as_ref()))?;
        return Err(WheelFault::Trailing);
    };
    let comment = short(tail, at + END_LEN - 2);
    if comment.is_some_and(|comment| at + END_LEN + comment == tail.len()) { Ok(()) } else { Err(WheelFault::Trailing) }
}

/// Checks that members, with their local headers, do not overlap, except identical ones of the same name, and that no
/// unlisted members are between them. `bytes` is the part before the central directory.
fn check_places(mut places: Vec<(Range<usize>, String)>, bytes: &[u8]) -> Result<(), WheelFault> {
    places.sort_unstable_by(|(a, name), (b, other)| (a.start, a.end, name).cmp(&(b.start, b.end, other)));
    places.dedup();
    let mut at = 0;
    for (place, name) in &places {
        let gap = bytes.get(at..place.start).filter(|_| place.end <= bytes.len());
        check_gap(gap.ok_or_else(|| unsound(format!("`{name}` overlaps with another part")))?)?;
        at = place.end;
    }
    check_gap(&bytes[at..])
}

fn check_gap(gap: &[u8]) -> Result<(), WheelFault> {
    match gap.windows(LOCAL_LEN).any(|window| window.starts_with(LOCAL_SIGNATURE)) {
        true => Err(unsound("it has a member that its directory does not list".to_owned())),
        false => Ok(()),
    }
}

fn unsound(message: String) -> WheelFault {
    WheelFault::Archive(ZipError::InvalidArchive(message.into()))
}

/// The range of a member's bytes, after its local header at `header`.
fn range(file: &MappedFile, header: u64, len: u64) -> Option<Range<usize>> {
    let header = position(header);
    let (name, extra) = (short(file, header + NAME_LEN_AT)?, short(file, header + EXTRA_LEN_AT)?);
    let start = header + LOCAL_LEN + name + extra;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    (end <= file.len()).then_some(start..end)
}

/// A position in the file; positions beyond the address space become a position far after its end.
fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).min(usize::MAX >> 1)
}

/// A number of two bytes.
fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes).into())
}

/// Whether two readers return the same bytes.
fn equal(a: impl Read, b: impl Read) -> io::Result<bool> {
    let (mut a, mut b) = (BufReader::new(a), BufReader::new(b));
    loop {
        let (next, other) = (a.fill_buf()?, b.fill_buf()?);
        let len = next.len().min(other.len());
        if len == 0 || next[..len] != other[..len] {
            return Ok(next.is_empty() && other.is_empty());
        }
        a.consume(len);
        b.consume(len);
    }
}

/// A member's name as text, if it is a valid path below any directory: without empty components and `.`, which pip
/// drops when it joins paths. A backslash is an ordinary character.
pub(super) fn member_name(raw: &[u8]) -> Result<String, WheelFault> {
    let refuse = |reason| WheelFault::Name { name: String::from_utf8_lossy(raw).into_owned(), reason };
    let name = std::str::from_utf8(raw).map_err(|_| refuse("is not UTF-8"))?;
    if name.starts_with('/') {
        return Err(refuse("is absolute"));
    }
    let path = plain(name);
    path.strip_suffix('/').unwrap_or(&path).split('/').try_for_each(check_component).map_err(refuse)?;
    Ok(path)
}

/// A relative path without empty components and `.`; a final slash stays.
pub(super) fn plain(path: &str) -> String {
    let named: Vec<&str> = path.split('/').filter(|component| !matches!(*component, "" | ".")).collect();
    let slash = if path.ends_with('/') || path.ends_with("/.") { "/" } else { "" };
    named.join("/") + slash
}

/// Checks that a component is valid as the name of a file in a layer.
pub(super) fn check_component(component: &str) -> Result<(), &'static str> {
    match component {
        "" => return Err("is empty"),
        "." | ".." => return Err("has a component `.` or `..`"),
        _ => {}
    }
    let path = LayerPath::new(component).map_err(|error| match error {
        PathError::Nul(_) => "has a NUL byte",
        _ => "has a component of more than 255 bytes",
    })?;
    match whiteout::read(path) {
        Ok(Meaning::Entry(_)) => Ok(()),
        _ => Err("would hide other files in a layer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in [
            &b""[..],
            b"/",
            b".",
            b"./",
            b"/etc/passwd",
            b"//x",
            b"..",
            b"a/../b",
            b"a/..",
            b"./../a",
            b"a\0b",
            b"\xff",
            b".wh.x",
            b"a/.wh..wh..opq",
            b"./.wh.d/x",
            &[b'n'; 256],
        ] {
            assert!(matches!(member_name(bad), Err(WheelFault::Name { .. })), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn names_are_those_that_pip_makes_files_of() {
        for good in ["a", "a/b.py", "a/", "a..b/...", "é/日本", "d\\e.py", "C:\\x", &format!("{}/x", "n".repeat(255))]
        {
            assert_eq!(member_name(good.as_bytes()).unwrap(), good);
        }
        for (name, plain) in [("./c.py", "c.py"), ("a//b", "a/b"), ("a/./b/", "a/b/"), ("a/.", "a/"), ("././a", "a")] {
            assert_eq!(member_name(name.as_bytes()).unwrap(), plain, "{name}");
        }
    }
}
