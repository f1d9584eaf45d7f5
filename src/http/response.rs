//! A response, its body still to come.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::address::host_of;
use super::error::HttpError;
use super::retry::{RetryAdvice, retry_after};
use super::stats::Stats;
use super::transport::TransportError;
use crate::content::may_read;

/// How many bytes of a document must come in a second, once as long has passed as a host may be silent.
const SLOWEST: u64 = 16 << 10;

/// A response, its body still to come.
pub(crate) struct HttpResponse {
    pub(super) response: reqwest::Response,
    /// How long the host may be silent.
    pub(super) idle: Duration,
    pub(super) stats: Arc<Stats>,
    /// Held until the body is read or dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl HttpResponse {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Where it came from, after all redirects.
    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The length that it says it has, also where it has no body, as to `HEAD`.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// How long it asks to wait before the next request.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.headers(), SystemTime::now())
    }

    /// Whether a refusal of this kind may be none in a while, and when.
    pub(crate) fn retry_advice(&self) -> Option<RetryAdvice> {
        RetryAdvice::of(self.status(), self.retry_after())
    }

    /// The next bytes of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                self.stats.received(bytes.len() as u64);
                Ok(Some(bytes))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(TransportError::of(host_of(self.url()), &error, true).into()),
            Err(_) => Err(TransportError::silence(host_of(self.url())).into()),
        }
    }

    /// The whole body, of at most `limit` bytes.
    pub(crate) async fn read(&mut self, limit: u64) -> Result<Vec<u8>, HttpError> {
        let length = self.length().unwrap_or_default().min(limit);
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        self.receive(limit, limit, &mut body).await?;
        Ok(body)
    }

    /// Writes the whole body, of at most `limit` bytes, of which the writer keeps so many in memory. It must not come
    /// drop by drop.
    pub(crate) async fn receive(
        &mut self,
        limit: u64,
        in_memory: u64,
        body: &mut (dyn Write + Send),
    ) -> Result<(), HttpError> {
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        let (mut length, mut permit) = (0, None);
        while let Some(bytes) = self.chunk().await? {
            length += bytes.len() as u64;
            if length > limit {
                return Err(HttpError::TooLarge { size: self.length().unwrap_or(0).max(length), limit });
            }
            let asked = Instant::now();
            may_read(length.min(in_memory), &mut permit).await;
            waited += asked.elapsed();
            body.write_all(&bytes)?;
            let time = begun.elapsed().saturating_sub(waited);
            if time > self.idle + Duration::from_secs(length / SLOWEST) {
                let reason = format!("the answer is too slow: {length} bytes in {} seconds", time.as_secs());
                // Who has this much time has no trouble that would pass.
                let slow = TransportError::broken(host_of(self.url()), reason);
                return Err(TransportError { transient: false, ..slow }.into());
            }
        }
        Ok(())
    }

    /// The beginning of the body: a little more than `limit` bytes, or what has come by the end of `time` or before the
    /// connection broke.
    pub(crate) async fn beginning(&mut self, limit: u64, time: Duration) -> Vec<u8> {
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(bytes)) = self.chunk().await {
                body.extend_from_slice(&bytes);
                if body.len() as u64 > limit {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(time, read).await;
        body
    }
}
