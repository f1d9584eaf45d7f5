//! Resolution: converts the requirements of a step to wheels with hashes, by uv or from a lock (PEP 751).

mod pep508;
mod pylock;
pub(super) mod requirements;
mod sources;
mod stubs;
pub(super) mod tags;
pub(super) mod uv;
mod uv_hints;

use std::path::{Path, PathBuf};

use ociforge_layers::regular::read_regular_text;

use super::error::ResolveError;
use super::target::WheelTarget;
use super::wheel::{self, LockedWheel, related};
use crate::base::facts::BaseFacts;
use crate::layer::PylockSelection;
use pylock::Choice;

pub use requirements::index_options;
pub use sources::Sources;
pub use tags::CompatibilityTags;

/// The requirements of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirements {
    /// Requirements in pip's syntax.
    List(Vec<String>),
    /// A requirements file.
    File(PathBuf),
    /// A lock (PEP 751), and the selected extras and groups.
    Lock(PathBuf, PylockSelection),
}

/// The result of a resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The wheels to install, sorted by normalised name, without the packages of the base.
    pub wheels: Vec<LockedWheel>,
    /// The source archives of packages without wheels, sorted in the same way.
    pub sdists: Vec<LockedWheel>,
    /// The projects in a lock: normalised name, and directory, which is relative to the recipe's if it is inside it.
    /// Sorted by name.
    pub projects: Vec<(String, PathBuf)>,
    /// Distributions of the base that one of the wheels replaces.
    pub replaced: Vec<Replaced>,
}

impl Resolution {
    /// Whether all wheels run on `target`.
    #[must_use]
    pub fn runs_on(&self, target: &WheelTarget) -> bool {
        wheel::misfits(&self.wheels, target).next().is_none()
    }

    /// Whether it has the same packages and versions as another resolution; the wheels may differ.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let packages = |files: &[LockedWheel]| -> Vec<_> {
            files.iter().map(|file| (file.name.clone(), file.version.clone())).collect()
        };
        packages(&self.wheels) == packages(&other.wheels) && packages(&self.sdists) == packages(&other.sdists)
    }
}

/// A replaced distribution of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Its normalised name.
    pub name: String,
    /// The version in the base.
    pub old: String,
    /// The new version.
    pub new: String,
}

/// Resolves `requirements` to wheels for `target`, on top of the installed packages of `base`. Relative paths start at
/// `directory`, the recipe's. Blocks while uv runs.
///
/// Rules for the distributions of the base:
/// - A required package stays if the base's version matches the requirement, as in `pip install`. Otherwise it is
///   replaced; neither the base's constraint file (`PIP_CONSTRAINT`) nor the pins below apply to it.
/// - Builds that no index can have (local versions and pre-releases, such as `torch 2.5.0a0+872d972e41`) are pinned:
///   the resolution fails rather than replace one by another build.
/// - All others are preferred, and replaced if a package needs another version.
/// - Of their own dependencies, only those that the base satisfies now must be satisfied afterwards: missing ones are
///   not added, and conflicts are not repaired.
///
/// A lock (PEP 751) is installed unchanged, except for packages that the base has in the same version. It ignores
/// `sources`.
///
/// Wheels are preferred: a source archive replaces a wheel only if no wheel satisfies the requirements. `sources` has
/// the known requirements of source archives. If the result has an archive that `sources` does not know, the caller
/// determines its metadata and calls this again. No code of a package runs. The result has the requirements of the
/// projects in `sources`, but not the projects.
///
/// # Errors
/// When uv is missing or finds no solution, when a package has no wheel for the target, or when a file cannot be read.
pub fn resolve(
    requirements: &Requirements,
    target: &WheelTarget,
    base: Option<&BaseFacts>,
    directory: &Path,
    sources: &mut Sources,
) -> Result<Resolution, ResolveError> {
    let distributions = base.map_or(&[][..], |facts| &facts.distributions);
    let mut by_url = Vec::new();
    let mut resolution = Resolution::default();
    let files = match requirements {
        Requirements::Lock(file, selection) => {
            let path = directory.join(file);
            let text = read_regular_text(&path).map_err(|source| ResolveError::read(&path, source))?;
            let mut files = Vec::new();
            for choice in pylock::choose(&text, &path, target, selection)? {
                match choice {
                    Choice::Wheel(mut file) | Choice::Sdist(mut file) => {
                        file.requested = true;
                        file.location.relate_to(directory);
                        files.push(file);
                    }
                    Choice::Project { name, directory: project } => {
                        resolution.projects.push((name, related(&project, directory)));
                    }
                }
            }
            files
        }
        _ => {
            let named = requirements::read(requirements, target, directory)?;
            by_url.extend(named.iter().filter(|named| named.versions.is_none()).map(|named| named.name.clone()));
            let mut files = uv::compile(requirements, &named, target, base, directory, sources)?;
            requirements::check_hashes(&named, &files)?;
            for file in &mut files {
                file.requested = named.iter().any(|requirement| requirement.name == file.name);
            }
            files
        }
    };
    let has = |name: &str| distributions.iter().find(|distribution| distribution.normalized_name() == name);
    for file in files {
        match has(&file.name) {
            Some(old) if wheel::same_version(&old.version, &file.version) && !by_url.contains(&file.name) => continue,
            Some(old) => resolution.replaced.push(Replaced {
                name: file.name.clone(),
                old: old.version.clone(),
                new: file.version.clone(),
            }),
            None => {}
        }
        let kind = if file.file.ends_with(".whl") { &mut resolution.wheels } else { &mut resolution.sdists };
        kind.push(file);
    }
    resolution.wheels.sort_by(|a, b| a.name.cmp(&b.name));
    resolution.sdists.sort_by(|a, b| a.name.cmp(&b.name));
    resolution.projects.sort();
    Ok(resolution)
}

#[cfg(test)]
mod tests;
