//! Steps that run a command: what they change becomes a layer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ociforge_layers::source::directory::{DirectoryError, Options, directory};
use ociforge_layers::{Compression, PackError, pack};
use ociforge_manifests::{ChainId, DiffId, Digest, Image};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::fixtures::{Fixture, What};
use super::pack::Work;
use super::ran::Ran;
use super::steps::failed;
use super::workbench::{Job, Workbench};
use super::{BuildError, Builder, BuiltLayer, StepError};
use crate::plan::{Plan, Run, Step, StepKind};

/// Finds what steps are to see and is not there, before any of them runs.
pub(super) fn check(plan: &Plan) -> Result<(), BuildError> {
    plan.steps.iter().try_for_each(|step| {
        let StepKind::Run(run) = &step.kind else { return Ok(()) };
        let found = run.mounts.iter().try_for_each(|mount| Fixture::of(plan, mount).map(drop));
        found.map_err(|error| failed(step, error))
    })
}

impl Builder {
    /// The layer of a step that runs a command on top of what is on the bench.
    pub(super) async fn run(
        &self,
        bench: &Workbench,
        plan: &Plan,
        step: &Step,
        run: &Run,
    ) -> Result<BuiltLayer, BuildError> {
        let error = |error: StepError| failed(step, error);
        let fixtures = run.mounts.iter().map(|mount| Fixture::of(plan, mount)).collect::<Result<_, _>>();
        let job = Job {
            label: step.description.clone(),
            command: run.command.clone(),
            env: run.env.clone(),
            workdir: run.workdir.clone(),
            user: run.user.clone(),
            network: run.network,
            fixtures: fixtures.map_err(error)?,
        };
        let image = bench.image().map_err(|source| error(source.into()))?;
        let key = ingredients(&job, &image, self.epoch.seconds()).map_err(error)?;
        if let Some(layer) = self.packer().known(&key, &step.description) {
            return Ok(layer);
        }
        let ran = bench.run(&job).await.map_err(error)?;
        let (builder, step) = (self.clone(), step.clone());
        let diff_ids = bench.diff_ids();
        let keep = move || builder.keep(ran, &step, key, diff_ids);
        tokio::task::spawn_blocking(keep).await.map_err(|_| BuildError::Interrupted)?
    }

    /// Packs what a step changed, and keeps it unpacked for those that follow.
    fn keep(
        &self,
        ran: Ran,
        step: &Step,
        ingredients: Option<Value>,
        mut diff_ids: Vec<DiffId>,
    ) -> Result<BuiltLayer, BuildError> {
        let tree = Arc::new(ran.tree(self).map_err(|error| failed(step, error))?);
        let size = tree.content_len();
        let tree = Box::new(move || Ok(tree.clone()));
        let work = Work { ingredients, description: step.description.clone(), size, tree };
        let layer = self.packer().pack_alone(&work)?;
        diff_ids.push(layer.layer.diff_id.clone());
        if let Some(chain) = ChainId::of(&diff_ids).last() {
            let sandbox = self.sandbox().map_err(|error| failed(step, error))?;
            ran.keep(self, &sandbox, chain).map_err(BuildError::Store)?;
        }
        Ok(layer)
    }
}

/// What the layer depends on: everything that the command can see but the values of secrets, what caches hold, and the
/// network. `None` where that can't be told.
fn ingredients(job: &Job, image: &Image, mtime: i64) -> Result<Option<Value>, StepError> {
    let mut fixtures = Vec::new();
    for Fixture { to, what } in &job.fixtures {
        let what = match what {
            What::Bind { path, access } => match content(path)? {
                Some(content) => json!({"bind": content, "access": format!("{access:?}")}),
                None => return Ok(None),
            },
            What::Cache { id, .. } => json!({"cache": id}),
            What::Tmpfs { size } => json!({"tmpfs": size.map(|size| size.0)}),
            What::Secret { id, mode, owner } => {
                json!({"secret": id, "mode": mode, "owner": owner.map(|owner| [owner.uid, owner.gid])})
            }
        };
        fixtures.push(json!([to, what]));
    }
    let process = &image.config.config;
    Ok(Some(json!({
        "run": job.command,
        "env": [json!(process.env), json!(job.env)],
        "workdir": job.workdir.as_ref().unwrap_or(&process.working_dir),
        "user": job.user.as_ref().unwrap_or(&process.user),
        "network": job.network.to_string(),
        "mounts": fixtures,
        "below": image.config.rootfs.diff_ids,
        "mtime": mtime,
    })))
}

/// What is in a file or directory, and its modes, as a digest each; `None` if there is something that has no content,
/// such as a socket.
fn content(path: &Path) -> Result<Option<Value>, StepError> {
    let to = "content".parse().map_err(StepError::Path)?;
    let tree = match directory(path, &to, &Options::default()) {
        Err(DirectoryError::Special { .. } | DirectoryError::Whiteout(_)) => return Ok(None),
        tree => tree?,
    };
    let unreadable = |source| StepError::Read { path: path.to_owned(), source };
    let packed = pack(&tree, Compression::None, 1, std::io::sink());
    let packed = packed.map_err(|error: PackError| unreadable(std::io::Error::other(error)))?;
    // Layers have plainer ones.
    let mut modes = Sha256::new();
    for (inside, _) in tree.iter() {
        let real: PathBuf = path.components().chain(inside.as_path().components().skip(1)).collect();
        modes.update(fs::symlink_metadata(real).map_err(unreadable)?.mode().to_le_bytes());
    }
    Ok(Some(json!([packed.diff_id, Digest::from_sha256(&modes.finalize().into())])))
}
