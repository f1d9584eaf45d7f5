//! The sandbox: namespaces, ownership and mounts for a process, with or without root.
//!
//! A process can enter a user namespace only while it has one thread, so [`enter`] must be called first. Nothing here
//! forks: helpers outside of the namespace, or that outlive this process, are this program again with a hidden first
//! argument (re-exec), which [`reexec`] handles at the top of `main`.

mod cleanup;
mod diagnosis;
mod entered;
pub mod ids;
mod isolation;
mod mapping;
pub mod overlay;
pub mod owners;
pub mod probe;
mod programs;
pub mod step;
pub mod step_probe;
mod sys;
mod sys_available;
mod sys_notify;
mod userns;

pub use cleanup::Cleanup;
pub use diagnosis::{Diagnosis, Limits};
pub use entered::{Entered, IdMapping};
pub use isolation::{Confinement, Isolation, UnknownIsolation};
pub use programs::{find_program, program};
pub use sys::inherit::start_clean;
pub use sys::memory::give_large_memory_back;
pub use userns::{MissingPrerequisite, SandboxError, enter, enter_as};

use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Runs the helper of a hidden first argument, if any. Must be called first in `main`, before threads exist.
#[must_use]
pub fn reexec() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    match first.to_str()? {
        mapping::MAP_IDS => Some(mapping::map_ids_from_outside(&rest)),
        cleanup::CLEANUP => Some(cleanup::run(&rest)),
        step::SUPERVISOR => Some(step::supervisor()),
        step::INIT => Some(step::init()),
        probe::PROBE => Some(probe::as_child(&rest)),
        step_probe::STEP_PROBE => Some(step_probe::as_child()),
        step_probe::MOUNT_PROC => Some(step_probe::mount_proc()),
        _ => None,
    }
}

/// This program again, with the task `name`.
fn reexec_command(name: &str) -> Command {
    use std::os::unix::process::CommandExt;
    // Not by its path, which may now be another program.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ociforge").arg(name);
    command
}
