//! The errors of unpacking layers.

use std::io;
use std::path::PathBuf;

use super::verify::Mismatch;
use crate::entries::{EntriesError, Malformed};
use crate::path::{LayerPath, PathError};

/// An error of unpacking a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The blob cannot be read or decompressed.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// It is not a valid tar.
    #[error("the layer is not a valid tar archive")]
    Tar(#[source] Malformed),
    /// Its content has another digest.
    #[error("the layer does not match the diff id of the image")]
    Blob(#[source] Mismatch),
    /// An entry of the layer is invalid.
    #[error("cannot unpack `{name}`")]
    Entry {
        /// The name in the layer's spelling.
        name: String,
        /// The cause.
        #[source]
        fault: UnpackFault,
    },
    /// An unpacked layer does not fit onto the layers below it.
    #[error("cannot place {path} onto the layers below")]
    Merge {
        /// The path.
        path: LayerPath,
        /// The cause.
        #[source]
        fault: UnpackFault,
    },
    /// A given directory is not usable.
    #[error("cannot unpack into {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The caller cancelled it.
    #[error("interrupted")]
    Cancelled,
}

/// A fault of an entry or its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackFault {
    /// A system call failed.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    /// A name that no file of a layer can have.
    #[error(transparent)]
    Name(#[from] PathError),
    /// A path that is too long or too deep, directly or through links.
    #[error("its path has more than {} bytes or {} directories", crate::path::MAX_PATH, crate::path::MAX_DEPTH)]
    TooLong,
    /// A path through too many symbolic links.
    #[error("its path leads through a loop of symbolic links")]
    Loop,
    /// Something other than a directory is where a directory is needed.
    #[error("{0} is not a directory")]
    NotADirectory(LayerPath),
    /// An entry for the layer's root that is not a directory.
    #[error("the root must be a directory")]
    Root,
    /// A symbolic link with an empty target.
    #[error("it is a symbolic link whose target is empty or has a NUL byte")]
    Symlink,
    /// A hard link to a file that the layer does not have, or has later.
    #[error("it is a hard link to {0}, which is not an earlier entry of the layer")]
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
    /// An owner or group above the limit of the system.
    #[error("its owner is {0}, which is above the limit of user ids")]
    Owner(u64),
    /// An extended attribute with an invalid name.
    #[error("its extended attribute `{0}` is invalid")]
    Xattr(String),
    /// Too many directories and whiteouts.
    #[error("the layer has more than {} MiB of names of directories and whiteouts", super::writer::MAX_PENDING >> 20)]
    TooMuch,
}

/// The hint for a damaged layer.
const DAMAGED: &str = "the layer is damaged or was tampered with: get the image again";

impl UnpackError {
    /// The hint for the user, if any.
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
                    Some("unpack as root, or with --rootless, which keeps owners as far as possible")
                }
                Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Some("free some space on the disk"),
                Some(rustix::io::Errno::XDEV) => Some("stage layers on the filesystem that the image is unpacked to"),
                _ => None,
            },
            _ => Some("the layer violates the image specification: build the image again with a current tool"),
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
    /// Converts an error of reading, which may contain a fault of the blob or its tar.
    fn from(error: io::Error) -> Self {
        let error = match error.downcast() {
            Ok(mismatch) => return Self::Blob(mismatch),
            Err(error) => error,
        };
        error.downcast().map_or_else(Self::Read, Self::Tar)
    }
}

/// For `map_err` of the operation `what`.
pub(super) fn cannot<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> UnpackFault {
    move |error| UnpackFault::System(what, error.into())
}
