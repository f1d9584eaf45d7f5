//! Files as streams of bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::task::spawn_blocking;

use crate::content::ByteStream;

/// Bytes per read. Each stream holds two such pieces in memory.
const PIECE: u64 = 256 << 10;

/// The `length` bytes of `file` from `offset` on. The stream ends in an error when the file is shorter. The next piece is
/// read while the last one is used.
#[must_use]
pub fn stream(file: impl Into<Arc<File>>, offset: u64, length: u64) -> ByteStream {
    let file = file.into();
    let pieces = (0..length.div_ceil(PIECE)).map(move |n| (offset + n * PIECE, PIECE.min(length - n * PIECE)));
    stream::iter(pieces)
        .map(move |(at, length)| {
            let file = Arc::clone(&file);
            async move { spawn_blocking(move || read(&file, at, length)).await.map_err(io::Error::other)? }
        })
        .buffered(2)
        .boxed()
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut piece, at)?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(content: &[u8], offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("file"), content)?;
        let mut stream = stream(File::open(directory.path().join("file"))?, offset, length);
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn pieces_come_in_order_and_a_short_file_is_an_error() {
        let content: Vec<u8> = (0..3 * PIECE + 17).map(|n| (n / 251) as u8).collect();
        let length = content.len() as u64;
        assert_eq!(collect(&content, 0, length).await.unwrap(), content);
        assert_eq!(collect(&content, 5, PIECE).await.unwrap(), content[5..][..PIECE as usize]);
        assert_eq!(collect(&content, length, 0).await.unwrap(), b"");
        assert!(collect(&content, 1, length).await.is_err());
    }
}
