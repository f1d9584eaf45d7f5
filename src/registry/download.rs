//! A download that goes on where it broke off.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::{HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use url::Url;

use super::challenge::Scopes;
use super::endpoint::Lane;
use super::fault::{Fault, Subject};
use super::http::Answer;
use super::origin::{Origin, Request};
use super::retry::Retries;
use crate::content::{ByteStream, Cause};

/// What is downloaded, and how far it is.
pub(super) struct Download {
    origin: Origin,
    url: Url,
    headers: HeaderMap,
    subject: Subject,
    size: u64,
    position: u64,
    /// Where the download stood when it last broke off.
    broke_at: u64,
    retries: Retries,
    answer: Option<Answer>,
    /// Bytes at the beginning of the answer that are had already.
    skip: u64,
}

impl Download {
    /// `size` bytes at `url`, from `position` on. No byte is asked for yet.
    pub(super) fn new(
        origin: &Origin,
        url: Url,
        headers: HeaderMap,
        subject: Subject,
        size: u64,
        position: u64,
    ) -> Self {
        let retries = origin.retries();
        let origin = origin.clone();
        Self { origin, url, headers, subject, size, position, broke_at: position, retries, answer: None, skip: 0 }
    }

    /// The bytes, once the first answer is there. Errors within are [`Cause`]s.
    pub(super) async fn start(mut self) -> Result<ByteStream, Cause> {
        if self.position < self.size {
            self.connect().await?;
        }
        let next = |mut download: Self| async move {
            match download.next().await {
                Ok(bytes) => Some((Ok(bytes?), download)),
                Err(cause) => {
                    download.size = 0;
                    Some((Err(io::Error::other(cause)), download))
                }
            }
        };
        Ok(stream::unfold(self, next).boxed())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Cause> {
        while self.position < self.size {
            let fault = match self.answer.as_mut() {
                None => {
                    self.connect().await?;
                    continue;
                }
                Some(answer) => match answer.chunk().await {
                    Ok(Some(mut bytes)) => {
                        let known = self.skip.min(bytes.len() as u64);
                        self.skip -= known;
                        // `known` is at most the chunk's length.
                        let new = bytes.split_off(known as usize);
                        self.position += new.len() as u64;
                        if new.is_empty() {
                            continue;
                        }
                        return Ok(Some(new));
                    }
                    Ok(None) => Fault::broken(&self.origin.endpoint.registry, self.where_it_broke()),
                    Err(fault) => fault,
                },
            };
            self.answer = None;
            if self.position > self.broke_at {
                self.retries.got_on();
                self.broke_at = self.position;
            }
            self.retries.pause(fault).await?;
        }
        // More bytes than there should be are passed on: the reader that verifies refuses them.
        match self.answer.take() {
            Some(mut answer) if self.position == self.size => Ok(answer.chunk().await.unwrap_or(None)),
            _ => Ok(None),
        }
    }

    fn where_it_broke(&self) -> String {
        format!("the connection ended after {} of {} bytes", self.position, self.size)
    }

    async fn connect(&mut self) -> Result<(), Cause> {
        loop {
            match self.open().await {
                Ok(answer) => {
                    self.answer = Some(answer);
                    return Ok(());
                }
                Err(fault) => self.retries.pause(fault).await?,
            }
        }
    }

    async fn open(&mut self) -> Result<Answer, Fault> {
        let scopes = Scopes::pull(&self.origin.repository);
        let mut request = Request::new(Method::GET, self.url.clone(), &scopes);
        request.headers = self.headers.clone();
        request.lane = Lane::Download;
        if self.position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position));
            request.headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let answer = self.origin.succeed(&request, self.subject).await?;
        self.skip = if answer.status() == StatusCode::PARTIAL_CONTENT {
            let range = answer.header("content-range").unwrap_or_default();
            if !range_fits(range, self.position, self.size) {
                let message =
                    format!("the registry sent the range `{range}` where that from {} was asked for", self.position);
                return Err(Fault::wrong(message));
            }
            0
        } else {
            self.position
        };
        let expected = self.size - self.position + self.skip;
        match answer.length() {
            Some(length) if length != expected => {
                let actual = length + self.size - expected;
                Err(Cause::WrongSize { expected: self.size, actual }.into())
            }
            _ => Ok(answer),
        }
    }
}

/// Whether a `Content-Range` (RFC 9110, section 14.4) is the one from `start` to the end of `size` bytes.
fn range_fits(range: &str, start: u64, size: u64) -> bool {
    let parts = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/'));
    let Some(((first, last), total)) = parts.and_then(|(span, total)| Some((span.split_once('-')?, total))) else {
        return false;
    };
    first.parse() == Ok(start) && last.parse() == Ok(size - 1) && (total == "*" || total.parse() == Ok(size))
}

#[cfg(test)]
mod tests {
    use super::range_fits;

    #[test]
    fn only_the_range_that_was_asked_for_fits() {
        assert!(range_fits("bytes 5-9/10", 5, 10));
        assert!(range_fits("bytes 5-9/*", 5, 10));
        for bad in
            ["", "bytes 0-9/10", "bytes 5-8/10", "bytes 5-9/11", "bytes 5-9", "bytes */10", "5-9/10", "bytes 5-10/11"]
        {
            assert!(!range_fits(bad, 5, 10), "{bad}");
        }
    }
}
