//! `ociforge completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{self, Cli};
use crate::error::Failure;

pub(super) fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ociforge", &mut script);
    cli::raw_result(&script)
}
