//! From what is wanted to images.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use ociforge_manifests::graph::Node;
use ociforge_manifests::{ImageName, Platform, Reference};

use super::delta::BESIDE;
use super::destination::Destination;
use super::origin::{Origin, Read};
use super::selection::is_companion;
use super::{Mirror, Problem, Selection, full, repository};
use crate::content::{Cause, ContentError};
use crate::error::Failure;

/// An image that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: Reference,
    /// Of an index; all when empty.
    pub(super) platforms: Vec<Platform>,
}

/// An image that is there.
pub(super) struct Image {
    pub(super) wanted: Wanted,
    pub(super) root: Node,
    /// Repositories that may have blobs which a delta leaves out.
    pub(super) beside: Vec<String>,
    pub(super) read: Arc<Read>,
}

impl Mirror<'_> {
    /// The images that are wanted, each once, in the order of the list, and what there is none of.
    pub(super) async fn wanted(&self, origin: &Origin) -> Result<(Vec<Wanted>, Vec<Problem>), Failure> {
        let mut selections = self.selections.clone();
        if selections.is_empty()
            && let Some(entries) = origin.entries()
        {
            selections = self.everything(entries.iter().map(|(name, _)| name.as_str()));
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
        Ok((wanted, problems))
    }

    /// All images of a layout or an archive, by the names of its entries.
    fn everything<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<Selection> {
        let mut selections = Vec::new();
        for name in names {
            let parsed = match name.parse() {
                Ok(ImageName::Registry(parsed)) if name == full(&parsed) || name == repository(&parsed) => parsed,
                _ => {
                    let why = "is no full name of an image, HOST/REPOSITORY:TAG, and is left out";
                    self.reporter.warn(&format!("the entry `{name}` {why}"));
                    continue;
                }
            };
            // What belongs to an image comes along with it.
            if !parsed.tag().is_some_and(is_companion) {
                let platforms = self.platforms.clone();
                selections.push(Selection { name: parsed, tags: vec![], exclude: vec![], platforms, latest: None });
            }
        }
        selections
    }

    /// Reads the manifests and indexes of what is wanted here, and tells of names that are in each other's way.
    pub(super) async fn resolve(
        &self,
        wanted: Vec<Wanted>,
        origin: &Origin,
        destination: &Destination,
    ) -> (Vec<Image>, Vec<Problem>) {
        let mut by_address: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, one) in wanted.iter().enumerate() {
            by_address.entry(destination.address(&one.name)).or_default().push(at);
        }
        let here = |at: usize| self.shard.is_none_or(|shard| shard.takes(&full(&wanted[at].name)));
        // Of names that lead to one place all are looked at by each runner that has one of them.
        let mut looked_at: Vec<usize> =
            by_address.values().filter(|together| together.iter().any(|at| here(*at))).flatten().copied().collect();
        looked_at.sort_unstable();
        let mut repositories: HashMap<String, Arc<Read>> = HashMap::new();
        let mut problems = Vec::new();
        let mut found = Vec::new();
        for at in looked_at {
            let name = &wanted[at].name;
            let known = repositories.get(&repository(name)).cloned();
            match known.map_or_else(|| origin.repository(name).map(|found| Arc::new(Read::new(found))), Ok) {
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
                Ok((root, beside)) => images.push(Image { wanted, root, beside, read }),
                Err(error) => problems.push(Problem::of(&wanted.name, error)),
            }
        }
        problems.extend(collisions(&images, destination));
        images.retain(|image| self.shard.is_none_or(|shard| shard.takes(&full(&image.wanted.name))));
        (images, problems)
    }
}

/// The names that a selection stands for.
async fn choose(origin: &Origin, selection: &Selection) -> Result<Vec<Reference>, Failure> {
    let name = &selection.name;
    if name.digest().is_some() {
        return Ok(vec![name.clone()]);
    }
    let have = if selection.needs_listing() { origin.repository(name)?.tags().await? } else { Vec::new() };
    let tags = selection.choose(&have).map_err(|none| Failure::new(none.to_string()))?;
    let named = |tag| Reference::with_tag(name.registry().to_owned(), name.repository().to_owned(), tag);
    Ok(tags.into_iter().map(named).collect())
}

async fn root(origin: &Origin, name: &Reference, read: &Read) -> Result<(Node, Vec<String>), ContentError> {
    let (descriptor, bytes) = origin.read(name, read).await?;
    let node = Node::parse(&descriptor.media_type, bytes)
        .map_err(|error| Cause::from(error).of(format!("read the manifest of {}", full(name))))?;
    let beside = descriptor.annotations.get(BESIDE).map(|names| names.split(',').map(str::to_owned).collect());
    Ok((node, beside.unwrap_or_default()))
}

/// All platforms of both; an empty list is all that there are.
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

/// Images that go to one place and are not the same.
fn collisions(images: &[Image], destination: &Destination) -> Vec<Problem> {
    let mut first: HashMap<String, &Image> = HashMap::new();
    let mut problems = Vec::new();
    for image in images {
        let address = destination.address(&image.wanted.name);
        let Some(other) = first.get(&address) else {
            first.insert(address, image);
            continue;
        };
        let same = other.root.descriptor().digest == image.root.descriptor().digest;
        if !same || other.wanted.platforms != image.wanted.platforms {
            let failure =
                Failure::new(format!("{} goes to {address} as well, and is another image", full(&other.wanted.name)))
                    .hint("give one of them another place with a --to of its own");
            problems.push(Problem { name: full(&image.wanted.name), failure });
        }
    }
    problems
}
