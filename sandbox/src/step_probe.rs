//! A probe of the isolation of build steps, in a child process that prepares a step.

use std::io::{self, Write};
use std::process::{ExitCode, Stdio};

use rustix::mount::{MountFlags, mount};

use super::probe::{ProbeResult, result_of, step};
use super::{Confinement, Entered, IdMapping, Isolation, enter_as, sys_available};

/// The hidden argument of the child, and of its child in the pid namespace.
pub(super) const STEP_PROBE: &str = "--ociforge-probe_step";
pub(super) const MOUNT_PROC: &str = "--ociforge-mount-proc";

/// The result. Probes that need namespaces are skipped without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepProbe {
    /// The entered isolation; `None` if all is refused, or no probe ran.
    pub entered: Option<ProbedIsolation>,
    /// The reason if no isolation is possible.
    pub refusal: Option<String>,
    /// A network namespace.
    pub network: ProbeResult,
    /// A pid namespace.
    pub processes: ProbeResult,
    /// Mounting its `/proc`.
    pub proc: ProbeResult,
    /// System calls that another process handles, for recorded owners.
    pub listener: ProbeResult,
}

/// The isolation of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedIsolation {
    /// Its ids.
    pub ids: IdMapping,
    /// Its isolation.
    pub confinement: Confinement,
    /// [`Entered::describe`].
    pub text: String,
    /// [`Entered::warning`].
    pub warning: Option<String>,
}

impl ProbedIsolation {
    fn of(entered: &Entered) -> Self {
        Self {
            ids: entered.ids(),
            confinement: entered.confinement(),
            text: entered.describe(),
            warning: entered.warning().map(str::to_owned),
        }
    }
}

/// Runs the probe in a child.
#[must_use]
pub fn probe_step() -> StepProbe {
    let output = super::reexec_command(STEP_PROBE).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| read(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// The words for ids and confinement in the child's output.
const IDS: [(IdMapping, &str); 3] = [(IdMapping::All, "all"), (IdMapping::Ranges, "ranges"), (IdMapping::OneId, "one")];
const CONFINEMENTS: [(Confinement, &str); 2] =
    [(Confinement::Namespaces, "namespaces"), (Confinement::Chroot, "chroot")];

/// Parses the child's output, a line for each fact.
fn read(text: &str) -> StepProbe {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let had = || {
        let ids = IDS.iter().find(|(_, word)| line("ids") == Some(word))?.0;
        let confinement = CONFINEMENTS.iter().find(|(_, word)| line("confinement") == Some(word))?.0;
        Some(ProbedIsolation {
            ids,
            confinement,
            text: line("text")?.into(),
            warning: line("warning").map(str::to_owned),
        })
    };
    StepProbe {
        entered: had(),
        refusal: line("refusal").map(str::to_owned),
        network: result_of(text, "network "),
        processes: result_of(text, "processes "),
        proc: result_of(text, "proc "),
        listener: result_of(text, "listener "),
    }
}

fn write(had: &ProbedIsolation) -> io::Result<()> {
    let mut out = io::stdout();
    let ids = IDS.iter().find(|(ids, _)| *ids == had.ids).map_or("", |(_, word)| word);
    let confinement = CONFINEMENTS.iter().find(|(kind, _)| *kind == had.confinement).map_or("", |(_, word)| word);
    writeln!(out, "ids {ids}\nconfinement {confinement}\ntext {}", had.text)?;
    had.warning.iter().try_for_each(|warning| writeln!(out, "warning {}", warning.replace('\n', " ")))
}

/// The child's `main`. Failures are already in its output.
pub(super) fn as_child() -> ExitCode {
    let entered = match enter_as(Isolation::Auto) {
        Ok(entered) => entered,
        Err(refused) => {
            let hint = refused.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            let _ = writeln!(io::stdout(), "refusal {}", format!("{}{hint}", with_causes(&refused)).replace('\n', " "));
            return ExitCode::FAILURE;
        }
    };
    if write(&ProbedIsolation::of(&entered)).is_ok() && entered.confinement() == Confinement::Namespaces {
        let _ = step("network", sys_available::unshare_network);
        if step("processes", sys_available::unshare_processes).is_ok() {
            // The first process of the new namespace.
            let _ = super::reexec_command(MOUNT_PROC).stdin(Stdio::null()).status();
        }
        let _ = step("listener", sys_available::install_listener);
    }
    ExitCode::SUCCESS
}

/// The error's message and those of its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The `main` of the child's child.
pub(super) fn mount_proc() -> ExitCode {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounted = step("proc", || Ok(mount("proc", "/proc", "proc", flags, None)?));
    if mounted.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_writes_is_read() {
        let text = "ids one\nconfinement namespaces\ntext a user namespace\nwarning no ids: x\nnetwork 0\nprocesses 0\n\
                    proc 1\nlistener 16\n";
        let read_back = read(text);
        let had = read_back.entered.clone().unwrap();
        assert_eq!(
            (had.ids, had.confinement, had.text.as_str()),
            (IdMapping::OneId, Confinement::Namespaces, "a user namespace")
        );
        assert_eq!(had.warning.as_deref(), Some("no ids: x"));
        assert_eq!((read_back.network, read_back.proc), (ProbeResult::Worked, ProbeResult::Refused(1)));
        assert_eq!((read_back.processes, read_back.listener), (ProbeResult::Worked, ProbeResult::Refused(16)));
        let refused = read("refusal cannot: no\n");
        assert_eq!((refused.entered, refused.refusal.as_deref()), (None, Some("cannot: no")));
        assert_eq!(read("Killed\n"), StepProbe::default());
    }
}
