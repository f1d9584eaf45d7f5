//! A command that finds out late that it needs namespaces, which only a process without threads can enter, begins again.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Finale;
use crate::error::Failure;

/// Tells the new process.
const VARIABLE: &str = "OCIFORGE_ENTER";

/// Whether this process is one that begins again.
pub(super) fn is_it() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == OsStr::new("1"))
}

/// Instead of failing for want of namespaces, the command begins again with them.
pub(super) fn instead(failure: Late) -> Result<Option<Box<dyn Finale>>, Failure> {
    match failure {
        Late::Outside if !is_it() => Ok(Some(Box::new(Again))),
        Late::Outside => Err(Failure::new("there are no namespaces for what must be run")),
        Late::Failed(failure) => Err(failure),
    }
}

/// How a command ends that does not do its work.
pub(super) enum Late {
    /// It needs namespaces, and nobody tried to enter any.
    Outside,
    /// It failed.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Late {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Again;

impl Finale for Again {
    fn play(self: Box<Self>) -> Result<u8, Failure> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let error = Command::new("/proc/self/exe").arg0(name).args(arguments).env(VARIABLE, "1").exec();
        Err(Failure::new("cannot begin again with namespaces").caused_by(error))
    }
}
