//! Unpacked layers in the store, to be stacked into root filesystems.
//!
//! ```text
//! roots/KIND/CHAIN/   the layer that ends the chain of that id, fitted onto the layers below it
//! ```
//!
//! What a layer's directory holds depends on who unpacked it: root keeps owners and devices and has whiteouts in the form
//! that overlayfs takes from root. So each kind of unpacker has directories of its own.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ociforge_layers::unpack::XattrSpace;
use ociforge_manifests::ChainId;
use tempfile::TempDir;

/// Unpacked layers of one kind.
#[derive(Debug, Clone)]
pub struct Roots {
    directory: PathBuf,
    space: XattrSpace,
}

impl Roots {
    pub(super) fn new(directory: PathBuf, space: XattrSpace) -> Self {
        Self { directory, space }
    }

    /// The extended attributes in which overlayfs looks for opaque directories.
    #[must_use]
    pub fn space(&self) -> XattrSpace {
        self.space
    }

    /// Where the uppermost layer of `chain` is, or would be. What is there is whole.
    #[must_use]
    pub fn path(&self, chain: &ChainId) -> PathBuf {
        self.directory.join(chain.0.hex())
    }

    /// A directory to unpack a layer in.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn staging(&self) -> io::Result<TempDir> {
        // Files of root's with setuid bits are nobody else's business.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        tempfile::Builder::new().prefix(".tmp-").tempdir_in(&self.directory)
    }

    /// Moves the upper directory of an overlay on top of the layers of this kind to where the uppermost layer of `chain`
    /// is to be, and returns that place. The overlay must not be mounted any more. The directory's owner and mode are
    /// those of the root directory from then on.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn adopt(&self, upper: &Path, chain: &ChainId) -> io::Result<PathBuf> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let place = self.path(chain);
        Self::keep(upper, &place)?;
        Ok(place)
    }

    /// Moves an unpacked layer to its place. Another process may have been faster: it has unpacked the same.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn keep(files: &Path, place: &Path) -> io::Result<()> {
        match fs::rename(files, place) {
            Err(_) if place.is_dir() => Ok(()),
            other => other,
        }
    }
}
