//! Blobs that arrive from a source.

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

/// Small pieces are collected into batches of at least this size in bytes.
const BATCH: usize = 256 << 10;
/// The maximum number of pieces in a batch; one system call writes up to 1024.
const PIECES: usize = 512;
/// The maximum number of batches that wait for the writing thread.
const WAITING: usize = 8;

/// The end of a file to which a blob is written.
pub(super) struct Arrival<H> {
    /// The file.
    pub(super) file: Arc<File>,
    /// The offset of the blob in the file, in bytes. Its existing part extends to the end of the file.
    pub(super) begin: u64,
    /// A guard that is held while the file is written, even if the caller stops waiting.
    pub(super) held: H,
}

/// The result of one attempt.
struct Attempt<H> {
    arrival: Arrival<H>,
    /// The size in bytes of the existing part.
    there: u64,
    outcome: Result<(), ContentError>,
}

impl<H: Send + 'static> Arrival<H> {
    /// Reads the rest of the blob from `source`, after the existing part in the file. A blob that does not match its
    /// descriptor is removed from the file. If it had an existing part, the blob is read once more from its first byte:
    /// the existing part may have been damaged.
    ///
    /// When the source ends early or the disk is full, the received part stays in the file. Errors of the target have
    /// `operation`; those of the source have an operation of their own.
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
                Err(error) if error.cause.is_other_content() => {
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
        // No answer means that the writer failed.
        let there = there.await.ok();
        let mut sent = Ok(());
        if let Some(there) = there {
            progress.advance(there);
            if there < size {
                sent = send(descriptor, source, there, progress, &sender).await;
            }
        }
        drop(sender);
        let joined = writer.await.map_err(io::Error::other);
        let (arrival, check, written) = joined.map_err(|error| Cause::Io(error).of(operation))?;
        let outcome = match (written, sent) {
            (Ok(()), Ok(())) => check.finish(),
            (Err(cause), _) => Err(cause),
            (_, sent) => sent,
        };
        let outcome = outcome.map_err(|cause| match cause.is_mismatch() {
            true => cause.of_source(source, descriptor).of(operation),
            false => cause.of(operation),
        });
        Ok(Attempt { arrival, there: there.unwrap_or(0), outcome })
    }

    /// Hashes the existing part, reports its size, and then hashes and writes the received batches.
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
        // If the receiver of the size is gone, no batch follows.
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

/// Sends the blob of `source` from the offset `there` to the writer, until the writer ends.
async fn send(
    descriptor: &Descriptor,
    source: &dyn Source,
    there: u64,
    progress: &dyn Progress,
    sender: &mpsc::Sender<Vec<Bytes>>,
) -> Result<(), Cause> {
    let fetched = source.fetch(descriptor, there).await;
    let mut stream = fetched.map_err(|error| Cause::Source(Box::new(error)))?;
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
                outcome = Err(cause_of(error).of_source(source, descriptor));
                break;
            }
        }
        if gathered >= BATCH || batch.len() == PIECES {
            gathered = 0;
            if sender.send(std::mem::take(&mut batch)).await.is_err() {
                // The writer has the error.
                return Ok(());
            }
        }
    }
    let _ = sender.send(batch).await;
    outcome
}

/// Writes all `pieces` at an offset of the file, and returns their size in bytes.
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
