//! The protocol of the three processes: the job to the children, reports to the parents, as lines of JSON.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spec::Spec;
use super::{Confinement, Ended, SandboxStep, SandboxStepError, bpf};
use crate::{Entered, IdMapping};

/// The job for supervisor and init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StepJob {
    pub(super) spec: Spec,
    /// Whether to use only chroot(2), without namespaces.
    pub(super) chroot: bool,
    /// Whether the user's own id is the only one.
    pub(super) one_id: bool,
    /// The filter of system calls, packed, and its flags.
    pub(super) filter: Option<(Vec<u64>, u32)>,
    pub(super) owners: Option<Supervised>,
}

/// See [`super::Owners`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Supervised {
    pub(super) files: PathBytes,
    pub(super) table: PathBytes,
}

/// A path, which may not be UTF-8.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PathBytes(Vec<u8>);

impl PathBytes {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }

    pub(super) fn path(&self) -> PathBuf {
        OsStr::from_bytes(&self.0).into()
    }
}

impl StepJob {
    pub(super) fn new(entered: &Entered, step: &SandboxStep<'_>) -> Result<Self, SandboxStepError> {
        let filter = match step.spec.pointer("/linux/seccomp") {
            None | Some(serde_json::Value::Null) => None,
            Some(seccomp) => {
                let filter = bpf::compile(seccomp)?;
                Some((filter.program.iter().map(|instruction| instruction.packed()).collect(), filter.flags))
            }
        };
        Ok(Self {
            spec: Spec::deserialize(step.spec).map_err(SandboxStepError::Spec)?,
            chroot: step.confinement == Confinement::Chroot,
            one_id: entered.ids() == IdMapping::OneId,
            filter,
            owners: step
                .owners
                .map(|owners| Supervised { files: PathBytes::new(owners.files), table: PathBytes::new(owners.table) }),
        })
    }

    pub(super) fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)
    }

    /// Reads a job; `None` at the end of the input.
    pub(super) fn read(from: impl BufRead) -> io::Result<Option<Self>> {
        let line = from.lines().next().transpose()?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }
}

/// A report to the caller.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum SupervisorReport {
    /// A file was created in the root as a mount point.
    Made(PathBytes),
    /// A restriction of the step.
    Note(String),
    /// The step failed.
    Failed(Failed),
    /// The step's process has ended.
    Ended(Ended),
}

/// The error of a step.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failed {
    kind: FailureKind,
    /// The failed operation, or the program.
    what: String,
    /// The error number, or else the message.
    number: Option<i32>,
    reason: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum FailureKind {
    Namespaces,
    Prepare,
    Unfound,
    NotFound,
    NotExecutable,
}

impl Failed {
    pub(super) fn new(kind: FailureKind, what: impl Into<String>, source: &io::Error) -> Self {
        Self { kind, what: what.into(), number: source.raw_os_error(), reason: source.to_string() }
    }

    /// The failure of the operation `what`, for `map_err`.
    pub(super) fn to<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        |error| Self::new(FailureKind::Prepare, what, &error.into())
    }
}

impl From<Failed> for SandboxStepError {
    fn from(Failed { kind, what, number, reason }: Failed) -> Self {
        let source = number.map_or_else(|| io::Error::other(reason), io::Error::from_raw_os_error);
        match kind {
            FailureKind::Namespaces => Self::Namespaces { what, source },
            FailureKind::Prepare => Self::Prepare { what, source },
            FailureKind::Unfound => Self::NotFound { program: what, source: None },
            FailureKind::NotFound => Self::NotFound { program: what, source: Some(source) },
            FailureKind::NotExecutable => Self::NotExecutable { program: what, source },
        }
    }
}

/// The writer of reports.
#[derive(Debug)]
pub(super) struct Reports(pub(super) File);

impl Reports {
    /// Sends a report. A closed receiver is ignored.
    pub(super) fn tell(&mut self, report: &SupervisorReport) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            // In one write, so that the lines of two processes do not interleave.
            let _ = self.0.write_all(&line);
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.tell(&SupervisorReport::Note(text.into()));
    }
}
