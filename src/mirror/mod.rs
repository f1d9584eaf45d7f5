//! Mirroring: many images from where they are to where they are needed, a gap in the network between or not.
//!
//! What is wanted (`selection`) is looked up (`resolve`, `origin`) and looked for at the target (`preflight`,
//! `destination`) before anything is written: that is a [`MirrorPlan`]. Then each image is copied (`copy`), and at the end
//! everything is read back. In between only the descriptors of manifests are in memory (`documents`).

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

/// How many images are mirrored at a time at most. Each takes some hundred bytes of memory.
const MAX_IMAGES: usize = 100_000;

/// What a user wants mirrored.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// Where it goes unless the command line says otherwise.
    pub to: Option<MirrorLocation>,
    /// The images, in the order of the list.
    pub images: Vec<Selection>,
}

/// What is mirrored, from where to where.
pub struct Mirror<'a> {
    /// Speaks to registries.
    pub client: &'a Client,
    /// Where the images are found, if not in the registries of their names.
    pub from: Option<MirrorLocation>,
    /// Where they go.
    pub to: MirrorLocation,
    /// A layout or an archive that whoever gets the new one has already: a delta is written.
    pub since: Option<MirrorLocation>,
    /// What is wanted; all that there is when empty, which takes a layout or an archive to mirror from.
    pub selections: Vec<Selection>,
    /// The platforms to take when nothing is selected; all when empty.
    pub platforms: Vec<Platform>,
    /// The share to mirror; all without one.
    pub shard: Option<Shard>,
    /// Whether signatures and other referrers come along.
    pub referrers: bool,
    /// How many blobs move at a time.
    pub jobs: usize,
    /// Whether to end with the first image that can't be copied.
    pub fail_fast: bool,
    /// Told of the progress.
    pub reporter: &'a dyn Reporter,
}

/// An image that can't be mirrored, and why.
#[derive(Debug, Clone)]
struct Problem {
    name: String,
    failure: Failure,
}

impl Problem {
    fn of(name: &Reference, error: impl Explain) -> Self {
        Self { name: full(name), failure: error.into() }
    }

    /// All problems as one failure, in which each is a cause.
    fn together(message: String, problems: &[Self]) -> Failure {
        let line = |problem: &Self| {
            let Failure { message, causes, .. } = &problem.failure;
            [&problem.name, message].into_iter().chain(causes).cloned().collect::<Vec<_>>().join(": ")
        };
        let hint = problems.iter().find_map(|problem| problem.failure.hint.clone());
        Failure { causes: problems.iter().map(line).collect(), hint, ..Failure::new(message) }
    }
}

/// `1 image`, `2 images`
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
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
