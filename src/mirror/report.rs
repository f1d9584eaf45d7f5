//! What came of it, for people and for programs.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Mirror, Problem, counted};
use crate::bytes::human_bytes;
use crate::content::ContentError;
use crate::error::Failure;

/// What came of a mirror, or what will come of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Where the images are found; nothing where their names say it.
    pub from: Option<String>,
    /// Where they go.
    pub to: String,
    /// What the archive is a delta of.
    pub since: Option<String>,
    /// The share.
    pub shard: Option<String>,
    /// Whether nothing was written, and all is said of what would be.
    pub dry_run: bool,
    /// The images, in the order of the list.
    pub images: Vec<ImageReport>,
    /// All blobs together.
    pub bytes: Bytes,
    /// How many manifests and indexes were read back and compared.
    pub verified: usize,
    /// Why nothing was mirrored at all; then the images are those that are to blame.
    #[serde(serialize_with = "failure")]
    pub error: Option<Failure>,
}

/// Why nothing is mirrored.
#[derive(Debug, Clone)]
pub struct Refusal {
    failure: Failure,
    /// Of single images, when it is due to them.
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

/// What came of one image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// Its full name.
    pub name: String,
    /// Where it is now; empty, and `null` in JSON, where that was not found out.
    #[serde(serialize_with = "known")]
    pub place: String,
    /// The digest of the manifest or index that the name stands for there; before it was copied, at the source. Empty,
    /// and `null` in JSON, where it was not found out.
    #[serde(serialize_with = "known")]
    pub digest: String,
    /// What became of it.
    pub status: Status,
    /// How many manifests and indexes it has, with those of its referrers.
    pub manifests: usize,
    /// How many signatures and other referrers came along.
    pub referrers: usize,
    /// What became of its blobs.
    pub bytes: Bytes,
    /// Whether all its manifests and indexes were read back and are the same.
    pub verified: bool,
    /// Why it failed.
    #[serde(serialize_with = "failure")]
    pub error: Option<Failure>,
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It would be copied.
    Planned,
    /// It was copied, or what was missing of it.
    Copied,
    /// All of it was there.
    Present,
    /// It could not be copied. What was copied of it stays, without a name.
    Failed,
}

/// Where the blobs came from, in bytes. A blob counts once for each image that has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Through this machine.
    pub moved: u64,
    /// From another repository of the target's registry.
    pub mounted: u64,
    /// There already, with the target or, of a delta, with whoever gets it.
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
    /// What is told when nothing is mirrored.
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
    /// Why nothing was mirrored, or the images that could not be copied, as one failure.
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
    /// A line for each image, and the sum.
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
