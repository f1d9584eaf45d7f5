//! One exchange over HTTP: connections, redirects, timeouts, counters. Ensures that credentials reach only the host
//! that they are for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, LOCATION};
use url::Url;

use super::address::{host_of, is_loopback, origin_of, same_origin};
use super::certificates;
use super::error::HttpError;
use super::identity::requests_certificate;
use super::request::{Authorization, HttpRequest, Payload};
use super::response::HttpResponse;
use super::stats::Stats;
use super::transport::{TransportError, reason};

/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 10;
/// Maximum silence of a host that has never answered.
const FIRST_SILENCE: Duration = Duration::from_secs(20);

/// Installs the TLS provider of the process. Must be called before a client is created; repeated calls have no effect.
pub fn install_tls() {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Timeouts of an exchange.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For a connection to be established.
    pub connect: Duration,
    /// For the next bytes, in either direction, or for the head of the response.
    pub idle: Duration,
    /// For the response to a completed upload: some registries first copy and hash the blob.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(15), idle: seconds(60), commit: seconds(900) }
    }
}

/// An HTTP client. It uses the proxies of the environment, except for loopback addresses.
pub(crate) struct HttpClient {
    /// One client for each kind that was used.
    clients: Mutex<HashMap<ClientKind, reqwest::Client>>,
    tls_verify: bool,
    certs_d: Vec<PathBuf>,
    timeouts: Timeouts,
    pub stats: Arc<Stats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ClientKind {
    verify: bool,
    proxy: bool,
    /// The directory of the certificates for one host.
    certificates: Option<PathBuf>,
}

impl HttpClient {
    /// A client with or without verification of certificates, and with directories in the form of
    /// containers-certs.d(5).
    pub(crate) fn new(tls_verify: bool, certs_d: Vec<PathBuf>, timeouts: Timeouts) -> Self {
        install_tls();
        Self { clients: Mutex::default(), tls_verify, certs_d, timeouts, stats: Arc::default() }
    }

    /// Fails if the client cannot make any connection.
    pub(crate) fn check(&self) -> Result<(), HttpError> {
        self.client(ClientKind { verify: self.tls_verify, proxy: true, certificates: None }).map(drop)
    }

    /// Sends the request and follows its redirects. An HTTP error status is a response, not an error.
    pub(crate) async fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, HttpError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(request, &url).await?;
            let Some(next) = redirect(&request.method, &response) else {
                let (idle, stats) = (self.timeouts.idle, Arc::clone(&self.stats));
                return Ok(HttpResponse { response, idle, stats, permit: None });
            };
            let next = next.map_err(|bad| HttpError::BadAnswer(format!("{} redirects to {bad}", host_of(&url))))?;
            // Such a body is a credential of this server, like an `Authorization` header.
            let secret = request.for_token && !matches!(request.payload, Payload::Empty);
            if secret && !same_origin(&next, &request.url) {
                let (from, to) = (host_of(&url), origin_of(&next));
                return Err(HttpError::BadAnswer(format!("{from} asks to send the credentials to another host, {to}")));
            }
            url = next;
        }
        Err(HttpError::BadAnswer(format!("{} redirects in a loop", host_of(&request.url))))
    }

    /// Sends the request to `url`, which may be the target of a redirect.
    async fn exchange(&self, request: &HttpRequest<'_>, url: &Url) -> Result<reqwest::Response, HttpError> {
        let at_home = same_origin(url, &request.url);
        let mut builder = self.client(self.kind(request, url))?.request(request.method.clone(), url.clone());
        builder = builder.headers(request.headers.clone());
        if at_home {
            builder = match request.authorization {
                Authorization::Anonymous => builder,
                Authorization::Basic(user, password) => builder.basic_auth(user, Some(password)),
                Authorization::Bearer(token) => builder.bearer_auth(token),
            };
        }
        self.stats.request(&request.method, request.for_token);
        let mut timeouts = self.timeouts.clone();
        let first = at_home && !request.known;
        if first {
            timeouts.idle = timeouts.idle.min(FIRST_SILENCE);
        }
        let answer = match request.payload {
            Payload::Empty => {
                if request.method == Method::POST || request.method == Method::PUT {
                    builder = builder.header(CONTENT_LENGTH, 0);
                }
                tokio::time::timeout(timeouts.idle, builder.send()).await.ok()
            }
            Payload::Bytes(bytes) => {
                self.stats.sent(bytes.len() as u64);
                tokio::time::timeout(timeouts.idle, builder.body(bytes.clone()).send()).await.ok()
            }
            Payload::Stream(body) => body.send(builder, &timeouts, &self.stats).await?,
        };
        match answer {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) if !error.is_timeout() => {
                let error = TransportError::of(host_of(url), &error, request.known);
                // A host that requires a client certificate may send an alert or only close the connection.
                let hung_up = error.transient && url.scheme() == "https" && !(at_home && request.known);
                let identity = hung_up && requests_certificate(url).await;
                Err(if identity { error.for_identity() } else { error }.into())
            }
            // A host that never answers is down or behind a firewall, which is not transient.
            _ => Err(TransportError { transient: !first, ..TransportError::silence(host_of(url)) }.into()),
        }
    }

    /// The kind of client for this request at `url`.
    fn kind(&self, request: &HttpRequest<'_>, url: &Url) -> ClientKind {
        let proxy = !is_loopback(url.host_str().unwrap_or_default());
        // Without TLS, the certificates are not necessary.
        let no_tls = url.scheme() == "http" && !proxy;
        let verify = self.tls_verify && !no_tls && !(request.insecure && same_origin(url, &request.url));
        ClientKind { verify, proxy, certificates: certificates::directory(&self.certs_d, url) }
    }

    fn client(&self, kind: ClientKind) -> Result<reqwest::Client, HttpError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kind) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ociforge/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeouts.connect)
            // One connection for each transfer, so that a stalled or broken one delays no other.
            .http1_only()
            .tls_danger_accept_invalid_certs(!kind.verify);
        if !kind.proxy {
            builder = builder.no_proxy();
        }
        if let Some(directory) = &kind.certificates {
            builder = certificates::read(directory)?.add_to(builder);
        }
        let client = builder.build().map_err(|error| HttpError::Tls { reason: reason(&error) })?;
        clients.insert(kind, client.clone());
        Ok(client)
    }
}

/// The target of a redirect to follow: any redirect of requests that only read, and for other methods those that keep
/// method and body (RFC 9110, section 15.4). The error is the address that cannot be followed.
fn redirect(method: &Method, response: &reqwest::Response) -> Option<Result<Url, String>> {
    let follow = match response.status().as_u16() {
        307 | 308 => true,
        301..=303 => *method == Method::GET || *method == Method::HEAD,
        _ => false,
    };
    let location = response.headers().get(LOCATION).filter(|_| follow)?;
    let text = String::from_utf8_lossy(location.as_bytes());
    let next = response.url().join(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    Some(match next {
        Some(next) if sends(method) && response.url().scheme() == "https" && next.scheme() == "http" => {
            Err(format!("plain HTTP, at {}", host_of(&next)))
        }
        Some(next) => Ok(next),
        None => Err("an invalid address".into()),
    })
}

/// Whether requests of this method send a body, which must not go over plain HTTP after a redirect from HTTPS.
fn sends(method: &Method) -> bool {
    *method == Method::PUT || *method == Method::PATCH
}
