//! The sandbox: namespaces, ownership and mounts for a process that is not root, or that is.
//!
//! A process can enter a user namespace only while it has one thread, so [`enter`] belongs before everything else. And
//! nothing here forks: what has to stay outside the namespace, or has to outlive this process, is this program again
//! with a hidden first argument, which [`help`] takes care of at the very top of `main`.

pub mod attempt;
pub mod ids;
mod linger;
mod obstacle;
pub mod overlay;
mod programs;
mod sys;
mod userns;

pub use linger::Lingering;
pub use obstacle::{Limits, Obstacle};
pub use programs::{find_program, program};
pub use userns::{Entered, Ids, SandboxError, enter};

use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Does what a hidden first argument asks for, if there is one. To be called first in `main`, before there are threads.
#[must_use]
pub fn help() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    match first.to_str()? {
        userns::MAP_IDS => Some(userns::map_ids_from_outside(&rest)),
        linger::LINGER => Some(linger::linger(&rest)),
        attempt::ATTEMPT => Some(attempt::as_child(&rest)),
        _ => None,
    }
}

/// This program again, as the helper called `name`.
fn helper(name: &str) -> Command {
    use std::os::unix::process::CommandExt;
    // Not by its path, at which there may be another program by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ociforge").arg(name);
    command
}
