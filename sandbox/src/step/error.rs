//! Why a step was not run.

use std::io;

use super::bpf::FilterError;

/// A step that was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxStepError {
    /// The spec is none.
    #[error("the runtime spec of the step can't be read")]
    Spec(#[source] serde_json::Error),
    /// The filter of system calls can't be made.
    #[error("the filter of system calls can't be made")]
    Filter(#[from] FilterError),
    /// The process that watches the step can't be started, or reached.
    #[error("cannot start the process that watches the step")]
    Start(#[source] io::Error),
    /// The kernel refuses namespaces.
    #[error("cannot make the step's namespaces ({what})")]
    Namespaces {
        /// Which.
        what: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// Something that comes before the step's program can't be done.
    #[error("cannot {what}")]
    Prepare {
        /// What.
        what: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The program is not there.
    #[error("cannot find the program {program}")]
    NotFound {
        /// Its name, or its path.
        program: String,
        /// What the kernel says, if the name is a path.
        source: Option<io::Error>,
    },
    /// The program is there, but can't be executed.
    #[error("cannot execute {program}")]
    NotExecutable {
        /// Its path.
        program: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The word to stop was said.
    #[error("the step was interrupted")]
    Cancelled,
    /// The process that watches the step is gone without a word.
    #[error("the process that watches the step died{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    Lost(String),
}

impl SandboxStepError {
    /// The exit code that docker has for it: 127, 126, or 125 when it has nothing to do with the program.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

impl SandboxStepError {
    /// What the user can do, as a sentence without a capital or a full stop.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Namespaces { source, .. }
                if source.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) =>
            {
                Some(
                    "raise the limits user.max_pid_namespaces, max_mnt_namespaces and max_net_namespaces (sysctl)"
                        .into(),
                )
            }
            Self::Namespaces { .. } => Some("run as root, or where user namespaces are allowed".into()),
            Self::NotFound { source: None, .. } => Some("give its path, or a PATH that has it".into()),
            Self::NotFound { source: Some(_), .. } => {
                Some("if the file is there, what its first line names, or its dynamic loader, is not".into())
            }
            Self::NotExecutable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("make it executable for the step's user".into())
            }
            Self::NotExecutable { .. } => {
                Some("is it for another architecture, or a script without a first line `#!`?".into())
            }
            _ => None,
        }
    }
}
