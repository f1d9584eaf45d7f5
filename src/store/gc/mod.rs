//! Garbage collection: what no manifest in a layout's index reaches goes.
//!
//! It is safe beside servers that work on the layout at the same time: the index can't change while it runs, and they let a
//! manifest in only when everything it needs is there. What somebody has brought, or found there and relies on, is young
//! (see [`Layout::claim_blob`]) and stays until its manifest has had time to come. Copies straight into the layout keep it
//! away ([`Hold`]).

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

/// How long what nothing reaches stays at least, unless the user says otherwise: an hour.
pub const KEEP_FOR: Duration = Duration::from_secs(60 * 60);

/// What is to be collected.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// How long ago something must have been touched last to be removed.
    pub keep_for: Duration,
    /// Whether manifests without a tag are garbage too.
    pub untagged: bool,
    /// Whether to count only.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { keep_for: KEEP_FOR, untagged: false, dry_run: false }
    }
}

/// What was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// Manifests without a tag that were taken out of the index; their blobs are counted below.
    pub manifests: u64,
    /// Blobs that were removed.
    pub blobs: u64,
    /// Unfinished uploads, blobs that came in part, and temporary files of killed processes, that were removed.
    pub unfinished: u64,
    /// Bytes of all that was removed.
    pub bytes: u64,
    /// Blobs that stay.
    pub kept_blobs: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// How many of them are reached by nothing, but too young.
    pub young_blobs: u64,
    /// What is listed as a manifest and is none. It stays, and whatever has its digest in it.
    pub unreadable_manifests: Vec<Digest>,
}

/// Removes what no manifest of the layout's index reaches, through indexes and subjects. With `untagged` also the
/// manifests that have no tag, unless an index or a referrer that stays needs them, or they refer to what stays.
///
/// # Errors
/// When the layout can't be read or written, somebody writes straight into it, or a manifest is not what its digest says, so
/// that nobody can tell what it needs: then nothing is removed. What only is listed as a manifest, which any client can
/// bring about, stays with all that is named in it.
pub fn collect(layout: &Layout, options: &GcOptions) -> Result<Collected, ContentError> {
    let operation = || format!("collect garbage in {}", layout.root().display());
    let before = SystemTime::now().checked_sub(options.keep_for).unwrap_or(SystemTime::UNIX_EPOCH);
    let alone = (!options.dry_run).then(|| hold::alone(layout)).transpose();
    let alone = alone.map_err(|error| Cause::Io(error).of(operation()))?;
    if matches!(alone, Some(None)) {
        let message = "an image is being copied into it".into();
        let hint = Some("try again when that is done".into());
        return Err(Cause::Other { message, hint }.of(operation()));
    }
    let lock = (!options.dry_run).then(|| layout.lock()).transpose();
    let lock = lock.map_err(|error| Cause::Io(error).of(operation()))?;
    if lock.is_some() {
        sweep::restore(layout).map_err(|error| Cause::Io(error).of(operation()))?;
    }
    let marked = mark(layout, before, options.untagged)?;
    if let Some(lock) = lock.as_ref().filter(|_| !marked.dropped.is_empty()) {
        // The index first: should this end half-way, there is more garbage, but nothing that misses a blob.
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

/// Whether an entry of the index is only there so that its manifest stays.
fn is_untagged(entry: &Descriptor) -> bool {
    !entry.annotations.contains_key(REF_NAME) && entry.annotations.contains_key(REPOSITORY)
}

#[cfg(test)]
mod tests;
