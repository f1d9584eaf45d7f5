//! Read-ahead: one stage of a pipeline on its own thread.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use crate::entries::fill;

/// The length of a buffer in bytes: small enough for the CPU's second-level cache, so that the next stages read from
/// the cache, and large enough that the cost of passing it on is negligible.
const PIECE: usize = 256 << 10;

/// The number of buffers between two stages.
const BUFFERS: usize = 6;

/// Bytes from another thread, in pieces.
pub(super) struct ReadAhead {
    full: Receiver<io::Result<ReadBuffer>>,
    /// Returns buffers to the thread.
    empty: SyncSender<Box<[u8]>>,
    /// The current buffer; `None` before the first one.
    piece: Option<ReadBuffer>,
}

/// A buffer and its unread range. The last buffer is empty.
struct ReadBuffer {
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
}

impl ReadAhead {
    /// Starts a thread of `scope` that reads the reader from `open`. The thread ends at the end of its reader, or soon
    /// after the result of this is dropped.
    pub(super) fn start<'scope, R: Read>(
        scope: &'scope Scope<'scope, '_>,
        open: impl FnOnce() -> io::Result<R> + Send + 'scope,
    ) -> Self {
        let (to_reader, full) = sync_channel(BUFFERS);
        let (empty, empties) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // The channel has space for all of them.
            let _ = empty.try_send(vec![0; PIECE].into_boxed_slice());
        }
        scope.spawn(move || {
            let mut pieces = open().map(|reader| pieces(reader, &empties));
            let failed = match &mut pieces {
                Ok(pieces) => pieces.try_for_each(|piece| to_reader.send(Ok(piece?)).map_err(|_| gone())),
                Err(_) => pieces.map(drop),
            };
            if let Err(error) = failed {
                let _ = to_reader.send(Err(error));
            }
        });
        Self { full, empty, piece: None }
    }
}

/// The pieces of `reader`; the last one is empty.
fn pieces<R: Read>(mut reader: R, empties: &Receiver<Box<[u8]>>) -> impl Iterator<Item = io::Result<ReadBuffer>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        let mut buffer = if ended { return None } else { empties.recv().ok()? };
        Some(fill(&mut reader, &mut buffer).map(|end| {
            ended = end == 0;
            ReadBuffer { buffer, at: 0, end }
        }))
    })
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.as_ref().is_none_or(|piece| piece.at == piece.end && piece.end > 0) {
            // The thread panicked if it ended without a last piece.
            let next = self.full.recv().map_err(|_| gone())??;
            if let Some(used) = self.piece.replace(next) {
                let _ = self.empty.try_send(used.buffer);
            }
        }
        Ok(self.piece.as_ref().map_or(&[], |piece| &piece.buffer[piece.at..piece.end]))
    }

    fn consume(&mut self, count: usize) {
        if let Some(piece) = &mut self.piece {
            piece.at += count;
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `left` bytes, a few at a time, and then fails or ends.
    struct Slow(usize, bool);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 && self.1 {
                return Err(io::Error::other("broken"));
            }
            let count = self.0.min(buffer.len()).min(70_000);
            buffer[..count].fill(7);
            self.0 -= count;
            Ok(count)
        }
    }

    #[test]
    fn all_bytes_then_the_end_or_the_error() {
        for len in [0, 1, PIECE, PIECE * 20 + 1] {
            std::thread::scope(|scope| {
                let mut all = Vec::new();
                let mut ahead = ReadAhead::start(scope, move || Ok(Slow(len, false)));
                ahead.read_to_end(&mut all).unwrap();
                assert_eq!((all.len(), all.iter().all(|byte| *byte == 7)), (len, true));
                assert_eq!(ahead.read(&mut [0]).unwrap(), 0, "the end stays the end");
                let mut ahead = ReadAhead::start(scope, move || Ok(Slow(len, true)));
                assert_eq!(ahead.read_to_end(&mut Vec::new()).unwrap_err().to_string(), "broken");
                let mut unopened = ReadAhead::start(scope, || Err::<Slow, _>(io::Error::other("closed")));
                assert_eq!(unopened.read(&mut [0]).unwrap_err().to_string(), "closed");
                // Dropped before its end.
                drop(ReadAhead::start(scope, move || Ok(Slow(len, false))));
            });
        }
    }
}
