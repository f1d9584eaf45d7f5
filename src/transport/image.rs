//! Images to write, with the settings of the write.

use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{ImageName, Platform, Reference};

use super::ImageSource;
use crate::content::{Source, Target};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::registry::Client;
use crate::store::Layout;
use crate::transfer::{Copied, ImageCopy, Moved, Verifying, copy_graph};

/// An image to copy from one name to another.
pub struct ImageToCopy<'a> {
    /// Its source.
    pub from: ImageSource,
    /// Its name at the source.
    pub name: &'a ImageName,
    /// The platforms to copy; empty for all.
    pub platforms: &'a [Platform],
    /// The platform of this machine.
    pub here: &'a Platform,
    /// Whether to copy signatures and other referrers.
    pub referrers: bool,
    /// Whether to verify existing content of the target.
    pub verify_target: bool,
    /// The maximum number of simultaneous transfers.
    pub jobs: usize,
    /// The client of the target's registry.
    pub client: Client,
    /// The reporter of the progress.
    pub reporter: &'a dyn Reporter,
}

impl ImageToCopy<'_> {
    /// The tag for a destination without a tag.
    pub(super) fn tag(&self) -> String {
        super::of(self.name).tag().unwrap_or("latest").to_owned()
    }

    /// Its full name at the source.
    pub(super) fn full_name(&self) -> Option<Reference> {
        super::of(self.name).full_name()
    }

    /// Copies it to `target` under `tags`. `before_tags` is the prefix of the tags of its signatures.
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

/// A built image.
pub struct BuiltImage<'a> {
    /// The source of its documents and blobs.
    pub source: &'a dyn Source,
    /// The manifest or index.
    pub node: &'a GraphNode,
    /// The layout of the store of the build.
    pub store: &'a Layout,
    /// The maximum number of simultaneous transfers.
    pub jobs: usize,
    /// The client of registries.
    pub client: &'a Client,
    /// The reporter of the progress.
    pub reporter: &'a dyn Reporter,
}

impl BuiltImage<'_> {
    /// Copies it to `target` under `tags`.
    pub(super) async fn copy_to(&self, target: &dyn Target, tags: &[String]) -> Result<Moved, Failure> {
        Ok(copy_graph(self.source, target, self.node, tags, self.jobs, self.reporter).await?)
    }
}
