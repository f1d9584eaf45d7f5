//! Steps that run a command: their changes become a layer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ociforge_layers::source::directory::{DirectoryError, DirectoryOptions, take};
use ociforge_layers::{Compression, LowerLayers, PackError, pack};
use ociforge_manifests::{ChainId, ConfigEdit, DiffId, Digest, Expansion};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::build_root::{BuildRoot, StepProcess};
use super::error::failed;
use super::step_mounts::{MountSource, ResolvedMount};
use super::step_run::StepRun;
use super::{BuildError, Builder, BuiltLayer, StepError};
use crate::layer::{LayerError, LayerPart, LayerWork, Run, Step, StepConfig, StepKind, TreeSource};
use crate::plan::{Plan, Stage};

/// Checks the mounts of all steps of a stage before any step runs.
pub(super) fn check(plan: &Plan, stage: &Stage) -> Result<(), BuildError> {
    stage.steps.iter().try_for_each(|step| {
        let StepKind::Run(run) = &step.kind else { return Ok(()) };
        let found = run.mounts.iter().try_for_each(|mount| ResolvedMount::of(plan, mount).map(drop));
        found.map_err(|error| failed(step, error))
    })
}

impl Builder {
    /// Runs the command of a step on top of `build_root`. Returns its layer, and adds it to `below`.
    pub(super) async fn run(
        &self,
        build_root: &BuildRoot,
        below: &mut LowerLayers,
        plan: &Plan,
        step: &Step,
        run: &Run,
    ) -> Result<BuiltLayer, BuildError> {
        let error = |error: StepError| failed(step, error);
        let job = self.job(build_root, plan, step, run).map_err(error)?;
        let key = ingredients(&job, self.epoch.seconds()).map_err(error)?;
        let known = self.packer().known(&key, &step.description, below);
        if let Some(layer) = known.map_err(|source| error(source.into()))? {
            return Ok(layer);
        }
        let ran = build_root.run(job).await.map_err(error)?;
        let (builder, step, mut under) = (self.clone(), step.clone(), below.clone());
        let diff_ids = build_root.diff_ids();
        let keep = move || builder.keep(ran, &step, key, diff_ids, &mut under).map(|layer| (layer, under));
        let (layer, above) = tokio::task::spawn_blocking(keep).await.map_err(BuildError::thread)??;
        *below = above;
        Ok(layer)
    }

    /// The process of a step on top of `build_root`, with variables expanded.
    fn job(&self, build_root: &BuildRoot, plan: &Plan, step: &Step, run: &Run) -> Result<StepProcess, StepError> {
        let StepConfig { env, workdir, user, shell } = &step.config;
        let step_mounts = run.mounts.iter().map(|mount| ResolvedMount::of(plan, mount)).collect::<Result<_, _>>()?;
        let mut expansion = Expansion::new(build_root.base_env());
        let config = ConfigEdit { env: expansion.variables(env)?, ..ConfigEdit::default() };
        // The build has warned about the variables of [config] already.
        expansion.missing.clear();
        let mut env = expansion.variables(&run.env)?;
        env.sort();
        let workdir = workdir.as_ref().map(|workdir| expansion.path("workdir", workdir)).transpose()?;
        let user = user.as_ref().map(|user| expansion.text("user", user)).transpose()?;
        self.warn_of_missing(&format!("line {}", step.line), &expansion);
        let (label, command, network) = (step.description.clone(), run.command.words(shell), run.network);
        let image = build_root.image(&config)?;
        Ok(StepProcess { image, label, command, env, workdir, user, network, step_mounts })
    }

    /// Warns about undefined variables, which are empty.
    pub(super) fn warn_of_missing(&self, place: &str, expansion: &Expansion) {
        for (key, variable) in &expansion.missing {
            self.reporter
                .warn(&format!("{place}: `{key}` refers to ${variable}, which is not set; write $$ for a dollar"));
        }
    }

    /// Packs the changes of a step, and keeps them unpacked for later steps.
    fn keep(
        &self,
        ran: StepRun,
        step: &Step,
        ingredients: Option<Value>,
        mut diff_ids: Vec<DiffId>,
        below: &mut LowerLayers,
    ) -> Result<BuiltLayer, BuildError> {
        let tree = ran.tree(self).map_err(|error| failed(step, error))?;
        let (description, size) = (step.description.clone(), tree.content_len());
        // The paths come from a root filesystem, so they need no resolution of links.
        let parts = vec![LayerPart { tree: TreeSource::Made(tree), rules: None }];
        let work = LayerWork { step: step.clone(), ingredients, description, size, parts, joinable: false };
        let layer = self.packer().pack(vec![work], below)?.pop().ok_or(BuildError::Internal("a step has no layer"))?;
        diff_ids.push(layer.layer.diff_id.clone());
        if let Some(chain) = ChainId::of(&diff_ids).last() {
            let sandbox = self.sandbox().map_err(|error| failed(step, error))?;
            ran.keep(self, &sandbox, chain).map_err(BuildError::Store)?;
        }
        Ok(layer)
    }
}

/// The inputs of the layer: everything that the command can see, except the values of secrets, the content of caches,
/// and the network. `None` if they are unknown: then there is no cache key.
fn ingredients(job: &StepProcess, mtime: i64) -> Result<Option<Value>, StepError> {
    let mut step_mounts = Vec::new();
    for ResolvedMount { to, what } in &job.step_mounts {
        let what = match what {
            MountSource::Bind { path, access } => match content(path)? {
                Some(content) => json!({"bind": content, "access": format!("{access:?}")}),
                None => return Ok(None),
            },
            MountSource::Cache { id, .. } => json!({"cache": id}),
            MountSource::Tmpfs { size } => json!({"tmpfs": size.map(|size| size.0)}),
            MountSource::Secret { id, mode, owner } => {
                json!({"secret": id, "mode": mode, "owner": owner.map(|owner| [owner.uid, owner.gid])})
            }
        };
        step_mounts.push(json!([to, what]));
    }
    let process = &job.image.config.config;
    Ok(Some(json!({
        "run": job.command,
        "env": [json!(process.env), json!(job.env)],
        "workdir": job.workdir.as_ref().unwrap_or(&process.working_dir),
        "user": job.user.as_ref().unwrap_or(&process.user),
        "network": job.network.to_string(),
        "mounts": step_mounts,
        "below": job.image.config.rootfs.diff_ids,
        "mtime": mtime,
    })))
}

/// The digests of the content and of the modes of a file or directory; `None` if it contains a file without content,
/// such as a socket.
fn content(path: &Path) -> Result<Option<Value>, StepError> {
    let to = "content".parse().map_err(LayerError::Path)?;
    let tree = match take(path, &to, &DirectoryOptions::default()) {
        Err(DirectoryError::Special { .. } | DirectoryError::Whiteout(_)) => return Ok(None),
        Ok(taken) if !taken.sockets.is_empty() => return Ok(None),
        taken => taken.map_err(LayerError::from)?.tree,
    };
    let unreadable = |source| LayerError::Read { path: path.to_owned(), source };
    let packed = pack(&tree, Compression::None, 1, std::io::sink());
    let packed = packed.map_err(|error: PackError| unreadable(std::io::Error::other(error)))?;
    // The modes in the packed tree are normalized, so they do not show all changes.
    let mut modes = Sha256::new();
    for (inside, _) in tree.iter() {
        let real: PathBuf = path.components().chain(inside.as_path().components().skip(1)).collect();
        modes.update(fs::symlink_metadata(real).map_err(unreadable)?.mode().to_le_bytes());
    }
    Ok(Some(json!([packed.diff_id, Digest::from_sha256(&modes.finalize().into())])))
}
