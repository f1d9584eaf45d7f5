//! Copying images between stores: children before parents, each blob in the cheapest way that works.

mod image;
mod overlay;
mod places;

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::{StreamExt, TryStreamExt, stream};
use ociforge_manifests::graph::Node;
use ociforge_manifests::{Descriptor, Digest};
use serde::Serialize;

use crate::content::{Cause, ContentError, Source, Target, read_document};
use crate::progress::Reporter;

pub use image::{Copied, ImageCopy};
pub use overlay::Overlay;
pub use places::Places;

/// How deep indexes may lie inside indexes. The specification sets no bound; nobody makes more than two.
const MAX_DEPTH: usize = 4;

/// How many blobs move at a time unless told otherwise.
pub const DEFAULT_JOBS: usize = 4;

/// What became of the blobs of a copy, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Sent from this machine's disk or memory.
    pub uploaded: u64,
    /// Sent from one registry to another through this machine's memory.
    pub streamed: u64,
    /// Taken over by the target from another of its repositories.
    pub mounted: u64,
    /// There already.
    pub present: u64,
    /// How many manifests and configs were written.
    pub documents: u64,
}

impl std::ops::AddAssign for Moved {
    fn add_assign(&mut self, other: Self) {
        self.uploaded += other.uploaded;
        self.streamed += other.streamed;
        self.mounted += other.mounted;
        self.present += other.present;
        self.documents += other.documents;
    }
}

/// Copies what `root` needs, then `root` itself, and lets `tags` name it.
///
/// Each blob is looked for at the target, else mounted from where the source has it, else sent; `jobs` of them at a
/// time. A manifest is written when all that it points to is there, so a tag never names something incomplete.
///
/// # Errors
/// When content can't be read or written, or is not what its descriptor says.
pub async fn copy_graph(
    source: &dyn Source,
    target: &dyn Target,
    root: &Node,
    tags: &[String],
    jobs: usize,
    reporter: &dyn Reporter,
) -> Result<Moved, ContentError> {
    let copy = Copy { source, target, jobs: jobs.max(1), reporter, moved: Mutex::default(), seen: Mutex::default() };
    copy.children(root, 0).await?;
    let descriptor = root.descriptor();
    if tags.is_empty() {
        copy.document(&descriptor, root.bytes()).await?;
    }
    for tag in tags {
        target.tag(&descriptor, root.bytes(), tag).await?;
        copy.count(|moved| moved.documents += 1);
    }
    Ok(copy.moved.into_inner().unwrap_or_default())
}

struct Copy<'a> {
    source: &'a dyn Source,
    target: &'a dyn Target,
    jobs: usize,
    reporter: &'a dyn Reporter,
    moved: Mutex<Moved>,
    seen: Mutex<HashSet<Digest>>,
}

impl Copy<'_> {
    /// Copies all that `node` points to.
    async fn children(&self, node: &Node, depth: usize) -> Result<(), ContentError> {
        match node {
            Node::Manifest(manifest) => {
                let blobs: Vec<_> =
                    manifest.layers.iter().chain([&manifest.config]).filter(|b| self.first(b)).collect();
                stream::iter(blobs).map(Ok).try_for_each_concurrent(self.jobs, |blob| self.blob(blob)).await
            }
            Node::Index(index) => {
                if depth == MAX_DEPTH {
                    let message = format!("indexes lie more than {MAX_DEPTH} deep inside each other");
                    return Err(Cause::Other { message, hint: None }.of(format!("copy {}", node.descriptor().digest)));
                }
                for child in index.manifests.iter().filter(|child| self.first(child)) {
                    Box::pin(self.manifest(child, depth + 1)).await?;
                }
                Ok(())
            }
        }
    }

    async fn manifest(&self, descriptor: &Descriptor, depth: usize) -> Result<(), ContentError> {
        let bytes = read_document(self.source, descriptor).await?;
        let node = Node::parse(&descriptor.media_type, bytes)
            .map_err(|error| Cause::from(error).of(format!("read {}", descriptor.digest)))?;
        self.children(&node, depth).await?;
        self.document(descriptor, node.bytes()).await
    }

    async fn document(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        if !self.target.contains(descriptor).await? {
            self.target.push(descriptor, &Overlay::of_document(bytes), &()).await?;
            self.count(|moved| moved.documents += 1);
        }
        Ok(())
    }

    async fn blob(&self, blob: &Descriptor) -> Result<(), ContentError> {
        let task = self.reporter.task(&format!("{} {}", kind(blob), blob.digest.short()), Some(blob.size));
        if self.target.contains(blob).await? {
            self.count(|moved| moved.present += blob.size);
            task.done("exists");
            return Ok(());
        }
        let origin = self.source.repository(blob);
        if let Some(origin) = &origin
            && self.target.mount(blob, origin).await?
        {
            self.count(|moved| moved.mounted += blob.size);
            task.done("mounted");
            return Ok(());
        }
        self.target.push(blob, self.source, &*task).await?;
        if origin.is_some() {
            self.count(|moved| moved.streamed += blob.size);
            task.done("streamed");
        } else {
            self.count(|moved| moved.uploaded += blob.size);
            task.done("copied");
        }
        Ok(())
    }

    /// Whether this content is met for the first time in this copy.
    fn first(&self, descriptor: &Descriptor) -> bool {
        self.seen.lock().is_ok_and(|mut seen| seen.insert(descriptor.digest.clone()))
    }

    fn count(&self, count: impl FnOnce(&mut Moved)) {
        if let Ok(mut moved) = self.moved.lock() {
            count(&mut moved);
        }
    }
}

fn kind(blob: &Descriptor) -> &'static str {
    if blob.media_type.contains("config") || blob.media_type.contains("container.image") { "config" } else { "layer" }
}
