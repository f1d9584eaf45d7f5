//! The errors of creating a root filesystem.

use std::io;

use ociforge_layers::rebase::RebaseError;
use ociforge_layers::unpack::UnpackError;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{self, ContentError};
use crate::error::Explain;

/// An error of creating a root filesystem.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A layer cannot be fetched.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer cannot be unpacked, or not onto the layers below.
    #[error("cannot unpack layer {layer}")]
    Layer {
        /// Its digest.
        layer: Digest,
        /// The cause.
        source: LayerUnpackError,
    },
    /// The unpacked layers in the store cannot be checked.
    #[error("cannot check the unpacked layers in the store")]
    Check(#[source] Box<LayerUnpackError>),
    /// Its directory cannot be created.
    #[error("cannot create the directory of a root filesystem")]
    Place(#[source] io::Error),
}

/// The error of unpacking a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerUnpackError {
    /// It is invalid.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// It cannot be placed onto the layers below.
    #[error(transparent)]
    Settle(#[from] RebaseError),
    /// A directory cannot be created or moved.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RootfsError {
    /// The error of a layer: an error of the transfer has precedence over the resulting error of the unpacker.
    pub(super) fn of(layer: &Descriptor, cause: LayerUnpackError) -> Self {
        let failed = |source| Self::Layer { layer: layer.digest.clone(), source };
        match cause {
            LayerUnpackError::Unpack(UnpackError::Read(error)) => match content::cause_of(error) {
                content::Cause::Io(error) => failed(UnpackError::Read(error).into()),
                cause => Self::Content(cause.of(format!("read layer {}", layer.digest))),
            },
            cause => failed(cause),
        }
    }
}

impl Explain for RootfsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Layer { source: LayerUnpackError::Unpack(error), .. } => error.hint().map(Into::into),
            Self::Layer { .. } => None,
            Self::Check(_) => Some("`ociforge cache prune --roots` removes them".into()),
            Self::Place(_) => Some("choose another directory with --store".into()),
        }
    }
}
