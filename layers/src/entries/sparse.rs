//! The maps of sparse files (GNU tar's manual, "Storing Sparse Files"): the old GNU format, and PAX 0.0,
//! 0.1 and 1.0.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use ::tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::{BLOCK, TarEntries, pax};

/// Maximum number of segments of a file; each takes 16 bytes of memory.
const MAX_STRETCHES: usize = 1 << 18;

/// Maximum length of a line of a PAX 1.0 map: twenty digits and a newline.
const MAX_LINE: u64 = 21;

/// The segments of a sparse file; all other bytes are zeros.
#[derive(Debug, Clone)]
pub struct Sparse {
    /// In ascending order, not overlapping, and in total as long as the body.
    pub stretches: Vec<SparseSegment>,
    /// Length of the file, in bytes.
    pub len: u64,
}

/// A part of a file that is not a hole.
#[derive(Debug, Clone, Copy)]
pub struct SparseSegment {
    /// Its offset in the file.
    pub at: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl Sparse {
    /// Whether the segments are in order, inside the file, and in total as long as the body.
    pub(super) fn fits(&self, body: u64) -> bool {
        let (mut end, mut sum) = (0u64, 0u64);
        for SparseSegment { at, len } in &self.stretches {
            match at.checked_add(*len) {
                Some(next) if *at >= end => (end, sum) = (next, sum.saturating_add(*len)),
                _ => return false,
            }
        }
        end <= self.len && sum == body
    }
}

/// The map in an old GNU header and in the following blocks, which `next` reads; it returns `false` at the end.
pub(super) fn gnu(header: &Header, mut next: impl FnMut(&mut [u8]) -> io::Result<bool>) -> io::Result<Option<Sparse>> {
    let Some(header) = header.as_gnu() else { return Ok(None) };
    let mut stretches = Vec::new();
    let mut sound = add(&header.sparse, &mut stretches).is_some();
    let mut extended = header.is_extended();
    while sound && extended {
        let mut block = GnuExtSparseHeader::new();
        sound = next(block.as_mut_bytes())? && add(&block.sparse, &mut stretches).is_some();
        extended = block.is_extended();
    }
    let len = header.real_size().ok().filter(|_| sound);
    Ok(len.map(|len| Sparse { stretches, len }))
}

fn add(headers: &[GnuSparseHeader], stretches: &mut Vec<SparseSegment>) -> Option<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        stretches.push(SparseSegment { at: header.offset().ok()?, len: header.length().ok()? });
    }
    (stretches.len() <= MAX_STRETCHES).then_some(())
}

/// The map in PAX records, or at the beginning of the body; the rest of the body follows it.
pub(super) fn pax<R: BufRead>(
    records: &BTreeMap<Vec<u8>, Vec<u8>>,
    body: &mut TarEntries<R>,
) -> io::Result<Option<Sparse>> {
    let get = |key: &str| records.get(key.as_bytes()).map(Vec::as_slice);
    let len = get("GNU.sparse.realsize").or(get("GNU.sparse.size")).and_then(pax::number);
    let numbers = if let Some(map) = get(pax::SPARSE_MAP) {
        map.split(|byte| *byte == b',').filter(|_| !map.is_empty()).map(pax::number).collect()
    } else if (get("GNU.sparse.major"), get("GNU.sparse.minor")) == (Some(b"1"), Some(b"0")) {
        leading(body)?
    } else if get("GNU.sparse.numblocks") == Some(b"0") {
        Some(Vec::new())
    } else {
        None
    };
    let stretches = numbers.and_then(|numbers: Vec<u64>| pairs(&numbers));
    Ok(stretches.zip(len).map(|(stretches, len)| Sparse { stretches, len }))
}

/// The numbers at the beginning of the body, without their count.
fn leading<R: BufRead>(body: &mut TarEntries<R>) -> io::Result<Option<Vec<u64>>> {
    let start = body.position();
    let mut line = || -> io::Result<Option<u64>> {
        let mut line = Vec::new();
        body.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        Ok(line.strip_suffix(b"\n").and_then(pax::number))
    };
    let Some(count) = line()?.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= MAX_STRETCHES)
    else {
        return Ok(None);
    };
    let mut numbers = Vec::new();
    for _ in 0..2 * count {
        match line()? {
            Some(number) => numbers.push(number),
            None => return Ok(None),
        }
    }
    let padding = (BLOCK as u64 - (body.position() - start) % BLOCK as u64) % BLOCK as u64;
    let skipped = io::copy(&mut body.by_ref().take(padding), &mut io::sink())?;
    Ok(Some(numbers).filter(|_| skipped == padding))
}

fn pairs(numbers: &[u64]) -> Option<Vec<SparseSegment>> {
    let (pairs, []) = numbers.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[at, len]| SparseSegment { at: *at, len: *len }).collect())
}
