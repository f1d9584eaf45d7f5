//! The plan of a mirror, made before anything is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use futures_util::{StreamExt, stream};
use ociforge_manifests::Digest;
use tokio::sync::Semaphore;

use super::delta::{BaseArchive, SINCE};
use super::destination::{ImageDestination, MirrorDestination};
use super::known_blobs::KnownBlobs;
use super::origin::MirrorOrigin;
use super::preflight::{BlobOrigin, Preflight, PreflightResult};
use super::report::{Bytes, ImageReport, Refusal, Report, Status};
use super::resolve::MirrorImage;
use super::{Mirror, Problem, full};
use crate::bytes::{counted, human_bytes};
use crate::content::{Cause, ContentError, Named, Repository, Source, Target};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::transfer::ImageCopy;

/// Images with a manifest longer than this, in bytes, are examined one at a time.
const LARGE: u64 = 1 << 20;

/// The images of a mirror, and the origin of each of their blobs.
pub struct MirrorPlan<'a> {
    pub(super) mirror: &'a Mirror<'a>,
    pub(super) destination: MirrorDestination<'a>,
    pub(super) known_blobs: KnownBlobs,
    pub(super) earlier: BaseArchive,
    pub(super) images: Vec<Planned>,
    /// Held while an image with a large manifest is examined.
    one_large: Semaphore,
}

/// An image of a plan.
pub(super) struct Planned {
    pub(super) image: MirrorImage,
    pub(super) found: PreflightResult,
    /// Its name at the target.
    pub(super) shown: String,
    /// Its repository there.
    repository: String,
    home: Option<Repository>,
    pub(super) referrers: usize,
    pub(super) digest: Digest,
    bytes: Bytes,
}

impl Mirror<'_> {
    /// Resolves all images and locates their blobs. Writes nothing.
    ///
    /// # Errors
    /// When there is nothing to mirror; when images do not exist or collide at the target (the error lists all of
    /// them); when a blob is known to be missing; when the filesystem has too little space for the files.
    pub async fn plan(&self) -> Result<MirrorPlan<'_>, Refusal> {
        let task = self.reporter.task("looking up images", None);
        let origin = MirrorOrigin::open(self.from.as_ref(), self.client)?;
        let destination = MirrorDestination::open(&self.to, self.client)?;
        let earlier = match &self.since {
            Some(location) => BaseArchive::read(location).await?,
            None => BaseArchive::default(),
        };
        let (wanted, mut problems) = self.wanted(&origin).await?;
        if wanted.is_empty() && problems.is_empty() {
            return Err(self.nothing(&origin).into());
        }
        let (images, more) = self.resolve(wanted, &origin, &destination).await;
        problems.extend(more);
        if !problems.is_empty() {
            return Err(Refusal::of(problems));
        }
        task.done("found");
        let (known_blobs, one_large) = (KnownBlobs::default(), Semaphore::new(1));
        let mut plan = MirrorPlan { mirror: self, destination, known_blobs, earlier, images: Vec::new(), one_large };
        plan.images = plan.preflight(&origin, images).await?;
        plan.count();
        plan.check_blobs(&origin)?;
        plan.check_space()?;
        Ok(plan)
    }

    /// The error for an empty selection.
    fn nothing(&self, origin: &MirrorOrigin) -> Failure {
        let failure = Failure::new("there is nothing to mirror").usage();
        match (&self.from, origin.entries().as_deref()) {
            (Some(from), Some([(name, _), ..])) if self.selections.is_empty() => {
                let causes = vec![format!("the entries of {from} have no host in their names")];
                let hint = format!("copy them one by one with `ociforge copy {from}:{name} …`");
                Failure { causes, ..failure.hint(hint) }
            }
            _ => failure.hint("name images, or a list of them with -f FILE, or a layout or archive with --from"),
        }
    }

    /// The copy of one image.
    pub(super) fn copy<'c>(
        &'c self,
        image: &'c MirrorImage,
        source: &'c dyn Named,
        target: &'c dyn Target,
        naming: &'c (dyn Fn(&str) -> String + Sync),
        reporter: &'c dyn Reporter,
    ) -> ImageCopy<'c> {
        let platforms = &image.wanted.platforms;
        ImageCopy { source, target, naming, platforms, referrers: self.referrers, jobs: self.jobs, reporter }
    }
}

impl MirrorPlan<'_> {
    /// The report of the planned actions.
    #[must_use]
    pub fn report(&self) -> Report {
        let images = self.images.iter().map(|planned| planned.report(Status::Planned)).collect();
        self.mirror.report(images, true)
    }

    /// Walks through all images as the copy does. Images of one repository follow each other, so that no blob is
    /// queried twice.
    async fn preflight(&self, origin: &MirrorOrigin, images: Vec<MirrorImage>) -> Result<Vec<Planned>, Refusal> {
        let mut groups: BTreeMap<String, Vec<(usize, MirrorImage, ImageDestination)>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (at, image) in images.into_iter().enumerate() {
            match self.destination.image(&image.wanted.name, &image.root) {
                Ok(destination) => {
                    groups.entry(destination.repository.clone()).or_default().push((at, image, destination))
                }
                Err(error) => problems.push(Problem::of(&image.wanted.name, error)),
            }
        }
        let groups = stream::iter(groups.into_values()).map(|group| async {
            let mut surveyed = Vec::new();
            for (at, image, destination) in group {
                let one = self.survey_one(origin, &image, &destination).await;
                surveyed.push((at, one.map_err(|error| Problem::of(&image.wanted.name, error)), image, destination));
            }
            surveyed
        });
        let surveyed: Vec<_> = groups.buffer_unordered(self.mirror.jobs.max(1)).collect().await;
        let mut surveyed: Vec<_> = surveyed.into_iter().flatten().collect();
        surveyed.sort_unstable_by_key(|(at, ..)| *at);
        let mut planned = Vec::new();
        for (_, one, image, destination) in surveyed {
            let ImageDestination { repository, home, shown, .. } = destination;
            let bytes = Bytes::default();
            match one {
                Ok((digest, referrers, found)) => {
                    planned.push(Planned { image, found, shown, repository, home, referrers, digest, bytes });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            return Ok(planned);
        }
        Err(Refusal::of(problems))
    }

    async fn survey_one(
        &self,
        origin: &MirrorOrigin,
        image: &MirrorImage,
        destination: &ImageDestination,
    ) -> Result<(Digest, usize, PreflightResult), ContentError> {
        let task = self.mirror.reporter.task(&format!("looking for {}", full(&image.wanted.name)), None);
        let (known_blobs, since) = (&self.known_blobs, &self.earlier.blobs);
        let beside = image.beside.iter().filter_map(|name| self.destination.beside(name)).collect();
        let preflight = Preflight { origin, destination, beside, known_blobs, since, found: Mutex::default() };
        let naming = |tag: &str| format!("{}{tag}", destination.before_tags);
        let copy = self.mirror.copy(image, &*image.read, &preflight, &naming, &());
        let _one = if image.root.size > LARGE { self.one_large.acquire().await.ok() } else { None };
        let copied = copy.copy(&image.read_root().await?, &destination.tags).await?;
        task.done("looked for");
        let found = preflight.found.into_inner().unwrap_or_default();
        Ok((copied.root.digest, copied.referrers, found))
    }

    /// Counts each blob to transfer with the first image that has it; the other images find or mount it.
    fn count(&mut self) {
        let mut placed: HashMap<Digest, HashSet<&str>> = HashMap::new();
        for planned in &mut self.images {
            let source = planned.image.read.repository(&planned.image.root);
            let same_registry = source.zip(planned.home.as_ref()).is_some_and(|(a, b)| a.registry == b.registry);
            for blob in &planned.found.blobs {
                let places = placed.entry(blob.digest.clone()).or_default();
                let bytes = &mut planned.bytes;
                let count = if blob.whence == BlobOrigin::There || places.contains(planned.repository.as_str()) {
                    &mut bytes.present
                } else if same_registry || !places.is_empty() || self.known_blobs.home(&blob.digest).is_some() {
                    &mut bytes.mounted
                } else {
                    &mut bytes.moved
                };
                *count += blob.size;
                places.insert(&planned.repository);
            }
        }
    }

    /// Fails if a blob is neither at the source nor at the target.
    fn check_blobs(&self, origin: &MirrorOrigin) -> Result<(), Failure> {
        let mut missing: BTreeMap<&Digest, u64> = BTreeMap::new();
        let mut names = Vec::new();
        for planned in &self.images {
            let before = missing.len();
            let nowhere = planned.found.blobs.iter().filter(|blob| blob.whence == BlobOrigin::Missing);
            missing.extend(nowhere.map(|blob| (&blob.digest, blob.size)));
            if missing.len() > before {
                names.push(full(&planned.image.wanted.name));
            }
        }
        let Some(digest) = missing.keys().next() else { return Ok(()) };
        let from = self.mirror.from.as_ref().map(ToString::to_string).unwrap_or_default();
        let bytes = human_bytes(missing.values().sum());
        let blobs = counted(missing.len(), "blob");
        let message = format!("neither in {from} nor at the target: {blobs}, {bytes}");
        let causes = vec![format!("they are needed for {}; the first is {digest}", names.join(", "))];
        let entries = origin.entries().unwrap_or_default();
        let since = entries.iter().find_map(|(_, entry)| entry.annotations.get(SINCE));
        let hint = since.map_or_else(
            || "get the archive again from its origin".to_owned(),
            |since| format!("the archive is a delta: mirror {since} to the target first"),
        );
        Err(Failure { causes, ..Failure::new(message).hint(hint) })
    }

    /// Fails if a filesystem has too little space for the files.
    fn check_space(&self) -> Result<(), Failure> {
        let Some((path, partial)) = self.destination.files() else { return Ok(()) };
        let documents: HashMap<_, _> = self.images.iter().flat_map(|one| &one.found.documents).collect();
        let blobs: u64 = self.images.iter().map(|one| one.bytes.moved).sum();
        let need = (blobs + documents.into_values().sum::<u64>()).saturating_sub(partial);
        let above = existing(path);
        let free = rustix::fs::statvfs(&above).map_err(|error| {
            Failure::new(format!("cannot determine the free space of {}", above.display())).caused_by(error)
        })?;
        let free = free.f_bavail.saturating_mul(free.f_frsize);
        if need <= free {
            return Ok(());
        }
        let [need, free] = [need, free].map(human_bytes);
        Err(Failure::new(format!("there is not enough space for {}", self.mirror.to))
            .caused_by(Cause::Other { message: format!("the images need {need}, and {free} are free"), hint: None })
            .hint("nothing was written: free some space, or mirror fewer images"))
    }
}

impl Planned {
    /// The report of the image.
    pub(super) fn report(&self, status: Status) -> ImageReport {
        ImageReport {
            name: full(&self.image.wanted.name),
            place: self.shown.clone(),
            digest: self.digest.to_string(),
            status,
            manifests: self.found.documents.len(),
            referrers: self.referrers,
            bytes: self.bytes,
            verified: false,
            error: None,
        }
    }
}

/// The nearest ancestor of `path`, or the path itself, that exists.
fn existing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/")).to_owned()
}
