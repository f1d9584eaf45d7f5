//! One exchange over HTTP: connections, redirects, timeouts, counting. What is sent where is decided above; here it is
//! seen to that credentials reach no other host than the one they are for.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use tempfile::SpooledTempFile;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::body::Payload;
use super::certificates;
use super::fault::{Fault, Subject};
use super::identity::wants_identity;
use super::settings::Patience;
use super::stats::Stats;
use crate::content::{Cause, may_read};
use crate::store::spool::spooled;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;
/// How long a host that has never answered may be silent.
const FIRST_SILENCE: Duration = Duration::from_secs(20);
/// How much of the body of a refusal is read, in bytes.
const MAX_REFUSAL: u64 = 64 << 10;

/// How many bytes of a document must come in a second, once as long has passed as a host may be silent.
const SLOWEST: u64 = 16 << 10;
/// How long is waited for what a refusal says.
const REFUSAL_TIME: Duration = Duration::from_secs(10);

/// Lets TLS work, for every HTTP client of the process. To be called before one is made; more than once is fine.
pub fn install_tls() {
    // It fails when a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The HTTP clients that the settings ask for.
pub(super) struct Http {
    clients: Mutex<HashMap<Kind, reqwest::Client>>,
    tls_verify: bool,
    certs_d: Vec<PathBuf>,
    pub patience: Patience,
    pub stats: Arc<Stats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    verify: bool,
    proxy: bool,
    /// The directory of the certificates for one host.
    certificates: Option<PathBuf>,
}

/// A request.
pub(super) struct Call<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub payload: Payload<'a>,
    /// For the host in `url` and no other.
    pub auth: &'a RegistryAuth,
    /// Whether the host in `url` may have a bad certificate.
    pub insecure: bool,
    /// Whether the host is known to be there: a connection that it refuses, or silence, then counts as a passing trouble.
    pub known: bool,
    /// Counts as a request for a token.
    pub for_token: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::Empty,
            auth: &RegistryAuth::Anonymous,
            insecure: false,
            known: false,
            for_token: false,
        }
    }

    pub(super) fn set(&mut self, name: &'static str, value: &'static str) {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

impl Http {
    pub(super) fn new(tls_verify: bool, certs_d: Vec<PathBuf>, patience: Patience) -> Self {
        install_tls();
        Self { clients: Mutex::default(), tls_verify, certs_d, patience, stats: Arc::default() }
    }

    /// Makes the request and follows its redirects. Any answer is one, also a refusal.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(call, &url).await?;
            match redirect(&call.method, &response) {
                Some(next) => {
                    let next = next.map_err(|bad| Fault::wrong(format!("{} redirects to {bad}", host_of(&url))))?;
                    // Such a body is a credential, and for the one server as much as those in a header are.
                    if call.for_token && !matches!(call.payload, Payload::Empty) && !same_origin(&next, &call.url) {
                        let (from, to) = (host_of(&url), origin_of(&next));
                        return Err(Fault::wrong(format!("{from} wants the credentials sent elsewhere, to {to}")));
                    }
                    url = next;
                }
                None => {
                    return Ok(Answer {
                        response,
                        patience: self.patience.clone(),
                        stats: self.stats.clone(),
                        permit: None,
                    });
                }
            }
        }
        Err(Fault::wrong(format!("{} redirects in circles", host_of(&call.url))))
    }

    async fn exchange(&self, call: &Call<'_>, url: &Url) -> Result<reqwest::Response, Fault> {
        let at_home = same_origin(url, &call.url);
        let registry = host_of(url);
        let proxy = !is_loopback(url.host_str().unwrap_or_default());
        // Where there is no TLS, a machine without certificates is as good as any.
        let no_tls = url.scheme() == "http" && !proxy;
        let verify = self.tls_verify && !no_tls && !(call.insecure && at_home);
        let certificates = certificates::directory(&self.certs_d, url);
        let client = self.client(Kind { verify, proxy, certificates })?;
        let mut request = client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
        if at_home {
            request = match call.auth {
                RegistryAuth::Anonymous => request,
                RegistryAuth::Basic(user, password) => request.basic_auth(user, Some(password)),
                RegistryAuth::Bearer(token) => request.bearer_auth(token),
            };
        }
        self.stats.request(&call.method, call.for_token);
        let Patience { mut idle, commit, .. } = self.patience;
        let first = at_home && !call.known;
        if first {
            idle = idle.min(FIRST_SILENCE);
        }
        let answer = match call.payload {
            Payload::Empty => {
                if call.method == Method::POST || call.method == Method::PUT {
                    request = request.header(CONTENT_LENGTH, 0);
                }
                tokio::time::timeout(idle, request.send()).await.ok()
            }
            Payload::Bytes(bytes) => {
                self.stats.sent(bytes.len() as u64);
                tokio::time::timeout(idle, request.body(bytes.clone()).send()).await.ok()
            }
            Payload::Blob(blob, span) => {
                let (body, mut watch) = blob.open(span, &self.stats).await?;
                let request = request.header(CONTENT_LENGTH, span.length).body(body);
                let answer = blob.answer(request.send(), &mut watch, idle, commit).await;
                match watch.broken() {
                    Some(cause) if !matches!(answer, Some(Ok(_))) => return Err(cause.into()),
                    _ => answer,
                }
            }
        };
        match answer {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) if !error.is_timeout() => {
                let fault = Fault::transport(&registry, &error, call.known);
                // A host may say that it misses the client's certificate, or just hang up.
                let hung_up = fault.transient && url.scheme() == "https" && !(at_home && call.known);
                if hung_up && wants_identity(url).await { Err(fault.for_identity(&registry)) } else { Err(fault) }
            }
            // Who never answers is no server, or one behind a wall: that does not pass.
            _ => Err(Fault { transient: !first, ..Fault::broken(&registry, "it has been silent for too long") }),
        }
    }

    fn client(&self, kind: Kind) -> Result<reqwest::Client, Cause> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kind) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ociforge/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.patience.connect)
            // A connection for each transfer: one that stalls or breaks holds no other up.
            .http1_only()
            .tls_danger_accept_invalid_certs(!kind.verify);
        if !kind.proxy {
            builder = builder.no_proxy();
        }
        if let Some(directory) = &kind.certificates {
            builder = certificates::read(directory)?.add_to(builder);
        }
        let client = builder.build().map_err(|error| Cause::Other {
            message: format!("TLS can't be set up: {}", super::fault::reason(&error)),
            hint: Some("install the system's certificates (package ca-certificates), or use --tls-verify=false".into()),
        })?;
        clients.insert(kind, client.clone());
        Ok(client)
    }
}

/// Where a redirect leads that is to be followed: any for requests that only read, and for others those that keep
/// method and body (RFC 9110, section 15.4). The error is the address that can't be followed.
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
        None => Err("an address that is none".into()),
    })
}

/// Whether a request of this method has a body that not everybody should read.
fn sends(method: &Method) -> bool {
    *method == Method::PUT || *method == Method::PATCH
}

/// An answer, its body still to come.
pub(super) struct Answer {
    response: reqwest::Response,
    patience: Patience,
    stats: Arc<Stats>,
    /// Held until the body is read or dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Where the answer came from at last.
    pub(super) fn url(&self) -> &Url {
        self.response.url()
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The length that the answer says it has, also where it has no body, as to `HEAD`.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The next bytes of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        let registry = host_of(self.response.url());
        match tokio::time::timeout(self.patience.idle, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                self.stats.received(bytes.len() as u64);
                Ok(Some(bytes))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(Fault::transport(&registry, &error, true)),
            Err(_) => Err(Fault::broken(&registry, "it has been silent for too long")),
        }
    }

    /// The whole body, of at most `limit` bytes.
    pub(super) async fn read(&mut self, limit: u64) -> Result<Vec<u8>, Fault> {
        let length = self.length().unwrap_or_default().min(limit);
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        self.receive(limit, limit, &mut body).await?;
        Ok(body)
    }

    /// The same, but a body that is longer than `in_memory` goes to a temporary file. It is read from its beginning.
    pub(super) async fn spool(&mut self, limit: u64, in_memory: u64) -> Result<SpooledTempFile, Fault> {
        let mut body = spooled(usize::try_from(in_memory).unwrap_or(usize::MAX));
        self.receive(limit, in_memory, &mut body).await?;
        body.rewind().map_err(Cause::Io)?;
        Ok(body)
    }

    /// Receives the whole body, of which so much may be in memory. It must not come drop by drop.
    async fn receive(&mut self, limit: u64, in_memory: u64, body: &mut (dyn Write + Send)) -> Result<(), Fault> {
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        let (mut length, mut permit) = (0, None);
        while let Some(bytes) = self.chunk().await? {
            length += bytes.len() as u64;
            if length > limit {
                return Err(Cause::TooLarge { size: self.length().unwrap_or(0).max(length), limit }.into());
            }
            let asked = Instant::now();
            may_read(length.min(in_memory), &mut permit).await;
            waited += asked.elapsed();
            body.write_all(&bytes).map_err(Cause::Io)?;
            let time = begun.elapsed().saturating_sub(waited);
            if time > self.patience.idle + Duration::from_secs(length / SLOWEST) {
                let reason = format!("its answer comes too slowly, {length} bytes in {} seconds", time.as_secs());
                // Who has this much time has no trouble that would pass.
                return Err(Fault { transient: false, ..Fault::broken(&host_of(self.url()), reason) });
            }
        }
        Ok(())
    }

    /// The answer as a refusal by `registry`.
    pub(super) async fn refusal(mut self, registry: &str, subject: Subject) -> Fault {
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(bytes)) = self.chunk().await {
                body.extend_from_slice(&bytes);
                if body.len() as u64 > MAX_REFUSAL {
                    break;
                }
            }
        };
        // What it has said by then has to do.
        let _ = tokio::time::timeout(REFUSAL_TIME, read).await;
        let after = super::retry::retry_after(self.headers(), std::time::SystemTime::now());
        Fault { after, ..Fault::refusal(registry, subject, self.status(), &body) }
    }
}

/// Host and, where it is not the scheme's own, port.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Scheme and host: those in which two addresses differ that are not the same origin.
fn origin_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), host_of(url))
}

/// Whether both are the same scheme, host and port, so that what is meant for the one may go to the other.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// Whether a host (without port) is this machine: `localhost`, 127.0.0.0/8, `::1`.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let home = "https://r.example/v2/".parse().unwrap();
        for (url, expected) in [
            ("https://r.example:443/x?y", true),
            ("http://r.example/v2/", false),
            ("https://r.example:8443/v2/", false),
            ("https://cdn.r.example/v2/", false),
        ] {
            assert_eq!(same_origin(&home, &url.parse().unwrap()), expected, "{url}");
        }
    }
}
