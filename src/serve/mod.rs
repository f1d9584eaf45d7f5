//! An OCI layout as a registry over HTTP (distribution-spec 1.1).
//!
//! **Repositories and tags** are read from the names in the layout's `index.json`
//! (`org.opencontainers.image.ref.name`), and written there:
//!
//! - `a/b:t` is the tag `t` of the repository `a/b`. Pushed images get such names.
//! - `HOST/a/b:t`, the name of a mirrored image, is the tag `t` of `HOST/a/b` and of `a/b`. HOST is a first component
//!   with a dot or a port, or `localhost`. A name without a tag has the tag `latest`, as in docker; a name with a
//!   digest has no tag.
//! - a bare tag `t`, as from a build into a layout or from `umoci`, has no repository. It is the tag `t` of every
//!   repository, so `oci:DIR:t` can be pulled under any name.
//! - an entry without a name is in every repository, by its digest. An entry with ociforge's annotation
//!   `org.ociforge.repository` is in that repository only: a manifest that was pushed by digest, or lost its tag. Such
//!   entries keep the manifest and its referrers.
//!
//! If several entries match a tag, the exact name has precedence, then a name with a host, then the bare tag. Two equal
//! matches, such as those of two hosts, are an error that names both. If the client names a host by `?ns=HOST`, as
//! containerd does with a mirror, the entry of that host has precedence, and entries of other hosts do not match unless
//! the path has that host. Deleting a tag deletes all three forms. The manifests of an index are in the index's
//! repositories.
//!
//! **Blobs** are shared by all repositories: a blob of one repository can be pulled from all, and every mount succeeds.
//! All users may read everything here. A blob can be deleted only if no manifest of the layout needs it.
//!
//! Several servers, and builds, may work on one layout at the same time.
//!
//! **Clients** may be slow, numerous and idle. No thread waits for a client: threads only read, hash and write bytes.
//! Connections are limited ([`connections`]), and bodies need a minimum pace ([`pace`]).

mod answer;
mod blobs;
mod connections;
mod documents;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod htpasswd;
mod listing;
mod manifests;
mod names;
mod pace;
mod route;
mod sending;
mod server;
mod session;
mod sound;
mod tls;
mod uploads;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use ociforge_manifests::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::sleep;

use crate::content::ByteStream;
use crate::store::dir::FileFacts;
use crate::store::{Layout, Locked};
use answer::{ApiError, ApiResult, Code, Message, empty};
use documents::ManifestCache;
use pace::paced;
use route::Route;
use session::Sessions;
use sound::Damaged;

pub use error::ServeError;
pub use htpasswd::{Htpasswd, HtpasswdError, HtpasswdProblem};
pub use server::Server;
pub use tls::{Tls, TlsError};

/// The limits of size and time for reading an unneeded body before the answer. A client that is still sending would get
/// a closed connection instead of the answer.
const DRAIN: (u64, Duration) = (16 << 20, Duration::from_secs(10));
/// The first and the longest pause between two attempts to lock the index.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(64)];

/// The options of the server.
#[derive(Clone, Default)]
pub struct ServeOptions {
    /// Whether requests that change the layout are refused with 405.
    pub read_only: bool,
    /// The users; `None` gives access to all clients.
    pub users: Option<Arc<Htpasswd>>,
    /// The certificate and key for HTTPS; `None` for HTTP.
    pub tls: Option<Tls>,
    /// The observer of requests.
    pub observer: Option<Observer>,
    /// The observer of damaged blobs.
    pub damage_observer: Option<DamageObserver>,
}

/// Called for blobs that are found damaged while they are sent.
pub type DamageObserver = Arc<dyn Fn(&Digest) + Send + Sync>;

/// Called for each request when its answer begins.
pub type Observer = Arc<dyn Fn(&AccessLogEntry) + Send + Sync>;

/// A request with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogEntry {
    /// The method, such as `GET`.
    pub method: String,
    /// Path and query, percent-encoded as received, so without control characters.
    pub path: String,
    /// The user, where there are some and the password was right.
    pub user: Option<String>,
    /// The answer's HTTP status.
    pub status: u16,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the answer's body; more than sent if the client disconnects.
    pub sent: u64,
    /// For an answer that is an error: its message.
    pub error: Option<String>,
}

/// The state that all requests share.
struct Service {
    registry: Arc<Registry>,
    options: ServeOptions,
}

/// The layout with its caches.
struct Registry {
    layout: Layout,
    documents: ManifestCache,
    sessions: Arc<Sessions>,
    read_only: bool,
    damaged: Damaged,
    damage_observer: Option<DamageObserver>,
    /// The queue for the layout's lock: one request waits for the lock, the others for this mutex.
    turn: Arc<AsyncMutex<()>>,
}

/// The layout's lock, and the turn at it.
struct Turn {
    lock: Locked,
    _turn: OwnedMutexGuard<()>,
}

impl Registry {
    fn new(layout: Layout, options: &ServeOptions) -> Arc<Self> {
        Arc::new(Self {
            documents: ManifestCache::new(layout.clone()),
            sessions: Sessions::new(&layout),
            layout,
            read_only: options.read_only,
            damaged: Damaged::default(),
            damage_observer: options.damage_observer.clone(),
            turn: Arc::default(),
        })
    }

    /// The size in bytes of the blob of this digest; `None` if it is missing or damaged.
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        if self.is_damaged(digest) { None } else { self.layout.blob_size(digest) }
    }

    /// The same for a client that relies on the blob from now on.
    fn claim(&self, digest: &Digest) -> Option<u64> {
        if self.read_only || self.is_damaged(digest) { self.blob_size(digest) } else { self.layout.claim_blob(digest) }
    }

    fn is_damaged(&self, digest: &Digest) -> bool {
        self.damaged.has(digest, || self.layout.blob_facts(digest))
    }

    /// Records that the file of this blob is damaged.
    fn note_damage(&self, digest: &Digest, facts: FileFacts) {
        self.damaged.note(digest, facts);
        if let Some(observer) = &self.damage_observer {
            observer(digest);
        }
    }

    /// Locks the index without blocking a thread: garbage collection may take long.
    async fn lock(&self) -> Result<Turn, ApiError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut pause = LOOK_AGAIN[0];
        loop {
            let layout = self.layout.clone();
            if let Some(lock) = blocking(move || layout.try_lock()).await?? {
                return Ok(Turn { lock, _turn: turn });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN[1]);
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions").field("read_only", &self.read_only).finish_non_exhaustive()
    }
}

/// Answers one request, whose body may take so long to go on.
async fn handle(service: &Service, request: Request<Body>, patience: Duration) -> Response {
    let (parts, body) = request.into_parts();
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    let body = body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(piece)
    });
    let body = paced(body.boxed(), patience);
    let (user, answer) = match authorize(service, &parts.headers).await {
        Ok(user) => (user, dispatch(service, &parts, body).await),
        Err(error) => {
            drain(body).await;
            (None, Err(error))
        }
    };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    let version =
        (HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));
    // The maximum number of tags for a manifest that is pushed by digest.
    let tags = (HeaderName::from_static("ociforge-manifest-tags"), HeaderValue::from(manifests::MOST_TAGS));
    response.headers_mut().extend([version, tags]);
    if parts.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    if let Some(observer) = &service.options.observer {
        let length = response.headers().get(header::CONTENT_LENGTH).filter(|_| parts.method != Method::HEAD);
        observer(&AccessLogEntry {
            method: parts.method.to_string(),
            // Only a part: a URI may have a password.
            path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            user,
            status: response.status().as_u16(),
            received: received.load(Ordering::Relaxed),
            sent: length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0),
            error: response.extensions().get::<Message>().map(|message| message.0.clone()),
        });
    }
    response
}

/// The user, if the registry has users.
async fn authorize(service: &Service, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    match &service.options.users {
        Some(users) => users.user(headers).await.map(Some),
        None => Ok(None),
    }
}

async fn dispatch(service: &Service, request: &Parts, body: ByteStream) -> ApiResult {
    let route = match check(service, request) {
        Ok(route) => route,
        Err(error) => {
            drain(body).await;
            return Err(error);
        }
    };
    let registry = Arc::clone(&service.registry);
    let (method, headers) = (request.method.clone(), request.headers.clone());
    let query = Query::parse(request.uri.query().unwrap_or_default());
    match (method.as_str(), route) {
        ("POST", Route::Uploads { name }) => uploads::start(&registry, &name, &query, body).await,
        ("PATCH", Route::Upload { name, id }) => uploads::patch(&registry, &name, id, &headers, body).await,
        ("PUT", Route::Upload { name, id }) => uploads::put(&registry, &name, id, &query, &headers, body).await,
        ("PUT", Route::Manifest { name, reference }) => {
            let content_type = headers.get(header::CONTENT_TYPE).and_then(|text| text.to_str().ok());
            let content_type = content_type.map(str::to_owned);
            let tags = query.all("tag").map(str::to_owned).collect();
            let body = manifests::read(body).await?;
            let sent = manifests::ManifestUpload { reference, tags, content_type, body };
            let turn = registry.lock().await?;
            blocking(move || manifests::put(&registry, &turn.lock, &name, sent)).await?
        }
        ("DELETE", Route::Manifest { name, reference }) => {
            let turn = registry.lock().await?;
            blocking(move || manifests::delete(&registry, &turn.lock, &name, &reference)).await?
        }
        ("DELETE", Route::Blob { digest }) => {
            let turn = registry.lock().await?;
            blocking(move || blobs::delete(&registry, &turn.lock, &digest)).await?
        }
        ("DELETE", Route::Upload { id, .. }) => uploads::cancel(&registry, id).await,
        (_, route) => blocking(move || answer(&registry, &method, route, &query, &headers)).await?,
    }
}

/// The end point, if it has the method and the method is allowed.
fn check(service: &Service, request: &Parts) -> Result<Route, ApiError> {
    let route = Route::parse(request.uri.path())?;
    if !route.methods().split(", ").any(|method| method == request.method.as_str()) {
        let message = format!("this endpoint has no method {}", request.method);
        let allow = vec![(header::ALLOW, route.methods().to_owned())];
        return Err(ApiError::new(Code::Unsupported, message).headers(allow));
    }
    if service.options.read_only && !matches!(request.method, Method::GET | Method::HEAD) {
        let allow = vec![(header::ALLOW, "GET, HEAD".to_owned())];
        return Err(ApiError::new(Code::Unsupported, "the registry is read-only").headers(allow));
    }
    Ok(route)
}

/// Answers a request that changes nothing and has no body. It reads files, so it blocks.
fn answer(registry: &Arc<Registry>, method: &Method, route: Route, query: &Query, headers: &HeaderMap) -> ApiResult {
    match route {
        Route::Root => Ok(answer::json(Vec::new(), &serde_json::json!({}))),
        Route::Catalog => listing::catalog(registry, query),
        Route::Tags { name } => listing::tags(registry, &name, query),
        Route::Referrers { name, digest } => listing::referrers(registry, &name, &digest, query),
        Route::Manifest { name, reference } => {
            // containerd names the original registry to a mirror this way.
            let host = query.get("ns");
            manifests::get(registry, host, &name, &reference, headers, *method == Method::HEAD)
        }
        Route::Blob { digest } => blobs::get(registry, &digest, headers, *method == Method::HEAD),
        Route::Upload { name, id } => uploads::status(registry, &name, id),
        Route::Uploads { .. } => Ok(empty(StatusCode::METHOD_NOT_ALLOWED, Vec::new())),
    }
}

/// Runs blocking work on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?)
}

/// Reads and discards an unneeded body, up to a limit.
async fn drain(mut body: impl Stream<Item = io::Result<bytes::Bytes>> + Unpin) {
    let mut read = 0;
    let reading = async {
        while let Some(Ok(piece)) = body.next().await {
            read += piece.len() as u64;
            if read > DRAIN.0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN.1, reading).await;
}

/// Whether the client already has the content of this digest (`If-None-Match`).
fn is_unchanged(request: &HeaderMap, digest: &Digest) -> bool {
    let quoted = format!("\"{digest}\"");
    let wanted = request.get(header::IF_NONE_MATCH).and_then(|text| text.to_str().ok());
    wanted.is_some_and(|text| text.split(',').any(|tag| tag.trim().trim_start_matches("W/") == quoted))
}

/// The parameters after `?`.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of `key`.
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of `key`.
    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests;
