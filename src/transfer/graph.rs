//! The copy of a graph of manifests and blobs.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{Descriptor, Digest, media_type};

use super::{Moved, Overlay};
use crate::content::{Cause, ContentError, MAX_DEPTH, Source, Target, read_document};
use crate::progress::Reporter;

/// A copy that visits each descriptor once.
pub(super) struct GraphCopy<'a> {
    source: &'a dyn Source,
    target: &'a dyn Target,
    jobs: usize,
    reporter: &'a dyn Reporter,
    moved: Mutex<Moved>,
    /// The visited digests, with whether they were visited as a document: one digest may be a blob of one parent and a
    /// manifest of another.
    seen: Mutex<HashSet<(Digest, bool)>>,
    documents: Mutex<Vec<Descriptor>>,
}

impl<'a> GraphCopy<'a> {
    pub(super) fn new(source: &'a dyn Source, target: &'a dyn Target, jobs: usize, reporter: &'a dyn Reporter) -> Self {
        let (moved, seen, documents) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { source, target, jobs: jobs.max(1), reporter, moved, seen, documents }
    }

    /// Copies all descendants of `node`.
    pub(super) async fn children(&self, node: &GraphNode) -> Result<(), ContentError> {
        self.descend(node, 0).await
    }

    /// Skips this descriptor everywhere.
    pub(super) fn leave_out(&self, descriptor: &Descriptor) {
        self.first(descriptor, descriptor.is_document());
    }

    /// Writes a manifest or index whose children are in the target, under the names `tags`.
    pub(super) async fn root(&self, root: &GraphNode, tags: &[String]) -> Result<(), ContentError> {
        let descriptor = root.descriptor();
        if tags.is_empty() {
            return self.document(&descriptor, root.bytes()).await;
        }
        self.target.tag_all(&descriptor, &root.shared(), tags).await?;
        self.count(|moved| moved.documents += tags.len() as u64);
        self.note(&descriptor);
        Ok(())
    }

    /// Copies a referrer with all its descendants. `false` if the source lists it but no longer has it.
    pub(super) async fn referrer(&self, descriptor: &Descriptor) -> Result<bool, ContentError> {
        let node = match self.read(descriptor).await {
            Err(error) if error.is_not_found() => {
                let digest = &descriptor.digest;
                self.reporter.warn(&format!("the referrer {digest} is listed, but it is missing: ociforge skips it"));
                return Ok(false);
            }
            node => node?,
        };
        self.children(&node).await?;
        // The annotations of a list entry do not belong to the manifest: one could give it a name.
        let descriptor = Descriptor::new(node.media_type(), descriptor.digest.clone(), descriptor.size);
        self.target.keep(&descriptor, node.bytes()).await?;
        self.note(&descriptor);
        self.count(|moved| moved.documents += 1);
        Ok(true)
    }

    /// The counts of the copy, and the manifests and indexes that are now in the target.
    pub(super) fn finish(self) -> (Moved, Vec<Descriptor>) {
        (*lock(&self.moved), self.documents())
    }

    /// The manifests and indexes that the target has so far.
    pub(super) fn documents(&self) -> Vec<Descriptor> {
        lock(&self.documents).clone()
    }

    async fn descend(&self, node: &GraphNode, depth: usize) -> Result<(), ContentError> {
        match node {
            GraphNode::Manifest(manifest) => {
                let blobs: Vec<_> =
                    manifest.layers.iter().chain([&manifest.config]).filter(|b| self.first(b, false)).collect();
                stream::iter(blobs).map(Ok).try_for_each_concurrent(self.jobs, |blob| self.blob(blob)).await
            }
            GraphNode::Index(index) => {
                if depth == MAX_DEPTH {
                    let message = format!("indexes are nested more than {MAX_DEPTH} levels deep");
                    return Err(Cause::Other { message, hint: None }.of(format!("copy {}", node.descriptor().digest)));
                }
                for child in index.manifests.iter().filter(|child| self.first(child, child.is_document())) {
                    if child.is_document() {
                        Box::pin(self.manifest(child, depth + 1)).await?;
                    } else {
                        self.unknown(child).await?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn manifest(&self, descriptor: &Descriptor, depth: usize) -> Result<(), ContentError> {
        let node = self.read(descriptor).await?;
        self.descend(&node, depth).await?;
        self.document(descriptor, node.bytes()).await
    }

    /// Copies an index entry of an unknown type as a blob: an unknown type must not be an error (image-spec,
    /// image-index.md).
    async fn unknown(&self, entry: &Descriptor) -> Result<(), ContentError> {
        match self.source.fetch(entry, 0).await {
            Err(error) if error.is_not_found() => {
                let Descriptor { digest, media_type, .. } = entry;
                let what = format!("{digest}, which the index lists as {}", media_type.escape_debug());
                self.reporter.warn(&format!("{what}, is missing: ociforge skips it"));
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => self.blob(entry).await,
        }
    }

    /// Reads a manifest or index of the source.
    pub(super) async fn read(&self, descriptor: &Descriptor) -> Result<GraphNode, ContentError> {
        let bytes = read_document(self.source, descriptor).await?;
        GraphNode::parse(&descriptor.media_type, bytes)
            .map_err(|error| Cause::from(error).of(format!("read {}", descriptor.digest)))
    }

    async fn document(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), ContentError> {
        if !self.target.contains(descriptor).await? {
            self.target.push(descriptor, &Overlay::of_document(bytes), &()).await?;
            self.count(|moved| moved.documents += 1);
        }
        self.note(descriptor);
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
        match self.target.push(blob, self.source, &*task).await {
            Err(error) if blob.is_elsewhere() && error.is_not_found() => {
                task.done("is elsewhere");
                return Ok(());
            }
            pushed => pushed?,
        }
        if origin.is_some() {
            self.count(|moved| moved.streamed += blob.size);
            task.done("streamed");
        } else {
            self.count(|moved| moved.uploaded += blob.size);
            task.done("copied");
        }
        Ok(())
    }

    fn note(&self, document: &Descriptor) {
        lock(&self.documents).push(document.clone());
    }

    /// Whether this is the first visit of the content in this copy, as a document or as a blob.
    fn first(&self, descriptor: &Descriptor, as_document: bool) -> bool {
        lock(&self.seen).insert((descriptor.digest.clone(), as_document))
    }

    fn count(&self, count: impl FnOnce(&mut Moved)) {
        count(&mut lock(&self.moved));
    }
}

fn kind(blob: &Descriptor) -> &'static str {
    let kind = blob.media_type.as_str();
    match kind {
        _ if kind.contains("config") || kind.contains("container.image") => "config",
        _ if media_type::is_layer(kind) => "layer",
        _ => "blob",
    }
}

/// The value, even after a panic of a thread that held it: each of these values is always consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
