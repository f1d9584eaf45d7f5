//! Resuming a partial archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ociforge_manifests::{Digest, Hasher};
use tar::{Builder, EntryType};

use super::target::{Begun, UNSYNCED};
use crate::store::format::blob_name::{blob_name, digest_of};
use crate::store::format::tar_file::{BLOCK, TarRange, header};

use crate::content::Cause;

/// The first entry's content.
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The longest header of a blob: a sha512 name has its own entry.
const LONGEST_HEADER: usize = 3 * BLOCK as usize;

/// The content of a partial archive.
pub(super) struct ArchiveContent {
    pub(super) blobs: BTreeMap<Digest, TarRange>,
    /// The end of the last complete entry.
    pub(super) end: u64,
    /// The incomplete blob after it.
    pub(super) begun: Option<Begun>,
}

/// The entry of a blob in the file.
struct BlobEntry {
    blob: Begun,
    /// The offset of its header.
    at: u64,
    place: TarRange,
}

/// Finds the blobs in a partial file, and truncates the file after them. An empty file gets its first entry.
///
/// Blobs are flushed to the disk in order, see [`UNSYNCED`]: blobs that may not have been on disk at a crash are
/// verified, earlier ones are not.
pub(super) fn scan(file: &File) -> Result<ArchiveContent, Cause> {
    let first = first_entry(file)?;
    let length = file.metadata()?.len();
    let (mut entries, begun) = entries(file, first, length)?;
    let sound = sound(file, &entries)?;
    let begun = begun.filter(|_| sound == entries.len());
    entries.truncate(sound);
    let end = entries.last().map_or(first, |last| padded(last.place.offset + last.place.length));
    if begun.is_none() {
        file.set_len(end)?;
    }
    // The verified bytes may not be on disk.
    file.sync_data()?;
    Ok(ArchiveContent {
        blobs: entries.into_iter().map(|entry| (entry.blob.digest, entry.place)).collect(),
        end,
        begun,
    })
}

/// Writes or checks the first entry of the file, and returns its end. A file with another beginning is not ours and
/// stays unchanged.
pub(super) fn first_entry(file: &File) -> Result<u64, Cause> {
    let first = document("oci-layout", LAYOUT)?;
    let mut there = vec![0; first.len()];
    let length = file.metadata()?.len();
    let shown = usize::try_from(length).unwrap_or(usize::MAX).min(first.len());
    file.read_exact_at(&mut there[..shown], 0)?;
    if there[..shown] != first[..shown] {
        let message = "the .partial file was not written by ociforge".into();
        return Err(Cause::Other {
            message,
            hint: Some("remove the file that ends in .partial or .partial.new".into()),
        });
    }
    if shown < first.len() {
        file.write_all_at(&first, 0)?;
    }
    Ok(first.len() as u64)
}

/// The complete entries from `at` on, and the incomplete one at the end.
fn entries(file: &File, mut at: u64, length: u64) -> io::Result<(Vec<BlobEntry>, Option<Begun>)> {
    let mut entries: Vec<BlobEntry> = Vec::new();
    let mut known = BTreeSet::new();
    while let Some((blob, header)) = read_header(file, at, length)? {
        let place = TarRange { offset: at + header, length: blob.size };
        if !known.insert(blob.digest.clone()) {
            break;
        }
        match place.offset.checked_add(place.length) {
            Some(end) if end <= length => {
                entries.push(BlobEntry { blob, at, place });
                at = padded(end);
            }
            _ => return Ok((entries, Some(blob))),
        }
    }
    Ok((entries, None))
}

/// Reads the header at an offset of the file, and returns its length; `None` unless it is exactly the header of a blob.
fn read_header(file: &File, at: u64, length: u64) -> io::Result<Option<(Begun, u64)>> {
    let there = length.saturating_sub(at).min(LONGEST_HEADER as u64);
    let mut bytes = vec![0; usize::try_from(there).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    let parsed = || {
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().ok()?.next()?.ok()?;
        let digest = digest_of(std::str::from_utf8(&entry.path_bytes()).ok()?)?;
        Some(Begun { digest, size: entry.size() })
    };
    let Some(blob) = parsed() else { return Ok(None) };
    let header = blob_header(&blob)?;
    Ok(bytes.starts_with(&header).then_some((blob, header.len() as u64)))
}

/// The number of valid entries from the first one on.
fn sound(file: &File, entries: &[BlobEntry]) -> io::Result<usize> {
    let Some(end) = entries.last().map(|last| last.at) else { return Ok(0) };
    let doubtful = |entry: &BlobEntry| end - entry.at < UNSYNCED;
    let first = entries.iter().position(doubtful).unwrap_or(0);
    for (position, entry) in entries.iter().enumerate().skip(first) {
        if !is_whole(file, entry)? {
            return Ok(position);
        }
    }
    Ok(entries.len())
}

fn is_whole(file: &File, entry: &BlobEntry) -> io::Result<bool> {
    let mut hasher = Hasher::like(&entry.blob.digest);
    let mut buffer = vec![0; 1 << 20];
    let TarRange { mut offset, length } = entry.place;
    let end = offset + length;
    while offset < end {
        let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..most], offset)?;
        hasher.update(&buffer[..most]);
        offset += most as u64;
    }
    Ok(hasher.finish() == entry.blob.digest)
}

/// The header of a blob's entry, always the same.
pub(super) fn blob_header(blob: &Begun) -> io::Result<Vec<u8>> {
    let name = blob_name(&blob.digest);
    let mut tar = Builder::new(Vec::new());
    tar.append_data(&mut header(EntryType::Regular, 0o644, blob.size), name, io::empty())?;
    Ok(tar.get_ref().clone())
}

/// The complete entry of a small file.
pub(super) fn document(name: &str, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    super::writer::append(&mut tar, name, content)?;
    Ok(tar.get_ref().clone())
}

/// The end of the last block of an entry's content.
pub(super) fn padded(end: u64) -> u64 {
    end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}
