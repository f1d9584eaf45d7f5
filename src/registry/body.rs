//! What is sent: nothing, bytes, or a blob as it comes out of its source.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge_manifests::Descriptor;
use tokio::sync::mpsc;

use super::stats::Stats;
use crate::content::{Cause, Source, cause_of, read_verified};
use crate::progress::Progress;

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Empty,
    Bytes(&'a Bytes),
    Blob(&'a Outgoing<'a>),
}

/// A blob on its way out. It may be opened several times, each time from its beginning.
pub(super) struct Outgoing<'a> {
    descriptor: &'a Descriptor,
    source: &'a dyn Source,
    progress: &'a dyn Progress,
    opened: AtomicBool,
    /// What ended the source's stream before its time.
    broken: Arc<Mutex<Option<Cause>>>,
}

/// How the body is getting on, told by the stream, which runs elsewhere.
enum Event {
    /// The source is asked for more.
    Asked,
    /// So many bytes were handed over to be sent.
    Given(u64),
}

/// The other end of an open body.
pub(super) struct Watch {
    events: mpsc::UnboundedReceiver<Event>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(descriptor: &'a Descriptor, source: &'a dyn Source, progress: &'a dyn Progress) -> Self {
        Self { descriptor, source, progress, opened: AtomicBool::new(false), broken: Arc::default() }
    }

    /// Length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// The blob from its beginning, verified on its way.
    pub(super) async fn open(&self, stats: &Arc<Stats>) -> Result<(reqwest::Body, Watch), Cause> {
        if self.opened.swap(true, Ordering::Relaxed) {
            self.progress.restart(0);
        }
        let raw = self.source.fetch(self.descriptor, 0).await.map_err(|error| error.cause)?;
        let verified = read_verified(self.descriptor, raw);
        let (sender, events) = mpsc::unbounded_channel();
        let state = (verified.peekable(), sender, Arc::clone(&self.broken), Arc::clone(stats));
        let body = stream::unfold(state, |(mut stream, sender, broken, stats)| async move {
            // Nobody listens any more once the answer is there.
            let _ = sender.send(Event::Asked);
            let mut next = stream.next().await?;
            // The last bytes go out only when the whole is known to be right: their receiver asks for nothing more.
            if next.is_ok() && matches!(Pin::new(&mut stream).peek().await, Some(Err(_))) {
                next = stream.next().await?;
            }
            let next = next.inspect(|bytes: &Bytes| {
                stats.sent(bytes.len() as u64);
                let _ = sender.send(Event::Given(bytes.len() as u64));
            });
            let next = next.map_err(|error| {
                *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause_of(error));
                io::Error::other("the source broke off")
            });
            Some((next, (stream, sender, broken, stats)))
        });
        Ok((reqwest::Body::wrap_stream(body), Watch { events }))
    }

    /// What ended the source's stream before its time, if anything did.
    pub(super) fn take_broken(&self) -> Option<Cause> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for the answer to the request that `watch` belongs to. `None` when the other side took no bytes for
    /// `idle`, or gave no answer for `commit` after the last of them. Waiting for the source is the source's affair.
    pub(super) async fn answer<T>(
        &self,
        request: impl Future<Output = T>,
        mut watch: Watch,
        idle: Duration,
        commit: Duration,
    ) -> Option<T> {
        tokio::pin!(request);
        let (mut left, mut asked, mut open) = (self.size(), false, true);
        loop {
            let patience = if left == 0 || !open { commit } else { idle };
            tokio::select! {
                biased;
                event = watch.events.recv(), if open => match event {
                    Some(Event::Asked) => asked = left > 0,
                    Some(Event::Given(bytes)) => {
                        self.progress.advance(bytes);
                        left = left.saturating_sub(bytes);
                        asked = false;
                    }
                    None => open = false,
                },
                answer = &mut request => return Some(answer),
                () = tokio::time::sleep(patience), if !(asked && open) => return None,
            }
        }
    }
}
