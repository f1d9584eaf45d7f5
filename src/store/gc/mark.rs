//! Which blobs are needed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use ociforge_manifests::document::MAX_DOCUMENT;
use ociforge_manifests::graph::Node;
use ociforge_manifests::{Descriptor, Digest, Hasher};
use serde_json::Value;

use super::is_untagged;
use super::sweep::{blobs, is_older};
use crate::content::{Cause, ContentError};
use crate::store::Layout;

/// What the layout needs.
pub(super) struct Marked {
    /// The blobs that are reached from the index.
    pub(super) reached: HashSet<Digest>,
    /// The entries of the index that nothing needs.
    pub(super) dropped: Vec<Descriptor>,
}

/// Follows the manifests of the index. Entries without a tag that were touched after `before` count as needed.
pub(super) fn mark(layout: &Layout, before: SystemTime, untagged: bool) -> Result<Marked, ContentError> {
    let index = layout.index().and_then(|index| has_index(layout, before).map(|()| index));
    let index = index.map_err(|cause| cause.of(format!("read the index of {}", layout.root().display())))?;
    let garbage = |entry: &&Descriptor| {
        untagged && is_untagged(entry) && is_older(&layout.blob_path(&entry.digest), before).is_ok_and(|older| older)
    };
    let (garbage, roots): (Vec<&Descriptor>, Vec<&Descriptor>) = index.manifests.iter().partition(garbage);
    let mut marker = Marker { layout, reached: HashSet::new(), read: HashSet::new() };
    marker.follow(roots)?;
    let subjects = garbage.into_iter().map(|entry| Ok((entry, marker.subject(entry)?)));
    let mut unneeded = subjects.collect::<Result<Vec<_>, _>>()?;
    // Referrers of what stays do stay, and so do those of these.
    loop {
        let reached = |digest: &Digest| marker.reached.contains(digest);
        let stays = |(entry, subject): &(&Descriptor, Option<Digest>)| {
            reached(&entry.digest) || subject.as_ref().is_some_and(reached)
        };
        let (needed, rest): (Vec<_>, Vec<_>) = unneeded.into_iter().partition(stays);
        unneeded = rest;
        if needed.is_empty() {
            break;
        }
        marker.follow(needed.into_iter().map(|(entry, _)| entry).collect())?;
    }
    let dropped = unneeded.into_iter().map(|(entry, _)| entry.clone()).collect();
    Ok(Marked { reached: marker.reached, dropped })
}

/// A layout that has lost its index is no layout without images. One whose first image is on its way has no index yet.
fn has_index(layout: &Layout, before: SystemTime) -> Result<(), Cause> {
    let is_old = |path: &Path| is_older(path, before).is_ok_and(|older| older);
    if layout.root().join("index.json").exists() || !blobs(layout)?.iter().any(|(_, path)| is_old(path)) {
        return Ok(());
    }
    Err(Cause::Other {
        message: "there are blobs, but no index.json".into(),
        hint: Some("bring index.json back; where it has never been, it comes with the first image".into()),
    })
}

struct Marker<'a> {
    layout: &'a Layout,
    reached: HashSet<Digest>,
    /// The manifests whose needs are known, and whether their media type said what they are.
    read: HashSet<(Digest, bool)>,
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
        if !descriptor.is_document() {
            return self.guess(descriptor).map_err(|cause| cause.of(operation(descriptor)));
        }
        let Some(node) = self.node(descriptor)? else { return Ok(Vec::new()) };
        let children: Vec<Descriptor> = node.children().into_iter().cloned().collect();
        self.reached.extend(children.iter().map(|child| child.digest.clone()));
        let mut next = if matches!(node, Node::Index(_)) { children } else { Vec::new() };
        next.extend(node.subject().cloned());
        Ok(next)
    }

    /// What the entry is a referrer of.
    fn subject(&self, entry: &Descriptor) -> Result<Option<Digest>, ContentError> {
        if !entry.is_document() {
            return Ok(None);
        }
        let node = self.node(entry)?;
        Ok(node.as_ref().and_then(Node::subject).map(|subject| subject.digest.clone()))
    }

    /// The manifest or index, as its digest promises it. An index may list manifests that are not there.
    fn node(&self, descriptor: &Descriptor) -> Result<Option<Node>, ContentError> {
        let read = || -> Result<Option<Node>, Cause> {
            let Some(bytes) = self.read(&descriptor.digest)? else { return Ok(None) };
            Ok(Some(Node::parse(&descriptor.media_type, bytes)?))
        };
        read().map_err(|cause| cause.of(operation(descriptor)))
    }

    fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Cause> {
        let Some(size) = self.layout.blob_size(digest) else { return Ok(None) };
        if size > MAX_DOCUMENT {
            return Err(Cause::TooLarge { size, limit: MAX_DOCUMENT });
        }
        let bytes = match fs::read(self.layout.blob_path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let mut hasher = Hasher::like(digest);
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual == *digest { Ok(Some(bytes)) } else { Err(Cause::WrongDigest { expected: digest.clone(), actual }) }
    }

    /// What something of an unknown kind may need: where it is JSON, whatever has a digest in it.
    fn guess(&mut self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Cause> {
        if self.layout.blob_size(&descriptor.digest).is_none_or(|size| size > MAX_DOCUMENT) {
            return Ok(Vec::new());
        }
        let bytes = self.read(&descriptor.digest)?.unwrap_or_default();
        let mut found = Vec::new();
        if let Ok(json) = serde_json::from_slice(&bytes) {
            digests(&json, &mut found);
        }
        Ok(found.into_iter().map(|digest| Descriptor::new("", digest, 0)).collect())
    }
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
