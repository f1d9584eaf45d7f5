//! A cache of the layout's manifests.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::graph::{GraphNode, Index};
use ociforge_manifests::{Descriptor, Digest, Hasher};
use serde_json::{Value, json};

use super::names;
use crate::content::Cause;
use crate::store::Layout;

/// The maximum number of cached manifests.
const LIMIT: usize = 10_000;

/// The manifests of a layout. The content of a digest never changes, so it is cached.
#[derive(Debug)]
pub(super) struct ManifestCache {
    layout: Layout,
    known: Mutex<HashMap<Digest, Arc<ManifestFacts>>>,
}

/// The cached data of a manifest or index.
#[derive(Debug)]
pub(super) struct ManifestFacts {
    /// The manifest's own descriptor.
    pub(super) descriptor: Descriptor,
    /// Its subject.
    pub(super) subject: Option<Digest>,
    /// The manifest as an entry of a list of referrers.
    pub(super) referrer: Option<Value>,
    /// Its children: manifests of an index, or config and layers.
    pub(super) children: Vec<Digest>,
    /// Whether `children` are manifests.
    pub(super) is_index: bool,
}

impl ManifestFacts {
    fn of(node: &GraphNode, digest: Digest) -> Self {
        let descriptor = Descriptor::new(node.media_type(), digest, node.bytes().len() as u64);
        let subject = node.subject().map(|subject| subject.digest.clone());
        let referrer = subject.is_some().then(|| json!(node.as_referrer(&descriptor)));
        let children = node.children().into_iter().map(|child| child.digest.clone()).collect();
        Self { descriptor, subject, referrer, children, is_index: matches!(node, GraphNode::Index(_)) }
    }
}

impl ManifestCache {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, known: Mutex::new(HashMap::new()) }
    }

    /// The manifest of this digest; `None` if it is missing, damaged, or not a manifest.
    pub(super) fn get(&self, digest: &Digest) -> Result<Option<Arc<ManifestFacts>>, Cause> {
        let Some(size) = self.layout.blob_size(digest).filter(|size| *size <= MAX_DOCUMENT) else { return Ok(None) };
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = known().get(digest).filter(|facts| facts.descriptor.size == size) {
            return Ok(Some(Arc::clone(facts)));
        }
        let node = self.read(digest)?.and_then(|bytes| GraphNode::parse("", bytes).ok());
        let Some(facts) = node.map(|node| Arc::new(ManifestFacts::of(&node, digest.clone()))) else { return Ok(None) };
        let mut known = known();
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(digest.clone(), Arc::clone(&facts));
        Ok(Some(facts))
    }

    /// The verified bytes of the blob of this digest; `None` if it is missing or damaged.
    pub(super) fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Cause> {
        let bytes = match self.layout.read_blob(digest, MAX_DOCUMENT) {
            Err(Cause::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let mut hasher = Hasher::like(digest);
        hasher.update(&bytes);
        Ok((hasher.finish() == *digest).then_some(bytes))
    }

    /// The manifest of this digest, if it is in `repository`: listed there, or by an index in it.
    pub(super) fn find(&self, index: &Index, repository: &str, digest: &Digest) -> Result<Option<Descriptor>, Cause> {
        let mut listed = names::entries_of(&index.manifests, repository).filter(|entry| entry.digest == *digest);
        if let Some(entry) = listed.next() {
            let size = self.layout.blob_size(digest);
            return Ok(size.map(|size| Descriptor::new(&entry.media_type, digest.clone(), size)));
        }
        match self.holder(index, repository, digest)? {
            Some(_) => Ok(self.get(digest)?.map(|facts| facts.descriptor.clone())),
            None => Ok(None),
        }
    }

    /// An index in `repository` that lists the manifest of this digest.
    pub(super) fn holder(&self, index: &Index, repository: &str, digest: &Digest) -> Result<Option<Digest>, Cause> {
        let entries = names::entries_of(&index.manifests, repository).map(|entry| entry.digest.clone());
        self.search(entries.collect(), |facts| facts.is_index && facts.children.contains(digest))
    }

    /// A manifest anywhere in the layout that needs the blob of this digest.
    pub(super) fn user(&self, index: &Index, digest: &Digest) -> Result<Option<Digest>, Cause> {
        if index.manifests.iter().any(|entry| entry.digest == *digest) {
            return Ok(Some(digest.clone()));
        }
        let entries = index.manifests.iter().map(|entry| entry.digest.clone());
        self.search(entries.collect(), |facts| facts.children.contains(digest))
    }

    /// The first manifest among `waiting` and their descendants for which `wanted` is true.
    fn search(
        &self,
        mut waiting: Vec<Digest>,
        wanted: impl Fn(&ManifestFacts) -> bool,
    ) -> Result<Option<Digest>, Cause> {
        let mut seen: HashSet<Digest> = HashSet::new();
        while let Some(digest) = waiting.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            let Some(facts) = self.get(&digest)? else { continue };
            if wanted(&facts) {
                return Ok(Some(digest));
            }
            if facts.is_index {
                waiting.extend(facts.children.iter().cloned());
            }
        }
        Ok(None)
    }
}
