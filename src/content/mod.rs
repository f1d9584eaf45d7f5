//! Content-addressed things between stores: where they come from and where they go.
//!
//! A registry, an OCI layout, an archive and memory are all a [`Source`], and most are a [`Target`]. Pull, push, mirror
//! and save are one copy with other ends.

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
    /// Host and port, as they are spoken to.
    pub registry: String,
    /// The repository's path, such as `nvidia/pytorch`.
    pub name: String,
}

/// Something that content can be had from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The bytes of a blob or manifest, from `offset` on. They are not verified here: readers go through
    /// [`read_verified`] or [`read_document`], which end in an error, not in EOF, when size or digest is wrong.
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError>;

    /// Where a target may mount the blob from, if it is in a registry.
    fn repository(&self, _descriptor: &Descriptor) -> Option<Repository> {
        None
    }
}

/// Something that content can be put into.
#[async_trait]
pub trait Target: Source {
    /// Whether the content is there already, whole.
    async fn contains(&self, descriptor: &Descriptor) -> Result<bool, ContentError>;

    /// Makes the blob appear by taking it over from another repository of the same registry. `false` when that is not
    /// possible or the registry will not: any refusal is a reason to push, never an error.
    async fn mount(&self, _descriptor: &Descriptor, _from: &Repository) -> Result<bool, ContentError> {
        Ok(false)
    }

    /// Puts the content of `descriptor` there, read (verified) from `source`. The target decides how often and from
    /// which offset it reads: this is where retries and resumed uploads belong. When it fails nothing is there.
    async fn push(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError>;

    /// The bytes that are there themselves, and not those of a mirror. They are not verified here.
    async fn stored(&self, descriptor: &Descriptor) -> Result<ByteStream, ContentError> {
        self.fetch(descriptor, 0).await
    }

    /// The same as [`Target::push`] where content is there already that turned out to be damaged. Not every target lets it
    /// be replaced: whoever wants to know reads it again.
    async fn replace(
        &self,
        descriptor: &Descriptor,
        source: &dyn Source,
        progress: &dyn Progress,
    ) -> Result<(), ContentError> {
        self.push(descriptor, source, progress).await
    }

    /// Puts a manifest, whose children must be there, that is found by its digest, or by its subject if it has one, and
    /// not by a name.
    async fn keep(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), ContentError>;

    /// Puts the manifest, whose children must be there, and lets `tag` name it.
    async fn tag(&self, manifest: &Descriptor, bytes: &[u8], tag: &str) -> Result<(), ContentError>;

    /// The same with several tags.
    async fn tag_all(&self, manifest: &Descriptor, bytes: &Bytes, tags: &[String]) -> Result<(), ContentError> {
        for tag in tags {
            self.tag(manifest, bytes, tag).await?;
        }
        Ok(())
    }
}

/// Takes the tags of a list, in any order, perhaps some of them twice. There may be a million.
pub trait TagSink: Send {
    /// The list begins. When it began before, it begins anew, and what was taken is void.
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

/// A source whose manifests have names and referrers: a repository of a registry, or what of a layout or an archive
/// belongs to one.
#[async_trait]
pub trait Named: Source {
    /// The manifest or index that `tag` names, with its bytes, verified; `None` where there is no such tag.
    async fn tagged(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, ContentError>;

    /// All tags, sorted by their bytes.
    async fn tags(&self) -> Result<Vec<String>, ContentError>;

    /// Shows all tags to `sink`, without keeping them where that can be helped.
    async fn show_tags(&self, sink: &mut dyn TagSink) -> Result<(), ContentError> {
        let tags = self.tags().await?;
        sink.begin();
        tags.iter().for_each(|tag| sink.take(tag));
        Ok(())
    }

    /// The manifests whose `subject` is this one (distribution-spec, "Listing Referrers"), sorted by digest; none where
    /// nobody knows of any. Also what the tag `<algorithm>-<hex>` of the referrers tag schema lists.
    async fn referrers(&self, subject: &Descriptor) -> Result<Vec<Descriptor>, ContentError>;
}
