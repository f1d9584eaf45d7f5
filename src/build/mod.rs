//! Builds an image from a plan: pins the base and the packages, packs layers, and assembles manifest and config.

mod base_files;
mod build_root;
mod error;
mod interpreter;
mod isolated;
mod join;
mod libc;
mod pack;
mod pins;
mod run;
mod sandbox;
mod secrets;
mod stage;
mod state;
mod step_mounts;
mod step_run;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ociforge_layers::{Compression, Layer, LowerLayers};
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::lint::{layer_count, lint};
use ociforge_manifests::runtime::ANNOTATION as RUNTIME;
use ociforge_manifests::{Image, ImageName, NewLayer, Platform};

use crate::base::BaseImage;
use crate::cancel::Cancel;
use crate::layer::{LayerContext, LayerWork, SourceImage, Step, StepKind};
use crate::plan::{Base, Plan, Stage};
use crate::progress::Reporter;
use crate::python::IsolatedRunner;
use crate::python::build::bytecode;
use crate::python::install::{self, LocalWheel, Occupied};
use crate::registry::Client;
use crate::store::Store;
use ociforge_sandbox::SandboxError;

pub use crate::layer::Epoch;
pub use error::{BuildError, StepError};
pub use pins::{lock_file, recipe_digest};
pub use sandbox::Sandbox;
pub use secrets::{SecretArg, SecretArgError, SecretError, SecretOrigin, Secrets};
pub use state::BuildState;

use build_root::BuildRoot;
use error::failed;
use interpreter::Interpreter;
use join::join;
use pack::Packer;
use pins::Pins;
use stage::{StageImages, StageInput, StageLayers};
use state::Unrepeated;

/// The annotations for the base of an image (image-spec, annotations.md).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The maximum number of assumed paths in a note.
const SHOWN: usize = 6;

/// The context and the options of builds.
#[derive(Clone)]
pub struct Builder {
    /// The store of layers and wheels.
    pub store: Store,
    /// The registry client.
    pub client: Client,
    /// Receives progress and messages.
    pub reporter: Arc<dyn Reporter>,
    /// Signals an interruption.
    pub cancel: Cancel,
    /// The compression of layers.
    pub compression: Compression,
    /// Whether to use packed layers of earlier builds.
    pub use_cache: bool,
    /// The current time of the build.
    pub epoch: Epoch,
    /// The sandbox of steps, or the reason why there is none; also an error if no step was expected to need it.
    pub sandbox: Result<Arc<Sandbox>, Arc<SandboxError>>,
    /// Runs the build backends of Python packages; `None` is the sandbox.
    pub isolated: Option<Arc<dyn IsolatedRunner>>,
    /// Whether to read the base's layers even if the recipe does not require it.
    pub check_base: bool,
    /// The state of one build.
    pub state: Arc<BuildState>,
}

/// The wheels of steps, by the index of the step in the recipe.
type Wheels = BTreeMap<usize, Vec<LocalWheel>>;

/// A built image. Its layers are in the store, or in the source of the base.
pub struct Built {
    /// The platform of the image.
    pub platform: Platform,
    /// The manifest and config.
    pub image: Image,
    /// The base of the image.
    pub base: BaseImage,
    /// The new layers, lowest first.
    pub layers: Vec<BuiltLayer>,
}

/// A new layer.
pub struct BuiltLayer {
    /// The packed layer.
    pub layer: Layer,
    /// The description of its step.
    pub description: String,
    /// Whether it comes from the store.
    pub cached: bool,
}

impl Built {
    /// The manifest as the root of a copy.
    #[must_use]
    pub fn node(&self) -> GraphNode {
        GraphNode::Manifest(Box::new(self.image.manifest.clone()))
    }
}

impl Builder {
    /// Builds `plan` for `platform`, with the pins of `lock`, or else with a new resolution.
    ///
    /// # Errors
    /// When the base or a package cannot be resolved, a step fails, or the store cannot be written. No incomplete files
    /// remain.
    pub async fn build(
        &self,
        plan: &Plan,
        platform: &Platform,
        lock: Option<&crate::lock::Lock>,
    ) -> Result<Built, BuildError> {
        let reporter = Arc::new(Unrepeated::new(self.reporter.clone()));
        Self { reporter, state: Arc::default(), ..self.clone() }.build_once(plan, platform, lock).await
    }

    async fn build_once(
        &self,
        plan: &Plan,
        platform: &Platform,
        lock: Option<&crate::lock::Lock>,
    ) -> Result<Built, BuildError> {
        let mut stages = StageImages::new();
        let needed = plan.needed();
        self.note_unused(plan, &needed);
        let mut last = None;
        for index in needed {
            let input = StageInput { plan, index, platform, lock, is_build: true, earlier: &stages };
            let (built, stage) = self.stage(input).await?;
            stages.insert(index, stage);
            last = Some(built);
        }
        last.ok_or(BuildError::Internal("the plan has no stage"))
    }

    /// Notes the stages that are not built.
    fn note_unused(&self, plan: &Plan, needed: &[usize]) {
        let unused = plan.stages.iter().enumerate().filter(|(n, _)| !needed.contains(n));
        for name in unused.filter_map(|(_, stage)| stage.name.as_ref()) {
            self.reporter.note(&format!("the stage `{name}` is not built: the image does not need it"));
        }
    }

    /// Notes the directories of the base that were assumed to be as in most images.
    fn note_assumed(&self, pins: &Pins) {
        let assumed = self.state.take_assumed();
        if assumed.is_empty() || !pins.below.is_assumed() {
            return;
        }
        let mut shown: Vec<&str> = assumed.iter().map(String::as_str).take(SHOWN).collect();
        let more = format!("{} more", assumed.len().saturating_sub(SHOWN));
        if assumed.len() > SHOWN {
            shown.push(&more);
        }
        self.reporter.note(&format!(
            "ociforge assumes that these paths of the base do not exist, or have the owner and mode as in Debian: \
             {}; use `ociforge lock` or --check-base to read the base",
            shown.join(", ")
        ));
    }

    /// Prints the warnings about the image, except those that the plan allows.
    fn lint(&self, plan: &Plan, pins: &Pins, image: &Image) {
        let packages: Vec<_> = pins.packages().collect();
        let mut findings = lint(Some(&pins.base.image.config.config), &image.config.config, &packages);
        findings.extend(layer_count(image.manifest.layers.len()));
        for finding in findings.iter().filter(|finding| !plan.allow.contains(&finding.code)) {
            self.reporter.finding(finding);
        }
    }

    /// The layers of a stage, lowest first. Layers between two steps that run a process are packed in parallel.
    async fn layers(&self, input: StageInput<'_>, pins: &Pins) -> Result<StageLayers, BuildError> {
        let (plan, stage) = (input.plan, input.stage());
        run::check(plan, stage)?;
        let mut occupied = Occupied::default();
        let (work, mut wheels) = self.work(plan, stage, pins, &mut occupied).await?;
        let mut below = pins.below.clone();
        let mut build_root = BuildRoot::new(self, &pins.config, &pins.base);
        let (mut layers, mut pending) = (Vec::new(), Vec::new());
        let runs = |n: usize, step: &Step| step.runs() || pins.builds(n);
        let mut excess = self.excess_layers(input, pins, &work);
        for ((n, step), work) in stage.steps.iter().enumerate().zip(work) {
            pending.extend(work);
            if !runs(n, step) {
                continue;
            }
            let mut new = self.pack(join(std::mem::take(&mut pending), &mut excess), &mut below).await?;
            build_root.add(new.iter().map(new_layer));
            let at = new.len();
            match (&step.kind, &pins.interpreter) {
                (StepKind::Run(run), _) => new.push(self.run(&build_root, &mut below, plan, step, run).await?),
                (StepKind::Pip(_), Some(Interpreter { scheme, .. })) => {
                    let build_context = build_root.build_context()?;
                    if pins.builds(n) {
                        let built = pins.fetch(self, plan, n, &build_context).await?;
                        occupied.add(&built, scheme).map_err(|error| failed(step, error))?;
                        let work = install::work(step, built.clone(), scheme, self.epoch.seconds());
                        new.extend(self.pack(work, &mut below).await?);
                        wheels.insert(n, built);
                    }
                    if let Some(wheels) = wheels.get(&n).filter(|_| step.bytecode) {
                        let work =
                            bytecode(&self.store, &self.reporter, self.epoch, &build_context, step, wheels, scheme);
                        new.extend(self.pack(work.into_iter().collect(), &mut below).await?);
                    }
                }
                _ => {}
            }
            build_root.add(new[at..].iter().map(new_layer));
            layers.extend(new);
        }
        layers.extend(self.pack(join(pending, &mut excess), &mut below).await?);
        if excess > 0 {
            let layers = if excess == 1 { "layer" } else { "layers" };
            self.reporter.warn(&format!(
                "the image has {excess} more {layers} than [build] max-layers allows: only copies and directories share layers"
            ));
        }
        Ok((layers, below))
    }

    /// The number of layers above the maximum of the plan, with a layer for each process of a step.
    fn excess_layers(&self, input: StageInput<'_>, pins: &Pins, work: &[Vec<LayerWork>]) -> usize {
        let max_layers = input.plan.max_layers.filter(|_| input.plan.is_target(input.index));
        let Some(max_layers) = max_layers else { return 0 };
        let of_processes = |(n, step): (usize, &Step)| {
            [step.kind.as_kind().runs(), pins.builds(n), step.bytecode].into_iter().filter(|runs| *runs).count()
        };
        let running: usize = input.stage().steps.iter().enumerate().map(of_processes).sum();
        let new = running + work.iter().map(Vec::len).sum::<usize>();
        (pins.base.image.manifest.layers.len() + new).saturating_sub(max_layers)
    }

    /// The layers of each step that need no process, and their wheels by the index of the step.
    async fn work(
        &self,
        plan: &Plan,
        stage: &Stage,
        pins: &Pins,
        occupied: &mut Occupied,
    ) -> Result<(Vec<Vec<LayerWork>>, Wheels), BuildError> {
        let scratch = self.store.scratch().map_err(BuildError::Store)?;
        let (mut all, mut wheels) = (Vec::new(), Wheels::new());
        for (n, step) in stage.steps.iter().enumerate() {
            let of_files = self.work_of_files(plan, stage, step, pins.sources.get(&n), &scratch)?;
            let mut work: Vec<LayerWork> = of_files.into_iter().collect();
            if let (StepKind::Pip(_), Some(Interpreter { scheme, .. })) = (&step.kind, &pins.interpreter)
                && !pins.builds(n)
            {
                let fetched = pins.fetch(self, plan, n, &pins.build_context).await?;
                if fetched.is_empty() {
                    self.reporter.note(&format!(
                        "line {}: `{}` installs no package and makes no layer",
                        step.line, step.description
                    ));
                }
                occupied.add(&fetched, scheme).map_err(|error| failed(step, error))?;
                work.extend(install::work(step, fetched.clone(), scheme, self.epoch.seconds()));
                wheels.insert(n, fetched);
            }
            all.push(work);
        }
        Ok((all, wheels))
    }

    /// The layer of a step, if it only needs files. `source` is the stage or image that the step copies from.
    fn work_of_files(
        &self,
        plan: &Plan,
        stage: &Stage,
        step: &Step,
        source: Option<&SourceImage>,
        scratch: &Path,
    ) -> Result<Option<LayerWork>, BuildError> {
        let is_first = stage.steps.first().is_some_and(|first| std::ptr::eq(first, step));
        let (directory, is_lowest) = (plan.directory.as_path(), stage.base == Base::Scratch && is_first);
        let (epoch, reporter) = (self.epoch, &*self.reporter);
        let context = LayerContext { directory, is_lowest, source, epoch, scratch, reporter };
        step.kind.as_kind().work(step, &context).map_err(|error| failed(step, error))
    }

    /// Packs layers and adds them to `below`.
    async fn pack(&self, work: Vec<LayerWork>, below: &mut LowerLayers) -> Result<Vec<BuiltLayer>, BuildError> {
        let (builder, mut under) = (self.clone(), below.clone());
        let pack = move || builder.packer().pack(work, &mut under).map(|layers| (layers, under));
        let (layers, above) = tokio::task::spawn_blocking(pack).await.map_err(BuildError::thread)??;
        *below = above;
        Ok(layers)
    }

    fn packer(&self) -> Packer<'_> {
        let Self { store, compression, use_cache, cancel, reporter, state, .. } = self;
        Packer { store, compression: *compression, use_cache: *use_cache, cancel, reporter: &**reporter, state }
    }

    /// The sandbox of steps.
    fn sandbox(&self) -> Result<Arc<Sandbox>, StepError> {
        self.sandbox.clone().map_err(StepError::NoSandbox)
    }
}

fn new_layer(built: &BuiltLayer) -> NewLayer {
    let Layer { descriptor, diff_id, .. } = built.layer.clone();
    NewLayer { descriptor, diff_id, created_by: format!("ociforge: {}", built.description) }
}

fn annotations(base: &BaseImage, plan: &Plan) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if let Some(name) = &base.name {
        // A path of this machine has no meaning for other users of the image.
        if let ImageName::Registry(reference) = name {
            annotations.insert(BASE_NAME.to_owned(), reference.whole());
        }
        annotations.insert(BASE_DIGEST.to_owned(), base.image.manifest.digest().to_string());
    }
    annotations.extend(plan.runtime.to_annotation().map(|text| (RUNTIME.to_owned(), text)));
    annotations
}

#[cfg(test)]
mod tests;
