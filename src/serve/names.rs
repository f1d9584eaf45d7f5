//! The mapping of a layout's index entries to repositories and tags. The parent module documents the rules.

use std::collections::BTreeSet;

use ociforge_manifests::reference::{EntryName, is_repository, is_tag};
use ociforge_manifests::{Descriptor, Digest};

use crate::store::index::REPOSITORY;
use crate::store::layout::REF_NAME;
use crate::store::names::ambiguous;

/// The rank of an entry whose repository matches only without its host.
const LESS_HOST: u8 = 1;

/// An index entry as a registry's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RepositoryTag<'a> {
    /// The repository, with its host if it has one; `None` for an entry in every repository.
    repository: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> RepositoryTag<'a> {
    fn of(entry: &'a Descriptor) -> Self {
        let Some(name) = entry.annotations.get(REF_NAME) else {
            return Self { repository: entry.annotations.get(REPOSITORY).map(String::as_str), tag: None };
        };
        let EntryName { repository, tag } = EntryName::of(name);
        Self { repository, tag: tag.filter(|tag| is_tag(tag)) }
    }

    /// The rank of the match with `repository`, the best first; `None` if it is in another one.
    fn fit(&self, repository: &str) -> Option<u8> {
        match self.repository {
            Some(own) if own == repository => Some(0),
            Some(own) if without_host(own) == repository => Some(LESS_HOST),
            Some(_) => None,
            None => Some(2),
        }
    }
}

/// A repository's name without the registry's host, if it has one.
fn without_host(repository: &str) -> &str {
    match repository.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => repository,
    }
}

/// The entries in `repository`.
pub(super) fn entries_of<'a>(entries: &'a [Descriptor], repository: &str) -> impl Iterator<Item = &'a Descriptor> {
    entries.iter().filter(move |entry| RepositoryTag::of(entry).fit(repository).is_some())
}

/// The entry of `tag` in `repository`. If the client names a registry, entries of other registries do not match: the
/// same name there is another image.
///
/// # Errors
/// When several images match equally, such as those of two registries for a name without a host. The text names them.
pub(super) fn find<'a>(
    entries: &'a [Descriptor],
    host: Option<&str>,
    repository: &str,
    tag: &str,
) -> Result<Option<&'a Descriptor>, String> {
    let whole = host.map(|host| format!("{host}/{repository}"));
    let fitting = tagged(entries, repository, tag).filter_map(|(fit, entry)| {
        let asked_for = whole.is_some() && RepositoryTag::of(entry).repository == whole.as_deref();
        let is_foreign = whole.is_some() && !asked_for && fit == LESS_HOST;
        // `a:latest` has precedence over `a`.
        let is_implied = !entry.annotations.get(REF_NAME).is_some_and(|name| name.ends_with(tag));
        (!is_foreign).then_some(((!asked_for, fit, is_implied), entry))
    });
    let fitting: Vec<_> = fitting.collect();
    let Some(best) = fitting.iter().map(|(fit, _)| *fit).min() else { return Ok(None) };
    let best: Vec<_> = fitting.into_iter().filter(|(fit, _)| *fit == best).map(|(_, entry)| entry).collect();
    ambiguous(&best).map_or_else(|| Ok(best.first().copied()), Err)
}

/// All entries that `tag` may name in `repository`, and how well each fits it.
pub(super) fn tagged<'a>(
    entries: &'a [Descriptor],
    repository: &str,
    tag: &str,
) -> impl Iterator<Item = (u8, &'a Descriptor)> {
    entries.iter().filter_map(move |entry| {
        let place = RepositoryTag::of(entry);
        Some((place.fit(repository)?, entry)).filter(|_| place.tag == Some(tag))
    })
}

/// The sorted tags of `repository`; `None` if the repository does not exist.
pub(super) fn tags<'a>(entries: &'a [Descriptor], repository: &str) -> Option<BTreeSet<&'a str>> {
    let mut entries = entries_of(entries, repository).peekable();
    entries.peek()?;
    Some(entries.filter_map(|entry| RepositoryTag::of(entry).tag).collect())
}

/// The sorted names of all repositories, with their host if they have one.
pub(super) fn repositories(entries: &[Descriptor]) -> BTreeSet<&str> {
    let names = entries.iter().filter_map(|entry| RepositoryTag::of(entry).repository);
    let names = names.map(|name| if is_repository(name) { name } else { without_host(name) });
    names.filter(|name| is_repository(name)).collect()
}

/// Sets `tag` to the manifest in `repository`. The previous manifest stays there without a tag.
pub(super) fn tag(entries: &mut Vec<Descriptor>, repository: &str, tag: &str, manifest: &Descriptor) {
    let name = format!("{repository}:{tag}");
    let mut tagged = manifest.clone();
    tagged.annotations.insert(REF_NAME.into(), name.clone());
    let named = |entry: &Descriptor| entry.annotations.get(REF_NAME) == Some(&name);
    let same = |entry: &Descriptor| (&entry.digest, &entry.media_type) == (&manifest.digest, &manifest.media_type);
    if entries.iter().any(|entry| named(entry) && same(entry)) {
        return;
    }
    let (old, mut kept): (Vec<_>, Vec<_>) = std::mem::take(entries).into_iter().partition(named);
    // The entry of a push by digest gets the name.
    kept.retain(|entry| entry.digest != manifest.digest || RepositoryTag::of(entry) != untagged(repository));
    kept.push(tagged);
    *entries = kept;
    for entry in old {
        keep(entries, repository, entry);
    }
}

/// Sees to it that the manifest is in `repository`, by its digest at least.
pub(super) fn keep(entries: &mut Vec<Descriptor>, repository: &str, mut manifest: Descriptor) {
    let is_there =
        |entry: &Descriptor| entry.digest == manifest.digest && RepositoryTag::of(entry).fit(repository) == Some(0);
    if !entries.iter().any(is_there) {
        manifest.annotations.remove(REF_NAME);
        manifest.annotations.insert(REPOSITORY.into(), repository.to_owned());
        entries.push(manifest);
    }
}

/// Removes `tag` from `repository`. The manifest stays without it. `false` if the tag does not exist.
pub(super) fn untag(entries: &mut Vec<Descriptor>, repository: &str, tag: &str) -> bool {
    let named = |entry: &Descriptor| {
        let place = RepositoryTag::of(entry);
        place.tag == Some(tag) && place.fit(repository).is_some()
    };
    let (old, kept): (Vec<_>, Vec<_>) = std::mem::take(entries).into_iter().partition(named);
    *entries = kept;
    let found = !old.is_empty();
    for mut entry in old {
        let home = RepositoryTag::of(&entry).repository.map(str::to_owned);
        entry.annotations.remove(REF_NAME);
        match home {
            Some(home) => keep(entries, &home, entry),
            None => entries.push(entry),
        }
    }
    found
}

/// Removes the manifest and all its tags from `repository`. `false` if it does not exist.
pub(super) fn remove(entries: &mut Vec<Descriptor>, repository: &str, digest: &Digest) -> bool {
    let before = entries.len();
    entries.retain(|entry| entry.digest != *digest || RepositoryTag::of(entry).fit(repository).is_none());
    entries.len() < before
}

fn untagged(repository: &str) -> RepositoryTag<'_> {
    RepositoryTag { repository: Some(repository), tag: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ociforge_manifests::media_type;

    fn entry(content: &str) -> Descriptor {
        Descriptor::of(media_type::MANIFEST, content.as_bytes())
    }

    fn named(content: &str, name: &str) -> Descriptor {
        let mut entry = entry(content);
        entry.annotations.insert(REF_NAME.into(), name.into());
        entry
    }

    fn found(entries: &[Descriptor], repository: &str, tag: &str) -> Option<Digest> {
        find(entries, None, repository, tag).unwrap().map(|entry| entry.digest.clone())
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        let digest = format!("nvcr.io/a/b@{}", Digest::of(b""));
        for (name, repository, tag) in [
            ("latest", None, Some("latest")),
            ("a:t", Some("a"), Some("t")),
            ("a/b:t", Some("a/b"), Some("t")),
            ("nvcr.io/a/b:t", Some("nvcr.io/a/b"), Some("t")),
            ("localhost:5000/a/b:t", Some("localhost:5000/a/b"), Some("t")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b"), Some("latest")),
            (&digest, Some("nvcr.io/a/b"), None),
            ("no tag", None, None),
            ("a:no tag", Some("a"), None),
            ("", None, None),
        ] {
            assert_eq!(RepositoryTag::of(&named("x", name)), RepositoryTag { repository, tag }, "{name}");
        }
    }

    #[test]
    fn a_host_may_be_left_out_and_a_bare_tag_is_everywhere() {
        let entries = [named("bare", "t"), named("host", "localhost:5000/a/b:t"), named("own", "c:t")];
        assert_eq!(found(&entries, "a/b", "t"), Some(Digest::of(b"host")));
        assert_eq!(found(&entries, "c", "t"), Some(Digest::of(b"own")));
        assert_eq!(found(&entries, "other", "t"), Some(Digest::of(b"bare")));
        assert_eq!(found(&entries, "other", "u"), None);
        assert_eq!(repositories(&entries), BTreeSet::from(["a/b", "c"]));
        assert_eq!(tags(&entries[1..], "other"), None);
        assert_eq!(tags(&entries[1..], "c"), Some(BTreeSet::from(["t"])));
    }

    #[test]
    fn a_client_may_say_which_host_it_means() {
        let entries = [named("one", "nvcr.io/a:t"), named("two", "ghcr.io/a:t"), named("own", "b:t")];
        let found =
            |host, repository| find(&entries, Some(host), repository, "t").unwrap().map(|entry| entry.digest.clone());
        assert_eq!(found("nvcr.io", "a"), Some(Digest::of(b"one")));
        assert_eq!(found("ghcr.io", "a"), Some(Digest::of(b"two")));
        assert_eq!(found("quay.io", "a"), None);
        assert_eq!(found("quay.io", "ghcr.io/a"), Some(Digest::of(b"two")));
        assert_eq!(found("quay.io", "b"), Some(Digest::of(b"own")));
    }

    #[test]
    fn a_name_that_two_registries_have_is_told() {
        let entries = [named("one", "nvcr.io/a:t"), named("two", "ghcr.io/a:t"), named("one", "quay.io/b:t")];
        let several = find(&entries, None, "a", "t").unwrap_err();
        assert!(several.contains("nvcr.io/a:t (sha256:") && several.contains("and ghcr.io/a:t (sha256:"), "{several}");
        assert_eq!(found(&entries, "ghcr.io/a", "t"), Some(Digest::of(b"two")));
        assert_eq!(found(&entries, "b", "t"), Some(Digest::of(b"one")));
        // An exact name has precedence, and two names of one image are not ambiguous.
        let own = [entries.as_slice(), &[named("own", "a:t")]].concat();
        assert_eq!(found(&own, "a", "t"), Some(Digest::of(b"own")));
        let same = [named("one", "nvcr.io/a:t"), named("one", "ghcr.io/a:t")];
        assert_eq!(found(&same, "a", "t"), Some(Digest::of(b"one")));
        let implied = [named("one", "nvcr.io/a"), named("two", "nvcr.io/a:latest")];
        assert_eq!(found(&implied, "a", "latest"), Some(Digest::of(b"two")));
    }

    #[test]
    fn what_loses_its_tag_stays() {
        let mut entries = Vec::new();
        keep(&mut entries, "a", entry("1"));
        tag(&mut entries, "a", "t", &entry("1"));
        assert_eq!(entries, [named("1", "a:t")]);
        tag(&mut entries, "a", "t", &entry("2"));
        assert_eq!(found(&entries, "a", "t"), Some(Digest::of(b"2")));
        assert_eq!(entries_of(&entries, "a").count(), 2);
        assert!(untag(&mut entries, "a", "t") && !untag(&mut entries, "a", "t"));
        assert_eq!(entries_of(&entries, "a").count(), 2);
        assert_eq!(tags(&entries, "a"), Some(BTreeSet::new()));
        assert!(remove(&mut entries, "a", &Digest::of(b"1")) && !remove(&mut entries, "b", &Digest::of(b"2")));
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn two_tags_of_one_manifest_are_apart() {
        let mut entries = Vec::new();
        tag(&mut entries, "a", "t", &entry("1"));
        tag(&mut entries, "a", "u", &entry("1"));
        tag(&mut entries, "a", "u", &entry("1"));
        assert_eq!(entries.len(), 2);
        assert!(untag(&mut entries, "a", "t"));
        assert_eq!(entries, [named("1", "a:u")]);
    }

    #[test]
    fn foreign_names_are_taken_away_too() {
        let mut entries = vec![named("1", "t"), named("1", "quay.io/a:t")];
        assert!(untag(&mut entries, "a", "t"));
        assert_eq!(found(&entries, "a", "t"), None);
        assert_eq!(entries_of(&entries, "quay.io/a").count(), 2);
    }
}
