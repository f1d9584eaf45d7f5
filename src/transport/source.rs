//! Images as sources.

use std::sync::Arc;

use ociforge_manifests::graph::{GraphNode, Manifest};
use ociforge_manifests::{Digest, Document, Image, ImageError, ImageName, Platform};

use super::OpenedImage;
use crate::content::{Cause, ContentError, Named, Source, read_document, select};
use crate::error::Explain;
use crate::registry::Client;

/// An open image: the document of a name, and the source of its descendants.
#[derive(Clone)]
pub struct ImageSource {
    /// The name, for messages.
    pub name: String,
    /// The manifest or index.
    pub node: GraphNode,
    /// The source of its descendants and of other names.
    pub source: Arc<dyn Named>,
}

/// An error of opening an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageSourceError {
    /// Its documents cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// There is no image for the platform.
    #[error("{name} has no image for {wanted}")]
    Platform {
        /// The name.
        name: String,
        /// The platform.
        wanted: Platform,
        /// The available platforms.
        have: Vec<String>,
    },
    /// Its documents contradict each other.
    #[error("{name} is not a valid image")]
    Image {
        /// The name.
        name: String,
        /// The cause.
        source: ImageError,
    },
    /// The name leads to another image than a lock says.
    #[error("{name} is {found} now, and ociforge.lock has {pinned}")]
    Changed {
        /// The name.
        name: String,
        /// The digest in the lock.
        pinned: Digest,
        /// The digest of the manifest that the name leads to.
        found: Digest,
    },
    /// The image in a lock no longer exists.
    #[error("{name} no longer has the image {pinned}, which ociforge.lock names")]
    Gone {
        /// The name.
        name: String,
        /// The digest in the lock.
        pinned: Digest,
    },
    /// It is another artifact than an image.
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
                Some(format!("the name has images for {}: choose one with --platform", have.join(", ")))
            }
            Self::Image { source: ImageError::Document(error), .. } => error.hint().map(Into::into),
            Self::Artifact { name, .. } => {
                Some(format!("`ociforge inspect {name}` shows its content, and `ociforge copy` copies it"))
            }
            Self::Changed { .. } => Some("`ociforge lock` pins the new image".into()),
            Self::Gone { .. } => Some("`ociforge lock` pins an image that exists".into()),
            Self::Platform { .. } | Self::Image { .. } => None,
        }
    }
}

impl ImageSource {
    /// Opens the image of `name`.
    ///
    /// # Errors
    /// When the source cannot be reached or does not have the name.
    pub async fn open(name: &ImageName, client: &Client) -> Result<Self, ContentError> {
        let OpenedImage { descriptor, bytes, source } = super::of(name).open(client).await?;
        let node = GraphNode::parse(&descriptor.media_type, bytes);
        let node = node.map_err(|error| Cause::from(error).of(format!("read {name}")))?;
        Ok(Self { name: name.to_string(), node, source })
    }

    /// The image for `platform`: the only image, or that of the index for this platform.
    ///
    /// # Errors
    /// When there is no image for the platform, or it is invalid.
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

    /// The image for `platform`. Without `platform`, the image for `usual`, or the only image for any platform.
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

/// The image of a manifest, whose config is in `source`. The inner error is that of an invalid image.
pub(super) async fn read_image(
    source: &dyn Source,
    manifest: Document<Manifest>,
) -> Result<Result<Image, ImageError>, ContentError> {
    let config = read_document(source, &manifest.config).await?;
    Ok(Document::parse(config).map_err(ImageError::from).and_then(|config| Image::new(manifest, config)))
}
