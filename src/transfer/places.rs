//! Several sources as one.

use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::Descriptor;

use crate::content::{ByteStream, Cause, ContentError, Source};

/// Places to look for content, one after the other: an image in the store may have its base's layers elsewhere.
pub struct Places(pub Vec<Arc<dyn Source>>);

#[async_trait]
impl Source for Places {
    /// From the first place that has it; else the error of the last.
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let mut error = Cause::NotFound.of(format!("read {}", descriptor.digest));
        for place in &self.0 {
            match place.fetch(descriptor, offset).await {
                Ok(stream) => return Ok(stream),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }
}
