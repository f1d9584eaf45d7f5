//! A blob from the first place that has it, and from the next one on when that breaks off.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use ociforge_manifests::Descriptor;

use super::download::download;
use super::origin::Origin;
use crate::content::{ByteStream, Cause, cause_of};

/// The places of a blob that are left to be tried, and how far it is.
pub(super) struct Fetch {
    pub descriptor: Descriptor,
    /// In the order in which they are tried, each with its index in the repository's configuration.
    pub places: std::vec::IntoIter<(usize, Origin)>,
    /// Told the index of the place that gives the blob.
    pub serving: Arc<AtomicUsize>,
    /// How many of its bytes are had.
    pub position: u64,
}

impl Fetch {
    /// The bytes from the position on, once a place gives the first of them. When none does, the last one's cause;
    /// `failed` where there is none.
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
