//! Resolves the names of a recipe: the base to a digest, and each package to a wheel with its hash.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ociforge_layers::BaseFiles;
use ociforge_manifests::lint::InstalledPackage;
use ociforge_manifests::{ConfigEdit, Digest, Expansion, Platform};
use serde_json::json;

use super::base_files;
use super::build_root::BuildRoot;
use super::error::failed;
use super::interpreter::{Interpreter, Packages};
use super::{BuildError, Builder, StepError};
use crate::base::BaseImage;
use crate::layer::{LayerError, PROJECT_FILES, Pip, Step, StepKind, stays_inside};
use crate::lock::{Lock, LockedBase, SourceEntry, WheelEntry};
use crate::plan::{Base, Plan};
use crate::progress::Reporter;
use crate::python::build::BuildContext;
use crate::python::fetch::Check;
use crate::python::install::{self, LocalWheel, correction};
use crate::python::{Fetcher, Location, LockedWheel};
use ociforge_layers::regular::read_regular;

/// The resolved inputs of a build for one platform.
pub(super) struct Pins {
    pub(super) base: BaseImage,
    /// The plan's changes of the config, with expanded variables.
    pub(super) config: ConfigEdit,
    /// The Python of the packages; `None` without packages.
    pub(super) interpreter: Option<Interpreter>,
    /// The known files of the base.
    pub(super) base_files: BaseFiles,
    /// The base alone, for running build backends.
    pub(super) build_context: BuildContext,
    /// The packages of each step, by the index of the step in the recipe.
    packages: BTreeMap<usize, Packages>,
}

impl Pins {
    pub(super) async fn find(
        builder: &Builder,
        plan: &Plan,
        platform: &Platform,
        lock: Option<&Lock>,
    ) -> Result<Self, BuildError> {
        if platform.os != "linux" {
            return Err(BuildError::System(platform.clone()));
        }
        let wheels = lock.into_iter().flat_map(|lock| lock.wheels.iter().map(|wheel| wheel.layer));
        let sources = lock.into_iter().flat_map(|lock| lock.sources.iter().map(|source| source.layer));
        let misplaced = wheels.filter(|layer| !takes_wheels(plan, *layer));
        if let Some(layer) = misplaced.chain(sources.filter(|layer| !takes_sources(plan, *layer))).next() {
            return Err(BuildError::Misplaced { layer });
        }
        let pinned = lock.and_then(|lock| lock.bases.iter().find(|base| base.platform == platform.to_string()));
        let name = plan.base_image();
        let base = BaseImage::resolve(name.as_ref(), platform, pinned.map(|base| &base.digest), &builder.client);
        let shown = name.as_ref().map_or("scratch".to_owned(), ToString::to_string);
        let base = base.await.map_err(|source| BuildError::Base { name: shown.clone(), source: Box::new(source) })?;
        let mut expansion = Expansion::new(&base.image.config.config.env);
        let config = plan.config.expanded(&mut expansion)?;
        builder.warn_of_missing("[config]", &expansion);
        let build_context = BuildRoot::new(builder, &config, &base).build_context()?;
        let base_files = base_files::known(builder, &base, pinned).await?;
        let mut pins = Self { base, config, interpreter: None, base_files, build_context, packages: BTreeMap::new() };
        if plan.steps.iter().any(|step| matches!(step.kind, StepKind::Pip(_))) {
            let (interpreter, files) = Interpreter::of(builder, plan, platform, &pins.base, &shown).await?;
            pins.base_files = files.map_or(pins.base_files, BaseFiles::Known);
            for (n, step) in plan.steps.iter().enumerate() {
                if let StepKind::Pip(pip) = &step.kind {
                    let locked = lock.map(|lock| locked(lock, platform, n));
                    let packages = interpreter.packages(builder, plan, step, pip, locked, &pins.build_context);
                    let mut packages = packages.await?;
                    pins.drop_repeated(&mut packages, step, &*builder.reporter);
                    pins.packages.insert(n, packages);
                }
            }
            pins.interpreter = Some(interpreter);
        }
        Ok(pins)
    }

    /// Reads all files of the base from its layers.
    pub(super) async fn read_base(&mut self, builder: &Builder) -> Result<(), BuildError> {
        self.base_files = BaseFiles::Known(base_files::contents(builder, &self.base).await?.files);
        Ok(())
    }

    /// Removes packages that an earlier step installs. Each step is resolved on its own, so versions may differ.
    fn drop_repeated(&self, packages: &mut Packages, step: &Step, reporter: &dyn Reporter) {
        let is_new = |name: &str, version: Option<&str>| {
            let earlier = self.named().find(|(earlier, _)| *earlier == name);
            let Some((_, earlier)) = earlier else { return true };
            // Keep projects: the version of a project does not identify its content.
            let other = version.is_none() || earlier != version;
            if let (true, Some(earlier), Some(version)) = (other, earlier, version) {
                reporter.warn(&format!(
                    "line {} installs {name} {version} over the {earlier} of an earlier layer, whose files stay: put the \
                     packages of both into one layer",
                    step.line
                ));
            }
            other
        };
        packages.wheels.retain(|wheel| is_new(&wheel.name, Some(&wheel.version)));
        packages.sources.retain(|source| is_new(source.name(), source.version()));
    }

    /// The names and versions of all packages, in the recipe's order. Projects have no known version.
    fn named(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.packages.values().flat_map(|packages| {
            let wheels = packages.wheels.iter().map(|wheel| (wheel.name.as_str(), Some(wheel.version.as_str())));
            wheels.chain(packages.sources.iter().map(|source| (source.name(), source.version())))
        })
    }

    /// The installed Python packages, in the recipe's order, without the recipe's own projects.
    pub(super) fn packages(&self) -> impl Iterator<Item = InstalledPackage<'_>> {
        self.named().filter_map(|(name, version)| Some(InstalledPackage { name, version: version? }))
    }

    /// Whether step `n` has packages without a wheel, to build on top of the layers below.
    pub(super) fn builds(&self, n: usize) -> bool {
        self.packages.get(&n).is_some_and(|packages| !packages.sources.is_empty())
    }

    /// Checks local wheels as a build does: their hashes, their content, and whether they can be installed.
    async fn check_local_wheels(&self, builder: &Builder, plan: &Plan) -> Result<(), BuildError> {
        let Some(interpreter) = &self.interpreter else { return Ok(()) };
        let (fetcher, check): (_, Check) = (Fetcher::for_plan(&builder.store, plan)?, Arc::new(correction::check));
        for (n, packages) in &self.packages {
            let is_local = |wheel: &&LockedWheel| matches!(wheel.location, Location::Path(_));
            let wheels: Vec<_> = packages.wheels.iter().filter(is_local).cloned().collect();
            let paths = fetcher.fetch(&wheels, &plan.directory, &check, &*builder.reporter).await?;
            let wheels = wheels.into_iter().zip(paths).map(|(locked, path)| LocalWheel { locked, path });
            let installed = install::install(&wheels.collect::<Vec<_>>(), &interpreter.scheme, 0);
            installed.map_err(|error| failed(&plan.steps[*n], error))?;
        }
        Ok(())
    }

    /// The wheels of step `n`, by name. Downloads missing wheels, and builds packages without a wheel in
    /// `build_context` unless the store has the result.
    pub(super) async fn fetch(
        &self,
        builder: &Builder,
        plan: &Plan,
        n: usize,
        build_context: &BuildContext,
    ) -> Result<Vec<LocalWheel>, BuildError> {
        let (Some(interpreter), Some(packages)) = (&self.interpreter, self.packages.get(&n)) else {
            return Ok(Vec::new());
        };
        let check: Check = Arc::new(correction::check);
        let fetcher = Fetcher::for_plan(&builder.store, plan)?;
        let paths = fetcher.fetch(&packages.wheels, &plan.directory, &check, &*builder.reporter).await?;
        let fetched = packages.wheels.iter().cloned().zip(paths);
        let mut wheels: Vec<_> = fetched.map(|(locked, path)| LocalWheel { locked, path }).collect();
        for source in &packages.sources {
            wheels.push(interpreter.wheel_builder(builder, plan, build_context).wheel(source).await?);
        }
        // If two wheels have the same file, the later one applies: sort them, so that their location has no effect.
        wheels.sort_by(|a, b| a.locked.name.cmp(&b.locked.name));
        correction::warn(&wheels, &*builder.reporter);
        Ok(wheels)
    }
}

/// The packages of a lock for one layer.
fn locked(lock: &Lock, platform: &Platform, layer: usize) -> Packages {
    let platform = platform.to_string();
    Packages {
        wheels: lock.wheels_of(&platform, layer).cloned().collect(),
        sources: lock.sources_of(&platform, layer).cloned().collect(),
    }
}

/// Whether the step takes its wheels from `ociforge.lock`. Wheels on disk and those of a `pylock.toml` are pinned
/// already.
fn takes_wheels(plan: &Plan, step: usize) -> bool {
    takes_sources(plan, step) && !matches!(&plan.steps[step].kind, StepKind::Pip(Pip::Lock(..)))
}

/// Whether the step takes its sources and their build requirements from `ociforge.lock`.
fn takes_sources(plan: &Plan, step: usize) -> bool {
    let kind = plan.steps.get(step).map(|step| &step.kind);
    matches!(kind, Some(StepKind::Pip(pip)) if !matches!(pip, Pip::Wheels(_)))
}

/// The digest of the inputs of a lock: the values of the recipe, its requirements files, and the metadata files of its
/// projects.
///
/// # Errors
/// When such a file cannot be read, or a directory is not a project.
pub fn recipe_digest(plan: &Plan) -> Result<Digest, BuildError> {
    let mut files = Vec::new();
    for (step, file) in plan.requirements() {
        let path = plan.locate(file);
        stays_inside(&plan.directory, &path).map_err(|error| failed(step, error))?;
        let bytes = read_regular(&path).map_err(|source| failed(step, LayerError::Read { path, source }))?;
        files.push(Digest::of(&bytes));
    }
    let mut json = json!({"recipe": plan.inputs, "files": files});
    let projects =
        plan.projects().map(|(step, directory)| project_files(plan, directory).map_err(|error| failed(step, error)));
    let projects = projects.collect::<Result<Vec<_>, _>>()?;
    if !projects.is_empty() {
        json["projects"] = json!(projects);
    }
    Ok(Digest::of(&ociforge_manifests::document::canonical(&json)))
}

/// The digests of a project's metadata files, by name.
pub(super) fn project_files(plan: &Plan, directory: &Path) -> Result<BTreeMap<&'static str, Digest>, StepError> {
    let directory = plan.locate(directory);
    stays_inside(&plan.directory, &directory)?;
    let mut files = BTreeMap::new();
    for name in PROJECT_FILES {
        let path = directory.join(name);
        match read_regular(&path) {
            Ok(bytes) => drop(files.insert(name, Digest::of(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(LayerError::Read { path, source }.into()),
        }
    }
    // As for pip, a directory with only setup.cfg is not a project.
    if !files.contains_key("pyproject.toml") && !files.contains_key("setup.py") {
        return Err(StepError::NoProject(directory));
    }
    Ok(files)
}

/// Resolves the base and all packages of `plan` for each of `platforms`.
///
/// # Errors
/// When the base or a package cannot be resolved.
pub async fn lock_file(builder: &Builder, plan: &Plan, platforms: &[Platform]) -> Result<Lock, BuildError> {
    let mut lock = Lock { recipe: recipe_digest(plan)?, bases: Vec::new(), wheels: Vec::new(), sources: Vec::new() };
    for platform in platforms {
        let pins = Pins::find(builder, plan, platform, None).await?;
        pins.check_local_wheels(builder, plan).await?;
        if let Base::Image(name) = &plan.base {
            let name = name.to_string();
            let digest = pins.base.image.manifest.digest();
            let files = base_files::to_lock(builder, plan, &pins).await?;
            lock.bases.push(LockedBase { platform: platform.to_string(), name, digest, files });
        }
        for (layer, Packages { wheels, sources }) in pins.packages {
            let platform = || platform.to_string();
            if takes_wheels(plan, layer) {
                lock.wheels.extend(wheels.into_iter().map(|wheel| WheelEntry { platform: platform(), layer, wheel }));
            }
            if takes_sources(plan, layer) {
                let entry = |source| SourceEntry { platform: platform(), layer, source };
                lock.sources.extend(sources.into_iter().map(entry));
            }
        }
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Explain;
    use crate::plan;

    #[test]
    fn a_lock_depends_on_what_projects_say() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("ociforge.toml", "base = 'scratch'\n[[layer]]\npip = { project = 'lib' }\n");
        std::fs::create_dir(directory.path().join("lib")).unwrap();
        write("lib/setup.cfg", "");
        let digest = || recipe_digest(&plan::read(directory.path(), &BTreeMap::new()).unwrap());
        let error = digest().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.ends_with("lib has neither pyproject.toml nor setup.py"), "{cause}");
        assert!(error.hint().unwrap().contains("relative to the recipe's directory"));

        for outside in ["..", "link"] {
            write("ociforge.toml", &format!("base = 'scratch'\n[[layer]]\npip = {{ project = '{outside}' }}\n"));
            std::os::unix::fs::symlink("/", directory.path().join("link")).ok();
            let error = digest().unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.ends_with(&format!("{outside} leads out of the recipe's directory")), "{cause}");
        }
        write("ociforge.toml", "base = 'scratch'\n[[layer]]\npip = { project = 'lib' }\n");

        write("lib/setup.py", "setup()");
        let first = digest().unwrap();
        write("lib/module.py", "");
        assert_eq!(digest().unwrap(), first);
        write("lib/pyproject.toml", "");
        let second = digest().unwrap();
        write("lib/pyproject.toml", "[project]");
        let third = digest().unwrap();
        assert!(first != second && second != third && first != third);
    }
}
