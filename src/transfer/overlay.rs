//! One source over another.

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::{Descriptor, Digest};
use std::collections::HashMap;

use crate::content::{ByteStream, Cause, ContentError, Repository, Source, in_memory};
use crate::store::Layout;

/// What is in memory, then what is in a layout, then what another source has: an image that was just built is its new
/// documents, its new layers in the store, and its base's layers in the base's registry.
#[derive(Default)]
pub struct Overlay<'a> {
    documents: HashMap<Digest, Bytes>,
    layout: Option<&'a Layout>,
    below: Option<&'a dyn Source>,
}

impl<'a> Overlay<'a> {
    /// A source of documents, a layout's blobs, and whatever `below` has.
    #[must_use]
    pub fn new(documents: &[&[u8]], layout: &'a Layout, below: Option<&'a dyn Source>) -> Self {
        let documents = documents.iter().map(|d| (Digest::of(d), Bytes::copy_from_slice(d))).collect();
        Self { documents, layout: Some(layout), below }
    }

    /// A source of one document.
    #[must_use]
    pub fn of_document(bytes: &[u8]) -> Self {
        Self { documents: [(Digest::of(bytes), Bytes::copy_from_slice(bytes))].into(), ..Self::default() }
    }

    fn in_layout(&self, descriptor: &Descriptor) -> Option<&'a Layout> {
        self.layout.filter(|layout| layout.blob_size(&descriptor.digest) == Some(descriptor.size))
    }
}

#[async_trait]
impl Source for Overlay<'_> {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        if let Some(document) = self.documents.get(&descriptor.digest) {
            return Ok(in_memory(document.clone(), offset));
        }
        if let Some(layout) = self.in_layout(descriptor) {
            return layout.fetch(descriptor, offset).await;
        }
        match self.below {
            Some(below) => below.fetch(descriptor, offset).await,
            None => Err(Cause::NotFound.of(format!("read {}", descriptor.digest))),
        }
    }

    /// Where the lowest source has the content, unless it is nearer by.
    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        let near = self.documents.contains_key(&descriptor.digest) || self.in_layout(descriptor).is_some();
        if near { None } else { self.below?.repository(descriptor) }
    }
}
