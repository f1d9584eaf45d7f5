//! Decompression of streams, detected by their first bytes.

use std::io::{self, BufRead, Cursor, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

/// Memory limit of the xz decoder in KiB, because streams may be hostile. `xz -9` needs a quarter of it.
const XZ_MEMORY: u32 = 256 * 1024;

/// The compression format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionFormat {
    /// No known compression.
    Plain,
    /// gzip, of one or several members.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

impl CompressionFormat {
    /// Detects the format by a stream's first six bytes, or fewer in a shorter stream.
    #[must_use]
    pub fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A frame, or a skippable frame before the first one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// Decompresses `reader` in any of the formats. A truncated stream ends in an error.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn decompress<'a>(mut reader: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut beginning = Vec::with_capacity(6);
    reader.by_ref().take(6).read_to_end(&mut beginning)?;
    let format = CompressionFormat::of(&beginning);
    let whole = Cursor::new(beginning).chain(reader);
    Ok(match format {
        CompressionFormat::Plain => Box::new(whole),
        CompressionFormat::Gzip => Box::new(GzipReader(MultiGzDecoder::new(whole))),
        CompressionFormat::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        CompressionFormat::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
        CompressionFormat::Zstd => Box::new(zstd::Decoder::with_buffer(whole)?),
    })
}

/// The content of a gzip stream of one or several members. Like Go's compress/gzip, which container engines use, and
/// unlike GNU gzip, it does not ignore data that follow the last member.
struct GzipReader<R>(MultiGzDecoder<R>);

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The first header is read when the decoder is made.
        let begun = self.0.header().is_some();
        self.0.read(buffer).map_err(|error| {
            let in_next_header = begun && self.0.header().is_none();
            match error.kind() {
                // The reader below gives errors of other kinds.
                ErrorKind::InvalidInput | ErrorKind::UnexpectedEof if in_next_header => {
                    io::Error::new(ErrorKind::InvalidData, "data after the end of the gzip stream")
                }
                _ => error,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(text: &[u8]) -> Vec<Vec<u8>> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(text).unwrap();
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        xz.write_all(text).unwrap();
        let zstd = zstd::encode_all(text, 1).unwrap();
        vec![gzip.finish().unwrap(), bzip2.finish().unwrap(), xz.finish().unwrap(), zstd]
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_format_twice_over_and_cut_off() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| (i % 977).to_le_bytes()).collect();
        for blob in all(&text) {
            assert_ne!(CompressionFormat::of(&blob), CompressionFormat::Plain);
            assert_eq!(read(&blob).unwrap(), text);
            assert_eq!(read(&[blob.as_slice(), &blob].concat()).unwrap(), [text.as_slice(), &text].concat());
            for cut in [blob.len() - 1, blob.len() / 2, 12] {
                assert!(read(&blob[..cut]).is_err(), "{:?} cut to {cut}", CompressionFormat::of(&blob));
            }
        }
        assert_eq!(read(b"plain").unwrap(), b"plain");
    }

    #[test]
    fn data_after_the_end_of_a_gzip_stream() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| (i % 977).to_le_bytes()).collect();
        for content in [text.as_slice(), b"short", b""] {
            let blob = &all(content)[0];
            for junk in [b"\n".as_slice(), b"junk", &[0; 512], b"\x1f\x8b", b"\x1f\x8c and more than ten bytes"] {
                let error = read(&[blob.as_slice(), junk].concat()).unwrap_err();
                assert_eq!(error.to_string(), "data after the end of the gzip stream", "{junk:?}");
            }
        }
    }

    #[test]
    fn an_empty_stream() {
        assert_eq!(read(b"").unwrap(), b"");
    }
}
