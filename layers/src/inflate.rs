//! Inflating of deflate streams in mapped files.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use crate::mapped::MappedFile;
use crate::tree::DeflatedSlice;

/// An error of inflating a slice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The slice is damaged.
    #[error("{0}")]
    Damaged(&'static str),
    /// The receiver of the bytes failed.
    #[error(transparent)]
    Taken(#[from] io::Error),
}

impl From<InflateError> for io::Error {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::Damaged(why) => Self::new(io::ErrorKind::InvalidData, why),
            InflateError::Taken(error) => error,
        }
    }
}

/// Inflates one slice after the other, with one state and one buffer.
pub struct Inflater {
    state: Decompress,
    buffer: Vec<u8>,
}

impl Inflater {
    /// The maximum size of an output piece in bytes: small enough for the CPU's second-level cache, so that a following
    /// hash reads from the cache.
    const PIECE: usize = 256 << 10;

    /// An inflater.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Decompress::new(false), buffer: vec![0; Self::PIECE] }
    }

    /// Passes the inflated bytes of `slice` to `each`, in pieces.
    ///
    /// # Errors
    /// When the slice is not one complete deflate stream, or inflates to another length or CRC-32 than stated, or
    /// `each` fails. `each` never receives more than the stated length.
    pub fn inflate(
        &mut self,
        slice: &DeflatedSlice,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), InflateError> {
        let bad = InflateError::Damaged;
        let input = slice.file.get(slice.range.clone()).ok_or_else(|| bad("it is outside of its file"))?;
        self.state.reset(false);
        let mut crc = crc32fast::Hasher::new();
        let mut released = 0;
        loop {
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let rest = usize::try_from(before_in).ok().and_then(|at| input.get(at..)).unwrap_or_default();
            let status = self.state.decompress(rest, &mut self.buffer, FlushDecompress::None);
            let status = status.map_err(|_| bad("its deflate stream is damaged"))?;
            let made = usize::try_from(self.state.total_out() - before_out).unwrap_or(self.buffer.len());
            if self.state.total_out() > slice.len {
                return Err(bad("it inflates to more bytes than it says"));
            }
            let piece = &self.buffer[..made];
            crc.update(piece);
            each(piece)?;
            if self.state.total_in() - released > MappedFile::STRETCH as u64 {
                slice.file.release();
                released = self.state.total_in();
            }
            match status {
                Status::StreamEnd => break,
                _ if made == 0 && self.state.total_in() == before_in => {
                    return Err(bad("its deflate stream is truncated"));
                }
                _ => {}
            }
        }
        if self.state.total_in() != input.len() as u64 {
            Err(bad("there are data after its deflate stream"))
        } else if self.state.total_out() != slice.len {
            Err(bad("it inflates to fewer bytes than it says"))
        } else if crc.finalize() != slice.crc32 {
            Err(bad("its CRC-32 is wrong"))
        } else {
            Ok(())
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// `content` deflated, in a mapped file with junk around it.
    pub(crate) fn deflated(content: &[u8]) -> DeflatedSlice {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        let stream = encoder.finish().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b"junk", stream.as_slice(), b"junk"].concat()).unwrap();
        DeflatedSlice {
            file: MappedFile::open(file.path()).unwrap(),
            range: 4..4 + stream.len(),
            crc32: crc32fast::hash(content),
            len: content.len() as u64,
            sha256: None,
        }
    }

    fn inflate(slice: &DeflatedSlice) -> Result<Vec<u8>, InflateError> {
        let mut all = Vec::new();
        Inflater::new().inflate(slice, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn inflates_what_is_sound() {
        let content: Vec<u8> = (0..1_000_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for content in [b"".as_slice(), b"hello", &content] {
            assert!(inflate(&deflated(content)).unwrap() == content);
        }
    }

    #[test]
    fn refuses_what_lies() {
        let good = deflated(b"hello hello hello hello");
        let cases = [
            (DeflatedSlice { crc32: 1, ..good.clone() }, "its CRC-32 is wrong"),
            (DeflatedSlice { len: 22, ..good.clone() }, "it inflates to more bytes than it says"),
            (DeflatedSlice { len: 24, ..good.clone() }, "it inflates to fewer bytes than it says"),
            (DeflatedSlice { range: 4..good.range.end + 1, ..good.clone() }, "there are data after"),
            (DeflatedSlice { range: 4..good.range.end - 1, ..good.clone() }, "its deflate stream is truncated"),
            (DeflatedSlice { range: 4..1000, ..good.clone() }, "it is outside of its file"),
        ];
        for (slice, message) in cases {
            let error = inflate(&slice).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}, expected {message}");
        }
    }
}
