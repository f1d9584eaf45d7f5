//! Zip archives: with right checksums, and made of files.

use std::io::Read;

use flate2::read::DeflateDecoder;

/// Most that a member inflates to before its checksum is left as it is, in bytes.
const MAX_MEMBER: u64 = 1 << 20;

/// The archive with the CRC-32 of each member made right in both of its headers, and with the length of an inflated one.
#[must_use]
pub fn with_checksums(archive: &[u8]) -> Vec<u8> {
    let mut zip = archive.to_vec();
    let entries: Vec<usize> = (0..zip.len()).filter(|at| zip[*at..].starts_with(b"PK\x01\x02")).collect();
    for entry in entries {
        let _ = mend(&mut zip, entry);
    }
    zip
}

/// Does that for the member whose entry of the central directory is at `entry`.
fn mend(zip: &mut [u8], entry: usize) -> Option<()> {
    let local = number(zip, entry + 42, 4)?;
    zip.get(local..)?.starts_with(b"PK\x03\x04").then_some(())?;
    let (deflated, compressed) = (number(zip, entry + 10, 2)? == 8, number(zip, entry + 20, 4)?);
    let start = local + 30 + number(zip, local + 26, 2)? + number(zip, local + 28, 2)?;
    let bytes = zip.get(start..start.checked_add(compressed)?)?;
    let (crc, length) = if deflated {
        let mut content = Vec::new();
        DeflateDecoder::new(bytes).take(MAX_MEMBER).read_to_end(&mut content).ok()?;
        (crc32fast::hash(&content), content.len())
    } else {
        (crc32fast::hash(bytes), bytes.len())
    };
    let length = u32::try_from(length).ok()?;
    for (crc_at, length_at) in [(entry + 16, entry + 24), (local + 14, local + 22)] {
        zip.get_mut(crc_at..crc_at + 4)?.copy_from_slice(&crc.to_le_bytes());
        zip.get_mut(length_at..length_at + 4)?.copy_from_slice(&length.to_le_bytes());
    }
    Some(())
}

/// A little-endian number of up to four bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let digits = bytes.get(at..at.checked_add(len)?)?;
    Some(digits.iter().rev().fold(0, |value, byte| (value << 8) | usize::from(*byte)))
}

/// An archive of these files, stored.
#[must_use]
pub fn of_files(files: &[(&[u8], &[u8])]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let (crc, length) = (crc32fast::hash(content).to_le_bytes(), size(content.len()));
        let (offset, name_length) = (size(zip.len()), name.len().min(0xffff) as u16);
        let name = &name[..usize::from(name_length)];
        // Version 2.0, names in UTF-8, stored, 1980-01-01.
        let common = [&[20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0][..], &crc, &length, &length, &name_length.to_le_bytes()];
        let common = [common.concat().as_slice(), &[0, 0]].concat();
        zip.extend([b"PK\x03\x04", common.as_slice(), name, content].concat());
        // Made on Unix; no comment, the first disk, a regular file of mode 0644.
        let attributes = 0o100_644_u32 << 16;
        let rest = [&[0; 6][..], &attributes.to_le_bytes(), &offset, name].concat();
        directory.extend([b"PK\x01\x02\x14\x03", common.as_slice(), &rest].concat());
    }
    let count = (files.len() as u16).to_le_bytes();
    let end = [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size(directory.len()), &size(zip.len()), &[0, 0]].concat();
    [zip, directory, end].concat()
}

fn size(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("inputs are small").to_le_bytes()
}
