//! Errors of an exchange. A refusal is a response, not an error.

use std::io;

use super::transport::TransportError;

/// A failed exchange.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The connection or the response failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A response that cannot be followed, such as a redirect to plain HTTP.
    #[error("{0}")]
    BadAnswer(String),
    /// The response is longer than the limit.
    #[error("the document has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size in bytes, as far as known.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The payload cannot be read, or the body cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client cannot be created.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// The innermost cause.
        reason: String,
    },
    /// The certificates of a host are not usable.
    #[error("{0}")]
    Certificates(String),
}

impl HttpError {
    /// Whether a later attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Transport(error) if error.transient)
    }
}
