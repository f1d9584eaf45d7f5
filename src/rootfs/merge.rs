//! The layers of an image, read as streams and merged in memory, and unpacked from the same streams if necessary.

use std::error::Error;
use std::thread;

use ociforge_layers::merge::{EntryFilter, LayerMerger, MergeError};
use ociforge_layers::path_map::PathMap;
use ociforge_layers::unpack::OwnerPolicy;
use ociforge_manifests::{ChainId, Descriptor, DiffId, Digest, Image};

use super::tee::tee;
use super::{Losses, adopt, unpack_into};
use crate::cancel::Cancel;
use crate::content::{BlobReader, Cause, ContentError, Source, cause_of, read_on_thread};
use crate::progress::Reporter;
use crate::store::{RootState, Roots};

/// The error of reading a layer.
#[derive(Debug)]
pub(crate) enum ReadLayerError<E: Error> {
    /// The layer cannot be fetched, or differs from its descriptor.
    Content(ContentError),
    /// The layer is no valid archive, or the filter failed.
    Layer { layer: Digest, source: MergeError<E> },
}

/// Reads `layers`, the lowest first, each on a thread of its own while it is fetched from `source`. Returns the filter
/// and the data that it kept.
pub(crate) async fn merge_layers<F>(
    filter: F,
    layers: &[Descriptor],
    source: &dyn Source,
    reporter: &dyn Reporter,
) -> Result<(F, PathMap<F::Kept>), ReadLayerError<F::Error>>
where
    F: EntryFilter<Kept: Send, Error: Send> + Send + 'static,
{
    let mut merger = LayerMerger::new(filter);
    for layer in layers {
        let read = |merger: &mut LayerMerger<F>, blob| merger.layer(blob);
        merger = read_layer(merger, layer, source, reporter, read).await?;
    }
    Ok(merger.finish())
}

/// The destination of layers that are unpacked while they are merged.
pub(crate) struct UnpackedLayers<'a> {
    /// The destination.
    pub(crate) roots: &'a Roots,
    /// The treatment of owners that the system refuses.
    pub(crate) owners: OwnerPolicy,
    /// Ends the work.
    pub(crate) cancel: &'a Cancel,
}

impl UnpackedLayers<'_> {
    /// As [`merge_layers`] for the layers of `image`. Layers that are missing in the roots are unpacked from the same
    /// streams; the others are only merged. A layer that cannot be unpacked, and those above it, are left out.
    pub(crate) async fn merge<F>(
        &self,
        filter: F,
        image: &Image,
        source: &dyn Source,
        reporter: &dyn Reporter,
    ) -> Result<(F, PathMap<F::Kept>, Losses), ReadLayerError<F::Error>>
    where
        F: EntryFilter<Kept: Send, Error: Send> + Send + 'static,
    {
        let (mut merger, mut losses, mut is_complete) = (LayerMerger::new(filter), Losses::default(), true);
        let diff_ids = &image.config.rootfs.diff_ids;
        let chains = ChainId::of(diff_ids);
        for (n, (layer, diff_id)) in image.manifest.layers.iter().zip(diff_ids).enumerate() {
            let job = UnpackJob {
                roots: self.roots.clone(),
                owners: self.owners,
                cancel: self.cancel.clone(),
                diff_id: diff_id.clone(),
                chains: chains[..=n].to_vec(),
            };
            let (sender, unpacked) = std::sync::mpsc::channel();
            let is_needed = is_complete;
            let read = move |merger: &mut LayerMerger<F>, blob| {
                let is_missing = || matches!(job.roots.check(&job.chains[n]), Ok(RootState::Missing));
                if !is_needed || !is_missing() {
                    return merger.layer(blob);
                }
                let (reader, copy) = tee(blob);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        // The receiver waits for this thread.
                        let _ = sender.send(job.unpack(n, copy));
                    });
                    merger.layer(reader)
                })
            };
            merger = read_layer(merger, layer, source, reporter, read).await?;
            match unpacked.try_recv() {
                Ok(Some(new)) => losses.extend(new),
                Ok(None) => is_complete = false,
                // The roots have the layer.
                Err(_) => {}
            }
        }
        let (filter, merged) = merger.finish();
        Ok((filter, merged, losses))
    }
}

/// The unpacking of one layer.
struct UnpackJob {
    roots: Roots,
    owners: OwnerPolicy,
    cancel: Cancel,
    diff_id: DiffId,
    /// The chain ids of the layers up to this one.
    chains: Vec<ChainId>,
}

impl UnpackJob {
    /// Unpacks the layer `n`. `None` if that is not possible: the step that needs it reports the cause.
    fn unpack(&self, n: usize, blob: impl std::io::BufRead + Send) -> Option<Losses> {
        let staging = self.roots.staging().ok()?;
        let staged = unpack_into(blob, staging, &self.diff_id, self.owners, &self.cancel).ok()?;
        adopt(&self.roots, &self.chains, n, &staged).ok()?;
        let mut losses = Losses::default();
        losses.add(&staged.unpacked);
        Some(losses)
    }
}

async fn read_layer<F>(
    mut merger: LayerMerger<F>,
    layer: &Descriptor,
    source: &dyn Source,
    reporter: &dyn Reporter,
    read: impl FnOnce(&mut LayerMerger<F>, BlobReader) -> Result<(), MergeError<F::Error>> + Send + 'static,
) -> Result<LayerMerger<F>, ReadLayerError<F::Error>>
where
    F: EntryFilter<Kept: Send, Error: Send> + Send + 'static,
{
    let progress = reporter.task(&format!("read layer {}", layer.digest.short()), Some(layer.size));
    let failed = |source| ReadLayerError::Layer { layer: layer.digest.clone(), source };
    let blob = BlobReader::new(source, layer, &*progress);
    let merger = match read_on_thread(blob, move |blob| read(&mut merger, blob).map(|()| merger)).await {
        Ok(Ok(merger)) => merger,
        // The error of the transfer is the cause, whatever the decompressor reports.
        Ok(Err(MergeError::Read(error))) => match cause_of(error) {
            Cause::Io(error) => return Err(failed(error.into())),
            cause => return Err(ReadLayerError::Content(cause.of(format!("read layer {}", layer.digest)))),
        },
        Ok(Err(error)) => return Err(failed(error)),
        Err(error) => return Err(failed(MergeError::Read(error.into()))),
    };
    progress.done("read");
    Ok(merger)
}
