//! Blobs for code that reads and does not await.

use std::io::{self, BufRead};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use ociforge_manifests::Descriptor;
use tokio::sync::mpsc;
use tokio::task::JoinError;

use super::verify::read_sized;
use super::{ByteStream, Cause, Source, read_verified};
use crate::progress::Progress;

/// Pieces that may wait for the reader.
const WAITING: usize = 8;

/// A blob that a task fetches and another thread reads. Reading ends in an error, not in EOF, when the blob has another size or
/// digest than its descriptor says; the error's inner value is a [`Cause`].
///
/// The thread holds nothing of the runtime, which may end before it does.
pub struct BlobReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl BlobReader {
    /// A reader of the blob of `descriptor`, and the work of fetching it from `source`, which is to be awaited while
    /// another thread reads. `progress` is told what arrives.
    pub fn new<'a>(
        source: &'a dyn Source,
        descriptor: &'a Descriptor,
        progress: &'a dyn Progress,
    ) -> (Self, impl Future<Output = ()> + Send + 'a) {
        Self::through(read_verified, source, descriptor, progress)
    }

    /// As [`Self::new`], but the digest is not looked at: for who verifies what the blob decompresses to.
    pub fn sized<'a>(
        source: &'a dyn Source,
        descriptor: &'a Descriptor,
        progress: &'a dyn Progress,
    ) -> (Self, impl Future<Output = ()> + Send + 'a) {
        Self::through(read_sized, source, descriptor, progress)
    }

    fn through<'a>(
        check: fn(&Descriptor, ByteStream) -> ByteStream,
        source: &'a dyn Source,
        descriptor: &'a Descriptor,
        progress: &'a dyn Progress,
    ) -> (Self, impl Future<Output = ()> + Send + 'a) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let fetch = async move {
            let checked = source.fetch(descriptor, 0).await.map(|raw| check(descriptor, raw));
            if let Err(cause) = send(checked.map_err(|error| error.cause), progress, &sender).await {
                // Nobody receives any more when the reader has failed, and then it knows why.
                let _ = sender.send(Err(io::Error::other(cause))).await;
            }
        };
        (Self { receiver, rest: Bytes::new() }, fetch)
    }
}

/// Fetches a blob from `source` while `work` reads it on a thread of its own.
///
/// # Errors
/// Those of the thread. `work` gets the errors of the transfer from its reader.
pub async fn read_on_thread<T: Send + 'static>(
    (reader, fetch): (BlobReader, impl Future<Output = ()>),
    work: impl FnOnce(BlobReader) -> T + Send + 'static,
) -> Result<T, JoinError> {
    let ((), result) = tokio::join!(fetch, tokio::task::spawn_blocking(move || work(reader)));
    result
}

/// Sends the bytes of the blob for as long as somebody receives them.
async fn send(
    blob: Result<ByteStream, Cause>,
    progress: &dyn Progress,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Cause> {
    let mut blob = blob?;
    while let Some(bytes) = blob.next().await {
        if let Ok(bytes) = &bytes {
            progress.advance(bytes.len() as u64);
        }
        if sender.send(bytes).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl io::BufRead for BlobReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.rest = bytes?,
                None => break,
            }
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, count: usize) {
        self.rest.advance(count);
    }
}

impl io::Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
