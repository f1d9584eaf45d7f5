//! The programs that ociforge calls.

use crate::doctor::check::{Check, Section::Programs};
use crate::doctor::facts::{Distribution, Facts, Program};

pub(super) fn runtimes(facts: &Facts) -> Vec<Check> {
    let found = &facts.programs.runtimes;
    let mut checks: Vec<Check> = found.iter().map(runtime).collect();
    if !found.iter().any(|runtime| runtime.version.is_ok()) {
        let check = Check::missing(Programs, "OCI runtime", "no runtime that works: `run` needs runc, crun or youki");
        checks.push(check.mend(facts.machine.install("runc", "crun")));
    }
    checks
}

fn runtime(program: &Program) -> Check {
    match &program.version {
        Ok(version) => Check::ok(Programs, &program.name, shown(program, version)),
        Err(why) => Check::warn(Programs, &program.name, format!("{} does not work: {why}", program.path.display())),
    }
}

pub(super) fn uv(facts: &Facts) -> Check {
    let machine = &facts.machine;
    let (found, check): (_, fn(_, &'static str, String) -> Check) = match &facts.programs.uv {
        Some(Program { path, version: Err(why), .. }) => {
            (format!("{} does not work: {why}", path.display()), Check::warn)
        }
        Some(program @ Program { version: Ok(version), .. }) => {
            return Check::ok(Programs, "uv", shown(program, version));
        }
        None => ("not installed: packages are locked by it; building from a lock needs none".to_owned(), Check::warn),
    };
    let check = check(Programs, "uv", found);
    match machine.distribution {
        Distribution::Fedora => check.mend(machine.install("uv", "uv")),
        Distribution::Debian | Distribution::Ubuntu => {
            check.mend(machine.install("pipx", "pipx")).mend("pipx install uv")
        }
    }
}

/// `1.1.5, /usr/sbin/runc`
pub(super) fn shown(program: &Program, version: &str) -> String {
    format!("{version}, {}", program.path.display())
}
