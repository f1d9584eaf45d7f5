//! `docker://`, and names without a transport: repositories of registries.

use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::{ImageName, Reference};

use super::{BuiltImage, ImageToCopy, OpenedImage, Transport};
use crate::content::{ContentError, Source};
use crate::error::Failure;
use crate::registry::Client;
use crate::transfer::{Copied, Moved};

pub(super) struct RegistryTransport<'a> {
    pub(super) reference: &'a Reference,
}

#[async_trait]
impl Transport for RegistryTransport<'_> {
    async fn open(&self, client: &Client) -> Result<OpenedImage, ContentError> {
        let remote = client.repository(self.reference);
        let (descriptor, bytes) = remote.resolve().await?;
        Ok(OpenedImage { descriptor, bytes, source: Arc::new(remote) })
    }

    async fn blobs(&self, client: &Client) -> Result<Arc<dyn Source>, ContentError> {
        Ok(Arc::new(client.repository(self.reference)))
    }

    async fn copy(&self, image: &ImageToCopy<'_>) -> Result<Copied, Failure> {
        let digest = image.from.node.descriptor().digest;
        let wanted = self.reference.digest();
        if wanted.is_some() && !image.platforms.is_empty() {
            let failure = Failure::new("the destination cannot have a digest with --platform");
            return Err(failure.hint("omit the digest of the destination").usage());
        }
        if wanted.is_some_and(|wanted| wanted != digest.as_str()) {
            return Err(Failure::new(format!("the image's digest is {digest}")).hint("omit the digest").usage());
        }
        let tags: Vec<String> = self.tag().map(str::to_owned).into_iter().collect();
        image.copy_to(&image.client.repository(self.reference), &tags, "").await
    }

    async fn write(&self, image: &BuiltImage<'_>, beside: &[ImageName]) -> Result<Moved, Failure> {
        let tag = |transport: &dyn Transport| transport.tag().unwrap_or("latest").to_owned();
        let others = beside.iter().map(|name| tag(&*super::of(name)));
        let tags: Vec<String> = [tag(self)].into_iter().chain(others).collect();
        image.copy_to(&image.client.repository(self.reference), &tags).await
    }

    fn tag(&self) -> Option<&str> {
        self.reference.tag()
    }

    fn full_name(&self) -> Option<Reference> {
        Some(self.reference.clone()).filter(|reference| reference.digest().is_none())
    }

    fn group(&self) -> Option<ImageName> {
        let (registry, repository) = (self.reference.registry().to_owned(), self.reference.repository().to_owned());
        Some(ImageName::Registry(Reference::with_tag(registry, repository, "latest".into())))
    }
}
