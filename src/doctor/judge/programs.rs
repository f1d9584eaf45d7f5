//! The programs that ociforge calls.

use crate::doctor::check::{CheckResult, Section::Programs};
use crate::doctor::facts::{Hierarchy, LinuxDistribution, MachineFacts, OciRuntime, Program};
use crate::run::runtime::Features;

pub(super) fn runtimes(facts: &MachineFacts) -> Vec<CheckResult> {
    let found = &facts.programs.runtimes;
    let mut checks: Vec<CheckResult> = found.iter().map(|runtime| self::runtime(runtime, facts)).collect();
    if !found.iter().any(|runtime| runtime.description.is_ok()) {
        let check =
            CheckResult::missing(Programs, "OCI runtime", "no working runtime: `run` needs runc, crun or youki");
        checks.push(check.mend(facts.machine.install("runc", "crun")));
    }
    checks
}

fn runtime(found: &OciRuntime, facts: &MachineFacts) -> CheckResult {
    let OciRuntime { runtime, description } = found;
    let description = match description {
        Ok(description) => description,
        Err(why) => return CheckResult::warn(Programs, runtime.name(), why),
    };
    let mut shown = format!("{}, {}", description.version, runtime.program.display());
    if facts.cgroups.split && runtime.kind.refuses_hybrid_cgroups() {
        shown.push_str("; works with one version of cgroups only: it gets to see v1");
    }
    let Some(features) = &description.features else { return CheckResult::ok(Programs, runtime.name(), shown) };
    let (can, lacks) = abilities(features, facts);
    if !can.is_empty() {
        shown = format!("{shown}; has {}", super::listed(&can));
    }
    if lacks.is_empty() {
        return CheckResult::ok(Programs, runtime.name(), shown);
    }
    CheckResult::warn(Programs, runtime.name(), format!("{shown}; lacks {}", super::listed(&lacks)))
}

/// The features that a runtime has, and those that it lacks.
fn abilities(features: &Features, facts: &MachineFacts) -> (Vec<&'static str>, Vec<&'static str>) {
    let (hierarchy, linux) = (facts.cgroups.hierarchy, &features.linux);
    let has_hooks = features.hooks.iter().any(|hook| hook == "prestart");
    let all = [
        // Only root can use these.
        (
            facts.machine.is_root() && matches!(hierarchy, Hierarchy::V1 | Hierarchy::Hybrid),
            linux.cgroup.v1,
            "cgroup v1",
        ),
        (hierarchy == Hierarchy::V2, linux.cgroup.v2, "cgroup v2"),
        (facts.programs.seccomp, linux.seccomp.enabled, "seccomp"),
        (true, has_hooks, "prestart hooks such as NVIDIA's"),
    ];
    let (can, lacks): (Vec<_>, Vec<_>) = all.into_iter().filter(|(matters, ..)| *matters).partition(|(_, has, _)| *has);
    let names = |all: Vec<(_, _, &'static str)>| all.into_iter().map(|(_, _, name)| name).collect();
    (names(can), names(lacks))
}

pub(super) fn uv(facts: &MachineFacts) -> CheckResult {
    let machine = &facts.machine;
    let (found, check): (_, fn(_, &'static str, String) -> CheckResult) = match &facts.programs.uv {
        Some(Program { path, version: Err(why), .. }) => {
            (format!("{} does not work: {why}", path.display()), CheckResult::warn)
        }
        Some(program @ Program { version: Ok(version), .. }) => {
            return CheckResult::ok(Programs, "uv", shown(program, version));
        }
        None => {
            ("not installed: packages are locked by it; building from a lock needs none".to_owned(), CheckResult::warn)
        }
    };
    let check = check(Programs, "uv", found);
    match machine.distribution {
        LinuxDistribution::Fedora => check.mend(machine.install("uv", "uv")),
        LinuxDistribution::Debian | LinuxDistribution::Ubuntu => {
            check.mend(machine.install("pipx", "pipx")).mend("pipx install uv")
        }
    }
}

/// `1.1.5, /usr/sbin/runc`
pub(super) fn shown(program: &Program, version: &str) -> String {
    format!("{version}, {}", program.path.display())
}
