//! Deltas: archives that omit the blobs of an earlier archive.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::reference::EntryName;
use ociforge_manifests::{Descriptor, Digest};

use super::MirrorLocation;
use crate::content::{Cause, ContentError, Source, read_document};
use crate::store::layout::REF_NAME;
use crate::transport;

/// Annotation of ociforge on the images of a delta: the archive that the delta requires, as file name and digest of its
/// index.
pub(super) const SINCE: &str = "org.ociforge.delta.since";

/// Annotation of ociforge on the images of a delta: comma-separated repositories of the earlier archive that have the
/// omitted blobs. Registries keep blobs by repository, so the copy needs them to find the blobs.
pub(super) const BESIDE: &str = "org.ociforge.delta.repositories";

/// The contents of an earlier archive.
#[derive(Default)]
pub(super) struct BaseArchive {
    /// Its name in the delta's annotations.
    pub(super) name: String,
    /// The blobs of its images without manifests and indexes, and for each a repository that has it; empty if the
    /// repository is unknown.
    pub(super) blobs: HashMap<Digest, String>,
}

impl BaseArchive {
    /// Reads the manifests of all images of an archive or layout. If it is a delta itself, the blobs that it omits
    /// count too: whoever imported it had imported its base archive.
    pub(super) async fn read(location: &MirrorLocation) -> Result<Self, ContentError> {
        let MirrorLocation::Layout(image_name) = location else {
            let cause = Cause::Other { message: "a registry is not an archive".into(), hint: None };
            return Err(cause.of(format!("read {location}")));
        };
        let names = transport::of(image_name).names()?;
        let index = names.index();
        let path = image_name.path().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let name = format!("{name} (its index is {})", index.digest());
        let roots = index.manifests.iter().map(|entry| {
            let name = entry.annotations.get(REF_NAME).and_then(|name| EntryName::of(name).repository);
            (entry.clone(), name.unwrap_or_default().to_owned())
        });
        Ok(Self { name, blobs: blobs(&names, roots.collect()).await? })
    }

    /// The repositories other than `own` in which the earlier archive has some of these blobs, as the value of
    /// [`BESIDE`].
    pub(super) fn beside<'b>(&self, blobs: impl Iterator<Item = &'b Digest>, own: &str) -> String {
        let all = blobs.filter_map(|digest| self.blobs.get(digest)).filter(|name| !name.is_empty() && *name != own);
        all.map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
    }
}

/// The blobs of `roots`, without manifests and indexes. Skips entries of an index that do not exist.
async fn blobs(source: &dyn Source, roots: Vec<(Descriptor, String)>) -> Result<HashMap<Digest, String>, ContentError> {
    let mut blobs = HashMap::new();
    let mut seen = HashSet::new();
    // In reverse order, so that the first repository of a blob wins.
    let mut waiting = roots;
    while let Some((descriptor, repository)) = waiting.pop() {
        if !descriptor.is_document() {
            blobs.insert(descriptor.digest, repository);
            continue;
        }
        if !seen.insert(descriptor.digest.clone()) {
            continue;
        }
        let bytes = match read_document(source, &descriptor).await {
            Err(error) if error.is_not_found() => continue,
            bytes => bytes?,
        };
        let node = GraphNode::parse(&descriptor.media_type, bytes)
            .map_err(|error| Cause::from(error).of(format!("read {}", descriptor.digest)))?;
        waiting.extend(node.children().into_iter().map(|child| (child.clone(), repository.clone())));
    }
    Ok(blobs)
}
