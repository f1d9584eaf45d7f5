//! Download of one wheel over HTTP.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::task::block_in_place;
use url::Url;

use super::failure::FetchFailure;
use super::partial::PartialWheel;
use super::{FetchCause, Fetcher};
use crate::http::{DownloadError, DownloadSource, HttpHost, HttpRequest, HttpResponse, ResumableDownload};
use crate::progress::Progress;
use crate::python::LockedWheel;
use crate::python::credentials::authorization;

/// A wheel on a server.
struct RemoteWheel<'a> {
    fetcher: &'a Fetcher,
    host: Arc<HttpHost>,
    /// The URL with the credentials for the server.
    url: Url,
}

impl Fetcher {
    /// Downloads the wheel to `path`, and resumes a partial file there. Removes a file that does not match the lock.
    pub(super) async fn download(
        &self,
        wheel: &LockedWheel,
        url: &Url,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), FetchCause> {
        let mut partial = block_in_place(|| PartialWheel::resume(path))?;
        let resumed = partial.size() > 0;
        let mut arrived = self.arrive(wheel, url, &mut partial, progress).await;
        if resumed && arrived.as_ref().is_err_and(is_other_file) {
            // The partial file of an earlier run may be damaged.
            partial.clear()?;
            arrived = self.arrive(wheel, url, &mut partial, progress).await;
        }
        if arrived.as_ref().is_err_and(is_other_file) {
            drop(partial);
            std::fs::remove_file(path)?;
        }
        arrived
    }

    /// Downloads the rest of the wheel, and verifies it.
    async fn arrive(
        &self,
        wheel: &LockedWheel,
        url: &Url,
        partial: &mut PartialWheel,
        progress: &dyn Progress,
    ) -> Result<(), FetchCause> {
        progress.restart(partial.size());
        let host = self.host(url);
        let retries = host.retries(&self.retry);
        let source = RemoteWheel { fetcher: self, host, url: self.credentials.complete(url).await };
        let mut download = ResumableDownload::new(source, wheel.size, partial.size(), retries).or_start_over();
        while let Some((position, bytes)) = download.next().await.map_err(|failure| failure.cause)? {
            if position < partial.size() {
                partial.clear()?;
                progress.restart(0);
            }
            block_in_place(|| partial.append(&bytes, wheel.size))?;
            progress.advance(bytes.len() as u64);
        }
        partial.verify(wheel)
    }
}

#[async_trait]
impl DownloadSource for RemoteWheel<'_> {
    type Error = FetchFailure;

    async fn request(&mut self, range: Option<HeaderValue>) -> Result<HttpResponse, FetchFailure> {
        loop {
            let (url, authorization) = authorization(&self.url);
            let mut request = HttpRequest::new(Method::GET, url);
            request.authorization = &authorization;
            request.headers = HeaderMap::from_iter(range.clone().map(|range| (RANGE, range)));
            request.set("accept-encoding", "identity");
            let response = self.host.send(&self.fetcher.http, request).await?;
            let status = response.status();
            if status.is_success() || (status == StatusCode::RANGE_NOT_SATISFIABLE && range.is_some()) {
                return Ok(response);
            }
            let other = if wants_credentials(status) { self.fetcher.credentials.other(&self.url).await } else { None };
            self.url = other.ok_or_else(|| FetchFailure::refusal(&response))?;
        }
    }

    fn error(&self, error: DownloadError) -> FetchFailure {
        match error {
            DownloadError::Http(error) => error.into(),
            // A connection that closes without a stated length looks like the end of the file.
            DownloadError::CutOff { position, size } => {
                FetchFailure::transient(FetchCause::WrongSize { expected: size, actual: position })
            }
            // The next attempt requests the whole file, without a range.
            DownloadError::WrongRange { status, .. } => {
                FetchFailure::transient(FetchCause::Status { status, retry_after: None })
            }
            DownloadError::WrongLength { expected, actual } => FetchCause::WrongSize { expected, actual }.into(),
        }
    }
}

/// Whether other credentials may help. Some servers answer 404 to hide that a file exists.
fn wants_credentials(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
}

/// Whether the received file is not the locked one.
fn is_other_file(cause: &FetchCause) -> bool {
    match cause {
        FetchCause::WrongDigest { .. } => true,
        FetchCause::WrongSize { expected, actual } => actual > expected,
        _ => false,
    }
}
