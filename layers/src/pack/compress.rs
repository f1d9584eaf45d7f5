//! Compression of a segment to gzip members or a zstd frame.

use std::io;
use std::ops::Range;

use libdeflater::CompressionLvl;

use super::{Compression, incompressible};

/// The bytes before the deflate stream of every member: deflate, no name, no time, unknown system (RFC 1952, section
/// 2.3).
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The bytes after it: the CRC-32, and the length of the inflated bytes modulo 2³².
pub(super) fn gzip_trailer(crc32: u32, len: u64) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc32.to_le_bytes());
    trailer[4..].copy_from_slice(&len.to_le_bytes()[..4]);
    trailer
}

/// A segment of a tar.
#[derive(Default)]
pub(super) struct Stretch {
    pub(super) bytes: Vec<u8>,
    /// The ranges of file content in it.
    pub(super) content: Vec<Range<usize>>,
}

/// Maximum size of a stored block in bytes (RFC 1951, section 3.2.4).
const MAX_STORED: usize = 0xffff;

/// A compressor that reuses its state, which is large.
pub(super) enum Compressor {
    None,
    Gzip(libdeflater::Compressor),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip(level) => {
                let level = i32::try_from(level).ok().and_then(|level| CompressionLvl::new(level).ok());
                Self::Gzip(libdeflater::Compressor::new(level.unwrap_or_default()))
            }
            Compression::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.include_checksum(true)?;
                Self::Zstd(Box::new(compressor))
            }
        })
    }

    /// Compresses a segment to one frame, or to one gzip member for each compressible or incompressible part.
    pub(super) fn compress(&mut self, Stretch { bytes, content }: Stretch) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes),
            Self::Gzip(state) => {
                let mut members = Vec::with_capacity(bytes.len() / 2 + 256);
                let mut at = 0;
                for noise in incompressible::find(&bytes, &content) {
                    deflated(state, &bytes[at..noise.start], &mut members)?;
                    stored(&bytes[noise.clone()], &mut members);
                    at = noise.end;
                }
                deflated(state, &bytes[at..], &mut members)?;
                Ok(members)
            }
            Self::Zstd(compressor) => compressor.compress(&bytes),
        }
    }
}

/// Appends a member with `plain` deflated, unless `plain` is empty.
fn deflated(compressor: &mut libdeflater::Compressor, plain: &[u8], members: &mut Vec<u8>) -> io::Result<()> {
    if plain.is_empty() {
        return Ok(());
    }
    members.extend_from_slice(&GZIP_HEADER);
    let start = members.len();
    members.resize(start + compressor.deflate_compress_bound(plain.len()), 0);
    let len = compressor.deflate_compress(plain, &mut members[start..]).map_err(io::Error::other)?;
    members.truncate(start + len);
    members.extend_from_slice(&gzip_trailer(crc32fast::hash(plain), plain.len() as u64));
    Ok(())
}

/// Appends a member with `plain` stored.
fn stored(plain: &[u8], members: &mut Vec<u8>) {
    members.extend_from_slice(&GZIP_HEADER);
    let mut blocks = plain.chunks(MAX_STORED).peekable();
    while let Some(block) = blocks.next() {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        members.push(u8::from(blocks.peek().is_none()));
        members.extend_from_slice(&len.to_le_bytes());
        members.extend_from_slice(&(!len).to_le_bytes());
        members.extend_from_slice(block);
    }
    members.extend_from_slice(&gzip_trailer(crc32fast::hash(plain), plain.len() as u64));
}
