//! Images that are written, with how that is to be done.

use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{ImageName, Platform, Reference};

use super::ImageSource;
use crate::content::{Source, Target};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::registry::Client;
use crate::store::Layout;
use crate::transfer::{Copied, ImageCopy, Moved, Verifying, copy_graph};

/// An image that is copied from one name to another.
pub struct ImageToCopy<'a> {
    /// Where it is.
    pub from: ImageSource,
    /// Its name there.
    pub name: &'a ImageName,
    /// The platforms to take; all when empty.
    pub platforms: &'a [Platform],
    /// The platform of this machine.
    pub here: &'a Platform,
    /// Whether signatures and other referrers come along.
    pub referrers: bool,
    /// Whether what the target has already is read before it is relied on.
    pub verify_target: bool,
    /// How many blobs move at a time.
    pub jobs: usize,
    /// Speaks to the target's registry.
    pub client: Client,
    /// Told of the progress.
    pub reporter: &'a dyn Reporter,
}

impl ImageToCopy<'_> {
    /// The tag that it gets where the name that it is copied to says none.
    pub(super) fn tag(&self) -> String {
        super::of(self.name).tag().unwrap_or("latest").to_owned()
    }

    /// The full name that it had.
    pub(super) fn full_name(&self) -> Option<Reference> {
        super::of(self.name).full_name()
    }

    /// Copies it to `target` under `tags`. `before_tags` stands there before the tags of its signatures.
    pub(super) async fn copy_to(
        &self,
        target: &dyn Target,
        tags: &[String],
        before_tags: &str,
    ) -> Result<Copied, Failure> {
        let verifying = Verifying::new(target, self.reporter);
        let copy = ImageCopy {
            source: &*self.from.source,
            target: if self.verify_target { &verifying } else { target },
            naming: &|tag: &str| format!("{before_tags}{tag}"),
            platforms: self.platforms,
            referrers: self.referrers,
            jobs: self.jobs,
            reporter: self.reporter,
        };
        Ok(copy.copy(&self.from.node, tags).await?)
    }
}

/// An image that was built.
pub struct BuiltImage<'a> {
    /// Where its documents and blobs are.
    pub source: &'a dyn Source,
    /// The manifest or index.
    pub node: &'a GraphNode,
    /// The layout of the store that it was built in.
    pub store: &'a Layout,
    /// How many blobs move at a time.
    pub jobs: usize,
    /// Speaks to registries.
    pub client: &'a Client,
    /// Told of the progress.
    pub reporter: &'a dyn Reporter,
}

impl BuiltImage<'_> {
    /// Copies it to `target` under `tags`.
    pub(super) async fn copy_to(&self, target: &dyn Target, tags: &[String]) -> Result<Moved, Failure> {
        Ok(copy_graph(self.source, target, self.node, tags, self.jobs, self.reporter).await?)
    }
}
