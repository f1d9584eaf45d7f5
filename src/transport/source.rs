//! Images as sources.

use std::sync::Arc;

use ociforge_manifests::graph::{GraphNode, Manifest};
use ociforge_manifests::{Document, Image, ImageError, ImageName, Platform};

use super::OpenedImage;
use crate::content::{Cause, ContentError, Named, Source, read_document, select};
use crate::error::Explain;
use crate::registry::Client;

/// An image that is open to be read: the document that a name leads to, and where what it points to can be had.
#[derive(Clone)]
pub struct ImageSource {
    /// The name, for messages.
    pub name: String,
    /// The manifest or index.
    pub node: GraphNode,
    /// Where the rest is, and what else has a name there.
    pub source: Arc<dyn Named>,
}

/// An image that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageSourceError {
    /// Its documents can't be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// There is none for the platform.
    #[error("{name} has no image for {wanted}")]
    Platform {
        /// The name.
        name: String,
        /// The platform.
        wanted: Platform,
        /// The platforms that there are.
        have: Vec<String>,
    },
    /// Its documents contradict each other.
    #[error("{name} is not a sound image")]
    Image {
        /// The name.
        name: String,
        /// How.
        source: ImageError,
    },
    /// It is no image but another artifact.
    #[error("{name} is not an image but an artifact of the type {kind}")]
    Artifact {
        /// The name.
        name: String,
        /// The artifact's type.
        kind: String,
    },
}

impl Explain for ImageSourceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Platform { have, .. } if !have.is_empty() => {
                Some(format!("it has {}: choose with --platform", have.join(", ")))
            }
            Self::Image { source: ImageError::Document(error), .. } => error.hint().map(Into::into),
            Self::Artifact { name, .. } => Some(format!(
                "`ociforge inspect {name}` shows what it holds, and `ociforge copy` takes it to another place"
            )),
            Self::Platform { .. } | Self::Image { .. } => None,
        }
    }
}

impl ImageSource {
    /// Opens the image that `name` leads to.
    ///
    /// # Errors
    /// When the place can't be reached or has no such name.
    pub async fn open(name: &ImageName, client: &Client) -> Result<Self, ContentError> {
        let OpenedImage { descriptor, bytes, source } = super::of(name).open(client).await?;
        let node = GraphNode::parse(&descriptor.media_type, bytes);
        let node = node.map_err(|error| Cause::from(error).of(format!("read {name}")))?;
        Ok(Self { name: name.to_string(), node, source })
    }

    /// The image for `platform`: the one there is, or the one that the index names for it.
    ///
    /// # Errors
    /// When there is none for the platform, or it is not a sound image.
    pub async fn image(&self, platform: &Platform) -> Result<Image, ImageSourceError> {
        let manifest = self.manifest(platform).await?;
        if let Some(kind) = manifest.artifact() {
            return Err(ImageSourceError::Artifact { name: self.name.clone(), kind: kind.to_owned() });
        }
        let unsound = |source| ImageSourceError::Image { name: self.name.clone(), source };
        let image = read_image(&*self.source, manifest).await?.map_err(unsound)?;
        if image.config.platform.serves(platform) {
            Ok(image)
        } else {
            Err(self.no_platform(platform, vec![image.config.platform.to_string()]))
        }
    }

    /// The image for `platform`; where none is asked for that for `usual`, or the only one whatever it is for.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub async fn image_or_only(
        &self,
        platform: Option<&Platform>,
        usual: &Platform,
    ) -> Result<Image, ImageSourceError> {
        match (self.image(platform.unwrap_or(usual)).await, &self.node, platform) {
            (Err(ImageSourceError::Platform { have, .. }), GraphNode::Manifest(_), None) => {
                let only = have.first().and_then(|platform| platform.parse().ok());
                self.image(&only.unwrap_or_default()).await
            }
            (image, _, _) => image,
        }
    }

    async fn manifest(&self, platform: &Platform) -> Result<Document<Manifest>, ImageSourceError> {
        match &self.node {
            GraphNode::Manifest(manifest) => Ok((**manifest).clone()),
            GraphNode::Index(index) => match select(&*self.source, index, platform).await? {
                Ok(selected) => Ok(selected.manifest),
                Err(have) => Err(self.no_platform(platform, have)),
            },
        }
    }

    fn no_platform(&self, wanted: &Platform, have: Vec<String>) -> ImageSourceError {
        ImageSourceError::Platform { name: self.name.clone(), wanted: wanted.clone(), have }
    }
}

/// The image of a manifest, whose config is in `source`. The inner error is that of an image that is not sound.
pub(super) async fn read_image(
    source: &dyn Source,
    manifest: Document<Manifest>,
) -> Result<Result<Image, ImageError>, ContentError> {
    let config = read_document(source, &manifest.config).await?;
    Ok(Document::parse(config).map_err(ImageError::from).and_then(|config| Image::new(manifest, config)))
}
