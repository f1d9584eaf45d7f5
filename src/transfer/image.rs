//! The copy of an image with its platforms, signatures and other referrers.

use std::borrow::Cow;
use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use ociforge_manifests::graph::{GraphNode, Index, Manifest};
use ociforge_manifests::{Descriptor, Digest, Platform, media_type};

use super::Moved;
use super::graph::GraphCopy;
use crate::content::{Cause, ContentError, Named, Target, platform_of, select};
use crate::progress::Reporter;

/// The suffixes of cosign's tags for the manifest `sha256-<hex>`.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// The annotation by which BuildKit marks an index entry as an attestation of the manifest of this digest.
const ATTESTS: &str = "vnd.docker.reference.digest";

/// The maximum number of referrers of one image, including those of referrers: it ends endless lists.
const MAX_REFERRERS: usize = 1000;

/// The maximum size in bytes of a signature's manifest that stays in memory until it is copied.
const KEPT: u64 = 1 << 20;

/// The manifest of a cosign tag. A long manifest is read again when it is copied.
type Tagged = (String, Descriptor, Option<GraphNode>);

/// The settings of a copy of images.
pub struct ImageCopy<'a> {
    /// The source.
    pub source: &'a dyn Named,
    /// The target.
    pub target: &'a dyn Target,
    /// The name at the target for a tag of the source: a layout with several repositories has longer names.
    pub naming: &'a (dyn Fn(&str) -> String + Sync),
    /// The platforms to copy from an index; empty for all. For one platform, its manifest is copied; for several, the
    /// index without the other manifests, which some registries refuse.
    pub platforms: &'a [Platform],
    /// Whether to copy referrers and cosign's signature tags.
    pub referrers: bool,
    /// The maximum number of simultaneous transfers.
    pub jobs: usize,
    /// The reporter of each blob's progress.
    pub reporter: &'a dyn Reporter,
}

/// The result for one image.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The manifest or index of the name at the target.
    pub root: Descriptor,
    /// The counts of the blobs, including those of referrers.
    pub moved: Moved,
    /// The number of copied referrers and signatures.
    pub referrers: usize,
    /// All manifests and indexes that are now in the target, children before parents.
    pub documents: Vec<Descriptor>,
}

impl ImageCopy<'_> {
    /// Copies `root` under the names `tags` of the target, or without a name. Its referrers are copied before the tags
    /// are set.
    ///
    /// # Errors
    /// As [`copy_graph`](super::copy_graph), and when there is no image for a platform.
    pub async fn copy(&self, root: &GraphNode, tags: &[String]) -> Result<Copied, ContentError> {
        let copy = GraphCopy::new(self.source, self.target, self.jobs, self.reporter);
        let root = &*self.chosen(root, &copy).await?;
        copy.children(root).await?;
        let mut referrers = 0;
        if self.referrers {
            let mut subjects = copy.documents();
            subjects.push(root.descriptor());
            referrers = self.companions(&copy, subjects).await?;
        }
        if tags.is_empty() {
            self.target.keep(&root.descriptor(), root.bytes()).await?;
        }
        copy.root(root, tags).await?;
        let (moved, documents) = copy.finish();
        Ok(Copied { root: root.descriptor(), moved, referrers, documents })
    }

    /// The document to copy: the root, or its manifest for the only platform. Other platforms are skipped.
    async fn chosen<'n>(&self, root: &'n GraphNode, copy: &GraphCopy<'_>) -> Result<Cow<'n, GraphNode>, ContentError> {
        let index = match (root, self.platforms) {
            (_, []) => return Ok(Cow::Borrowed(root)),
            (GraphNode::Manifest(manifest), _) => {
                self.is_for_platforms(manifest).await?;
                return Ok(Cow::Borrowed(root));
            }
            (GraphNode::Index(index), _) => index,
        };
        let mut kept = HashSet::new();
        for platform in self.platforms {
            let selected = select(self.source, index, platform).await?;
            let selected = selected.map_err(|have| no_image(platform, &have))?;
            if let [_] = self.platforms {
                return Ok(Cow::Owned(GraphNode::Manifest(Box::new(selected.manifest))));
            }
            kept.extend(selected.path.into_iter().map(|entry| entry.digest));
        }
        self.leave_others_out(index, &kept, copy).await?;
        Ok(Cow::Borrowed(root))
    }

    /// Skips all index entries except `kept` and their attestations.
    async fn leave_others_out(
        &self,
        index: &Index,
        kept: &HashSet<Digest>,
        copy: &GraphCopy<'_>,
    ) -> Result<(), ContentError> {
        let attested = |entry: &Descriptor| entry.annotations.get(ATTESTS).and_then(|text| text.parse::<Digest>().ok());
        for entry in &index.manifests {
            if !kept.contains(&entry.digest) && !attested(entry).is_some_and(|image| kept.contains(&image)) {
                copy.leave_out(entry);
            } else if media_type::is_index(&entry.media_type)
                && let GraphNode::Index(inner) = copy.read(entry).await?
            {
                Box::pin(self.leave_others_out(&inner, kept, copy)).await?;
            }
        }
        Ok(())
    }

    /// Fails if the config of an image has another platform than a requested one. Artifacts have no platform.
    async fn is_for_platforms(&self, manifest: &Manifest) -> Result<(), ContentError> {
        let Some(have) = platform_of(self.source, manifest).await? else { return Ok(()) };
        let Some(wanted) = self.platforms.iter().find(|wanted| !have.serves(wanted)) else { return Ok(()) };
        let message = format!("the image is for {have}, not for {wanted}");
        Err(Cause::Other { message, hint: None }.of(format!("copy the image for {wanted}")))
    }

    /// Copies the referrers of `subjects`, recursively, and returns their number.
    async fn companions(&self, copy: &GraphCopy<'_>, mut subjects: Vec<Descriptor>) -> Result<usize, ContentError> {
        let mut seen: HashSet<Digest> = subjects.iter().map(|subject| subject.digest.clone()).collect();
        let mut count = 0;
        while !subjects.is_empty() {
            let found = stream::iter(std::mem::take(&mut subjects)).map(|subject| self.referring_to(subject));
            let mut found = found.buffered(self.jobs.max(1));
            while let Some((referrers, tagged)) = found.try_next().await? {
                if count + referrers.len() + tagged.len() > MAX_REFERRERS {
                    let message = format!("the image has more than {MAX_REFERRERS} signatures and other referrers");
                    let hint = Some("skip them with --no-referrers".into());
                    return Err(Cause::Other { message, hint }.of("copy the referrers of the image"));
                }
                for referrer in referrers.into_iter().filter(|referrer| seen.insert(referrer.digest.clone())) {
                    if copy.referrer(&referrer).await? {
                        count += 1;
                        subjects.push(referrer);
                    }
                }
                for (tag, descriptor, node) in tagged {
                    let node = match node {
                        Some(node) => node,
                        None => copy.read(&descriptor).await?,
                    };
                    copy.children(&node).await?;
                    copy.root(&node, &[(self.naming)(&tag)]).await?;
                    count += 1;
                    let descriptor = node.descriptor();
                    subjects.extend(seen.insert(descriptor.digest.clone()).then_some(descriptor));
                }
            }
        }
        Ok(count)
    }

    /// The referrers of a manifest, and cosign's tags for it.
    async fn referring_to(&self, subject: Descriptor) -> Result<(Vec<Descriptor>, Vec<Tagged>), ContentError> {
        let mut tagged = Vec::new();
        for ending in COSIGN {
            let tag = format!("{}-{}.{ending}", subject.digest.algorithm(), subject.digest.hex());
            if let Some((descriptor, bytes)) = self.source.tagged(&tag).await? {
                let node = GraphNode::parse(&descriptor.media_type, bytes);
                let node = node.map_err(|error| Cause::from(error).of(format!("read {}", descriptor.digest)))?;
                tagged.push((tag, descriptor.clone(), Some(node).filter(|_| descriptor.size <= KEPT)));
            }
        }
        Ok((self.source.referrers(&subject).await?, tagged))
    }
}

fn no_image(platform: &Platform, have: &[String]) -> ContentError {
    let hint = (!have.is_empty()).then(|| format!("it has {}", have.join(", ")));
    let message = format!("the index has no image for {platform}");
    Cause::Other { message, hint }.of(format!("copy the image for {platform}"))
}
