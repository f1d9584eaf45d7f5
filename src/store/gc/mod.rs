//! Garbage collection: it removes blobs that are not reachable from a layout's index.
//!
//! It is safe while servers use the layout: the index is locked, and servers accept a manifest only when all its
//! children exist. Blobs that a client pushed or claimed are young (see [`Layout::claim_blob`]) and stay until their
//! manifest has had time to arrive. Direct copies into the layout prevent it ([`Hold`]).

mod hold;
mod mark;
mod named;
mod sweep;

use std::time::{Duration, SystemTime};

use ociforge_manifests::{Descriptor, Digest};
use serde::Serialize;

use super::layout::REF_NAME;
use super::{Layout, index::REPOSITORY};
use crate::content::{Cause, ContentError};
use mark::mark;
use sweep::Sweep;

pub use hold::Hold;
pub use sweep::sweep_uploads;

/// The default minimum age of removed blobs: an hour.
pub const KEEP_FOR: Duration = Duration::from_secs(60 * 60);

/// The settings of a collection.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// The minimum age of removed content since its last use.
    pub keep_for: Duration,
    /// Whether untagged manifests are garbage.
    pub untagged: bool,
    /// Whether to count without removing.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { keep_for: KEEP_FOR, untagged: false, dry_run: false }
    }
}

/// The result of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// Untagged manifests that were removed from the index; their blobs are counted below.
    pub manifests: u64,
    /// Removed blobs.
    pub blobs: u64,
    /// Removed unfinished uploads, partial blobs, and temporary files of killed processes.
    pub unfinished: u64,
    /// The bytes of all removed files.
    pub bytes: u64,
    /// Remaining blobs.
    pub kept_blobs: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// The number of remaining blobs that are unreachable but too young.
    pub young_blobs: u64,
    /// Digests that are listed as manifests and are none. They stay, with all digests in their content.
    pub unreadable_manifests: Vec<Digest>,
}

/// Removes all blobs that are not reachable from the layout's index, through indexes and subjects. With `untagged` also
/// untagged manifests, unless a remaining index or referrer needs them, or they refer to remaining manifests.
///
/// # Errors
/// When the layout cannot be read or written, has a direct writer, or has a manifest that does not match its digest, so
/// that its children are unknown: then nothing is removed. Content that is only listed as a manifest, which any client
/// can cause, stays with all digests in it.
pub fn collect(layout: &Layout, options: &GcOptions) -> Result<Collected, ContentError> {
    let operation = || format!("collect garbage in {}", layout.root().display());
    let before = SystemTime::now().checked_sub(options.keep_for).unwrap_or(SystemTime::UNIX_EPOCH);
    let alone = (!options.dry_run).then(|| hold::alone(layout)).transpose();
    let alone = alone.map_err(|error| Cause::Io(error).of(operation()))?;
    if matches!(alone, Some(None)) {
        let message = "another process is copying an image into the layout".into();
        let hint = Some("run the command again after the copy".into());
        return Err(Cause::Other { message, hint }.of(operation()));
    }
    let lock = (!options.dry_run).then(|| layout.lock()).transpose();
    let lock = lock.map_err(|error| Cause::Io(error).of(operation()))?;
    if lock.is_some() {
        sweep::restore(layout).map_err(|error| Cause::Io(error).of(operation()))?;
    }
    let marked = mark(layout, before, options.untagged)?;
    if let Some(lock) = lock.as_ref().filter(|_| !marked.dropped.is_empty()) {
        // The index is first: an interruption then leaves garbage, but no manifest without its blobs.
        let edited = lock.edit_index(|entries| entries.retain(|entry| !marked.dropped.contains(entry)));
        edited.map_err(|cause| cause.of(operation()))?;
    }
    let mut sweep = Sweep::new(before, options.dry_run);
    sweep.collected.manifests = marked.dropped.len() as u64;
    sweep.collected.unreadable_manifests = marked.unreadable;
    let swept = sweep.layout(layout, &marked.reached);
    swept.map_err(|error| Cause::Io(error).of(operation()))?;
    Ok(sweep.collected)
}

/// Whether an index entry exists only to keep its manifest.
fn is_untagged(entry: &Descriptor) -> bool {
    !entry.annotations.contains_key(REF_NAME) && entry.annotations.contains_key(REPOSITORY)
}

#[cfg(test)]
mod tests;
