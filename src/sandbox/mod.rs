//! The sandbox: namespaces, ownership and mounts for a process that is not root, or that is.
//!
//! A process can enter a user namespace only while it has one thread, so [`enter`] belongs before everything else. And
//! nothing here forks: what has to stay outside the namespace, or has to outlive this process, is this program again
//! with a hidden first argument, which [`help`] takes care of at the very top of `main`.

pub mod attempt;
mod entered;
pub mod ids;
mod isolation;
mod linger;
mod mapping;
mod obstacle;
pub mod overlay;
pub mod owners;
mod programs;
pub mod rehearsal;
pub mod stage;
pub mod step;
mod sys;
mod sys_available;
mod sys_notify;
mod userns;

pub use entered::{Entered, Ids};
pub use isolation::{Confinement, Isolation, UnknownIsolation};
pub use linger::Lingering;
pub use obstacle::{Limits, Obstacle};
pub use programs::{find_program, program};
pub(crate) use sys::inherit::start_clean;
pub use sys::memory::give_large_memory_back;
pub use userns::{Lack, SandboxError, enter, enter_as};

use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Does what a hidden first argument asks for, if there is one. To be called first in `main`, before there are threads.
#[must_use]
pub fn help() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    match first.to_str()? {
        mapping::MAP_IDS => Some(mapping::map_ids_from_outside(&rest)),
        linger::LINGER => Some(linger::linger(&rest)),
        step::WARDEN => Some(step::warden()),
        step::INIT => Some(step::init()),
        attempt::ATTEMPT => Some(attempt::as_child(&rest)),
        rehearsal::REHEARSE => Some(rehearsal::as_child()),
        rehearsal::MOUNT_PROC => Some(rehearsal::mount_proc()),
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
