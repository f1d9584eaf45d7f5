//! The maps of sparse files (GNU tar's manual, "Storing Sparse Files"): the old GNU format, and PAX 0.1 and 1.0.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::member::{BLOCK, Sparse, number};
use crate::mapped::MappedFile;

/// A part of a file that is not a hole.
#[derive(Debug)]
pub(super) struct Stretch {
    /// Where it begins in the file.
    at: u64,
    /// Its length in bytes.
    len: u64,
}

impl Sparse {
    /// Whether the stretches follow each other inside the file and are together as long as the content.
    pub(super) fn fits(&self, content: usize) -> bool {
        let (mut end, mut sum) = (0u64, 0u64);
        for Stretch { at, len } in &self.stretches {
            match at.checked_add(*len) {
                Some(next) if *at >= end => (end, sum) = (next, sum.saturating_add(*len)),
                _ => return false,
            }
        }
        end <= self.len && sum == content as u64
    }

    /// The whole file, holes included, as an unnamed file in the directory `scratch`, where holes take no space.
    pub(super) fn expand(&self, mut content: &[u8], scratch: &Path) -> io::Result<MappedFile> {
        let file: File = tempfile::tempfile_in(scratch)?;
        file.set_len(self.len)?;
        for stretch in &self.stretches {
            let len = usize::try_from(stretch.len).unwrap_or(usize::MAX).min(content.len());
            let (part, rest) = content.split_at(len);
            file.write_all_at(part, stretch.at)?;
            content = rest;
        }
        MappedFile::of(&file, scratch)
    }
}

/// The map in an old GNU header and the blocks that continue it, of which the first is at `next`.
pub(super) fn gnu(archive: &[u8], header: &Header, next: &mut usize) -> Option<Sparse> {
    let header = header.as_gnu()?;
    let mut stretches = Vec::new();
    add(&header.sparse, &mut stretches)?;
    let mut extended = header.is_extended();
    while extended {
        let mut block = GnuExtSparseHeader::new();
        block.as_mut_bytes().copy_from_slice(archive.get(*next..*next + BLOCK)?);
        add(&block.sparse, &mut stretches)?;
        extended = block.is_extended();
        *next += BLOCK;
    }
    Some(Sparse { stretches, len: header.real_size().ok()? })
}

fn add(headers: &[GnuSparseHeader], stretches: &mut Vec<Stretch>) -> Option<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        stretches.push(Stretch { at: header.offset().ok()?, len: header.length().ok()? });
    }
    Some(())
}

/// The map that PAX records tell of, or that stands at the beginning of the content; and the rest of the content.
pub(super) fn pax(
    records: &BTreeMap<Vec<u8>, Vec<u8>>,
    archive: &[u8],
    content: Range<usize>,
) -> Option<(Sparse, Range<usize>)> {
    let get = |key: &str| records.get(key.as_bytes()).map(Vec::as_slice);
    let len = number(get("GNU.sparse.realsize").or(get("GNU.sparse.size"))?)?;
    if let Some(map) = get("GNU.sparse.map") {
        let numbers: Vec<u64> = match map {
            [] => Vec::new(),
            map => map.split(|byte| *byte == b',').map(number).collect::<Option<_>>()?,
        };
        return Some((Sparse { stretches: pairs(&numbers)?, len }, content));
    }
    if (get("GNU.sparse.major"), get("GNU.sparse.minor")) != (Some(b"1"), Some(b"0")) {
        return None;
    }
    let map = &archive[content.clone()];
    let mut lines = map.split_inclusive(|byte| *byte == b'\n');
    let mut used = 0;
    let mut line = || {
        let line = lines.next()?;
        used += line.len();
        number(line.strip_suffix(b"\n")?)
    };
    let count = line()?;
    let mut numbers = Vec::new();
    for _ in 0..count.checked_mul(2)? {
        numbers.push(line()?);
    }
    let start = content.start.checked_add(used.next_multiple_of(BLOCK)).filter(|start| *start <= content.end)?;
    Some((Sparse { stretches: pairs(&numbers)?, len }, start..content.end))
}

fn pairs(numbers: &[u64]) -> Option<Vec<Stretch>> {
    let (pairs, []) = numbers.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[at, len]| Stretch { at: *at, len: *len }).collect())
}
