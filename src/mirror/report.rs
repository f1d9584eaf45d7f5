//! The report of a mirror, as text and JSON.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Mirror, Problem};
use crate::bytes::{counted, human_bytes};
use crate::content::ContentError;
use crate::error::Failure;

/// The result of a mirror, or the expected result of a dry run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The source; `None` for the registries of the images' names.
    pub from: Option<String>,
    /// The destination.
    pub to: String,
    /// The base archive of the delta.
    pub since: Option<String>,
    /// The share.
    pub shard: Option<String>,
    /// Whether nothing was written, and the report has the planned actions.
    pub dry_run: bool,
    /// The images, in the order of the list.
    pub images: Vec<ImageReport>,
    /// The totals of all blobs.
    pub bytes: Bytes,
    /// How many manifests and indexes were read back and compared.
    pub verified: usize,
    /// Why nothing was mirrored at all; `images` then has the images that caused it.
    #[serde(serialize_with = "failure")]
    pub error: Option<Failure>,
}

/// The cause why nothing is mirrored.
#[derive(Debug, Clone)]
pub struct Refusal {
    failure: Failure,
    /// The faults of single images, if they are the cause.
    problems: Vec<Problem>,
}

impl Refusal {
    pub(super) fn of(problems: Vec<Problem>) -> Self {
        let message = format!("cannot mirror {}", counted(problems.len(), "image"));
        Self { failure: Problem::together(message, &problems), problems }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, problems: Vec::new() }
    }
}

impl From<ContentError> for Refusal {
    fn from(error: ContentError) -> Self {
        Failure::from(error).into()
    }
}

/// The result of one image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// Its full name.
    pub name: String,
    /// Its location; empty, and `null` in JSON, if unknown.
    #[serde(serialize_with = "known")]
    pub place: String,
    /// The digest of the manifest or index of the name at the target, or at the source before the copy. Empty, and
    /// `null` in JSON, if unknown.
    #[serde(serialize_with = "known")]
    pub digest: String,
    /// The result.
    pub status: Status,
    /// How many manifests and indexes it has, including those of its referrers.
    pub manifests: usize,
    /// How many signatures and other referrers were copied.
    pub referrers: usize,
    /// The origins of its blobs.
    pub bytes: Bytes,
    /// Whether all its manifests and indexes were read back and are equal.
    pub verified: bool,
    /// The cause of a failure.
    #[serde(serialize_with = "failure")]
    pub error: Option<Failure>,
}

/// The result of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// A dry run would copy it.
    Planned,
    /// It was copied, or the missing part of it.
    Copied,
    /// The target had all of it.
    Present,
    /// The copy failed. The blobs already copied stay at the target, without a name.
    Failed,
}

/// The origins of blobs, in bytes. A blob counts once for each image that has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Transferred through this machine.
    pub moved: u64,
    /// Mounted from another repository of the target's registry.
    pub mounted: u64,
    /// Already at the target or, for a delta, at its recipient.
    pub present: u64,
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        self.moved += other.moved;
        self.mounted += other.mounted;
        self.present += other.present;
    }
}

impl Mirror<'_> {
    /// The report when nothing is mirrored.
    #[must_use]
    pub fn refused(&self, refusal: Refusal, dry_run: bool) -> Report {
        let image = |Problem { name, failure }| ImageReport {
            name,
            place: String::new(),
            digest: String::new(),
            status: Status::Failed,
            manifests: 0,
            referrers: 0,
            bytes: Bytes::default(),
            verified: false,
            error: Some(failure),
        };
        let images = refusal.problems.into_iter().map(image).collect();
        Report { error: Some(refusal.failure), ..self.report(images, dry_run) }
    }
}

impl Report {
    /// The refusal, or the images that could not be copied, as one failure.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        if self.error.is_some() {
            return self.error.clone();
        }
        let failed = self.images.iter().filter_map(|image| {
            let failure = image.error.clone()?;
            Some(Problem { name: image.name.clone(), failure })
        });
        let failed: Vec<_> = failed.collect();
        let message = format!("{} of {} could not be mirrored", failed.len(), counted(self.images.len(), "image"));
        let mut failure = Problem::together(message, &failed);
        failure.hint.get_or_insert_with(|| "run the command again: it does not copy the same blobs twice".into());
        (!failed.is_empty()).then_some(failure)
    }
}

impl fmt::Display for Report {
    /// Writes a line for each image, and the totals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut failed = 0;
        for image in &self.images {
            let ImageReport { name, place, digest, bytes, .. } = image;
            let outcome = match image.status {
                Status::Planned => "to be copied: ",
                Status::Copied => "copied: ",
                Status::Present => "there already: ",
                Status::Failed => {
                    failed += 1;
                    writeln!(f, "{name} → {place} failed")?;
                    continue;
                }
            };
            let with = match image.referrers {
                0 => String::new(),
                count => format!(", with {}", counted(count, "referrer")),
            };
            writeln!(f, "{name} → {place}@{digest} {outcome}{bytes}{with}")?;
        }
        write!(f, "{}, {}", counted(self.images.len() - failed, "image"), self.bytes)?;
        if self.dry_run { Ok(()) } else { write!(f, "; {} verified", counted(self.verified, "manifest")) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [moved, mounted, present] = [self.moved, self.mounted, self.present].map(human_bytes);
        write!(f, "{moved} moved, {mounted} mounted, {present} present")
    }
}

fn known<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Some(text).filter(|text| !text.is_empty()).serialize(serializer)
}

fn failure<S: Serializer>(failure: &Option<Failure>, serializer: S) -> Result<S::Ok, S::Error> {
    let json = failure.as_ref().map(
        |Failure { message, causes, hint, .. }| serde_json::json!({"message": message, "causes": causes, "hint": hint}),
    );
    json.serialize(serializer)
}
