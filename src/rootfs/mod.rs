//! Root filesystems of images: unpacked layers, as directories for an overlay or as one directory.
//!
//! A layer is unpacked while it arrives; its blob is never stored. Several are unpacked at a time and put on top of each
//! other in their order.

mod error;
pub mod files;
pub(crate) mod merge;
mod tee;
pub mod writable;

use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use ociforge_layers::rebase::{rebase, visible};
use ociforge_layers::unpack::{OwnerPolicy, UnpackOptions, Unpacked, merge, unpack_layer};
use ociforge_manifests::{ChainId, Descriptor, DiffId, Image};
use tempfile::TempDir;

use error::LayerUnpackError;
pub use error::RootfsError;

use crate::cancel::Cancel;
use crate::content::{BlobReader, Source, read_on_thread};
use crate::progress::Reporter;
use crate::store::{RootState, Roots};

/// The settings of unpacking layers.
pub struct Unpacker<'a> {
    /// The source of the blobs.
    pub source: &'a dyn Source,
    /// The reporter of each layer's progress.
    pub reporter: &'a dyn Reporter,
    /// The maximum number of layers that are unpacked at a time; at least 1.
    pub jobs: usize,
    /// The treatment of owners and devices that the system refuses.
    pub owners: OwnerPolicy,
    /// Ends the work.
    pub cancel: &'a Cancel,
}

/// The lost metadata of all layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Files whose owner the user cannot set; they belong to the user.
    pub owners: u64,
    /// Device nodes that only root can make.
    pub devices: u64,
}

/// A layer in a directory of its own.
struct Staged<D> {
    directory: D,
    unpacked: Unpacked,
}

/// A temporary directory, and its parent directory, which must outlive it.
struct Held<P> {
    directory: TempDir,
    _place: Arc<P>,
}

impl<P> AsRef<Path> for Held<P> {
    fn as_ref(&self) -> &Path {
        self.directory.path()
    }
}

impl Losses {
    fn add(&mut self, unpacked: &Unpacked) {
        self.owners += unpacked.unkept_owners;
        self.devices += unpacked.skipped_devices;
    }

    fn extend(&mut self, other: Self) {
        self.owners += other.owners;
        self.devices += other.devices;
    }

    /// The warnings for the user.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.owners > 0 {
            warnings.push(format!(
                "{} files belong to your user instead of their owners in the image: /etc/subuid has no range for you",
                self.owners
            ));
        }
        if self.devices > 0 {
            warnings.push(format!("{} device nodes are skipped: only root can create them", self.devices));
        }
        warnings
    }
}

impl Unpacker<'_> {
    /// The directories of the layers of `image` for overlayfs, **the topmost first**. Layers that are missing in
    /// `roots`, or changed there, are unpacked into it. Layers below a layer with an opaque root are skipped.
    ///
    /// # Errors
    /// When a layer cannot be fetched or unpacked, or does not match the image's config.
    pub async fn stack(&self, image: &Image, roots: &Roots) -> Result<(Vec<PathBuf>, Losses), RootfsError> {
        let layers = &layers(image);
        let chains = ChainId::of(&image.config.rootfs.diff_ids);
        let directories: Vec<PathBuf> = chains.iter().map(|chain| roots.path(chain)).collect();
        let missing = self.missing(&chains, roots).await?;
        let space = roots.space();
        let mut staged = stream::iter(missing)
            .map(|n| async move { (n, self.unpack(layers[n], roots.staging()).await) })
            .buffered(self.jobs.max(1));
        let mut losses = Losses::default();
        while let Some((n, layer)) = staged.next().await {
            let layer = layer?;
            losses.add(&layer.unpacked);
            let (roots, chains) = (roots.clone(), chains.clone());
            let adopted = blocking(move || adopt(&roots, &chains, n, &layer)).await;
            adopted.map_err(|cause| RootfsError::of(layers[n].0, cause))?;
        }
        let topmost_first = directories.into_iter().rev().collect();
        Ok((visible(topmost_first, space).map_err(RootfsError::Place)?, losses))
    }

    /// The numbers of the layers that are missing in `roots` or changed there.
    async fn missing(&self, chains: &[ChainId], roots: &Roots) -> Result<Vec<usize>, RootfsError> {
        let states = stream::iter(chains.iter().cloned()).map(|chain| {
            let roots = roots.clone();
            blocking(move || Ok((roots.check(&chain)?, chain)))
        });
        let mut states = states.buffered(self.jobs.max(1)).enumerate();
        let mut missing = Vec::new();
        while let Some((n, state)) = states.next().await {
            let (state, chain) = state.map_err(|cause| RootfsError::Check(Box::new(cause)))?;
            if let RootState::Changed(path) = &state {
                let layer = roots.path(&chain);
                self.reporter
                    .warn(&format!("{} changed in the store: ociforge unpacks it again", layer.join(path).display()));
                roots.discard(&chain).map_err(RootfsError::Place)?;
            }
            if state != RootState::Sound {
                missing.push(n);
            }
        }
        Ok(missing)
    }

    /// Creates the directory `name` in `place`, where it must not exist, and unpacks all layers of `image` into it,
    /// each over the previous ones. Temporary files are in `place`, which is held until the last write, even if the
    /// caller stops waiting.
    ///
    /// # Errors
    /// As [`Self::stack`]; the caller must remove the incomplete root.
    pub async fn flat<P>(&self, image: &Image, place: &Arc<P>, name: &str) -> Result<Losses, RootfsError>
    where
        P: AsRef<Path> + Send + Sync + 'static,
    {
        let layers = &layers(image);
        let mut staged = stream::iter(0..layers.len())
            .map(|n| {
                let staging = tempfile::tempdir_in((**place).as_ref());
                let staging = staging.map(|directory| Held { directory, _place: Arc::clone(place) });
                self.unpack(layers[n], staging)
            })
            .buffered(self.jobs.max(1));
        let mut losses = Losses::default();
        let root = (**place).as_ref().join(name);
        for layer in layers {
            let Some(staged) = staged.next().await else { break };
            let staged = staged?;
            losses.add(&staged.unpacked);
            let root = root.clone();
            let merged = blocking(move || {
                let files = staged.directory.as_ref().join(FILES);
                if root.exists() { Ok(merge(&files, &staged.unpacked, &root)?) } else { Ok(fs::rename(&files, &root)?) }
            });
            merged.await.map_err(|cause| RootfsError::of(layer.0, cause))?;
        }
        if layers.is_empty() {
            fs::create_dir(root).map_err(RootfsError::Place)?;
        }
        Ok(losses)
    }

    /// Unpacks one layer into its own directory, on its own thread.
    async fn unpack<D: AsRef<Path> + Send + 'static>(
        &self,
        (layer, diff_id): (&Descriptor, &DiffId),
        staging: io::Result<D>,
    ) -> Result<Staged<D>, RootfsError> {
        let progress = self.reporter.task(&format!("layer {}", layer.digest.short()), Some(layer.size));
        let directory = staging.map_err(RootfsError::Place)?;
        // The unpacker verifies the content by its diff id, so the blob needs no further check.
        let blob = BlobReader::sized(self.source, layer, &*progress);
        let expected = diff_id.clone();
        let owners = self.owners;
        let cancel = self.cancel.clone();
        let work = move |reader| unpack_into(reader, directory, &expected, owners, &cancel);
        let staged = read_on_thread(blob, work).await.unwrap_or_else(|error| Err(LayerUnpackError::Io(error.into())));
        let staged = staged.map_err(|cause| RootfsError::of(layer, cause))?;
        progress.done("unpacked");
        Ok(staged)
    }
}

/// Unpacks a layer into `directory`.
fn unpack_into<D: AsRef<Path>>(
    reader: impl BufRead + Send,
    directory: D,
    expected: &DiffId,
    owners: OwnerPolicy,
    cancel: &Cancel,
) -> Result<Staged<D>, LayerUnpackError> {
    let files = directory.as_ref().join(FILES);
    fs::create_dir(&files)?;
    let cancelled = || cancel.is_cancelled();
    let options = UnpackOptions { owners, devices: true, cancelled: &cancelled };
    let unpacked = unpack_layer(reader, expected, &files, &options)?;
    Ok(Staged { directory, unpacked })
}

/// Places the unpacked layer `n` onto the layers below, and moves it into `roots`.
fn adopt(roots: &Roots, chains: &[ChainId], n: usize, layer: &Staged<TempDir>) -> Result<(), LayerUnpackError> {
    let below: Vec<PathBuf> = chains[..n].iter().rev().map(|chain| roots.path(chain)).collect();
    let files = layer.directory.path().join(FILES);
    rebase(&files, &layer.unpacked, &below, roots.space())?;
    Ok(roots.adopt(&files, &chains[n])?)
}

/// A layer's files within its staging directory.
const FILES: &str = "files";

fn layers(image: &Image) -> Vec<(&Descriptor, &DiffId)> {
    image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids).collect()
}

/// Runs blocking work on its own thread. The work cleans up there even if the caller stops waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LayerUnpackError> + Send + 'static,
) -> Result<T, LayerUnpackError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(LayerUnpackError::Io(error.into())))
}

#[cfg(test)]
mod tests;
