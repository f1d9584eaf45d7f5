//! What a step left behind becomes a tree: what [`overlay`](super::overlay) and [`changes`](super::changes) share.

pub(super) mod files;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::owner;
use crate::path::{LayerPath, PathError};
use crate::tree::TreeError;

/// How what a step left behind is taken.
#[derive(Clone, Copy)]
pub struct CaptureOptions<'a> {
    /// No modification time is later than this, in seconds since 1970; later ones become this, on disk as well, so that
    /// the directory is what the layer unpacks to.
    pub latest: i64,
    /// Whether owners are remembered ([`crate::owner`]) rather than real: with the table of what can't have attributes.
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

/// What a step left behind can't become a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A directory that was given can't be used.
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
        /// What was to be done.
        what: &'static str,
        /// Where.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
    /// A name that would delete something instead of adding it.
    #[error("{0} can't be in a layer: names that begin with `.wh.` mark what is deleted there")]
    Whiteout(LayerPath),
    /// A path that is longer or deeper than what is unpacked again.
    #[error("too long or too deep for a layer: {0}")]
    TooLong(LayerPath),
    /// A name that no file of a layer can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The name of an extended attribute that has no form in a tar.
    #[error("{path} has the extended attribute `{name}`, which a tar can't hold")]
    Attribute {
        /// The file.
        path: LayerPath,
        /// The attribute.
        name: String,
    },
    /// What should be an owner is none.
    #[error("the owner that is remembered of {path} can't be read")]
    Owner {
        /// The file.
        path: LayerPath,
        /// Why.
        source: owner::NoOwner,
    },
    /// Overlayfs was mounted with options that leave parts of a file or directory elsewhere.
    #[error("{0} is not whole: the overlay was mounted with `redirect_dir` or `metacopy`")]
    Partial(LayerPath),
    /// The tree contradicts itself.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The caller had it stopped.
    #[error("interrupted")]
    Cancelled,
}

impl CaptureError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Whiteout(_) | Self::TooLong(_) | Self::Path(_) => {
                Some("have the step remove it, or name it otherwise")
            }
            Self::Attribute { .. } => Some("have the step remove the attribute (setfattr -x)"),
            Self::Partial(_) => Some("have overlayfs's module parameters redirect_dir and metacopy set to N"),
            Self::Directory { .. } | Self::System { .. } | Self::Owner { .. } | Self::Tree(_) | Self::Cancelled => None,
        }
    }
}
