//! Downloads that break off, from servers that do what they should not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::testing::{Reply, Seen, Server, truncated};
use super::*;

/// A resource on a server of the tests.
struct Resource {
    http: HttpClient,
    host: HttpHost,
    address: String,
}

/// Why it could not be had.
#[derive(Debug)]
struct Unavailable {
    transient: bool,
    said: String,
}

impl RetryableError for Unavailable {
    fn retry_advice(&self) -> Option<RetryAdvice> {
        self.transient.then(RetryAdvice::default)
    }

    fn postponed(self, _: Duration) -> Self {
        self
    }
}

#[async_trait]
impl DownloadSource for Resource {
    type Error = Unavailable;

    async fn request(&mut self, range: Option<HeaderValue>) -> Result<HttpResponse, Unavailable> {
        let mut request = HttpRequest::new(Method::GET, format!("http://{}/x", self.address).parse().unwrap());
        request.headers = HeaderMap::from_iter(range.map(|range| (RANGE, range)));
        let sent = self.host.send(&self.http, request).await;
        sent.map_err(|error| self.error(DownloadError::Http(error)))
    }

    fn error(&self, error: DownloadError) -> Unavailable {
        let transient = match &error {
            DownloadError::Http(error) => error.is_transient(),
            DownloadError::CutOff { .. } => true,
            DownloadError::WrongRange { status, .. } => *status == StatusCode::RANGE_NOT_SATISFIABLE,
            DownloadError::WrongLength { .. } => false,
        };
        Unavailable { transient, said: format!("{error:?}") }
    }
}

fn content() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn download(server: &Server, size: Option<u64>, position: u64) -> ResumableDownload<Resource> {
    let http = HttpClient::new(true, Vec::new(), Timeouts::default());
    let policy = RetryPolicy { first_pause: Duration::from_millis(1), ..RetryPolicy::default() };
    let (host, address) = (HttpHost::default(), server.address.clone());
    let retries = host.retries(&policy);
    ResumableDownload::new(Resource { http, host, address }, size, position, retries)
}

/// What arrives, after the bytes that are there.
async fn read(mut download: ResumableDownload<Resource>, mut there: Vec<u8>) -> Result<Vec<u8>, Unavailable> {
    while let Some((position, bytes)) = download.next().await? {
        there.truncate(usize::try_from(position).unwrap());
        there.extend_from_slice(&bytes);
    }
    Ok(there)
}

#[tokio::test]
async fn a_download_is_resumed_with_and_without_a_known_size() {
    for size in [Some(400_000), None] {
        let server = Server::start(|seen| truncated(seen, &content(), 30_000)).await;
        assert_eq!(read(download(&server, size, 0), Vec::new()).await.unwrap(), content());
        // More often than there are tries: each of them got on.
        assert_eq!(server.lines().len(), 14);
        assert_eq!(server.seen()[13].header("range"), "bytes=390000-");
    }
}

#[tokio::test]
async fn what_is_there_is_skipped_where_the_server_knows_no_ranges() {
    let server = Server::start(|_| Reply::new(200).body(content())).await;
    let there = content()[..1000].to_vec();
    assert_eq!(read(download(&server, Some(400_000), 1000), there).await.unwrap(), content());
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_range_of_another_resource_is_refused_or_begun_again() {
    let other = |seen: &Seen| match seen.offset() {
        0 => Reply::new(200).body(content()),
        _ => Reply::new(416).with("content-range", "bytes */500"),
    };
    let server = Server::start(other).await;
    let refused = read(download(&server, Some(400_000), 1000), vec![7; 1000]).await.unwrap_err();
    assert!(refused.said.starts_with("WrongRange { status: 416, range: \"bytes */500\", start: 1000 }"), "{refused:?}");
    let again = download(&server, Some(400_000), 1000).or_start_over();
    assert_eq!(read(again, vec![7; 1000]).await.unwrap(), content());

    let longer = Server::start(|_| Reply::new(206).with("content-range", "bytes 1000-400000/400001")).await;
    let refused = read(download(&longer, Some(400_000), 1000), vec![7; 1000]).await.unwrap_err();
    assert!(refused.said.starts_with("WrongRange { status: 206, range: \"bytes 1000-400000/400001\""), "{refused:?}");
}

#[tokio::test]
async fn a_response_of_another_length_is_refused_at_once() {
    let server = Server::start(|_| Reply::new(200).body("short")).await;
    let refused = read(download(&server, Some(400_000), 0), Vec::new()).await.unwrap_err();
    assert_eq!(refused.said, "WrongLength { expected: 400000, actual: 5 }");
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_server_that_breaks_off_and_then_refuses_ranges_is_left_alone() {
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.offset() {
        0 => truncated(seen, &content(), 1000 - turn.fetch_add(1, Ordering::Relaxed)),
        _ => Reply::new(416),
    })
    .await;
    let ended = read(download(&server, Some(400_000), 0).or_start_over(), Vec::new()).await.unwrap_err();
    assert!(ended.transient);
    assert!(server.lines().len() <= 8, "{:?}", server.lines().len());
}
