//! Removing unrequested blobs from a partial archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use ociforge_manifests::Digest;

use super::resume::{blob_header, first_entry, padded};
use super::target::Begun;
use crate::content::Cause;
use crate::store::format::tar_file::TarRange;
use crate::store::partial::Partial;

/// Replaces `partial` by a partial archive with only these of its blobs, and returns the end of the last one. The old
/// file stays until the new one is complete. `blobs` are in the order of their offsets.
pub(super) fn rewrite(partial: &Partial, blobs: &[(Digest, TarRange)]) -> Result<(Partial, u64), Cause> {
    // Only the owner of the old file's lock can have it.
    let Some(anew) = partial.beside(".new")? else {
        return Err(io::Error::from(io::ErrorKind::ResourceBusy).into());
    };
    let first = first_entry(anew.file())?;
    match write(partial.file(), anew.file(), first, blobs) {
        Ok(end) => Ok((anew.replace(partial)?, end)),
        Err(error) => {
            let _ = anew.discard();
            Err(error.into())
        }
    }
}

/// Writes the blobs after the first entry, which ends at `first`.
fn write(mut from: &File, mut to: &File, first: u64, blobs: &[(Digest, TarRange)]) -> io::Result<u64> {
    to.set_len(first)?;
    to.seek(SeekFrom::Start(first))?;
    for (digest, place) in blobs {
        let header = blob_header(&Begun { digest: digest.clone(), size: place.length })?;
        let begin = place.offset - header.len() as u64;
        let length = padded(place.offset + place.length) - begin;
        from.seek(SeekFrom::Start(begin))?;
        // The kernel copies between files, on some filesystems by sharing blocks.
        if io::copy(&mut from.take(length), &mut to)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    to.stream_position()
}
