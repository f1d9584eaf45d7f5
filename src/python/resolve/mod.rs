//! Resolution: the requirements of a step become wheels with hashes, by uv or from a lock after PEP 751.

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

/// What a step of a recipe asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirements {
    /// Requirements as `pip install` takes them.
    List(Vec<String>),
    /// A requirements file.
    File(PathBuf),
    /// A lock after PEP 751, and what of it.
    Lock(PathBuf, PylockSelection),
}

/// What requirements come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The wheels to install, sorted by normalised name. What the base has already is not among them.
    pub wheels: Vec<LockedWheel>,
    /// The source archives of what has no wheel, sorted in the same way.
    pub sdists: Vec<LockedWheel>,
    /// The projects that a lock names: normalised names, and directories; relative to the recipe's where they are inside
    /// it. Sorted by name.
    pub projects: Vec<(String, PathBuf)>,
    /// Distributions of the base that are replaced by one of the wheels.
    pub replaced: Vec<Replaced>,
}

impl Resolution {
    /// Whether all of its wheels run on `target`.
    #[must_use]
    pub fn runs_on(&self, target: &WheelTarget) -> bool {
        wheel::misfits(&self.wheels, target).next().is_none()
    }

    /// Whether it has the same packages in the same versions as another, perhaps in other wheels.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let packages = |files: &[LockedWheel]| -> Vec<_> {
            files.iter().map(|file| (file.name.clone(), file.version.clone())).collect()
        };
        packages(&self.wheels) == packages(&other.wheels) && packages(&self.sdists) == packages(&other.sdists)
    }
}

/// A distribution of the base in another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Its normalised name.
    pub name: String,
    /// The version that the base has.
    pub old: String,
    /// The version that takes its place.
    pub new: String,
}

/// Finds the wheels that fulfil `requirements` on `target`, on top of what `base` has installed. Relative paths start
/// at `directory`, the recipe's. Blocks while uv works.
///
/// How the base's distributions count:
/// - What the requirements name and the base has in a version that fits stays, as with `pip install`. In a version
///   that does not fit it is replaced, and neither the base's own constraint file (`PIP_CONSTRAINT`) nor the pins
///   below hold for it.
/// - Builds that no index can have (local versions and pre-releases, such as `torch 2.5.0a0+872d972e41`) are pinned:
///   a package that can't live with one makes the resolution fail rather than bring in another build.
/// - All others are preferred, and replaced where a package needs another version.
/// - Of what they require in turn only what holds in the base now must hold afterwards: what the base lacks is not
///   added, and what it has in conflict is not repaired.
///
/// A lock (PEP 751) is taken as it stands, without what the base has in just that version. `sources` are not asked.
///
/// Wheels come first: only where nothing else fulfils the requirements does a source archive stand in for a wheel. Its
/// own requirements count as far as `sources` knows them, so whoever finds one among the result that `sources` does not
/// know has to look into it and ask again. No code of any package is run. The projects of `sources` are left out of the
/// result, and what they require is in it.
///
/// # Errors
/// When uv is missing or finds no solution, when a package has no wheel for the target, or a file can't be read.
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
