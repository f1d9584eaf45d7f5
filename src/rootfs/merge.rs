//! The layers of an image, read as streams and merged in memory.

use std::error::Error;

use ociforge_layers::merge::{EntryFilter, LayerMerger, MergeError};
use ociforge_layers::path_map::PathMap;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{BlobReader, Cause, ContentError, Source, cause_of, read_on_thread};
use crate::progress::Reporter;

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
        let progress = reporter.task(&format!("read layer {}", layer.digest.short()), Some(layer.size));
        let failed = |source| ReadLayerError::Layer { layer: layer.digest.clone(), source };
        let blob = BlobReader::new(source, layer, &*progress);
        merger = match read_on_thread(blob, move |blob| merger.layer(blob).map(|()| merger)).await {
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
    }
    Ok(merger.finish())
}
