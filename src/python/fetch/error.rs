//! Errors of fetching wheels.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ociforge_manifests::Digest;

use crate::error::{Explain, FULL_DISK, is_full_disk};
use crate::http::in_words;
use crate::python::install::correction::CorrectionError;
use crate::python::{Location, LockedWheel};

/// Wheels cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The HTTP client cannot be created.
    #[error("cannot set up TLS")]
    Client(#[source] Box<dyn Error + Send + Sync>),
    /// A wheel cannot be fetched.
    #[error("cannot {operation} {package} ({file})")]
    Wheel {
        /// `fetch`, or `use` for a file on this machine.
        operation: &'static str,
        /// Name and version.
        package: String,
        /// The file's name.
        file: String,
        /// The cause.
        #[source]
        cause: FetchCause,
    },
}

impl FetchError {
    /// The error of fetching a wheel.
    pub(crate) fn of(wheel: &LockedWheel, cause: FetchCause) -> Self {
        let (operation, file) = match &wheel.location {
            Location::Url(_) => ("fetch", wheel.file.clone()),
            Location::Path(path) => ("use", path.display().to_string()),
        };
        Self::Wheel { operation, package: format!("{} {}", wheel.name, wheel.version), file, cause }
    }
}

/// Why a wheel cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchCause {
    /// The digest differs.
    #[error("its SHA-256 is {actual}, not {expected} as in the lock")]
    WrongDigest {
        /// The locked digest.
        expected: Digest,
        /// The received digest.
        actual: Digest,
    },
    /// The length differs.
    #[error("its size is {}{actual} bytes, not {expected} as in the lock", if actual > expected { "at least " } else { "" })]
    WrongSize {
        /// The locked length in bytes.
        expected: u64,
        /// The received length in bytes.
        actual: u64,
    },
    /// The server refuses the request.
    #[error("the server answered {status}")]
    Status {
        /// Code and reason.
        status: reqwest::StatusCode,
        /// The pause that the server asks for, if it is longer than the policy allows.
        retry_after: Option<Duration>,
    },
    /// The server cannot be reached, or the connection broke repeatedly.
    #[error("the server does not answer: {reason}")]
    Network {
        /// The innermost cause.
        reason: String,
    },
    /// A wheel on this machine cannot be read.
    #[error("cannot read {}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The cache cannot be written.
    #[error("cannot write to the cache")]
    Io(#[from] io::Error),
    /// The file matches the lock, but is not an installable wheel.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
}

impl Explain for FetchError {
    fn hint(&self) -> Option<String> {
        let Self::Wheel { cause, .. } = self else { return None };
        match cause {
            FetchCause::WrongDigest { .. } | FetchCause::WrongSize { .. } => Some(
                "the file changed after it was locked; if the change is intended, create the lock again with \
                    `ociforge lock` or the program that wrote pylock.toml"
                    .into(),
            ),
            FetchCause::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => Some(
                "provide the user and password of the index as for uv: in its URL (UV_INDEX_URL, a requirements \
                    file), in .netrc, or by `keyring`"
                    .into(),
            ),
            FetchCause::Status { status, .. } if matches!(status.as_u16(), 404 | 410) => {
                Some("the index no longer has the file; run `ociforge lock` to choose another".into())
            }
            FetchCause::Status { retry_after: Some(after), .. } => {
                Some(format!("the server asks to wait {}; the next run resumes the download", in_words(*after)))
            }
            FetchCause::Network { .. } | FetchCause::Status { .. } => {
                Some("run the command again: it resumes the download".into())
            }
            FetchCause::Io(error) if is_full_disk(error) => Some(FULL_DISK.into()),
            FetchCause::Refused(error) => error.downcast_ref::<CorrectionError>()?.hint(),
            _ => None,
        }
    }
}
