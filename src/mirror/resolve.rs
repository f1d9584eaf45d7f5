//! Resolution of selections to images.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use ociforge_manifests::graph::{GraphNode, media_type_of};
use ociforge_manifests::{Descriptor, DocumentError, ImageName, Platform, Reference};

use super::delta::BESIDE;
use super::destination::MirrorDestination;
use super::documents::Documents;
use super::origin::{CachedRepository, MirrorOrigin};
use super::selection::{Chooser, is_companion};
use super::{MAX_IMAGES, Mirror, NoTag, Problem, Selection, full, repository};
use crate::content::{Cause, ContentError, read_document};
use crate::error::Failure;

/// A selected image.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: Reference,
    /// The platforms of an index; empty for all.
    pub(super) platforms: Vec<Platform>,
}

/// A resolved image.
pub(super) struct MirrorImage {
    pub(super) wanted: Wanted,
    /// The descriptor of its manifest or index, which is read on demand.
    pub(super) root: Descriptor,
    /// Repositories that may have the blobs that a delta omits.
    pub(super) beside: Vec<String>,
    pub(super) read: Arc<CachedRepository>,
}

impl MirrorImage {
    /// The manifest or index.
    pub(super) async fn read_root(&self) -> Result<GraphNode, ContentError> {
        parse(&self.wanted.name, &self.root.media_type, read_document(&*self.read, &self.root).await?)
    }
}

impl Mirror<'_> {
    /// The selected images without duplicates, in the order of the list, and the problems of those that do not exist.
    pub(super) async fn wanted(&self, origin: &MirrorOrigin) -> Result<(Vec<Wanted>, Vec<Problem>), Failure> {
        let mut selections = self.selections.clone();
        if selections.is_empty()
            && let Some(entries) = origin.entries()
        {
            selections = self.everything(&entries);
        }
        let chosen = stream::iter(&selections).map(|selection| choose(origin, selection)).buffered(self.jobs.max(1));
        let chosen: Vec<_> = chosen.collect().await;
        let (mut wanted, mut problems): (Vec<Wanted>, Vec<Problem>) = (Vec::new(), Vec::new());
        let mut places: HashMap<String, usize> = HashMap::new();
        for (selection, chosen) in selections.iter().zip(chosen) {
            let names = match chosen {
                Ok(names) => names,
                Err(failure) => {
                    problems.push(Problem { name: selection.repository(), failure });
                    continue;
                }
            };
            for name in names {
                let platforms = selection.platforms.clone();
                match places.get(&full(&name)) {
                    Some(&at) => add_platforms(&mut wanted[at].platforms, platforms),
                    None => {
                        places.insert(full(&name), wanted.len());
                        wanted.push(Wanted { name, platforms });
                    }
                }
            }
        }
        if wanted.len() > MAX_IMAGES {
            return Err(Failure::from(NoTag::TooMany));
        }
        Ok((wanted, problems))
    }

    /// All images of a layout or an archive, by the names of its entries.
    fn everything(&self, entries: &[(String, Descriptor)]) -> Vec<Selection> {
        let mut selections = Vec::new();
        for (name, entry) in entries {
            if !entry.is_document() {
                let kind = entry.media_type.escape_debug();
                self.reporter
                    .warn(&format!("the entry `{name}` is skipped: it is neither an image nor an index ({kind})"));
                continue;
            }
            let parsed = match name.parse() {
                Ok(ImageName::Registry(parsed)) if *name == full(&parsed) || *name == repository(&parsed) => parsed,
                _ => {
                    let why = "is skipped: its name is not a full image name (HOST/REPOSITORY:TAG)";
                    self.reporter.warn(&format!("the entry `{name}` {why}"));
                    continue;
                }
            };
            // Signatures and other companions are copied with their image.
            if !parsed.tag().is_some_and(is_companion) {
                let platforms = self.platforms.clone();
                selections.push(Selection { name: parsed, tags: vec![], exclude: vec![], platforms, latest: None });
            }
        }
        selections
    }

    /// Reads the manifests and indexes of the selected images, and reports names that collide.
    pub(super) async fn resolve(
        &self,
        wanted: Vec<Wanted>,
        origin: &MirrorOrigin,
        destination: &MirrorDestination<'_>,
    ) -> (Vec<MirrorImage>, Vec<Problem>) {
        let mut by_address: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, one) in wanted.iter().enumerate() {
            by_address.entry(destination.address(&one.name)).or_default().push(at);
        }
        let here = |at: usize| self.shard.is_none_or(|shard| shard.takes(&full(&wanted[at].name)));
        // A runner that has one of several names with the same address examines all of them.
        let mut looked_at: Vec<usize> =
            by_address.values().filter(|together| together.iter().any(|at| here(*at))).flatten().copied().collect();
        looked_at.sort_unstable();
        let documents = Arc::<Documents>::default();
        let mut repositories: HashMap<String, Arc<CachedRepository>> = HashMap::new();
        let mut problems = Vec::new();
        let mut found = Vec::new();
        for at in looked_at {
            let name = &wanted[at].name;
            let known = repositories.get(&repository(name)).cloned();
            let new =
                || origin.repository(name).map(|found| Arc::new(CachedRepository::new(found, Arc::clone(&documents))));
            match known.map_or_else(new, Ok) {
                Ok(read) => {
                    repositories.insert(repository(name), read.clone());
                    found.push((wanted[at].clone(), read));
                }
                Err(error) => problems.push(Problem::of(name, error)),
            }
        }
        let roots = stream::iter(&found).map(|(wanted, read)| root(origin, &wanted.name, read));
        let roots: Vec<_> = roots.buffered(self.jobs.max(1)).collect().await;
        let mut images = Vec::new();
        for ((wanted, read), root) in found.into_iter().zip(roots) {
            match root {
                Ok((root, beside)) => images.push(MirrorImage { wanted, root, beside, read }),
                Err(error) => problems.push(Problem::of(&wanted.name, error)),
            }
        }
        problems.extend(collisions(&images, destination));
        images.retain(|image| self.shard.is_none_or(|shard| shard.takes(&full(&image.wanted.name))));
        (images, problems)
    }
}

/// The names that a selection matches.
async fn choose(origin: &MirrorOrigin, selection: &Selection) -> Result<Vec<Reference>, Failure> {
    let name = &selection.name;
    if name.digest().is_some() {
        return Ok(vec![name.clone()]);
    }
    let mut chooser = Chooser::of(selection);
    if selection.needs_listing() {
        origin.repository(name)?.show_tags(&mut chooser).await?;
    }
    let tags = chooser.finish()?;
    let named = |tag| Reference::with_tag(name.registry().to_owned(), name.repository().to_owned(), tag);
    Ok(tags.into_iter().map(named).collect())
}

async fn root(
    origin: &MirrorOrigin,
    name: &Reference,
    read: &CachedRepository,
) -> Result<(Descriptor, Vec<String>), ContentError> {
    let (descriptor, bytes) = origin.read(name, read).await?;
    // No `await` while the document is in memory. The walk of the graph reports its other faults.
    let kind = media_type_of(&descriptor.media_type, &bytes).map_err(|error| unreadable(name, error))?;
    let root = Descriptor::new(kind.unwrap_or_default(), descriptor.digest, descriptor.size);
    read.keep(&root.digest, &bytes);
    let beside = descriptor.annotations.get(BESIDE).map(|names| names.split(',').map(str::to_owned).collect());
    Ok((root, beside.unwrap_or_default()))
}

fn parse(name: &Reference, media_type: &str, bytes: Vec<u8>) -> Result<GraphNode, ContentError> {
    GraphNode::parse(media_type, bytes).map_err(|error| unreadable(name, error))
}

fn unreadable(name: &Reference, error: DocumentError) -> ContentError {
    Cause::from(error).of(format!("read the manifest of {}", full(name)))
}

/// The union of both lists; an empty list means all platforms.
fn add_platforms(platforms: &mut Vec<Platform>, more: Vec<Platform>) {
    if platforms.is_empty() || more.is_empty() {
        platforms.clear();
        return;
    }
    for platform in more {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
}

/// Different images with the same address at the target.
fn collisions(images: &[MirrorImage], destination: &MirrorDestination<'_>) -> Vec<Problem> {
    let mut first: HashMap<String, &MirrorImage> = HashMap::new();
    let mut problems = Vec::new();
    for image in images {
        let address = destination.address(&image.wanted.name);
        let Some(other) = first.get(&address) else {
            first.insert(address, image);
            continue;
        };
        let same = other.root.digest == image.root.digest;
        if !same || other.wanted.platforms != image.wanted.platforms {
            let failure = Failure::new(format!(
                "{} is another image with the same destination {address}",
                full(&other.wanted.name)
            ))
            .hint("give one of them another destination with a --to of its own");
            problems.push(Problem { name: full(&image.wanted.name), failure });
        }
    }
    problems
}
