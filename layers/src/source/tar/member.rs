//! The members of a tar archive, with their PAX and GNU extensions put together (POSIX.1-2017, pax, "ustar Interchange
//! Format" and "pax Header Block"; GNU tar's manual, "Basic Tar Format").

use std::collections::BTreeMap;
use std::ops::Range;

use tar::{EntryType, Header};

use super::sparse::{self, Stretch};

/// Length of a header, and what content is padded to, in bytes.
pub(super) const BLOCK: usize = 512;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// One member, as the archive states it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    /// Target of a hard or symbolic link; empty without one.
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: i64,
    pub(super) device: Option<(u32, u32)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where its content is in the archive.
    pub(super) content: Range<usize>,
    /// Where the content belongs, for a sparse file.
    pub(super) sparse: Option<Sparse>,
}

/// How a sparse file's content is spread; what is not in a stretch is zeros.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) stretches: Vec<Stretch>,
    /// Length of the file, in bytes.
    pub(super) len: u64,
}

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first block is no header.
    #[error("it is not a tar archive")]
    NotTar,
    /// A header's checksum or one of its numbers is wrong.
    #[error("the header at byte {0} is damaged")]
    Header(usize),
    /// The archive ends within a member, or without its end mark.
    #[error("it is cut off at byte {0}")]
    CutOff(usize),
    /// A PAX header that is not a list of `LENGTH KEY=VALUE`.
    #[error("the extended header at byte {0} is damaged")]
    Extension(usize),
    /// A sparse file whose map does not fit its content.
    #[error("the map of the sparse file at byte {0} is damaged")]
    Sparse(usize),
    /// Something that this program does not read.
    #[error("{what} at byte {at} is not supported")]
    Unsupported {
        /// What, with its article.
        what: String,
        /// Where.
        at: usize,
    },
}

/// Goes through an archive that is in memory or mapped.
pub(super) struct Members<'a> {
    archive: &'a [u8],
    /// Where the next header is.
    at: usize,
    extensions: Extensions,
}

/// What the headers before a member's own say of it.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> Members<'a> {
    pub(super) fn new(archive: &'a [u8]) -> Self {
        Self { archive, at: 0, extensions: Extensions::default() }
    }

    /// The next member; `None` at the end mark.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Malformed> {
        loop {
            let at = self.at;
            let Some(header) = self.header()? else { return Ok(None) };
            match header.entry_type() {
                EntryType::GNULongName => self.extensions.name = Some(text(self.extension(header, at)?)),
                EntryType::GNULongLink => self.extensions.link = Some(text(self.extension(header, at)?)),
                EntryType::XHeader => {
                    let records = records(self.extension(header, at)?).ok_or(Malformed::Extension(at))?;
                    self.extensions.pax.extend(records);
                }
                EntryType::XGlobalHeader => {
                    let records = records(self.extension(header, at)?).ok_or(Malformed::Extension(at))?;
                    if let Some(key) = records.into_keys().find(|key| key != b"comment") {
                        let what = format!("a global header with `{}`", String::from_utf8_lossy(&key));
                        return Err(Malformed::Unsupported { what, at });
                    }
                }
                _ => return self.member(header, at).map(Some),
            }
        }
    }

    /// The header at `self.at`, which then is behind it; `None` for a block of zeros.
    fn header(&mut self) -> Result<Option<&'a Header>, Malformed> {
        let at = self.at;
        let block = self.archive.get(at..at + BLOCK).ok_or(Malformed::CutOff(self.archive.len()))?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(block);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        // The checksum counts its own eight bytes as spaces.
        let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum - own + 8 * u32::from(b' ')) {
            return Err(if at == 0 { Malformed::NotTar } else { Malformed::Header(at) });
        }
        self.at += BLOCK;
        Ok(Some(header))
    }

    /// The content of the member whose header is at `at`.
    fn content(&mut self, header: &Header, at: usize) -> Result<Range<usize>, Malformed> {
        let size = match self.extensions.pax.get(b"size".as_slice()) {
            Some(value) => number(value).ok_or(Malformed::Extension(at))?,
            None => header.entry_size().map_err(|_| Malformed::Header(at))?,
        };
        self.bytes(size)
    }

    /// The content of an extended header.
    fn extension(&mut self, header: &Header, at: usize) -> Result<&'a [u8], Malformed> {
        let size = header.entry_size().map_err(|_| Malformed::Header(at))?;
        self.bytes(size).map(|range| &self.archive[range])
    }

    /// The next `size` bytes; `self.at` then is behind them and their padding.
    fn bytes(&mut self, size: u64) -> Result<Range<usize>, Malformed> {
        let cut_off = Malformed::CutOff(self.archive.len());
        let end = usize::try_from(size).ok().and_then(|size| self.at.checked_add(size));
        let end = end.filter(|end| *end <= self.archive.len()).ok_or(cut_off)?;
        let content = self.at..end;
        self.at = end.next_multiple_of(BLOCK);
        Ok(content)
    }

    /// The member whose own header is at `at`.
    fn member(&mut self, header: &Header, at: usize) -> Result<Member, Malformed> {
        let mut sparse = match header.entry_type() {
            EntryType::GNUSparse => Some(sparse::gnu(self.archive, header, &mut self.at).ok_or(Malformed::Sparse(at))?),
            _ => None,
        };
        let kind = kind(header, at)?;
        let mut content = match kind {
            EntryType::Regular => self.content(header, at)?,
            // What is left has no content, whatever its size field says.
            _ => self.at..self.at,
        };
        let Extensions { name, link, mut pax } = std::mem::take(&mut self.extensions);
        if pax.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
            let (map, rest) = sparse::pax(&pax, self.archive, content).ok_or(Malformed::Sparse(at))?;
            (sparse, content) = (Some(map), rest);
        }
        if sparse.as_ref().is_some_and(|sparse| !sparse.fits(content.len())) {
            return Err(Malformed::Sparse(at));
        }
        let mut take = |key: &str| pax.remove(key.as_bytes());
        let sparse_name = take("GNU.sparse.name");
        let stated = |value: Option<Vec<u8>>| match value {
            Some(value) => number(&value).ok_or(Malformed::Extension(at)).map(Some),
            None => Ok(None),
        };
        let damaged = |_| Malformed::Header(at);
        let or = |stated: Option<u64>, field: std::io::Result<u64>| stated.map_or_else(|| field.map_err(damaged), Ok);
        let name = sparse_name.or_else(|| take("path")).or(name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = take("linkpath").or(link).or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let mtime = match take("mtime") {
            Some(value) => seconds(&value).ok_or(Malformed::Extension(at))?,
            None => header.mtime().map_err(damaged)?.cast_signed(),
        };
        Ok(Member {
            kind: if kind == EntryType::Regular && name.ends_with(b"/") { EntryType::Directory } else { kind },
            name,
            link: link.unwrap_or_default(),
            mode: header.mode().map_err(damaged)?,
            uid: or(stated(take("uid"))?, header.uid())?,
            gid: or(stated(take("gid"))?, header.gid())?,
            mtime,
            device: device(header),
            xattrs: xattrs(pax),
            content,
            sparse,
        })
    }
}

/// The kind of a member, all kinds of regular files being one.
fn kind(header: &Header, at: usize) -> Result<EntryType, Malformed> {
    match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Ok(EntryType::Regular),
        kind @ (EntryType::Directory | EntryType::Symlink | EntryType::Link | EntryType::Fifo) => Ok(kind),
        kind @ (EntryType::Char | EntryType::Block) => Ok(kind),
        other => {
            let what = format!("a member of type `{}`", char::from(other.as_byte()).escape_default());
            Err(Malformed::Unsupported { what, at })
        }
    }
}

fn device(header: &Header) -> Option<(u32, u32)> {
    Some((header.device_major().ok()??, header.device_minor().ok()??))
}

fn xattrs(pax: BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    pax.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_vec(), value))).collect()
}

/// The records of an extended header. They can't be cut at line ends: values may have such bytes in them.
fn records(mut block: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut records = BTreeMap::new();
    while !block.is_empty() {
        let space = block.iter().take(20).position(|byte| *byte == b' ')?;
        let len = usize::try_from(number(&block[..space])?).ok()?;
        let record = block.get(space + 1..len)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
        block = &block[len..];
    }
    Some(records)
}

/// A decimal number.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// A time in decimal seconds, rounded down to whole ones.
fn seconds(time: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(time).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let down = whole.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
    seconds.checked_sub(i64::from(down)).filter(|_| fraction.bytes().all(|b| b.is_ascii_digit()))
}

/// Text up to its first NUL.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}
