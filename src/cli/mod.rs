//! The command line: arguments, progress and error messages. Only this module prints.

mod args;
#[cfg(test)]
mod docker_lines;
mod progress;
mod prompt;
mod runtime_args;
mod transfer_args;

use std::io::{ErrorKind, Write};

pub use crate::bytes::human_bytes;
pub use args::*;
pub use progress::{ProgressFormat, line as message, reporter};
pub use prompt::{ControllingTerminal, PromptError, first_line};
pub use runtime_args::driver_version;
pub use transfer_args::*;

use crate::error::Failure;

/// Prints a result on stdout, and a newline.
///
/// # Errors
/// When stdout is closed.
pub fn result(text: &str) -> Result<(), Failure> {
    raw_result(format!("{text}\n").as_bytes())
}

/// Prints a result on stdout unchanged.
///
/// # Errors
/// When stdout cannot be written. A reader that has closed it, such as `head`, needs no more: that is no error.
pub fn raw_result(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}
