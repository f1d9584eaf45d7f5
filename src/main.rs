//! The `ociforge` command.

use std::process::ExitCode;

use ociforge::{cli, doctor, sandbox};

fn main() -> ExitCode {
    // What enters namespaces has to do so before there are threads.
    sandbox::help().or_else(doctor::attempt::as_child).unwrap_or_else(cli::main)
}
