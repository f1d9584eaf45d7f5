//! Finding an image in the index of a layout or an archive.

use ociforge_manifests::{Descriptor, graph::Index};

use super::layout::REF_NAME;
use crate::content::Cause;

/// ociforge's annotation on an index entry without a name: the repository to which the manifest was pushed without a
/// tag, or in which it once had a tag. Such entries keep the manifest, and are not images of the layout.
pub const REPOSITORY: &str = "org.ociforge.repository";

/// The maximum size of `index.json` in bytes: some hundred thousand entries.
pub const MAX_INDEX: u64 = 64 << 20;

/// The manifest `name`, or the only image without a name. `place` is `layout` or `archive`.
pub(super) fn find(index: &Index, name: Option<&str>, place: &str) -> Result<Descriptor, Cause> {
    let kept = |entry: &Descriptor| {
        let known = entry.annotations.contains_key(REPOSITORY) || entry.other.contains_key("artifactType");
        known && name_of(entry).is_none()
    };
    let called = |entry: &&Descriptor| match name {
        Some(name) => name_of(entry) == Some(name),
        None => !kept(entry),
    };
    let mut found: Vec<_> = index.manifests.iter().filter(called).collect();
    if name.is_none() && found.iter().any(|entry| entry.is_document()) {
        // An index may list other content than images.
        found.retain(|entry| entry.is_document());
    }
    let names = || index.manifests.iter().filter_map(name_of).collect::<Vec<_>>().join(", ");
    let (message, hint) = match (found.as_slice(), name) {
        ([entry], _) => return Ok((*entry).clone()),
        ([], None) => (format!("the {place} is empty"), None),
        ([], Some(name)) => (format!("the {place} has no image `{name}`"), Some(format!("it has: {}", names()))),
        (_, None) => (format!("the {place} has several images"), Some(format!("name one of them: {}", names()))),
        (several, Some(name)) => {
            let digests: Vec<_> = several.iter().map(|entry| entry.digest.to_string()).collect();
            (format!("the {place} has several images `{name}`: {}", digests.join(", ")), None)
        }
    };
    Err(Cause::Other { message, hint: hint.filter(|_| !names().is_empty()) })
}

/// Adds the manifest to the entries, without a name, if it is missing.
pub(super) fn keep(entries: &mut Vec<Descriptor>, manifest: &Descriptor) {
    if entries.iter().all(|entry| entry.digest != manifest.digest) {
        entries.push(manifest.clone());
    }
}

/// Gives the manifest the name `name`, and moves its entry to the end.
pub(super) fn tag(entries: &mut Vec<Descriptor>, manifest: &Descriptor, name: &str) {
    let mut tagged = manifest.clone();
    tagged.annotations.insert(REF_NAME.into(), name.to_owned());
    // An entry without a name gets the name.
    let kept = |entry: &Descriptor| {
        entry.digest == manifest.digest && name_of(entry).is_none() && !entry.annotations.contains_key(REPOSITORY)
    };
    entries.retain(|entry| name_of(entry) != Some(name) && !kept(entry));
    entries.push(tagged);
}

/// The name of an index entry.
pub(super) fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ociforge_manifests::media_type;

    fn entry(content: &str, annotation: Option<(&str, &str)>) -> Descriptor {
        let mut entry = Descriptor::of(media_type::MANIFEST, content.as_bytes());
        entry.annotations.extend(annotation.map(|(key, value)| (key.to_owned(), value.to_owned())));
        entry
    }

    fn index(manifests: Vec<Descriptor>) -> Index {
        let json = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn without_a_name_there_must_be_one_image_and_kept_manifests_are_none() {
        let one = index(vec![entry("a", Some((REF_NAME, "x"))), entry("b", Some((REPOSITORY, "x")))]);
        assert_eq!(find(&one, None, "layout").unwrap(), one.manifests[0]);
        let two = index(vec![entry("a", Some((REF_NAME, "x"))), entry("b", None)]);
        let error = find(&two, None, "archive").unwrap_err();
        assert_eq!(error.to_string(), "the archive has several images");
        assert_eq!(find(&index(vec![]), None, "layout").unwrap_err().to_string(), "the layout is empty");
    }

    #[test]
    fn names_are_exact() {
        let index = index(vec![entry("a", Some((REF_NAME, "x"))), entry("b", Some((REF_NAME, "a/x:x")))]);
        assert_eq!(find(&index, Some("x"), "layout").unwrap(), index.manifests[0]);
        assert!(find(&index, Some("a"), "layout").is_err());
    }
}
