//! Executes a command again if it detects late that it needs namespaces: only a process without threads can enter them.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::FinalProcess;
use crate::error::Failure;

/// Marks the new process.
const VARIABLE: &str = "OCIFORGE_ENTER";

/// Whether this process was started by [`Reexec`].
pub(super) fn is_reexecuted() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == OsStr::new("1"))
}

/// Executes the command again with namespaces, if they are missing.
pub(super) fn or_reexec(error: CommandError) -> Result<Option<Box<dyn FinalProcess>>, Failure> {
    match error {
        CommandError::NeedsNamespaces if !is_reexecuted() => Ok(Some(Box::new(Reexec))),
        CommandError::NeedsNamespaces => Err(Failure::new("there are no namespaces for the commands of the recipe")),
        CommandError::Failed(failure) => Err(failure),
    }
}

/// The error of a command that may need namespaces.
pub(super) enum CommandError {
    /// The command needs namespaces, and has not entered any.
    NeedsNamespaces,
    /// The command failed.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Reexec;

impl FinalProcess for Reexec {
    fn run(self: Box<Self>) -> Result<u8, Failure> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let error = Command::new("/proc/self/exe").arg0(name).args(arguments).env(VARIABLE, "1").exec();
        Err(Failure::new("cannot execute ociforge again with namespaces").caused_by(error))
    }
}
