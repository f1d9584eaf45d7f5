//! Errors of layers that are made of files.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use ociforge_layers::source::directory::DirectoryError;
use ociforge_layers::source::ignore::PatternError;
use ociforge_layers::source::image::TreeFromImageError;
use ociforge_layers::source::tar::TarError;
use ociforge_layers::source::wheel::WheelError;
use ociforge_layers::{LayerPath, PathError, TreeError};

use crate::error::Explain;
use crate::rootfs::files::ReadFilesError;

/// The content of a layer cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// Files cannot be copied.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Patterns of `.dockerignore` or `exclude` are malformed.
    #[error("cannot use the patterns of {place}")]
    Pattern {
        /// `.dockerignore` or `exclude`.
        place: &'static str,
        /// The cause.
        source: PatternError,
    },
    /// A tar archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A wheel cannot be installed.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// Two entries of a layer contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A path that is invalid in layers.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A process that makes the content failed.
    #[error("cannot build {what}")]
    Process {
        /// The content that it makes.
        what: String,
        /// The fix, if one is known.
        hint: Option<String>,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Files of a stage or an image cannot be read.
    #[error(transparent)]
    Files(Box<ReadFilesError>),
    /// A file of a stage or an image as the root directory.
    #[error("{0} is a file, which cannot be the root directory")]
    FileAsRoot(LayerPath),
    /// The stage or image that a layer copies from is not resolved.
    #[error("the source of {0} is not resolved")]
    NoSource(LayerPath),
    /// A path that leads out of the recipe's directory.
    #[error("{} leads out of the recipe's directory", .0.display())]
    Outside(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Explain for LayerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Wheel(error) => error.hint().map(Into::into),
            Self::Files(error) => error.hint(),
            Self::FileAsRoot(_) => Some("write the path of the file in `to`".into()),
            Self::Tar(error) => error.hint().map(Into::into),
            Self::Process { hint, .. } => hint.clone(),
            Self::Tree(_) | Self::Path(_) => Some("leave the path out, or give it another name".into()),
            Self::Outside(_) => Some("copy it into the directory, or move the recipe up".into()),
            Self::Directory(DirectoryError::Excluded(_)) => Some(
                "take it out of .dockerignore and `exclude`, or name it there in a line that begins with `!`".into(),
            ),
            Self::Directory(DirectoryError::Read { source, .. }) | Self::Read { source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some("paths are relative to the recipe's directory".into())
            }
            Self::Directory(_) | Self::Pattern { .. } | Self::Read { .. } | Self::NoSource(_) => None,
        }
    }
}

impl From<ReadFilesError> for LayerError {
    fn from(error: ReadFilesError) -> Self {
        Self::Files(Box::new(error))
    }
}

impl From<TreeFromImageError> for LayerError {
    fn from(error: TreeFromImageError) -> Self {
        match error {
            TreeFromImageError::Path(error) => Self::Path(error),
            TreeFromImageError::Tree(error) => Self::Tree(error),
        }
    }
}
