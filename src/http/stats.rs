//! What a client has asked for and moved.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use reqwest::Method;

/// Counts requests and bytes while they happen; shared by all that is done with a client.
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

/// What a [`Stats`] stood at. Each exchange counts by itself: one that was redirected or tried again counts twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `HEAD` requests, that which asks a host for its protocol included.
    pub head: u64,
    /// `GET` requests, those for tokens excepted.
    pub get: u64,
    /// `POST` requests, those for tokens excepted.
    pub post: u64,
    /// `PUT` requests.
    pub put: u64,
    /// Requests by other methods.
    pub other: u64,
    /// Requests for tokens.
    pub tokens: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of the bodies of answers.
    pub received: u64,
}

impl Stats {
    /// What has been counted so far.
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
