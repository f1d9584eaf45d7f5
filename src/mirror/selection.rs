//! Selection of images by tag.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::str::FromStr;

use glob::Pattern;
use ociforge_manifests::reference::NameParts;
use ociforge_manifests::{ImageName, Platform, Reference, ReferenceError};

use super::MAX_IMAGES;
use crate::content::TagSink;
use crate::error::Explain;

/// The selected images of one repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The repository. If it has a digest, the digest selects the image.
    pub name: Reference,
    /// Patterns of tags; if empty, the tag of `name` is selected.
    pub tags: Vec<Pattern>,
    /// Patterns of excluded tags.
    pub exclude: Vec<Pattern>,
    /// The selected platforms of an index; empty for all.
    pub platforms: Vec<Platform>,
    /// Maximum number of matching tags, the highest versions first; `None` for all.
    pub latest: Option<usize>,
}

/// Why a selection has no tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTag {
    /// No tag matches the pattern.
    #[error("no tag matches `{0}`")]
    Pattern(String),
    /// All matching tags are excluded.
    #[error("all matching tags are excluded")]
    Excluded,
    /// More tags match than one mirror can have.
    #[error("the selection has more than {MAX_IMAGES} images")]
    TooMany,
}

impl Explain for NoTag {
    fn hint(&self) -> Option<String> {
        matches!(self, Self::TooMany)
            .then(|| "select fewer with `latest` or `exclude`, or mirror them in several runs".into())
    }
}

impl FromStr for Selection {
    type Err = ReferenceError;

    /// Parses an image name, which may have a pattern in place of the tag: `nvcr.io/nvidia/cuda:12.*`.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |why: String| ReferenceError { name: text.to_owned(), why };
        let (name, pattern) = match NameParts::of(text) {
            NameParts { repository, tag: Some(tag), digest: None } if is_pattern(tag) => (repository, Some(tag)),
            _ => (text, None),
        };
        let ImageName::Registry(name) = name.parse()? else {
            return Err(error("it is a location of images, not an image; give locations with --from and --to".into()));
        };
        let pattern = pattern.map(Pattern::new).transpose().map_err(|wrong| error(wrong.msg.into()))?;
        Ok(Self { name, tags: pattern.into_iter().collect(), exclude: vec![], platforms: vec![], latest: None })
    }
}

impl Selection {
    /// The repository's name: `HOST/a/b`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.name.registry(), self.name.repository())
    }

    /// Whether the tags of the repository must be listed: a pattern has to be matched.
    #[must_use]
    pub fn needs_listing(&self) -> bool {
        self.tags.iter().any(|pattern| is_pattern(pattern.as_str()))
    }

    /// The selected tags, in version order. `have` are the tags of the repository, which are necessary only for
    /// [`Self::needs_listing`]; tags selected by name are assumed to exist.
    ///
    /// # Errors
    /// When a pattern matches no tag, or all matching tags are excluded.
    pub fn choose(&self, have: &[String]) -> Result<Vec<String>, NoTag> {
        let mut chooser = Chooser::of(self);
        have.iter().for_each(|tag| chooser.take(tag));
        chooser.finish()
    }
}

/// Selects tags while the repository lists them, and stores only the selected ones.
pub(super) struct Chooser<'a> {
    selection: &'a Selection,
    /// The patterns, and whether a tag has matched each.
    patterns: Vec<(&'a Pattern, bool)>,
    /// In version order.
    chosen: BTreeSet<Version>,
    too_many: bool,
}

/// A tag, ordered by version.
#[derive(PartialEq, Eq)]
struct Version(String);

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        version_order(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Chooser<'a> {
    /// Starts with the tags that are selected by name.
    pub(super) fn of(selection: &'a Selection) -> Self {
        let mut chooser = Self { selection, patterns: Vec::new(), chosen: BTreeSet::new(), too_many: false };
        chooser.begin();
        chooser
    }

    /// The selected tags, in version order.
    pub(super) fn finish(self) -> Result<Vec<String>, NoTag> {
        if let Some((pattern, _)) = self.patterns.iter().find(|(_, has_fit)| !has_fit) {
            return Err(NoTag::Pattern(pattern.as_str().to_owned()));
        }
        if self.too_many {
            return Err(NoTag::TooMany);
        }
        let chosen: Vec<_> = self.chosen.into_iter().map(|Version(tag)| tag).collect();
        if chosen.is_empty() { Err(NoTag::Excluded) } else { Ok(chosen) }
    }

    fn add(&mut self, tag: &str) {
        let Selection { exclude, latest, .. } = self.selection;
        if self.too_many || exclude.iter().any(|pattern| pattern.matches(tag)) {
            return;
        }
        self.chosen.insert(Version(tag.to_owned()));
        if self.chosen.len() > latest.unwrap_or(MAX_IMAGES).min(MAX_IMAGES) {
            self.chosen.pop_first();
            self.too_many |= latest.is_none_or(|latest| latest > MAX_IMAGES);
        }
    }
}

impl TagSink for Chooser<'_> {
    fn begin(&mut self) {
        let (patterns, named): (Vec<_>, Vec<_>) =
            self.selection.tags.iter().partition(|pattern| is_pattern(pattern.as_str()));
        self.patterns = patterns.into_iter().map(|pattern| (pattern, false)).collect();
        (self.chosen, self.too_many) = (BTreeSet::new(), false);
        if self.selection.tags.is_empty() {
            self.add(self.selection.name.tag().unwrap_or("latest"));
        }
        named.into_iter().for_each(|tag| self.add(tag.as_str()));
    }

    fn take(&mut self, tag: &str) {
        let mut fits = false;
        if !is_companion(tag) {
            for (_, has_fit) in self.patterns.iter_mut().filter(|(pattern, _)| pattern.matches(tag)) {
                (*has_fit, fits) = (true, true);
            }
        }
        if fits {
            self.add(tag);
        }
    }
}

/// Whether a tag is a pattern.
pub(crate) fn is_pattern(tag: &str) -> bool {
    tag.contains(['*', '?', '['])
}

/// Whether a tag is a companion of another image, such as a cosign signature or a list of referrers: `sha256-<hex>`,
/// with an optional `.sig`, `.att` or `.sbom`.
pub(crate) fn is_companion(tag: &str) -> bool {
    let Some((_, rest)) = tag.split_once('-').filter(|(algorithm, _)| ["sha256", "sha512"].contains(algorithm)) else {
        return false;
    };
    let hex = rest.split('.').next().unwrap_or_default();
    hex.len() >= 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Version order: numbers in tags compare as numbers, and other parts as text. Text sorts before numbers.
pub(crate) fn version_order(a: &str, b: &str) -> Ordering {
    runs(a).cmp(runs(b)).then_with(|| a.cmp(b))
}

/// The parts of a tag: numbers, as their length without leading zeros and their digits, and the text between them.
fn runs(tag: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = tag;
    std::iter::from_fn(move || {
        let is_number = rest.as_bytes().first()?.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        let digits = run.trim_start_matches('0');
        Some(if is_number { (digits.len() + 1, digits) } else { (0, run) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn selection(tags: &[&str], exclude: &[&str], latest: Option<usize>) -> Selection {
        let patterns = |all: &[&str]| all.iter().map(|one| Pattern::new(one).unwrap()).collect();
        let name: Selection = "nvcr.io/nvidia/pytorch".parse().unwrap();
        Selection { tags: patterns(tags), exclude: patterns(exclude), latest, ..name }
    }

    #[test]
    fn tags_fit_patterns_and_come_in_the_order_of_versions() {
        let have = tags(&["24.10-py3", "24.9-py3", "24.9-py3-igpu", "23.1-py3", "latest"]);
        let chosen = |tags: &[&str], exclude: &[&str], latest| selection(tags, exclude, latest).choose(&have);
        assert_eq!(chosen(&["24.*"], &["*-igpu"], None).unwrap(), ["24.9-py3", "24.10-py3"]);
        assert_eq!(chosen(&["*-py3"], &[], Some(2)).unwrap(), ["24.9-py3", "24.10-py3"]);
        assert_eq!(chosen(&["unlisted", "24.1?-*"], &[], None).unwrap(), ["unlisted", "24.10-py3"]);
        assert_eq!(chosen(&[], &[], None).unwrap(), ["latest"]);
        assert_eq!(chosen(&["24.*", "25.*"], &[], None), Err(NoTag::Pattern("25.*".into())));
        assert_eq!(chosen(&["24.*"], &["*"], None), Err(NoTag::Excluded));
    }

    #[test]
    fn tags_are_chosen_as_they_are_listed_and_a_list_that_begins_anew_counts_once() {
        let wanted = selection(&["1.*", "2.*"], &["*-rc*"], Some(3));
        let mut chooser = Chooser::of(&wanted);
        for list in [&["2.0", "9.0"][..], &["1.1", "1.10", "x", "1.2", "1.1", "1.9", "2.0-rc1"]] {
            chooser.begin();
            list.iter().for_each(|tag| chooser.take(tag));
        }
        assert_eq!(chooser.chosen.len(), 3);
        assert_eq!(chooser.finish().unwrap(), ["1.2", "1.9", "1.10"]);
        let all = selection(&["*"], &[], None);
        let mut chooser = Chooser::of(&all);
        (0..MAX_IMAGES).for_each(|n| chooser.take(&format!("v{n}")));
        assert_eq!(chooser.chosen.len(), MAX_IMAGES);
        chooser.take("one-more");
        assert_eq!(chooser.chosen.len(), MAX_IMAGES);
        assert_eq!(chooser.finish(), Err(NoTag::TooMany));
    }

    #[test]
    fn tags_that_belong_to_images_fit_no_pattern() {
        let signature = format!("sha256-{}.sig", "0a".repeat(32));
        let have = tags(&["v1", &signature, &format!("sha256-{}", "0a".repeat(32))]);
        assert_eq!(selection(&["*"], &[], None).choose(&have).unwrap(), ["v1"]);
        assert_eq!(selection(&[&signature], &[], None).choose(&have).unwrap(), [signature]);
        assert!(!is_companion("sha256-12") && !is_companion("v1"));
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let sorted = ["a", "a2", "a10", "b", "latest", "1.9", "1.10", "1.10-rc1", "1.010.0", "2", "10"];
        for pair in sorted.windows(2) {
            assert_eq!(version_order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn arguments_are_names_with_patterns() {
        let parsed = |text: &str| text.parse::<Selection>();
        let cuda = parsed("nvcr.io/nvidia/cuda:12.*").unwrap();
        assert_eq!((cuda.repository().as_str(), cuda.tags[0].as_str()), ("nvcr.io/nvidia/cuda", "12.*"));
        assert_eq!(parsed("debian:12").unwrap().name.whole(), "docker.io/library/debian:12");
        assert!(parsed("h.x:5000/a/b:[0-9]*").unwrap().needs_listing());
        assert!(!parsed("h.x:5000/a/b").unwrap().needs_listing());
        for bad in ["oci:dir", "a/*", "a:[", "UPPER:1*"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
