//! The selection of the image for a platform from an index.

use std::collections::HashSet;

use ociforge_manifests::graph::{GraphNode, Index, Manifest};
use ociforge_manifests::{Descriptor, Digest, Document, Platform, media_type};

use super::{Cause, ContentError, Source, read_document};

/// The maximum depth of nested indexes. The specification has no limit; real images have at most two levels.
pub const MAX_DEPTH: usize = 4;

/// The maximum number of manifests that are read for their platforms.
const MAX_READ: usize = 1000;

/// The image for a platform.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The path of index entries to the image, the outermost first.
    pub path: Vec<Descriptor>,
    /// Its manifest.
    pub manifest: Document<Manifest>,
}

/// Finds the image for `wanted`. Entries with this platform come first, in their order; then entries without a platform
/// whose config has it, as in containerd. An entry may be an index.
///
/// The inner error means that the index has no such image. It contains the available platforms as text.
///
/// # Errors
/// When a manifest or config cannot be read.
pub async fn select(
    source: &dyn Source,
    index: &Index,
    wanted: &Platform,
) -> Result<Result<Selected, Vec<String>>, ContentError> {
    let mut search = Search { source, wanted, read: HashSet::new(), have: Vec::new() };
    let found = search.index(index, &[]).await?;
    search.have.dedup();
    Ok(found.ok_or(search.have))
}

/// The platform in the config of an image; `None` if the config has no platform or does not exist, as in a delta.
///
/// # Errors
/// When the config cannot be read.
pub async fn platform_of(source: &dyn Source, manifest: &Manifest) -> Result<Option<Platform>, ContentError> {
    if !media_type::is_config(&manifest.config.media_type) {
        return Ok(None);
    }
    match read_document(source, &manifest.config).await {
        Err(error) if error.is_not_found() => Ok(None),
        bytes => Ok(Platform::of_config(&bytes?)),
    }
}

struct Search<'a> {
    source: &'a dyn Source,
    wanted: &'a Platform,
    /// The inspected entries without a platform.
    read: HashSet<Digest>,
    have: Vec<String>,
}

impl Search<'_> {
    async fn index(&mut self, index: &Index, above: &[Descriptor]) -> Result<Option<Selected>, ContentError> {
        if above.len() == MAX_DEPTH {
            return Ok(None);
        }
        let documents = || index.manifests.iter().filter(|entry| entry.is_document());
        self.have.extend(index.platforms());
        for entry in documents() {
            if entry.platform.as_ref().is_some_and(|have| have.serves(self.wanted))
                && let Some(found) = self.entry(entry, above).await?
            {
                return Ok(Some(found));
            }
        }
        for entry in documents().filter(|entry| entry.platform.is_none()) {
            if self.read.insert(entry.digest.clone())
                && let Some(found) = self.entry(entry, above).await?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The image of the entry, directly or through an index, if it is for the platform.
    async fn entry(&mut self, entry: &Descriptor, above: &[Descriptor]) -> Result<Option<Selected>, ContentError> {
        if self.read.len() > MAX_READ {
            let message = format!("more than {MAX_READ} entries of the index have no platform");
            return Err(Cause::Other { message, hint: None }.of(format!("find the image for {}", self.wanted)));
        }
        let bytes = match read_document(self.source, entry).await {
            // An index need not be complete.
            Err(error) if error.is_not_found() && entry.platform.is_none() => return Ok(None),
            bytes => bytes?,
        };
        let node = GraphNode::parse(&entry.media_type, bytes);
        let path = [above, std::slice::from_ref(entry)].concat();
        match node.map_err(|error| Cause::from(error).of(format!("read {}", entry.digest)))? {
            GraphNode::Index(index) => Box::pin(self.index(&index, &path)).await,
            GraphNode::Manifest(manifest) if entry.platform.is_some() || self.is_for(&manifest).await? => {
                Ok(Some(Selected { path, manifest: *manifest }))
            }
            GraphNode::Manifest(_) => Ok(None),
        }
    }

    async fn is_for(&mut self, manifest: &Manifest) -> Result<bool, ContentError> {
        if manifest.artifact().is_some() {
            return Ok(false);
        }
        let Some(have) = platform_of(self.source, manifest).await? else { return Ok(false) };
        let fits = have.serves(self.wanted);
        self.have.push(have.to_string());
        Ok(fits)
    }
}
