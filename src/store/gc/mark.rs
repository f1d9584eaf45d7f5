//! Which blobs are needed.

use std::collections::HashSet;
use std::io;
use std::time::SystemTime;

use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{Descriptor, Digest, Hasher};
use serde_json::Value;

use super::is_untagged;
use super::named::named_in;
use super::sweep::has_older_blob;
use crate::content::{Cause, ContentError};
use crate::store::Layout;

/// What the layout needs.
pub(super) struct Marked {
    /// The blobs that are reached from the index.
    pub(super) reached: HashSet<Digest>,
    /// The entries of the index that nothing needs.
    pub(super) dropped: Vec<Descriptor>,
    /// What is listed as a manifest and is none, sorted.
    pub(super) unreadable: Vec<Digest>,
}

/// Follows the manifests of the index. Entries without a tag that were touched after `before` count as needed.
pub(super) fn mark(layout: &Layout, before: SystemTime, untagged: bool) -> Result<Marked, ContentError> {
    let index = layout.index().and_then(|index| has_index(layout, before).map(|()| index));
    let index = index.map_err(|cause| cause.of(format!("read the index of {}", layout.root().display())))?;
    let is_old = |entry: &Descriptor| layout.blob_facts(&entry.digest).is_some_and(|facts| facts.is_older(before));
    let garbage = |entry: &&Descriptor| untagged && is_untagged(entry) && is_old(entry);
    let (garbage, roots): (Vec<&Descriptor>, Vec<&Descriptor>) = index.manifests.iter().partition(garbage);
    let mut marker = Marker { layout, reached: HashSet::new(), read: HashSet::new(), unreadable: HashSet::new() };
    marker.follow(roots)?;
    let looked = garbage.into_iter().map(|entry| Ok((entry, marker.look(entry)?)));
    let mut unneeded = looked.collect::<Result<Vec<_>, _>>()?;
    // Referrers of what stays do stay, and so do those of these, and what nobody can tell of whose referrer it is.
    loop {
        let reached = |digest: &Digest| marker.reached.contains(digest);
        let stays = |(entry, looked): &(&Descriptor, Look)| {
            reached(&entry.digest)
                || match looked {
                    Look::Node(node) => node.subject().is_some_and(|subject| reached(&subject.digest)),
                    Look::Unreadable => true,
                    Look::Missing | Look::Other => false,
                }
        };
        let (needed, rest): (Vec<_>, Vec<_>) = unneeded.into_iter().partition(stays);
        unneeded = rest;
        if needed.is_empty() {
            break;
        }
        marker.follow(needed.into_iter().map(|(entry, _)| entry).collect())?;
    }
    let dropped = unneeded.into_iter().map(|(entry, _)| entry.clone()).collect();
    let mut unreadable: Vec<Digest> = marker.unreadable.into_iter().collect();
    unreadable.sort_unstable();
    Ok(Marked { reached: marker.reached, dropped, unreadable })
}

/// A layout that has lost its index is no layout without images. One whose first image is on its way has no index yet.
fn has_index(layout: &Layout, before: SystemTime) -> Result<(), Cause> {
    if layout.has_index() || !has_older_blob(layout, before)? {
        return Ok(());
    }
    Err(Cause::Other {
        message: "there are blobs, but no index.json".into(),
        hint: Some("bring index.json back; where it has never been, it comes with the first image".into()),
    })
}

/// What is found where a descriptor points to.
enum Look {
    /// Nothing. An index may list manifests that are not there.
    Missing,
    /// A manifest or index.
    Node(Box<GraphNode>),
    /// What its digest promises, and no manifest, though it is listed as one: whoever pushes an index or names a subject
    /// can do that, and must not stop the collection by it.
    Unreadable,
    /// Something that is not listed as a manifest or index.
    Other,
}

struct Marker<'a> {
    layout: &'a Layout,
    reached: HashSet<Digest>,
    /// The manifests whose needs are known, and whether their media type said what they are.
    read: HashSet<(Digest, bool)>,
    unreadable: HashSet<Digest>,
}

impl Marker<'_> {
    /// Marks the entries of the index, and all that they need.
    fn follow(&mut self, entries: Vec<&Descriptor>) -> Result<(), ContentError> {
        let mut waiting = Vec::new();
        for entry in entries {
            if self.layout.blob_size(&entry.digest).is_none() {
                let missing = Cause::Other {
                    message: "the index lists it, but it is not there".into(),
                    hint: Some("push the image again, or delete it from the index".into()),
                };
                return Err(missing.of(operation(entry)));
            }
            waiting.push(entry.clone());
        }
        while let Some(descriptor) = waiting.pop() {
            self.reached.insert(descriptor.digest.clone());
            if self.read.insert((descriptor.digest.clone(), descriptor.is_document())) {
                waiting.extend(self.needs(&descriptor)?);
            }
        }
        Ok(())
    }

    /// Marks what a document needs, and returns those of it that may need something themselves.
    fn needs(&mut self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, ContentError> {
        let node = match self.look(descriptor)? {
            Look::Missing => return Ok(Vec::new()),
            Look::Node(node) => node,
            Look::Unreadable => {
                self.unreadable.insert(descriptor.digest.clone());
                let named = self.guess(descriptor).and_then(|known| Ok([known, self.named_by(descriptor)?].concat()));
                return named.map_err(|cause| cause.of(operation(descriptor)));
            }
            Look::Other => return self.guess(descriptor).map_err(|cause| cause.of(operation(descriptor))),
        };
        let children: Vec<Descriptor> = node.children().into_iter().cloned().collect();
        self.reached.extend(children.iter().map(|child| child.digest.clone()));
        let mut next = if matches!(*node, GraphNode::Index(_)) { children } else { Vec::new() };
        next.extend(node.subject().cloned());
        Ok(next)
    }

    /// What the descriptor points to. It fails where that is not what its digest promises: nobody can tell what the blob
    /// has said that it needs.
    fn look(&self, descriptor: &Descriptor) -> Result<Look, ContentError> {
        if !descriptor.is_document() {
            return Ok(Look::Other);
        }
        let bytes = match self.read(&descriptor.digest) {
            Ok(None) => return Ok(Look::Missing),
            Ok(Some(bytes)) => bytes,
            Err(Cause::TooLarge { .. }) => return Ok(Look::Unreadable),
            Err(cause) => return Err(cause.of(operation(descriptor))),
        };
        let node = GraphNode::parse(&descriptor.media_type, bytes);
        Ok(node.map_or(Look::Unreadable, |node| Look::Node(Box::new(node))))
    }

    fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Cause> {
        let bytes = match self.layout.read_blob(digest, MAX_DOCUMENT) {
            Err(Cause::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let mut hasher = Hasher::like(digest);
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual == *digest { Ok(Some(bytes)) } else { Err(Cause::WrongDigest { expected: digest.clone(), actual }) }
    }

    /// Whatever has its digest somewhere in what can't be read as a manifest.
    fn named_by(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Cause> {
        let (file, _) = self.layout.open_blob(&descriptor.digest)?;
        Ok(unknown(named_in(file, &descriptor.digest)?))
    }

    /// What something of an unknown kind may need: where it is JSON, whatever has a digest in it.
    fn guess(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Cause> {
        if self.layout.blob_size(&descriptor.digest).is_none_or(|size| size > MAX_DOCUMENT) {
            return Ok(Vec::new());
        }
        let bytes = self.read(&descriptor.digest)?.unwrap_or_default();
        let mut found = Vec::new();
        if let Ok(json) = serde_json::from_slice(&bytes) {
            digests(&json, &mut found);
        }
        Ok(unknown(found))
    }
}

/// Descriptors of what nothing more is known of.
fn unknown(digests: impl IntoIterator<Item = Digest>) -> Vec<Descriptor> {
    digests.into_iter().map(|digest| Descriptor::new("", digest, 0)).collect()
}

/// All digests among the texts of `json`.
fn digests(json: &Value, found: &mut Vec<Digest>) {
    match json {
        Value::String(text) => found.extend(text.parse::<Digest>()),
        Value::Array(items) => items.iter().for_each(|item| digests(item, found)),
        Value::Object(fields) => fields.values().for_each(|value| digests(value, found)),
        _ => {}
    }
}

fn operation(descriptor: &Descriptor) -> String {
    format!("tell what the manifest {} needs, so nothing is removed", descriptor.digest)
}
