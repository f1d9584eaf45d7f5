//! A locked package without a wheel, with the wheels that its build requires.

use std::path::PathBuf;

use ociforge_layers::source::wheel::normalize;
use pep440_rs::Version;

use super::wheel::LockedWheel;

/// Extensions of source archives (PEP 625, and those of older archives).
pub(crate) const ARCHIVES: [&str; 7] = [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar", ".zip"];

/// The version in the file name of a source archive of `distribution`.
pub(super) fn version_of(archive: &str, distribution: &str) -> Option<String> {
    let stem = ARCHIVES.iter().find_map(|ending| archive.strip_suffix(ending))?;
    let (name, version) = stem.rsplit_once('-')?;
    let known = normalize(name) == normalize(distribution) && version.parse::<Version>().is_ok();
    known.then(|| version.to_owned())
}

/// A source, and its build requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedSource {
    /// The source to build.
    pub origin: SourceLocation,
    /// The wheels that its build backend requires, sorted by name.
    pub requires: Vec<LockedWheel>,
}

/// The location of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLocation {
    /// An archive (sdist), locked like a wheel.
    Sdist(LockedWheel),
    /// A project in the recipe's directory.
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

    /// The version, if it is known before the build.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.origin {
            SourceLocation::Sdist(archive) => Some(&archive.version),
            SourceLocation::Project { .. } => None,
        }
    }
}
