//! The push of a blob: the sequence of requests, and the reaction to refusals and interruptions.

use ociforge_manifests::Descriptor;
use reqwest::StatusCode;
use tokio::sync::Mutex;
use url::Url;

use super::session::{UploadSession, as_safe_as};
use super::strategy::{Course, Sent, course};
use crate::content::Cause;
use crate::http::Retries;
use crate::registry::body::{Outgoing, Span};
use crate::registry::endpoint::Lane;
use crate::registry::fault::Fault;
use crate::registry::journal::{JournalEntry, Note};
use crate::registry::origin::Origin;

/// A blob that is being pushed.
struct Push<'a> {
    origin: &'a Origin,
    descriptor: &'a Descriptor,
    blob: &'a Outgoing<'a>,
    /// An upload that the registry has already begun, for the first use.
    begun: Option<Url>,
    session: Option<UploadSession>,
    /// The note for a later run.
    entry: Option<JournalEntry>,
    /// Whether the upload is that of an earlier run.
    resumed: bool,
    /// The offset of a chunk that the registry rejected as misplaced.
    misfit: Option<u64>,
    /// The offset of the last chunk with the answer 500.
    failed_at: Option<u64>,
    /// It may have been the answer that got lost, not the blob.
    doubtful: bool,
    retries: &'a Retries,
}

/// Pushes a blob. `begun` is an upload that the registry has already begun.
pub(in crate::registry) async fn push_blob(
    origin: &Origin,
    descriptor: &Descriptor,
    blob: &Outgoing<'_>,
    begun: Option<Url>,
) -> Result<(), Cause> {
    // One permit for all chunks: an upload keeps its source open between them, and the source may be a download that
    // other uploads wait for.
    let _permit = origin.endpoint.permit(Lane::Upload).await;
    let retries = origin.retries();
    let mut push = Push::new(origin, descriptor, blob, begun, &retries);
    push.take_up().await?;
    let push = Mutex::new(push);
    retries.run(|| async { push.lock().await.attempt().await }).await.map_err(|fault| fault.cause)
}

impl<'a> Push<'a> {
    fn new(
        origin: &'a Origin,
        descriptor: &'a Descriptor,
        blob: &'a Outgoing<'a>,
        begun: Option<Url>,
        retries: &'a Retries,
    ) -> Self {
        Self {
            origin,
            descriptor,
            blob,
            begun,
            session: None,
            entry: None,
            resumed: false,
            misfit: None,
            failed_at: None,
            doubtful: false,
            retries,
        }
    }

    /// Resumes an upload of an earlier run.
    async fn take_up(&mut self) -> Result<(), Cause> {
        let journal = self.origin.journal.as_ref().filter(|_| self.blob.size() > self.origin.endpoint.strategy.chunk());
        let Some((entry, note)) =
            journal.and_then(|journal| journal.take(self.origin.as_repository(), self.descriptor))
        else {
            return Ok(());
        };
        self.entry = Some(entry);
        if let Some(Note { url, least, mark }) = note
            && let Some(url) = as_safe_as(self.origin.endpoint.base().await?, url)
        {
            self.blob.go_on_from(mark);
            self.session = Some(UploadSession { url, offset: None, least });
            self.resumed = true;
        }
        Ok(())
    }

    /// Sends requests until the registry has the blob or one fails.
    async fn attempt(&mut self) -> Result<(), Fault> {
        while !self.has_arrived().await? {
            match self.step().await {
                Ok(true) => break,
                Ok(false) => {}
                Err(fault) => self.recover(fault).await?,
            }
        }
        Ok(())
    }

    /// Sends the next request. `true` when the registry has the blob.
    async fn step(&mut self) -> Result<bool, Fault> {
        let Some(session) = &mut self.session else {
            self.session = Some(match self.begun.take() {
                Some(url) => UploadSession::at(url),
                None => UploadSession::begin(self.origin).await?,
            });
            self.resumed = false;
            return Ok(false);
        };
        let Some(offset) = session.offset else {
            let there = session.ask(self.origin).await;
            return self.told(there).await;
        };
        let chunk = self.origin.endpoint.strategy.chunk().max(session.least);
        let left = self.blob.size() - offset;
        if left == 0 || (offset == 0 && left <= chunk) {
            return self.end(Span { start: offset, length: left }).await;
        }
        let span = Span { start: offset, length: chunk.min(left) };
        match session.patch(self.origin, self.blob, span).await {
            // The registry cannot have more than was sent.
            Ok(Some(there)) if there > offset => self.advance(there.min(offset + span.length)),
            // It accepted the chunk, but stored nothing of it.
            Ok(_) => self.send_whole().await,
            Err(fault) => {
                let sent = if offset == 0 { Sent::First } else { Sent::Later };
                self.turn(fault, sent, span).await?;
            }
        }
        Ok(false)
    }

    /// Continues at the offset of the registry.
    async fn told(&mut self, there: Result<Option<u64>, Fault>) -> Result<bool, Fault> {
        match there {
            // A second try would be the first over again.
            Ok(Some(there)) if self.misfit.take() == Some(there) => self.send_whole().await,
            Ok(Some(there)) if there <= self.blob.size() => self.advance(there),
            Err(fault) if fault.transient => return Err(fault),
            // The upload is unknown, or the registry cannot resume in the middle of a chunk: docker-registry signs the
            // offset of an upload, and refuses an upload with more bytes.
            Ok(_) | Err(_) => self.session = None,
        }
        Ok(false)
    }

    /// The registry has all bytes up to `offset`.
    fn advance(&mut self, offset: u64) {
        let Some(session) = &mut self.session else { return };
        session.offset = Some(offset);
        self.blob.confirmed(offset);
        self.retries.advance_to(offset);
        if let Some(entry) = &mut self.entry {
            entry.write(&Note { url: session.url.clone(), least: session.least, mark: self.blob.mark() });
        }
    }

    /// Sends the last bytes, or all of them, and has the registry look at the digest.
    async fn end(&mut self, span: Span) -> Result<bool, Fault> {
        let Some(session) = &self.session else { return Ok(false) };
        let Err(fault) = session.put(self.origin, self.descriptor, self.blob, span).await else {
            self.forget();
            return Ok(true);
        };
        let sent = if span.start == 0 { Sent::Whole } else { Sent::End };
        self.turn(fault, sent, span).await?;
        Ok(false)
    }

    /// Reacts to a failed request. The error is the same fault, if it needs a pause or has no remedy.
    async fn turn(&mut self, fault: Fault, sent: Sent, span: Span) -> Result<(), Fault> {
        let least = self.session.as_ref().map_or(0, |session| session.least);
        let course = course(&fault, sent);
        match course {
            Course::Fail => return Err(fault),
            Course::Whole => {
                self.send_whole().await;
                return Ok(());
            }
            Course::Shorter if !self.origin.endpoint.strategy.shorten(span.length, least) => return Err(fault),
            Course::Shorter if sent == Sent::Whole => {
                self.give_up().await;
                return Ok(());
            }
            Course::Anew => self.session = None,
            Course::Ask if self.fails_again(&fault, span) => match sent {
                // Some registries without chunks answer with a server error.
                Sent::First => {
                    self.send_whole().await;
                    return Ok(());
                }
                // The registry has lost the state of the upload.
                _ => self.give_up().await,
            },
            Course::Ask | Course::Shorter => {
                let misfit = fault.status == Some(StatusCode::RANGE_NOT_SATISFIABLE);
                self.misfit = misfit.then_some(span.start);
                self.session.iter_mut().for_each(|session| session.offset = None);
            }
        }
        if course == Course::Shorter {
            return Ok(());
        }
        self.doubtful = matches!(sent, Sent::Whole | Sent::End);
        Err(Fault { transient: true, ..fault })
    }

    /// Whether the host has answered 500 twice at this offset.
    fn fails_again(&mut self, fault: &Fault, span: Span) -> bool {
        let failed = (fault.status == Some(StatusCode::INTERNAL_SERVER_ERROR)).then_some(span.start);
        std::mem::replace(&mut self.failed_at, failed) == failed && failed.is_some()
    }

    /// Starts again without chunks: this host does not support them.
    async fn send_whole(&mut self) {
        self.origin.endpoint.strategy.take_whole();
        self.give_up().await;
        self.forget();
    }

    /// Removes the note for a later run.
    fn forget(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.remove();
        }
    }

    async fn give_up(&mut self) {
        if let Some(session) = self.session.take() {
            session.cancel(self.origin).await;
        }
    }

    /// Whether the registry has the blob although its answer was lost.
    async fn has_arrived(&mut self) -> Result<bool, Cause> {
        let arrived = std::mem::take(&mut self.doubtful) && self.origin.holds(self.descriptor).await?;
        if arrived {
            self.forget();
        }
        Ok(arrived)
    }

    /// Cancels an upload of wrong bytes. The error is the same fault, unless bytes of an earlier run may be the cause.
    async fn recover(&mut self, fault: Fault) -> Result<(), Fault> {
        if !fault.cause.is_mismatch() {
            return Err(fault);
        }
        // An upload with wrong bytes cannot be resumed.
        if self.resumed || self.session.as_ref().is_some_and(|session| session.offset != Some(0)) {
            self.give_up().await;
        }
        if std::mem::take(&mut self.resumed) {
            // The wrong bytes may be from an earlier run.
            self.blob.start_again();
            return Ok(());
        }
        self.forget();
        Err(fault)
    }
}
