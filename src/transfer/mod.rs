//! The copy of images between stores: children before parents, each blob by the cheapest method.

mod convert;
mod graph;
mod image;
mod overlay;
mod places;
mod verifying;

use ociforge_manifests::graph::GraphNode;
use serde::Serialize;

use crate::content::{ContentError, Source, Target};
use crate::progress::Reporter;
use graph::GraphCopy;

pub use convert::AsOci;
pub use image::{Copied, ImageCopy};
pub use overlay::Overlay;
pub use places::Based;
pub use verifying::Verifying;

/// The default maximum of simultaneous transfers.
pub const DEFAULT_JOBS: usize = 4;

/// The bytes of the blobs of a copy, by method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Sent from this machine's disk or memory.
    pub uploaded: u64,
    /// Sent from one registry to another through this machine's memory.
    pub streamed: u64,
    /// Mounted by the target from another of its repositories.
    pub mounted: u64,
    /// Already in the target.
    pub present: u64,
    /// The number of written manifests and indexes, once for each tag.
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

/// Copies the descendants of `root`, then `root` itself under the names `tags`.
///
/// For each blob, the copy checks the target, tries to mount, and then pushes; `jobs` blobs at a time. A manifest is
/// written after all its children, so a tag never names an incomplete image.
///
/// # Errors
/// When content cannot be read or written, or does not match its descriptor.
pub async fn copy_graph(
    source: &dyn Source,
    target: &dyn Target,
    root: &GraphNode,
    tags: &[String],
    jobs: usize,
    reporter: &dyn Reporter,
) -> Result<Moved, ContentError> {
    let copy = GraphCopy::new(source, target, jobs, reporter);
    copy.children(root).await?;
    copy.root(root, tags).await?;
    Ok(copy.finish().0)
}
