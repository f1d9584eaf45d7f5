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
    /// No modification time is later than this, in seconds since 1970; later ones become this, on disk as well, so that
    /// the directory is what the layer unpacks to.
    pub latest: i64,
    /// Whether owners are remembered ([`crate::owner`]) rather than real: with the table of what cannot have
    /// attributes.
    pub owners: Option<&'a owner::OwnershipTable>,
    /// Mount points and devices that the sandbox made, outermost first. Those that are still there and empty are removed,
    /// and not in the tree.
    pub made: &'a [LayerPath],
    /// Files that look changed and are as they were: they are not in the tree.
    pub restored: &'a [LayerPath],
    /// Asked now and then; it ends in [`CaptureError::Cancelled`] once this is true.
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
    /// A directory that was given cannot be used.
    #[error("cannot open {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot {what} of the step: {path}")]
    System {
        /// The operation.
        what: &'static str,
        /// Where.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
    /// A name that would delete something instead of adding it.
    #[error("{0} cannot be in a layer: names that begin with `.wh.` mark deleted files")]
    Whiteout(LayerPath),
    /// A path that is longer or deeper than what is unpacked again.
    #[error("too long or too deep for a layer: {0}")]
    TooLong(LayerPath),
    /// A name that no file of a layer can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The name of an extended attribute that has no form in a tar.
    #[error("{path} has the extended attribute `{name}`, which a tar archive cannot hold")]
    Attribute {
        /// The file.
        path: LayerPath,
        /// The attribute.
        name: String,
    },
    /// What should be an owner is none.
    #[error("the recorded owner of {path} cannot be read")]
    Owner {
        /// The file.
        path: LayerPath,
        /// Why.
        source: owner::NoOwner,
    },
    /// Overlayfs was mounted with options that leave parts of a file or directory elsewhere.
    #[error("{0} is incomplete: the overlay was mounted with `redirect_dir` or `metacopy`")]
    Partial(LayerPath),
    /// The tree contradicts itself.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The caller had it stopped.
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
