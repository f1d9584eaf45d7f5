//! Files of an image, read from its layers without unpacking them.

use std::collections::BTreeSet;
use std::path::Path;

use ociforge_layers::LayerPath;
use ociforge_layers::source::image::{ImageFiles, ImageFilesError, ImageFilesReader, ImagePass};
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{self, BlobReader, Cause, ContentError, Source, read_on_thread};
use crate::error::Explain;
use crate::progress::Reporter;

/// The maximum number of passes over the layers. The first one finds the links that the others follow.
const MAX_PASSES: usize = 4;

/// The error of reading files of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadFilesError {
    /// A layer cannot be fetched, or differs from its descriptor.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer is no sound archive.
    #[error("cannot read layer {layer}")]
    Layer {
        /// The digest of the layer.
        layer: Digest,
        /// The cause.
        source: ImageFilesError,
    },
    /// The image does not have the files, or they cannot be written.
    #[error(transparent)]
    Files(#[from] ImageFilesError),
}

impl Explain for ReadFilesError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Files(ImageFilesError::Missing(_)) => Some("paths in a stage or an image start at its root".into()),
            Self::Layer { source: ImageFilesError::Scratch { .. }, .. } => {
                Some("free some space, or choose another place with --store".into())
            }
            Self::Layer { .. } | Self::Files(_) => None,
        }
    }
}

/// Reads the files at `from` of the image with these layers, lowest first. The content of files is in unnamed files in
/// the directory `scratch`.
///
/// # Errors
/// When a layer cannot be fetched or read, or the image has no such path.
pub async fn read_files(
    layers: &[Descriptor],
    source: &dyn Source,
    from: &LayerPath,
    scratch: &Path,
    reporter: &dyn Reporter,
) -> Result<ImageFiles, ReadFilesError> {
    // Without it, the first pass would find only the link `/bin -> usr/bin` of most distributions.
    let mut kept = BTreeSet::from_iter(in_usr(from));
    for _ in 0..MAX_PASSES {
        let mut reader = ImageFilesReader::new(from.clone(), &kept, scratch)?;
        for layer in layers {
            reader = read_layer(reader, layer, source, reporter).await?;
        }
        match reader.finish()? {
            ImagePass::Complete(files) => return Ok(files),
            ImagePass::Again(paths) => kept.extend(paths),
        }
    }
    Err(ImageFilesError::Loop(from.clone()).into())
}

/// The path of a file of `/bin` or `/lib` where these are links to directories in `/usr`.
fn in_usr(path: &LayerPath) -> Option<LayerPath> {
    let first = path.steps().next()?;
    let name = first.as_bytes();
    (name == b"bin" || name == b"sbin" || name.starts_with(b"lib"))
        .then(|| LayerPath::new([b"usr/", path.as_bytes()].concat()).ok())?
}

async fn read_layer(
    mut reader: ImageFilesReader,
    layer: &Descriptor,
    source: &dyn Source,
    reporter: &dyn Reporter,
) -> Result<ImageFilesReader, ReadFilesError> {
    let progress = reporter.task(&format!("read layer {}", layer.digest.short()), Some(layer.size));
    let failed = |source| ReadFilesError::Layer { layer: layer.digest.clone(), source };
    let blob = BlobReader::new(source, layer, &*progress);
    match read_on_thread(blob, move |blob| reader.layer(blob).map(|()| reader)).await {
        Ok(Ok(reader)) => {
            progress.done("read");
            Ok(reader)
        }
        // The error of the transfer is the cause, whatever the decompressor reports.
        Ok(Err(ImageFilesError::Read(error))) => Err(match content::cause_of(error) {
            Cause::Io(error) => failed(ImageFilesError::Read(error)),
            cause => cause.of(format!("read layer {}", layer.digest)).into(),
        }),
        Ok(Err(source)) => Err(failed(source)),
        Err(error) => Err(failed(ImageFilesError::Read(error.into()))),
    }
}
