//! Evaluation of facts. Does not access the machine, so that tests can use invented facts.

mod files;
mod gpus;
mod overlay;
mod programs;
mod steps;
mod system;
mod user_namespaces;

use super::check::CheckResult;
use super::facts::MachineFacts;

/// The results of all checks, in the order of output.
#[must_use]
pub fn judge(facts: &MachineFacts) -> Vec<CheckResult> {
    let mut checks = vec![system::kernel(&facts.machine), user_namespaces::namespaces(facts)];
    checks.extend(user_namespaces::ids(facts));
    checks.push(overlay::overlay(facts));
    checks.push(steps::steps(facts));
    checks.push(system::cgroups(facts));
    checks.push(system::seccomp(facts));
    checks.extend(programs::runtimes(facts));
    checks.push(programs::uv(facts));
    checks.extend(gpus::gpus(facts));
    checks.push(files::store(facts));
    checks.extend(files::credentials(facts));
    checks
}

/// The kernel's message for this error number.
fn said(number: i32) -> String {
    crate::error::said(&std::io::Error::from_raw_os_error(number))
}

/// Joins names for a sentence: `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
