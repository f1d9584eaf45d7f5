//! Downloads out of a repository.

use std::io;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue, RANGE};
use url::Url;

use super::challenge::Scopes;
use super::endpoint::Lane;
use super::fault::{Fault, Subject};
use super::origin::{Origin, Request};
use crate::content::{ByteStream, Cause};
use crate::http::{DownloadError, DownloadSource, HttpResponse, ResumableDownload};

/// `size` bytes at `url`, from `position` on, after the first answer. Inner errors are [`Cause`]s.
pub(super) async fn download(
    origin: &Origin,
    url: Url,
    headers: HeaderMap,
    subject: Subject,
    size: u64,
    position: u64,
) -> Result<ByteStream, Cause> {
    let source = RemoteContent { origin: origin.clone(), url, headers, subject };
    let mut download = ResumableDownload::new(source, Some(size), position, origin.retries());
    download.connect().await.map_err(|fault| fault.cause)?;
    let next = |download: Option<ResumableDownload<RemoteContent>>| async move {
        let mut download = download?;
        match download.next().await {
            Ok(next) => next.map(|(_, bytes)| (Ok(bytes), Some(download))),
            Err(fault) => Some((Err(io::Error::other(fault.cause)), None)),
        }
    };
    Ok(stream::unfold(Some(download), next).boxed())
}

/// A blob or manifest in a repository.
struct RemoteContent {
    origin: Origin,
    url: Url,
    headers: HeaderMap,
    subject: Subject,
}

#[async_trait]
impl DownloadSource for RemoteContent {
    type Error = Fault;

    async fn request(&mut self, range: Option<HeaderValue>) -> Result<HttpResponse, Fault> {
        let scopes = Scopes::pull(&self.origin.repository);
        let mut request = Request::new(Method::GET, self.url.clone(), &scopes);
        request.headers = self.headers.clone();
        request.headers.extend(range.map(|range| (RANGE, range)));
        request.lane = Lane::Download;
        self.origin.succeed(&request, self.subject).await
    }

    fn error(&self, error: DownloadError) -> Fault {
        match error {
            DownloadError::Http(error) => error.into(),
            DownloadError::CutOff { position, size } => {
                let reason = format!("the connection ended after {position} of {size} bytes");
                Fault::broken(&self.origin.endpoint.registry, reason)
            }
            DownloadError::WrongRange { range, start, .. } => {
                let message = format!("the registry sent the range `{range}`; expected the range from {start}");
                Fault::wrong(message)
            }
            DownloadError::WrongLength { expected, actual } => Cause::WrongSize { expected, actual }.into(),
        }
    }
}
