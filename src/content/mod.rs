//! Sources and targets of content-addressed content.
//!
//! A registry, an OCI layout, an archive and memory are a [`Source`]; most of them are a [`Target`], too. Pull, push,
//! mirror and save are the same copy between different sources and targets.

mod error;
mod memory;
mod platform;
mod reader;
mod verify;

use std::collections::BTreeSet;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use ociforge_manifests::Descriptor;

use crate::progress::Progress;

pub(crate) use error::GET_IMAGE_AGAIN;
pub use error::{Cause, ContentError, NotAllowed};
pub use memory::{in_memory, or_data};
pub use platform::{MAX_DEPTH, Selected, platform_of, select};
pub use reader::{BlobReader, read_on_thread};
pub(crate) use verify::{Verifier, may_read};
pub use verify::{cause_of, read_document, read_verified, verify};

/// Bytes as they arrive.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// A repository in a registry, from which another repository of the same registry may mount blobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    /// Host and port of its requests.
    pub registry: String,
    /// The repository's path, such as `nvidia/pytorch`.
    pub name: String,
}

/// A source of content.
#[async_trait]
pub trait Source: Send + Sync {
    /// The bytes of a blob or manifest, from `offset` on. They are not verified here: readers go through
    /// [`read_verified`] or [`read_document`], which end in an error, not in EOF, when size or digest is wrong.
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError>;

    /// The name of the repository, directory or file that has the content, for messages.
    fn location(&self, _descriptor: &Descriptor) -> String {
        "the source".into()
    }

    /// Where a target may mount the blob from, if it is in a registry.
    fn repository(&self, _descriptor: &Descriptor) -> Option<Repository> {
        None
    }
}

/// A target of content.
#[async_trait]
pub trait Target: Source {
    /// Whether the target already has the complete content.
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError>;

    /// Mounts the blob from another repository of the same registry. `false` if the target cannot or does not mount it:
    /// a refusal is a reason to push, not an error.
    async fn mount(&self, _descriptor: &Descriptor, _from: &Repository) -> Result<bool, ContentError> {
        Ok(false)
    }

    /// Writes the content of `descriptor` from `source` to the target, and verifies it. The target decides how often
    /// and from which offset it reads: retries and resumed uploads belong here. A failed push leaves no content.
    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError>;

    /// The bytes in the target itself, not in a mirror of it. They are not verified here.
    async fn stored(&self, descriptor: &Descriptor) -> Result<ByteStream, ContentError> {
        self.fetch(descriptor, 0).await
    }

    /// As [`Target::push`], for content of the target that is damaged. Not every target replaces content: the caller
    /// must read it again to know.
    async fn replace(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        self.push(descriptor, source, progress).await
    }

    /// Writes a manifest without a name. Its children must be in the target. It is found by its digest, and by its
    /// subject if it has one.
    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError>;

    /// Writes the manifest under the name `tag`. Its children must be in the target.
    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError>;

    /// As [`Self::tag`], with several tags.
    async fn tag_all(&self, manifest: &Descriptor, bytes: &Bytes, tags: &[String]) -> Result<(), ContentError> {
        for tag in tags {
            self.tag(manifest, bytes, tag).await?;
        }
        Ok(())
    }
}

/// Receives the tags of a list in any order, possibly with repetitions. There may be a million.
pub trait TagSink: Send {
    /// The list begins. A second call restarts the list and discards the earlier tags.
    fn begin(&mut self);

    /// One of the tags.
    fn take(&mut self, tag: &str);
}

impl TagSink for BTreeSet<String> {
    fn begin(&mut self) {
        self.clear();
    }

    fn take(&mut self, tag: &str) {
        self.insert(tag.to_owned());
    }
}

/// A source whose manifests have names and referrers: a repository of a registry, or the part of a layout or an archive
/// that belongs to a repository.
#[async_trait]
pub trait Named: Source {
    /// The verified manifest or index of `tag` with its bytes; `None` if the tag does not exist.
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError>;

    /// All tags, sorted by their bytes.
    async fn tags(&self) -> Result<Vec<String>, ContentError>;

    /// Passes all tags to `sink`, if possible without collecting them.
    async fn show_tags(&self, sink: &mut dyn TagSink) -> Result<(), ContentError> {
        let tags = self.tags().await?;
        sink.begin();
        tags.iter().for_each(|tag| sink.take(tag));
        Ok(())
    }

    /// The manifests whose `subject` is this one (distribution-spec, "Listing Referrers"), sorted by digest, including
    /// those of the tag `<algorithm>-<hex>` of the referrers tag schema.
    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError>;
}
