//! Conversion of images to the OCI format.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ociforge_manifests::convert::{index_as_oci, manifest_as_oci};
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{Descriptor, Digest};

use crate::content::{ByteStream, Cause, ContentError, MAX_DEPTH, Named, Repository, Source, in_memory, read_document};

/// An image whose Docker manifests, and the indexes that list them, are converted to OCI. All other content is that of
/// the source. Nothing refers to the new manifests.
pub struct AsOci {
    source: Arc<dyn Named>,
    documents: HashMap<Digest, Bytes>,
    /// The converted manifests and indexes by their old digests.
    became: HashMap<Digest, Descriptor>,
}

impl AsOci {
    /// Reads all manifests below `root` and returns the converted `root`; `None` if no manifest is Docker's.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub async fn new(source: Arc<dyn Named>, root: &GraphNode) -> Result<Option<(GraphNode, Self)>, ContentError> {
        let mut converted = Self { source, documents: HashMap::new(), became: HashMap::new() };
        let new = converted.convert(root, 0).await?;
        Ok(new.map(|new| (new, converted)))
    }

    async fn convert(&mut self, node: &GraphNode, depth: usize) -> Result<Option<GraphNode>, ContentError> {
        let old = node.descriptor().digest;
        let converted = match node {
            GraphNode::Manifest(manifest) => manifest_as_oci(manifest),
            GraphNode::Index(index) => {
                let entries = index.manifests.iter().filter(|entry| entry.is_document() && depth < MAX_DEPTH);
                for entry in entries {
                    if !self.became.contains_key(&entry.digest) {
                        let bytes = read_document(&*self.source, entry).await?;
                        let node =
                            GraphNode::parse(&entry.media_type, bytes).map_err(|error| failed(&entry.digest, error))?;
                        Box::pin(self.convert(&node, depth + 1)).await?;
                    }
                }
                index_as_oci(index, &self.became)
            }
        };
        let converted = converted.map_err(|error| failed(&old, error))?;
        if let Some(new) = &converted {
            let descriptor = new.descriptor();
            self.documents.insert(descriptor.digest.clone(), Bytes::copy_from_slice(new.bytes()));
            self.became.insert(old, descriptor);
        }
        Ok(converted)
    }
}

fn failed(digest: &Digest, error: ociforge_manifests::DocumentError) -> ContentError {
    Cause::from(error).of(format!("convert {digest}"))
}

#[async_trait]
impl Source for AsOci {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        match self.documents.get(&descriptor.digest) {
            Some(document) => Ok(in_memory(document.clone(), offset)),
            None => self.source.fetch(descriptor, offset).await,
        }
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.source.location(descriptor)
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.source.repository(descriptor)
    }
}

#[async_trait]
impl Named for AsOci {
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError> {
        self.source.tagged(tag).await
    }

    async fn tags(&self) -> Result<Vec<String>, ContentError> {
        self.source.tags().await
    }

    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        if self.documents.contains_key(&subject.digest) {
            return Ok(Vec::new());
        }
        self.source.referrers(subject).await
    }
}
