//! The entries of a layer's tar, one after the other, with bounded memory.
//!
//! Names are taken apart only as far as a scan needs them: names and link targets of GNU tar and pax, and pax sizes.
//! What a tar says about lengths is not believed beyond [`MAX_EXTENSION`].

use std::io::{self, Read};

use tar::{EntryType, Header, PaxExtensions};

/// Longest GNU or pax extension that is read, in bytes; extended attributes are in there.
const MAX_EXTENSION: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// An entry's header. Its body is read from [`Entries`].
pub(super) struct Entry {
    /// As the tar spells it.
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryType,
    /// Target of a symbolic or hard link.
    pub(super) link: Vec<u8>,
    /// Permission bits.
    pub(super) mode: u32,
}

/// Reads a tar from its first block to its end; as a `Read`, the body of the entry that `next_entry` gave last.
pub(super) struct Entries<R> {
    reader: R,
    /// Bytes of the current body that were not read yet.
    left: u64,
    /// Zeros after the current body.
    padding: u64,
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive. What was left of the last body is skipped.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        loop {
            self.skip_body()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::GNULongName => extension.name = Some(self.long_name(size)?),
                EntryType::GNULongLink => extension.link = Some(self.long_name(size)?),
                EntryType::XHeader => extension.read_pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => self.begin_body(size),
                EntryType::GNUSparse => return Err(invalid("a GNU sparse file, which layers don't have")),
                _ => return Ok(Some(self.entry(&header, extension, size))),
            }
        }
    }

    /// What the tar was read from.
    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    fn entry(&mut self, header: &Header, extension: Extension, size: u64) -> Entry {
        use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
        let kind = header.entry_type();
        let bodiless = matches!(kind, Link | Symlink | Char | Block | Directory | Fifo);
        self.begin_body(if bodiless { 0 } else { extension.size.unwrap_or(size) });
        Entry {
            name: extension.name.unwrap_or_else(|| header.path_bytes().into_owned()),
            kind,
            link: extension.link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default(),
            mode: header.mode().unwrap_or(0),
        }
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        if !fill(&mut self.reader, header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        // The checksum's own field counts as spaces.
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum()? == sum { Ok(Some(header)) } else { Err(invalid("a tar header with a wrong checksum")) }
    }

    fn long_name(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(invalid("a tar header extension of more than 1 MiB"));
        }
        self.begin_body(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn begin_body(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn skip_body(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink())?;
        let mut padding = [0; BLOCK as usize];
        let length = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        // The zeros after the last entry may be missing.
        fill(&mut self.reader, &mut padding[..length]).map(drop)
    }
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        match self.reader.read(&mut buffer[..wanted])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

impl Extension {
    fn read_pax(&mut self, records: &[u8]) -> io::Result<()> {
        for record in PaxExtensions::new(records) {
            let record = record?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(text.ok_or_else(|| invalid("a pax size that is no number"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads exactly `buffer`; `false` when the reader is at its end already.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &[u8]) -> io::Result<Vec<(String, usize)>> {
        let mut entries = Entries::new(tar);
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            let mut body = Vec::new();
            if all.len() % 2 == 0 {
                entries.read_to_end(&mut body)?;
            }
            all.push((String::from_utf8_lossy(&entry.name).into_owned(), body.len()));
        }
        Ok(all)
    }

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let long = "d/".repeat(90) + "long";
        for (name, size) in [("a", 700_usize), ("b", 1), (long.as_str(), 3), ("c", 0)] {
            let mut header = Header::new_gnu();
            header.set_size(size as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, &vec![b'x'; size][..]).unwrap();
        }
        tar.append_pax_extensions([("path", b"pax/name".as_slice()), ("size", b"5")]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, io::empty()).unwrap();
        // The body whose length only the pax record knows.
        let mut bytes = tar.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend([b'y'; 5]);
        bytes.extend([0; 507 + 1024]);
        bytes
    }

    #[test]
    fn long_names_pax_sizes_and_skipped_bodies() {
        let all = names(&tar()).unwrap();
        let long = "d/".repeat(90) + "long";
        let expected = [("a", 700), ("b", 0), (long.as_str(), 3), ("c", 0), ("pax/name", 5)];
        assert_eq!(all, expected.map(|(name, size)| (name.to_owned(), size)));
    }

    #[test]
    fn a_tar_that_is_cut_off_or_lies_is_an_error() {
        let good = tar();
        for cut in [100, 600, 1300] {
            assert!(names(&good[..cut]).is_err(), "{cut}");
        }
        let mut flipped = good.clone();
        flipped[0] ^= 1;
        assert!(names(&flipped).is_err());

        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(b'a'));
        assert!(Entries::new(endless).next_entry().is_err());
    }
}
