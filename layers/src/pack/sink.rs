//! Sinks for the pieces of a tar: in order, inline or through threads.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ociforge_manifests::Digest;
use sha2::{Digest as _, Sha256};

use super::compress::{Compressor, GZIP_HEADER, Stretch, gzip_trailer};
use super::{Compression, PackError};
use crate::mapped::MappedFile;
use crate::tree::DeflatedSlice;

/// Receives the pieces of a tar in order.
pub(super) trait Sink {
    /// A segment to compress.
    fn plain(&mut self, stretch: Stretch) -> io::Result<()>;
    /// A file that becomes a gzip member unchanged; its stream is already checked.
    fn deflated(&mut self, slice: &DeflatedSlice) -> io::Result<()>;
}

/// The blob, hashed and counted as it is written.
pub(super) struct BlobOutput<W> {
    out: W,
    sha256: Sha256,
    size: u64,
}

impl<W: Write> BlobOutput<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, sha256: Sha256::new(), size: 0 }
    }

    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.out.flush()?;
        Ok((Digest::from_sha256(&self.sha256.finalize().into()), self.size))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Hash and write one after the other while the bytes are in the cache.
        for piece in bytes.chunks(256 << 10) {
            self.sha256.update(piece);
            self.out.write_all(piece)?;
            self.size += piece.len() as u64;
        }
        Ok(())
    }

    fn member(&mut self, slice: &DeflatedSlice) -> io::Result<()> {
        self.write(&GZIP_HEADER)?;
        for stretch in slice.file[slice.range.clone()].chunks(MappedFile::STRETCH) {
            self.write(stretch)?;
            if stretch.len() == MappedFile::STRETCH {
                slice.file.release();
            }
        }
        self.write(&gzip_trailer(slice.crc32, slice.len))
    }
}

/// Compresses and writes on the caller's thread.
pub(super) struct Inline<W> {
    output: BlobOutput<W>,
    compression: Compression,
    compressor: Option<Compressor>,
}

impl<W: Write> Inline<W> {
    pub(super) fn new(output: BlobOutput<W>, compression: Compression) -> Self {
        Self { output, compression, compressor: None }
    }

    pub(super) fn into_output(self) -> BlobOutput<W> {
        self.output
    }
}

impl<W: Write> Sink for Inline<W> {
    fn plain(&mut self, stretch: Stretch) -> io::Result<()> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(self.compression)?),
        };
        let member = compressor.compress(stretch)?;
        self.output.write(&member)
    }

    fn deflated(&mut self, slice: &DeflatedSlice) -> io::Result<()> {
        self.output.member(slice)
    }
}

/// A task of the writing thread.
enum WriteTask {
    /// Writes the result of a compressing thread.
    Compressed(Receiver<io::Result<Vec<u8>>>),
    /// Copies a member.
    Deflated(DeflatedSlice),
}

/// A segment to compress, and the channel for the result.
type CompressionJob = (Stretch, SyncSender<io::Result<Vec<u8>>>);

struct Queue {
    slots: SyncSender<WriteTask>,
    jobs: SyncSender<CompressionJob>,
}

impl Sink for Queue {
    fn plain(&mut self, stretch: Stretch) -> io::Result<()> {
        let (result, awaited) = sync_channel(1);
        // A closed channel means that the writer failed; `threaded` reports why.
        let sent = self.slots.send(WriteTask::Compressed(awaited)).is_ok() && self.jobs.send((stretch, result)).is_ok();
        if sent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn deflated(&mut self, slice: &DeflatedSlice) -> io::Result<()> {
        self.slots.send(WriteTask::Deflated(slice.clone())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Runs `produce` on this thread, with `threads` compressing threads and one writing thread.
pub(super) fn threaded<W: Write + Send, T>(
    output: BlobOutput<W>,
    compression: Compression,
    threads: usize,
    produce: impl FnOnce(&mut dyn Sink) -> Result<T, PackError>,
) -> Result<(T, BlobOutput<W>), PackError> {
    let (slots, to_write) = sync_channel::<WriteTask>(2 * threads);
    let (jobs, to_do) = sync_channel::<CompressionJob>(threads);
    let to_do = &Mutex::new(to_do);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || compress_all(to_do, compression));
        }
        let writer = scope.spawn(move || write_all(output, &to_write));
        let produced = produce(&mut Queue { slots, jobs });
        // The queue is closed, so the threads end.
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")));
        match (produced, written) {
            (Ok(value), Ok(output)) => Ok((value, output)),
            (Err(error @ (PackError::Content { .. } | PackError::Tree(_))), _) => Err(error),
            (_, Err(error)) => Err(PackError::Write(error)),
            (Err(error), Ok(_)) => Err(error),
        }
    })
}

fn compress_all(jobs: &Mutex<Receiver<CompressionJob>>, compression: Compression) {
    let mut compressor = Compressor::new(compression);
    loop {
        let next = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok((plain, result))) = next else { return };
        let member = match &mut compressor {
            Ok(compressor) => compressor.compress(plain),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        // The receiver is gone if the writer failed.
        let _ = result.send(member);
    }
}

fn write_all<W: Write>(mut output: BlobOutput<W>, slots: &Receiver<WriteTask>) -> io::Result<BlobOutput<W>> {
    for slot in slots {
        match slot {
            WriteTask::Compressed(awaited) => {
                let member = awaited.recv().map_err(|_| io::Error::other("a compressing thread panicked"))??;
                output.write(&member)?;
            }
            WriteTask::Deflated(slice) => output.member(&slice)?,
        }
    }
    Ok(output)
}
