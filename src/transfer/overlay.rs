//! A source that combines others.

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::{Descriptor, Digest};
use std::collections::HashMap;

use crate::content::{ByteStream, Cause, ContentError, Repository, Source, in_memory};
use crate::store::Layout;

/// Content in memory, then in a layout, then in another source: a new image consists of its documents, its layers in
/// the store, and its base's layers in the base's registry.
#[derive(Default)]
pub struct Overlay<'a> {
    documents: HashMap<Digest, Bytes>,
    layout: Option<&'a Layout>,
    below: Option<&'a dyn Source>,
}

impl<'a> Overlay<'a> {
    /// A source of documents, of a layout's blobs, and of the content of `below`.
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

    fn location(&self, descriptor: &Descriptor) -> String {
        match (self.in_layout(descriptor), self.below) {
            (Some(layout), _) => layout.location(descriptor),
            (None, Some(below)) => below.location(descriptor),
            (None, None) => "the documents of the image".into(),
        }
    }

    /// The repository of the lowest source, unless the content is in memory or in the layout.
    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        let near = self.documents.contains_key(&descriptor.digest) || self.in_layout(descriptor).is_some();
        if near { None } else { self.below?.repository(descriptor) }
    }
}
