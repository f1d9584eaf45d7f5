//! The `ociforge` command.

use std::process::ExitCode;

use ociforge::process;

fn main() -> ExitCode {
    // What enters namespaces has to do so before there are threads.
    ociforge_sandbox::reexec().unwrap_or_else(process::main)
}
