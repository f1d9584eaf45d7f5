//! Downloading one wheel over HTTP, whatever the server does on the way.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::task::block_in_place;
use url::Url;

use super::partial::Partial;
use super::{FetchCause, Fetcher};
use crate::lock::LockedWheel;
use crate::progress::Progress;

/// Tries that bring nothing before it counts as failed.
const TRIES: u32 = 5;
/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How a try ended without the whole file.
enum Failure {
    /// Another try may bring more, at the earliest after this time.
    Passing(FetchCause, Option<Duration>),
    /// Another try will bring the same.
    Lasting(FetchCause),
}

impl Fetcher {
    /// Downloads the wheel to `path`, going on from what is there. When it turns out to be another file than the one
    /// that was locked, nothing is left there.
    pub(super) async fn download(
        &self,
        wheel: &LockedWheel,
        url: &Url,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), FetchCause> {
        let mut partial = block_in_place(|| Partial::resume(path))?;
        let mut resumed = partial.size() > 0;
        loop {
            progress.restart(partial.size());
            let arrived = self.arrive(wheel, url, &mut partial, progress).await;
            match arrived.and_then(|()| partial.verify(wheel)) {
                Err(cause) if is_other_file(&cause) => {
                    partial.clear()?;
                    if !resumed {
                        drop(partial);
                        std::fs::remove_file(path)?;
                        return Err(cause);
                    }
                    // The fault may lie in what an earlier run has left.
                    resumed = false;
                }
                done => return done,
            }
        }
    }

    /// Tries until the whole file is there, as far as the server says.
    async fn arrive(
        &self,
        wheel: &LockedWheel,
        url: &Url,
        partial: &mut Partial,
        progress: &dyn Progress,
    ) -> Result<(), FetchCause> {
        let mut in_vain = 0;
        let mut url = self.credentials.complete(url).await;
        while wheel.size.is_none_or(|size| partial.size() < size) || partial.size() == 0 {
            let before = partial.size();
            match self.try_once(wheel, &url, partial, progress).await {
                Ok(()) => return Ok(()),
                Err(Failure::Lasting(cause)) if wants_credentials(&cause) => {
                    url = self.credentials.other(&url).await.ok_or(cause)?;
                }
                Err(Failure::Lasting(cause)) => return Err(cause),
                Err(Failure::Passing(cause, pause)) => {
                    in_vain = if partial.size() > before { 1 } else { in_vain + 1 };
                    if in_vain >= TRIES {
                        return Err(cause);
                    }
                    let usual = self.pause * 2_u32.pow(in_vain - 1);
                    tokio::time::sleep(pause.unwrap_or(usual).min(LONGEST_PAUSE)).await;
                }
            }
        }
        Ok(())
    }

    async fn try_once(
        &self,
        wheel: &LockedWheel,
        url: &Url,
        partial: &mut Partial,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if partial.size() > 0 {
            request = request.header(RANGE, format!("bytes={}-", partial.size()));
        }
        let response = request.send().await.map_err(broken)?;
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE && partial.size() > 0 {
            start_again(partial, progress)?;
            return Err(Failure::Passing(FetchCause::Status { status }, Some(Duration::ZERO)));
        }
        if !status.is_success() {
            return Err(refused(&response));
        }
        if partial.size() > 0 && !continues(&response, partial.size()) {
            start_again(partial, progress)?;
            if status == StatusCode::PARTIAL_CONTENT {
                // Some other part of the file. Without a range the next try gets all of it.
                return Err(Failure::Passing(FetchCause::Status { status }, Some(Duration::ZERO)));
            }
        }
        let mut stream = response.bytes_stream();
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(broken)?;
            block_in_place(|| partial.append(&bytes, wheel.size)).map_err(Failure::Lasting)?;
            progress.advance(bytes.len() as u64);
        }
        match wheel.size {
            // A connection that is closed without a length looks like an end.
            Some(size) if partial.size() < size => {
                let short = FetchCause::WrongSize { expected: size, actual: partial.size() };
                Err(Failure::Passing(short, None))
            }
            _ => Ok(()),
        }
    }
}

fn start_again(partial: &mut Partial, progress: &dyn Progress) -> Result<(), Failure> {
    partial.clear().map_err(|error| Failure::Lasting(error.into()))?;
    progress.restart(0);
    Ok(())
}

/// Whether the answer begins where what is there ends.
fn continues(response: &Response, size: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && start == Some(size)
}

/// Whether others may be let in. Some servers deny that there is anything.
fn wants_credentials(cause: &FetchCause) -> bool {
    use StatusCode as Code;
    matches!(cause, FetchCause::Status { status: Code::UNAUTHORIZED | Code::FORBIDDEN | Code::NOT_FOUND })
}

/// Whether what came is not the file that was locked.
fn is_other_file(cause: &FetchCause) -> bool {
    match cause {
        FetchCause::WrongDigest { .. } => true,
        FetchCause::WrongSize { expected, actual } => actual > expected,
        _ => false,
    }
}

fn refused(response: &Response) -> Failure {
    let status = response.status();
    let cause = FetchCause::Status { status };
    let passing = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    if !passing {
        return Failure::Lasting(cause);
    }
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Failure::Passing(cause, seconds.map(Duration::from_secs))
}

/// A connection that failed. The innermost reason says most, and never the URL.
fn broken(error: reqwest::Error) -> Failure {
    let lasting = error.is_builder() || error.is_redirect();
    let error = error.without_url();
    let mut innermost: &dyn Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let cause = FetchCause::Network { reason: super::super::redacted(&innermost.to_string()) };
    if lasting { Failure::Lasting(cause) } else { Failure::Passing(cause, None) }
}
