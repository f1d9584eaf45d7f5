//! Errors of steps.

use std::io;

use super::bpf::FilterError;

/// An error before or during a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxStepError {
    /// The spec is invalid.
    #[error("cannot read the runtime spec of the step")]
    Spec(#[source] serde_json::Error),
    /// The seccomp filter cannot be built.
    #[error("cannot create the seccomp filter")]
    Filter(#[from] FilterError),
    /// The supervisor cannot be started or reached.
    #[error("cannot start the supervisor of the step")]
    Start(#[source] io::Error),
    /// The kernel refuses namespaces.
    #[error("cannot create the step's namespaces ({what})")]
    Namespaces {
        /// The kinds of namespaces.
        what: String,
        /// The error of the kernel.
        source: io::Error,
    },
    /// An operation before the step's program failed.
    #[error("cannot {what}")]
    Prepare {
        /// The operation.
        what: String,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The program does not exist.
    #[error("cannot find the program {program}")]
    NotFound {
        /// Its name, or its path.
        program: String,
        /// The error of the kernel, if the name is a path.
        source: Option<io::Error>,
    },
    /// The program exists, but cannot be executed.
    #[error("cannot execute {program}")]
    NotExecutable {
        /// Its path.
        program: String,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The step was cancelled.
    #[error("the step was interrupted")]
    Cancelled,
    /// The supervisor died without a report.
    #[error("the supervisor of the step died{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    Lost(String),
}

impl SandboxStepError {
    /// The exit code as in docker: 127 or 126, or 125 for errors unrelated to the program.
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
    /// The hint for the user, as a sentence without a capital or a full stop.
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
            Self::NotFound { source: None, .. } => Some("give the path of the program, or a PATH that has it".into()),
            Self::NotFound { source: Some(_), .. } => {
                Some("if the file exists, the interpreter in its first line or its dynamic loader is missing".into())
            }
            Self::NotExecutable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("make it executable for the step's user".into())
            }
            Self::NotExecutable { .. } => {
                Some("the program may be for another architecture, or a script without a first line `#!`".into())
            }
            _ => None,
        }
    }
}
