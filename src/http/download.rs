//! A download that is resumed where it broke off (RFC 9110, section 14).

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use super::error::HttpError;
use super::response::HttpResponse;
use super::retry::{Retries, RetryableError};

/// Where a download comes from.
#[async_trait]
pub(crate) trait DownloadSource: Send {
    /// Why the download failed.
    type Error: RetryableError + Send;

    /// Requests the resource, with this header `Range` if there is one. The response is a success, or says that there
    /// is no such range; any other is an error.
    async fn request(&mut self, range: Option<HeaderValue>) -> Result<HttpResponse, Self::Error>;

    /// What the error of a download is for this source.
    fn error(&self, error: DownloadError) -> Self::Error;
}

/// What went wrong after the request for a resource was answered.
#[derive(Debug)]
pub(crate) enum DownloadError {
    /// The connection broke.
    Http(HttpError),
    /// The body ended too early.
    CutOff {
        /// How many bytes of the resource had come.
        position: u64,
        /// How many there are.
        size: u64,
    },
    /// The response has another part of the resource, or is of another resource, than the range that was asked for.
    WrongRange {
        status: StatusCode,
        /// The header `Content-Range`.
        range: String,
        /// Where the range begins that was asked for.
        start: u64,
    },
    /// The resource has another length.
    WrongLength {
        /// The length that it should have.
        expected: u64,
        /// The length that it has.
        actual: u64,
    },
}

/// A download that is resumed where it broke off.
pub(crate) struct ResumableDownload<S> {
    transfer: Transfer<S>,
    retries: Retries,
}

/// The state of a download between two attempts.
struct Transfer<S> {
    source: S,
    /// The resource's length in bytes, if it is known.
    size: Option<u64>,
    /// How many bytes there are already.
    position: u64,
    /// Whether it begins again at the first byte where it can't be resumed.
    starts_over: bool,
    response: Option<HttpResponse>,
    /// Bytes at the beginning of the response that are there already.
    skip: u64,
}

impl<S: DownloadSource> ResumableDownload<S> {
    /// A download of a resource of `size` bytes, from `position` on. Nothing is requested yet.
    pub(crate) fn new(source: S, size: Option<u64>, position: u64, retries: Retries) -> Self {
        retries.advance_to(position);
        let transfer = Transfer { source, size, position, starts_over: false, response: None, skip: 0 };
        Self { transfer, retries }
    }

    /// Lets it begin again at the first byte where the server refuses the range that is left, or sends another one.
    pub(crate) fn or_start_over(mut self) -> Self {
        self.transfer.starts_over = true;
        self
    }

    /// Requests the first bytes, unless all are there.
    pub(crate) async fn connect(&mut self) -> Result<(), S::Error> {
        if self.transfer.is_complete() {
            return Ok(());
        }
        let transfer = Mutex::new(&mut self.transfer);
        self.retries.run(|| async { transfer.lock().await.connect().await }).await
    }

    /// The next bytes, and their position in the resource. That is 0 after the download has begun again, and else where
    /// the last ones ended. `None` at the end.
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

    /// Whether the response goes on where the download is, with the same resource. How many bytes at its beginning are
    /// there already: all of them where the server knows no ranges.
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
        // The length is the server's word.
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
        // More bytes than there should be are passed on: the reader that verifies refuses them.
        match self.response.take() {
            Some(mut response) if self.size == Some(self.position) => {
                let more = response.chunk().await.unwrap_or(None);
                Ok(more.map(|bytes| (self.position, bytes)))
            }
            _ => Ok(None),
        }
    }

    /// The bytes of a chunk that are not there already, if any, and their position.
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

/// Whether a `Content-Range` (RFC 9110, section 14.4) is the one from `start` to the end, of a resource of `size` bytes
/// where that is known.
fn range_fits(range: &str, start: u64, size: Option<u64>) -> bool {
    let parts = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/'));
    let Some(((first, last), total)) = parts.and_then(|(span, total)| Some((span.split_once('-')?, total))) else {
        return false;
    };
    let Ok(last) = last.parse::<u64>() else { return false };
    // Without a size the range may go on to wherever it says that the resource ends.
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
