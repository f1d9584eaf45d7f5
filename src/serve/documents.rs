//! What the manifests of the layout say, read once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::graph::{Index, Node};
use ociforge_manifests::{Descriptor, Digest};
use serde_json::{Value, json};

use super::names;
use crate::store::Layout;

/// How many manifests are remembered.
const LIMIT: usize = 10_000;

/// The manifests of a layout. Contents never change under a digest, so what was read once is remembered.
#[derive(Debug)]
pub(super) struct Documents {
    layout: Layout,
    known: Mutex<HashMap<Digest, Arc<Facts>>>,
}

/// What the registry needs to know of a manifest or index.
#[derive(Debug)]
pub(super) struct Facts {
    /// The manifest's own descriptor.
    pub(super) descriptor: Descriptor,
    /// What it is a referrer of.
    pub(super) subject: Option<Digest>,
    /// The manifest as an entry of a list of referrers.
    pub(super) referrer: Option<Value>,
    /// What it needs: manifests for an index, config and layers otherwise.
    pub(super) children: Vec<Digest>,
    /// Whether `children` are manifests.
    pub(super) is_index: bool,
}

impl Facts {
    fn of(node: &Node, digest: Digest) -> Self {
        let descriptor = Descriptor::new(node.media_type(), digest, node.bytes().len() as u64);
        let subject = node.subject().map(|subject| subject.digest.clone());
        let referrer = subject.is_some().then(|| json!(node.as_referrer(&descriptor)));
        let children = node.children().into_iter().map(|child| child.digest.clone()).collect();
        Self { descriptor, subject, referrer, children, is_index: matches!(node, Node::Index(_)) }
    }
}

impl Documents {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, known: Mutex::new(HashMap::new()) }
    }

    /// What the blob of this digest says as a manifest; nothing when it is not there or is none.
    pub(super) fn get(&self, digest: &Digest) -> io::Result<Option<Arc<Facts>>> {
        let Some(size) = self.layout.blob_size(digest).filter(|size| *size <= MAX_DOCUMENT) else { return Ok(None) };
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = known().get(digest).filter(|facts| facts.descriptor.size == size) {
            return Ok(Some(Arc::clone(facts)));
        }
        let Some(facts) = self.read(digest)?.map(Arc::new) else { return Ok(None) };
        let mut known = known();
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(digest.clone(), Arc::clone(&facts));
        Ok(Some(facts))
    }

    fn read(&self, digest: &Digest) -> io::Result<Option<Facts>> {
        match fs::read(self.layout.blob_path(digest)) {
            Ok(bytes) => Ok(Node::parse("", bytes).ok().map(|node| Facts::of(&node, digest.clone()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The manifest of this digest, if it is in `repository`: listed there, or by an index that is there.
    pub(super) fn find(&self, index: &Index, repository: &str, digest: &Digest) -> io::Result<Option<Descriptor>> {
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
    pub(super) fn holder(&self, index: &Index, repository: &str, digest: &Digest) -> io::Result<Option<Digest>> {
        let entries = names::entries_of(&index.manifests, repository).map(|entry| entry.digest.clone());
        self.search(entries.collect(), |facts| facts.is_index && facts.children.contains(digest))
    }

    /// A manifest anywhere in the layout that needs the blob of this digest.
    pub(super) fn user(&self, index: &Index, digest: &Digest) -> io::Result<Option<Digest>> {
        if index.manifests.iter().any(|entry| entry.digest == *digest) {
            return Ok(Some(digest.clone()));
        }
        let entries = index.manifests.iter().map(|entry| entry.digest.clone());
        self.search(entries.collect(), |facts| facts.children.contains(digest))
    }

    /// The first manifest, among `waiting` and what they list, of which `wanted` holds.
    fn search(&self, mut waiting: Vec<Digest>, wanted: impl Fn(&Facts) -> bool) -> io::Result<Option<Digest>> {
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
