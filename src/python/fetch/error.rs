//! Why a wheel could not be had.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ociforge_manifests::Digest;

use crate::error::{Explain, FULL_DISK, is_full_disk};
use crate::http::in_words;
use crate::python::LockedWheel;
use crate::python::install::correction::CorrectionError;

/// Fetching failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No HTTP client could be made.
    #[error("cannot set up TLS")]
    Client(#[source] Box<dyn Error + Send + Sync>),
    /// A wheel could not be had.
    #[error("cannot fetch {package} ({file})")]
    Wheel {
        /// Name and version.
        package: String,
        /// The file's name.
        file: String,
        /// Why.
        #[source]
        cause: FetchCause,
    },
}

impl FetchError {
    pub(super) fn of(wheel: &LockedWheel, cause: FetchCause) -> Self {
        Self::Wheel { package: format!("{} {}", wheel.name, wheel.version), file: wheel.file.clone(), cause }
    }
}

/// Why a wheel could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchCause {
    /// It is another one.
    #[error("its SHA-256 is {actual}, and the lock says {expected}")]
    WrongDigest {
        /// What the lock says.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// It has another length.
    #[error("it has {}{actual} bytes, and the lock says {expected}", if actual > expected { "at least " } else { "" })]
    WrongSize {
        /// What the lock says.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The server will not give it.
    #[error("the server answered {status}")]
    Status {
        /// Code and reason.
        status: reqwest::StatusCode,
        /// How long it asks to wait, where that is longer than anybody waits.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached, or the connection broke again and again.
    #[error("no answer from the server: {reason}")]
    Network {
        /// The innermost reason.
        reason: String,
    },
    /// A wheel that should be a file here.
    #[error("cannot read {}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cache could not be written.
    #[error("the cache can't be written")]
    Io(#[from] io::Error),
    /// It is what was locked, but no wheel that can be installed.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
}

impl Explain for FetchError {
    fn hint(&self) -> Option<String> {
        let Self::Wheel { cause, .. } = self else { return None };
        match cause {
            FetchCause::WrongDigest { .. } | FetchCause::WrongSize { .. } => Some(
                "the file was changed since it was locked; if that is right, lock again: `ociforge lock`, or what \
                     wrote pylock.toml"
                    .into(),
            ),
            FetchCause::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => Some(
                "give the index's user and password as for uv: in its URL (UV_INDEX_URL, a requirements file), in \
                     .netrc, or by `keyring`"
                    .into(),
            ),
            FetchCause::Status { status, .. } if matches!(status.as_u16(), 404 | 410) => {
                Some("the file is gone from the index; run `ociforge lock` for another".into())
            }
            FetchCause::Status { retry_after: Some(after), .. } => {
                Some(format!("the server asks to come back in {}; what has arrived is kept", in_words(*after)))
            }
            FetchCause::Network { .. } | FetchCause::Status { .. } => {
                Some("try again: what has arrived is kept".into())
            }
            FetchCause::Io(error) if is_full_disk(error) => Some(FULL_DISK.into()),
            FetchCause::Refused(error) => error.downcast_ref::<CorrectionError>()?.hint(),
            _ => None,
        }
    }
}
