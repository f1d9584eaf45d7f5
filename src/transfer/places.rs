//! A source of an image and its base.

use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::Descriptor;

use crate::content::{ByteStream, ContentError, Named, Repository, Source};

/// An image whose base layers may be in the source of the base: the store has only the own layers of an image that was
/// built here.
pub struct Based {
    /// The source of the image, with its names and referrers.
    pub image: Arc<dyn Named>,
    /// The source of its base.
    pub base: Arc<dyn Source>,
}

#[async_trait]
impl Source for Based {
    /// Fetches from the source of the image, or else from that of its base.
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        match self.image.fetch(descriptor, offset).await {
            Err(error) if error.is_not_found() => self.base.fetch(descriptor, offset).await,
            fetched => fetched,
        }
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.image.location(descriptor)
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.image.repository(descriptor).or_else(|| self.base.repository(descriptor))
    }
}

#[async_trait]
impl Named for Based {
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError> {
        self.image.tagged(tag).await
    }

    async fn tags(&self) -> Result<Vec<String>, ContentError> {
        self.image.tags().await
    }

    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        self.image.referrers(subject).await
    }
}
