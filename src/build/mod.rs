//! A plan becomes an image: base and packages are pinned, layers packed, manifest and config assembled.

mod base_files;
mod build_root;
mod correction;
mod epoch;
mod error;
mod group;
mod interpreter;
mod isolated;
mod join;
mod libc;
mod occupied;
mod pack;
mod pins;
mod python;
mod run;
mod sandbox;
mod secrets;
mod state;
mod step_mounts;
mod step_run;
mod steps;
mod wheel_builder;

use std::collections::BTreeMap;
use std::sync::Arc;

use ociforge_layers::{BaseFiles, Below, Compression, Layer};
use ociforge_manifests::graph::Node;
use ociforge_manifests::lint::{layer_count, lint};
use ociforge_manifests::runtime::ANNOTATION as RUNTIME;
use ociforge_manifests::{Image, ImageName, NewLayer, Platform};

use crate::base::BaseImage;
use crate::cancel::Cancel;
use crate::lock::IsolatedRunner;
use crate::plan::{Plan, Step, StepKind};
use crate::progress::Reporter;
use crate::registry::Client;
use crate::store::Store;
use ociforge_sandbox::SandboxError;

pub use epoch::Epoch;
pub use error::{BuildError, StepError};
pub use pins::{lock_file, recipe_digest};
pub use sandbox::Sandbox;
pub use secrets::{Origin, SecretArg, SecretArgError, SecretError, Secrets};
pub use state::BuildState;
pub use wheel_builder::SourceError;

use build_root::BuildRoot;
use interpreter::Interpreter;
use join::join;
use occupied::Occupied;
use pack::{Packer, Work};
use pins::Pins;
use python::LocalWheel;
use state::Unrepeated;
use wheel_builder::{BuildContext, bytecode};

/// The annotations that say what an image was built on (image-spec, annotations.md).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// How many assumed directories a note names.
const SHOWN: usize = 6;

/// What builds work with, and how.
#[derive(Clone)]
pub struct Builder {
    /// Where layers and wheels are kept.
    pub store: Store,
    /// How registries are reached.
    pub client: Client,
    /// Who is told.
    pub reporter: Arc<dyn Reporter>,
    /// Who says stop.
    pub cancel: Cancel,
    /// How layers are compressed.
    pub compression: Compression,
    /// Whether a layer that was packed before may be taken for the same layer now.
    pub use_cache: bool,
    /// The time that is taken for now.
    pub epoch: Epoch,
    /// What steps run in, or why they can't; the latter also when no step was expected to run.
    pub sandbox: Result<Arc<Sandbox>, Arc<SandboxError>>,
    /// Where the build backends of Python packages run, if that is not the sandbox.
    pub isolated: Option<Arc<dyn IsolatedRunner>>,
    /// Whether the base's layers are read even where nothing in the recipe asks for it.
    pub check_base: bool,
    /// What a build knows of itself; each has its own.
    pub state: Arc<BuildState>,
}

/// The wheels that steps install, by the step's place in the recipe.
type Wheels = BTreeMap<usize, Vec<LocalWheel>>;

/// A built image. Its layers are in the store, or where the base's are.
pub struct Built {
    /// What it runs on.
    pub platform: Platform,
    /// Manifest and config.
    pub image: Image,
    /// What it was built on.
    pub base: BaseImage,
    /// The new layers, lowest first.
    pub layers: Vec<BuiltLayer>,
}

/// A new layer.
pub struct BuiltLayer {
    /// The packed layer.
    pub layer: Layer,
    /// What made it.
    pub description: String,
    /// Whether it was in the store already.
    pub cached: bool,
}

impl Built {
    /// The manifest as what is copied.
    #[must_use]
    pub fn node(&self) -> Node {
        Node::Manifest(Box::new(self.image.manifest.clone()))
    }
}

impl Builder {
    /// Builds `plan` for `platform`. What `lock` pins is taken from it; without a lock it is looked up now.
    ///
    /// # Errors
    /// When the base or a package can't be had, a step fails, or the store can't be written. Nothing half-made is left.
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
        let mut pins = Pins::find(self, plan, platform, lock).await?;
        let layers = match self.layers(plan, &pins).await {
            Err(error) => {
                let path = error.unknown_path().cloned().ok_or(error)?;
                self.reporter.note(&format!("what the base has at {path} is looked up in its layers"));
                pins.read_base(self).await?;
                self.layers(plan, &pins).await?
            }
            Ok(layers) => layers,
        };
        self.tell_assumed(&pins);
        let new: Vec<NewLayer> = layers.iter().map(new_layer).collect();
        let annotations = annotations(&pins.base, plan);
        let image = pins.base.image.append(&new, &pins.config, &self.epoch.rfc3339(), &annotations)?;
        self.lint(plan, &pins, &image);
        Ok(Built { platform: platform.clone(), image, base: pins.base, layers })
    }

    /// Says which directories of the base were assumed to be as in most images.
    fn tell_assumed(&self, pins: &Pins) {
        let assumed = self.state.assumed();
        if assumed.is_empty() || !matches!(pins.base_files, BaseFiles::Assumed) {
            return;
        }
        let mut shown: Vec<&str> = assumed.iter().map(String::as_str).take(SHOWN).collect();
        let more = format!("{} more", assumed.len().saturating_sub(SHOWN));
        if assumed.len() > SHOWN {
            shown.push(&more);
        }
        self.reporter.note(&format!(
            "of the base it is assumed that these paths have the owner and mode that Debian gives them, or are not \
             there: {}; `ociforge lock` or --check-base finds out",
            shown.join(", ")
        ));
    }

    /// Warns of what is wrong with the image, but for what the plan allows.
    fn lint(&self, plan: &Plan, pins: &Pins, image: &Image) {
        let packages: Vec<_> = pins.packages().collect();
        let mut findings = lint(Some(&pins.base.image.config.config), &image.config.config, &packages);
        findings.extend(layer_count(image.manifest.layers.len()));
        for finding in findings.iter().filter(|finding| !plan.allow.contains(&finding.code)) {
            self.reporter.finding(finding);
        }
    }

    /// The layers, lowest first. Those between two that need something run are packed side by side.
    async fn layers(&self, plan: &Plan, pins: &Pins) -> Result<Vec<BuiltLayer>, BuildError> {
        run::check(plan)?;
        let mut occupied = Occupied::default();
        let (work, mut wheels) = self.work(plan, pins, &mut occupied).await?;
        let mut below = Below::new(pins.base_files.clone());
        let mut build_root = BuildRoot::new(self, &pins.config, &pins.base);
        let (mut layers, mut pending) = (Vec::new(), Vec::new());
        let runs = |n: usize, step: &Step| matches!(step.kind, StepKind::Run(_)) || step.bytecode || pins.builds(n);
        let mut excess = plan.max_layers.map_or(0, |most| {
            let base = pins.base.image.manifest.layers.len();
            let running = plan.steps.iter().enumerate().filter(|(n, step)| runs(*n, step)).count();
            (base + running + work.iter().map(Vec::len).sum::<usize>()).saturating_sub(most)
        });
        for ((n, step), work) in plan.steps.iter().enumerate().zip(work) {
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
                    let build_context = BuildContext::of(self, &build_root)?;
                    if pins.builds(n) {
                        let built = pins.fetch(self, plan, n, &build_context).await?;
                        occupied.add(&built, scheme).map_err(|error| steps::failed(step, error))?;
                        let work = python::work(step, built.clone(), scheme, self.epoch.seconds());
                        new.extend(self.pack(work, &mut below).await?);
                        wheels.insert(n, built);
                    }
                    if let Some(wheels) = wheels.get(&n).filter(|_| step.bytecode) {
                        let work = bytecode(self, &build_context, step, wheels, scheme);
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
        Ok(layers)
    }

    /// What is to be packed without running anything, for each step; and the wheels in that, by the step's place.
    async fn work(
        &self,
        plan: &Plan,
        pins: &Pins,
        occupied: &mut Occupied,
    ) -> Result<(Vec<Vec<Work>>, Wheels), BuildError> {
        let scratch = self.store.scratch().map_err(BuildError::Store)?;
        let (mut all, mut wheels) = (Vec::new(), Wheels::new());
        for (n, step) in plan.steps.iter().enumerate() {
            let mut work: Vec<Work> =
                steps::work(plan, step, self.epoch, &scratch, &*self.reporter)?.into_iter().collect();
            if let (StepKind::Pip(_), Some(Interpreter { scheme, .. })) = (&step.kind, &pins.interpreter)
                && !pins.builds(n)
            {
                let fetched = pins.fetch(self, plan, n, &pins.build_context).await?;
                occupied.add(&fetched, scheme).map_err(|error| steps::failed(step, error))?;
                work.extend(python::work(step, fetched.clone(), scheme, self.epoch.seconds()));
                wheels.insert(n, fetched);
            }
            all.push(work);
        }
        Ok((all, wheels))
    }

    /// Packs layers and puts them onto `below`.
    async fn pack(&self, work: Vec<Work>, below: &mut Below) -> Result<Vec<BuiltLayer>, BuildError> {
        let (builder, mut under) = (self.clone(), below.clone());
        let pack = move || builder.packer().pack(work, &mut under).map(|layers| (layers, under));
        let (layers, above) = tokio::task::spawn_blocking(pack).await.map_err(|_| BuildError::Interrupted)??;
        *below = above;
        Ok(layers)
    }

    fn packer(&self) -> Packer<'_> {
        let Self { store, compression, use_cache, cancel, reporter, state, .. } = self;
        Packer { store, compression: *compression, use_cache: *use_cache, cancel, reporter: &**reporter, state }
    }

    /// What steps run in.
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
        // A path says nothing to whoever gets the image.
        if let ImageName::Registry(reference) = name {
            annotations.insert(BASE_NAME.to_owned(), reference.whole());
        }
        annotations.insert(BASE_DIGEST.to_owned(), base.image.manifest.digest().to_string());
    }
    annotations.extend(plan.runtime.to_annotation().map(|text| (RUNTIME.to_owned(), text)));
    annotations
}
