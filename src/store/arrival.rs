//! Blobs as they arrive.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use ociforge_manifests::Descriptor;
use rustix::io::{pwritev, retry_on_intr};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::content::{Cause, ContentError, Source, Verifier, cause_of};
use crate::progress::Progress;

/// Small pieces are gathered until there are so many bytes of them, or the blob ends.
const BATCH: usize = 256 << 10;
/// How many pieces are gathered at most; one call writes up to 1024.
const PIECES: usize = 512;
/// Batches that may wait for the thread that hashes and writes.
const WAITING: usize = 8;

/// The end of a file, where a blob arrives.
pub(super) struct Arrival<H> {
    /// Where its bytes go.
    pub(super) file: Arc<File>,
    /// Where in the file the blob begins, in bytes. What is there of it goes on to the file's end.
    pub(super) begin: u64,
    /// Held for as long as the file is written, which may be longer than anybody waits for it.
    pub(super) held: H,
}

/// How one go at a blob ended.
struct Attempt<H> {
    arrival: Arrival<H>,
    /// How many bytes were in the file before.
    there: u64,
    outcome: Result<(), ContentError>,
}

impl<H: Send + 'static> Arrival<H> {
    /// Has the rest of the blob from `source`, after what is in the file already. When the whole is not what the
    /// descriptor says, nothing of it stays. Then it is read once more from its first byte, unless it was already: the
    /// older part may have been bad.
    ///
    /// When the source breaks off or the disk is full, what has come so far stays in the file. Errors are of
    /// `operation`, but for those of the source that has nothing to offer.
    pub(super) async fn receive(
        mut self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
        operation: &str,
    ) -> Result<Self, ContentError> {
        loop {
            let attempt = self.attempt(descriptor, source, progress, operation).await?;
            self = attempt.arrival;
            match attempt.outcome {
                Ok(()) => return Ok(self),
                Err(error) if is_other_content(&error.cause) => {
                    self.file.set_len(self.begin).map_err(|error| Cause::Io(error).of(operation))?;
                    if attempt.there == 0 {
                        return Err(error);
                    }
                    progress.restart(0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(
        self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
        operation: &str,
    ) -> Result<Attempt<H>, ContentError> {
        let (found, there) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(WAITING);
        let (mut check, size) = (Verifier::new(descriptor), descriptor.size);
        let writer = spawn_blocking(move || {
            let written = self.write(&mut check, size, found, receiver);
            (self, check, written)
        });
        // Without an answer the writer has failed.
        let there = there.await.ok();
        let mut sent = Ok(());
        if let Some(there) = there {
            progress.advance(there);
            if there < size {
                sent = send(descriptor, source, there, progress, &sender, operation).await;
            }
        }
        drop(sender);
        let joined = writer.await.map_err(io::Error::other);
        let (arrival, check, written) = joined.map_err(|error| Cause::Io(error).of(operation))?;
        let outcome = match (written, sent) {
            (Ok(()), Ok(())) => check.finish().map_err(|cause| cause.of(operation)),
            (Err(cause), _) => Err(cause.of(operation)),
            (_, sent) => sent,
        };
        Ok(Attempt { arrival, there: there.unwrap_or(0), outcome })
    }

    /// Hashes what is there, says how much that is, and then hashes and writes what is received.
    fn write(
        &self,
        check: &mut Verifier,
        size: u64,
        found: oneshot::Sender<u64>,
        mut receiver: mpsc::Receiver<Vec<Bytes>>,
    ) -> Result<(), Cause> {
        let mut end = self.file.metadata()?.len();
        if end < self.begin || end - self.begin > size {
            self.file.set_len(self.begin)?;
            end = self.begin;
        }
        let mut at = self.begin;
        let mut buffer = vec![0; if at < end { BATCH } else { 0 }];
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(BATCH);
            self.file.read_exact_at(&mut buffer[..most], at)?;
            check.take(&buffer[..most])?;
            at += most as u64;
        }
        // Where nobody waits for the answer any more nothing is sent either.
        let _ = found.send(at - self.begin);
        while let Some(batch) = receiver.blocking_recv() {
            for piece in &batch {
                check.take(piece)?;
            }
            at += write_at(&self.file, &batch, at)?;
        }
        Ok(())
    }
}

/// Whether what came is whole but not what was asked for. A blob that ends too early may only have been cut off.
fn is_other_content(cause: &Cause) -> bool {
    match cause {
        Cause::WrongDigest { .. } => true,
        Cause::WrongSize { expected, actual } => actual > expected,
        _ => false,
    }
}

/// Sends what `source` has of the blob from `there` on to the writer, for as long as it receives it.
async fn send(
    descriptor: &Descriptor,
    source: &dyn Source,
    there: u64,
    progress: &dyn Progress,
    sender: &mpsc::Sender<Vec<Bytes>>,
    operation: &str,
) -> Result<(), ContentError> {
    let mut stream = source.fetch(descriptor, there).await?;
    let (mut batch, mut gathered) = (Vec::new(), 0);
    let mut outcome = Ok(());
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => {
                progress.advance(piece.len() as u64);
                gathered += piece.len();
                batch.push(piece);
            }
            Err(error) => {
                outcome = Err(cause_of(error).of(operation));
                break;
            }
        }
        if gathered >= BATCH || batch.len() == PIECES {
            gathered = 0;
            if sender.send(std::mem::take(&mut batch)).await.is_err() {
                // The writer knows why.
                return Ok(());
            }
        }
    }
    let _ = sender.send(batch).await;
    outcome
}

/// Writes all `pieces` at a place in the file, and returns how many bytes they are.
fn write_at(file: &File, pieces: &[Bytes], at: u64) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = slices.as_mut_slice();
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    let mut written = 0;
    while written < length {
        let count = retry_on_intr(|| pwritev(file, slices, at + written))?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, count);
        written += count as u64;
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
