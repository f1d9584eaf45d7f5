//! Files of an image, read from its layers without unpacking them.

use std::collections::BTreeSet;
use std::path::Path;

use ociforge_layers::LayerPath;
use ociforge_layers::merge::MergeError;
use ociforge_layers::source::image::{ImageFiles, ImageFilesError, ImageFilesFilter, ImagePass};
use ociforge_manifests::{Descriptor, Digest};

use super::merge::{ReadLayerError, merge_layers};
use crate::content::{ContentError, GET_IMAGE_AGAIN, Source};
use crate::error::Explain;
use crate::progress::Reporter;

/// The maximum number of passes over the layers. Each follows the links that the passes before it found.
const MAX_PASSES: usize = 8;

/// The error of reading files of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadFilesError {
    /// A layer cannot be fetched, or differs from its descriptor.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer is no valid archive.
    #[error("cannot read layer {layer}")]
    Layer {
        /// The digest of the layer.
        layer: Digest,
        /// The cause.
        source: MergeError<ImageFilesError>,
    },
    /// The image does not have the files, or they cannot be written.
    #[error(transparent)]
    Files(#[from] ImageFilesError),
    /// Links lead to links, again and again.
    #[error("{0} leads through more than {MAX_PASSES} links to other directories")]
    ManyLinks(LayerPath),
}

impl From<ReadLayerError<ImageFilesError>> for ReadFilesError {
    fn from(error: ReadLayerError<ImageFilesError>) -> Self {
        match error {
            ReadLayerError::Content(error) => Self::Content(error),
            ReadLayerError::Layer { layer, source } => Self::Layer { layer, source },
        }
    }
}

impl Explain for ReadFilesError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Files(ImageFilesError::Missing(_)) => Some("paths in a stage or an image start at its root".into()),
            Self::Layer { source: MergeError::Filter(ImageFilesError::Scratch { .. }), .. } => {
                Some("free some space, or choose another place with --store".into())
            }
            Self::ManyLinks(_) => Some("write the path behind the links".into()),
            Self::Layer { .. } => Some(GET_IMAGE_AGAIN.into()),
            Self::Files(_) => None,
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
        let filter = ImageFilesFilter::new(from.clone(), &kept, scratch)?;
        let (filter, merged) = merge_layers(filter, layers, source, reporter).await?;
        match filter.files(&merged)? {
            ImagePass::Complete(files) => return Ok(files),
            ImagePass::Again(paths) => kept.extend(paths),
        }
    }
    Err(ReadFilesError::ManyLinks(from.clone()))
}

/// The path of a file of `/bin` or `/lib` where these are links to directories in `/usr`.
fn in_usr(path: &LayerPath) -> Option<LayerPath> {
    let first = path.steps().next()?;
    let name = first.as_bytes();
    (name == b"bin" || name == b"sbin" || name.starts_with(b"lib"))
        .then(|| LayerPath::new([b"usr/", path.as_bytes()].concat()).ok())?
}
