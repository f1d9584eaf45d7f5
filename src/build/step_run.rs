//! Runs a step, and collects its changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ociforge_layers::source::changes::{self, Snapshot, changes, snapshot};
use ociforge_layers::source::overlay::{self, overlay};
use ociforge_layers::unpack::OwnerPolicy;
use ociforge_layers::{LayerPath, LayerTree, owner};
use ociforge_manifests::ChainId;
use rustix::fs::statvfs;
use serde_json::Value;

use super::step_mounts::PreparedMounts;
use super::{Builder, Sandbox, StepError};
use crate::layer::LayerError;
use crate::progress::{Lines, Progress};
use crate::rootfs::writable::{RootfsForm, WritableRootfs, owners, roots};
use crate::store::ContainerDirectory;
use ociforge_sandbox::Confinement;
use ociforge_sandbox::step::{self, CopiedMounts, Ended, SandboxStep, StepOutcome};

/// A prepared step.
pub(super) struct Set {
    pub(super) rootfs: WritableRootfs,
    pub(super) directory: Arc<ContainerDirectory>,
    /// Keeps the sources of the mounts.
    pub(super) ready: PreparedMounts,
}

/// A step that has ended with success.
pub(super) struct StepRun {
    rootfs: WritableRootfs,
    /// Dropped after the mount of `rootfs`.
    directory: Arc<ContainerDirectory>,
    before: Option<Snapshot>,
    made: Vec<LayerPath>,
    /// Paths that are unchanged, although they look changed.
    restored: Vec<LayerPath>,
    owners: Option<owner::OwnershipTable>,
}

impl Set {
    /// Runs the process of `spec` to its end.
    pub(super) fn play(
        self,
        builder: &Builder,
        sandbox: &Sandbox,
        spec: &Value,
        task: &dyn Progress,
    ) -> Result<StepRun, StepError> {
        let Self { mut rootfs, directory, ready } = self;
        let cancelled = || builder.cancel.is_cancelled();
        let table = directory.path().join("owners");
        let remembers = owners(&sandbox.entered) == OwnerPolicy::Remembered;
        let nobody = owner::OwnershipTable::default();
        let before = match rootfs.form() {
            RootfsForm::Overlay { .. } => None,
            RootfsForm::Copy => Some(snapshot(rootfs.root(), remembers.then_some(&nobody), &cancelled)?),
        };
        let owners = remembers.then(|| step::Owners { files: written(&rootfs), table: &table });
        let aside = tempfile::tempdir_in(directory.path()).map_err(StepError::Store)?;
        let copied_mounts = match sandbox.entered.confinement() {
            Confinement::Chroot => {
                Some(CopiedMounts::put(spec, rootfs.root(), aside.path()).map_err(StepError::Store)?)
            }
            Confinement::Namespaces => None,
        };
        let restored =
            copied_mounts.as_ref().map(|copied_mounts| copied_mounts.restored(rootfs.root())).unwrap_or_default();
        let step = SandboxStep { spec, confinement: sandbox.entered.confinement(), owners };
        let mut lines = Lines::default();
        let mut output = |bytes: &[u8]| lines.push(bytes, task);
        let outcome = step::run(&sandbox.entered, &step, &mut output, builder.cancel.flag());
        lines.finish(task);
        drop((copied_mounts, ready));
        let StepOutcome { ended, made, notes } = outcome?;
        notes.iter().for_each(|note| builder.reporter.note(note));
        if ended != Ended::Exited(0) {
            let last = lines.last().map(str::to_owned).collect();
            return Err(StepError::Failed { ended, last, full: is_full(directory.path()) });
        }
        rootfs.unmount();
        task.done("ran");
        let owners = remembers.then(|| read_table(&table)).transpose()?;
        Ok(StepRun { rootfs, directory, before, made: layer_paths(&made)?, restored: layer_paths(&restored)?, owners })
    }
}

/// Whether the filesystem of a directory is nearly full.
fn is_full(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|found| found.f_bavail * found.f_frsize < 1 << 20 || found.f_favail == 0)
}

/// The directory that receives the changes of a step.
fn written(rootfs: &WritableRootfs) -> &Path {
    match rootfs.form() {
        RootfsForm::Overlay { upper, .. } => upper,
        RootfsForm::Copy => rootfs.root(),
    }
}

fn read_table(file: &Path) -> Result<owner::OwnershipTable, LayerError> {
    let read = |source| LayerError::Read { path: file.to_owned(), source };
    fs::read_to_string(file).map_err(read)?.parse().map_err(|error| read(io::Error::other(error)))
}

fn layer_paths(paths: &[PathBuf]) -> Result<Vec<LayerPath>, StepError> {
    let paths = paths.iter().map(|path| LayerPath::new(path.as_os_str().as_encoded_bytes()));
    Ok(paths.collect::<Result<_, _>>().map_err(LayerError::from)?)
}

impl StepRun {
    /// The changes of the step. The tree refers to files of this step, until it is dropped or kept.
    pub(super) fn tree(&self, builder: &Builder) -> Result<LayerTree, StepError> {
        let cancelled = || builder.cancel.is_cancelled();
        let (latest, owners) = (builder.epoch.seconds(), self.owners.as_ref());
        let (made, restored) = (&*self.made, &*self.restored);
        let shared = changes::CaptureOptions { latest, owners, made, restored, cancelled: &cancelled };
        match (self.rootfs.form(), &self.before) {
            (RootfsForm::Overlay { lower, upper, space, fuse }, _) => {
                let (space, fuse) = (*space, *fuse);
                let options = overlay::OverlayOptions { space, fuse, lower, shared };
                Ok(overlay(upper, &options)?)
            }
            (RootfsForm::Copy, Some(before)) => Ok(changes(self.rootfs.root(), before, &shared)?),
            (RootfsForm::Copy, None) => Ok(LayerTree::new()),
        }
    }

    /// Keeps the changes for the next step, so that it need not unpack the layer: as the unpacked layer with the chain
    /// id `chain`, or, with a copy, as the whole copy.
    pub(super) fn keep(self, builder: &Builder, sandbox: &Sandbox, chain: &ChainId) -> io::Result<()> {
        let RootfsForm::Overlay { upper, .. } = self.rootfs.form().clone() else {
            sandbox.put(Some(chain.clone()), self.rootfs);
            return Ok(());
        };
        let roots = roots(&builder.store, &sandbox.entered, owners(&sandbox.entered));
        drop(self.rootfs);
        roots.adopt(&upper, chain)?;
        drop(self.directory);
        Ok(())
    }
}
