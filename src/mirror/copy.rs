//! Execution of a plan.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use super::delta::{BESIDE, SINCE};
use super::known_blobs::RecordingTarget;
use super::origin::MirrorSource;
use super::plan::{MirrorPlan, Planned};
use super::report::{Bytes, ImageReport, Report, Status};
use super::{Mirror, full, repository};
use crate::content::{Cause, ContentError, Named, verify};
use crate::error::Failure;
use crate::transfer::Copied;
use futures_util::{StreamExt, TryStreamExt, stream};

impl MirrorPlan<'_> {
    /// Copies the images in order, and reads all manifests back at the end. If an image fails, the others are still
    /// copied, unless `fail_fast` is set; an archive appears only if no image failed.
    ///
    /// # Errors
    /// When the target cannot be written at all. The report has the failures of single images.
    pub async fn carry_out(mut self) -> Result<Report, Failure> {
        let has = self.earlier.blobs.clone();
        self.destination.begin(Box::new(move |digest| has.contains_key(digest))).await?;
        let mut reports = Vec::new();
        let mut copied = Vec::new();
        for planned in &self.images {
            self.mirror.reporter.note(&format!("{} goes to {}", full(&planned.image.wanted.name), planned.shown));
            let (report, done) = self.image(planned).await;
            let failed = done.is_none();
            reports.push(report);
            copied.push(done);
            if failed && self.mirror.fail_fast {
                break;
            }
        }
        if self.mirror.to.is_archive() && !copied.iter().all(Option::is_some) {
            self.mirror
                .reporter
                .warn("the archive is incomplete, because images failed: ociforge keeps the partial file");
        } else {
            self.verify(&copied, &mut reports).await?;
        }
        Ok(self.mirror.report(reports, false))
    }

    async fn image(&self, planned: &Planned) -> (ImageReport, Option<Copied>) {
        match self.copy_image(planned).await {
            Ok((copied, written)) => {
                let status = if written == 0 { Status::Present } else { Status::Copied };
                let moved = copied.moved;
                let report = ImageReport {
                    digest: copied.root.digest.to_string(),
                    manifests: copied.documents.len(),
                    referrers: copied.referrers,
                    bytes: Bytes {
                        moved: moved.uploaded + moved.streamed,
                        mounted: moved.mounted,
                        present: moved.present,
                    },
                    ..planned.report(status)
                };
                (report, Some(copied))
            }
            Err(error) => {
                let report = ImageReport {
                    error: Some(error.into()),
                    bytes: Bytes::default(),
                    ..planned.report(Status::Failed)
                };
                (report, None)
            }
        }
    }

    async fn copy_image(&self, planned: &Planned) -> Result<(Copied, usize), ContentError> {
        let (image, known_blobs) = (&planned.image, &self.known_blobs);
        let destination = self.destination.image(&image.wanted.name, &image.root)?;
        let target = destination.target.as_deref().ok_or_else(|| {
            let message = "there is no destination".into();
            Cause::Other { message, hint: None }.of(format!("copy {}", full(&image.wanted.name)))
        })?;
        let annotations = &self.annotations(planned);
        let home = destination.home.as_ref();
        let (names, written) = (&planned.found.names, AtomicUsize::new(0));
        let watched = RecordingTarget {
            target,
            repository: &destination.repository,
            home,
            known_blobs,
            names,
            annotations,
            written,
        };
        let mirror_source = MirrorSource { read: &image.read, client: self.mirror.client, known_blobs, own: home };
        let naming = |tag: &str| format!("{}{tag}", destination.before_tags);
        let reporter = self.mirror.reporter;
        let root = image.read_root().await?;
        let copied =
            self.mirror.copy(image, &mirror_source, &watched, &naming, reporter).copy(&root, &destination.tags).await?;
        Ok((copied, watched.written.into_inner()))
    }

    /// The annotations of an image of a delta, which locate the omitted blobs.
    fn annotations(&self, planned: &Planned) -> BTreeMap<String, String> {
        if self.mirror.since.is_none() {
            return BTreeMap::new();
        }
        let blobs = planned.found.blobs.iter().map(|blob| &blob.digest);
        let beside = self.earlier.beside(blobs, &repository(&planned.image.wanted.name));
        let beside = (!beside.is_empty()).then_some((BESIDE, beside));
        let all = [(SINCE, self.earlier.name.clone())].into_iter().chain(beside);
        all.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Reads back the copied manifests and indexes, by name and by digest, and compares them with the source's.
    async fn verify(&mut self, copied: &[Option<Copied>], reports: &mut [ImageReport]) -> Result<(), Failure> {
        self.destination.finish().await?;
        let task = self.mirror.reporter.task("reading manifests back", None);
        for ((planned, copied), report) in self.images.iter().zip(copied).zip(reports.iter_mut()) {
            let Some(copied) = copied else { continue };
            let destination = self.destination.image(&planned.image.wanted.name, &copied.root)?;
            let Some(named) = destination.named else { continue };
            match self.mirror.compare(&*named, &destination.tags, copied).await {
                Ok(()) => report.verified = true,
                Err(error) => {
                    report.status = Status::Failed;
                    let what = format!("the manifest at {} differs from the copied manifest", planned.shown);
                    report.error = Some(Failure::from(error).during(what));
                }
            }
        }
        task.done("verified");
        Ok(())
    }
}

impl Mirror<'_> {
    async fn compare(&self, target: &dyn Named, tags: &[String], copied: &Copied) -> Result<(), ContentError> {
        for tag in tags {
            let operation = || format!("find `{tag}` at the target");
            let (named, _) = target.tagged(tag).await?.ok_or_else(|| Cause::NotFound.of(operation()))?;
            if named.digest != copied.root.digest {
                let (expected, actual) = (copied.root.digest.clone(), named.digest);
                return Err(Cause::WrongDigest { expected, actual }.of(operation()));
            }
        }
        let documents = stream::iter(&copied.documents).map(Ok);
        documents.try_for_each_concurrent(self.jobs.max(1), |document| verify(target, document)).await
    }

    pub(super) fn report(&self, images: Vec<ImageReport>, dry_run: bool) -> Report {
        let mut bytes = Bytes::default();
        images.iter().for_each(|image| bytes += image.bytes);
        let verified = images.iter().filter(|image| image.verified).map(|image| image.manifests).sum();
        Report {
            from: self.from.as_ref().map(ToString::to_string),
            to: self.to.to_string(),
            since: self.since.as_ref().map(ToString::to_string),
            shard: self.shard.map(|shard| shard.to_string()),
            dry_run,
            images,
            bytes,
            verified,
            error: None,
        }
    }
}
