//! The root filesystem of steps: the base and the layers so far.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use ociforge_layers::unpack::OwnerPolicy;
use ociforge_manifests::document::canonical;
use ociforge_manifests::runtime::{ContainerRequest, EnvEntry, Host, Hostname, Network, RuntimeSettings};
use ociforge_manifests::{ChainId, ConfigEdit, DiffId, Digest, Image, ImageError, NewLayer};

use serde_json::json;

use super::step_mounts::{PreparedMounts, ResolvedMount};
use super::step_run::{Set, StepRun};
use super::{Builder, Sandbox, StepError};
use crate::base::BaseImage;
use crate::python::build::BuildContext;
use crate::rootfs::Unpacker;
use crate::rootfs::writable::{WritableRootfs, owners};
use crate::run::bundle::Bundle;
use crate::run::host::{self, Overrides};
use crate::store::ContainerDirectory;
use crate::transfer::Overlay;

/// The host name in steps, the same on every machine.
const HOSTNAME: &str = "ociforge";

/// The base of a build and its layers so far.
#[derive(Clone)]
pub(super) struct BuildRoot {
    builder: Builder,
    base: BaseImage,
    /// The stage's config for build backends, without its user.
    config: ConfigEdit,
    below: Vec<NewLayer>,
}

/// The process of a step.
#[derive(Debug, Clone)]
pub(super) struct StepProcess {
    /// The image that it runs in: the layers so far, and the config that holds for the step.
    pub(super) image: Image,
    /// The label of its progress.
    pub(super) label: String,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// Variables that override the image's.
    pub(super) env: Vec<(String, String)>,
    /// The working directory; `None` is the image's.
    pub(super) workdir: Option<String>,
    /// The user; `None` is the base's.
    pub(super) user: Option<String>,
    /// The network.
    pub(super) network: Network,
    /// The mounts of the step.
    pub(super) step_mounts: Vec<ResolvedMount>,
}

impl BuildRoot {
    pub(super) fn new(builder: &Builder, config: &ConfigEdit, base: &BaseImage) -> Self {
        // The user of `[config]` is for containers. Steps run as the user of the base.
        let config = ConfigEdit { user: None, ..config.clone() };
        Self { builder: builder.clone(), base: base.clone(), config, below: Vec::new() }
    }

    /// Adds layers on top.
    pub(super) fn add(&mut self, layers: impl IntoIterator<Item = NewLayer>) {
        self.below.extend(layers);
    }

    /// The diff ids of the base and the layers so far, lowest first.
    pub(super) fn diff_ids(&self) -> Vec<DiffId> {
        let base = self.base.image.config.rootfs.diff_ids.iter();
        base.chain(self.below.iter().map(|layer| &layer.diff_id)).cloned().collect()
    }

    /// The variables of the base.
    pub(super) fn base_env(&self) -> &[String] {
        &self.base.image.config.config.env
    }

    /// The image with the layers so far, and with these changes of the base's config.
    pub(super) fn image(&self, config: &ConfigEdit) -> Result<Image, ImageError> {
        let created = self.builder.epoch.rfc3339();
        self.base.image.append(&self.below, config, &created, &BTreeMap::new())
    }

    /// The image that build backends run in.
    pub(super) fn backend_image(&self) -> Result<Image, ImageError> {
        self.image(&self.config)
    }

    /// The environment of build backends on top of the layers so far.
    pub(super) fn build_context(&self) -> Result<BuildContext, ImageError> {
        let isolated = self.builder.isolated.clone().unwrap_or_else(|| Arc::new(self.clone()));
        let config = self.backend_image()?.config;
        let digest = Digest::of(&canonical(&json!([config.rootfs.diff_ids, config.config.env])));
        Ok(BuildContext { isolated, digest })
    }

    /// Runs a command in a root filesystem of its image.
    pub(super) async fn run(&self, job: StepProcess) -> Result<StepRun, StepError> {
        let sandbox = self.builder.sandbox()?;
        let rootfs = self.rootfs(&sandbox, &job.image).await?;
        let directory = rootfs.directory().clone();
        let task = self.builder.reporter.task(&job.label, None);
        let builder = self.builder.clone();
        let play = move || {
            let ready = PreparedMounts::make(&job.step_mounts, &builder, &sandbox, &directory)?;
            let request = request(&job, &ready, &sandbox);
            let bundle = Bundle { directory: directory.path(), destination: directory.path() };
            let spec = bundle.step(&job.image.config, &request, facts(&sandbox))?;
            Set { rootfs, directory, ready }.play(&builder, &sandbox, &spec.json, &*task)
        };
        tokio::task::spawn_blocking(play).await.map_err(StepError::Thread)?
    }

    /// A root filesystem of the image: the copy of the previous step, or a new one.
    async fn rootfs(&self, sandbox: &Sandbox, image: &Image) -> Result<WritableRootfs, StepError> {
        let Builder { store, reporter, cancel, .. } = &self.builder;
        if let Some(rootfs) = sandbox.take(ChainId::of(&self.diff_ids()).last()) {
            return Ok(rootfs);
        }
        let directory = Arc::new(ContainerDirectory::create(&store.steps(), true).map_err(StepError::Store)?);
        // Read layers that are in the store from there.
        let source = Overlay::new(&[], store.layout(), self.base.source.as_deref());
        let jobs = thread::available_parallelism().map_or(1, NonZero::get);
        let owners = owners(&sandbox.entered);
        let unpacker = Unpacker { source: &source, reporter: &**reporter, jobs, owners, cancel };
        let (rootfs, losses) = WritableRootfs::make(&sandbox.entered, &unpacker, store, image, &directory).await?;
        losses.warnings().iter().for_each(|warning| reporter.warn(warning));
        Ok(rootfs)
    }
}

fn request(job: &StepProcess, ready: &PreparedMounts, sandbox: &Sandbox) -> ContainerRequest {
    let entry = |(key, value): &(String, String)| EnvEntry { key: key.clone(), value: Some(value.clone()) };
    ContainerRequest {
        settings: RuntimeSettings { network: Some(job.network), ..RuntimeSettings::default() },
        env: job.env.iter().map(entry).collect(),
        user: job.user.clone(),
        workdir: job.workdir.clone(),
        entrypoint: Some(Vec::new()),
        command: job.command.clone(),
        hostname: HOSTNAME.parse::<Hostname>().ok(),
        volumes: ready.volumes.clone(),
        tmpfs: ready.tmpfs.clone(),
        rootless: sandbox.entered.rootless(),
        ..ContainerRequest::default()
    }
}

/// The facts about the host for the spec of a step. With ownership records the supervisor handles ids that are not
/// mapped.
fn facts(sandbox: &Sandbox) -> Host {
    let facts = host::facts(Overrides::default());
    let remembered = owners(&sandbox.entered) == OwnerPolicy::Remembered;
    let mappings = facts.mappings.clone().filter(|_| !remembered);
    Host { runs_here: true, mappings, inside_user_namespace: sandbox.entered.rootless(), ..facts }
}
