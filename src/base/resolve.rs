//! Finding the image that is built on. No layer is downloaded.

use std::sync::Arc;

use ociforge_manifests::{Digest, Image, ImageName, Platform};

use crate::content::Source;
use crate::registry::Client;
use crate::transport::{ImageSource, ImageSourceError};

/// The image that is built on.
#[derive(Clone)]
pub struct BaseImage {
    /// Its manifest and config for one platform.
    pub image: Image,
    /// Where its layers are; `None` for `scratch`, which has none.
    pub source: Option<Arc<dyn Source>>,
    /// Its name as it was asked for; `None` for `scratch`.
    pub name: Option<ImageName>,
}

impl BaseImage {
    /// The image called `name`, or `scratch` without a name, for `platform`. Where `pinned` has a digest, that manifest
    /// is taken whatever the name leads to by now.
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
        let located = ImageSource::open(&exact, client).await?;
        let image = located.image(platform).await?;
        // A layout or an archive is not asked by digest.
        if let Some(pinned) = pinned.filter(|pinned| **pinned != image.manifest.digest()) {
            let (name, found) = (name.to_string(), image.manifest.digest());
            return Err(ImageSourceError::Changed { name, pinned: pinned.clone(), found });
        }
        Ok(Self { image, source: Some(located.source), name: Some(name.clone()) })
    }
}
