//! A request and its payload.

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
    /// Only for the host in `url`.
    pub authorization: &'a Authorization,
    /// Whether to accept an invalid certificate of the host in `url`.
    pub insecure: bool,
    /// Whether the host has answered before: a refused connection or a timeout then counts as transient.
    pub known: bool,
    /// Whether to count it as a request for a token. Its body is a credential.
    pub for_token: bool,
}

/// The credentials of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// None.
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

/// A body that is read from its source while it is sent.
#[async_trait]
pub(crate) trait StreamedBody: Send + Sync {
    /// Sends the request with this body, and waits for the response. `None` if the host accepted no bytes for
    /// `timeouts.idle`, or did not respond for `timeouts.commit` after the last byte. The error is the source's.
    async fn send(
        &self,
        request: RequestBuilder,
        timeouts: &Timeouts,
        stats: &Arc<Stats>,
    ) -> io::Result<Option<reqwest::Result<Response>>>;
}

impl<'a> HttpRequest<'a> {
    /// An anonymous request without a body.
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
