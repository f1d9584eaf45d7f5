//! Resumable downloads (RFC 9110, section 14).

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use super::error::HttpError;
use super::response::HttpResponse;
use super::retry::{Retries, RetryableError};

/// The source of a download.
#[async_trait]
pub(crate) trait DownloadSource: Send {
    /// The error of the source.
    type Error: RetryableError + Send;

    /// Requests the resource, with this `Range` header if there is one. Returns a success or 416 (range not
    /// satisfiable); any other status is an error.
    async fn request(&mut self, range: Option<HeaderValue>) -> Result<HttpResponse, Self::Error>;

    /// Converts the error of a download.
    fn error(&self, error: DownloadError) -> Self::Error;
}

/// A failure after the response to a request.
#[derive(Debug)]
pub(crate) enum DownloadError {
    /// The connection broke.
    Http(HttpError),
    /// The body ended before the resource did.
    CutOff {
        /// How many bytes were received.
        position: u64,
        /// The size of the resource in bytes.
        size: u64,
    },
    /// The response has another range than requested, or is of another resource.
    WrongRange {
        status: StatusCode,
        /// The header `Content-Range`.
        range: String,
        /// The requested start of the range.
        start: u64,
    },
    /// The resource has an unexpected length.
    WrongLength {
        /// The expected length.
        expected: u64,
        /// The actual length.
        actual: u64,
    },
}

/// A download that resumes after the connection breaks.
pub(crate) struct ResumableDownload<S> {
    transfer: Transfer<S>,
    retries: Retries,
}

/// The state of a download between two attempts.
struct Transfer<S> {
    source: S,
    /// The length of the resource in bytes, if known.
    size: Option<u64>,
    /// How many bytes were received.
    position: u64,
    /// Whether the download restarts at the first byte if it cannot be resumed.
    starts_over: bool,
    response: Option<HttpResponse>,
    /// Leading bytes of the response to skip, because they were already received.
    skip: u64,
}

impl<S: DownloadSource> ResumableDownload<S> {
    /// A download of a resource of `size` bytes, from `position`. Sends no request yet.
    pub(crate) fn new(source: S, size: Option<u64>, position: u64, retries: Retries) -> Self {
        retries.advance_to(position);
        let transfer = Transfer { source, size, position, starts_over: false, response: None, skip: 0 };
        Self { transfer, retries }
    }

    /// Lets the download restart at the first byte if the server refuses the remaining range or sends another one.
    pub(crate) fn or_start_over(mut self) -> Self {
        self.transfer.starts_over = true;
        self
    }

    /// Requests the first bytes, unless all were received.
    pub(crate) async fn connect(&mut self) -> Result<(), S::Error> {
        if self.transfer.is_complete() {
            return Ok(());
        }
        let transfer = Mutex::new(&mut self.transfer);
        self.retries.run(|| async { transfer.lock().await.connect().await }).await
    }

    /// The next bytes and their position in the resource. The position is 0 after a restart, and otherwise the end of
    /// the previous bytes. `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Bytes)>, S::Error> {
        let transfer = Mutex::new(&mut self.transfer);
        let next = self.retries.run(|| async { transfer.lock().await.next().await }).await?;
        self.retries.advance_to(self.transfer.position);
        Ok(next)
    }
}

impl<S: DownloadSource> Transfer<S> {
    fn is_complete(&self) -> bool {
        self.size.is_some_and(|size| self.position >= size)
    }

    async fn connect(&mut self) -> Result<(), S::Error> {
        let range = HeaderValue::from_str(&format!("bytes={}-", self.position)).ok();
        let response = self.source.request(range.filter(|_| self.position > 0)).await?;
        self.skip = match self.check(&response) {
            Ok(skip) => skip,
            Err(error) => {
                if self.starts_over && matches!(error, DownloadError::WrongRange { .. }) {
                    self.position = 0;
                }
                return Err(self.source.error(error));
            }
        };
        self.response = Some(response);
        Ok(())
    }

    /// Checks that the response continues the download of the same resource. Returns how many of its leading bytes were
    /// already received: all of them if the server does not support ranges.
    fn check(&self, response: &HttpResponse) -> Result<u64, DownloadError> {
        let status = response.status();
        let skip = match status {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                let range = response.header("content-range").unwrap_or_default();
                if status == StatusCode::RANGE_NOT_SATISFIABLE || !range_fits(range, self.position, self.size) {
                    return Err(DownloadError::WrongRange { status, range: range.to_owned(), start: self.position });
                }
                0
            }
            _ => self.position,
        };
        // The server states this length; it may be wrong.
        let actual = response.length().map(|length| length.saturating_add(self.position - skip));
        match (self.size, actual) {
            (Some(expected), Some(actual)) if actual != expected => {
                Err(DownloadError::WrongLength { expected, actual })
            }
            _ => Ok(skip),
        }
    }

    async fn next(&mut self) -> Result<Option<(u64, Bytes)>, S::Error> {
        while !self.is_complete() {
            let Some(response) = self.response.as_mut() else {
                self.connect().await?;
                continue;
            };
            let error = match (response.chunk().await, self.size) {
                (Ok(Some(bytes)), _) => match self.new_part(bytes) {
                    Some(new) => return Ok(Some(new)),
                    None => continue,
                },
                (Ok(None), None) => return Ok(None),
                (Ok(None), Some(size)) => DownloadError::CutOff { position: self.position, size },
                (Err(error), _) => DownloadError::Http(error),
            };
            self.response = None;
            return Err(self.source.error(error));
        }
        // Surplus bytes are passed on: the verifying reader refuses them.
        match self.response.take() {
            Some(mut response) if self.size == Some(self.position) => {
                let more = response.chunk().await.unwrap_or(None);
                Ok(more.map(|bytes| (self.position, bytes)))
            }
            _ => Ok(None),
        }
    }

    /// The bytes of a chunk that were not yet received, and their position.
    fn new_part(&mut self, mut chunk: Bytes) -> Option<(u64, Bytes)> {
        let known = self.skip.min(chunk.len() as u64);
        self.skip -= known;
        // `known` is at most the chunk's length.
        let new = chunk.split_off(known as usize);
        let position = self.position;
        self.position += new.len() as u64;
        (!new.is_empty()).then_some((position, new))
    }
}

/// Whether a `Content-Range` (RFC 9110, section 14.4) is the range from `start` to the end of a resource of `size`
/// bytes, if the size is known.
fn range_fits(range: &str, start: u64, size: Option<u64>) -> bool {
    let parts = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/'));
    let Some(((first, last), total)) = parts.and_then(|(span, total)| Some((span.split_once('-')?, total))) else {
        return false;
    };
    let Ok(last) = last.parse::<u64>() else { return false };
    // Without a size, the range may extend to the end that the header states.
    let Some(size) = size.or_else(|| last.checked_add(1)) else { return false };
    first.parse() == Ok(start) && last.checked_add(1) == Some(size) && (total == "*" || total.parse() == Ok(size))
}

#[cfg(test)]
mod tests {
    use super::range_fits;

    #[test]
    fn only_the_range_that_was_asked_for_fits() {
        for size in [Some(10), None] {
            assert!(range_fits("bytes 5-9/10", 5, size));
            assert!(range_fits("bytes 5-9/*", 5, size));
            for bad in ["", "bytes 0-9/10", "bytes 5-8/10", "bytes 5-9/11", "bytes 5-9", "bytes */10", "5-9/10"] {
                assert!(!range_fits(bad, 5, size), "{bad}");
            }
        }
        assert!(!range_fits("bytes 5-10/11", 5, Some(10)));
        assert!(range_fits("bytes 5-10/11", 5, None));
        assert!(!range_fits("bytes 5-18446744073709551615/*", 5, None));
    }
}
