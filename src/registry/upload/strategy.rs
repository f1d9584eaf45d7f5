//! The upload strategy of a host, learnt from its answers, not from its name.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::registry::fault::Fault;

/// Blobs of any length go in one request.
const WHOLE: u64 = u64::MAX;
/// The minimum size of chunks in bytes, even if a proxy has a lower limit.
const SHORTEST: u64 = 1 << 20;

/// The chunk size of a host.
#[derive(Debug)]
pub(in crate::registry) struct Strategy(AtomicU64);

/// The content of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// A blob in one request.
    Whole,
    /// The first chunk of an upload.
    First,
    /// One of the others.
    Later,
    /// No content: the end of a chunked upload.
    End,
}

/// The reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Fail.
    Fail,
    /// Query the offset after a pause, and resume there.
    Ask,
    /// Begin another upload, in a while.
    Anew,
    /// Begin another upload, and send all of it in one request.
    Whole,
    /// Send less at a time.
    Shorter,
}

impl Strategy {
    /// Chunks of this initial size in bytes.
    pub(in crate::registry) fn new(chunk: u64) -> Self {
        Self(AtomicU64::new(chunk.max(1)))
    }

    /// The chunk size in bytes. Blobs up to it are sent in one request.
    pub(super) fn chunk(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The host does not accept chunks.
    pub(super) fn take_whole(&self) {
        self.0.store(WHOLE, Ordering::Relaxed);
    }

    /// A request of `length` bytes was too long. `false` if shorter ones are impossible: the host accepts no chunks, or
    /// none shorter than `least`.
    pub(super) fn shorten(&self, length: u64, least: u64) -> bool {
        let least = least.max(SHORTEST);
        if self.chunk() == WHOLE || length <= least {
            return false;
        }
        self.0.fetch_min((length / 2).max(least), Ordering::Relaxed);
        true
    }
}

/// The reaction to a failed request of an upload.
pub(super) fn course(fault: &Fault, sent: Sent) -> Course {
    let status = match fault.status {
        Some(status) => status.as_u16(),
        None if !fault.transient => return Course::Fail,
        // An upload in one request cannot be resumed.
        None if sent == Sent::Whole => return Course::Anew,
        None => return Course::Ask,
    };
    match (status, sent) {
        (401 | 403 | 407, _) => Course::Fail,
        (413, Sent::End) => Course::Fail,
        (413, _) => Course::Shorter,
        (501, Sent::Whole) => Course::Fail,
        (501, _) => Course::Whole,
        // The upload is unknown: the registry was restarted, or another instance answered.
        (404, Sent::Whole) | (404 | 410, Sent::Later | Sent::End) => Course::Anew,
        (408 | 429 | 500.., Sent::Whole) => Course::Anew,
        (408 | 416 | 429 | 500.., Sent::First | Sent::Later) => Course::Ask,
        // An earlier, interrupted request still holds the upload.
        (409, Sent::Later) => Course::Ask,
        (408 | 429 | 500.., Sent::End) => Course::Ask,
        // It confirmed all chunks, but cannot finish the blob.
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
