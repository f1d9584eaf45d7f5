//! One stretch of bytes becomes one gzip member or zstd frame.

use std::io;

use flate2::{Compress, FlushCompress, Status};

use super::Compression;

/// What stands before the deflate stream of every member: deflate, no name, no time, unknown system (RFC 1952,
/// section 2.3).
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// What stands behind it: the CRC-32 and the length of the inflated bytes, modulo 2³².
pub(super) fn gzip_trailer(crc32: u32, len: u64) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc32.to_le_bytes());
    trailer[4..].copy_from_slice(&len.to_le_bytes()[..4]);
    trailer
}

/// A compressor that keeps its state, which is large, from one stretch to the next.
pub(super) enum Compressor {
    None,
    Gzip(Box<Compress>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip(level) => Self::Gzip(Box::new(Compress::new(flate2::Compression::new(level), false))),
            Compression::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.include_checksum(true)?;
                Self::Zstd(Box::new(compressor))
            }
        })
    }

    /// Compresses `plain` into a member of its own.
    pub(super) fn compress(&mut self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain),
            Self::Gzip(state) => gzip(state, &plain),
            Self::Zstd(compressor) => compressor.compress(&plain),
        }
    }
}

fn gzip(state: &mut Compress, plain: &[u8]) -> io::Result<Vec<u8>> {
    state.reset();
    let mut member = Vec::with_capacity(plain.len() / 2 + 256);
    member.extend_from_slice(&GZIP_HEADER);
    loop {
        let consumed = usize::try_from(state.total_in()).unwrap_or(plain.len());
        match state.compress_vec(&plain[consumed..], &mut member, FlushCompress::Finish).map_err(io::Error::other)? {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => member.reserve(member.capacity() / 2),
        }
    }
    member.extend_from_slice(&gzip_trailer(crc32fast::hash(plain), plain.len() as u64));
    Ok(member)
}
