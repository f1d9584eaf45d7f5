//! Copying an image with all that belongs to it: its platforms, its signatures and other referrers.

use std::collections::HashSet;

use ociforge_manifests::graph::Node;
use ociforge_manifests::{Descriptor, Digest, Platform};

use super::{Moved, copy_graph};
use crate::content::{ContentError, Named, Target};
use crate::progress::Reporter;

/// How images are copied from one place to another.
pub struct ImageCopy<'a> {
    /// Where they are.
    pub source: &'a dyn Named,
    /// Where they go.
    pub target: &'a dyn Target,
    /// What the target calls a tag of the source: a layout that holds several repositories has longer names.
    pub naming: &'a (dyn Fn(&str) -> String + Sync),
    /// The platforms to take of an index; all of it when empty.
    pub platforms: &'a [Platform],
    /// Whether referrers, and the tags that cosign gives its signatures, come along.
    pub referrers: bool,
    /// How many blobs move at a time.
    pub jobs: usize,
    /// Told of each blob.
    pub reporter: &'a dyn Reporter,
}

/// What came of one image.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The manifest or index that the name has at the target.
    pub root: Descriptor,
    /// What became of the blobs, referrers' included.
    pub moved: Moved,
    /// How many referrers came along.
    pub referrers: usize,
    /// All manifests and indexes that are at the target now, the root first, each once.
    pub documents: Vec<Descriptor>,
}
