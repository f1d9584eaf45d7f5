//! How a host takes blobs: learnt from its answers, not from its name.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::registry::fault::Fault;

/// Blobs of any length go in one request.
const WHOLE: u64 = u64::MAX;
/// Chunks are made no shorter than this, in bytes, whatever limit a proxy has.
const SHORTEST: u64 = 1 << 20;

/// How long the chunks are that a host gets.
#[derive(Debug)]
pub(in crate::registry) struct Strategy(AtomicU64);

/// What a request that failed was to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// A blob in one request.
    Whole,
    /// The first chunk of an upload.
    First,
    /// One of the others.
    Later,
    /// Nothing more: the end of an upload in chunks.
    End,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Give up.
    Fail,
    /// Ask how much arrived, in a while, and go on from there.
    Ask,
    /// Begin another upload, in a while.
    Anew,
    /// Begin another upload, and send all of it in one request.
    Whole,
    /// Send less at a time.
    Shorter,
}

impl Strategy {
    /// Chunks of this length in bytes, until the host says otherwise.
    pub(in crate::registry) fn new(chunk: u64) -> Self {
        Self(AtomicU64::new(chunk.max(1)))
    }

    /// The length of chunks in bytes. What is not longer goes in one request.
    pub(super) fn chunk(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The host does not take chunks.
    pub(super) fn take_whole(&self) {
        self.0.store(WHOLE, Ordering::Relaxed);
    }

    /// A request of `length` bytes was too long. `false` when shorter ones are out of the question: the host does not
    /// take chunks, or none shorter than `least`.
    pub(super) fn shorten(&self, length: u64, least: u64) -> bool {
        let least = least.max(SHORTEST);
        if self.chunk() == WHOLE || length <= least {
            return false;
        }
        self.0.fetch_min((length / 2).max(least), Ordering::Relaxed);
        true
    }
}

/// What to do about a request of an upload that failed.
pub(super) fn course(fault: &Fault, sent: Sent) -> Course {
    let status = match fault.status {
        Some(status) => status.as_u16(),
        None if !fault.transient => return Course::Fail,
        // For an upload in one request there is nothing to go on from.
        None if sent == Sent::Whole => return Course::Anew,
        None => return Course::Ask,
    };
    match (status, sent) {
        (401 | 403 | 407, _) => Course::Fail,
        (413, Sent::End) => Course::Fail,
        (413, _) => Course::Shorter,
        (501, Sent::Whole) => Course::Fail,
        (501, _) => Course::Whole,
        // The upload is no longer known: a registry that was restarted, or another one behind the same name.
        (404, Sent::Whole) | (404 | 410, Sent::Later | Sent::End) => Course::Anew,
        (408 | 429 | 500.., Sent::Whole) => Course::Anew,
        (408 | 416 | 429 | 500.., Sent::First | Sent::Later) => Course::Ask,
        // Another request, one of ours that broke off, is still at the upload.
        (409, Sent::Later) => Course::Ask,
        (408 | 429 | 500.., Sent::End) => Course::Ask,
        // It has said that all chunks are there, but it can't make the blob of them.
        (400 | 416, Sent::End) => Course::Whole,
        (_, Sent::Whole | Sent::End) => Course::Fail,
        (_, Sent::First | Sent::Later) => Course::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::fault::Subject;
    use reqwest::StatusCode;

    #[test]
    fn chunks_are_halved_down_to_a_bound() {
        let strategy = Strategy::new(5 << 20);
        assert!(strategy.shorten(5 << 20, 0));
        assert_eq!(strategy.chunk(), 5 << 19);
        // Another upload was refused the same at the same time.
        assert!(strategy.shorten(5 << 20, 0));
        assert_eq!(strategy.chunk(), 5 << 19);
        assert!(!strategy.shorten(5 << 19, 5 << 19));
        assert!(strategy.shorten(5 << 19, 0) && strategy.shorten(5 << 18, 0));
        assert_eq!(strategy.chunk(), SHORTEST);
        assert!(!strategy.shorten(SHORTEST, 0));
        strategy.take_whole();
        assert!(!strategy.shorten(5 << 20, 0));
        assert_eq!(strategy.chunk(), WHOLE);
    }

    #[test]
    fn refusals_have_consequences() {
        let after = |status: u16, sent| {
            let status = StatusCode::from_u16(status).unwrap();
            course(&Fault::refusal("r.example", Subject::Upload, status, b""), sent)
        };
        for status in [400, 404, 405, 409, 411, 415, 422, 501] {
            assert_eq!(after(status, Sent::First), Course::Whole, "{status}");
        }
        for status in [408, 416, 429, 500, 502, 503, 504] {
            assert_eq!(after(status, Sent::First), Course::Ask, "{status}");
            assert_eq!(after(status, Sent::Later), Course::Ask, "{status}");
        }
        for sent in [Sent::Whole, Sent::First, Sent::Later, Sent::End] {
            assert_eq!(after(401, sent), Course::Fail);
            assert_eq!(after(403, sent), Course::Fail);
        }
        assert_eq!([404, 400].map(|status| after(status, Sent::Later)), [Course::Anew, Course::Whole]);
        assert_eq!(after(409, Sent::Later), Course::Ask);
        let at_the_end = [404, 400, 416, 503, 412, 413].map(|status| after(status, Sent::End));
        assert_eq!(at_the_end[..4], [Course::Anew, Course::Whole, Course::Whole, Course::Ask]);
        assert_eq!(at_the_end[4..], [Course::Fail, Course::Fail]);
        assert_eq!(
            [404, 500, 400, 413, 501].map(|status| after(status, Sent::Whole)),
            [Course::Anew, Course::Anew, Course::Fail, Course::Shorter, Course::Fail]
        );
        assert_eq!(course(&Fault::broken("r.example", ""), Sent::Later), Course::Ask);
        assert_eq!(course(&Fault::broken("r.example", ""), Sent::Whole), Course::Anew);
        assert_eq!(course(&Fault::wrong(""), Sent::Later), Course::Fail);
    }
}
