//! Tar headers: ustar, with a PAX header before it for values that ustar cannot hold (POSIX.1-2017, pax).

use tar::{EntryType, Header};

use crate::path::LayerPath;
use crate::tree::{Metadata, NodeKind};
use crate::whiteout;

/// The block size of tar.
pub(super) const BLOCK: usize = 512;

/// Maximum value of a field of 7 and of 11 octal digits.
const MAX_ID: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// The bytes before the content of an entry: its header, after a PAX header if necessary.
pub(super) fn entry(path: &LayerPath, metadata: &Metadata, kind: &NodeKind, size: u64) -> Vec<u8> {
    let (entry_type, name, link, device) = match kind {
        NodeKind::Directory { .. } => (EntryType::Directory, directory_name(path), None, None),
        NodeKind::File(_) => (EntryType::Regular, path.as_bytes().to_vec(), None, None),
        NodeKind::Symlink(target) => (EntryType::Symlink, path.as_bytes().to_vec(), Some(target.as_slice()), None),
        NodeKind::Hardlink(target) => (EntryType::Link, path.as_bytes().to_vec(), Some(target.as_bytes()), None),
        NodeKind::Whiteout => (EntryType::Regular, whiteout::hiding(path), None, None),
        NodeKind::Fifo => (EntryType::Fifo, path.as_bytes().to_vec(), None, None),
        NodeKind::CharDevice { major, minor } => {
            (EntryType::Char, path.as_bytes().to_vec(), None, Some((*major, *minor)))
        }
        NodeKind::BlockDevice { major, minor } => {
            (EntryType::Block, path.as_bytes().to_vec(), None, Some((*major, *minor)))
        }
    };
    build(entry_type, &name, link, device, metadata, size)
}

/// The header of the empty file that makes a directory opaque.
pub(super) fn opaque_marker(directory: &LayerPath, metadata: &Metadata) -> Vec<u8> {
    let metadata = Metadata::root(0, metadata.mtime);
    build(EntryType::Regular, &whiteout::opaque(directory), None, None, &metadata, 0)
}

/// The number of padding bytes after content of `len` bytes.
pub(super) fn padding(len: u64) -> usize {
    // The remainder is below 512.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 512 fits")]
    let used = (len % BLOCK as u64) as usize;
    (BLOCK - used) % BLOCK
}

fn directory_name(path: &LayerPath) -> Vec<u8> {
    if path.is_root() { b"./".to_vec() } else { [path.as_bytes(), b"/"].concat() }
}

fn build(
    entry_type: EntryType,
    name: &[u8],
    link: Option<&[u8]>,
    device: Option<(u32, u32)>,
    metadata: &Metadata,
    size: u64,
) -> Vec<u8> {
    let mut records = Vec::new();
    let mut header = ustar(entry_type);
    if let Some(ustar) = header.as_ustar_mut() {
        fill(&mut ustar.name, name, "path", &mut records);
        fill(&mut ustar.linkname, link.unwrap_or_default(), "linkpath", &mut records);
    }
    header.set_mode(metadata.mode & 0o7777);
    header.set_uid(number(metadata.uid, MAX_ID, "uid", &mut records));
    header.set_gid(number(metadata.gid, MAX_ID, "gid", &mut records));
    header.set_size(number(size, MAX_SIZE, "size", &mut records));
    match u64::try_from(metadata.mtime) {
        Ok(mtime) => header.set_mtime(number(mtime, MAX_SIZE, "mtime", &mut records)),
        Err(_) => record(&mut records, b"mtime", metadata.mtime.to_string().as_bytes()),
    }
    if let Some((major, minor)) = device {
        // Only GNU and ustar headers have device fields, and this is one.
        let _ = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
    }
    for (name, value) in &metadata.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    header.set_cksum();

    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let mut pax = ustar(EntryType::XHeader);
        if let Some(ustar) = pax.as_ustar_mut() {
            fill(&mut ustar.name, b"././@PaxHeader", "", &mut Vec::new());
        }
        pax.set_mode(0o644);
        pax.set_size(records.len() as u64);
        pax.set_cksum();
        bytes.extend_from_slice(pax.as_bytes());
        let padding = padding(records.len() as u64);
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len() + padding, 0);
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

fn ustar(entry_type: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    for set in [Header::set_uid, Header::set_gid, Header::set_mtime, Header::set_size] {
        set(&mut header, 0);
    }
    let _ = header.set_device_major(0).and_then(|()| header.set_device_minor(0));
    header
}

/// Writes as much of `value` into `field` as fits, and the whole value into a PAX record if it is longer.
fn fill(field: &mut [u8], value: &[u8], key: &str, records: &mut Vec<u8>) {
    let fits = value.len().min(field.len());
    field[..fits].copy_from_slice(&value[..fits]);
    if fits < value.len() {
        record(records, key.as_bytes(), value);
    }
}

/// `value` for a numeric field, or 0 and a PAX record if it is too large.
fn number(value: u64, max: u64, key: &str, records: &mut Vec<u8>) -> u64 {
    if value <= max {
        return value;
    }
    record(records, key.as_bytes(), value.to_string().as_bytes());
    0
}

/// Appends `LENGTH KEY=VALUE\n`; the length includes itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for value_len in [0, 80, 88, 89, 90, 91, 980, 990, 991, 992] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; value_len]);
            let text = String::from_utf8(records).unwrap();
            let length: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, text.len());
        }
    }
}
