//! Resolves the names of a recipe: the base to a digest, and each package to a wheel with its hash.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ociforge_layers::{BaseFiles, LowerLayers};
use ociforge_manifests::lint::InstalledPackage;
use ociforge_manifests::{ConfigEdit, Digest, Expansion, Platform};
use serde_json::json;

use super::base_files;
use super::build_root::BuildRoot;
use super::error::failed;
use super::interpreter::{Interpreter, Packages};
use super::stage::{StageImage, StageImages, StageInput};
use super::{BuildError, Builder, StepError};
use crate::base::BaseImage;
use crate::layer::{LayerError, PROJECT_FILES, Pip, SourceImage, Step, StepKind, stays_inside};
use crate::lock::{Lock, LockedBase, LockedImage, SourceEntry, WheelEntry};
use crate::plan::{Base, Plan, Stage};
use crate::progress::Reporter;
use crate::python::build::BuildContext;
use crate::python::fetch::Check;
use crate::python::install::{self, LocalWheel, correction};
use crate::python::{Fetcher, Location, LockedWheel};
use ociforge_layers::regular::read_regular;

/// The resolved inputs of a stage for one platform.
pub(super) struct Pins {
    /// The image at the bottom of the stage's chain of bases.
    pub(super) root: BaseImage,
    /// The base: an image or an earlier stage.
    pub(super) base: BaseImage,
    /// The stage's changes of the config, with expanded variables.
    pub(super) config: ConfigEdit,
    /// The Python of the packages; `None` without packages.
    pub(super) interpreter: Option<Interpreter>,
    /// The known files of the base.
    pub(super) below: LowerLayers,
    /// The base alone, for running build backends.
    pub(super) build_context: BuildContext,
    /// The stages and images that steps copy from, by the index of the step in the stage.
    pub(super) sources: BTreeMap<usize, SourceImage>,
    /// The packages of each step, by the index of the step in the stage.
    packages: BTreeMap<usize, Packages>,
}

impl Pins {
    pub(super) async fn find(builder: &Builder, input: StageInput<'_>) -> Result<Self, BuildError> {
        let StageInput { plan, platform, lock, .. } = input;
        if platform.os != "linux" {
            return Err(BuildError::System(platform.clone()));
        }
        lock.map_or(Ok(()), |lock| check_places(plan, lock))?;
        let stage = input.stage();
        let stage_base = StageImage::base_of(builder, input).await?;
        let base = stage_base.as_base();
        let StageImage { root, below, .. } = stage_base;
        let mut expansion = Expansion::new(&base.image.config.config.env);
        let config = stage.config.expanded(&mut expansion)?;
        builder.warn_of_missing("[config]", &expansion);
        let build_context = BuildRoot::new(builder, &config, &base).build_context()?;
        let (sources, packages) = Default::default();
        let mut pins = Self { root, base, config, interpreter: None, below, build_context, sources, packages };
        if stage.steps.iter().any(|step| matches!(step.kind, StepKind::Pip(_))) {
            let (interpreter, files) =
                Interpreter::of(builder, plan.stated_python(input.index), platform, &pins.root).await?;
            files.into_iter().for_each(|files| pins.below.set_base(BaseFiles::Known(files)));
            for (layer, step) in stage.steps.iter().enumerate() {
                if let StepKind::Pip(pip) = &step.kind {
                    let locked = lock.map(|lock| locked(lock, platform, stage, layer));
                    let packages = interpreter.packages(builder, plan, step, pip, locked, &pins.build_context);
                    let mut packages = packages.await?;
                    pins.drop_repeated(&mut packages, step, &*builder.reporter);
                    pins.packages.insert(layer, packages);
                }
            }
            pins.interpreter = Some(interpreter);
        }
        Ok(pins)
    }

    /// Reads all files of the root from its layers.
    pub(super) async fn read_base(&mut self, builder: &Builder) -> Result<(), BuildError> {
        self.below.set_base(BaseFiles::Known(base_files::contents(builder, &self.root).await?.files));
        Ok(())
    }

    /// The stage as a base of others, without its layers.
    fn resolved(&self, builder: &Builder) -> Result<StageImage, BuildError> {
        let image = self.base.image.append(&[], &self.config, &builder.epoch.rfc3339(), &BTreeMap::new())?;
        Ok(StageImage { root: self.root.clone(), image, below: self.below.clone() })
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
                    "line {} installs {name} {version} over {name} {earlier} of an earlier layer, whose files stay: \
                     install the packages of both layers in one layer",
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
    async fn check_local_wheels(&self, builder: &Builder, plan: &Plan, stage: &Stage) -> Result<(), BuildError> {
        let Some(interpreter) = &self.interpreter else { return Ok(()) };
        let (fetcher, check): (_, Check) = (Fetcher::for_plan(&builder.store, plan)?, Arc::new(correction::check));
        for (n, packages) in &self.packages {
            let is_local = |wheel: &&LockedWheel| matches!(wheel.location, Location::Path(_));
            let wheels: Vec<_> = packages.wheels.iter().filter(is_local).cloned().collect();
            let paths = fetcher.fetch(&wheels, &plan.directory, &check, &*builder.reporter).await?;
            let wheels = wheels.into_iter().zip(paths).map(|(locked, path)| LocalWheel { locked, path });
            let installed = install::install(&wheels.collect::<Vec<_>>(), &interpreter.scheme, 0);
            installed.map_err(|error| failed(&stage.steps[*n], error))?;
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
        let check: Check = Arc::new(correction::check_record);
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
        builder.state.note_wheels(&wheels);
        Ok(wheels)
    }
}

/// The packages of a lock for one layer.
fn locked(lock: &Lock, platform: &Platform, stage: &Stage, layer: usize) -> Packages {
    let (platform, stage) = (platform.to_string(), stage.name.as_deref());
    Packages {
        wheels: lock.wheels_of(&platform, stage, layer).cloned().collect(),
        sources: lock.sources_of(&platform, stage, layer).cloned().collect(),
    }
}

/// Checks that each package of a lock belongs to a layer that takes its packages from there.
fn check_places(plan: &Plan, lock: &Lock) -> Result<(), BuildError> {
    let step = |name: &Option<String>, layer: usize| {
        let stage = plan.stages.iter().find(|stage| stage.name == *name);
        stage.and_then(|stage| stage.steps.get(layer))
    };
    let wheels = lock.wheels.iter().filter(|wheel| !step(&wheel.stage, wheel.layer).is_some_and(takes_wheels));
    let sources = lock.sources.iter().filter(|source| !step(&source.stage, source.layer).is_some_and(takes_sources));
    let wheels = wheels.map(|wheel| (&wheel.stage, wheel.layer));
    match wheels.chain(sources.map(|source| (&source.stage, source.layer))).next() {
        Some((stage, layer)) => Err(BuildError::Misplaced { stage: stage.clone(), layer }),
        None => Ok(()),
    }
}

/// Whether the step takes its wheels from `ociforge.lock`. Wheels on disk and those of a `pylock.toml` are pinned
/// already.
fn takes_wheels(step: &Step) -> bool {
    takes_sources(step) && !matches!(&step.kind, StepKind::Pip(Pip::Lock(..)))
}

/// Whether the step takes its sources and their build requirements from `ociforge.lock`.
fn takes_sources(step: &Step) -> bool {
    matches!(&step.kind, StepKind::Pip(pip) if !matches!(pip, Pip::Wheels(_)))
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

/// Resolves the bases and all packages of `plan` for each of `platforms`.
///
/// # Errors
/// When a base, an image or a package cannot be resolved.
pub async fn lock_file(builder: &Builder, plan: &Plan, platforms: &[Platform]) -> Result<Lock, BuildError> {
    let recipe = recipe_digest(plan)?;
    let (bases, images, wheels, sources) = Default::default();
    let mut lock = Lock { recipe, bases, images, wheels, sources };
    for platform in platforms {
        let (mut stages, mut all) = (StageImages::new(), BTreeMap::new());
        for index in plan.needed() {
            let stage = &plan.stages[index];
            let input = StageInput { plan, index, platform, lock: None, is_build: false, earlier: &stages };
            let pins = Pins::find(builder, input).await?;
            pins.check_local_wheels(builder, plan, stage).await?;
            add_packages(&mut lock, platform, stage, &pins);
            for (step, name) in stage.copied_images() {
                let image = builder.copied_image(input, step, name).await?;
                let (platform, digest) = (platform.to_string(), image.image.manifest.digest());
                lock.images.push(LockedImage { platform, name: name.to_string(), digest });
            }
            stages.insert(index, pins.resolved(builder)?);
            all.insert(index, pins);
        }
        for (n, pins) in &all {
            let Base::Image(name) = &plan.stages[*n].base else { continue };
            let (platform, stage) = (platform.to_string(), plan.stages[*n].name.clone());
            let digest = pins.base.image.manifest.digest();
            let files = base_files::to_lock(builder, plan, *n, &all).await?;
            lock.bases.push(LockedBase { platform, stage, name: name.to_string(), digest, files });
        }
    }
    Ok(lock)
}

fn add_packages(lock: &mut Lock, platform: &Platform, stage: &Stage, pins: &Pins) {
    for (layer, Packages { wheels, sources }) in &pins.packages {
        let (layer, step) = (*layer, &stage.steps[*layer]);
        let place = || (platform.to_string(), stage.name.clone());
        if takes_wheels(step) {
            lock.wheels.extend(wheels.iter().cloned().map(|wheel| {
                let (platform, stage) = place();
                WheelEntry { platform, stage, layer, wheel }
            }));
        }
        if takes_sources(step) {
            lock.sources.extend(sources.iter().cloned().map(|source| {
                let (platform, stage) = place();
                SourceEntry { platform, stage, layer, source }
            }));
        }
    }
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
