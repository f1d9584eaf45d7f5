//! The entries of a tar stream, in order (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU
//! tar's manual, "Basic Tar Format").
//!
//! PAX and GNU extensions are applied to the headers that follow them. Memory is bounded: the lengths in a tar are
//! trusted only up to [`MAX_EXTENSION`] and the limit of sparse maps.

mod fields;
mod pax;
mod sparse;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use ::tar::{EntryType, Header};

use crate::tree::Metadata;

pub use self::pax::Time;
pub use self::sparse::{Sparse, SparseSegment};

/// Maximum length of a GNU or PAX extension in bytes; extended attributes are part of it.
pub const MAX_EXTENSION: u64 = 1 << 20;

/// The length of a header, and the alignment of content, in bytes.
const BLOCK: usize = 512;

/// The supported kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of any type: old, contiguous or sparse.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of an earlier file.
    Hardlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// One entry with the tar's values. [`TarEntries`] then reads its body.
#[derive(Debug, Clone)]
pub struct TarEntry {
    /// The offset of its header from the beginning of the tar, in bytes.
    pub at: u64,
    /// The name in the tar.
    pub name: Vec<u8>,
    /// The target of a hard or symbolic link; otherwise empty.
    pub link: Vec<u8>,
    /// Its kind.
    pub kind: EntryKind,
    /// Permission bits, and other bits of the field.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time.
    pub mtime: Time,
    /// Major and minor number, if the header has these fields.
    pub device: Option<(u32, u32)>,
    /// Extended attributes, by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Length of the body in bytes; zero for all kinds but regular files, independent of the header.
    pub body: u64,
    /// The segments of a sparse file's body.
    pub sparse: Option<Sparse>,
}

impl TarEntry {
    /// Length of the file in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.sparse.as_ref().map_or(self.body, |sparse| sparse.len)
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its attributes. Those of a hard link are of no use.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        let Self { mode, uid, gid, mtime, xattrs, .. } = self;
        Metadata { mode: mode & 0o7777, uid: *uid, gid: *gid, mtime: mtime.seconds, xattrs: xattrs.clone() }
    }
}

/// A fault of an archive. Positions are in bytes from its beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The first block is not a header.
    #[error("it is not a tar archive")]
    NotTar,
    /// A header's checksum or one of its numbers is wrong.
    #[error("the header at byte {0} is damaged")]
    Header(u64),
    /// The archive ends within an entry, or without the end mark that the caller requires.
    #[error("it is truncated at byte {0}")]
    CutOff(u64),
    /// A PAX header that is not a list of `LENGTH KEY=VALUE`.
    #[error("the extended header at byte {0} is damaged")]
    Extension(u64),
    /// A PAX or GNU extension of more than [`MAX_EXTENSION`] bytes.
    #[error("the extended header at byte {0} is longer than 1 MiB")]
    TooLong(u64),
    /// A sparse file whose map does not fit its content, or has too many parts.
    #[error("the map of the sparse file at byte {0} is damaged")]
    Sparse(u64),
    /// An unsupported feature.
    #[error("{what} at byte {at} is not supported")]
    Unsupported {
        /// The feature, with its article.
        what: String,
        /// The offset.
        at: u64,
    },
}

/// The error of reading the next entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntriesError {
    /// The stream failed.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The stream is not a valid tar.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<EntriesError> for io::Error {
    fn from(error: EntriesError) -> Self {
        match error {
            EntriesError::Read(error) => error,
            EntriesError::Malformed(error) => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Reads a tar from its first block to its end; as a reader, it returns the body of the current entry.
#[derive(Debug)]
pub struct TarEntries<R> {
    reader: R,
    /// Bytes read from the reader.
    at: u64,
    /// Unread bytes of the current body.
    left: u64,
    /// Padding bytes after the current body.
    padding: usize,
    /// Whether the end mark has been read.
    ended: bool,
}

/// The fields of an entry from the headers before its own.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: BufRead> TarEntries<R> {
    /// The entries of the tar that begins at the position of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, at: 0, left: 0, padding: 0, ended: false }
    }

    /// The next entry; `None` at the end mark or at the end of the stream. Skips the rest of the previous body.
    ///
    /// # Errors
    /// When the stream fails or is not a valid tar. The reader is not usable afterwards.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, EntriesError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_body()?;
            let at = self.at;
            let Some(header) = self.header()? else { return Ok(None) };
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(pax::text(self.extension(&header, at)?)),
                EntryType::GNULongLink => extensions.link = Some(pax::text(self.extension(&header, at)?)),
                EntryType::XHeader => extensions.pax.extend(self.records(&header, at)?),
                EntryType::XGlobalHeader => {
                    if let Some(key) = self.records(&header, at)?.into_keys().find(|key| key != b"comment") {
                        let what = format!("a global header with `{}`", String::from_utf8_lossy(&key));
                        return Err(Malformed::Unsupported { what, at }.into());
                    }
                }
                _ => return self.entry(&header, at, extensions).map(Some),
            }
        }
    }

    /// The number of bytes read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether the end mark was read; [`TarEntries::next_entry`] does not require it.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The underlying reader.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// The next header; `None` for a block of zeros or at the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, EntriesError> {
        let at = self.at;
        let mut header = Header::new_old();
        match self.fill(header.as_mut_bytes())? {
            0 => return Ok(None),
            BLOCK => {}
            // Every tar has at least one header.
            _ if at == 0 => return Err(Malformed::NotTar.into()),
            _ => return Err(Malformed::CutOff(self.at).into()),
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        if !fields::is_sound(header.as_bytes()) {
            return Err(if at == 0 { Malformed::NotTar } else { Malformed::Header(at) }.into());
        }
        Ok(Some(header))
    }

    /// The content of an extended header.
    fn extension(&mut self, header: &Header, at: u64) -> Result<Vec<u8>, EntriesError> {
        let size = fields::size(header).ok_or(Malformed::Header(at))?;
        let fits = usize::try_from(size).ok().filter(|_| size <= MAX_EXTENSION);
        let mut bytes = vec![0; fits.ok_or(Malformed::TooLong(at))?];
        let read = self.fill(&mut bytes)?;
        if read < bytes.len() {
            return Err(Malformed::CutOff(self.at).into());
        }
        self.padding = padding(size);
        Ok(bytes)
    }

    fn records(&mut self, header: &Header, at: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, EntriesError> {
        Ok(pax::records(&self.extension(header, at)?).ok_or(Malformed::Extension(at))?)
    }

    /// The entry with its own header at `at`. Its body follows in the stream.
    fn entry(&mut self, header: &Header, at: u64, extensions: Extensions) -> Result<TarEntry, EntriesError> {
        let Extensions { name, link, mut pax } = extensions;
        let kind = fields::kind(header).ok_or_else(|| Malformed::Unsupported {
            what: format!("an entry of type `{}`", header.entry_type().as_byte().escape_ascii()),
            at,
        })?;
        let sparse = self.body(header, kind, &pax, at)?;

        let damaged = || Malformed::Header(at);
        let mut take = |key: &str| pax.remove(key.as_bytes()).filter(|value| !value.is_empty());
        let sparse_name = take("GNU.sparse.name");
        let mut number = |key| take(key).map(|value| pax::number(&value).ok_or(Malformed::Extension(at))).transpose();
        let (uid, gid) = (number("uid")?, number("gid")?);
        let mtime = match take("mtime") {
            Some(value) => Time::parse(&value).ok_or(Malformed::Extension(at))?,
            None => Time { seconds: fields::mtime(header).ok_or_else(damaged)?, nanoseconds: 0 },
        };
        let name = sparse_name.or_else(|| take("path")).or(name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = take("linkpath").or(link).or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        // Old tars have no type for directories.
        let slash = kind == EntryKind::Regular && name.ends_with(b"/");
        Ok(TarEntry {
            at,
            kind: if slash { EntryKind::Directory } else { kind },
            name,
            link: link.unwrap_or_default(),
            mode: fields::mode(header).ok_or_else(damaged)?,
            uid: uid.or_else(|| fields::uid(header)).ok_or_else(damaged)?,
            gid: gid.or_else(|| fields::gid(header)).ok_or_else(damaged)?,
            mtime,
            device: fields::device(header),
            xattrs: pax::xattrs(pax),
            body: self.left,
            sparse,
        })
    }

    /// Begins the body of an entry, and reads the map of a sparse file.
    fn body(
        &mut self,
        header: &Header,
        kind: EntryKind,
        pax: &BTreeMap<Vec<u8>, Vec<u8>>,
        at: u64,
    ) -> Result<Option<Sparse>, EntriesError> {
        // Other kinds have no body, even if their size field is not zero.
        if kind != EntryKind::Regular {
            return Ok(None);
        }
        let mut map = None;
        if header.entry_type() == EntryType::GNUSparse {
            let read = sparse::gnu(header, |block| Ok(self.fill(block)? == BLOCK))?;
            map = Some(read.ok_or(Malformed::Sparse(at))?);
        }
        let size = match pax.get(b"size".as_slice()).filter(|size| !size.is_empty()) {
            Some(value) => pax::number(value).ok_or(Malformed::Extension(at))?,
            None => fields::size(header).ok_or(Malformed::Header(at))?,
        };
        (self.left, self.padding) = (size, padding(size));
        if pax.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
            map = Some(sparse::pax(pax, self)?.ok_or(Malformed::Sparse(at))?);
        }
        if map.as_ref().is_some_and(|map| !map.fits(self.left)) {
            return Err(Malformed::Sparse(at).into());
        }
        Ok(map)
    }

    /// Skips to the next header.
    fn skip_body(&mut self) -> Result<(), EntriesError> {
        while self.left > 0 {
            let available = match self.fill_buf() {
                Ok(bytes) => bytes.len(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Malformed::CutOff(self.at).into());
                }
                Err(error) => return Err(error.into()),
            };
            self.consume(available);
        }
        let mut padding = [0; BLOCK];
        let length = std::mem::take(&mut self.padding);
        // The padding of the last entry may be missing completely.
        match self.fill(&mut padding[..length])? {
            read if read == 0 || read == length => Ok(()),
            _ => Err(Malformed::CutOff(self.at).into()),
        }
    }

    /// As [`fill`], and counts the bytes.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let filled = fill(&mut self.reader, buffer)?;
        self.at += filled as u64;
        Ok(filled)
    }
}

impl<R: BufRead> Read for TarEntries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for TarEntries<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = self.reader.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, Malformed::CutOff(self.at)));
        }
        Ok(&bytes[..bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.left -= count as u64;
        self.at += count as u64;
    }
}

/// Fills `buffer` up to the end of `reader`; returns the number of bytes.
///
/// # Errors
/// Those of `reader`, except interruptions.
pub fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The number of padding bytes after content of `size` bytes.
fn padding(size: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 512 fits")]
    let used = (size % BLOCK as u64) as usize;
    (BLOCK - used) % BLOCK
}

#[cfg(test)]
mod tests;
