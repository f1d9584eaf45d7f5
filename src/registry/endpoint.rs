//! One registry host: its address, its protocol, and its limits of simultaneous requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{Method, StatusCode};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::fault::Fault;
use super::upload::Strategy;
use crate::content::Cause;
use crate::http::{HttpClient, HttpHost, HttpRequest, HttpResponse, Retries, RetryPolicy, is_loopback};

/// Headers of hosts that accept tags with a manifest: the first is the answer to such a request, the second is that of
/// ociforge's server.
const TAKES_TAGS: [&str; 2] = ["oci-tag", "ociforge-manifest-tags"];

/// A registry's host.
pub(super) struct Endpoint {
    /// The name for the user, such as `docker.io`.
    pub registry: String,
    /// Host and port of requests, such as `registry-1.docker.io`.
    pub address: String,
    /// Whether bad certificates and plain HTTP are accepted.
    pub insecure: bool,
    pub http: Arc<HttpClient>,
    pub strategy: Strategy,
    base: OnceCell<Url>,
    takes_tags: AtomicBool,
    limits: [Arc<Semaphore>; 3],
    /// Whether the host has answered, and when its rate limit permits the next request.
    host: HttpHost,
    retry: RetryPolicy,
    /// Held during an update of a referrers tag.
    pub entering: tokio::sync::Mutex<()>,
}

/// The kinds of requests that wait only for requests of the same kind: an upload that reads from a download of the same
/// host must not wait for downloads that wait for uploads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    Brief,
    Download,
    Upload,
    /// Requests of a transfer that has waited, once for all of them.
    Held,
}

impl Endpoint {
    /// `connections` is the maximum number of simultaneous requests of one kind, and `chunk` the initial size of upload
    /// chunks in bytes.
    pub(super) fn new(
        registry: &str,
        insecure: bool,
        connections: usize,
        http: Arc<HttpClient>,
        retry: RetryPolicy,
        chunk: u64,
    ) -> Self {
        let address = match registry {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        Self {
            registry: registry.to_owned(),
            address: address.to_owned(),
            insecure,
            http,
            strategy: Strategy::new(chunk),
            base: OnceCell::new(),
            takes_tags: AtomicBool::new(false),
            limits: std::array::from_fn(|_| Arc::new(Semaphore::new(connections.max(1)))),
            host: HttpHost::default(),
            retry,
            entering: tokio::sync::Mutex::default(),
        }
    }

    /// The address of the registry's API, `/v2/`, with the scheme that the host supports.
    pub(super) async fn base(&self) -> Result<&Url, Cause> {
        self.base.get_or_try_init(|| self.find_base()).await
    }

    /// Waits until the host may get one more request of this kind.
    pub(super) async fn permit(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.limits.get(lane as usize)?).acquire_owned().await.ok()
    }

    /// The tries that one piece of work has here.
    pub(super) fn retries(&self) -> Retries {
        self.host.retries(&self.retry)
    }

    /// One exchange with this host, after its rate limit permits it.
    pub(super) async fn call(&self, mut request: HttpRequest<'_>) -> Result<HttpResponse, Fault> {
        request.insecure = self.insecure;
        let answer = self.host.send(&self.http, request).await?;
        let says_so = TAKES_TAGS.iter().any(|name| answer.headers().contains_key(*name));
        self.takes_tags.fetch_or(says_so, Ordering::Relaxed);
        Ok(answer)
    }

    /// Whether the host is known to accept tags with a manifest that is pushed by digest.
    pub(super) fn takes_tags(&self) -> bool {
        self.takes_tags.load(Ordering::Relaxed)
    }

    async fn find_base(&self) -> Result<Url, Cause> {
        let at = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{}/v2/", self.address));
            url.map_err(|error| Cause::Other {
                message: format!("`{}` is not a valid host: {error}", self.registry),
                hint: Some("check the image's name, and registries.conf".into()),
            })
        };
        let (https, http) = (at("https")?, at("http")?);
        let loopback = is_loopback(https.host_str().unwrap_or_default());
        let (first, second) = match (loopback, self.insecure) {
            (true, _) => (http, https),
            (false, true) => (https, http),
            (false, false) => return Ok(https),
        };
        let found = self.retries().run(|| self.choose(&first, &second)).await;
        found.cloned().map_err(|fault| fault.cause)
    }

    /// Of two addresses the one at which the host answers, rather the first.
    async fn choose<'a>(&self, first: &'a Url, second: &'a Url) -> Result<&'a Url, Fault> {
        let fault = match self.speaks(first).await {
            Ok(true) => return Ok(first),
            Ok(false) => None,
            Err(fault) => Some(fault),
        };
        match (self.speaks(second).await, fault) {
            // The fault is local: the certificates for the host are invalid.
            (_, Some(fault)) | (Err(fault), _) if !matches!(fault.cause, Cause::Network { .. }) => Err(fault),
            (Ok(true), _) => Ok(second),
            (_, None) => Ok(first),
            (Ok(false) | Err(_), Some(fault)) => Err(fault),
        }
    }

    /// Whether the host at `url` supports this scheme. A TLS server closes the connection of a plain request, or
    /// answers 400; a host with an invalid certificate, or that requires a client certificate, supports TLS.
    async fn speaks(&self, url: &Url) -> Result<bool, Fault> {
        match self.call(HttpRequest::new(Method::HEAD, url.clone())).await {
            Ok(answer) => Ok(url.scheme() == "https" || answer.status() != StatusCode::BAD_REQUEST),
            Err(fault) if fault.speaks_tls => Ok(true),
            Err(fault) => Err(fault),
        }
    }
}
