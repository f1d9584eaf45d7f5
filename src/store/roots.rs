//! Unpacked layers in the store, the lower directories of root filesystems.
//!
//! ```text
//! roots/KIND/CHAIN/  the uppermost layer of the chain with this id, fitted onto the layers below it
//! stamps/KIND/CHAIN  the state of that directory when it was created
//! ```
//!
//! A layer's directory depends on the rights of the unpacker: root sets owners and devices, and its whiteouts have
//! another form in overlayfs. So each kind of unpacker has its own directories.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ociforge_layers::unpack::XattrSpace;
use ociforge_manifests::ChainId;
use tempfile::TempDir;

use super::stamp::{Comparison, Stamp};

/// Unpacked layers of one kind.
#[derive(Debug, Clone)]
pub struct Roots {
    directory: PathBuf,
    stamps: PathBuf,
    space: XattrSpace,
}

impl Roots {
    pub(super) fn new(store: &Path, kind: &str, space: XattrSpace) -> Self {
        Self { directory: store.join("roots").join(kind), stamps: store.join("stamps").join(kind), space }
    }

    /// The namespace of the extended attributes for opaque directories in overlayfs.
    #[must_use]
    pub fn space(&self) -> XattrSpace {
        self.space
    }

    /// The directory of the uppermost layer of `chain`. An existing directory is complete.
    #[must_use]
    pub fn path(&self, chain: &ChainId) -> PathBuf {
        self.directory.join(chain.0.hex())
    }

    /// Whether the uppermost layer of `chain` exists and is unchanged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn check(&self, chain: &ChainId) -> io::Result<RootState> {
        let place = self.path(chain);
        if !place.is_dir() {
            return Ok(RootState::Missing);
        }
        Ok(match Stamp::compare(&self.stamp_file(chain), &place)? {
            Comparison::Changed(path) => RootState::Changed(path),
            Comparison::Same => RootState::Sound,
            Comparison::Unknown => {
                // From an older version: earlier changes are unknown.
                Stamp::write(&self.stamp_file(chain), &place)?;
                RootState::Sound
            }
        })
    }

    /// Moves the uppermost layer of `chain` away. Mounts of it stay valid: it is removed after a day.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn discard(&self, chain: &ChainId) -> io::Result<()> {
        let aside = self.staging()?.keep();
        fs::rename(self.path(chain), aside.join("damaged"))
    }

    /// A directory to unpack a layer in.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn staging(&self) -> io::Result<TempDir> {
        // Files of root with setuid bits must not be accessible to others.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        tempfile::Builder::new().prefix(".tmp-").tempdir_in(&self.directory)
    }

    /// Moves an unpacked layer, or the upper directory of an unmounted overlay, to the place of the uppermost layer of
    /// `chain`. The directory's owner and mode become those of the root directory. If another process was faster, its
    /// directory has the same content.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn adopt(&self, files: &Path, chain: &ChainId) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let place = self.path(chain);
        if !place.is_dir() {
            // The stamp of an earlier layer. An interruption between the two steps leaves no stamp.
            let _ = fs::remove_file(self.stamp_file(chain));
        }
        match fs::rename(files, &place) {
            Err(_) if place.is_dir() => Ok(()),
            // Without a stamp, the next use writes it.
            Ok(()) => Stamp::write(&self.stamp_file(chain), &place).or(Ok(())),
            Err(error) => Err(error),
        }
    }

    fn stamp_file(&self, chain: &ChainId) -> PathBuf {
        self.stamps.join(chain.0.hex())
    }
}

/// The state of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootState {
    /// Nothing.
    Missing,
    /// The layer.
    Sound,
    /// A changed layer, with the path of the last change in it.
    Changed(PathBuf),
}
