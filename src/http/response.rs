//! A response with an unread body.

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

/// Minimum rate of a document in bytes per second, once the idle timeout has passed.
const SLOWEST: u64 = 16 << 10;

/// A response with an unread body.
pub(crate) struct HttpResponse {
    pub(super) response: reqwest::Response,
    /// The idle timeout.
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

    /// The final URL, after all redirects.
    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The stated length, also if there is no body, as for `HEAD`.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// How long the host asks to wait before the next request.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.headers(), SystemTime::now())
    }

    /// When another attempt may succeed, if this refusal is transient.
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

    /// Writes the whole body, of at most `limit` bytes; the writer keeps at most `in_memory` of them in memory. Fails
    /// below the rate [`SLOWEST`].
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
                // Not transient: the host was slow for the whole time.
                let slow = TransportError::broken(host_of(self.url()), reason);
                return Err(TransportError { transient: false, ..slow }.into());
            }
        }
        Ok(())
    }

    /// The beginning of the body: a little more than `limit` bytes, or the bytes that arrived before `time` passed or
    /// the connection broke.
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
