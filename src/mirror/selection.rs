//! Which images are wanted.

use std::cmp::Ordering;
use std::str::FromStr;

use glob::Pattern;
use ociforge_manifests::reference::NameParts;
use ociforge_manifests::{ImageName, Platform, Reference, ReferenceError};

/// The images that are wanted of one repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The repository; its digest, where it has one, is the image's.
    pub name: Reference,
    /// Patterns of tags; the name's own tag alone where there are none.
    pub tags: Vec<Pattern>,
    /// Patterns of tags that are left out.
    pub exclude: Vec<Pattern>,
    /// The platforms to take of an index; all of it when empty.
    pub platforms: Vec<Platform>,
    /// How many of the tags that fit are taken, the highest versions first; all where nothing is said.
    pub latest: Option<usize>,
}

/// Why nothing was selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTag {
    /// No tag fits a pattern.
    #[error("no tag fits `{0}`")]
    Pattern(String),
    /// All that fits is excluded.
    #[error("all tags that fit are excluded")]
    Excluded,
}

impl FromStr for Selection {
    type Err = ReferenceError;

    /// An image name, perhaps with a pattern in place of the tag: `nvcr.io/nvidia/cuda:12.*`.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |why: String| ReferenceError { name: text.to_owned(), why };
        let (name, pattern) = match NameParts::of(text) {
            NameParts { repository, tag: Some(tag), digest: None } if is_pattern(tag) => (repository, Some(tag)),
            _ => (text, None),
        };
        let ImageName::Registry(name) = name.parse()? else {
            return Err(error("it is a place; give the places of images with --from and --to".into()));
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

    /// Whether the repository must be asked for its tags: some are wanted that fit a pattern.
    #[must_use]
    pub fn needs_listing(&self) -> bool {
        self.tags.iter().any(|pattern| is_pattern(pattern.as_str()))
    }

    /// The tags that are wanted, in the order of versions. `have` are those of the repository, which need not be known
    /// unless [`Self::needs_listing`]; a tag that is wanted by its name is taken to be there.
    ///
    /// # Errors
    /// When a pattern fits nothing, or nothing is left.
    pub fn choose(&self, have: &[String]) -> Result<Vec<String>, NoTag> {
        let mut chosen = Vec::new();
        for pattern in &self.tags {
            if !is_pattern(pattern.as_str()) {
                chosen.push(pattern.as_str().to_owned());
                continue;
            }
            let before = chosen.len();
            chosen.extend(have.iter().filter(|tag| pattern.matches(tag) && !is_companion(tag)).cloned());
            if chosen.len() == before {
                return Err(NoTag::Pattern(pattern.as_str().to_owned()));
            }
        }
        if self.tags.is_empty() {
            chosen.push(self.name.tag().unwrap_or("latest").to_owned());
        }
        chosen.retain(|tag| !self.exclude.iter().any(|pattern| pattern.matches(tag)));
        chosen.sort_by(|a, b| version_order(a, b));
        chosen.dedup();
        let surplus = self.latest.map_or(0, |latest| chosen.len().saturating_sub(latest));
        chosen.drain(..surplus);
        if chosen.is_empty() { Err(NoTag::Excluded) } else { Ok(chosen) }
    }
}

/// Whether a tag is written as a pattern rather than as itself.
pub(crate) fn is_pattern(tag: &str) -> bool {
    tag.contains(['*', '?', '['])
}

/// Whether a tag belongs to another image, as cosign's signatures and the lists of referrers do:
/// `sha256-<hex>`, perhaps with `.sig`, `.att` or `.sbom` behind it.
pub(crate) fn is_companion(tag: &str) -> bool {
    let Some((_, rest)) = tag.split_once('-').filter(|(algorithm, _)| ["sha256", "sha512"].contains(algorithm)) else {
        return false;
    };
    let hex = rest.split('.').next().unwrap_or_default();
    hex.len() >= 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The order of versions: numbers in the tags are compared as numbers, and all else as text, which is lower.
pub(crate) fn version_order(a: &str, b: &str) -> Ordering {
    runs(a).cmp(runs(b)).then_with(|| a.cmp(b))
}

/// What a tag is made of: numbers, as their length without leading zeros and their digits, and the text between.
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
