//! Mirroring: copies many images, across a network gap if necessary.
//!
//! Before anything is written, the selected images (`selection`) are resolved (`resolve`, `origin`) and compared with
//! the target (`preflight`, `destination`), which gives a [`MirrorPlan`]. Then each image is copied (`copy`), and at
//! the end all manifests are read back. In between, only the descriptors of manifests are in memory (`documents`).

mod copy;
mod delta;
mod destination;
mod documents;
mod known_blobs;
mod location;
mod origin;
mod plan;
mod preflight;
mod report;
mod resolve;
mod selection;
mod shard;

use ociforge_manifests::{Platform, Reference};

use crate::error::{Explain, Failure};
use crate::progress::Reporter;
use crate::registry::Client;

pub use location::MirrorLocation;
pub use plan::MirrorPlan;
pub use report::{Bytes, ImageReport, Refusal, Report, Status};
pub use selection::{NoTag, Selection};
pub use shard::Shard;

/// Maximum number of images of a mirror. Each takes some hundred bytes of memory.
const MAX_IMAGES: usize = 100_000;

/// The images that a user wants to mirror.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// The destination, if the command line has none.
    pub to: Option<MirrorLocation>,
    /// The images, in the order of the list.
    pub images: Vec<Selection>,
}

/// A mirror: images, source and destination.
pub struct Mirror<'a> {
    /// The client of registries.
    pub client: &'a Client,
    /// The source of all images; `None` for the registries of their names.
    pub from: Option<MirrorLocation>,
    /// The destination.
    pub to: MirrorLocation,
    /// A layout or an archive that the recipient already has: the output is a delta.
    pub since: Option<MirrorLocation>,
    /// The selected images. Empty selects all images, and requires a layout or an archive as the source.
    pub selections: Vec<Selection>,
    /// The platforms if there are no selections; empty for all.
    pub platforms: Vec<Platform>,
    /// The share to mirror; `None` for all images.
    pub shard: Option<Shard>,
    /// Whether signatures and other referrers are copied.
    pub referrers: bool,
    /// How many blobs are transferred concurrently.
    pub jobs: usize,
    /// Whether to stop at the first image that cannot be copied.
    pub fail_fast: bool,
    /// Receives the progress.
    pub reporter: &'a dyn Reporter,
}

/// An image that cannot be mirrored, and the cause.
#[derive(Debug, Clone)]
struct Problem {
    name: String,
    failure: Failure,
}

impl Problem {
    fn of(name: &Reference, error: impl Explain) -> Self {
        Self { name: full(name), failure: error.into() }
    }

    /// All problems as one failure, with each problem as a cause.
    fn together(message: String, problems: &[Self]) -> Failure {
        let line = |problem: &Self| {
            let Failure { message, causes, .. } = &problem.failure;
            [&problem.name, message].into_iter().chain(causes).cloned().collect::<Vec<_>>().join(": ")
        };
        let hint = problems.iter().find_map(|problem| problem.failure.hint.clone());
        Failure { causes: problems.iter().map(line).collect(), hint, ..Failure::new(message) }
    }
}

/// `HOST/a/b`
fn repository(name: &Reference) -> String {
    format!("{}/{}", name.registry(), name.repository())
}

/// `HOST/a/b:t`, or `HOST/a/b@sha256:…` for an image without a tag.
fn full(name: &Reference) -> String {
    match (name.tag(), name.digest()) {
        (None, Some(digest)) => format!("{}@{digest}", repository(name)),
        (tag, _) => format!("{}:{}", repository(name), tag.unwrap_or("latest")),
    }
}
