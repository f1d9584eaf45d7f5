//! A request, and what is sent with it.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use url::Url;

use super::client::Timeouts;
use super::stats::Stats;

/// A request.
pub(crate) struct HttpRequest<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub payload: Payload<'a>,
    /// For the host in `url` and no other.
    pub authorization: &'a Authorization,
    /// Whether the host in `url` may have a bad certificate.
    pub insecure: bool,
    /// Whether the host is known to be there: a connection that it refuses, or silence, then counts as transient.
    pub known: bool,
    /// Counts as a request for a token. Its body is a credential.
    pub for_token: bool,
}

/// Who a request says that it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// Nobody.
    Anonymous,
    /// User and password.
    Basic(String, String),
    /// A token.
    Bearer(String),
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    Empty,
    Bytes(&'a Bytes),
    Stream(&'a dyn StreamedBody),
}

/// A body that is read out of its source while it is sent.
#[async_trait]
pub(crate) trait StreamedBody: Send + Sync {
    /// Sends the request with this body, and waits for the answer. `None` when the host took no bytes for
    /// `timeouts.idle`, or gave no answer for `timeouts.commit` after the last of them. The error is the source's.
    async fn send(
        &self,
        request: RequestBuilder,
        timeouts: &Timeouts,
        stats: &Arc<Stats>,
    ) -> io::Result<Option<reqwest::Result<Response>>>;
}

impl<'a> HttpRequest<'a> {
    /// A request without a body, from nobody.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::Empty,
            authorization: &Authorization::Anonymous,
            insecure: false,
            known: false,
            for_token: false,
        }
    }

    /// Sets a header.
    pub(crate) fn set(&mut self, name: &'static str, value: &'static str) {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}
