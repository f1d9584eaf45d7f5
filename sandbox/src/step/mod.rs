//! Runs one process by a runtime spec (runtime-spec, config.md), without a runtime.
//!
//! There are three processes. The *caller*, which may have threads and has mounted the root filesystem, starts the
//! *supervisor*: this program again, which creates the namespaces. The supervisor starts *init*, the first process of
//! the new PID namespace: this program again, which mounts filesystems, drops privileges, and then executes the step's
//! program. When that ends, the kernel kills the remaining processes in its namespace. When the caller ends for any
//! reason, the supervisor reads the end of its input and kills init.

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
    /// The runtime spec. `root.path` is absolute and exists.
    pub spec: &'a Value,
    /// The isolation of the process.
    pub confinement: Confinement,
    /// With one id only: settings of the supervisor for chown(2), setuid(2) and related calls.
    pub owners: Option<Owners<'a>>,
}

/// The storage of recorded owners.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    /// The directory that receives the step's writes: the overlay's upper one, or the root itself.
    pub files: &'a Path,
    /// The file for the table of owners ([`ociforge_layers::owner::OwnershipTable`]), written at the end of the step.
    pub table: &'a Path,
}

/// The end of the step's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It exited with this code.
    Exited(u8),
    /// A signal killed it.
    Killed(i32),
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    /// The end of its process.
    pub ended: Ended,
    /// The files and directories that were created in the root as mount points, and the devices if mounts are not
    /// possible: absolute paths in the root without links, outermost first. They stay in the root.
    pub made: Vec<PathBuf>,
    /// Restrictions of the step: sentences without a full stop.
    pub notes: Vec<String>,
}

/// Runs a step. `output` receives its stdout and stderr together, as they arrive. Its stdin is empty.
///
/// All processes of the step have ended when this returns.
///
/// # Errors
/// When it cannot run, or `cancelled` is set before it ends.
pub fn run(
    entered: &Entered,
    step: &SandboxStep<'_>,
    output: &mut dyn FnMut(&[u8]),
    cancelled: &AtomicBool,
) -> Result<StepOutcome, SandboxStepError> {
    caller::run(&job::StepJob::new(entered, step)?, output, cancelled)
}
