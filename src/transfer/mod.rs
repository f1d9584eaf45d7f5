//! Copying images between stores: children before parents, each blob in the cheapest way that works.

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
    /// How many manifests and indexes were written, once for each tag.
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
