//! The `ociforge` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ociforge::cli::main()
}
