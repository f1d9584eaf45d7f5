//! The errors of operations on content.

use std::io;
use std::path::PathBuf;

use ociforge_manifests::{Descriptor, Digest, DocumentError};

use super::Source;
use crate::error::{Explain, is_full_disk};

/// An operation on content that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct ContentError {
    /// The operation, its object and its place: `push layer sha256:1fb3… to registry.example.com/ml/train`.
    pub operation: String,
    /// The cause.
    #[source]
    pub cause: Cause,
}

/// The cause of a failed operation on content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The content has another digest than requested.
    #[error("the digest is {actual}, not {expected}: the content was changed or damaged")]
    WrongDigest {
        /// The requested digest.
        expected: Digest,
        /// The digest of the received content.
        actual: Digest,
    },
    /// The size of the content differs from the descriptor.
    #[error("the size is {actual} bytes, not {expected} as in the descriptor")]
    WrongSize {
        /// The size in the descriptor.
        expected: u64,
        /// The number of received bytes: expected plus one for longer content.
        actual: u64,
    },
    /// A document above the size limit.
    #[error("the document has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The content does not exist.
    #[error("not found")]
    NotFound,
    /// A digest of an unsupported algorithm.
    #[error("the digest algorithm {0} is not supported")]
    Algorithm(String),
    /// An invalid document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The source of a copy failed, and not the target whose operation read from it.
    #[error(transparent)]
    Source(Box<ContentError>),
    /// The registry answered with an error.
    #[error("{registry} answered {status}{detail}")]
    Status {
        /// The registry's host.
        registry: String,
        /// The HTTP status, code and reason.
        status: String,
        /// The message of the registry with a leading `: `, or an empty text.
        detail: String,
        /// The hint.
        hint: Option<String>,
    },
    /// The registry cannot be reached, or the connection broke.
    #[error("no answer from {registry}: {reason}")]
    Network {
        /// The registry's host.
        registry: String,
        /// The innermost reason.
        reason: String,
        /// The hint.
        hint: Option<String>,
    },
    /// Any other fault of the other side.
    #[error("{message}")]
    Other {
        /// The fault.
        message: String,
        /// The hint.
        hint: Option<String>,
    },
}

/// A file of another type in the place of a regular file or a directory, in a directory that is not trusted.
#[derive(Debug, thiserror::Error)]
#[error("{} is {is}; expected {wanted}", .path.display())]
pub struct NotAllowed {
    /// Its path in the directory.
    pub path: PathBuf,
    /// Its type.
    pub is: &'static str,
    /// The expected type.
    pub wanted: &'static str,
}

impl ContentError {
    /// Whether the cause is that the content does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match &self.cause {
            Cause::NotFound => true,
            Cause::Status { status, .. } => status.starts_with("404"),
            _ => false,
        }
    }
}

impl Cause {
    /// This cause as the error of `operation`, which reads on from "cannot". A failure of the source keeps its own
    /// operation.
    #[must_use]
    pub fn of(self, operation: impl Into<String>) -> ContentError {
        match self {
            Self::Source(error) => *error,
            cause => ContentError { operation: operation.into(), cause },
        }
    }

    /// This cause as a failure of `source` to provide the content of `descriptor`.
    #[must_use]
    pub fn of_source(self, source: &dyn Source, descriptor: &Descriptor) -> Self {
        match self {
            Self::Source(_) => self,
            cause => Self::Source(Box::new(cause.of(read_from(source, descriptor)))),
        }
    }

    /// Whether the content is complete and is not the content that the descriptor names. Content that ends too early
    /// may only have been cut off.
    pub(crate) fn is_other_content(&self) -> bool {
        match self {
            Self::WrongDigest { .. } => true,
            Self::WrongSize { expected, actual } => actual > expected,
            Self::Source(error) => error.cause.is_other_content(),
            _ => false,
        }
    }

    /// Whether the content does not match its descriptor.
    pub(crate) fn is_mismatch(&self) -> bool {
        match self {
            Self::WrongDigest { .. } | Self::WrongSize { .. } => true,
            Self::Source(error) => error.cause.is_mismatch(),
            _ => false,
        }
    }
}

/// The operation of reading the content of `descriptor` from `source`.
pub(super) fn read_from(source: &dyn Source, descriptor: &Descriptor) -> String {
    format!("read {} from {}", descriptor.digest, source.location(descriptor))
}

/// The hint for damaged content.
pub(crate) const GET_IMAGE_AGAIN: &str =
    "get the image again from its origin; `ociforge cache verify` removes damaged content from the store of builds";

impl Explain for ContentError {
    fn hint(&self) -> Option<String> {
        match &self.cause {
            Cause::Status { hint, .. } | Cause::Network { hint, .. } | Cause::Other { hint, .. } => hint.clone(),
            Cause::WrongDigest { .. } | Cause::WrongSize { .. } => Some(GET_IMAGE_AGAIN.into()),
            Cause::Source(error) => error.hint(),
            Cause::Document(error) => Some(error.hint().unwrap_or(GET_IMAGE_AGAIN).into()),
            Cause::Io(error) if is_full_disk(error) => Some(
                "free some space or choose another directory, and run the command again; nothing incomplete is \
                    in use"
                    .into(),
            ),
            Cause::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<NotAllowed>()) => {
                Some("remove it, or get the directory again from its origin".into())
            }
            Cause::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("check the owner and the mode of the directory, or choose another directory".into())
            }
            _ => None,
        }
    }
}
