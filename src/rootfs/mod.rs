//! Root filesystems of images: layers unpacked, as directories to stack or as one directory.
//!
//! A layer is unpacked while it arrives; its blob is never stored. Several are unpacked at a time and put on top of each
//! other in their order.

mod error;
pub mod files;
pub mod writable;

use std::fs;
use std::io;
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

/// What becomes of layers.
pub struct Unpacker<'a> {
    /// Where the blobs are.
    pub source: &'a dyn Source,
    /// Told of each layer.
    pub reporter: &'a dyn Reporter,
    /// How many layers are unpacked at a time; at least 1.
    pub jobs: usize,
    /// What becomes of owners and devices that the system refuses.
    pub owners: OwnerPolicy,
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
struct Staged<D> {
    directory: D,
    unpacked: Unpacked,
}

/// A directory that goes away with this, and the place that it is in, which is not to go away before.
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
    /// The directories of the layers of `image`, **the topmost first**, to be stacked by overlayfs. Those that `roots` has
    /// are taken from there, and the others put there. One that was changed since it was put there is unpacked again.
    /// Layers below one with an opaque root are left out.
    ///
    /// # Errors
    /// When a layer can't be had or unpacked, or is not what the image's config says.
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
            let below: Vec<PathBuf> = directories[..n].iter().rev().cloned().collect();
            let (roots, chain) = (roots.clone(), chains[n].clone());
            let error = |cause| RootfsError::of(layers[n].0, cause);
            blocking(move || {
                rebase(&layer.directory.path().join(FILES), &layer.unpacked, &below, space)?;
                Ok(roots.adopt(&layer.directory.path().join(FILES), &chain)?)
            })
            .await
            .map_err(error)?;
        }
        let topmost_first = directories.into_iter().rev().collect();
        Ok((visible(topmost_first, space).map_err(RootfsError::Place)?, losses))
    }

    /// The numbers of the layers that `roots` has not, or not any more as they were put there.
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
                    .warn(&format!("{} was changed in the store; it is unpacked again", layer.join(path).display()));
                roots.discard(&chain).map_err(RootfsError::Place)?;
            }
            if state != RootState::Sound {
                missing.push(n);
            }
        }
        Ok(missing)
    }

    /// Makes the directory `name` in `place`, where it must not exist, and puts all layers of `image` into it, each on top
    /// of the ones before. What else is needed lies beside it while it is made. `place` is kept for as long as something
    /// writes in it, even if nobody waits for this any more.
    ///
    /// # Errors
    /// As [`Self::stack`]; a half-made root is then for the caller to remove.
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

    /// Unpacks one layer into a directory of its own, on a thread of its own.
    async fn unpack<D: AsRef<Path> + Send + 'static>(
        &self,
        (layer, diff_id): (&Descriptor, &DiffId),
        staging: io::Result<D>,
    ) -> Result<Staged<D>, RootfsError> {
        let progress = self.reporter.task(&format!("layer {}", layer.digest.short()), Some(layer.size));
        let directory = staging.map_err(RootfsError::Place)?;
        // Whoever has the right content has the right blob, for all that is left of it.
        let blob = BlobReader::sized(self.source, layer, &*progress);
        let expected = diff_id.clone();
        let owners = self.owners;
        let cancel = self.cancel.clone();
        let work = move |reader| {
            let files = directory.as_ref().join(FILES);
            fs::create_dir(&files)?;
            let cancelled = || cancel.is_cancelled();
            let options = UnpackOptions { owners, devices: true, cancelled: &cancelled };
            let unpacked = unpack_layer(reader, &expected, &files, &options)?;
            Ok(Staged { directory, unpacked })
        };
        let staged = read_on_thread(blob, work).await.unwrap_or_else(|error| Err(LayerUnpackError::Io(error.into())));
        let staged = staged.map_err(|cause| RootfsError::of(layer, cause))?;
        progress.done("unpacked");
        Ok(staged)
    }
}

/// A layer's files within its staging directory.
const FILES: &str = "files";

fn layers(image: &Image) -> Vec<(&Descriptor, &DiffId)> {
    image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids).collect()
}

/// Does on a thread of its own what keeps it busy. What it owns is cleaned up there even if nobody waits any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LayerUnpackError> + Send + 'static,
) -> Result<T, LayerUnpackError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(LayerUnpackError::Io(error.into())))
}

#[cfg(test)]
mod tests;
