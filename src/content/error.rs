//! Why content could not be had or put.

use std::io;
use std::path::PathBuf;

use ociforge_manifests::{Digest, DocumentError};

use crate::error::{Explain, is_full_disk};

/// An operation on content that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct ContentError {
    /// What was tried, on which object and where: `push layer sha256:1fb3… to registry.example.com/ml/train`.
    pub operation: String,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why an operation on content failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The bytes are not the ones that were asked for.
    #[error("the digest is {actual}, not {expected}: the content was changed or damaged")]
    WrongDigest {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// There are more or fewer bytes than the descriptor says.
    #[error("{actual} bytes where the descriptor says {expected}")]
    WrongSize {
        /// The size in the descriptor.
        expected: u64,
        /// How many bytes came; one more than expected where there were more.
        actual: u64,
    },
    /// A document that is too large to be one.
    #[error("a document of {size} bytes; at most {limit} are read")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The content is not there.
    #[error("it is not there")]
    NotFound,
    /// A digest of an algorithm that this program can't compute.
    #[error("the digest algorithm {0} is not supported")]
    Algorithm(String),
    /// Not the document that it should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The registry answered with an error.
    #[error("{registry} answered {status}{detail}")]
    Status {
        /// The registry's host.
        registry: String,
        /// The HTTP status, code and reason.
        status: String,
        /// What it said, with a leading `: `; empty if nothing.
        detail: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The registry could not be reached, or the connection broke.
    #[error("no answer from {registry}: {reason}")]
    Network {
        /// The registry's host.
        registry: String,
        /// The innermost reason.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Something else about the other side that has no kind of its own.
    #[error("{message}")]
    Other {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// What is in the place of a regular file or a directory, in a directory that may have come from elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("{} in it is {is}, where only {wanted} can be", .path.display())]
pub struct NotAllowed {
    /// Where it is in the directory.
    pub path: PathBuf,
    /// What it is.
    pub is: &'static str,
    /// What it has to be.
    pub wanted: &'static str,
}

impl ContentError {
    /// Whether it failed because the content is not where it was looked for.
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
    /// This cause as the error of `operation`, which reads on from "cannot".
    #[must_use]
    pub fn of(self, operation: impl Into<String>) -> ContentError {
        ContentError { operation: operation.into(), cause: self }
    }
}

/// The hint for content that is not what it should be.
const NOT_THE_CONTENT: &str =
    "get it again from where it came; what is damaged in the store of builds, `ociforge cache verify` removes";

impl Explain for ContentError {
    fn hint(&self) -> Option<String> {
        match &self.cause {
            Cause::Status { hint, .. } | Cause::Network { hint, .. } | Cause::Other { hint, .. } => hint.clone(),
            Cause::WrongDigest { .. } => Some(NOT_THE_CONTENT.into()),
            Cause::Document(error) => Some(error.hint().unwrap_or(NOT_THE_CONTENT).into()),
            Cause::Io(error) if is_full_disk(error) => {
                Some("free some space, or choose another place, and try again; nothing half-written is in use".into())
            }
            Cause::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<NotAllowed>()) => {
                Some("remove it, or get the directory again from where it came".into())
            }
            Cause::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("check who owns the directory, or choose another place".into())
            }
            _ => None,
        }
    }
}
