//! HTTP: one client for registries and package indexes.
//!
//! - `client` makes one exchange: connections, redirects, timeouts, counters. Credentials never leave the host that
//!   they are for. `request` and `response` are the two halves of an exchange, `host` is the state of its host;
//! - `certificates` reads the certificates of containers-certs.d(5) for a host, `identity` detects whether the host
//!   requests a client certificate;
//! - `error` has the errors, and `transport` classifies the errors of connections;
//! - `retry` has the retry policy, [`RetryPolicy`], and `Retries::run`, the only loop that repeats requests;
//! - `download` reads a resource to its end, and resumes it with range requests if the connection breaks.

mod address;
mod certificates;
mod client;
mod download;
mod error;
mod host;
mod identity;
mod request;
mod response;
mod retry;
mod stats;
mod transport;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use address::{host_of, is_loopback, same_origin};
pub(crate) use client::HttpClient;
pub use client::{Timeouts, install_tls};
pub(crate) use download::{DownloadError, DownloadSource, ResumableDownload};
pub(crate) use error::HttpError;
pub(crate) use host::HttpHost;
pub(crate) use request::{Authorization, HttpRequest, Payload, StreamedBody};
pub(crate) use response::HttpResponse;
pub use retry::RetryPolicy;
pub(crate) use retry::{Retries, RetryAdvice, RetryableError, in_words, is_transient};
pub use stats::{Counts, Stats};
pub(crate) use transport::{TransportError, TransportProblem};
