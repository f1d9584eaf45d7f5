//! Root filesystems of images: layers unpacked, as directories to stack or as one directory.
//!
//! A layer is unpacked while it arrives; its blob is never stored. Several are unpacked at a time and put on top of each
//! other in their order.

mod error;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, stream};
use ociforge_layers::settle::settle;
use ociforge_layers::unpack::{Expected, Options, Owners, Unpacked, Whiteouts, merge, unpack_layer};
use ociforge_manifests::{ChainId, Descriptor, DiffId, Image};
use tempfile::TempDir;

pub use error::RootfsError;

use crate::cancel::Cancel;
use crate::content::{BlobReader, Source};
use crate::progress::Reporter;
use crate::store::Roots;

/// What becomes of layers.
pub struct Unpacker<'a> {
    /// Where the blobs are.
    pub source: &'a dyn Source,
    /// Told of each layer.
    pub reporter: &'a dyn Reporter,
    /// How many layers are unpacked at a time; at least 1.
    pub jobs: usize,
    /// Whether owners and devices that the system refuses are an error; otherwise they are counted.
    pub strict: bool,
    /// Ends the work.
    pub cancel: &'a Cancel,
}

/// What could not be kept of all layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Files whose owner the user can't have; they belong to the user.
    pub owners: u64,
    /// Device nodes that only root can make.
    pub devices: u64,
}

/// A layer in a directory of its own.
struct Staged {
    directory: TempDir,
    unpacked: Unpacked,
}

impl Losses {
    fn add(&mut self, unpacked: &Unpacked) {
        self.owners += unpacked.unkept_owners;
        self.devices += unpacked.skipped_devices;
    }

    /// What to tell the user, if anything.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.owners > 0 {
            warnings.push(format!(
                "{} files belong to you instead of the owners in the image: there is no range for you in /etc/subuid",
                self.owners
            ));
        }
        if self.devices > 0 {
            warnings.push(format!("{} device nodes are left out: only root can make them", self.devices));
        }
        warnings
    }
}

impl Unpacker<'_> {
    /// The directories of the layers of `image`, **the lowest first**, to be stacked by overlayfs. Those that `roots` has
    /// are taken from there, and the others put there.
    ///
    /// # Errors
    /// When a layer can't be had or unpacked, or is not what the image's config says.
    pub async fn stack(&self, image: &Image, roots: &Roots) -> Result<(Vec<PathBuf>, Losses), RootfsError> {
        let layers = &layers(image);
        let directories: Vec<PathBuf> =
            ChainId::of(&image.config.rootfs.diff_ids).iter().map(|chain| roots.path(chain)).collect();
        let missing: Vec<usize> = (0..layers.len()).filter(|n| !directories[*n].is_dir()).collect();
        let whiteouts = Whiteouts::Overlay(roots.space());
        let mut staged = stream::iter(missing)
            .map(|n| async move { (n, self.unpack(layers[n], roots.staging(), whiteouts).await) })
            .buffered(self.jobs.max(1));
        let mut losses = Losses::default();
        while let Some((n, layer)) = staged.next().await {
            let layer = layer?;
            losses.add(&layer.unpacked);
            let below: Vec<PathBuf> = directories[..n].iter().rev().cloned().collect();
            let place = directories[n].clone();
            let error = |cause| RootfsError::of(layers[n].0, cause);
            blocking(move || {
                settle(&layer.directory.path().join(FILES), &layer.unpacked.implied, &below)?;
                Ok(Roots::keep(&layer.directory.path().join(FILES), &place)?)
            })
            .await
            .map_err(error)?;
        }
        Ok((directories, losses))
    }

    /// Makes the directory `root`, which must not exist, and puts all layers of `image` into it, each on top of the ones
    /// before. What else is needed lies beside it while it is made.
    ///
    /// # Errors
    /// As [`Self::stack`]; a half-made root is then for the caller to remove.
    pub async fn flat(&self, image: &Image, root: &Path) -> Result<Losses, RootfsError> {
        let layers = layers(image);
        let beside = root.parent().unwrap_or(Path::new("."));
        let mut staged = stream::iter(&layers)
            .map(|layer| {
                let staging = tempfile::Builder::new().prefix(".tmp-").tempdir_in(beside);
                self.unpack(*layer, staging, Whiteouts::Listed)
            })
            .buffered(self.jobs.max(1));
        let mut losses = Losses::default();
        for layer in &layers {
            let Some(staged) = staged.next().await else { break };
            let staged = staged?;
            losses.add(&staged.unpacked);
            let root = root.to_owned();
            let merged = blocking(move || {
                let files = staged.directory.path().join(FILES);
                if root.exists() { Ok(merge(&files, &staged.unpacked, &root)?) } else { Ok(fs::rename(&files, &root)?) }
            });
            merged.await.map_err(|cause| RootfsError::of(layer.0, cause))?;
        }
        if layers.is_empty() {
            fs::create_dir(root).map_err(RootfsError::Place)?;
        }
        Ok(losses)
    }

    /// Unpacks one layer into a directory of its own, on a thread of its own.
    async fn unpack(
        &self,
        (layer, diff_id): (&Descriptor, &DiffId),
        staging: io::Result<TempDir>,
        whiteouts: Whiteouts,
    ) -> Result<Staged, RootfsError> {
        let progress = self.reporter.task(&format!("layer {}", layer.digest.short()), Some(layer.size));
        let directory = staging.map_err(RootfsError::Place)?;
        let (reader, fetch) = BlobReader::new(self.source, layer, &*progress);
        let expected = Expected { blob: None, diff_id: diff_id.clone() };
        let owners = if self.strict { Owners::Kept } else { Owners::KeptWherePossible };
        let cancel = self.cancel.clone();
        let work = blocking(move || {
            let files = directory.path().join(FILES);
            fs::create_dir(&files)?;
            let cancelled = || cancel.is_cancelled();
            let options = Options { whiteouts, owners, devices: true, cancelled: &cancelled };
            let unpacked = unpack_layer(reader, &expected, &files, &options)?;
            Ok(Staged { directory, unpacked })
        });
        let ((), staged) = tokio::join!(fetch, work);
        let staged = staged.map_err(|cause| RootfsError::of(layer, cause))?;
        progress.done("unpacked");
        Ok(staged)
    }
}

/// A layer's files within its staging directory, whose own mode keeps others out.
const FILES: &str = "files";

fn layers(image: &Image) -> Vec<(&Descriptor, &DiffId)> {
    image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids).collect()
}

/// Does on a thread of its own what keeps it busy. What it owns is cleaned up there even if nobody waits any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, error::Cause> + Send + 'static,
) -> Result<T, error::Cause> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(error::Cause::Io(error.into())),
    }
}
