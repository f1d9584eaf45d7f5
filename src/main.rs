//! The `ociforge` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // What enters namespaces has to do so before there are threads.
    ociforge::doctor::attempt::as_child().unwrap_or_else(ociforge::cli::main)
}
