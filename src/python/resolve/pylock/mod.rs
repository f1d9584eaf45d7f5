//! Locks after PEP 751 (`pylock.toml`): selection of packages and files for a target.

mod document;
mod marker;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use ociforge_layers::source::wheel::{FileName, normalize};
use ociforge_manifests::Digest;
use pep440_rs::{Version, VersionSpecifiers};

use self::document::{Pylock, PylockFile, PylockPackage, parse};
use self::marker::Environment;
use super::tags::CompatibilityTags;
use crate::layer::PylockSelection;
use crate::python::error::{PackageProblem, ResolveError};
use crate::python::source::{ARCHIVES, version_of};
use crate::python::target::WheelTarget;
use crate::python::wheel::{Location, LockedWheel};

pub(super) use document::as_requirements;
pub(super) use marker::marker_environment;

/// The selected origin of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// A wheel.
    Wheel(LockedWheel),
    /// A source archive, if no wheel matches.
    Sdist(LockedWheel),
    /// A directory with a project.
    Project {
        /// The package's normalised name.
        name: String,
        /// The directory; relative to that of the lock.
        directory: PathBuf,
    },
}

impl Choice {
    fn name(&self) -> &str {
        match self {
            Self::Wheel(file) | Self::Sdist(file) => &file.name,
            Self::Project { name, .. } => name,
        }
    }
}

/// The choices for `target` from a user's lock, in its order. Relative paths start at the lock's directory. Marks no
/// package as requested.
pub(super) fn choose(
    text: &str,
    path: &Path,
    target: &WheelTarget,
    selection: &PylockSelection,
) -> Result<Vec<Choice>, ResolveError> {
    let lock = parse(text, path)?;
    check_selection(&lock, path, selection)?;
    let chooser = WheelSelector::new(&lock, path, target, selection)?;
    let mut choices: Vec<Choice> = Vec::new();
    chooser.each(&lock, |package| {
        let Some(choice) = chooser.choose(package)? else { return Ok(()) };
        if choices.iter().any(|other| other.name() == choice.name()) {
            return Err(PackageProblem::Twice);
        }
        choices.push(choice);
        Ok(())
    })?;
    Ok(choices)
}

/// The wheels in a lock that uv made with wheels only; otherwise as [`choose`].
pub(super) fn read(text: &str, path: &Path, target: &WheelTarget) -> Result<Vec<LockedWheel>, ResolveError> {
    let mut wheels = Vec::new();
    for choice in choose(text, path, target, &PylockSelection::default())? {
        match choice {
            Choice::Wheel(wheel) => wheels.push(wheel),
            Choice::Sdist(LockedWheel { name, file, .. }) => {
                let problem = PackageProblem::WrongTarget { target: target.to_string(), files: vec![file] };
                return Err(ResolveError::Package { name, problem });
            }
            Choice::Project { name, .. } => {
                return Err(ResolveError::Package { name, problem: PackageProblem::NotAWheel("directory") });
            }
        }
    }
    Ok(wheels)
}

/// The source archives in a lock that has only those; otherwise as [`read`].
pub(super) fn read_sdists(text: &str, path: &Path, target: &WheelTarget) -> Result<Vec<LockedWheel>, ResolveError> {
    let lock = parse(text, path)?;
    let chooser = WheelSelector::new(&lock, path, target, &PylockSelection::default())?;
    let mut archives = Vec::new();
    chooser.each(&lock, |package| {
        archives.extend(package.sdist.as_ref().map(|file| chooser.archive(file, package)).transpose()?.flatten());
        Ok(())
    })?;
    Ok(archives)
}

/// Checks that the selected extras and groups exist in the lock.
fn check_selection(lock: &Pylock, path: &Path, selection: &PylockSelection) -> Result<(), ResolveError> {
    let check = |kind, wanted: &[String], known: Vec<&String>| {
        let mut known: Vec<String> = known.into_iter().map(|name| normalize(name)).collect();
        known.sort();
        known.dedup();
        match wanted.iter().find(|name| !known.contains(&normalize(name))) {
            None => Ok(()),
            Some(name) => Err(ResolveError::Selection { path: path.to_path_buf(), kind, name: name.clone(), known }),
        }
    };
    check("extra", &selection.extras, lock.extras.iter().collect())?;
    let groups = lock.dependency_groups.iter().chain(&lock.default_groups).collect();
    check("group", selection.groups.as_deref().unwrap_or_default(), groups)
}

/// Selects packages for one target.
struct WheelSelector<'a> {
    target: &'a WheelTarget,
    environment: Environment,
    tags: CompatibilityTags,
    path: &'a Path,
}

impl<'a> WheelSelector<'a> {
    /// Fails if the lock is for other targets.
    fn new(
        lock: &Pylock,
        path: &'a Path,
        target: &'a WheelTarget,
        selection: &PylockSelection,
    ) -> Result<Self, ResolveError> {
        let groups = selection.groups.as_ref().unwrap_or(&lock.default_groups);
        let environment = Environment::new(target, &selection.extras, groups)?;
        let chooser = Self { target, environment, tags: CompatibilityTags::of(target), path };
        if chooser.fits(lock)? {
            return Ok(chooser);
        }
        Err(ResolveError::OtherTarget { path: path.to_path_buf(), target: target.to_string() })
    }

    /// Whether the lock is for the target.
    fn fits(&self, lock: &Pylock) -> Result<bool, ResolveError> {
        let whole = |problem| ResolveError::Package { name: self.path.display().to_string(), problem };
        if let Some(needs) = &lock.requires_python
            && !self.runs_on(needs).map_err(whole)?
        {
            return Ok(false);
        }
        let mut fits = lock.environments.is_empty();
        for marker in &lock.environments {
            fits |= self.environment.applies(marker).map_err(whole)?;
        }
        Ok(fits)
    }

    /// Calls the function for each package of the target.
    fn each(
        &self,
        lock: &Pylock,
        mut take: impl FnMut(&PylockPackage) -> Result<(), PackageProblem>,
    ) -> Result<(), ResolveError> {
        for package in &lock.packages {
            let applies = package.marker.as_ref().map_or(Ok(true), |marker| self.environment.applies(marker));
            let taken = applies.and_then(|applies| if applies { take(package) } else { Ok(()) });
            taken.map_err(|problem| ResolveError::Package { name: package.name.clone(), problem })?;
        }
        Ok(())
    }

    /// The selected origin of a package.
    fn choose(&self, package: &PylockPackage) -> Result<Option<Choice>, PackageProblem> {
        if let Some(needs) = &package.requires_python
            && !self.runs_on(needs)?
        {
            let python = self.target.python.to_string();
            return Err(PackageProblem::Python { needs: needs.clone(), python });
        }
        if package.vcs.is_some() {
            return Err(PackageProblem::NotAWheel("repository"));
        }
        if let Some(found) = &package.directory {
            let directory = self.beside(&found.path);
            let directory = found.subdirectory.iter().fold(directory, |at, inside| at.join(inside));
            return Ok(Some(Choice::Project { name: normalize(&package.name), directory }));
        }
        if let Some(archive) = &package.archive {
            let name = self.name(archive, &self.location(archive, &package.name)?);
            if !name.ends_with(".whl") {
                return self.source(archive, package).map(Some);
            }
            return self.wheel(std::slice::from_ref(archive), package).map(|wheel| Some(Choice::Wheel(wheel)));
        }
        match (self.wheel(&package.wheels, package), &package.sdist) {
            (Ok(wheel), _) => Ok(Some(Choice::Wheel(wheel))),
            (Err(PackageProblem::WrongTarget { .. }), Some(sdist)) => self.source(sdist, package).map(Some),
            (Err(_), None) if package.wheels.is_empty() => Err(PackageProblem::NoLocation(package.name.clone())),
            (Err(problem), _) => Err(problem),
        }
    }

    /// The best wheel.
    fn wheel(&self, files: &[PylockFile], package: &PylockPackage) -> Result<LockedWheel, PackageProblem> {
        let mut named = Vec::new();
        for file in files {
            let location = self.location(file, &package.name)?;
            let name = self.name(file, &location);
            let parsed = FileName::parse(&name).map_err(|_| PackageProblem::FileName(name.clone()))?;
            named.push((parsed, (file, location, name)));
        }
        let names: Vec<String> = named.iter().map(|(_, (_, _, name))| name.clone()).collect();
        let version = named.first().map(|(parsed, _)| parsed.version.clone()).unwrap_or_default();
        let best = self.tags.best(named);
        let (file, location, name) =
            best.ok_or_else(|| PackageProblem::WrongTarget { target: self.target.to_string(), files: names })?;
        locked(package, package.version.clone().unwrap_or(version), file, location, name)
    }

    /// A source archive to build.
    fn source(&self, file: &PylockFile, package: &PylockPackage) -> Result<Choice, PackageProblem> {
        if file.subdirectory.is_some() {
            return Err(PackageProblem::NotAWheel("directory in a source archive"));
        }
        let archive = self.archive(file, package)?;
        archive.map(Choice::Sdist).ok_or(PackageProblem::NotAWheel("source archive of an unknown format or version"))
    }

    /// A source archive; `None` if its form is not supported.
    fn archive(&self, file: &PylockFile, package: &PylockPackage) -> Result<Option<LockedWheel>, PackageProblem> {
        let location = self.location(file, &package.name)?;
        let name = self.name(file, &location);
        let version = package.version.clone().or_else(|| version_of(&name, &package.name));
        let Some(version) = version.filter(|_| !name.contains('/') && ARCHIVES.iter().any(|end| name.ends_with(end)))
        else {
            return Ok(None);
        };
        locked(package, version, file, location, name).map(Some)
    }

    fn name(&self, file: &PylockFile, location: &Location) -> String {
        file.name.clone().or_else(|| location.file_name()).unwrap_or_default()
    }

    /// The path if there is one, because the lock's author ships that file; otherwise the URL.
    fn location(&self, file: &PylockFile, package: &str) -> Result<Location, PackageProblem> {
        let location = match (&file.path, &file.url) {
            (Some(path), _) => Some(Location::Path(self.beside(path))),
            (None, Some(url)) => Location::of_url(url),
            (None, None) => None,
        };
        location.ok_or_else(|| PackageProblem::NoLocation(file.name.clone().unwrap_or_else(|| package.to_owned())))
    }

    /// A path relative to the lock.
    fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(path)
    }

    fn runs_on(&self, needs: &str) -> Result<bool, PackageProblem> {
        let unreadable = |message: String| PackageProblem::Unreadable { text: needs.to_owned(), message };
        let versions = VersionSpecifiers::from_str(needs).map_err(|error| unreadable(error.to_string()))?;
        Ok(versions.contains(&self.python()))
    }

    /// The target's Python; if only 3.11 is known, the newest possible 3.11.
    fn python(&self) -> Version {
        let patch = self.target.python.patch.map_or(u64::from(u16::MAX), u64::from);
        Version::new([3, u64::from(self.target.python.minor), patch])
    }
}

/// A locked file of a package.
fn locked(
    package: &PylockPackage,
    version: String,
    file: &PylockFile,
    location: Location,
    name: String,
) -> Result<LockedWheel, PackageProblem> {
    let hash = file.hashes.get("sha256").map(|hash| format!("sha256:{}", hash.to_ascii_lowercase()));
    let sha256: Option<Digest> = hash.and_then(|hash| hash.parse().ok());
    Ok(LockedWheel {
        name: normalize(&package.name),
        version,
        sha256: sha256.ok_or_else(|| PackageProblem::NoHash(name.clone()))?,
        file: name,
        location,
        size: file.size,
        requested: false,
    })
}

#[cfg(test)]
mod tests;
