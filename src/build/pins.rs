//! What a recipe's names stand for: the base's digest, and each wheel by its hash.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ociforge_layers::source::wheel::{Scheme, Wheel};
use ociforge_manifests::lint::Package;
use ociforge_manifests::{Digest, Platform};
use serde_json::json;

use super::interpreter::Interpreter;
use super::python::LocalWheel;
use super::steps::failed;
use super::{BuildError, Builder, StepError};
use crate::base::BaseImage;
use crate::lock::fetch::Check;
use crate::lock::{Fetcher, Lock, LockedBase, LockedWheel, WheelEntry};
use crate::plan::{Base, PROJECT_FILES, Pip, Plan, Step, StepKind};
use crate::progress::Reporter;

/// What one platform's build takes for fixed.
pub(super) struct Pins {
    pub(super) base: BaseImage,
    /// Where packages go; `None` when there are none.
    pub(super) scheme: Option<Scheme>,
    /// The wheels of each step, by the step's place in the recipe.
    wheels: BTreeMap<usize, Vec<LockedWheel>>,
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
        if let Some(layer) = lock.and_then(|lock| lock.wheels.iter().find(|w| !takes_locked(plan, w.layer))) {
            return Err(BuildError::Misplaced { layer: layer.layer });
        }
        let pinned = lock.and_then(|lock| lock.bases.iter().find(|base| base.platform == platform.to_string()));
        let name = plan.base_image();
        let base = BaseImage::resolve(name.as_ref(), platform, pinned.map(|base| &base.digest), &builder.client);
        let shown = name.as_ref().map_or("scratch".to_owned(), ToString::to_string);
        let base = base.await.map_err(|source| BuildError::Base { name: shown.clone(), source: Box::new(source) })?;
        let mut pins = Self { base, scheme: None, wheels: BTreeMap::new() };
        if plan.steps.iter().any(|step| matches!(step.kind, StepKind::Pip(_))) {
            let interpreter = Interpreter::of(builder, plan, platform, &pins.base, &shown).await?;
            for (n, step) in plan.steps.iter().enumerate() {
                if let StepKind::Pip(pip) = &step.kind {
                    let locked = lock.map(|lock| lock.wheels_of(&platform.to_string(), n).cloned().collect());
                    let mut wheels = interpreter.wheels(builder, plan, step, pip, locked).await?;
                    pins.drop_repeated(&mut wheels, step, &*builder.reporter);
                    pins.wheels.insert(n, wheels);
                }
            }
            pins.scheme = Some(interpreter.scheme);
        }
        Ok(pins)
    }

    /// Takes out what an earlier step installs already. Steps are resolved one by one, so they may disagree.
    fn drop_repeated(&self, wheels: &mut Vec<LockedWheel>, step: &Step, reporter: &dyn Reporter) {
        wheels.retain(|wheel| {
            let earlier = self.wheels.values().flatten().find(|earlier| earlier.name == wheel.name);
            if let Some(earlier) = earlier.filter(|earlier| earlier.version != wheel.version) {
                let LockedWheel { name, version, .. } = wheel;
                reporter.warn(&format!(
                    "line {} installs {name} {version} over the {} of an earlier layer, whose files stay: put the \
                     packages of both into one layer",
                    step.line, earlier.version
                ));
            }
            earlier.is_none_or(|earlier| earlier.version != wheel.version)
        });
    }

    /// The Python packages that are installed, in the recipe's order.
    pub(super) fn packages(&self) -> impl Iterator<Item = Package<'_>> {
        self.wheels.values().flatten().map(|wheel| Package { name: &wheel.name, version: &wheel.version })
    }

    /// The wheels of the step at place `n`, downloaded where they were not.
    pub(super) async fn fetch(&self, builder: &Builder, plan: &Plan, n: usize) -> Result<Vec<LocalWheel>, BuildError> {
        let wheels = self.wheels.get(&n).map_or(&[][..], Vec::as_slice);
        let check: Check = Arc::new(check);
        let fetcher = Fetcher::new(builder.store.wheels())?;
        let paths = fetcher.fetch(wheels, &plan.directory, &check, &*builder.reporter).await?;
        Ok(wheels.iter().cloned().zip(paths).map(|(locked, path)| LocalWheel { locked, path }).collect())
    }
}

/// Looks into a wheel before it enters the store: every member against the wheel's own RECORD.
fn check(path: &Path, wheel: &LockedWheel) -> Result<(), Box<dyn Error + Send + Sync>> {
    Ok(Wheel::open_as(path, &wheel.file)?.verify()?)
}

/// Whether the step at that place takes its wheels from the lock. Wheels on disk and locks of the user's own are pinned
/// where they are.
fn takes_locked(plan: &Plan, step: usize) -> bool {
    plan.steps.get(step).is_some_and(|step| matches!(step.kind, StepKind::Pip(Pip::Requirements(_) | Pip::File(_))))
}

/// What the lock of a plan depends on: the recipe's own words, the requirements files that they name, and what the
/// projects say of themselves.
///
/// # Errors
/// When such a file can't be read, or a project is none.
pub fn recipe_digest(plan: &Plan) -> Result<Digest, BuildError> {
    let mut files = Vec::new();
    for (step, file) in plan.requirements() {
        let path = plan.locate(file);
        let bytes = std::fs::read(&path).map_err(|source| failed(step, StepError::Read { path, source }))?;
        files.push(Digest::of(&bytes));
    }
    let mut json = json!({"recipe": plan.inputs, "files": files});
    let projects = plan
        .projects()
        .map(|(step, directory)| project_files(&plan.locate(directory)).map_err(|error| failed(step, error)));
    let projects = projects.collect::<Result<Vec<_>, _>>()?;
    if !projects.is_empty() {
        json["projects"] = json!(projects);
    }
    Ok(Digest::of(&ociforge_manifests::document::canonical(&json)))
}

/// The digests of a project's files, by their names.
fn project_files(directory: &Path) -> Result<BTreeMap<&'static str, Digest>, StepError> {
    let mut files = BTreeMap::new();
    for name in PROJECT_FILES {
        let path = directory.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => drop(files.insert(name, Digest::of(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(StepError::Read { path, source }),
        }
    }
    // As for pip, setup.cfg alone makes no project.
    if !files.contains_key("pyproject.toml") && !files.contains_key("setup.py") {
        return Err(StepError::NoProject(directory.to_owned()));
    }
    Ok(files)
}

/// Looks up everything that `plan` leaves open, for each of `platforms`.
///
/// # Errors
/// When the base or a package can't be found.
pub async fn lock_file(builder: &Builder, plan: &Plan, platforms: &[Platform]) -> Result<Lock, BuildError> {
    let mut lock = Lock { recipe: recipe_digest(plan)?, bases: Vec::new(), wheels: Vec::new(), sources: Vec::new() };
    for platform in platforms {
        let pins = Pins::find(builder, plan, platform, None).await?;
        if let Base::Image(name) = &plan.base {
            let name = name.to_string();
            let digest = pins.base.image.manifest.digest();
            lock.bases.push(LockedBase { platform: platform.to_string(), name, digest });
        }
        for (layer, wheels) in pins.wheels {
            if takes_locked(plan, layer) {
                let entry = |wheel| WheelEntry { platform: platform.to_string(), layer, wheel };
                lock.wheels.extend(wheels.into_iter().map(entry));
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
        let cause = error.source().unwrap().to_string();
        assert!(cause.ends_with("lib has neither pyproject.toml nor setup.py"), "{cause}");
        assert!(error.hint().unwrap().contains("relative to the recipe's directory"));

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
