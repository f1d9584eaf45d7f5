//! The mark phase: the blobs that are needed.

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

/// The result of the mark phase.
pub(super) struct Marked {
    /// The blobs that are reachable from the index.
    pub(super) reached: HashSet<Digest>,
    /// The index entries that nothing requires.
    pub(super) dropped: Vec<Descriptor>,
    /// The digests that are listed as manifests and are none, sorted.
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
    // Referrers of a remaining manifest stay, with their own referrers, and so does content whose subject is unknown.
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

/// A layout whose index is lost is not an empty layout. A layout that receives its first image has no index yet.
fn has_index(layout: &Layout, before: SystemTime) -> Result<(), Cause> {
    if layout.has_index() || !has_older_blob(layout, before)? {
        return Ok(());
    }
    Err(Cause::Other {
        message: "the layout has blobs but no index.json".into(),
        hint: Some("restore index.json; a new layout gets it with the first image".into()),
    })
}

/// The content behind a descriptor.
enum Look {
    /// Missing. An index may list missing manifests.
    Missing,
    /// A manifest or index.
    Node(Box<GraphNode>),
    /// Content that matches its digest and is listed as a manifest, but is not one: every client can push such an index
    /// or subject, and it must not stop the collection.
    Unreadable,
    /// Content that is not listed as a manifest or index.
    Other,
}

struct Marker<'a> {
    layout: &'a Layout,
    reached: HashSet<Digest>,
    /// The visited manifests, and whether their media type is that of a document.
    read: HashSet<(Digest, bool)>,
    unreadable: HashSet<Digest>,
}

impl Marker<'_> {
    /// Marks the entries of the index, and all their descendants.
    fn follow(&mut self, entries: Vec<&Descriptor>) -> Result<(), ContentError> {
        let mut waiting = Vec::new();
        for entry in entries {
            if self.layout.blob_size(&entry.digest).is_none() {
                let missing = Cause::Other {
                    message: "the index lists the blob, but it is missing".into(),
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

    /// Marks the children of a document, and returns those that may have children.
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

    /// The content of the descriptor. Fails if it does not match its digest, because its children are unknown then.
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

    /// All digests in content that is not a valid manifest.
    fn named_by(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Cause> {
        let (file, _) = self.layout.open_blob(&descriptor.digest)?;
        Ok(unknown(named_in(file, &descriptor.digest)?))
    }

    /// The possible children of content of an unknown type: all digests in it, if it is JSON.
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

/// Descriptors with only a digest.
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
    format!("determine the blobs of the manifest {}; nothing is removed", descriptor.digest)
}
