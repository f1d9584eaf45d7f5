//! The body of an upload, streamed from the source.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use ociforge_manifests::Descriptor;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{RequestBuilder, Response};
use tokio::sync::mpsc;

use super::feed::{Feed, Mark};
use crate::content::{Cause, Source};
use crate::http::{Stats, StreamedBody, Timeouts};
use crate::progress::Progress;

/// A range of a blob in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u64,
    pub length: u64,
}

/// A part of a blob, as the body of a request.
pub(super) struct BlobPart<'a> {
    pub blob: &'a Outgoing<'a>,
    pub span: Span,
}

/// A blob during its upload. Consecutive parts are read from one stream of the source; any other part, or a repeated
/// one, opens a new stream.
pub(super) struct Outgoing<'a> {
    descriptor: &'a Descriptor,
    source: &'a dyn Source,
    progress: &'a dyn Progress,
    /// The bytes that the progress has counted.
    told: AtomicU64,
    /// The stream between two parts. A request takes it, and returns it after its last byte.
    feed: SharedSlot<Feed>,
    /// The furthest confirmed offset with a known hash.
    mark: Mutex<Mark>,
}

type SharedSlot<T> = Arc<Mutex<Option<T>>>;

/// Events of the body's stream, which runs in another task.
enum Event {
    /// The source is polled for bytes.
    Asked,
    /// This number of bytes was passed on.
    Given(u64),
}

/// The other end of an open body.
struct Watch {
    events: mpsc::UnboundedReceiver<Event>,
    /// Bytes that are still to be handed over.
    left: u64,
    /// The error of the source's stream.
    broken: SharedSlot<Cause>,
}

/// A body that is being sent.
struct Sending {
    feed: Feed,
    left: u64,
    events: mpsc::UnboundedSender<Event>,
    broken: SharedSlot<Cause>,
    home: SharedSlot<Feed>,
    stats: Arc<Stats>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(descriptor: &'a Descriptor, source: &'a dyn Source, progress: &'a dyn Progress) -> Self {
        let mark = Mutex::new(Mark::start(descriptor));
        Self { descriptor, source, progress, told: AtomicU64::new(0), feed: SharedSlot::default(), mark }
    }

    /// The size of the blob in bytes.
    pub(super) fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// The furthest confirmed offset with a known hash.
    pub(super) fn mark(&self) -> Mark {
        held(&self.mark).clone()
    }

    /// Resumes at the mark of an earlier push.
    pub(super) fn go_on_from(&self, mark: Mark) {
        *held(&self.mark) = mark;
    }

    /// Resets the mark.
    pub(super) fn start_again(&self) {
        self.go_on_from(Mark::start(self.descriptor));
    }

    /// The registry has all bytes up to `offset`.
    pub(super) fn confirmed(&self, offset: u64) {
        if let Some(feed) = held(&self.feed).as_ref().filter(|feed| feed.mark().offset == offset) {
            self.go_on_from(feed.mark().clone());
        }
    }

    /// A part of the blob, verified on its way.
    async fn open(&self, span: Span, stats: &Arc<Stats>) -> Result<(reqwest::Body, Watch), Cause> {
        if self.told.swap(span.start, Ordering::Relaxed) != span.start {
            self.progress.restart(span.start);
        }
        let (events, receiver) = mpsc::unbounded_channel();
        let broken = SharedSlot::default();
        let watch = Watch { events: receiver, left: span.length, broken: Arc::clone(&broken) };
        if span.length == 0 {
            return Ok((reqwest::Body::from(""), watch));
        }
        let feed = self.feed_at(span.start).await.map_err(|cause| self.of_source(cause))?;
        let (home, stats) = (Arc::clone(&self.feed), Arc::clone(stats));
        let sending = Sending { feed, left: span.length, events, broken, home, stats };
        let body = stream::unfold(Some(sending), |sending| async { Some(sending?.next().await) });
        Ok((reqwest::Body::wrap_stream(body), watch))
    }

    /// Waits for the answer to the request that `watch` belongs to, for as long as a [`StreamedBody`] does. Waiting for the
    /// source is the source's affair.
    async fn answer<T>(&self, request: impl Future<Output = T>, watch: &mut Watch, timeouts: &Timeouts) -> Option<T> {
        tokio::pin!(request);
        let (mut asked, mut open) = (false, true);
        loop {
            let longest = if watch.left == 0 || !open { timeouts.commit } else { timeouts.idle };
            tokio::select! {
                biased;
                event = watch.events.recv(), if open => match event {
                    Some(Event::Asked) => asked = watch.left > 0,
                    Some(Event::Given(bytes)) => {
                        self.progress.advance(bytes);
                        self.told.fetch_add(bytes, Ordering::Relaxed);
                        watch.left = watch.left.saturating_sub(bytes);
                        asked = false;
                    }
                    None => open = false,
                },
                answer = &mut request => return Some(answer),
                () = tokio::time::sleep(longest), if !(asked && open) => return None,
            }
        }
    }

    /// The cause as a failure of the source.
    fn of_source(&self, cause: Cause) -> Cause {
        cause.of_source(self.source, self.descriptor)
    }

    /// The stream of the last part if it ended at `start`, or else a new one.
    async fn feed_at(&self, start: u64) -> Result<Feed, Cause> {
        let left = held(&self.feed).take();
        if let Some(feed) = left.filter(|feed| feed.mark().offset == start) {
            return Ok(feed);
        }
        let mark = Some(self.mark()).filter(|mark| mark.offset <= start);
        let mark = mark.unwrap_or_else(|| Mark::start(self.descriptor));
        let mut feed = Feed::open(self.descriptor, self.source, mark).await?;
        // The confirmed part of an interrupted chunk is read once more for its hash.
        feed.skip_to(start).await?;
        Ok(feed)
    }
}

#[async_trait]
impl StreamedBody for BlobPart<'_> {
    async fn send(
        &self,
        request: RequestBuilder,
        timeouts: &Timeouts,
        stats: &Arc<Stats>,
    ) -> io::Result<Option<reqwest::Result<Response>>> {
        let Self { blob, span } = self;
        let (body, mut watch) = blob.open(*span, stats).await.map_err(io::Error::other)?;
        let request = request.header(CONTENT_LENGTH, span.length).body(body);
        let answer = blob.answer(request.send(), &mut watch, timeouts).await;
        match watch.broken() {
            Some(cause) if !matches!(answer, Some(Ok(_))) => Err(io::Error::other(blob.of_source(cause))),
            _ => Ok(answer),
        }
    }
}

impl Sending {
    /// The next bytes, and the rest of the body.
    async fn next(mut self) -> (io::Result<Bytes>, Option<Self>) {
        // The receiver is gone once the answer has arrived.
        let _ = self.events.send(Event::Asked);
        match self.feed.next(self.left).await {
            Ok(bytes) => {
                let length = bytes.len() as u64;
                self.stats.sent(length);
                let _ = self.events.send(Event::Given(length));
                self.left -= length;
                if self.left > 0 {
                    return (Ok(bytes), Some(self));
                }
                *held(&self.home) = Some(self.feed);
                (Ok(bytes), None)
            }
            Err(cause) => {
                *held(&self.broken) = Some(cause);
                (Err(io::Error::other("the source broke off")), None)
            }
        }
    }
}

impl Watch {
    /// The error of the source's stream, if any.
    fn broken(&self) -> Option<Cause> {
        held(&self.broken).take()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
