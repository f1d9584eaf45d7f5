//! Unpacked layers in the store, to be stacked into root filesystems.
//!
//! ```text
//! roots/KIND/CHAIN/  the layer that ends the chain of that id, fitted onto the layers below it
//! stamps/KIND/CHAIN  what it was like when it was put there
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

    /// Whether the uppermost layer of `chain` is there, as it was put there.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn check(&self, chain: &ChainId) -> io::Result<RootState> {
        let place = self.path(chain);
        if !place.is_dir() {
            return Ok(RootState::Missing);
        }
        Ok(match Stamp::compare(&self.stamp_file(chain), &place)? {
            Comparison::Changed(path) => RootState::Changed(path),
            Comparison::Same => RootState::Sound,
            Comparison::Unknown => {
                // Of an older version. It can't be told whether it was changed until now.
                Stamp::write(&self.stamp_file(chain), &place)?;
                RootState::Sound
            }
        })
    }

    /// Takes the uppermost layer of `chain` away. Who has it mounted keeps it: it is removed when it is a day old.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn discard(&self, chain: &ChainId) -> io::Result<()> {
        let aside = self.staging()?.keep();
        fs::rename(self.path(chain), aside.join("damaged"))
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

    /// Moves an unpacked layer, or the upper directory of an overlay that is not mounted any more, to where the uppermost
    /// layer of `chain` is to be. The directory's owner and mode are those of the root directory from then on. Another
    /// process may have been faster: it has unpacked the same.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn adopt(&self, files: &Path, chain: &ChainId) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let place = self.path(chain);
        if !place.is_dir() {
            // Of a layer that was there before. An end between the two steps leaves none.
            let _ = fs::remove_file(self.stamp_file(chain));
        }
        match fs::rename(files, &place) {
            Err(_) if place.is_dir() => Ok(()),
            // Without a stamp it is checked from the next time on.
            Ok(()) => Stamp::write(&self.stamp_file(chain), &place).or(Ok(())),
            Err(error) => Err(error),
        }
    }

    fn stamp_file(&self, chain: &ChainId) -> PathBuf {
        self.stamps.join(chain.0.hex())
    }
}

/// What is found where an unpacked layer should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootState {
    /// Nothing.
    Missing,
    /// The layer.
    Sound,
    /// A layer that was changed since; with what was changed last, inside of it.
    Changed(PathBuf),
}
