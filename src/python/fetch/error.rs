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
    #[error("its SHA-256 is {actual}, not {expected} as in the lock")]
    WrongDigest {
        /// What the lock says.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// It has another length.
    #[error("its size is {}{actual} bytes, not {expected} as in the lock", if actual > expected { "at least " } else { "" })]
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
    #[error("cannot write to the cache")]
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
