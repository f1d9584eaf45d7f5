//! Namespaces, overlays and runtimes as the program uses them: as root, and as users with and without ranges of ids.
//!
//! A namespace is entered by a process of one thread, which no test of the usual harness has. So this program is the
//! harness, and with `--scenario` it is the process under test, as some user.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a test, although not of the usual harness, by which clippy knows them"
)]

mod bundle;
mod containers;
mod entering;
mod identity;
mod launcher;
mod nested;
mod nested_builds;
mod overlays;
mod owners;
mod scenario;
mod staging;
mod steps;
#[path = "../it/support/waiting.rs"]
mod waiting;

use std::panic::catch_unwind;
use std::process::ExitCode;

use identity::Machine;

/// A test: its name, and what fails by a panic.
type Case = (&'static str, fn(&Machine));

fn main() -> ExitCode {
    if let Some(code) = ociforge_sandbox::reexec() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, scenario, rest @ ..] = arguments.as_slice()
        && flag == "--scenario"
    {
        return scenario::play(scenario, rest);
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let cases = [
        entering::CASES,
        overlays::CASES,
        owners::CASES,
        containers::CASES,
        staging::CASES,
        steps::CASES,
        nested::CASES,
        nested_builds::CASES,
    ]
    .concat();
    let chosen: Vec<_> = cases.iter().filter(|(name, _)| wanted.is_none_or(|part| name.contains(part))).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        println!("test result: ok. 0 passed; 0 failed");
        return ExitCode::SUCCESS;
    }
    let machine = Machine::new();
    let failed = chosen.iter().filter(|case| !passes(case, &machine)).count();
    let outcome = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {outcome}. {} passed; {failed} failed", chosen.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes((name, test): &Case, machine: &Machine) -> bool {
    let passed = catch_unwind(std::panic::AssertUnwindSafe(|| test(machine))).is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}
