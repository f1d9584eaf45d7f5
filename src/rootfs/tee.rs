//! A reader whose bytes another thread reads, too.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The maximum number of pieces that wait for the other thread.
const WAITING: usize = 8;

/// Reads from another reader, and sends the bytes to a [`TeeCopy`].
pub(super) struct TeeReader<R> {
    inner: R,
    /// `None` once the copy is dropped.
    copy: Option<SyncSender<Vec<u8>>>,
}

/// The bytes that the [`TeeReader`] has read. After an error of that reader it ends early.
pub(super) struct TeeCopy {
    pieces: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

/// Splits `inner` in two.
pub(super) fn tee<R: BufRead>(inner: R) -> (TeeReader<R>, TeeCopy) {
    let (sender, pieces) = sync_channel(WAITING);
    (TeeReader { inner, copy: Some(sender) }, TeeCopy { pieces, piece: Vec::new(), at: 0 })
}

impl<R: BufRead> BufRead for TeeReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Ok(bytes) = self.inner.fill_buf() {
            let piece = bytes[..amount.min(bytes.len())].to_vec();
            if !piece.is_empty() && self.copy.as_ref().is_some_and(|copy| copy.send(piece).is_err()) {
                self.copy = None;
            }
        }
        self.inner.consume(amount);
    }
}

impl<R: BufRead> Read for TeeReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for TeeCopy {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            (self.piece, self.at) = (self.pieces.recv().unwrap_or_default(), 0);
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.piece.len());
    }
}

impl Read for TeeCopy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn both_readers_get_all_bytes() {
        let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut reader, mut copy) = tee(&bytes[..]);
        let (first, second) = thread::scope(|scope| {
            let copied = scope.spawn(move || {
                let mut all = Vec::new();
                copy.read_to_end(&mut all).map(|_| all)
            });
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            drop(reader);
            (all, copied.join().unwrap().unwrap())
        });
        assert!(first == bytes && second == bytes);
    }

    #[test]
    fn a_dropped_copy_does_not_stop_the_reader() {
        let bytes = vec![7; 1_000_000];
        let (mut reader, copy) = tee(&bytes[..]);
        drop(copy);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes);
    }
}
