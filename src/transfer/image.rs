//! Copying an image with all that belongs to it: its platforms, its signatures and other referrers.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use ociforge_manifests::graph::{Index, Node};
use ociforge_manifests::{Descriptor, Digest, Platform, media_type};
use serde_json::Value;

use super::Moved;
use super::graph::GraphCopy;
use crate::content::{Cause, ContentError, Named, Target, read_document};
use crate::progress::Reporter;

/// The endings of the tags under which cosign keeps what belongs to the manifest `sha256-<hex>`.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// The annotation by which BuildKit files an attestation in an index, beside the manifest of this digest.
const ATTESTS: &str = "vnd.docker.reference.digest";

/// Most referrers of one image, those of referrers included: a list that grows for ever is none.
const MAX_REFERRERS: usize = 1000;

/// How images are copied from one place to another.
pub struct ImageCopy<'a> {
    /// Where they are.
    pub source: &'a dyn Named,
    /// Where they go.
    pub target: &'a dyn Target,
    /// What the target calls a tag of the source: a layout that holds several repositories has longer names.
    pub naming: &'a (dyn Fn(&str) -> String + Sync),
    /// The platforms to take of an index; all of it when empty. Of one platform it is its manifest that is copied, of
    /// several the index with no others: not every registry takes that.
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
    /// How many referrers and signatures came along.
    pub referrers: usize,
    /// All manifests and indexes that are at the target now, children before parents.
    pub documents: Vec<Descriptor>,
}

impl ImageCopy<'_> {
    /// Copies `root` and lets `tags`, as the target calls them, name it; without tags it is found by its digest. What
    /// refers to it is there before a tag is.
    ///
    /// # Errors
    /// As [`copy_graph`](super::copy_graph), and when there is no image for a platform.
    pub async fn copy(&self, root: &Node, tags: &[String]) -> Result<Copied, ContentError> {
        let copy = GraphCopy::new(self.source, self.target, self.jobs, self.reporter);
        let root = &self.chosen(root, &copy).await?;
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

    /// The document to copy: the root, or what it has for the only platform. What it has for others is left out.
    async fn chosen(&self, root: &Node, copy: &GraphCopy<'_>) -> Result<Node, ContentError> {
        let index = match (root, self.platforms) {
            (_, []) => return Ok(root.clone()),
            (Node::Manifest(manifest), _) => {
                self.is_for_platforms(&manifest.config).await?;
                return Ok(root.clone());
            }
            (Node::Index(index), _) => index,
        };
        let wanted = self.platforms.iter().map(|platform| for_platform(index, platform));
        let wanted: Vec<&Descriptor> = wanted.collect::<Result<_, _>>()?;
        if let [only] = wanted[..] {
            let bytes = read_document(self.source, only).await?;
            let node = Node::parse(&only.media_type, bytes);
            let node = node.map_err(|error| Cause::from(error).of(format!("read {}", only.digest)))?;
            // An index knows the platforms of what it lists.
            return if matches!(node, Node::Index(_)) { Box::pin(self.chosen(&node, copy)).await } else { Ok(node) };
        }
        let attested = |entry: &Descriptor| entry.annotations.get(ATTESTS).and_then(|text| text.parse::<Digest>().ok());
        let kept = |entry: &Descriptor| {
            wanted
                .iter()
                .any(|wanted| wanted.digest == entry.digest || attested(entry).as_ref() == Some(&wanted.digest))
        };
        index.manifests.iter().filter(|entry| !kept(entry)).for_each(|entry| copy.leave_out(entry));
        Ok(root.clone())
    }

    /// Fails when the config of an image says another platform than one that is wanted. Artifacts say none; a delta may
    /// have left the config out.
    async fn is_for_platforms(&self, config: &Descriptor) -> Result<(), ContentError> {
        if ![media_type::CONFIG, media_type::DOCKER_CONFIG].contains(&config.media_type.as_str()) {
            return Ok(());
        }
        let bytes = match read_document(self.source, config).await {
            Err(error) if error.is_not_found() => return Ok(()),
            bytes => bytes?,
        };
        let says: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let said = |key: &str| says[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (Some(os), Some(architecture)) = (said("os"), said("architecture")) else { return Ok(()) };
        let have = Platform { os, architecture, variant: said("variant"), ..Platform::default() };
        let Some(wanted) = self.platforms.iter().find(|wanted| !have.serves(wanted)) else { return Ok(()) };
        let message = format!("there is no image for {wanted}: it is for {have}");
        Err(Cause::Other { message, hint: None }.of(format!("copy the image for {wanted}")))
    }

    /// Copies what refers to `subjects`, and what refers to that, and counts it.
    async fn companions(&self, copy: &GraphCopy<'_>, mut subjects: Vec<Descriptor>) -> Result<usize, ContentError> {
        let mut seen: HashSet<Digest> = subjects.iter().map(|subject| subject.digest.clone()).collect();
        let mut count = 0;
        while !subjects.is_empty() {
            let found = stream::iter(std::mem::take(&mut subjects)).map(|subject| self.referring_to(subject));
            let found: Vec<_> = found.buffered(self.jobs.max(1)).try_collect().await?;
            for (referrers, tagged) in found {
                if count + referrers.len() + tagged.len() > MAX_REFERRERS {
                    let message = format!("more than {MAX_REFERRERS} signatures and other referrers belong to it");
                    let hint = Some("leave them with --no-referrers".into());
                    return Err(Cause::Other { message, hint }.of("copy what refers to the image"));
                }
                for referrer in referrers.into_iter().filter(|referrer| seen.insert(referrer.digest.clone())) {
                    if copy.referrer(&referrer).await? {
                        count += 1;
                        subjects.push(referrer);
                    }
                }
                for (tag, node) in tagged {
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

    /// The referrers of a manifest, and the tags by which cosign knows what belongs to it.
    async fn referring_to(&self, subject: Descriptor) -> Result<(Vec<Descriptor>, Vec<(String, Node)>), ContentError> {
        let mut tagged = Vec::new();
        for ending in COSIGN {
            let tag = format!("{}-{}.{ending}", subject.digest.algorithm(), subject.digest.hex());
            if let Some((descriptor, bytes)) = self.source.tagged(&tag).await? {
                let node = Node::parse(&descriptor.media_type, bytes);
                tagged.push((tag, node.map_err(|error| Cause::from(error).of(format!("read {}", descriptor.digest)))?));
            }
        }
        Ok((self.source.referrers(&subject).await?, tagged))
    }
}

fn for_platform<'i>(index: &'i Index, platform: &Platform) -> Result<&'i Descriptor, ContentError> {
    index.for_platform(platform).ok_or_else(|| {
        let have = index.platforms();
        let hint = (!have.is_empty()).then(|| format!("it has {}", have.join(", ")));
        let message = format!("there is no image for {platform}");
        Cause::Other { message, hint }.of(format!("copy the image for {platform}"))
    })
}
