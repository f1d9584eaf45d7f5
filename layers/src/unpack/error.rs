//! What can go wrong when layers are unpacked.

use std::io;
use std::path::PathBuf;

use super::verify::Mismatch;
use crate::entries::{EntriesError, Malformed};
use crate::path::{LayerPath, PathError};

/// A layer can't be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The blob can't be read or decompressed.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// It is no sound tar.
    #[error("the layer is not a sound tar archive")]
    Tar(#[source] Malformed),
    /// It is another layer.
    #[error("the layer is not the one that the image names")]
    Blob(#[source] Mismatch),
    /// An entry of the layer can't be.
    #[error("cannot unpack `{name}`")]
    Entry {
        /// As the layer spells it.
        name: String,
        /// Why.
        #[source]
        fault: UnpackFault,
    },
    /// An unpacked layer does not fit onto the layers below it.
    #[error("cannot put {path} onto the layers below")]
    Merge {
        /// The path.
        path: LayerPath,
        /// Why.
        #[source]
        fault: UnpackFault,
    },
    /// A directory that was given can't be used.
    #[error("cannot unpack into {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The caller had it stopped.
    #[error("interrupted")]
    Cancelled,
}

/// What is wrong with one entry, or with its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackFault {
    /// The system refused.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    /// A name that no file of a layer can have.
    #[error(transparent)]
    Name(#[from] PathError),
    /// A path that is too long or too deep, or leads to such a one through links.
    #[error("its path has more than {} bytes or {} directories", crate::path::MAX_PATH, crate::path::MAX_DEPTH)]
    TooLong,
    /// More symbolic links on the way than a system follows.
    #[error("its path leads through a loop of symbolic links")]
    Loop,
    /// Something other than a directory is where a directory is needed.
    #[error("{0} is not a directory")]
    NotADirectory(LayerPath),
    /// An entry for the layer's root that is not a directory.
    #[error("the root can't be anything but a directory")]
    Root,
    /// A symbolic link to nothing.
    #[error("it is a symbolic link with an empty target, or one with a NUL byte")]
    Symlink,
    /// A hard link to what the layer does not have, or has only later.
    #[error("it is a hard link to {0}, which the layer does not have before it")]
    Dangling(LayerPath),
    /// A hard link to a directory.
    #[error("it is a hard link to {0}, which is a directory")]
    LinkToDirectory(LayerPath),
    /// A hard link to itself.
    #[error("it is a hard link to itself")]
    LinkToItself,
    /// A device without numbers.
    #[error("it is a device without a number")]
    Device,
    /// An owner or group beyond what a system has.
    #[error("its owner is {0}, which is more than a system has")]
    Owner(u64),
    /// An extended attribute without a proper name.
    #[error("its extended attribute `{0}` can't be")]
    Xattr(String),
    /// More directories and whiteouts than any image has.
    #[error("the layer has more than {} MiB of names of directories and whiteouts", super::writer::MAX_PENDING >> 20)]
    TooMuch,
}

/// What to do about a layer that is not what it should be.
const DAMAGED: &str = "the layer is damaged or was tampered with: get the image again";

impl UnpackError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let fault = match self {
            Self::Blob(_) | Self::Tar(_) => {
                return Some(DAMAGED);
            }
            Self::Read(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                return Some(DAMAGED);
            }
            Self::Read(_) | Self::Directory { .. } | Self::Cancelled => return None,
            Self::Entry { fault, .. } | Self::Merge { fault, .. } => fault,
        };
        match fault {
            UnpackFault::System(_, error) => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::PERM) => {
                    Some("unpack as root, or rootless, where owners are kept as far as possible")
                }
                Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Some("make room on the disk"),
                Some(rustix::io::Errno::XDEV) => Some("stage layers on the filesystem that the image is unpacked to"),
                _ => None,
            },
            _ => Some("the layer breaks the rules for layers: build the image again with a current tool"),
        }
    }
}

impl From<EntriesError> for UnpackError {
    fn from(error: EntriesError) -> Self {
        match error {
            EntriesError::Malformed(error) => Self::Tar(error),
            EntriesError::Read(error) => Self::from(error),
        }
    }
}

impl From<io::Error> for UnpackError {
    /// An error of reading, which may carry a verdict about the blob or its tar.
    fn from(error: io::Error) -> Self {
        let error = match error.downcast() {
            Ok(mismatch) => return Self::Blob(mismatch),
            Err(error) => error,
        };
        error.downcast().map_or_else(Self::Read, Self::Tar)
    }
}

/// For `map_err` on a system call that was to `what`.
pub(super) fn cannot<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> UnpackFault {
    move |error| UnpackFault::System(what, error.into())
}
