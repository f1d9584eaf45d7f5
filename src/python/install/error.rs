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
    #[error("`{0}` matches no file")]
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
            Self::Occupied { .. } => Some("remove one of the packages, or choose a version without this path".into()),
            Self::NoWheels(_) => Some("patterns are relative to the recipe's directory".into()),
            Self::Glob { .. } => None,
        }
    }
}
