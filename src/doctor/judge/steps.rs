//! The isolation of steps of a build.

use super::said;
use crate::doctor::check::{CheckResult, Section::System};
use crate::doctor::facts::MachineFacts;
use ociforge_sandbox::probe::ProbeResult;
use ociforge_sandbox::step_probe::{ProbedIsolation, StepProbe};
use ociforge_sandbox::{Confinement, IdMapping};

const NAME: &str = "build steps";

pub(super) fn steps(facts: &MachineFacts) -> CheckResult {
    let steps = &facts.steps;
    let Some(had) = &steps.entered else {
        return match &steps.refusal {
            Some(why) => CheckResult::missing(System, NAME, format!("no step can run: {why}")),
            None => CheckResult::warn(System, NAME, "the isolation of steps was not tested"),
        };
    };
    if had.confinement == Confinement::Chroot {
        let why = had.warning.as_deref().unwrap_or("no namespaces");
        let found = format!("{}: {why}; they see all processes and the network that are here", had.text);
        return CheckResult::warn(System, NAME, found);
    }
    let lacks = lacks(steps, had);
    // The checks above report missing ranges of ids.
    if lacks.is_empty() {
        CheckResult::ok(System, NAME, &had.text)
    } else {
        CheckResult::warn(System, NAME, listed(had, &lacks))
    }
}

/// The kinds of isolation that a step would lack.
fn lacks(steps: &StepProbe, had: &ProbedIsolation) -> Vec<String> {
    let remembers = had.ids == IdMapping::OneId;
    let needed = [
        (true, steps.network, "network = \"none\" is not possible"),
        (true, steps.processes, "they see all processes"),
        (true, steps.proc, "/proc can't be mounted, as in a container that hides parts of it"),
        (remembers, steps.listener, "but system calls cannot be supervised: chown and similar calls fail"),
    ];
    let refused = needed.into_iter().filter(|(needed, ..)| *needed);
    let refused = refused.filter_map(|(_, tried, what)| match tried {
        ProbeResult::Refused(number) => Some(format!("{what} ({})", said(number))),
        ProbeResult::Worked | ProbeResult::Not => None,
    });
    refused.collect()
}

fn listed(had: &ProbedIsolation, lacks: &[String]) -> String {
    format!("{}; {}", had.text, lacks.join("; "))
}
