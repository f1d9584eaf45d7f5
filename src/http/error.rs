//! Why an exchange failed. A refusal is no error here: it is a response.

use std::io;

use super::transport::TransportError;

/// An exchange that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// There was no connection, or no answer, or it broke off.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An answer that can't be followed, such as a redirect to plain HTTP.
    #[error("{0}")]
    BadAnswer(String),
    /// The answer is longer than what was asked for can be.
    #[error("the document has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size in bytes, as far as it is known.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// What was to be sent could not be read, or what came could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No client can be made.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// The innermost reason.
        reason: String,
    },
    /// The certificates for a host can't be used.
    #[error("{0}")]
    Certificates(String),
}

impl HttpError {
    /// Whether the same may work in a while.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Transport(error) if error.transient)
    }
}
