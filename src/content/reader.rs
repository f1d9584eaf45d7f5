//! Blobs for synchronous readers.

use std::io::{self, BufRead};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use ociforge_manifests::Descriptor;
use tokio::sync::mpsc;
use tokio::task::JoinError;

use super::verify::read_sized;
use super::{ByteStream, Cause, Source, cause_of, read_verified};
use crate::progress::Progress;

/// The maximum number of pieces that wait for the reader.
const WAITING: usize = 8;

/// A blob that a task fetches and another thread reads. Reading ends in an error, not in EOF, when the blob has another size or
/// digest than its descriptor says; the error's inner value is a [`Cause`].
///
/// The reading thread holds no handle of the runtime, which may end earlier.
pub struct BlobReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl BlobReader {
    /// A reader of the blob of `descriptor`, and the future that fetches the blob from `source`. The caller awaits the
    /// future while another thread reads. `progress` counts the received bytes.
    pub fn new<'a>(
        source: &'a dyn Source,
        descriptor: &'a Descriptor,
        progress: &'a dyn Progress,
    ) -> (Self, impl Future<Output = ()> + Send + 'a) {
        Self::through(read_verified, source, descriptor, progress)
    }

    /// As [`Self::new`], without a check of the digest: for callers that verify the decompressed content.
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
            let checked = checked.map_err(|error| Cause::Source(Box::new(error)));
            if let Err(cause) = send(checked, progress, &sender).await {
                // A failed reader no longer receives, and has its own error.
                let _ = sender.send(Err(io::Error::other(cause.of_source(source, descriptor)))).await;
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

/// Sends the bytes of the blob until the receiver is dropped. The error is the cause of an incomplete blob.
async fn send(
    blob: Result<ByteStream, Cause>,
    progress: &dyn Progress,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Cause> {
    let mut blob = blob?;
    while let Some(bytes) = blob.next().await {
        let bytes = bytes.map_err(cause_of)?;
        progress.advance(bytes.len() as u64);
        if sender.send(Ok(bytes)).await.is_err() {
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
