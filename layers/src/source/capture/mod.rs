//! The capture of a step's changes as a tree: the common part of [`overlay`](super::overlay) and
//! [`changes`](super::changes).

pub(super) mod files;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::owner;
use crate::path::{LayerPath, PathError};
use crate::tree::TreeError;

/// The options of a capture.
#[derive(Clone, Copy)]
pub struct CaptureOptions<'a> {
    /// The latest modification time, in seconds since 1970. Later times become this one, on disk as well, so that the
    /// directory equals the unpacked layer.
    pub latest: i64,
    /// Whether owners are recorded ([`crate::owner`]) and not real: the table of the files that cannot have attributes.
    pub owners: Option<&'a owner::OwnershipTable>,
    /// Mount points and devices that the sandbox created, outermost first. Those that are still empty are removed, and
    /// are not in the tree.
    pub made: &'a [LayerPath],
    /// Files that look changed but are not: they are omitted from the tree.
    pub restored: &'a [LayerPath],
    /// Polled; once true, the capture ends with [`CaptureError::Cancelled`].
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl fmt::Debug for CaptureOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { latest, owners, made, restored, cancelled: _ } = self;
        let mut options = f.debug_struct("CaptureOptions");
        options.field("latest", latest).field("owners", owners).field("made", made).field("restored", restored);
        options.finish_non_exhaustive()
    }
}

/// An error of a capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A given directory is not usable.
    #[error("cannot open {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {what} of the step: {path}")]
    System {
        /// The operation.
        what: &'static str,
        /// The path.
        path: LayerPath,
        /// The cause.
        source: io::Error,
    },
    /// A name that would remove a file instead of adding it.
    #[error("{0} cannot be in a layer: names that begin with `.wh.` mark deleted files")]
    Whiteout(LayerPath),
    /// A path that is too long or too deep to be unpacked.
    #[error("too long or too deep for a layer: {0}")]
    TooLong(LayerPath),
    /// A name that no file of a layer can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An extended attribute whose name cannot be written in a tar.
    #[error("{path} has the extended attribute `{name}`, which a tar archive cannot hold")]
    Attribute {
        /// The file.
        path: LayerPath,
        /// The attribute.
        name: String,
    },
    /// The ownership attribute is invalid.
    #[error("the recorded owner of {path} cannot be read")]
    Owner {
        /// The file.
        path: LayerPath,
        /// The cause.
        source: owner::NoOwner,
    },
    /// Overlayfs was mounted with options that store parts of a file or directory elsewhere.
    #[error("{0} is incomplete: the overlay was mounted with `redirect_dir` or `metacopy`")]
    Partial(LayerPath),
    /// The tree is inconsistent.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The caller cancelled the capture.
    #[error("interrupted")]
    Cancelled,
}

impl CaptureError {
    /// The hint for the user, if any.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Whiteout(_) | Self::TooLong(_) | Self::Path(_) => Some("remove or rename it in the step"),
            Self::Attribute { .. } => Some("remove the attribute in the step (setfattr -x)"),
            Self::Partial(_) => Some("set the module parameters redirect_dir and metacopy of overlayfs to N"),
            Self::Directory { .. } | Self::System { .. } | Self::Owner { .. } | Self::Tree(_) | Self::Cancelled => None,
        }
    }
}
