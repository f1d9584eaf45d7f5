//! Errors of the installation of wheels.

use crate::error::Explain;
use crate::layer::LayerError;

/// Wheels cannot be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A wheel cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Two packages conflict.
    #[error("{file} has a file where {directory} has a directory: {path}")]
    Occupied {
        /// The package with the file, and its version.
        file: String,
        /// The package with the directory.
        directory: String,
        /// The path of the conflict.
        path: String,
    },
    /// A pattern that matches no wheel.
    #[error("`{0}` fits no file")]
    NoWheels(String),
    /// A pattern that is malformed.
    #[error("`{pattern}` is not a pattern")]
    Glob {
        /// The pattern.
        pattern: String,
        /// The cause.
        source: glob::PatternError,
    },
}

impl Explain for InstallError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Layer(error) => error.hint(),
            Self::Occupied { .. } => {
                Some("one of them would be lost: leave one out, or choose a version of it that has no such path".into())
            }
            Self::NoWheels(_) => Some("patterns are relative to the recipe's directory".into()),
            Self::Glob { .. } => None,
        }
    }
}
