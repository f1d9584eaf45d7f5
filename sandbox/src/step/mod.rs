//! Running one process by a runtime spec (runtime-spec, config.md), without a runtime.
//!
//! Three processes take part. The *caller*, which may have threads and has the root filesystem mounted, starts the
//! *supervisor*: this program again, which makes the namespaces. The supervisor starts *init*, the first process of the new PID
//! namespace: this program once more, which makes the mounts, gives up its rights, and then becomes the step's program.
//! When that ends, the kernel kills what is left in its namespace. When the caller ends, however it does, the supervisor
//! sees its input end and kills init.

mod bpf;
mod caller;
mod compare;
mod copied_mounts;
mod descendants;
mod devices;
mod error;
mod identity;
mod init;
mod job;
mod limits;
mod loopback;
mod mounts;
mod numbers;
mod options;
mod program;
mod spec;
mod supervisor;
mod target;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use bpf::FilterError;
pub(super) use bpf::Instruction;
pub use copied_mounts::{CopiedMounts, copy_tree};
pub use error::SandboxStepError;
pub(super) use init::{INIT, init};
pub(super) use supervisor::{SUPERVISOR, supervisor};

use super::{Confinement, Entered};

/// A process to run.
#[derive(Debug, Clone, Copy)]
pub struct SandboxStep<'a> {
    /// The runtime spec. `root.path` is absolute, and there.
    pub spec: &'a Value,
    /// What keeps the process in.
    pub confinement: Confinement,
    /// With one id only: have a supervisor answer chown(2), setuid(2) and their kin.
    pub owners: Option<Owners<'a>>,
}

/// Where owners are remembered.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    /// The directory in which ends up what the step writes: the overlay's upper one, or the root itself.
    pub files: &'a Path,
    /// The file for the table of owners ([`ociforge_layers::owner::OwnershipTable`]), written when the step ends.
    pub table: &'a Path,
}

/// How the step's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this exit code.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    /// How its process ended.
    pub ended: Ended,
    /// The files and directories that were made in the root for something to be mounted on, and without mounts the devices:
    /// absolute paths in the root without links in them, outermost first. They are left where they are.
    pub made: Vec<PathBuf>,
    /// What the step had to do without: sentences without a full stop.
    pub notes: Vec<String>,
}

/// Runs a step. `output` gets what it writes, stdout and stderr together, as it comes. Its stdin is empty.
///
/// Everything that the step started is gone when this returns.
///
/// # Errors
/// When it cannot be run, or `cancelled` is set before it ends.
pub fn run(
    entered: &Entered,
    step: &SandboxStep<'_>,
    output: &mut dyn FnMut(&[u8]),
    cancelled: &AtomicBool,
) -> Result<StepOutcome, SandboxStepError> {
    caller::run(&job::StepJob::new(entered, step)?, output, cancelled)
}
