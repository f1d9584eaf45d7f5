//! A blob from the first mirror that has it; after an interruption from the next one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use ociforge_manifests::Descriptor;

use super::download::download;
use super::origin::Origin;
use crate::content::{ByteStream, Cause, cause_of};

/// The remaining mirrors for a blob, and its offset.
pub(super) struct Fetch {
    pub descriptor: Descriptor,
    /// In the order in which they are tried, each with its index in the repository's configuration.
    pub places: std::vec::IntoIter<(usize, Origin)>,
    /// Receives the index of the mirror that serves the blob.
    pub serving: Arc<AtomicUsize>,
    /// The number of received bytes.
    pub position: u64,
}

impl Fetch {
    /// The bytes from the position on, after the first mirror answers. If none does, the cause of the last one, or
    /// `failed` without mirrors.
    pub(super) async fn start(mut self, failed: Cause) -> Result<ByteStream, Cause> {
        let stream = self.next_place(failed).await?;
        let next = |(mut fetch, mut stream): (Self, ByteStream)| async move {
            loop {
                match stream.next().await? {
                    Ok(bytes) => {
                        fetch.position += bytes.len() as u64;
                        return Some((Ok(bytes), (fetch, stream)));
                    }
                    Err(error) => match fetch.next_place(cause_of(error)).await {
                        Ok(next) => stream = next,
                        Err(cause) => return Some((Err(io::Error::other(cause)), (fetch, stream::empty().boxed()))),
                    },
                }
            }
        };
        Ok(stream::unfold((self, stream), next).boxed())
    }

    async fn next_place(&mut self, mut failed: Cause) -> Result<ByteStream, Cause> {
        for (index, origin) in self.places.by_ref() {
            let started = async {
                let (url, headers, subject) = origin.locate(&self.descriptor).await?;
                download(&origin, url, headers, subject, self.descriptor.size, self.position).await
            };
            match started.await {
                Ok(stream) => {
                    self.serving.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(cause) => failed = cause,
            }
        }
        Err(failed)
    }
}
