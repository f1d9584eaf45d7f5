//! Blobs for code that reads and does not await.

use std::io;

use bytes::Bytes;
use futures_util::StreamExt;
use ociforge_manifests::Descriptor;
use tokio::sync::mpsc;

use super::{Cause, Source, read_verified};
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
        let (sender, receiver) = mpsc::channel(WAITING);
        let fetch = async move {
            if let Err(cause) = send(source, descriptor, progress, &sender).await {
                // Nobody receives any more when the reader has failed, and then it knows why.
                let _ = sender.send(Err(io::Error::other(cause))).await;
            }
        };
        (Self { receiver, rest: Bytes::new() }, fetch)
    }
}

/// Sends the verified bytes of the blob for as long as somebody receives them.
async fn send(
    source: &dyn Source,
    descriptor: &Descriptor,
    progress: &dyn Progress,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Cause> {
    let raw = source.fetch(descriptor, 0).await.map_err(|error| error.cause)?;
    let mut verified = read_verified(descriptor, raw);
    while let Some(bytes) = verified.next().await {
        if let Ok(bytes) = &bytes {
            progress.advance(bytes.len() as u64);
        }
        if sender.send(bytes).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl io::Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.rest = bytes?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
