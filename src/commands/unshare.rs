//! `ociforge unshare`

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::FinalProcess;
use crate::cli::UnshareArgs;
use crate::error::Failure;

pub(super) fn run(args: UnshareArgs) -> Box<dyn FinalProcess> {
    Box::new(Replacement(args.command))
}

/// The command that replaces this process.
struct Replacement(Vec<OsString>);

impl FinalProcess for Replacement {
    fn run(self: Box<Self>) -> Result<u8, Failure> {
        let Some((program, arguments)) = self.0.split_first() else { return Ok(0) };
        let error = Command::new(program).args(arguments).exec();
        Err(Failure::new(format!("cannot start {}", program.display())).caused_by(error))
    }
}
