//! Resolution of the base image, without downloading layers.

use std::sync::Arc;

use ociforge_manifests::{Digest, Image, ImageName, Platform};

use crate::content::Source;
use crate::registry::Client;
use crate::transport::{ImageSource, ImageSourceError};

/// The base image.
#[derive(Clone)]
pub struct BaseImage {
    /// Its manifest and config for one platform.
    pub image: Image,
    /// The source of its layers; `None` for `scratch`.
    pub source: Option<Arc<dyn Source>>,
    /// The requested name; `None` for `scratch`.
    pub name: Option<ImageName>,
}

impl BaseImage {
    /// The image `name`, or `scratch` without a name, for `platform`. If `pinned` has a digest, that manifest is used
    /// even if the name now refers to another one.
    ///
    /// # Errors
    /// When the image cannot be fetched, or not for the platform.
    pub async fn resolve(
        name: Option<&ImageName>,
        platform: &Platform,
        pinned: Option<&Digest>,
        client: &Client,
    ) -> Result<Self, ImageSourceError> {
        let Some(name) = name else {
            let scratch = |source| ImageSourceError::Image { name: "scratch".into(), source };
            let image = Image::scratch(platform).map_err(scratch)?;
            return Ok(Self { image, source: None, name: None });
        };
        let exact = match (name, pinned) {
            (ImageName::Registry(reference), Some(digest)) => {
                ImageName::Registry(reference.clone_with_digest(digest.to_string()))
            }
            _ => name.clone(),
        };
        let located = ImageSource::open(&exact, client).await.map_err(|error| match pinned {
            Some(pinned) if error.is_not_found() => {
                ImageSourceError::Gone { name: name.to_string(), pinned: pinned.clone() }
            }
            _ => error.into(),
        })?;
        let image = located.image(platform).await?;
        // The name of a layout or an archive cannot have a digest.
        if let Some(pinned) = pinned.filter(|pinned| **pinned != image.manifest.digest()) {
            let (name, found) = (name.to_string(), image.manifest.digest());
            return Err(ImageSourceError::Changed { name, pinned: pinned.clone(), found });
        }
        Ok(Self { image, source: Some(located.source), name: Some(name.clone()) })
    }
}
