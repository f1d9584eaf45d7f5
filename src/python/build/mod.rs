//! Builds wheels of packages that have none: the build backend runs in the sandbox, on top of the base, with the base's
//! Python and only the build requirements of the lock.
//!
//! The store keeps built wheels as `built/KEY/NAME.whl`, where KEY is the digest of all inputs of the build.

mod backend;
mod bytecode;
mod error;
mod metadata;
mod tree;
mod unnamed;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ociforge_layers::source::wheel::{FileName, Scheme, Wheel};
use ociforge_manifests::Digest;
use ociforge_manifests::document::canonical;
use pep440_rs::Version;
use serde_json::json;

use self::backend::BackendCall;
use self::metadata::BuildSystem;
use self::tree::SourceTree;
use crate::base::facts::BaseFacts;
use crate::layer::Epoch;
use crate::plan::Plan;
use crate::progress::Reporter;
use crate::python::fetch::Check;
use crate::python::install::LocalWheel;
use crate::python::install::correction;
use crate::python::{
    Fetcher, IsolatedRunner, Location, LockedSource, LockedWheel, Requirements, SourceLocation, Sources, WheelTarget,
    local, resolve,
};

use crate::store::Store;

pub(crate) use bytecode::bytecode;
pub use error::{SourceError, WheelBuildError};
use metadata::name_and_version;

/// Part of every key. Change it when the same input gives another wheel.
const FORMAT: u32 = 1;
/// The earliest time in a zip archive, 1980.
const OLDEST: i64 = 315_532_800;

/// The environment of build backends.
#[derive(Clone)]
pub(crate) struct BuildContext {
    pub(crate) isolated: Arc<dyn IsolatedRunner>,
    /// The digest of the layers below and of the image's variables.
    pub(crate) digest: Digest,
}

/// Builds wheels for one Python.
pub(crate) struct WheelBuilder<'a> {
    pub(crate) store: &'a Store,
    pub(crate) reporter: &'a dyn Reporter,
    /// Whether the store may provide a wheel.
    pub(crate) use_cache: bool,
    pub(crate) epoch: Epoch,
    pub(crate) plan: &'a Plan,
    pub(crate) scheme: &'a Scheme,
    /// The target. Its C library may be an assumption.
    pub(crate) target: WheelTarget,
    /// The known facts about the base.
    pub(crate) facts: Option<&'a BaseFacts>,
    pub(crate) build_context: &'a BuildContext,
}

/// The metadata of a source for a lock.
pub(crate) struct SourceMetadata {
    /// The headers of its metadata.
    pub(crate) metadata: String,
    /// The wheels of its build requirements.
    pub(crate) requires: Vec<LockedWheel>,
}

impl WheelBuilder<'_> {
    /// Determines the metadata of an archive. `options` name the indexes, see [`crate::python::index_options`].
    pub(crate) async fn study_sdist(
        &self,
        archive: &LockedWheel,
        options: &[String],
    ) -> Result<SourceMetadata, WheelBuildError> {
        let studied = async {
            let study = self.study(&self.unpack(archive).await?, options).await?;
            let found = name_and_version(&study.metadata)?;
            agrees(&found, &archive.name, Some(&archive.version))?;
            Ok(study)
        };
        studied.await.map_err(|error| failed(shown(&archive.name, Some(&archive.version)), error))
    }

    /// Determines the metadata of a project.
    pub(crate) async fn study_project(&self, directory: &Path) -> Result<SourceMetadata, WheelBuildError> {
        let studied = async {
            let tree = SourceTree::of_project(self.plan, directory, self.epoch.seconds())?;
            self.study(&tree, &[]).await
        };
        studied.await.map_err(|error| failed(shown_project(directory), error))
    }

    async fn study(&self, tree: &SourceTree, options: &[String]) -> Result<SourceMetadata, SourceError> {
        let system = BuildSystem::of(tree)?;
        let stated = metadata::stated(tree)?;
        stated.iter().try_for_each(|stated| metadata::check_python(stated, self.target.python))?;
        let mut list = system.requires.clone();
        let (mut requires, mut bench) = self.equipped(tree, &system, &list, options).await?;
        loop {
            let more = match bench.requires().await {
                Ok(more) => more,
                Err(error) => vec![unnamed::unnamed(&error, self.facts).filter(|_| system.legacy).ok_or(error)?],
            };
            // Requirements that the source already has are installed.
            let more: Vec<String> = more.into_iter().filter(|requirement| !list.contains(requirement)).collect();
            if more.is_empty() {
                break;
            }
            list.extend(more);
            (requires, bench) = self.equipped(tree, &system, &list, options).await?;
        }
        let metadata = match stated {
            Some(metadata) => metadata,
            None => match bench.metadata().await? {
                Some(metadata) => metadata,
                None => {
                    let wheel = bench.wheel().await?;
                    let headers = Wheel::open(&wheel)?;
                    let of = |name: &'static str| {
                        headers.metadata().all(name).map(move |value| format!("{name}: {value}\n"))
                    };
                    ["Name", "Version", "Requires-Python", "Requires-Dist", "Provides-Extra"]
                        .into_iter()
                        .flat_map(of)
                        .collect()
                }
            },
        };
        metadata::check_python(&metadata, self.target.python)?;
        Ok(SourceMetadata { metadata, requires })
    }

    /// Prepares a source with the wheels of its build requirements.
    async fn equipped(
        &self,
        tree: &SourceTree,
        system: &BuildSystem,
        list: &[String],
        options: &[String],
    ) -> Result<(Vec<LockedWheel>, BackendCall), SourceError> {
        let requires = self.requirements(list, options).await?;
        let bench = self.bench(tree, system, &requires).await?;
        Ok((requires, bench))
    }

    /// Resolves build requirements to wheels, without the base's packages, which a build does not see.
    async fn requirements(&self, list: &[String], options: &[String]) -> Result<Vec<LockedWheel>, SourceError> {
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let requirements = Requirements::List([options, list].concat());
        let (target, directory) = (self.target.clone(), self.plan.directory.clone());
        let resolved = tokio::task::spawn_blocking(move || {
            resolve(&requirements, &target, None, &directory, &mut Sources::default())
        });
        let resolution = resolved.await.map_err(|_| SourceError::Result("it was interrupted".into()))??;
        match resolution.sdists.into_iter().next() {
            Some(LockedWheel { name, version, .. }) => Err(SourceError::Nested { name, version }),
            None => {
                let unasked = |wheel| LockedWheel { requested: false, ..wheel };
                Ok(resolution.wheels.into_iter().map(unasked).collect())
            }
        }
    }

    async fn bench(
        &self,
        tree: &SourceTree,
        system: &BuildSystem,
        requires: &[LockedWheel],
    ) -> Result<BackendCall, SourceError> {
        let wheels = self.fetch(requires, Arc::new(correction::check)).await?;
        let scratch = self.scratch()?;
        let epoch = self.zip_epoch();
        tokio::task::block_in_place(|| {
            BackendCall::set_up(scratch, tree, system, &wheels, self.scheme, self.build_context.isolated.clone(), epoch)
        })
    }

    /// The wheel of a source, from the store or from a new build.
    pub(crate) async fn wheel(&self, source: &LockedSource) -> Result<LocalWheel, WheelBuildError> {
        self.wheel_of(source).await.map_err(|error| failed(shown(source.name(), source.version()), error))
    }

    async fn wheel_of(&self, source: &LockedSource) -> Result<LocalWheel, SourceError> {
        let tree = match &source.origin {
            SourceLocation::Sdist(archive) => self.unpack(archive).await?,
            SourceLocation::Project { directory, .. } => {
                SourceTree::of_project(self.plan, directory, self.epoch.seconds())?
            }
        };
        let place = self.store.built().join(self.key(source, &tree)?.hex());
        let requested = match &source.origin {
            SourceLocation::Sdist(archive) => archive.requested,
            SourceLocation::Project { .. } => true,
        };
        if let Some(path) = kept(&place).filter(|_| self.use_cache) {
            return self.checked(&path, source, requested);
        }
        let system = BuildSystem::of(&tree)?;
        let bench = self.bench(&tree, &system, &source.requires).await?;
        let wheel = bench.wheel().await?;
        self.checked(&wheel, source, requested)?;
        let path = keep(&wheel, &place, &self.store.temporary())?;
        self.checked(&path, source, requested)
    }

    /// Checks that the wheel at `path` belongs to the source and runs on the target.
    fn checked(&self, path: &Path, source: &LockedSource, requested: bool) -> Result<LocalWheel, SourceError> {
        // The tag may name the C library of the base, which built the wheel.
        let mut wheels = local(&[path.to_path_buf()], &self.target, &self.plan.directory, &self.store.file_hashes())?;
        let locked = wheels.pop().ok_or(SourceError::NoName)?;
        let locked = LockedWheel { requested, location: Location::Path(path.to_path_buf()), ..locked };
        let version = locked.version.parse::<Version>().map_err(|_| SourceError::NoName)?;
        agrees(&(locked.name.clone(), version), source.name(), source.version())?;
        correction::verify(path, &locked.file)?.supports(self.scheme.python)?;
        Ok(LocalWheel { locked, path: path.to_path_buf() })
    }

    /// The digest of all inputs of a wheel.
    fn key(&self, source: &LockedSource, tree: &SourceTree) -> Result<Digest, SourceError> {
        let mut requires: Vec<_> = source.requires.iter().map(|wheel| (&wheel.file, &wheel.sha256)).collect();
        requires.sort();
        Ok(Digest::of(&canonical(&json!({
            "format": [json!(FORMAT), json!(Digest::of(backend::FRONTEND.as_bytes()))],
            "source": tree.digest,
            "name": source.name(),
            "requires": requires,
            "ground": self.build_context.digest,
            "python": [json!(self.scheme.executable), json!(self.scheme.python)],
            "epoch": self.zip_epoch(),
        }))))
    }

    async fn unpack(&self, archive: &LockedWheel) -> Result<SourceTree, SourceError> {
        let fetched = self.fetch(std::slice::from_ref(archive), Arc::new(|_, _| Ok(()))).await?;
        let scratch = self.scratch()?;
        let path = fetched.first().map(|fetched| fetched.path.clone()).unwrap_or_default();
        tokio::task::block_in_place(|| SourceTree::of_sdist(&path, archive, scratch.path(), self.zip_epoch()))
    }

    async fn fetch(&self, files: &[LockedWheel], check: Check) -> Result<Vec<LocalWheel>, SourceError> {
        let fetcher = Fetcher::for_plan(self.store, self.plan)?;
        let paths = fetcher.fetch(files, &self.plan.directory, &check, self.reporter).await?;
        Ok(files.iter().cloned().zip(paths).map(|(locked, path)| LocalWheel { locked, path }).collect())
    }

    fn zip_epoch(&self) -> i64 {
        self.epoch.seconds().max(OLDEST)
    }

    fn scratch(&self) -> Result<tempfile::TempDir, SourceError> {
        scratch(&self.store.temporary())
    }
}

/// A temporary directory. The store removes it later if the process is killed.
fn scratch(parent: &Path) -> Result<tempfile::TempDir, SourceError> {
    let made = fs::create_dir_all(parent).and_then(|()| tempfile::Builder::new().prefix(".tmp-").tempdir_in(parent));
    made.map_err(|source| SourceError::File { path: parent.to_path_buf(), source })
}

/// The name and version of the project in `directory`, from its metadata.
pub(crate) fn project(metadata: &str, directory: &Path) -> Result<(String, Version), WheelBuildError> {
    name_and_version(metadata).map_err(|error| failed(shown_project(directory), error))
}

fn agrees(found: &(String, Version), name: &str, version: Option<&str>) -> Result<(), SourceError> {
    let same = |version: &str| version.parse::<Version>().is_ok_and(|version| version == found.1);
    if found.0 == name && version.is_none_or(same) {
        return Ok(());
    }
    let (found, expected) = (format!("{} {}", found.0, found.1), shown(name, version));
    Err(SourceError::OtherPackage { found, expected })
}

fn shown(name: &str, version: Option<&str>) -> String {
    version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"))
}

fn shown_project(directory: &Path) -> String {
    format!("the project {}", directory.display())
}

fn failed(what: String, source: SourceError) -> WheelBuildError {
    WheelBuildError { what, source: Box::new(source) }
}

/// The wheel in a directory of the store.
fn kept(place: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(place).ok()?.flatten().map(|entry| entry.path());
    files.find(|path| path.file_name().is_some_and(|name| FileName::parse(&name.to_string_lossy()).is_ok()))
}

/// Copies a wheel into the store atomically.
fn keep(wheel: &Path, place: &Path, temporary: &Path) -> Result<PathBuf, SourceError> {
    let name = wheel.file_name().unwrap_or_default();
    let new = scratch(temporary)?;
    let kept = fs::copy(wheel, new.path().join(name)).and_then(|_| {
        fs::create_dir_all(place.parent().unwrap_or(place))?;
        // Replace an existing wheel of the same key: the build does not use the cache.
        let _ = fs::remove_dir_all(place);
        fs::rename(new.path(), place)
    });
    kept.map_err(|source| SourceError::File { path: place.to_path_buf(), source })?;
    Ok(place.join(name))
}

#[cfg(test)]
pub(crate) use tree::tests::{archive, targz};
