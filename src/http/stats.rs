//! Counters of requests and bytes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use reqwest::Method;

/// Counts requests and bytes as they happen; all users of a client share it.
#[derive(Debug, Default)]
pub struct Stats {
    head: AtomicU64,
    get: AtomicU64,
    post: AtomicU64,
    put: AtomicU64,
    other: AtomicU64,
    tokens: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A snapshot of [`Stats`]. Each exchange counts separately: a redirected or repeated request counts twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `HEAD` requests, including the one that detects the protocol of a host.
    pub head: u64,
    /// `GET` requests, except those for tokens.
    pub get: u64,
    /// `POST` requests, except those for tokens.
    pub post: u64,
    /// `PUT` requests.
    pub put: u64,
    /// Requests by other methods.
    pub other: u64,
    /// Requests for tokens.
    pub tokens: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of response bodies.
    pub received: u64,
}

impl Stats {
    /// The current counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            head: self.head.load(Relaxed),
            get: self.get.load(Relaxed),
            post: self.post.load(Relaxed),
            put: self.put.load(Relaxed),
            other: self.other.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            sent: self.sent.load(Relaxed),
            received: self.received.load(Relaxed),
        }
    }

    pub(super) fn request(&self, method: &Method, for_token: bool) {
        let counter = match *method {
            _ if for_token => &self.tokens,
            Method::HEAD => &self.head,
            Method::GET => &self.get,
            Method::POST => &self.post,
            Method::PUT => &self.put,
            _ => &self.other,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }
}
