//! Errors of the lock file.

use std::io;
use std::path::PathBuf;

use crate::error::Explain;

/// `ociforge.lock` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockFileError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The text of the file is not valid.
    #[error("{}:{line}: {message}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The fault.
        message: String,
    },
}

impl Explain for LockFileError {
    fn hint(&self) -> Option<String> {
        matches!(self, Self::Form { .. }).then(|| "run `ociforge lock`".into())
    }
}
