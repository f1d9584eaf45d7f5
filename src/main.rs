//! The `ociforge` command.

use std::process::ExitCode;

use ociforge::{cli, sandbox};

fn main() -> ExitCode {
    // What enters namespaces has to do so before there are threads.
    sandbox::help().unwrap_or_else(cli::main)
}
