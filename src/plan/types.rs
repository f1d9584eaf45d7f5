//! The values of a recipe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ociforge_manifests::lint::LintCode;
use ociforge_manifests::runtime::RuntimeSettings;
use ociforge_manifests::{ConfigEdit, Digest, ImageName, Platform, Reference};
use serde_json::{Value as Json, json};

use super::python::StatedPython;
use crate::layer::{ImageOrigin, Step};

/// A validated recipe. Whether its files and images exist is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The recipe's directory. The relative paths of the plan start here.
    pub directory: PathBuf,
    /// Name of the image, if the recipe has one.
    pub name: Option<Reference>,
    /// The platforms, in the recipe's order; not empty, without duplicates.
    pub platforms: Vec<Platform>,
    /// The stages; not empty. Each uses only stages before it. The last one makes the image.
    pub stages: Vec<Stage>,
    /// Defaults of `spec`, `bundle` and `run`.
    pub runtime: RuntimeSettings,
    /// The warnings about the image to silence.
    pub allow: Vec<LintCode>,
    /// The maximum number of layers. Small copies share layers if the image would have more.
    pub max_layers: Option<usize>,
    /// Digest of the values that the lock depends on: bases, platforms, Python, packages and copied images of all needed
    /// stages, but not the config. It does not cover the content of the files of [`Plan::requirements`] and
    /// [`Plan::projects`].
    pub inputs: Digest,
}

impl Plan {
    /// Resolves a path of the plan against the recipe's directory.
    #[must_use]
    pub fn locate(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// The stage that makes the image.
    #[must_use]
    pub fn target(&self) -> &Stage {
        &self.stages[self.stages.len() - 1]
    }

    /// The steps of the stages that the image needs, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.needed().into_iter().flat_map(|n| &self.stages[n].steps)
    }

    /// The indices of the stages that the image needs, in order; the last one makes the image.
    #[must_use]
    pub fn needed(&self) -> Vec<usize> {
        needed(&self.stages)
    }

    /// Whether the stage makes the image: the last one.
    #[must_use]
    pub fn is_target(&self, stage: usize) -> bool {
        stage + 1 == self.stages.len()
    }

    /// The stage at the bottom of the chain of stages that `stage` has as its base. Its base is an image or `scratch`.
    #[must_use]
    pub fn root(&self, stage: usize) -> usize {
        match self.stages[stage].base {
            Base::Stage(below) => self.root(below),
            _ => stage,
        }
    }

    /// The Python that the recipe states for a stage, or for the stages below it.
    #[must_use]
    pub fn stated_python(&self, stage: usize) -> Option<&StatedPython> {
        match (&self.stages[stage].python, &self.stages[stage].base) {
            (None, Base::Stage(below)) => self.stated_python(*below),
            (stated, _) => stated.as_ref(),
        }
    }

    /// The name of an image of the recipe, with its path, if any, resolved by [`Plan::locate`].
    #[must_use]
    pub fn resolve(&self, name: &ImageName) -> ImageName {
        name.with_path(|path| self.locate(path))
    }

    /// The requirements files of packages with their steps, in order, with paths as in the recipe.
    pub fn requirements(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps().filter_map(|step| Some((step, step.kind.as_kind().requirements_file()?)))
    }

    /// The directories of projects with their steps, in order, with paths as in the recipe. The requirements of a
    /// project are in its [`PROJECT_FILES`](crate::layer::PROJECT_FILES).
    pub fn projects(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps().filter_map(|step| Some((step, step.kind.as_kind().project()?)))
    }

    /// The ids of the secrets that steps mount with these steps, in order; an id may occur several times.
    pub fn secrets(&self) -> impl Iterator<Item = (&Step, &str)> {
        self.steps().flat_map(|step| step.kind.as_kind().secrets().into_iter().map(move |id| (step, id)))
    }

    /// Whether a stage that the image needs runs a process on the base of the stage `root`.
    #[must_use]
    pub fn runs_on(&self, root: usize) -> bool {
        let stages = self.needed().into_iter().filter(|stage| self.root(*stage) == root);
        stages.flat_map(|stage| &self.stages[stage].steps).any(Step::runs)
    }

    /// Whether the build runs a process: a command, the build of a project, or the compilation of bytecode.
    #[must_use]
    pub fn needs_sandbox(&self) -> bool {
        self.steps().any(Step::runs)
    }
}

/// The indices of the stages that the last one needs, in order.
pub(super) fn needed(stages: &[Stage]) -> Vec<usize> {
    let mut needed = BTreeSet::from_iter(stages.len().checked_sub(1));
    for (n, stage) in stages.iter().enumerate().rev() {
        if needed.contains(&n) {
            needed.extend(stage.uses());
        }
    }
    needed.into_iter().collect()
}

/// A stage: a base and the layers on top of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name; `None` for the stage that makes the image.
    pub name: Option<String>,
    /// Its base.
    pub base: Base,
    /// The changes of the base's config, for the image and for stages that use this one as their base.
    pub config: ConfigEdit,
    /// The base's Python, if the recipe states it.
    pub python: Option<StatedPython>,
    /// The steps that make the layers, lowest first.
    pub steps: Vec<Step>,
}

impl Stage {
    /// The indices of the stages that it uses as its base, or copies from; an index may repeat.
    pub fn uses(&self) -> impl Iterator<Item = usize> {
        let base = if let Base::Stage(stage) = self.base { Some(stage) } else { None };
        let copied = self.steps.iter().filter_map(|step| match step.kind.as_kind().copies_from()? {
            (ImageOrigin::Stage(stage), _) => Some(*stage),
            (ImageOrigin::Image(_), _) => None,
        });
        base.into_iter().chain(copied)
    }

    /// The images that it copies from with their steps; an image may repeat.
    pub fn copied_images(&self) -> impl Iterator<Item = (&Step, &ImageName)> {
        self.steps.iter().filter_map(|step| match step.kind.as_kind().copies_from()? {
            (ImageOrigin::Image(name), _) => Some((step, name)),
            (ImageOrigin::Stage(_), _) => None,
        })
    }

    /// The values that the lock depends on. `stages` are those of the plan.
    pub(super) fn lock_inputs(&self, stages: &[Self]) -> Json {
        let base = match &self.base {
            Base::Scratch => json!("scratch"),
            Base::Image(name) => json!(name.to_string()),
            Base::Stage(stage) => json!({"stage": stages[*stage].name}),
        };
        let mut inputs = json!({
            "base": base,
            "python": self.python.as_ref().map(|p| {
                let all = [p.version.to_string(), p.site_packages.to_string(), p.executable.clone()];
                all.into_iter().chain(p.libc.map(|libc| libc.to_string())).collect::<Vec<_>>()
            }),
            "pip": self.steps.iter().filter_map(|step| step.kind.as_kind().lock_inputs()).collect::<Vec<_>>(),
        });
        let images: Vec<_> = self.copied_images().map(|(_, name)| name.to_string()).collect();
        if !images.is_empty() {
            inputs["images"] = json!(images);
        }
        if let Some(name) = &self.name {
            inputs["name"] = json!(name);
        }
        inputs
    }
}

/// The base of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// No base.
    Scratch,
    /// An image. Its path, if any, is relative to [`Plan::directory`].
    Image(ImageName),
    /// An earlier stage.
    Stage(usize),
}
