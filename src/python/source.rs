//! A package that has no wheel, pinned with all that it takes to build one.

use std::path::PathBuf;

use ociforge_layers::source::wheel::normalize;
use pep440_rs::Version;

use super::wheel::LockedWheel;

/// How the names of source archives end (PEP 625, and what older ones look like).
pub(crate) const ARCHIVES: [&str; 7] = [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar", ".zip"];

/// The version that the name of a source archive of `distribution` tells.
pub(super) fn version_of(archive: &str, distribution: &str) -> Option<String> {
    let stem = ARCHIVES.iter().find_map(|ending| archive.strip_suffix(ending))?;
    let (name, version) = stem.rsplit_once('-')?;
    let known = normalize(name) == normalize(distribution) && version.parse::<Version>().is_ok();
    known.then(|| version.to_owned())
}

/// A source, and what its build needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedSource {
    /// What is built.
    pub origin: SourceLocation,
    /// The wheels that its build backend needs, sorted by name.
    pub requires: Vec<LockedWheel>,
}

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLocation {
    /// An archive (sdist), pinned in the same way as a wheel.
    Sdist(LockedWheel),
    /// A directory of the recipe's.
    Project {
        /// Normalised name of the distribution.
        name: String,
        /// Relative to the recipe's directory.
        directory: PathBuf,
    },
}

impl LockedSource {
    /// Normalised name of the distribution.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.origin {
            SourceLocation::Sdist(archive) => &archive.name,
            SourceLocation::Project { name, .. } => name,
        }
    }

    /// The version, where it is known before it is built.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.origin {
            SourceLocation::Sdist(archive) => Some(&archive.version),
            SourceLocation::Project { .. } => None,
        }
    }
}
