//! Why a root filesystem can't be made.

use std::io;

use ociforge_layers::rebase::RebaseError;
use ociforge_layers::unpack::UnpackError;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{self, ContentError};
use crate::error::Explain;

/// A root filesystem that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A layer can't be had.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer can't be unpacked, or not onto those below it.
    #[error("cannot unpack layer {layer}")]
    Layer {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: LayerUnpackError,
    },
    /// It can't be told whether the unpacked layers in the store are as they were.
    #[error("cannot check the unpacked layers in the store")]
    Check(#[source] Box<LayerUnpackError>),
    /// There is no place for it.
    #[error("cannot make the directory of a root filesystem")]
    Place(#[source] io::Error),
}

/// Why a layer is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum LayerUnpackError {
    /// It is not sound.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// It does not fit onto the ones below.
    #[error(transparent)]
    Settle(#[from] RebaseError),
    /// A directory can't be made or moved.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RootfsError {
    /// What the transfer says is the reason, whatever the unpacker makes of it.
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
            Self::Place(_) => Some("choose another place with --store".into()),
        }
    }
}
