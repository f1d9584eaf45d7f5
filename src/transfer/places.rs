//! Two sources as one.

use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::Descriptor;

use crate::content::{ByteStream, ContentError, Named, Repository, Source};

/// An image whose base's layers may be where the base is: one that was built here has only its own in the store.
pub struct Based {
    /// Where the image is, whose names and referrers these are.
    pub image: Arc<dyn Named>,
    /// Where its base is.
    pub base: Arc<dyn Source>,
}

#[async_trait]
impl Source for Based {
    /// From where the image is, or else from where its base is.
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        match self.image.fetch(descriptor, offset).await {
            Err(error) if error.is_not_found() => self.base.fetch(descriptor, offset).await,
            fetched => fetched,
        }
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
