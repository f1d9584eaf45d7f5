//! A source for tests that simulates faults of disks and registries.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge_manifests::Descriptor;
use tokio::sync::Notify;

use crate::content::{ByteStream, ContentError, Source, Target};
use crate::progress::Progress;

/// The end of one read, after this number of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Breaks(usize),
    Hangs(usize),
}

/// A blob that is read in pieces. Each read ends with the next of `ends`, or completely if none is left.
pub(super) struct Script {
    pub(super) content: Bytes,
    pub(super) piece: usize,
    pub(super) ends: Mutex<VecDeque<End>>,
    /// The offsets of the reads.
    pub(super) offsets: Mutex<Vec<u64>>,
    /// Notified when a read hangs.
    pub(super) hangs: Arc<Notify>,
}

impl Script {
    pub(super) fn new(content: &[u8], ends: &[End]) -> Self {
        let ends = Mutex::new(ends.iter().copied().collect());
        Self {
            content: Bytes::copy_from_slice(content),
            piece: 1000,
            ends,
            offsets: Mutex::default(),
            hangs: Arc::default(),
        }
    }

    /// Pushes the blob until the read hangs, and then drops the push.
    pub(super) async fn push_until_it_hangs(&self, target: &dyn Target, descriptor: &Descriptor) {
        tokio::select! {
            pushed = target.push(descriptor, self, &()) => panic!("it does not hang: {pushed:?}"),
            () = self.hangs.notified() => {}
        }
    }

    pub(super) fn offsets(&self) -> Vec<u64> {
        self.offsets.lock().unwrap().clone()
    }
}

#[async_trait]
impl Source for Script {
    async fn fetch(&self, _: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        self.offsets.lock().unwrap().push(offset);
        let end = self.ends.lock().unwrap().pop_front();
        let last = match end {
            Some(End::Breaks(at) | End::Hangs(at)) => at.min(self.content.len()),
            None => self.content.len(),
        };
        let offset = usize::try_from(offset).unwrap().min(last);
        let piece = self.piece;
        let content = self.content.slice(offset..last);
        let starts = (0..content.len()).step_by(piece);
        let pieces = starts.map(move |at| Ok(content.slice(at..content.len().min(at + piece)))).collect::<Vec<_>>();
        let pieces = stream::iter(pieces);
        Ok(match end {
            Some(End::Breaks(_)) => pieces.chain(stream::iter([Err(io::Error::other("the line is dead"))])).boxed(),
            Some(End::Hangs(_)) => {
                let hangs = Arc::clone(&self.hangs);
                let rest = stream::once(async move {
                    hangs.notify_one();
                    std::future::pending().await
                });
                pieces.chain(rest).boxed()
            }
            None => pieces.boxed(),
        })
    }
}

/// Counts the reported bytes.
#[derive(Debug, Default)]
pub(super) struct Count(Mutex<u64>);

impl Count {
    pub(super) fn get(&self) -> u64 {
        *self.0.lock().unwrap()
    }
}

impl Progress for Count {
    fn advance(&self, bytes: u64) {
        *self.0.lock().unwrap() += bytes;
    }
    fn restart(&self, bytes: u64) {
        *self.0.lock().unwrap() = bytes;
    }
    fn done(&self, _: &str) {}
}

/// Pseudo-random bytes.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
