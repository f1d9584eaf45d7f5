//! Reading of files on disk for a tar.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::Errno;

use crate::entries;

/// Bytes per read.
const PIECE: usize = 256 << 10;
/// Smaller files are not checked for holes.
const SPARSE: u64 = 1 << 20;

/// An error of copying a file.
pub(super) enum CopyError<E> {
    /// The file cannot be read, or has changed.
    Read(io::Error),
    /// The receiver of the pieces failed.
    Taken(E),
}

/// Passes all of `file`, which must have `len` bytes, to `each`, in pieces of the size of `buffer`. Holes are not read:
/// they become zeros, because the layer has no sparse files (image-spec, layer.md, "File Attributes"; a program that
/// re-creates a layer from its files does not know the holes of the original tar).
pub(super) fn pieces<E>(
    mut file: File,
    len: u64,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), CopyError<E>> {
    let failed = |error: Errno| CopyError::Read(error.into());
    let changed = || CopyError::Read(io::Error::other("it changed while it was read"));
    let sparse = len >= SPARSE && is_sparse(&file, len).map_err(failed)?;
    let (mut at, mut data) = (0, if sparse { 0..0 } else { 0..len });
    while at < len {
        if at >= data.end {
            data = next_data(&file, at, len).map_err(failed)?;
        }
        let end = if at < data.start { data.start } else { data.end };
        let now = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        if buffer.len() < now {
            buffer.resize(PIECE, 0);
        }
        let piece = &mut buffer[..now];
        if at < data.start {
            piece.fill(0);
        } else if entries::fill(&mut file, piece).map_err(CopyError::Read)? < now {
            return Err(changed());
        }
        each(piece).map_err(CopyError::Taken)?;
        at += now as u64;
    }
    if sparse {
        return Ok(());
    }
    match entries::fill(&mut file, &mut [0]).map_err(CopyError::Read)? {
        0 => Ok(()),
        _ => Err(changed()),
    }
}

/// Whether a file takes less space on disk than its length.
fn is_sparse(file: &File, len: u64) -> Result<bool, Errno> {
    let stat = fstat(file)?;
    let as_said = u64::try_from(stat.st_size) == Ok(len);
    Ok(as_said && u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < len)
}

/// The first data segment from `at`; the file position is then at its beginning.
fn next_data(file: &File, at: u64, len: u64) -> Result<Range<u64>, Errno> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(len),
        Err(Errno::NXIO) => seek(file, SeekFrom::End(0))?.max(len),
        // The filesystem does not support holes.
        Err(Errno::INVAL | Errno::NOTSUP) => at,
        Err(error) => return Err(error),
    };
    if start >= len {
        return Ok(len..len);
    }
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(len).min(len);
    seek(file, SeekFrom::Start(start))?;
    Ok(start..if end > start { end } else { len })
}
